//! What bad servers, networks and keys get: a clear error, or a store that carries on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster::model::{Error, ErrorKind, Result, Secret};
use muster::ports::{Put, Store};
use muster::stores::S3;
use muster::stores::s3::{AccessKeys, Address, ConditionalPut, Credentials, Multipart, S3Options};
use muster::stores::wrap::{Pace, Retry, RetryPolicy};
use muster::sys::OsEntropy;

use super::name;
use crate::s3_server::{KEY_ID, SECRET_KEY, options};
use crate::wrong_server::{Answer, Asked, WrongServer};

const PREFIX: &str = "bucket/app";

pub fn works(endpoint: &str) -> S3Options {
    S3Options { conditional_put: ConditionalPut::Works, ..options(endpoint, KEY_ID, SECRET_KEY) }
}

pub fn open(options: S3Options) -> S3 {
    S3::new(Address::parse(PREFIX).unwrap(), options).unwrap()
}

/// A store on a server that follows the script.
pub fn on(script: impl Fn(usize, &Asked, Answer) -> Answer + Send + Sync + 'static) -> (WrongServer, S3) {
    let server = WrongServer::start(script);
    let store = open(works(&server.endpoint));
    (server, store)
}

/// Waits for nothing, and adds up what it was asked to wait.
#[derive(Default)]
pub struct NoWait(Mutex<Duration>);

impl Pace for NoWait {
    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }
    fn sleep(&self, duration: Duration) -> Result<()> {
        *self.0.lock().unwrap() += duration;
        Ok(())
    }
}

pub fn retrying(store: S3, policy: RetryPolicy) -> (Retry, Arc<NoWait>) {
    let pace = Arc::new(NoWait::default());
    (Retry::new(Arc::new(store), policy, Arc::new(OsEntropy), pace.clone()), pace)
}

/// Every way to ask, each of which must fail.
pub fn all_errors(store: &dyn Store) -> Vec<(&'static str, Error)> {
    let object = name("points/A");
    vec![
        ("put", store.put(&object, &[b"x"]).unwrap_err()),
        ("get", store.get(&object, 10).unwrap_err()),
        ("get_range", store.get_range(&object, 0, 1).unwrap_err()),
        ("stat", store.stat(&object).unwrap_err()),
        ("list", store.list("", &mut |_| Ok(())).unwrap_err()),
        ("delete", store.delete(&object).unwrap_err()),
    ]
}

/// An error that an operator can act on, and that gives nothing away.
#[track_caller]
pub fn is_clear(what: &str, error: &Error) {
    let shown = format!("{error} {error:?}");
    assert!(error.remedy().is_some_and(|hint| hint.len() > 10), "{what}: {shown}");
    assert!(error.subject().is_some_and(|on| on.contains("bucket")), "{what}: {shown}");
    assert!(!shown.contains(SECRET_KEY), "{what}: {shown}");
}

#[test]
fn a_store_that_is_away_for_a_while_is_waited_for() {
    let (server, store) =
        on(|n, _, good| if n < 12 { Answer::error(503, "ServiceUnavailable") } else { good });
    let (store, pace) = retrying(store, RetryPolicy::patient());
    assert_eq!(store.put(&name("points/A"), &[b"x"]).unwrap(), Put::Created);
    assert_eq!(store.get(&name("points/A"), 1).unwrap(), b"x");
    // One request an attempt: nobody else tries again beneath.
    assert_eq!(server.asked().len(), 14);
    assert!(pace.elapsed() > Duration::from_secs(60));
}

#[test]
fn ten_minutes_of_503_are_ridden_out() {
    let pace = Arc::new(NoWait::default());
    let clock = pace.clone();
    let (_server, store) =
        on(
            move |_, _, good| {
                if clock.elapsed() < Duration::from_secs(600) { Answer::html(503) } else { good }
            },
        );
    let store = Retry::new(Arc::new(store), RetryPolicy::patient(), Arc::new(OsEntropy), pace);
    assert_eq!(store.put(&name("packs/data/aa/x"), &[b"x"]).unwrap(), Put::Created);
}

#[test]
fn a_store_that_stays_away_is_a_clear_error() {
    let (server, store) = on(|_, _, _| Answer::error(503, "ServiceUnavailable"));
    for (what, error) in all_errors(&store) {
        is_clear(what, &error);
        assert!(error.is_retryable() && error.kind() == ErrorKind::Store, "{what}: {error}");
    }
    assert_eq!(server.asked().len(), 6);
    let (store, _) = retrying(store, RetryPolicy::default());
    assert!(store.put(&name("points/A"), &[b"x"]).is_err());
    assert_eq!(server.asked().len(), 6 + 7);
}

#[test]
fn a_slow_down_storm_is_waited_out() {
    let (server, store) = on(|n, _, good| match n % 4 {
        0 => Answer::error(503, "SlowDown"),
        1 => Answer::error(429, "TooManyRequests"),
        2 => Answer::error(400, "RequestTimeout"),
        _ => good,
    });
    let (store, pace) = retrying(store, RetryPolicy::default());
    for i in 0..5 {
        assert_eq!(store.put(&name(&format!("index/{i}")), &[b"x"]).unwrap(), Put::Created);
    }
    assert_eq!(server.keys().len(), 5);
    assert!(pace.elapsed() > Duration::from_secs(3));
}

#[test]
fn truncated_bodies_are_noticed_and_read_again() {
    let cut = |n: usize| n == 1 || n == 3;
    let (_server, store) = on(move |n, asked, good| match asked.is("GET") && cut(n) {
        true => good.cut_at(500),
        false => good,
    });
    let content: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
    store.put(&name("packs/data/aa/x"), &[&content]).unwrap();
    let error = store.get(&name("packs/data/aa/x"), 1000).unwrap_err();
    is_clear("get", &error);
    assert!(error.is_retryable() && error.kind() == ErrorKind::Store, "{error}");
    assert_eq!(store.get(&name("packs/data/aa/x"), 1000).unwrap(), content);
    let error = store.get_range(&name("packs/data/aa/x"), 100, 800).unwrap_err();
    assert!(error.is_retryable() && !error.is_about_content(), "{error}");
    assert_eq!(store.get_range(&name("packs/data/aa/x"), 100, 800).unwrap(), content[100..900]);
}

#[test]
fn a_range_that_comes_short_is_no_range() {
    // Whole as HTTP, and yet less than was asked for: a proxy's work.
    let (_server, store) = on(|_, asked, good| match asked.is("GET") {
        true => good.map_body(|mut body| {
            body.truncate(5);
            body
        }),
        false => good,
    });
    store.put(&name("a"), &[&[7; 100]]).unwrap();
    assert_eq!(store.get_range(&name("a"), 0, 50).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn a_server_without_ranges_is_read_all_the_same() {
    let (server, store) = on(|_, asked, good| {
        if asked.header("range").is_empty() {
            return good;
        }
        Answer::new(200).header("etag", "\"e\"").body((0..100).collect::<Vec<u8>>())
    });
    store.put(&name("a"), &[&(0..100).collect::<Vec<u8>>()]).unwrap();
    assert_eq!(store.get_range(&name("a"), 10, 5).unwrap(), [10, 11, 12, 13, 14]);
    assert_eq!(store.get_range(&name("a"), 90, 11).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(server.count("GET"), 2);
}

#[test]
fn a_list_that_was_cut_is_an_error_and_not_a_short_list() {
    for cut in ["connection", "body", "entries"] {
        let (_server, store) = on(move |_, asked, good| match (asked.is_list(), cut) {
            (false, _) => good,
            (true, "connection") => good.cut_at(300),
            (true, "body") => good.map_body(|body| body[..body.len() / 2].to_vec()),
            // Still good XML, and an entry is missing.
            (true, _) => good.map_body(|body| {
                let text = String::from_utf8(body).unwrap();
                let (at, end) = (text.find("<Contents>").unwrap(), text.find("</Contents>").unwrap() + 11);
                format!("{}{}", &text[..at], &text[end..]).into_bytes()
            }),
        });
        for i in 0..5 {
            store.put(&name(&format!("points/{i}")), &[b"x"]).unwrap();
        }
        let error = store.list("points/", &mut |_| Ok(())).unwrap_err();
        is_clear(cut, &error);
        assert!(error.is_retryable(), "{cut}: {error}");
    }
}

#[test]
fn lists_that_cannot_be_right_are_refused() {
    let page = |inner: &str| {
        Answer::new(200)
            .header("content-type", "application/xml")
            .body(format!("<ListBucketResult><Name>bucket</Name>{inner}</ListBucketResult>"))
    };
    let entry = |key: &str| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-21T08:00:00Z</LastModified><Size>1</Size></Contents>"
        )
    };
    for (what, inner) in [
        ("not in order", format!("{}{}", entry("app/b"), entry("app/a"))),
        ("twice the same", format!("{}{}", entry("app/b"), entry("app/b"))),
        ("not asked for", entry("other/b")),
        ("more, and no token", format!("<IsTruncated>true</IsTruncated>{}", entry("app/b"))),
        ("no time", "<Contents><Key>app/b</Key><Size>1</Size></Contents>".to_owned()),
        (
            "no size",
            "<Contents><Key>app/b</Key><LastModified>2026-11-21T08:00:00Z</LastModified></Contents>"
                .to_owned(),
        ),
    ] {
        let (_server, store) = on(move |_, _, _| page(&inner));
        let error = store.list("", &mut |_| Ok(())).unwrap_err();
        is_clear(what, &error);
        assert_eq!(error.kind(), ErrorKind::Store, "{what}: {error}");
    }
}

#[test]
fn a_page_of_html_is_no_store() {
    let (_server, store) = on(|_, _, _| Answer::html(200));
    for (what, error) in all_errors(&store) {
        is_clear(what, &error);
        assert!(error.why().contains("HTML") && !error.is_retryable(), "{what}: {error}");
        assert!(error.remedy().unwrap().contains("proxy"), "{what}");
    }
    // A balancer whose store is away may have it back soon.
    let (_server, store) = on(|_, _, _| Answer::html(502));
    for (what, error) in all_errors(&store) {
        assert!(error.is_retryable(), "{what}: {error}");
    }
}

#[test]
fn a_yes_that_no_store_says_is_not_believed() {
    let (server, store) =
        on(|_, _, _| Answer::new(200).header("content-type", "application/json").body("{}"));
    let error = store.put(&name("points/A"), &[b"x"]).unwrap_err();
    is_clear("put", &error);
    assert!(error.why().contains("ETag"), "{error}");
    assert!(store.list("", &mut |_| Ok(())).is_err());
    assert_eq!(server.count("PUT"), 1);
}

fn region_of(asked: &Asked) -> String {
    asked.header("authorization").split('/').nth(2).unwrap_or_default().to_owned()
}

#[test]
fn a_bucket_in_another_region_is_followed() {
    let (server, store) = on(|_, asked, good| match region_of(asked).as_str() {
        "eu-west-1" => good,
        _ if asked.is("HEAD") => Answer::new(301).header("x-amz-bucket-region", "eu-west-1"),
        _ => Answer::error(301, "PermanentRedirect").header("x-amz-bucket-region", "eu-west-1"),
    });
    assert_eq!(store.put(&name("points/A"), &[b"x"]).unwrap(), Put::Created);
    assert_eq!(store.stat(&name("points/A")).unwrap().unwrap().size, 1);
    assert_eq!(store.get(&name("points/A"), 1).unwrap(), b"x");
    // Asked wrongly once, and never again.
    let regions: Vec<String> = server.asked().iter().map(region_of).collect();
    assert_eq!(regions, ["us-east-1", "eu-west-1", "eu-west-1", "eu-west-1"]);
    assert_eq!(store.region(), "eu-west-1");
}

#[test]
fn a_region_that_cannot_be_followed_is_explained() {
    // It sends us round in circles, or says no region, or the other error that AWS has for it.
    let (server, store) =
        on(|_, _, _| Answer::error(301, "PermanentRedirect").header("x-amz-bucket-region", "eu-west-1"));
    let error = store.get(&name("a"), 1).unwrap_err();
    is_clear("circle", &error);
    assert!(error.remedy().unwrap().contains("eu-west-1") && !error.is_retryable(), "{error}");
    assert_eq!(server.asked().len(), 2);
    let (_server, store) = on(|_, _, _| Answer::error(301, "PermanentRedirect"));
    let error = store.list("", &mut |_| Ok(())).unwrap_err();
    is_clear("no region", &error);
    assert!(error.why().contains("region"), "{error}");
    let (_server, store) = on(|_, asked, good| match region_of(asked).as_str() {
        "garage" => good,
        _ => Answer::error(400, "AuthorizationHeaderMalformed"),
    });
    assert!(store.list("", &mut |_| Ok(())).unwrap_err().remedy().unwrap().contains("region"));
}

/// Keys whose token tells how often they were fetched.
fn counted_keys(fetched: &Arc<AtomicUsize>) -> Credentials {
    let fetched = fetched.clone();
    Credentials::Given(Arc::new(move || {
        let number = fetched.fetch_add(1, Ordering::Relaxed);
        Ok(AccessKeys {
            id: Secret::new(KEY_ID.to_owned()),
            secret: Secret::new(SECRET_KEY.to_owned()),
            token: Some(Secret::new(format!("token-{number}"))),
        })
    }))
}

#[test]
fn keys_that_expire_in_the_middle_are_fetched_again() {
    let server = WrongServer::start(|n, asked, good| {
        let is_old = asked.header("x-amz-security-token") == "token-0";
        if n >= 3 && is_old { Answer::error(403, "ExpiredToken") } else { good }
    });
    let fetched = Arc::new(AtomicUsize::new(0));
    let store = open(S3Options { credentials: counted_keys(&fetched), ..works(&server.endpoint) });
    for i in 0..6 {
        assert_eq!(store.put(&name(&format!("index/{i}")), &[b"x"]).unwrap(), Put::Created);
    }
    assert_eq!(fetched.load(Ordering::Relaxed), 2);
    assert_eq!(server.asked().len(), 7);
}

#[test]
fn keys_that_stay_expired_are_a_clear_error() {
    for (status, code) in [(403, "ExpiredToken"), (400, "ExpiredToken"), (403, "InvalidAccessKeyId")] {
        let server = WrongServer::start(move |_, asked, _| match asked.is("HEAD") {
            true => Answer::new(status),
            false => Answer::error(status, code),
        });
        let fetched = Arc::new(AtomicUsize::new(0));
        let store = open(S3Options { credentials: counted_keys(&fetched), ..works(&server.endpoint) });
        for (what, error) in all_errors(&store) {
            is_clear(what, &error);
            assert!(!error.is_retryable(), "{what}: {error}");
            assert!(!format!("{error:?}").contains("token-"), "{what}: {error:?}");
        }
        // Twice for each of the six; and a look that is told 403 is followed by a list, for what is wrong.
        assert_eq!(server.asked().len(), if status == 403 { 14 } else { 12 }, "{code}");
    }
}

#[test]
fn keys_that_cannot_be_fetched_say_so_themselves() {
    let server = WrongServer::start(|_, _, good| good);
    let credentials = Credentials::Given(Arc::new(|| {
        Err(Error::new(ErrorKind::Config, "get the secret", "the variable is not set")
            .on("env:S3_KEY")
            .hint("set it"))
    }));
    let store = open(S3Options { credentials, ..works(&server.endpoint) });
    for (what, error) in all_errors(&store) {
        assert_eq!(error.to_string(), "cannot get the secret env:S3_KEY: the variable is not set", "{what}");
        assert_eq!((error.kind(), error.remedy()), (ErrorKind::Config, Some("set it")), "{what}");
    }
    assert!(server.asked().is_empty());
}

#[test]
fn refused_keys_say_what_to_look_at() {
    for (status, code, hint) in [
        (403, "AccessDenied", "--iam"),
        (403, "SignatureDoesNotMatch", "secret_access_key"),
        (403, "InvalidAccessKeyId", "access_key_id"),
    ] {
        let (_server, store) = on(move |_, _, _| Answer::error(status, code));
        let error = store.put(&name("points/A"), &[b"x"]).unwrap_err();
        is_clear(code, &error);
        assert!(error.remedy().unwrap().contains(hint) && !error.is_retryable(), "{code}: {error}");
    }
}

/// `prune` counts what the store does not let go of, and goes on.
#[test]
fn a_deletion_that_is_denied_is_refused_and_no_failure_of_the_store() {
    for (code, kind) in [
        ("AccessDenied", ErrorKind::Refused),
        ("ObjectLockedByBucketPolicy", ErrorKind::Refused),
        ("SignatureDoesNotMatch", ErrorKind::Store),
    ] {
        let (_server, store) = on(move |_, _, _| Answer::error(403, code));
        let error = store.delete(&name("packs/data/aa/x")).unwrap_err();
        is_clear(code, &error);
        assert_eq!((error.kind(), error.is_retryable()), (kind, false), "{code}: {error}");
    }
}

#[test]
fn a_missing_bucket_is_never_an_empty_repository() {
    let server = WrongServer::start(|_, _, good| good);
    let store = S3::new(Address::parse("nowhere/app").unwrap(), works(&server.endpoint)).unwrap();
    let object = name("points/A");
    let errors = [
        store.put(&object, &[b"x"]).unwrap_err(),
        store.get(&object, 10).unwrap_err(),
        store.get_range(&object, 0, 1).unwrap_err(),
        // The answer to HEAD does not tell a missing bucket from a missing object.
        store.stat(&object).unwrap_err(),
        store.list("", &mut |_| Ok(())).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Store, "{error}");
        assert!(error.why().contains("no bucket") && error.remedy().is_some(), "{error}");
    }
}

#[test]
fn conflicts_are_tried_again_and_winners_told() {
    let (_server, store) =
        on(|n, _, good| if n == 0 { Answer::error(409, "ConditionalRequestConflict") } else { good });
    let (store, _) = retrying(store, RetryPolicy::default());
    assert_eq!(store.put(&name("leases/a"), &[b"x"]).unwrap(), Put::Created);
    assert_eq!(store.put(&name("leases/a"), &[b"y"]).unwrap(), Put::Exists);
    // The answer to a put that was done got lost: it is ours all the same.
    let (server, store) = on(|n, _, good| if n == 0 { Answer::nothing() } else { good });
    let (store, _) = retrying(store, RetryPolicy::default());
    assert_eq!(store.put(&name("leases/a"), &[b"x"]).unwrap(), Put::Created);
    assert_eq!(server.count("PUT"), 2);
}

#[test]
fn what_a_server_does_not_take_is_left_out() {
    for refuses in ["if-none-match", "x-amz-checksum-crc32c"] {
        let (server, store) = on(move |_, asked, good| match asked.headers.contains_key(refuses) {
            true => Answer::error(501, "NotImplemented"),
            false => good,
        });
        assert_eq!(store.put(&name("a"), &[b"x"]).unwrap(), Put::Created, "{refuses}");
        assert_eq!(store.put(&name("a"), &[b"y"]).unwrap(), Put::Exists, "{refuses}");
        assert_eq!(store.put(&name("b"), &[b"y"]).unwrap(), Put::Created, "{refuses}");
        assert_eq!(store.capabilities().conditional_put, refuses != "if-none-match");
        let refused = server.asked().iter().filter(|asked| asked.headers.contains_key(refuses)).count();
        assert!(refused <= 2, "{refuses}: sent again and again");
    }
}

const PARTS: Multipart = Multipart { from_bytes: 1000, part_bytes: 400, at_a_time: 2 };

#[test]
fn a_part_that_fails_is_sent_again() {
    let failures = AtomicUsize::new(0);
    let server = WrongServer::start(move |_, asked, good| {
        let is_second = asked.query.contains("partNumber=2");
        match is_second && failures.fetch_add(1, Ordering::Relaxed) < 2 {
            true => Answer::error(500, "InternalError"),
            false => good,
        }
    });
    let store = open(S3Options { multipart: Some(PARTS), ..works(&server.endpoint) });
    let content: Vec<u8> = (0..1900u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(
        store.put(&name("packs/data/aa/x"), &[&content[..700], &content[700..]]).unwrap(),
        Put::Created
    );
    assert_eq!(store.get(&name("packs/data/aa/x"), 1900).unwrap(), content);
    assert_eq!(server.unfinished_uploads(), 0);
}

/// AWS begins its answer to the end of an upload before it knows how that ends.
#[test]
fn an_end_of_an_upload_that_fails_after_a_200_is_tried_again() {
    for code in ["InternalError", "SlowDown", "ServiceUnavailable"] {
        let failures = AtomicUsize::new(0);
        let server = WrongServer::start(move |_, asked, good| {
            let is_end = asked.is("POST") && asked.query.contains("uploadId");
            match is_end && failures.fetch_add(1, Ordering::Relaxed) == 0 {
                true => Answer::error(200, code),
                false => good,
            }
        });
        let store = open(S3Options { multipart: Some(PARTS), ..works(&server.endpoint) });
        let (store, _) = retrying(store, RetryPolicy::default());
        assert_eq!(store.put(&name("packs/data/aa/x"), &[&[1; 1900]]).unwrap(), Put::Created, "{code}");
        assert_eq!(server.unfinished_uploads(), 0, "{code}");
    }
}

#[test]
fn an_upload_that_fails_is_given_up_at_the_server_too() {
    for fails in ["partNumber=3", "uploadId=u"] {
        let server = WrongServer::start(move |_, asked, good| {
            match asked.query.contains(fails) && !asked.is("DELETE") {
                true => Answer::error(403, "AccessDenied"),
                false => good,
            }
        });
        let store = open(S3Options { multipart: Some(PARTS), ..works(&server.endpoint) });
        let error = store.put(&name("packs/data/aa/x"), &[&[1; 1900]]).unwrap_err();
        is_clear(fails, &error);
        assert_eq!((server.unfinished_uploads(), server.count("DELETE")), (0, 1), "{fails}");
        assert!(server.keys().is_empty(), "{fails}");
    }
}

/// A time of the request in seconds since midnight, of `20261121T080000Z`.
fn signed_at(asked: &Asked) -> i64 {
    let time = asked.header("x-amz-date").split('T').nth(1).unwrap();
    let number = |range: std::ops::Range<usize>| time[range].parse::<i64>().unwrap();
    number(0..2) * 3600 + number(2..4) * 60 + number(4..6)
}

#[test]
fn a_wrong_clock_is_told_and_made_up_for() {
    // The server's clock is an hour ahead; it takes what is signed within a quarter of an hour.
    let ahead = || {
        let now = std::time::SystemTime::now() + Duration::from_secs(3600);
        let secs = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        (secs, jiff::Timestamp::from_second(secs).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
    };
    let (server, store) = on(move |_, asked, good| {
        let (now, date) = ahead();
        let off = (signed_at(asked) - now.rem_euclid(86400)).rem_euclid(86400);
        match off.min(86400 - off) > 900 {
            true => Answer::error(403, "RequestTimeTooSkewed").header("date", &date),
            false => good.header("date", &date),
        }
    });
    let error = store.put(&name("a"), &[b"x"]).unwrap_err();
    is_clear("skew", &error);
    assert!(error.why().contains("clock") && error.why().contains("GMT") && error.is_retryable(), "{error}");
    // From then on requests are signed by the server's time.
    assert_eq!(store.put(&name("a"), &[b"x"]).unwrap(), Put::Created);
    assert_eq!(store.get(&name("a"), 1).unwrap(), b"x");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn nobody_there() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for endpoint in [format!("http://{closed}"), "http://no-such-host.invalid:9000".to_owned()] {
        for (what, error) in all_errors(&open(works(&endpoint))) {
            is_clear(what, &error);
            assert!(error.is_retryable() && error.why().contains("cannot be reached"), "{what}: {error}");
        }
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let server = WrongServer::start(|_, _, good| {
        std::thread::sleep(Duration::from_secs(3));
        good
    });
    let store =
        open(S3Options { answer_timeout: Some(Duration::from_millis(300)), ..works(&server.endpoint) });
    for (what, error) in all_errors(&store) {
        is_clear(what, &error);
        assert!(error.is_retryable() && error.why().contains("did not answer"), "{what}: {error}");
    }
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// A server with a certificate for this name or address.
    fn server(&self, host: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> WrongServer {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        WrongServer::start_tls(&certificate.pem(), &key.serialize_pem())
    }
}

#[test]
fn certificates_are_verified() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    // Two in one file: all of them count.
    std::fs::write(&ca_file, format!("{}{}", other.pem, authority.pem)).unwrap();
    let trusting =
        |server: &WrongServer| S3Options { ca_file: Some(ca_file.clone()), ..works(&server.endpoint) };

    let good = authority.server("127.0.0.1", |_| {});
    let store = open(trusting(&good));
    assert_eq!(store.put(&name("a"), &[b"x"]).unwrap(), Put::Created);
    assert_eq!(store.get(&name("a"), 1).unwrap(), b"x");

    let refused = |what: &str, store: S3, hint: &str| {
        for (call, error) in all_errors(&store) {
            is_clear(call, &error);
            assert!(error.why().contains("certificate") && !error.is_retryable(), "{what} {call}: {error}");
            assert!(error.remedy().unwrap().contains(hint), "{what} {call}: {:?}", error.remedy());
        }
    };
    refused("unknown authority", open(works(&good.endpoint)), "ca_file");
    let stranger = Authority::new().server("127.0.0.1", |_| {});
    refused("another authority", open(trusting(&stranger)), "ca_file");
    let misnamed = authority.server("s3.example.org", |_| {});
    refused("another name", open(trusting(&misnamed)), "name");
    let expired = authority.server("127.0.0.1", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    refused("expired", open(trusting(&expired)), "clock");
    let early = authority.server("127.0.0.1", |params| params.not_before = rcgen::date_time_ymd(2100, 1, 1));
    refused("not yet valid", open(trusting(&early)), "clock");
    assert!(
        good.asked().len() == 2 && misnamed.asked().is_empty(),
        "something was sent to somebody untrusted"
    );
}

#[test]
fn plain_http_behind_https_is_told() {
    let server = WrongServer::start(|_, _, good| good);
    let store = open(works(&server.endpoint.replace("http://", "https://")));
    let error = store.list("", &mut |_| Ok(())).unwrap_err();
    is_clear("plain", &error);
    assert!(error.remedy().unwrap().contains("http://"), "{error}: {:?}", error.remedy());
}
