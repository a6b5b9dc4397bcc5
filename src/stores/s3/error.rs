//! What went wrong, told from what the client and the server say.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::model::{Error, ErrorKind};

use super::guard::NotAStore;

/// How much of a server's message is repeated.
const MESSAGE_MAX_CHARS: usize = 300;

/// What was being done, for messages.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    /// "store the object".
    pub what: &'static str,
    /// `s3://bucket/prefix/points/…`.
    pub on: String,
    /// The bucket.
    pub bucket: String,
    /// The endpoint, or "AWS".
    pub endpoint: String,
    /// How long an answer may take.
    pub answer_timeout: Duration,
}

/// A body slower than this is given up: 2 GB a day.
const SLOWEST_BYTES_PER_SEC: u64 = 24 << 10;

impl Doing {
    /// How long an answer may take that comes with a body of `bytes`, or to one.
    pub fn longest(&self, bytes: u64) -> Duration {
        self.answer_timeout.saturating_add(Duration::from_secs(bytes / SLOWEST_BYTES_PER_SEC))
    }
}

/// What can be tried at once, before anybody hears of the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Fetch the keys again.
    NewKeys,
    /// Ask in this region.
    Region(String),
}

/// A failed request.
#[derive(Debug)]
pub(super) struct Failure {
    /// What to tell.
    pub error: Error,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// S3's code, where there was one.
    pub code: Option<String>,
    /// What may help at once.
    pub cure: Option<Cure>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, status: None, code: None, cure: None }
    }
}

impl Failure {
    /// Whether the server says that this object is not there. A bare 404 says no such thing: a proxy
    /// whose store is away answers so too.
    pub fn is_missing_object(&self) -> bool {
        self.code.as_deref() == Some("NoSuchKey")
    }

    /// Whether an answer to HEAD leaves open that the object is not there. It has no body, and so no
    /// code; and who may not list the bucket is told 403 of what is missing.
    pub fn may_be_missing(&self) -> bool {
        matches!(self.code.as_deref(), None | Some("NoSuchKey" | "NotFound"))
            && matches!(self.status, Some(403 | 404))
    }

    /// Whether an object was there already, as a conditional put tells it.
    pub fn is_precondition(&self) -> bool {
        self.status == Some(412) || self.code.as_deref() == Some("PreconditionFailed")
    }

    /// Whether the server knows the caller, and does not let it do this: a lock, or a policy.
    pub fn is_denied(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        self.status == Some(403) && (code == "AccessDenied" || code.contains("Lock"))
    }

    /// Whether the server does not know something that we asked for beside the object.
    pub fn is_not_implemented(&self) -> bool {
        let code = self.code.as_deref();
        self.status == Some(501) || matches!(code, Some("NotImplemented" | "XNotImplemented"))
    }

    /// Whether it may be about a header or value that this server does not take.
    pub fn may_be_about_checksums(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        self.is_not_implemented()
            || (self.status == Some(400)
                && matches!(
                    code,
                    "InvalidRequest" | "InvalidArgument" | "UnsupportedChecksum" | "InvalidDigest"
                ))
    }
}

/// An error answer.
#[derive(Clone, Copy, Debug, Default)]
struct Answer<'a> {
    status: u16,
    code: &'a str,
    message: &'a str,
    /// `x-amz-bucket-region`.
    region: Option<&'a str>,
    /// `Date`.
    date: Option<&'a str>,
}

/// What is made of an answer.
struct Told {
    kind: ErrorKind,
    why: String,
    hint: String,
    retryable: bool,
    cure: Option<Cure>,
}

impl Told {
    fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Store, why: why.into(), hint: hint.into(), retryable: false, cure: None }
    }
    fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }
    fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }
    fn cure(mut self, cure: Option<Cure>) -> Self {
        self.cure = cure;
        self
    }
    fn failure(self, doing: &Doing, status: Option<u16>, code: Option<String>) -> Failure {
        let error = Error::new(self.kind, doing.what, self.why).on(doing.on.clone()).hint(self.hint);
        let error = if self.retryable { error.retryable() } else { error };
        Failure { error, status, code, cure: self.cure }
    }
}

/// What an error of the client means.
pub(super) fn failure<E>(doing: &Doing, error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let not_a_store = chain(&error).find_map(|e| e.downcast_ref::<NotAStore>());
    if let Some(page) = not_a_store {
        return html(doing, page.status);
    }
    match &error {
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            let header = |name: &str| raw.headers().get(name);
            let message = tidy(error.message().unwrap_or_default());
            let answer = Answer {
                status: raw.status().as_u16(),
                code: error.code().unwrap_or_default(),
                message: &message,
                region: header("x-amz-bucket-region"),
                date: header("date"),
            };
            let code = (!answer.code.is_empty()).then(|| answer.code.to_owned());
            explain(doing, &answer).failure(doing, Some(answer.status), code)
        }
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            let why = format!("the answer (status {status}) makes no sense: {}", last_words(&error));
            Told::new(why, "is the endpoint that of an object store? what answers there does not speak S3")
                .retryable()
                .failure(doing, Some(status), None)
        }
        SdkError::TimeoutError(_) => slow(doing, "the store did not answer in time"),
        _ => dispatch(doing, &error),
    }
}

/// The store took too long.
pub(super) fn slow(doing: &Doing, why: impl Into<String>) -> Failure {
    Told::new(why, format!("is {} reachable from here? look at the network, or try later", doing.endpoint))
        .retryable()
        .failure(doing, None, None)
}

/// Keys that are fetched by us: that error says itself what is wrong.
pub(super) fn not_fetched(error: Error) -> Failure {
    let error = match error.subject() {
        Some(_) => error,
        None => error.on("the keys of the store"),
    };
    match error.remedy() {
        Some(_) => error.into(),
        None => error.hint("look at the keys' references in [repository.s3]").into(),
    }
}

/// The body ended early, or the connection broke.
pub(super) fn broken_body(doing: &Doing, why: impl Into<String>) -> Failure {
    Told::new(why, "the connection broke; if it goes on, look at the network and proxies between")
        .retryable()
        .failure(doing, None, None)
}

fn html(doing: &Doing, status: u16) -> Failure {
    let why = format!("what answered is no object store: it sent an HTML page (status {status})");
    let hint = format!(
        "a proxy, a login page or a web console stands at {}; check the endpoint, HTTPS_PROXY and NO_PROXY",
        doing.endpoint
    );
    let told = Told::new(why, hint);
    // A balancer in front of a store says so when the store is away.
    let told = if matches!(status, 429 | 500 | 502..=504) { told.retryable() } else { told };
    told.failure(doing, Some(status), None)
}

/// What an error answer means.
fn explain(doing: &Doing, answer: &Answer<'_>) -> Told {
    let said = said(answer);
    let bucket = &doing.bucket;
    match (answer.status, answer.code) {
        (_, "NoSuchBucket") => Told::new(
            format!("there is no bucket {bucket:?} at {}", doing.endpoint),
            "make the bucket first, or correct the store's address, the endpoint or the region in muster.toml",
        ),
        (_, "NoSuchUpload") => Told::new(said, "an upload in parts was ended by somebody else; it is begun anew").retryable(),
        (_, "NoSuchKey") => {
            Told::new("it does not exist", "`muster check` tells what else is missing").kind(ErrorKind::NotFound)
        }
        (404, "" | "NotFound") => Told::new(
            "the answer is 404, and does not say what is missing, as an object store does",
            format!("a proxy whose store is away answers so; check what stands at {}", doing.endpoint),
        )
        .retryable(),
        (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken") => Told::new(
            format!("the credentials have expired, and fetching them again gave no others ({said})"),
            "renew them; what was stored until now is kept, and the command can simply be run again",
        )
        .cure(Some(Cure::NewKeys)),
        (_, "InvalidAccessKeyId" | "NotSignedUp") => Told::new(
            format!("the store does not know the access key ({said})"),
            "check access_key_id, and that it belongs to this endpoint; without keys in muster.toml, what the default chain finds",
        )
        .cure(Some(Cure::NewKeys)),
        (_, "SignatureDoesNotMatch") => Told::new(
            format!("the signature is wrong, and so most likely the secret access key ({said})"),
            "check secret_access_key, and that a proxy between does not change requests",
        ),
        (_, "RequestTimeTooSkewed" | "RequestExpired") => Told::new(skew(answer), "set this machine's clock, for instance by NTP").retryable(),
        (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException")
        | (301 | 307 | 308, _) => region(doing, answer, said),
        (409, _) | (_, "ConditionalRequestConflict" | "OperationAborted") => {
            Told::new(format!("another request for the same object came between ({said})"), "try again").retryable()
        }
        (_, "SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequests" | "RequestLimitExceeded") | (429, _) => Told::new(
            format!("the store asks to slow down ({said})"),
            "try later, or set upload_limit and download_limit; on AWS a prefix takes 3,500 writes a second",
        )
        .retryable(),
        (_, "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch") => Told::new(
            format!("the bytes did not arrive as they were sent ({said})"),
            "something between changes them, or the memory of this machine is bad",
        )
        .retryable(),
        // Whatever the status: the end of an upload in parts is told after a 200 that came early.
        (_, "InternalError" | "InternalFailure" | "ServiceUnavailable" | "Busy") => trouble(&said),
        (_, "RequestTimeout" | "IncompleteBody") | (408, _) => Told::new(
            format!("the store did not get all of the request in time ({said})"),
            "the connection may be too slow or broken: look at the network",
        )
        .retryable(),
        (_, "InvalidStorageClass") => Told::new(
            format!("the store has no such storage class ({said})"),
            "correct or remove storage_class in [repository.s3]",
        )
        .kind(ErrorKind::Config),
        (_, "InvalidObjectState") => Told::new(
            format!("the object lies in an archive and cannot be read at once ({said})"),
            "bring it back with the provider's tools first, and do not store repositories in archive classes",
        ),
        (_, "EntityTooLarge") => Told::new(format!("the object is too large for the store ({said})"), "look at the store's limits"),
        (_, "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull") | (507, _) => Told::new(
            format!("the store is full ({said})"),
            "free some space or raise the quota, and run it again: what is stored already is kept",
        ),
        (_, code) if code.starts_with("KMS.") => Told::new(
            format!("the key management service refused ({said})"),
            "the host needs kms:GenerateDataKey and kms:Decrypt for the key, which must be enabled",
        ),
        (501, _) | (_, "NotImplemented") => Told::new(
            format!("the store does not have this ({said})"),
            "`muster doctor` tells what the store can do; storage_class, sse or checksums in [repository.s3] may be more than it has",
        )
        .kind(ErrorKind::Unsupported),
        (407, _) => Told::new("the proxy wants a user and a password", "put them into HTTPS_PROXY, or set NO_PROXY for this endpoint"),
        (200..=299, _) => Told::new(
            format!("the answer cannot be understood ({said})"),
            "what answers there does not speak S3 as it should; `muster doctor` finds out more",
        ),
        // The answer to HEAD has no body, and so no code.
        (400, "") => Told::new(
            format!("the store refused the request and did not say why (status {})", answer.status),
            "`muster doctor` finds out more",
        )
        .cure(Some(Cure::NewKeys)),
        (401 | 403, _) => Told::new(
            format!("access is denied ({said})"),
            "`muster doctor --iam` prints the permissions that are needed; check also that the keys are the right ones",
        )
        .cure(answer.code.is_empty().then_some(Cure::NewKeys)),
        (500..=599, _) => trouble(&said),
        _ => Told::new(format!("the store refused ({said})"), "`muster doctor` finds out more"),
    }
}

fn trouble(said: &str) -> Told {
    Told::new(
        format!("the store has a problem of its own ({said})"),
        "try later; what is stored already is kept",
    )
    .retryable()
}

fn said(answer: &Answer<'_>) -> String {
    match (answer.code, answer.message) {
        ("", "") => format!("status {}", answer.status),
        (code, "") => format!("{code}, status {}", answer.status),
        ("", message) => format!("status {}: {message}", answer.status),
        (code, message) => format!("{code}, status {}: {message}", answer.status),
    }
}

fn region(doing: &Doing, answer: &Answer<'_>, said: String) -> Told {
    match answer.region {
        Some(region) => Told::new(
            format!(
                "the bucket {:?} is in the region {region}, and asking there failed too ({said})",
                doing.bucket
            ),
            format!("set region = \"{region}\" in [repository.s3], and no endpoint of another region"),
        )
        .cure(Some(Cure::Region(region.to_owned()))),
        None => Told::new(
            format!("the bucket {:?} is not in this region, or not at this endpoint ({said})", doing.bucket),
            "set the region, and the endpoint if there is one, in [repository.s3]",
        ),
    }
}

fn skew(answer: &Answer<'_>) -> String {
    match answer.date {
        Some(date) => format!("this machine's clock is wrong: the store's says {}", tidy(date)),
        None => "this machine's clock differs too much from the store's".to_owned(),
    }
}

/// Nothing came back: no keys, no name, no connection, no trust.
fn dispatch<E: StdError + Send + Sync + 'static>(
    doing: &Doing,
    error: &SdkError<E, HttpResponse>,
) -> Failure {
    if let Some(failed) = chain(error).find_map(|e| e.downcast_ref::<CredentialsError>()) {
        return no_keys(doing, failed);
    }
    if let Some(tls) = chain(error).find_map(|e| e.downcast_ref::<rustls::Error>()) {
        return untrusted(doing, tls);
    }
    if let SdkError::ConstructionFailure(_) = error {
        let why = format!("the request cannot be made: {}", last_words(error));
        return Told::new(why, "check endpoint, region and bucket in muster.toml")
            .kind(ErrorKind::Config)
            .failure(doing, None, None);
    }
    let words = last_words(error);
    let is_name = words.contains("dns error") || words.contains("lookup") || words.contains("resolve");
    let hint = match is_name {
        _ if words.contains("tls handshake eof") => {
            "does the server speak TLS at this port? if not, the endpoint begins with http://"
        }
        true => {
            "is the endpoint right? where the bucket would stand in the host's name, path_style = true puts it into the path"
        }
        false => "is the endpoint right, the server running, and no firewall between?",
    };
    Told::new(format!("{} cannot be reached: {words}", doing.endpoint), hint)
        .retryable()
        .failure(doing, None, None)
}

fn no_keys(doing: &Doing, error: &CredentialsError) -> Failure {
    let words = last_words(error);
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Told::new(
            "there are no credentials: neither in muster.toml nor in environment, profile, web identity or instance metadata",
            "set access_key_id and secret_access_key in [repository.s3] as references, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
        .kind(ErrorKind::Config),
        CredentialsError::InvalidConfiguration(_) => {
            Told::new(format!("the credentials' configuration is wrong: {words}"), "look at the profile and the AWS_ variables")
                .kind(ErrorKind::Config)
        }
        CredentialsError::ProviderTimedOut(_) => {
            Told::new(format!("the credentials did not come in time: {words}"), "is the metadata or token service reachable?").retryable()
        }
        _ => Told::new(
            format!("the credentials could not be got: {words}"),
            "the profile, the role to be taken or the token file may be wrong, or the token service away",
        )
        .retryable(),
    }
    .failure(doing, None, None)
}

fn untrusted(doing: &Doing, error: &rustls::Error) -> Failure {
    use rustls::CertificateError as C;
    let endpoint = &doing.endpoint;
    let rustls::Error::InvalidCertificate(bad) = error else {
        let why = format!("no secure connection to {endpoint}: {}", tidy(&error.to_string()));
        return Told::new(
            why,
            "does the server speak TLS at this port? if not, the endpoint begins with http://",
        )
        .failure(doing, None, None);
    };
    let hint = match bad {
        C::UnknownIssuer | C::BadSignature => {
            "put the certificate of the authority that signed it into a file and name it as ca_file in [repository.s3]; \
             for a public store install the system's certificates (package ca-certificates)"
        }
        C::Expired | C::ExpiredContext { .. } => {
            "the server needs a new certificate, or this machine's clock is wrong"
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "this machine's clock is wrong, or the certificate was made with a wrong one"
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            "use the name that stands in the certificate; with a bucket in the host's name, path_style = true may help"
        }
        _ => "the server needs another certificate",
    };
    let why = format!("the certificate of {endpoint} does not verify: {}", tidy(&bad.to_string()));
    Told::new(why, hint).failure(doing, None, None)
}

/// An error and what caused it. Unlike `source()` alone it sees what an I/O error wraps.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

/// The innermost causes in words: those outside say only that something failed.
pub(super) fn last_words(error: &(dyn StdError + 'static)) -> String {
    let all: Vec<String> =
        chain(error).map(|e| tidy(&e.to_string())).filter(|text| !text.is_empty()).collect();
    let from = all.len().saturating_sub(2);
    let mut kept: Vec<&str> = Vec::new();
    for text in &all[from..] {
        if kept.last().is_none_or(|last| !last.contains(text.as_str())) {
            kept.push(text);
        }
    }
    kept.join(": ")
}

/// One line of harmless text, not too long.
pub(super) fn tidy(text: &str) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let flat = flat.trim();
    match flat.char_indices().nth(MESSAGE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doing() -> Doing {
        Doing {
            what: "store the object",
            on: "s3://bucket/a/points/X".into(),
            bucket: "bucket".into(),
            endpoint: "https://s3.example.org".into(),
            answer_timeout: Duration::from_secs(60),
        }
    }

    fn told(status: u16, code: &str) -> Failure {
        let answer = Answer { status, code, message: "no", ..Answer::default() };
        explain(&doing(), &answer).failure(&doing(), Some(status), Some(code.to_owned()))
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        for (status, code) in [
            (500, "InternalError"),
            (502, ""),
            (503, "SlowDown"),
            (503, ""),
            (504, ""),
            (429, ""),
            (400, "RequestTimeout"),
            (409, "ConditionalRequestConflict"),
            (409, "OperationAborted"),
            (403, "RequestTimeTooSkewed"),
            (400, "BadDigest"),
            // As the end of an upload in parts may be answered.
            (200, "InternalError"),
            (200, "SlowDown"),
            (200, "ServiceUnavailable"),
        ] {
            assert!(told(status, code).error.is_retryable(), "{status} {code}");
        }
        for (status, code) in [
            (403, "AccessDenied"),
            (403, ""),
            (404, "NoSuchBucket"),
            (404, "NoSuchKey"),
            (400, "InvalidArgument"),
            (400, "ExpiredToken"),
            (403, "InvalidAccessKeyId"),
            (403, "SignatureDoesNotMatch"),
            (301, "PermanentRedirect"),
            (501, "NotImplemented"),
            (507, ""),
        ] {
            assert!(!told(status, code).error.is_retryable(), "{status} {code}");
        }
    }

    #[test]
    fn every_error_says_what_to_do() {
        for status in [301, 400, 401, 403, 404, 405, 407, 408, 409, 412, 416, 429, 500, 501, 503, 507, 599] {
            for code in ["", "AccessDenied", "KMS.DisabledException", "NoSuchBucket", "Whatever"] {
                let failure = told(status, code);
                assert!(failure.error.remedy().is_some_and(|hint| hint.len() > 8), "{status} {code}");
                assert_eq!(failure.error.subject(), Some("s3://bucket/a/points/X"));
            }
        }
    }

    /// A missing bucket must not look like a missing object: that would be an empty repository.
    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        assert_eq!(told(404, "NoSuchBucket").error.kind(), ErrorKind::Store);
        assert!(!told(404, "NoSuchBucket").is_missing_object());
        assert_eq!(told(404, "NoSuchKey").error.kind(), ErrorKind::NotFound);
        assert!(told(404, "NoSuchKey").is_missing_object());
    }

    /// A proxy's 404 must not look like one either.
    #[test]
    fn a_bare_404_is_not_a_missing_object() {
        for code in ["", "NotFound"] {
            let failure = told(404, code);
            assert_eq!((failure.error.kind(), failure.error.is_retryable()), (ErrorKind::Store, true));
            assert!(!failure.is_missing_object());
        }
    }

    #[test]
    fn a_region_that_is_told_is_followed() {
        let answer = Answer { status: 301, region: Some("eu-west-1"), ..Answer::default() };
        assert_eq!(explain(&doing(), &answer).cure, Some(Cure::Region("eu-west-1".into())));
        let answer = Answer { status: 400, code: "AuthorizationHeaderMalformed", ..Answer::default() };
        assert_eq!(explain(&doing(), &answer).cure, None);
    }

    #[test]
    fn a_servers_words_are_harmless_and_short() {
        let text = format!("a\u{1b}[31m\nb{}", "x".repeat(1000));
        let tidied = tidy(&text);
        assert!(!tidied.contains(['\u{1b}', '\n']) && tidied.chars().count() <= MESSAGE_MAX_CHARS + 1);
    }
}
