//! The configuration that a command works with: the file, then variables, then flags.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;

use crate::model::{Error, ErrorKind, Result};
use crate::policy::Config;
use crate::report::progress::{LOG_EVERY_SECS, Progress, ProgressMode};

use super::args::{Global, Verbosity};

/// Longest configuration file that is read.
const CONFIG_MAX_BYTES: u64 = 1 << 20;

/// Reads the configuration file and lets variables and flags override it.
pub fn load(global: &Global) -> Result<Config> {
    let path = &global.config;
    let text = read(path)?;
    let absolute = std::path::absolute(path).map_err(|error| Error::io("find", shown(path), error))?;
    let base = absolute.parent().unwrap_or(Path::new("/"));
    let mut config = Config::parse(&text, &shown(path), base)?;
    for warning in config.apply_env(&environment())?.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(bytes) = global.memory_bytes {
        config.engine.memory_bytes = bytes;
    }
    if let Some(dir) = &global.cache_dir {
        config.engine.cache_dir = Some(dir.clone());
    }
    Ok(config)
}

/// The progress display that flags and terminal call for.
pub fn progress(global: &Global) -> Progress {
    let is_terminal = std::io::stderr().is_terminal();
    Progress::new(match (global.verbosity, global.progress, is_terminal) {
        (Verbosity::Quiet, ..) | (_, false, _) => ProgressMode::Quiet,
        (.., true) => ProgressMode::Bar,
        (.., false) => ProgressMode::Log { every_secs: LOG_EVERY_SECS },
    })
}

fn read(path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Config, "read the configuration", "there is no such file")
                .on(shown(path))
                .hint("name it with --config FILE or MUSTER_CONFIG, or make a repository with `muster init`")
        }
        _ => Error::io("read the configuration", shown(path), error),
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > CONFIG_MAX_BYTES {
        return Err(Error::new(ErrorKind::Config, "read the configuration", "it is longer than 1 MiB")
            .on(shown(path)));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Our variables. One that is not text cannot be meant for us.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("MUSTER_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(config: &Path) -> Global {
        Global {
            config: config.to_owned(),
            json: false,
            identities: Vec::new(),
            memory_bytes: Some(64 << 20),
            cache_dir: None,
            yes: false,
            verbosity: Verbosity::Normal,
            progress: true,
        }
    }

    #[test]
    fn flags_stand_above_the_file_and_paths_begin_at_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("muster.toml");
        std::fs::write(&file, crate::policy::template("file:///srv", "root1abc", 0, "file:muster.key", None))
            .unwrap();
        let config = load(&global(&file)).unwrap();
        assert_eq!(config.engine.memory_bytes, 64 << 20);
        let key = folder.path().join("muster.key").display().to_string();
        assert_eq!(config.repository.keys, Some(crate::model::SecretRef::File(key)));
    }

    #[test]
    fn a_missing_file_says_how_to_name_one() {
        let error = load(&global(Path::new("/nonexistent/muster.toml"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.remedy().unwrap().contains("--config"));
    }
}
