//! Rows and sum of `muster diff`; rows are printed one by one, as those of `ls`.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::Bytes;
use crate::report::human::{count, plain};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only in the second point.
    Added,
    /// Only in the first point.
    Removed,
    /// In both, not equal.
    Changed,
}

/// An entry that differs between two points.
#[derive(Clone, Debug, Serialize)]
pub struct DiffChange {
    /// What became of it.
    pub change: Change,
    /// Its source.
    pub source: String,
    /// Its path.
    pub path: String,
    /// Its size in the first point.
    pub size_before: Option<u64>,
    /// Its size in the second point.
    pub size_after: Option<u64>,
    /// In what it differs: `content`, `mode`, `owner`, `mtime`, `kind`, `xattrs`, `target`.
    pub differs: Vec<&'static str>,
}

impl DiffChange {
    /// One line: `+`, `-` or `~`, sizes, path, and in what it differs.
    pub fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        let size = |size: Option<u64>| size.map(|bytes| Bytes(bytes).to_string()).unwrap_or_default();
        let (mark, sizes) = match self.change {
            Change::Added => ('+', size(self.size_after)),
            Change::Removed => ('-', size(self.size_before)),
            Change::Changed if self.size_before == self.size_after => ('~', size(self.size_after)),
            Change::Changed => ('~', format!("{} -> {}", size(self.size_before), size(self.size_after))),
        };
        let differs = match self.differs.as_slice() {
            [] => String::new(),
            some => format!("  [{}]", some.join(", ")),
        };
        writeln!(out, "{mark} {sizes:>24} {}:{}{differs}", plain(&self.source), plain(&self.path))
    }
}

/// The sum of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiffSummary {
    /// Entries only in the second point.
    pub added: u64,
    /// Entries only in the first point.
    pub removed: u64,
    /// Entries that differ.
    pub changed: u64,
    /// Entries that are equal.
    pub unchanged: u64,
    /// Bytes of added entries, and growth of changed ones.
    pub bytes_added: u64,
    /// Bytes of removed entries, and shrinking of changed ones.
    pub bytes_removed: u64,
}

impl DiffSummary {
    /// Counts one difference.
    pub fn count(&mut self, change: &DiffChange) {
        match change.change {
            Change::Added => self.added += 1,
            Change::Removed => self.removed += 1,
            Change::Changed => self.changed += 1,
        }
        let (before, after) = (change.size_before.unwrap_or(0), change.size_after.unwrap_or(0));
        self.bytes_added += after.saturating_sub(before);
        self.bytes_removed += before.saturating_sub(after);
    }

    /// One line.
    pub fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} added, {} removed, {} changed, {} equal; +{}, -{}",
            count(self.added),
            count(self.removed),
            count(self.changed),
            count(self.unchanged),
            Bytes(self.bytes_added),
            Bytes(self.bytes_removed)
        )
    }
}
