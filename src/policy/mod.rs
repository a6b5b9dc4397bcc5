//! What the person wrote down: configuration (and, later, retention and schedules).
//! Pure functions of values and `now`; no I/O.

pub mod config;
pub mod iam;
pub mod retention;
pub mod suggest;

pub use config::{
    CommandConfig, Config, EngineConfig, FilesConfig, JobConfig, RepositoryConfig, S3Config, SourceConfig,
    SourceKind, template,
};
