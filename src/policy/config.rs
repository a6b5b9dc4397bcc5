//! `muster.toml`: parsed as it stands into raw structs, then checked into working ones.
//! Everything that is wrong is shown with its line; nothing that may be a secret is.

mod check;
mod excerpt;
mod overrides;
mod raw;
pub mod s3;
mod secrets;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{Error, ErrorKind, Result, SecretRef};

use super::retention::Keep;
use super::suggest::nearest;

pub use overrides::{Overrides, VARIABLES};
pub use s3::S3Config;
pub use template::template;

/// Memory that the engine may hold unless it is told otherwise.
pub const MEMORY_DEFAULT_BYTES: u64 = 256 << 20;
/// The zstd level unless it is told otherwise.
pub const COMPRESSION_DEFAULT: i32 = 3;
/// How long a hook may take unless it is told otherwise.
pub const HOOK_TIMEOUT_DEFAULT_SECS: u64 = 60;

/// A checked `muster.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the repository is and whom to trust.
    pub repository: RepositoryConfig,
    /// Bounds and places of the engine.
    pub engine: EngineConfig,
    /// Jobs in the order of the file; names are unique.
    pub jobs: Vec<JobConfig>,
}

/// `[repository]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// The store's address; holds no secret.
    pub store: String,
    /// The pinned root public key, as text.
    pub root: String,
    /// The lowest acceptable number of a config in the root-signed chain.
    pub lowest_config: u64,
    /// This host's keys; a machine that only reads with a recovery kit has none.
    pub keys: Option<SecretRef>,
    /// How a bucket is reached; means nothing to other stores.
    pub s3: S3Config,
}

/// `[engine]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most bytes in flight.
    pub memory_bytes: u64,
    /// zstd level, 1 to 22.
    pub compression: i32,
    /// Where the index is cached; `None` means the user's cache folder.
    pub cache_dir: Option<PathBuf>,
    /// Most bytes a second sent to the store.
    pub upload_limit_bytes_per_sec: Option<u64>,
    /// Most bytes a second fetched from the store.
    pub download_limit_bytes_per_sec: Option<u64>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            memory_bytes: MEMORY_DEFAULT_BYTES,
            compression: COMPRESSION_DEFAULT,
            cache_dir: None,
            upload_limit_bytes_per_sec: None,
            download_limit_bytes_per_sec: None,
        }
    }
}

/// `[[job]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobConfig {
    /// Unique; safe as one part of a path.
    pub name: String,
    /// Free words that every point of the job carries.
    pub tags: Vec<String>,
    /// Run before the first source, program and arguments.
    pub freeze: Option<Vec<String>>,
    /// Run after the last source, also when something failed.
    pub thaw: Option<Vec<String>>,
    /// How long each of the two may take.
    pub hook_timeout_secs: u64,
    /// `[job.retention]`: which of its points are kept.
    pub retention: Keep,
    /// At least one; names are unique within the job.
    pub sources: Vec<SourceConfig>,
}

/// `[[job.source]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Unique within the job; safe as one part of a path.
    pub name: String,
    /// What it is, with what that kind needs.
    pub kind: SourceKind,
}

/// The kinds of sources and their settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Folders and files.
    Files(FilesConfig),
    /// A program's standard output.
    Command(CommandConfig),
}

/// Every kind's name in the file.
pub const KINDS: [&str; 2] = ["files", "command"];

impl SourceKind {
    /// Its name in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Files(_) => KINDS[0],
            Self::Command(_) => KINDS[1],
        }
    }
}

/// A source of kind `files`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesConfig {
    /// Folders and files to take; at least one, absolute if the configuration's folder is.
    pub paths: Vec<PathBuf>,
    /// Globs: where there are any, only files that match one are taken.
    pub include: Vec<String>,
    /// Globs of what is left out.
    pub exclude: Vec<String>,
    /// Names of files that list, in `.gitignore`'s form, what is left out beside them.
    pub ignore_files: Vec<String>,
    /// Stay on the file systems that `paths` are on.
    pub one_file_system: bool,
    /// Leave out folders marked by a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
}

/// A source of kind `command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandConfig {
    /// Program and arguments whose standard output is the capture.
    pub backup: Vec<String>,
    /// Program and arguments that take it back on standard input.
    pub restore: Option<Vec<String>>,
    /// Variables whose values are secrets.
    pub env: BTreeMap<String, SecretRef>,
    /// Variables whose values are not.
    pub env_plain: BTreeMap<String, String>,
    /// The program is killed after this many seconds.
    pub timeout_secs: Option<u64>,
    /// Working directory.
    pub dir: Option<PathBuf>,
    /// Name of the one entry in the capture.
    pub file_name: String,
    /// A capture of fewer bytes is a failed one.
    pub min_bytes: u64,
}

impl Config {
    /// Reads `text`. `file` is its name for messages; relative paths in it start at `base`.
    pub fn parse(text: &str, file: &str, base: &Path) -> Result<Self> {
        let page = excerpt::Page::new(file, text);
        let raw = raw::parse(&page)?;
        check::Check::new(&page, base).config(&raw)
    }

    /// The named job; without a name the only one there is.
    pub fn job_named(&self, name: Option<&str>) -> Result<&JobConfig> {
        match (name, self.jobs.as_slice()) {
            (_, []) => Err(no_jobs()),
            (None, [only]) => Ok(only),
            (None, _) => {
                Err(Error::new(ErrorKind::Usage, "choose a job", "the configuration has more than one")
                    .hint(format!("name one of: {}", self.job_names().join(", "))))
            }
            (Some(name), jobs) => {
                jobs.iter().find(|job| job.name == name).ok_or_else(|| self.unknown_job(name))
            }
        }
    }

    fn job_names(&self) -> Vec<&str> {
        self.jobs.iter().map(|job| job.name.as_str()).collect()
    }

    fn unknown_job(&self, name: &str) -> Error {
        let hint = match nearest(name, self.job_names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it has: {}", self.job_names().join(", ")),
        };
        Error::new(ErrorKind::Usage, "find the job", "the configuration has no job of that name")
            .on(name)
            .hint(hint)
    }
}

/// Refuses what is no store's address, and an address that holds a user or password,
/// without repeating it.
pub fn check_address(store: &str) -> Result<()> {
    check::check_store(store)
        .map_err(|(why, hint)| Error::new(ErrorKind::Config, "use the store's address", why).hint(hint))
}

fn no_jobs() -> Error {
    Error::new(ErrorKind::Config, "start a job", "the configuration has none")
        .hint("add a [[job]] with a [[job.source]] to muster.toml; it has commented examples")
}

#[cfg(test)]
mod tests;
