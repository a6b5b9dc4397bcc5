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
        use Align::{Left, Right};
        super::render_lines("warning", &self.warnings, out)?;
        for bad in &self.unusable {
            writeln!(
                out,
                "unusable: {}: {}",
                crate::report::plain(&bad.path),
                crate::report::plain(&bad.why)
            )?;
        }
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
                point.status.as_str().to_owned(),
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
}
