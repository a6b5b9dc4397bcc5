//! `[repository.s3]`: how a bucket is reached.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Deserialize as Derive;
use toml::Spanned;

use crate::model::{Error, ErrorKind, Result, SecretRef};
use crate::policy::suggest::nearest;

use super::check::Check;
use super::raw::Opaque;

type S<T> = Spanned<T>;

/// `[repository.s3]`. Nothing in it is needed on AWS with the default chain's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Config {
    /// `https://host:port`; none means AWS.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// The bucket stands in the path; by default wherever there is an endpoint.
    pub path_style: Option<bool>,
    /// The access key's id.
    pub access_key_id: Option<SecretRef>,
    /// The secret access key.
    pub secret_access_key: Option<SecretRef>,
    /// The token of temporary keys.
    pub session_token: Option<SecretRef>,
    /// A profile of the default chain.
    pub profile: Option<String>,
    /// Certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The class that objects are stored in.
    pub storage_class: Option<String>,
    /// Encryption at rest by the server.
    pub sse: Option<Sse>,
    /// The key for `aws:kms`.
    pub sse_kms_key: Option<String>,
    /// Checksums sent along with uploads.
    pub checksums: ChecksumChoice,
    /// What a probe found of conditional puts; none: nobody probed.
    pub conditional_put: Option<bool>,
}

/// Encryption at rest by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sse {
    /// `AES256`.
    Aes256,
    /// `aws:kms`.
    Kms,
}

/// Checksums sent along with uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumChoice {
    /// CRC32C where the server takes it.
    #[default]
    Auto,
    /// CRC32C.
    Crc32c,
    /// SHA-256.
    Sha256,
    /// None.
    Off,
}

impl Sse {
    const ALL: [(&'static str, Self); 2] = [("AES256", Self::Aes256), ("aws:kms", Self::Kms)];
}

impl ChecksumChoice {
    const ALL: [(&'static str, Self); 4] =
        [("auto", Self::Auto), ("crc32c", Self::Crc32c), ("sha256", Self::Sha256), ("off", Self::Off)];
}

/// The word of a value.
fn word<T: PartialEq>(all: &[(&'static str, T)], value: &T) -> &'static str {
    all.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// What is wrong with a setting, and what to do.
pub type Wrong = (&'static str, &'static str);

impl S3Config {
    /// Lines of `[repository.s3]` that say where the bucket is. No secret, and no reference to one, is among them.
    pub fn whereabouts(&self) -> Vec<String> {
        let text = |name: &str, value: &str| format!("{name} = {}", toml::Value::from(value));
        let mut lines = Vec::new();
        lines.extend(self.endpoint.as_deref().map(|endpoint| text("endpoint", endpoint)));
        lines.extend(self.region.as_deref().map(|region| text("region", region)));
        lines.extend(self.path_style.map(|path_style| format!("path_style = {path_style}")));
        lines.extend(self.ca_file.as_ref().map(|ca| text("ca_file", &ca.display().to_string())));
        lines
    }

    /// Where its keys are.
    pub fn references(&self) -> impl Iterator<Item = &SecretRef> {
        [&self.access_key_id, &self.secret_access_key, &self.session_token].into_iter().flatten()
    }

    /// What must hold between the settings, whoever set them.
    pub fn check(&self) -> Result<()> {
        self.wrong().map_or(Ok(()), |(why, hint)| {
            Err(Error::new(ErrorKind::Config, "use the settings of the s3:// store", why).hint(hint))
        })
    }

    fn wrong(&self) -> Option<Wrong> {
        let has_keys = self.access_key_id.is_some();
        if has_keys != self.secret_access_key.is_some() {
            return Some((
                "access_key_id and secret_access_key go together",
                "set both, or none for the default chain's keys",
            ));
        }
        if self.session_token.is_some() && !has_keys {
            return Some(("a session_token needs access_key_id and secret_access_key", "set all three"));
        }
        if self.profile.is_some() && has_keys {
            return Some((
                "there are both a profile and keys",
                "leave out profile, or access_key_id and secret_access_key",
            ));
        }
        if self.sse_kms_key.is_some() && self.sse != Some(Sse::Kms) {
            return Some(("sse_kms_key goes with sse = \"aws:kms\"", "set sse, or leave out sse_kms_key"));
        }
        None
    }

    /// Lines for the file, in place of the template's examples.
    pub(super) fn lines(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut lines = String::new();
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = writeln!(lines, "{key} = {value}");
            }
        };
        let text = |value: &Option<String>| value.as_deref().map(quoted);
        let reference = |value: &Option<SecretRef>| value.as_ref().map(|r| quoted(&in_full(r)));
        line("endpoint", text(&self.endpoint));
        line("region", text(&self.region));
        line("path_style", self.path_style.map(|on| on.to_string()));
        line("access_key_id", reference(&self.access_key_id));
        line("secret_access_key", reference(&self.secret_access_key));
        line("session_token", reference(&self.session_token));
        line("profile", text(&self.profile));
        line("ca_file", self.ca_file.as_ref().map(|path| quoted(&path.display().to_string())));
        line("storage_class", text(&self.storage_class));
        line("sse", self.sse.map(|sse| quoted(word(&Sse::ALL, &sse))));
        line("sse_kms_key", text(&self.sse_kms_key));
        line("checksums", Some(quoted(word(&ChecksumChoice::ALL, &self.checksums))));
        line("conditional_put", self.conditional_put.map(|works| works.to_string()));
        lines
    }
}

/// A reference as it is written in the file, which `Display` cuts short.
fn in_full(reference: &SecretRef) -> String {
    match reference {
        SecretRef::Cmd(line) => format!("cmd:{line}"),
        other => other.to_string(),
    }
}

/// Reads a setting's word.
fn choose<T: Copy>(all: &[(&'static str, T)], text: &str) -> std::result::Result<T, String> {
    all.iter().find(|(known, _)| known.eq_ignore_ascii_case(text)).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
        match nearest(text, words.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("one of: {}", words.join(", ")),
        }
    })
}

impl std::str::FromStr for Sse {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        choose(&Self::ALL, text)
    }
}

impl std::str::FromStr for ChecksumChoice {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        choose(&Self::ALL, text)
    }
}

/// Whether `text` is the address of a server, and one that holds no password.
pub fn check_endpoint(text: &str) -> std::result::Result<(), Wrong> {
    let hint = "write https://host or http://host:port";
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err(("the endpoint begins with neither https:// nor http://", hint));
    };
    if rest.contains('@') {
        return Err((
            "an endpoint may not hold a user or a password",
            "the keys stand in access_key_id and secret_access_key, by reference",
        ));
    }
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic()) || rest.contains(['?', '#']) {
        return Err(("the endpoint is no address of a server", hint));
    }
    Ok(())
}

/// Whether `text` can be a region's name.
pub fn check_region(text: &str) -> std::result::Result<(), Wrong> {
    let is_ok = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match is_ok {
        true => Ok(()),
        false => Err((
            "this is no name of a region",
            "write for example eu-central-1; Garage's is `garage` as a rule, R2's `auto`",
        )),
    }
}

/// `[repository.s3]` as it stands.
#[derive(Default, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RawS3 {
    endpoint: Option<S<String>>,
    region: Option<S<String>>,
    path_style: Option<S<bool>>,
    access_key_id: Option<S<Opaque>>,
    secret_access_key: Option<S<Opaque>>,
    session_token: Option<S<Opaque>>,
    profile: Option<S<String>>,
    ca_file: Option<S<String>>,
    storage_class: Option<S<String>>,
    sse: Option<S<String>>,
    sse_kms_key: Option<S<String>>,
    checksums: Option<S<String>>,
    conditional_put: Option<S<bool>>,
}

impl Check<'_> {
    pub(super) fn s3(&self, raw: &S<RawS3>) -> Result<S3Config> {
        let s3 = raw.get_ref();
        if let Some(endpoint) = &s3.endpoint {
            check_endpoint(endpoint.get_ref()).map_err(|(why, hint)| self.error(endpoint, why).hint(hint))?;
        }
        if let Some(region) = &s3.region {
            check_region(region.get_ref()).map_err(|(why, hint)| self.error(region, why).hint(hint))?;
        }
        let texts = [&s3.profile, &s3.ca_file, &s3.storage_class, &s3.sse_kms_key];
        if let Some(empty) = texts.into_iter().flatten().find(|text| text.get_ref().trim().is_empty()) {
            return Err(self.error(empty, "this is empty").hint("leave the key out for its default"));
        }
        let text = |value: &Option<S<String>>| value.as_ref().map(|text| text.get_ref().clone());
        let secret = |name: &str, value: &Option<S<Opaque>>| {
            value.as_ref().map(|value| self.reference(name, value)).transpose()
        };
        let config = S3Config {
            endpoint: text(&s3.endpoint),
            region: text(&s3.region),
            path_style: s3.path_style.as_ref().map(|on| *on.get_ref()),
            access_key_id: secret("access_key_id", &s3.access_key_id)?,
            secret_access_key: secret("secret_access_key", &s3.secret_access_key)?,
            session_token: secret("session_token", &s3.session_token)?,
            profile: text(&s3.profile),
            ca_file: s3.ca_file.as_ref().map(|path| self.beside(path.get_ref())),
            storage_class: text(&s3.storage_class),
            sse: self.word(&s3.sse, "encryption at rest is called otherwise")?,
            sse_kms_key: text(&s3.sse_kms_key),
            checksums: self.word(&s3.checksums, "there is no such kind of checksum")?.unwrap_or_default(),
            conditional_put: s3.conditional_put.as_ref().map(|works| *works.get_ref()),
        };
        match config.wrong() {
            Some((why, hint)) => Err(self.error(raw, why).hint(hint)),
            None => Ok(config),
        }
    }

    fn word<T: std::str::FromStr<Err = String>>(
        &self,
        value: &Option<S<String>>,
        why: &str,
    ) -> Result<Option<T>> {
        let parsed = value
            .as_ref()
            .map(|text| text.get_ref().parse::<T>().map_err(|hint| self.error(text, why).hint(hint)));
        parsed.transpose()
    }
}
