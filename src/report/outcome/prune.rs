use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Human, Outcome, render_lines};
use crate::model::Bytes;
use crate::report::human::{counted, duration, plain};
use crate::report::stamp::Stamp;

/// `muster prune`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Prune {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Points that can be restored.
    pub points: u64,
    /// Packs that were there.
    pub packs: u64,
    /// Packs marked for deletion now.
    pub packs_condemned: u64,
    /// Packs that were marked and are needed after all.
    pub packs_spared: u64,
    /// Packs deleted.
    pub packs_deleted: u64,
    /// Packs that no point needs and that wait: for the grace period, or for a backup that runs.
    pub packs_waiting: u64,
    /// Packs that the store would not delete.
    pub packs_locked: u64,
    /// Objects that are damaged and were left as they are.
    pub damaged: u64,
    /// Packs whose live blobs were moved.
    pub packs_repacked: u64,
    /// Blobs that were opened and whose live chunks were stored anew.
    pub blobs_compacted: u64,
    /// Bytes written to move what is live.
    pub bytes_moved: u64,
    /// Other objects deleted: old points, index objects, marks and sessions.
    pub objects_tidied: u64,
    /// Stored bytes of packs, by what they are.
    pub bytes: PruneBytes,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// From the first to the last step.
    pub duration_secs: f64,
}

/// Stored bytes of packs, by what they are. All but `locked` sum up to `total`, with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PruneBytes {
    /// All packs, as they were.
    pub total: u64,
    /// Needed.
    pub live: u64,
    /// Dead, pinned by a live chunk in the same blob.
    pub pinned: u64,
    /// Dead, in packs that stay: too little to move the rest for.
    pub unused: u64,
    /// Dead, in packs whose live blobs are moved.
    pub repacked: u64,
    /// Dead: marked now.
    pub condemned: u64,
    /// Dead, but a running backup may be about to use them.
    pub session: u64,
    /// Marked, in the grace period.
    pub grace: u64,
    /// Deleted.
    pub deleted: u64,
    /// To be deleted, but the store refuses: locked.
    pub locked: u64,
}

impl Prune {
    /// Counts a pack as locked that was counted as deleted. The first reason stands for all.
    pub fn keep_locked(&mut self, size: u64, why: &str) {
        self.packs_deleted -= 1;
        self.packs_locked += 1;
        self.bytes.deleted -= size;
        self.bytes.locked += size;
        if self.packs_locked == 1 {
            self.warnings.push(format!("the store does not let go of some packs: {why}"));
        }
    }

    /// Counts a pack as waiting that was counted as deleted: it is not condemned any more.
    pub fn keep_waiting(&mut self, size: u64) {
        self.packs_deleted -= 1;
        self.packs_waiting += 1;
        self.bytes.deleted -= size;
        self.bytes.grace += size;
    }
}

impl Outcome for Prune {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn exit(&self) -> Exit {
        if self.packs_locked + self.damaged > 0 { Exit::Partial } else { Exit::Done }
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        let bytes = &self.bytes;
        let would = if self.dry_run { "would be " } else { "" };
        let rows: [(&str, u64, String); 9] = [
            ("live", bytes.live, format!("needed by {}", counted(self.points, "point"))),
            (
                "dead, pinned",
                bytes.pinned,
                "in one blob with chunks that are needed: `prune --compact` frees it".to_owned(),
            ),
            ("dead, unused", bytes.unused, "in packs that stay".to_owned()),
            (
                "dead, repacked",
                bytes.repacked,
                format!("what is live beside it {would}moved: {}", counted(self.packs_repacked, "pack")),
            ),
            (
                "dead, marked now",
                bytes.condemned,
                format!("{} {would}marked", counted(self.packs_condemned, "pack")),
            ),
            (
                "dead, in grace",
                bytes.grace,
                "marked before, deleted once the grace period is over".to_owned(),
            ),
            ("dead, held", bytes.session, "a backup that runs, or one just begun, may use it".to_owned()),
            ("dead, locked", bytes.locked, "the store does not let go of it".to_owned()),
            (
                "dead, deleted",
                bytes.deleted,
                format!("{} {would}deleted", counted(self.packs_deleted, "pack")),
            ),
        ];
        for (name, size, what) in rows.iter().filter(|(name, size, _)| *size > 0 || *name == "live") {
            writeln!(out, "{name:<17} {:>10}  {what}", Bytes(*size).to_string())?;
        }
        writeln!(
            out,
            "{:<17} {:>10}  {}",
            "all packs",
            Bytes(bytes.total).to_string(),
            counted(self.packs, "pack")
        )?;
        if self.packs_spared > 0 {
            writeln!(
                out,
                "{} {would}spared: marked before, and a point needs what is in it",
                counted(self.packs_spared, "pack")
            )?;
        }
        if self.blobs_compacted > 0 {
            writeln!(
                out,
                "{} {would}opened, and what is live in them stored anew",
                counted(self.blobs_compacted, "blob")
            )?;
        }
        if self.bytes_moved > 0 {
            writeln!(out, "{} {would}written to move what is live", Bytes(self.bytes_moved))?;
        }
        if self.objects_tidied > 0 {
            writeln!(out, "{} of bookkeeping deleted", counted(self.objects_tidied, "old object"))?;
        }
        render_lines("warning", &self.warnings, out)?;
        let done = if self.dry_run { "nothing was changed; looked" } else { "done" };
        writeln!(out, "{done} in {}", duration(self.duration_secs))
    }
}

/// `muster retention plan|apply|remove`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Retention {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Each point and what becomes of it, oldest first.
    pub points: Vec<RetentionRow>,
    /// Points kept.
    pub kept: u64,
    /// Points removed.
    pub removed: u64,
    /// What was left alone, and why.
    pub notes: Vec<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// One point and what becomes of it.
#[derive(Clone, Debug, Serialize)]
pub struct RetentionRow {
    /// The point.
    pub point: String,
    /// Its job.
    pub job: String,
    /// When it was made, by the store's clock.
    pub time: Stamp,
    /// Whether it stays.
    pub kept: bool,
    /// By which rule.
    pub rule: String,
}

impl Outcome for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn exit(&self) -> Exit {
        Exit::Done
    }

    fn render(&self, out: &mut dyn Write, human: &Human) -> io::Result<()> {
        for row in &self.points {
            let verb = match (row.kept, self.dry_run) {
                (true, _) => "keep",
                (false, true) => "would remove",
                (false, false) => "removed",
            };
            writeln!(
                out,
                "{verb:<12}  {}  {}  {}  {}",
                plain(&row.point),
                human.time(row.time.0),
                plain(&row.job),
                plain(&row.rule)
            )?;
        }
        render_lines("note", &self.notes, out)?;
        render_lines("warning", &self.warnings, out)?;
        let done = match (self.removed, self.dry_run) {
            (0, _) => "nothing to remove".to_owned(),
            (n, true) => format!("{} would be removed", counted(n, "point")),
            (n, false) => {
                format!("{} removed; `muster prune` frees what only they needed", counted(n, "point"))
            }
        };
        writeln!(out, "{done}; {} kept", counted(self.kept, "point"))
    }
}
