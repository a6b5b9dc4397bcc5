//! What the commands do: each job plans, then acts, and answers with an outcome.

pub mod backup;
pub mod browse;
pub mod check;
pub mod hooks;
pub mod keys;
pub mod points;
pub mod prune;
pub mod repair;
pub mod repair_config;
pub mod restore;
pub mod retention;
pub mod session;
mod strays;

use crate::model::{Error, ErrorKind};
use crate::ports::clock::RUN_AGAIN;

/// Says what to do after an interruption; only the job knows what is left of its work.
fn after_interrupt(error: Error, hint: &str) -> Error {
    if error.kind() == ErrorKind::Interrupted && error.remedy() == Some(RUN_AGAIN) {
        return error.hint(hint);
    }
    error
}

/// Says that a source failed, with what to do, while the command goes on with the others.
fn tell(source: &str, error: &Error) {
    match error.remedy() {
        Some(hint) => tracing::error!("source {source}: {error}; {hint}"),
        None => tracing::error!("source {source}: {error}"),
    }
}
