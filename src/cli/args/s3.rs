//! The flags of `init` that say how a bucket is reached.

use std::path::PathBuf;

use clap::Args;

use crate::model::{Error, ErrorKind, Result, SecretRef};
use crate::policy::S3Config;
use crate::policy::config::s3::{Wrong, check_endpoint, check_region};

use super::raw::reference;

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options for s3:// stores, written into muster.toml")]
pub(super) struct RawS3 {
    /// Where the server is [default: AWS]
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// The bucket's region
    #[arg(long, value_name = "REGION")]
    s3_region: Option<String>,
    /// Whether the bucket stands in the path [default: true with an endpoint]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    s3_path_style: Option<bool>,
    /// The access key's id [default: AWS's chain]
    #[arg(long, value_name = "REF")]
    s3_access_key_id: Option<String>,
    /// The secret access key
    #[arg(long, value_name = "REF")]
    s3_secret_access_key: Option<String>,
    /// The token of temporary keys
    #[arg(long, value_name = "REF")]
    s3_session_token: Option<String>,
    /// A profile of AWS's chain
    #[arg(long, value_name = "NAME")]
    s3_profile: Option<String>,
    /// Certificates to trust beside the system's
    #[arg(long, value_name = "FILE")]
    s3_ca_file: Option<PathBuf>,
    /// The class that objects are stored in
    #[arg(long, value_name = "CLASS")]
    s3_storage_class: Option<String>,
    /// Encryption at rest by the server: AES256 or aws:kms
    #[arg(long, value_name = "KIND")]
    s3_sse: Option<String>,
    /// The key for aws:kms
    #[arg(long, value_name = "KEY")]
    s3_sse_kms_key: Option<String>,
    /// Checksums with uploads: auto, crc32c, sha256 or off
    #[arg(long, value_name = "KIND")]
    s3_checksums: Option<String>,
}

impl RawS3 {
    /// The settings, or `None` where no flag was given.
    pub(super) fn validate(self) -> Result<Option<S3Config>> {
        let checked = |flag: &str, text: Option<String>, check: fn(&str) -> Result<(), Wrong>| match text {
            None => Ok(None),
            Some(text) => match check(&text) {
                Ok(()) => Ok(Some(text)),
                Err((why, hint)) => Err(wrong(flag, why).hint(hint)),
            },
        };
        let config = S3Config {
            endpoint: checked("--s3-endpoint", self.s3_endpoint, check_endpoint)?,
            region: checked("--s3-region", self.s3_region, check_region)?,
            path_style: self.s3_path_style,
            access_key_id: secret("--s3-access-key-id", self.s3_access_key_id)?,
            secret_access_key: secret("--s3-secret-access-key", self.s3_secret_access_key)?,
            session_token: secret("--s3-session-token", self.s3_session_token)?,
            profile: self.s3_profile,
            ca_file: self.s3_ca_file.map(absolute).transpose()?,
            storage_class: self.s3_storage_class,
            sse: word("--s3-sse", self.s3_sse)?,
            sse_kms_key: self.s3_sse_kms_key,
            checksums: word("--s3-checksums", self.s3_checksums)?.unwrap_or_default(),
            conditional_put: None,
        };
        config.check().map_err(|error| error.with_kind(ErrorKind::Usage))?;
        Ok((config != S3Config::default()).then_some(config))
    }
}

fn wrong(flag: &str, why: &str) -> Error {
    Error::new(ErrorKind::Usage, "use the value", why).on(format!("given by {flag}"))
}

/// A file's path is written down whole: the configuration may lie elsewhere.
fn secret(flag: &str, text: Option<String>) -> Result<Option<SecretRef>> {
    let Some(text) = text else { return Ok(None) };
    Ok(Some(match reference(flag, &text)? {
        SecretRef::File(path) => SecretRef::File(absolute(path.into())?.display().to_string()),
        other => other,
    }))
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|error| Error::io("find", path.display().to_string(), error))
}

fn word<T: std::str::FromStr<Err = String>>(flag: &str, text: Option<String>) -> Result<Option<T>> {
    text.map(|text| text.parse().map_err(|hint: String| wrong(flag, "there is no such kind").hint(hint)))
        .transpose()
}
