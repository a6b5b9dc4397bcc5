//! What a command did: one struct a command, printed for people or as a document.

mod acknowledge;
mod backup;
mod browse;
mod check;
mod diff;
mod doctor;
mod key;
mod points;
mod prune;
mod repair_config;
mod restore;

use std::io::{self, Write};

use serde::Serialize;

use crate::model::error::Exit;
use crate::model::{Error, Result};

use super::human::Human;
use super::json;

pub use acknowledge::{Acknowledged, AcknowledgedPoint};
pub use backup::{Backup, BackupSource, BackupTotals, Status};
pub use browse::{FindMatch, LsEntry, ls_header};
pub use check::{Check, DataCheck, Problem, RepairIndex};
pub use diff::{Change, DiffChange, DiffSummary};
pub use doctor::{Doctor, DoctorFinding, Iam, IamPart, Judgement};
pub use key::{Init, KeyChange, KeyList, KeyRecipient, KeyWriter};
pub use points::{PointRow, PointSource, Points, RemovedPoint};
pub use prune::{Prune, PruneBytes, Retention, RetentionRow};
pub use repair_config::{ConfigInTheWay, RepairConfig};
pub use restore::{Restore, RestoreSource};

/// How many failures of one source stand in a document.
pub const FAILURES_KEPT: usize = 100;
/// How many failures of one source a person is shown.
const FAILURES_SHOWN: usize = 10;

/// An item that could not be dealt with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Which.
    pub path: String,
    /// Why.
    pub why: String,
}

/// For whom an outcome is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A person.
    Human,
    /// A program: one JSON document.
    Json,
}

/// What a command has to say when it is over.
pub trait Outcome: Serialize {
    /// The schema's name: `backup` of `muster.backup/1`.
    fn name(&self) -> &'static str;

    /// Writes it for people.
    fn render(&self, out: &mut dyn Write, human: &Human) -> io::Result<()>;

    /// With which status the command ends.
    fn exit(&self) -> Exit {
        Exit::Done
    }
}

/// Prints an outcome. A reader that has gone away (`muster points | head`) is no error.
pub fn emit(outcome: &impl Outcome, format: Format, human: &Human, out: &mut dyn Write) -> Result<()> {
    let written = match format {
        Format::Human => outcome.render(out, human),
        Format::Json => json::document(outcome.name(), outcome, out),
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Error::io("write to", "standard output", error)),
    }
}

/// Writes failures, indented; those beyond the first few are counted.
fn render_failures(failures: &[Failure], total: u64, out: &mut dyn Write) -> io::Result<()> {
    for failure in failures.iter().take(FAILURES_SHOWN) {
        writeln!(out, "    {}: {}", super::plain(&failure.path), super::plain(&failure.why))?;
    }
    match total.saturating_sub(failures.len().min(FAILURES_SHOWN) as u64) {
        0 => Ok(()),
        more => writeln!(out, "    and {} more", super::human::count(more)),
    }
}

fn render_lines(label: &str, lines: &[String], out: &mut dyn Write) -> io::Result<()> {
    lines.iter().try_for_each(|line| writeln!(out, "{label}: {}", super::plain(line)))
}

#[cfg(test)]
mod tests;
