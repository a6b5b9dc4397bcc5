use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Human, Outcome, render_lines};
use crate::model::Bytes;
use crate::report::human::{count, counted, duration, plain};

/// `muster check`.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// One sentence: what is now known, and what is not.
    pub verdict: String,
    /// Objects looked at, by folder: `config`, `index`, `packs`, `points` …
    pub objects: BTreeMap<String, u64>,
    /// How far stored bytes were read.
    pub data: DataCheck,
    /// Bytes read from the store.
    pub bytes_read: u64,
    /// Whether content was opened and proven, not only the sealed bytes.
    pub content_proven: bool,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// What is odd and hurts nothing.
    pub warnings: Vec<String>,
    /// From the first to the last step.
    pub duration_secs: f64,
}

/// How far stored bytes were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataCheck {
    /// Structure only.
    None,
    /// Part of the packs: `5%`, `2/7`.
    Subset(String),
    /// All packs.
    All,
}

/// One thing that is wrong in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Points that cannot be restored whole because of it.
    pub points_hurt: Vec<String>,
    /// `POINT SOURCE:PATH` of what is lost, as far as it is known.
    pub paths_hurt: Vec<String>,
}

/// How many hurt paths a person is shown of each problem.
const PATHS_SHOWN: usize = 10;

impl Outcome for Check {
    fn name(&self) -> &'static str {
        "check"
    }

    fn exit(&self) -> Exit {
        if self.problems.is_empty() { Exit::Done } else { Exit::Partial }
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        let looked: Vec<String> =
            self.objects.iter().map(|(folder, n)| plain(&counted(*n, object_of(folder)))).collect();
        writeln!(
            out,
            "looked at {}; read {} in {}",
            looked.join(", "),
            Bytes(self.bytes_read),
            duration(self.duration_secs)
        )?;
        self.problems.iter().try_for_each(|problem| problem.render(out))?;
        render_lines("warning", &self.warnings, out)?;
        writeln!(out, "{}", plain(&self.verdict))
    }
}

/// What one object of a folder is called.
fn object_of(folder: &str) -> &str {
    match folder {
        "audit" => "audit record",
        "condemned" => "condemned mark",
        "config" => "configuration",
        "evidence" => "evidence record",
        "index" => "index object",
        "keys" => "key file",
        "leases" => "lease",
        "packs" => "pack",
        "points" => "point",
        "receipts" => "receipt",
        "sessions" => "session mark",
        "tombstones" => "tombstone",
        other => other,
    }
}

impl Problem {
    fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "problem: {}: {}", plain(&self.object), plain(&self.what))?;
        if !self.points_hurt.is_empty() {
            writeln!(out, "  hurts {}", plain(&self.points_hurt.join(", ")))?;
        }
        for path in self.paths_hurt.iter().take(PATHS_SHOWN) {
            writeln!(out, "    {}", plain(path))?;
        }
        match self.paths_hurt.len().saturating_sub(PATHS_SHOWN) {
            0 => Ok(()),
            more => writeln!(out, "    and {} more", count(more as u64)),
        }
    }
}

/// `muster repair index`.
#[derive(Clone, Debug, Serialize)]
pub struct RepairIndex {
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// Whether the index said already what the packs say, so that nothing had to be written.
    pub was_whole: bool,
    /// Packs whose directory was read.
    pub packs_read: u64,
    /// Packs whose directory could not be read.
    pub packs_unread: u64,
    /// Chunks found that no index knew.
    pub chunks_found: u64,
    /// Index entries dropped because their pack is gone.
    pub chunks_dropped: u64,
    /// Index objects written.
    pub index_objects: u64,
    /// Packs that could not be read.
    pub problems: Vec<Problem>,
    /// From the first to the last step.
    pub duration_secs: f64,
}

impl Outcome for RepairIndex {
    fn name(&self) -> &'static str {
        "repair-index"
    }

    fn exit(&self) -> Exit {
        if self.problems.is_empty() { Exit::Done } else { Exit::Partial }
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        self.problems.iter().try_for_each(|problem| problem.render(out))?;
        let packs = counted(self.packs_read + self.packs_unread, "pack");
        let packs = match self.packs_unread {
            0 => packs,
            unread => format!("{packs} ({} could not be read)", count(unread)),
        };
        if self.was_whole {
            return writeln!(
                out,
                "{}: it says of {packs} what they say themselves; nothing to write, in {}",
                if self.packs_unread == 0 {
                    "the index is whole"
                } else {
                    "the index is as whole as it can be"
                },
                duration(self.duration_secs)
            );
        }
        writeln!(
            out,
            "{} {} of {packs}: {} found, {} dropped, in {}",
            if self.dry_run { "would write" } else { "wrote" },
            counted(self.index_objects, "index object"),
            counted(self.chunks_found, "chunk"),
            count(self.chunks_dropped),
            duration(self.duration_secs)
        )
    }
}
