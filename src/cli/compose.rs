//! The composition root: the one place that makes concrete stores, sources and clocks.

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{Error, ErrorKind, Result, Secret, SecretRef};
use crate::policy::config::s3::{ChecksumChoice, Sse};
use crate::policy::{Config, S3Config, config};
use crate::ports::{Cancel, Process, Source, Store};
use crate::repo::format::PointSource;
use crate::repo::keys::{HostKeys, Identities};
use crate::repo::repository::{OpenWith, Repository};
use crate::repo::trust::Pin;
use crate::report::progress::Progress;
use crate::sources::command::{CommandConfig, CommandSource};
use crate::sources::files::{FilesConfig, FilesSource};
use crate::stores::s3::{AccessKeys, Checksums, ConditionalPut, Credentials, Encryption, S3Options};
use crate::stores::wrap::{Limit, Limits, ReadOnly, RealPace, Retry, RetryPolicy};
use crate::{stores, sys};

use super::args::Global;
use super::ask::Asker;
use super::settings;

/// What a command is made of.
pub struct Context<'g> {
    /// Flags.
    pub global: &'g Global,
    /// `muster.toml`, variables and flags.
    pub config: Config,
    /// Set by signals.
    pub cancel: Cancel,
    /// Progress display.
    pub progress: Progress,
    /// Runs programs.
    pub process: Arc<dyn Process>,
    /// Asks for passphrases.
    pub asker: Asker,
    /// Identities given for this command.
    pub identities: Identities,
}

/// Whether a command writes to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written, and the store is wrapped so that nothing can be.
    Read,
    /// Objects are written.
    Write,
}

/// A `Cancel` that signals set.
pub fn cancel_on_signals() -> Result<Cancel> {
    let cancel = Cancel::default();
    sys::cancel_on_signals(cancel.clone(), || {
        crate::report::progress::above_bars(|| eprintln!("stopping; once more to stop at once"));
    })?;
    Ok(cancel)
}

/// Reads a secret and passes on what is odd about where it stands.
pub fn secret(reference: &SecretRef, process: &dyn Process) -> Result<Secret<String>> {
    let resolved = sys::resolve_secret(reference, process)?;
    if let Some(note) = resolved.note {
        tracing::warn!("{note}");
    }
    Ok(resolved.secret)
}

/// A key or passphrase of Muster's own: programs that it runs from now on do not inherit it.
pub fn own_secret(reference: &SecretRef, process: &dyn Process) -> Result<Secret<String>> {
    sys::withhold(reference);
    secret(reference, process)
}

/// How to reach a bucket.
pub fn s3_options(s3: &S3Config, process: &Arc<dyn Process>) -> Result<S3Options> {
    s3.check()?;
    let credentials = match (&s3.access_key_id, &s3.secret_access_key, &s3.profile) {
        (Some(id), Some(key), _) => {
            let (id, key, token) = (id.clone(), key.clone(), s3.session_token.clone());
            let process = process.clone();
            // Fetched when the first request is made, and again when they have expired.
            Credentials::Given(Arc::new(move || {
                Ok(AccessKeys {
                    id: secret(&id, &*process)?,
                    secret: secret(&key, &*process)?,
                    token: token.as_ref().map(|token| secret(token, &*process)).transpose()?,
                })
            }))
        }
        (.., Some(profile)) => Credentials::Profile(profile.clone()),
        _ => Credentials::Chain,
    };
    Ok(S3Options {
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        path_style: s3.path_style,
        credentials,
        ca_file: s3.ca_file.clone(),
        storage_class: s3.storage_class.clone(),
        encryption: s3.sse.map(|sse| match sse {
            Sse::Aes256 => Encryption::Aes256,
            Sse::Kms => Encryption::Kms { key: s3.sse_kms_key.clone() },
        }),
        checksums: match s3.checksums {
            ChecksumChoice::Auto => Checksums::Auto,
            ChecksumChoice::Crc32c => Checksums::Crc32c,
            ChecksumChoice::Sha256 => Checksums::Sha256,
            ChecksumChoice::Off => Checksums::Off,
        },
        conditional_put: match s3.conditional_put {
            None => ConditionalPut::Unknown,
            Some(true) => ConditionalPut::Works,
            Some(false) => ConditionalPut::Ignored,
        },
        answer_timeout: None,
        multipart: None,
    })
}

/// How long to go on trying: a command that only looks says soon that the store is away; one
/// that writes across a network rides out a quarter of an hour.
fn patience(access: Access, store: &dyn Store) -> RetryPolicy {
    match access {
        Access::Write if store.describe().starts_with("s3://") => RetryPolicy::patient(),
        _ => RetryPolicy::default(),
    }
}

/// A store with retries and limits around it.
pub fn dress(
    store: Arc<dyn Store>,
    engine: &config::EngineConfig,
    cancel: &Cancel,
    access: Access,
    policy: RetryPolicy,
) -> Arc<dyn Store> {
    let pace = Arc::new(RealPace::new(cancel.clone()));
    let limits = Limits {
        upload_bytes_per_sec: engine.upload_limit_bytes_per_sec,
        download_bytes_per_sec: engine.download_limit_bytes_per_sec,
        ..Limits::default()
    };
    let limited = Arc::new(Limit::new(store, limits, pace.clone()));
    let retried: Arc<dyn Store> = Arc::new(Retry::new(limited, policy, Arc::new(sys::OsEntropy), pace));
    match access {
        Access::Read => Arc::new(ReadOnly::new(retried)),
        Access::Write => retried,
    }
}

impl<'g> Context<'g> {
    /// Reads configuration and identities.
    pub fn new(global: &'g Global) -> Result<Self> {
        let process: Arc<dyn Process> = Arc::new(sys::RealProcess);
        let config = settings::load(global)?;
        // All of them before the first is fetched: a `cmd:` must see none of the others.
        let own = global.identities.iter().chain(&config.repository.keys);
        own.chain(config.repository.s3.references()).for_each(sys::withhold);
        let asker = Asker::new(&*process)?;
        let identities = identities(&global.identities, &asker, &*process)?;
        Ok(Self {
            global,
            config,
            cancel: cancel_on_signals()?,
            progress: settings::progress(global),
            process,
            asker,
            identities,
        })
    }

    /// Opens the configured repository.
    pub fn open(&self, access: Access) -> Result<Repository> {
        let host = match &self.config.repository.keys {
            Some(reference) => self.host_keys(reference)?,
            None => None,
        };
        let (store, pin) = self.place(access)?;
        let with = OpenWith {
            pin,
            host,
            identities: &self.identities,
            cache_root: self.cache_root()?,
            compression_level: self.config.engine.compression,
        };
        Repository::open(store, with)
    }

    /// The store as commands use it, and what is pinned of the repository in it.
    pub fn place(&self, access: Access) -> Result<(Arc<dyn Store>, Pin)> {
        let root = self.config.repository.root.parse().map_err(|e: Error| {
            e.on("repository.root")
                .hint("it is the root public key that `muster init` wrote; the recovery kit has it too")
        })?;
        let pin = Pin { root: Some(root), lowest: self.config.repository.lowest_config };
        let store = self.store()?;
        let policy = patience(access, &*store);
        Ok((dress(store, &self.config.engine, &self.cancel, access, policy), pin))
    }

    /// The configured store, with nothing around it.
    pub fn store(&self) -> Result<Arc<dyn Store>> {
        let repository = &self.config.repository;
        stores::open(&repository.store, s3_options(&repository.s3, &self.process)?)
    }

    /// This host's keys. Where identities are given a missing key file is no error: a recovery
    /// machine has the kit and nothing else.
    fn host_keys(&self, reference: &SecretRef) -> Result<Option<HostKeys>> {
        match own_secret(reference, &*self.process) {
            Ok(text) => HostKeys::parse(&text).map(Some).map_err(|e| e.on(reference.to_string())),
            Err(_) if !self.identities.is_empty() => Ok(None),
            Err(error) => {
                Err(error.hint("restore the file, or give the recovery kit with --identity file:KIT"))
            }
        }
    }

    fn cache_root(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.config.engine.cache_dir {
            return Ok(dir.clone());
        }
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        var("XDG_CACHE_HOME")
            .or_else(|| var("HOME").map(|home| home.join(".cache")))
            .map(|dir| dir.join("muster"))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Config,
                    "find a place for the cache",
                    "neither XDG_CACHE_HOME nor HOME is set",
                )
                .hint("set engine.cache_dir in muster.toml, or give --cache-dir")
            })
    }

    /// Threads for the pipeline and for restores.
    ///
    /// Each pipeline thread holds buffers, so that many cores and little memory make few threads
    /// (see `pipeline::threads_for`).
    pub fn threads(&self) -> usize {
        crate::repo::pipeline::threads_for(self.config.engine.memory_bytes, sys::usable_cores())
    }

    /// The sources of a job.
    pub fn sources(&self, job: &config::JobConfig, force_read: bool) -> Result<Vec<Box<dyn Source>>> {
        job.sources.iter().map(|source| self.source(source, force_read)).collect()
    }

    fn source(&self, source: &config::SourceConfig, force_read: bool) -> Result<Box<dyn Source>> {
        let name = source.name.clone();
        Ok(match &source.kind {
            config::SourceKind::Files(files) => {
                Box::new(FilesSource::new(name, files_config(files, force_read))?)
            }
            config::SourceKind::Command(command) => {
                Box::new(CommandSource::new(name, self.command_config(command)?, self.process.clone())?)
            }
        })
    }

    fn command_config(&self, command: &config::CommandConfig) -> Result<CommandConfig> {
        let mut env = Vec::new();
        for (name, value) in &command.env_plain {
            env.push((name.clone(), Secret::new(value.clone())));
        }
        for (name, reference) in &command.env {
            env.push((name.clone(), secret(reference, &*self.process)?));
        }
        Ok(CommandConfig {
            backup: command.backup.clone(),
            restore: command.restore.clone(),
            env,
            dir: command.dir.clone(),
            timeout_secs: command.timeout_secs,
            file_name: Some(command.file_name.clone()),
            class: crate::model::ChunkClass::Bulk,
            min_bytes: Some(command.min_bytes),
        })
    }

    /// The source that puts back what a point holds: as configured for the job, or, where the
    /// configuration does not have it any more, one that can at least fill a folder.
    pub fn source_of(&self, job: &str, stored: &PointSource) -> Result<Box<dyn Source>> {
        let configured = self
            .config
            .jobs
            .iter()
            .filter(|j| j.name == job)
            .flat_map(|j| &j.sources)
            .find(|s| s.name == stored.name && s.kind.name() == stored.kind);
        if let Some(source) = configured {
            return self.source(source, false);
        }
        match stored.kind.as_str() {
            "files" => Ok(Box::new(FilesSource::new(stored.name.clone(), FilesConfig::default())?)),
            "command" => {
                let nothing = CommandConfig { backup: vec!["false".to_owned()], ..CommandConfig::default() };
                Ok(Box::new(CommandSource::new(stored.name.clone(), nothing, self.process.clone())?))
            }
            other => Err(Error::new(
                ErrorKind::Unsupported,
                "restore the source",
                format!("this Muster knows no kind {other:?}"),
            )
            .on(stored.name.clone())
            .hint("use the Muster that wrote the point, or a newer one")),
        }
    }
}

fn files_config(files: &config::FilesConfig, force_read: bool) -> FilesConfig {
    FilesConfig {
        paths: files.paths.clone(),
        include: files.include.clone(),
        exclude: files.exclude.clone(),
        ignore_files: files.ignore_files.clone(),
        one_file_system: files.one_file_system,
        exclude_caches: files.exclude_caches,
        force_read,
    }
}

/// Opens the identities that a command was given.
pub fn identities(references: &[SecretRef], asker: &Asker, process: &dyn Process) -> Result<Identities> {
    let mut identities = Identities::default();
    for reference in references {
        let text = own_secret(reference, process)?;
        let bytes = Secret::new(text.expose().clone().into_bytes());
        identities.add_file(&bytes, &reference.to_string(), asker.clone())?;
    }
    if let Some(passphrase) = asker.given() {
        identities.add_passphrase(passphrase);
    }
    Ok(identities)
}

/// This host's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
