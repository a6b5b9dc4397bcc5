use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Human, Outcome};
use crate::report::human::plain;
use crate::report::stamp::Stamp;

/// `muster repair config`.
#[derive(Clone, Debug, Serialize)]
pub struct RepairConfig {
    /// Whether nothing was to be removed.
    pub dry_run: bool,
    /// Whether there was nothing to repair.
    pub was_whole: bool,
    /// What is wrong with the chain, or that nothing is.
    pub why: String,
    /// The object that was removed.
    pub removed: Option<String>,
    /// Objects of which one must go.
    pub candidates: Vec<ConfigInTheWay>,
}

/// An object without which the rest is a chain.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigInTheWay {
    /// Its name.
    pub name: String,
    /// Its number, where the root signed it.
    pub number: Option<u64>,
    /// When it was made.
    pub made: Option<Stamp>,
    /// What it changes, in words.
    pub changes: Vec<String>,
}

impl Outcome for RepairConfig {
    fn name(&self) -> &'static str {
        "repair-config"
    }

    fn exit(&self) -> Exit {
        let is_mended = self.was_whole || (self.removed.is_some() && !self.dry_run);
        if is_mended { Exit::Done } else { Exit::Partial }
    }

    fn render(&self, out: &mut dyn Write, human: &Human) -> io::Result<()> {
        if let Some(removed) = &self.removed {
            let verb = if self.dry_run { "would remove" } else { "removed" };
            return writeln!(out, "{verb} {}; the rest stands in one chain", plain(removed));
        }
        writeln!(out, "{}", plain(&self.why))?;
        for object in &self.candidates {
            let made = object.made.map_or_else(String::new, |made| format!(", made {}", human.time(made.0)));
            writeln!(out, "  {}{made}", plain(&object.name))?;
            object.changes.iter().try_for_each(|change| writeln!(out, "    {}", plain(change)))?;
        }
        if self.candidates.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "one of them must go: find out whose command was told that it succeeded, and remove the other with --remove NAME"
        )
    }
}
