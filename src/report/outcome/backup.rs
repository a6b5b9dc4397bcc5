use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Failure, Human, Outcome, render_failures, render_lines};
use crate::model::Bytes;
use crate::report::human::{Align, Table, count, counted, duration, plain};
use crate::report::stamp::Stamp;

/// How good a point, or one source in it, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything was captured.
    Complete,
    /// Some items are missing or were changing; each is named.
    Incomplete,
    /// Nothing of it can be used.
    Failed,
}

impl Status {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// `muster backup`.
#[derive(Clone, Debug, Serialize)]
pub struct Backup {
    /// The new point; none where nothing was stored.
    pub point: Option<String>,
    /// The job.
    pub job: String,
    /// Whether nothing was to be stored.
    pub dry_run: bool,
    /// The worst of the sources'.
    pub status: Status,
    /// In the order of their capture.
    pub sources: Vec<BackupSource>,
    /// Over all sources.
    pub totals: BackupTotals,
    /// From the first to the last step.
    pub duration_secs: f64,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Points that are missing or cannot be used, of this job or of others: the new one is good, and somebody
    /// should look at once.
    pub alarms: u64,
    /// Why the thaw hook failed: the application may still be frozen.
    pub thaw_error: Option<String>,
}

/// One source of a backup.
#[derive(Clone, Debug, Serialize)]
pub struct BackupSource {
    /// Its name in the job.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How good its capture is.
    pub status: Status,
    /// Entries captured.
    pub items: u64,
    /// Of these, taken over from the previous point without reading.
    pub items_unchanged: u64,
    /// Of these, unreadable.
    pub items_unreadable: u64,
    /// Of these, changing while they were read.
    pub items_changed: u64,
    /// Bytes that the entries stand for.
    pub bytes: u64,
    /// Bytes really read.
    pub bytes_read: u64,
    /// When its capture began.
    pub started: Stamp,
    /// When it ended.
    pub ended: Stamp,
    /// What the source remarked.
    pub notes: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The first [`super::FAILURES_KEPT`] unreadable or changing items.
    pub failures: Vec<Failure>,
}

/// What a backup added.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BackupTotals {
    /// Entries in the point.
    pub items: u64,
    /// Bytes that they stand for.
    pub bytes: u64,
    /// Bytes read from the sources.
    pub bytes_read: u64,
    /// Bytes in chunks that were not stored before.
    pub bytes_new: u64,
    /// Bytes that they took in the store, compressed and sealed.
    pub bytes_stored: u64,
    /// Chunks that were not stored before.
    pub chunks_new: u64,
    /// Chunks that were.
    pub chunks_known: u64,
    /// Packs written.
    pub packs: u64,
    /// Index objects written.
    pub index_objects: u64,
}

impl Outcome for Backup {
    fn name(&self) -> &'static str {
        "backup"
    }

    fn exit(&self) -> Exit {
        let whole = self.status == Status::Complete && self.thaw_error.is_none() && self.alarms == 0;
        if whole { Exit::Done } else { Exit::Partial }
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        let point = match &self.point {
            Some(point) => format!("point {}", plain(point)),
            None if self.dry_run => "dry run, nothing was stored".to_owned(),
            None => "no point was stored".to_owned(),
        };
        writeln!(out, "job {}: {}, {point}", plain(&self.job), self.status.as_str())?;
        self.table().render(out)?;
        for source in &self.sources {
            source.render_trouble(out)?;
        }
        self.totals.render(self.dry_run, self.duration_secs, out)?;
        render_lines("warning", &self.warnings, out)?;
        match &self.thaw_error {
            Some(why) => writeln!(out, "warning: THE APPLICATION MAY STILL BE FROZEN: {}", plain(why)),
            None => Ok(()),
        }
    }
}

impl Backup {
    fn table(&self) -> Table {
        use Align::{Left, Right};
        let mut table = Table::new(&[
            ("SOURCE", Left),
            ("KIND", Left),
            ("STATUS", Left),
            ("ITEMS", Right),
            ("UNCHANGED", Right),
            ("SIZE", Right),
            ("READ", Right),
            ("TIME", Right),
        ])
        .indented(2);
        for source in &self.sources {
            table.row([
                source.name.clone(),
                source.kind.clone(),
                source.status.as_str().to_owned(),
                count(source.items),
                count(source.items_unchanged),
                Bytes(source.bytes).to_string(),
                Bytes(source.bytes_read).to_string(),
                duration(source.ended.0.secs_since(source.started.0)),
            ]);
        }
        table
    }
}

impl BackupSource {
    fn render_trouble(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = plain(&self.name);
        if let Some(error) = &self.error {
            writeln!(out, "  {name} failed: {}", plain(error))?;
        }
        let bad = self.items_unreadable + self.items_changed;
        if bad > 0 {
            writeln!(
                out,
                "  {name}: {} not readable, {} changing while read:",
                count(self.items_unreadable),
                count(self.items_changed)
            )?;
            render_failures(&self.failures, bad, out)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "  {name}: {}", plain(note)))
    }
}

impl BackupTotals {
    fn render(&self, dry_run: bool, secs: f64, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} {} of {} ({}, {} known){} in {}",
            if dry_run { "would add" } else { "added" },
            Bytes(self.bytes_new),
            Bytes(self.bytes),
            counted(self.chunks_new, "new chunk"),
            count(self.chunks_known),
            match dry_run {
                true => String::new(),
                false => format!(", {} stored in {}", Bytes(self.bytes_stored), counted(self.packs, "pack")),
            },
            duration(secs)
        )
    }
}
