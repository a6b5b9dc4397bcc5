//! Freeze and thaw: programs run before and after a capture.

use crate::model::{Error, ErrorKind, Result};
use crate::ports::process::Wiring;
use crate::ports::{CommandSpec, Process};

/// What a job runs around its capture.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Run before; a failure stops the backup.
    pub freeze: Option<Vec<String>>,
    /// Run after, whatever happened.
    pub thaw: Option<Vec<String>>,
    /// Each may take so long.
    pub timeout_secs: u64,
}

/// A frozen application. Thaws when dropped, also on the way out of an error.
pub struct Frozen<'a> {
    hooks: &'a Hooks,
    process: &'a dyn Process,
    thawed: bool,
}

impl<'a> Frozen<'a> {
    /// Runs the freeze hook. A hook that fails half-way is thawed, since it may have frozen something.
    pub fn freeze(hooks: &'a Hooks, process: &'a dyn Process) -> Result<Self> {
        let frozen = Self { hooks, process, thawed: false };
        if let Some(argv) = &hooks.freeze {
            run("freeze the application", argv, hooks.timeout_secs, process)?;
        }
        Ok(frozen)
    }

    /// Runs the thaw hook.
    pub fn thaw(mut self) -> Result<()> {
        self.thaw_once()
    }

    fn thaw_once(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.thawed, true) {
            return Ok(());
        }
        match &self.hooks.thaw {
            Some(argv) => run("thaw the application", argv, self.hooks.timeout_secs, self.process),
            None => Ok(()),
        }
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.thaw_once() {
            tracing::error!(%error, "the application may still be frozen");
        }
    }
}

fn run(what: &str, argv: &[String], timeout_secs: u64, process: &dyn Process) -> Result<()> {
    let spec =
        CommandSpec { argv: argv.to_vec(), timeout_secs: Some(timeout_secs), ..CommandSpec::default() };
    let program = argv.first().cloned().unwrap_or_default();
    let ended = process.spawn(&spec, Wiring::Neither)?.wait()?;
    if ended.is_success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let last = stderr.trim().lines().last().unwrap_or_default().to_owned();
    let error = Error::new(ErrorKind::Source, what, format!("the hook {}", ended.describe())).on(program);
    Err(if last.is_empty() { error } else { error.hint(format!("its last words: {last}")) })
}
