use std::io::{self, Write};

use serde::Serialize;

use super::{Human, Outcome, Status};
use crate::model::Bytes;
use crate::report::human::{Align, Table, count, counted};
use crate::report::stamp::Stamp;

/// `muster points`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Points {
    /// Oldest first.
    pub points: Vec<PointRow>,
    /// Points that stand there and cannot be used: which, and why.
    pub unusable: Vec<super::Failure>,
    /// Points that somebody with the right to has removed, oldest removal first; where they were asked for.
    pub removed: Vec<RemovedPoint>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// One recovery point.
#[derive(Clone, Debug, Serialize)]
pub struct PointRow {
    /// Its ULID.
    pub point: String,
    /// Its job.
    pub job: String,
    /// When its capture began.
    pub time: Stamp,
    /// How good it is.
    pub status: Status,
    /// Whether it came too late to count, so that nothing of it is kept.
    pub void: bool,
    /// Who wrote it.
    pub writer: String,
    /// Its words.
    pub tags: Vec<String>,
    /// Entries.
    pub items: u64,
    /// Bytes that they stand for.
    pub bytes: u64,
    /// Bytes that it added to the store.
    pub bytes_stored: u64,
    /// Its sources.
    pub sources: Vec<PointSource>,
}

/// A point that was removed.
#[derive(Clone, Debug, Serialize)]
pub struct RemovedPoint {
    /// Its ULID.
    pub point: String,
    /// Its job.
    pub job: String,
    /// Who wrote it.
    pub writer: String,
    /// When it was removed, by the store's clock.
    pub removed: Stamp,
    /// Who removed it.
    pub by: String,
    /// By which rule, or why.
    pub rule: String,
    /// From when on `prune` may delete its object; `None` once that is gone.
    pub due: Option<Stamp>,
}

/// One source in a point.
#[derive(Clone, Debug, Serialize)]
pub struct PointSource {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How good its capture is.
    pub status: Status,
    /// Entries.
    pub items: u64,
    /// Bytes that they stand for.
    pub bytes: u64,
}

impl Outcome for Points {
    fn name(&self) -> &'static str {
        "points"
    }

    fn exit(&self) -> super::Exit {
        if self.unusable.is_empty() { super::Exit::Done } else { super::Exit::Partial }
    }

    fn render(&self, out: &mut dyn Write, human: &Human) -> io::Result<()> {
        super::render_lines("warning", &self.warnings, out)?;
        for bad in &self.unusable {
            writeln!(
                out,
                "unusable: {}: {}",
                crate::report::plain(&bad.path),
                crate::report::plain(&bad.why)
            )?;
        }
        self.render_points(out, human)?;
        self.render_removed(out, human)
    }
}

impl Points {
    fn render_points(&self, out: &mut dyn Write, human: &Human) -> io::Result<()> {
        use Align::{Left, Right};
        if self.points.is_empty() {
            return writeln!(out, "no points");
        }
        let mut table = Table::new(&[
            ("POINT", Left),
            ("TIME", Left),
            ("JOB", Left),
            ("STATUS", Left),
            ("ITEMS", Right),
            ("SIZE", Right),
            ("ADDED", Right),
            ("WRITER", Left),
            ("TAGS", Left),
        ]);
        for point in &self.points {
            table.row([
                point.point.clone(),
                human.time(point.time.0),
                point.job.clone(),
                if point.void { "void" } else { point.status.as_str() }.to_owned(),
                count(point.items),
                Bytes(point.bytes).to_string(),
                Bytes(point.bytes_stored).to_string(),
                point.writer.clone(),
                point.tags.join(","),
            ]);
        }
        table.render(out)?;
        writeln!(out, "{}", counted(self.points.len() as u64, "point"))
    }

    fn render_removed(&self, out: &mut dyn Write, human: &Human) -> io::Result<()> {
        use Align::Left;
        if self.removed.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&[
            ("REMOVED", Left),
            ("TIME", Left),
            ("JOB", Left),
            ("BY", Left),
            ("RULE", Left),
            ("DUE", Left),
        ]);
        for point in &self.removed {
            let due = point.due.as_ref().map_or_else(|| "deleted".to_owned(), |due| human.time(due.0));
            let cells =
                [&point.point, &human.time(point.removed.0), &point.job, &point.by, &point.rule, &due];
            table.row(cells);
        }
        writeln!(out)?;
        table.render(out)?;
        writeln!(out, "{} removed", counted(self.removed.len() as u64, "point"))
    }
}
