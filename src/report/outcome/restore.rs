use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Failure, Human, Outcome, render_failures, render_lines};
use crate::model::Bytes;
use crate::report::human::{count, counted, duration, plain};

/// `muster restore`.
#[derive(Clone, Debug, Serialize)]
pub struct Restore {
    /// The point it came from.
    pub point: String,
    /// The point's job.
    pub job: String,
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// Each source.
    pub sources: Vec<RestoreSource>,
    /// From the first to the last step.
    pub duration_secs: f64,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// One source of a restore.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RestoreSource {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Where to: a folder, or the command's name.
    pub target: String,
    /// Entries put back.
    pub items: u64,
    /// Bytes put back.
    pub bytes: u64,
    /// Entries that were as they should be.
    pub unchanged: u64,
    /// Of those two, folders beside what was asked for.
    #[serde(skip)]
    pub folders_beside: u64,
    /// Entries removed.
    pub removed: u64,
    /// Entries compared with the point afterwards and found equal; with `--verify`.
    pub verified: Option<u64>,
    /// How many could not be put back exactly, or differ.
    pub failed: u64,
    /// The first [`super::FAILURES_KEPT`] of these.
    pub failures: Vec<Failure>,
    /// Why the whole source failed.
    pub error: Option<String>,
    /// What the source remarked.
    pub notes: Vec<String>,
}

impl Outcome for Restore {
    fn name(&self) -> &'static str {
        "restore"
    }

    fn exit(&self) -> Exit {
        match self.sources.iter().any(RestoreSource::is_bad) {
            false => Exit::Done,
            true if self.sources.iter().all(RestoreSource::is_nothing) => Exit::Failed,
            true => Exit::Partial,
        }
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        let verb = if self.dry_run { "would restore" } else { "restored" };
        for source in &self.sources {
            source.render(verb, out)?;
        }
        let good = self.sources.iter().filter(|source| !source.is_bad()).count();
        writeln!(
            out,
            "{verb} {good} of {} from point {} of job {} in {}",
            counted(self.sources.len() as u64, "source"),
            plain(&self.point),
            plain(&self.job),
            duration(self.duration_secs)
        )?;
        render_lines("warning", &self.warnings, out)
    }
}

impl RestoreSource {
    fn is_bad(&self) -> bool {
        self.failed > 0 || self.error.is_some()
    }

    /// Failed, with nothing of it in its place: the folders around it do not count.
    fn is_nothing(&self) -> bool {
        self.is_bad() && self.items + self.unchanged <= self.folders_beside
    }

    fn render(&self, verb: &str, out: &mut dyn Write) -> io::Result<()> {
        let name = plain(&self.name);
        if let Some(error) = &self.error {
            return writeln!(out, "  {name} failed: {}", plain(error));
        }
        write!(
            out,
            "  {name}: {verb} {}, {} to {}",
            counted(self.items, "item"),
            Bytes(self.bytes),
            plain(&self.target)
        )?;
        let extra = [
            (Some(self.unchanged), "unchanged"),
            (Some(self.removed), "removed"),
            (self.verified, "verified"),
        ];
        for (number, word) in extra {
            if let Some(number) = number.filter(|n| *n > 0) {
                write!(out, ", {} {word}", count(number))?;
            }
        }
        writeln!(out)?;
        if self.failed > 0 {
            writeln!(out, "  {name}: {} not as in the point:", counted(self.failed, "item"))?;
            render_failures(&self.failures, self.failed, out)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "  {name}: {}", plain(note)))
    }
}
