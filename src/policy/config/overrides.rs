//! `MUSTER_…` variables that stand above the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Error, ErrorKind, Result, SecretRef, parse_size};
use crate::policy::suggest::nearest;

use super::Config;
use super::check::check_store;
use super::s3::{check_endpoint, check_region};

/// Every variable that overrides the file, and the key it overrides.
pub const VARIABLES: [(&str, &str); 14] = [
    ("MUSTER_STORE", "repository.store"),
    ("MUSTER_ROOT", "repository.root"),
    ("MUSTER_LOWEST_CONFIG", "repository.lowest_config"),
    ("MUSTER_KEYS", "repository.keys"),
    ("MUSTER_S3_ENDPOINT", "repository.s3.endpoint"),
    ("MUSTER_S3_REGION", "repository.s3.region"),
    ("MUSTER_S3_ACCESS_KEY_ID", "repository.s3.access_key_id"),
    ("MUSTER_S3_SECRET_ACCESS_KEY", "repository.s3.secret_access_key"),
    ("MUSTER_S3_SESSION_TOKEN", "repository.s3.session_token"),
    ("MUSTER_MEMORY", "engine.memory"),
    ("MUSTER_COMPRESSION", "engine.compression"),
    ("MUSTER_CACHE_DIR", "engine.cache_dir"),
    ("MUSTER_UPLOAD_LIMIT", "engine.upload_limit"),
    ("MUSTER_DOWNLOAD_LIMIT", "engine.download_limit"),
];

/// Variables that the command line reads, and those of the project's own scripts, which may
/// be set around us.
const OTHER_VARIABLES: [&str; 12] = [
    "MUSTER_BENCH_DIR",
    "MUSTER_BIN",
    "MUSTER_CONFIG",
    "MUSTER_IDENTITY",
    "MUSTER_LOG",
    "MUSTER_PASSPHRASE_FROM",
    "MUSTER_TEST_FULL",
    "MUSTER_TEST_S3_ENDPOINT",
    "MUSTER_TEST_S3_KEY_ID",
    "MUSTER_TEST_S3_KIND",
    "MUSTER_TEST_S3_REGION",
    "MUSTER_TEST_S3_SECRET",
];

/// What applying the environment found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Variables that took effect.
    pub used: Vec<String>,
    /// Variables beginning with `MUSTER_` that mean nothing to us.
    pub warnings: Vec<String>,
}

impl Config {
    /// Lets the `MUSTER_…` variables of `env` take the place of what the file says.
    /// Relative paths in them begin at the working directory.
    pub fn apply_env(&mut self, env: &BTreeMap<String, String>) -> Result<Overrides> {
        let mut found = Overrides::default();
        for (name, value) in
            env.iter().filter(|(name, value)| name.starts_with("MUSTER_") && !value.is_empty())
        {
            if VARIABLES.iter().any(|(known, _)| known == name) {
                self.set(name, value)?;
                found.used.push(name.clone());
            } else if !OTHER_VARIABLES.contains(&name.as_str()) {
                found.warnings.push(unknown(name));
            }
        }
        self.repository.s3.check()?;
        Ok(found)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "MUSTER_STORE" => {
                check_store(value).map_err(|(why, hint)| wrong(name, why).hint(hint))?;
                self.repository.store = value.to_owned();
            }
            "MUSTER_ROOT" => self.repository.root = value.to_owned(),
            "MUSTER_LOWEST_CONFIG" => self.repository.lowest_config = number(name, value)?,
            "MUSTER_KEYS" => self.repository.keys = Some(reference(name, value)?),
            "MUSTER_S3_ENDPOINT" => {
                check_endpoint(value).map_err(|(why, hint)| wrong(name, why).hint(hint))?;
                self.repository.s3.endpoint = Some(value.to_owned());
            }
            "MUSTER_S3_REGION" => {
                check_region(value).map_err(|(why, hint)| wrong(name, why).hint(hint))?;
                self.repository.s3.region = Some(value.to_owned());
            }
            "MUSTER_S3_ACCESS_KEY_ID" => self.repository.s3.access_key_id = Some(reference(name, value)?),
            "MUSTER_S3_SECRET_ACCESS_KEY" => {
                self.repository.s3.secret_access_key = Some(reference(name, value)?);
            }
            "MUSTER_S3_SESSION_TOKEN" => self.repository.s3.session_token = Some(reference(name, value)?),
            "MUSTER_MEMORY" => self.engine.memory_bytes = size(name, value)?,
            "MUSTER_COMPRESSION" => self.engine.compression = compression(name, value)?,
            "MUSTER_CACHE_DIR" => self.engine.cache_dir = Some(PathBuf::from(value)),
            "MUSTER_UPLOAD_LIMIT" => self.engine.upload_limit_bytes_per_sec = Some(size(name, value)?),
            "MUSTER_DOWNLOAD_LIMIT" => self.engine.download_limit_bytes_per_sec = Some(size(name, value)?),
            _ => {
                return Err(
                    Error::internal("apply the environment", "a listed variable has no effect").on(name)
                );
            }
        }
        Ok(())
    }
}

fn unknown(name: &str) -> String {
    let known = VARIABLES.iter().map(|(known, _)| *known).chain(OTHER_VARIABLES);
    match nearest(name, known) {
        Some(near) => {
            format!("the environment variable {name} means nothing to Muster: did you mean {near}?")
        }
        None => format!("the environment variable {name} means nothing to Muster"),
    }
}

fn wrong(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::Config, "use the environment variable", why).on(name)
}

fn number(name: &str, value: &str) -> Result<u64> {
    value.parse().map_err(|_| wrong(name, "its value is not a whole number"))
}

fn compression(name: &str, value: &str) -> Result<i32> {
    match value.parse() {
        Ok(level) if (1..=22).contains(&level) => Ok(level),
        _ => Err(wrong(name, "the compression level is not a number from 1 to 22")),
    }
}

fn size(name: &str, value: &str) -> Result<u64> {
    match parse_size(value) {
        Ok(0) => Err(wrong(name, "the size is zero")),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(wrong(name, "its value is not a size").hint(error.remedy().unwrap_or_default())),
    }
}

fn reference(name: &str, value: &str) -> Result<SecretRef> {
    value.parse().map_err(|error: Error| wrong(name, error.why()).hint(error.remedy().unwrap_or_default()))
}
