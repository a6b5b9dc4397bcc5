//! What this host has seen of a repository, so that one that was rolled back is noticed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Error, Result};

/// The highest numbers seen. Kept in the cache folder; losing it loses only this memory,
/// and `lowest_config` in `muster.toml` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Highest config number.
    pub config: u64,
    /// Highest sequence number by `<writer> <job>`.
    pub points: BTreeMap<String, u64>,
}

fn path(cache_dir: &Path) -> PathBuf {
    cache_dir.join("seen.json")
}

impl Seen {
    /// What was kept; nothing where there is no file, or none that can be read.
    pub fn load(cache_dir: &Path) -> Self {
        let text = std::fs::read_to_string(path(cache_dir)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Keeps it.
    pub fn save(&self, cache_dir: &Path) -> Result<()> {
        let path = path(cache_dir);
        let failed = |e: std::io::Error| Error::io("remember what was seen", path.display().to_string(), e);
        let text =
            serde_json::to_vec(self).map_err(|e| Error::internal("remember what was seen", e.to_string()))?;
        let file = tempfile::NamedTempFile::new_in(cache_dir).map_err(failed)?;
        std::fs::write(file.path(), text).map_err(failed)?;
        file.persist(&path).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// Takes in the highest numbers that are there now, by `<writer> <job>`; says in words what
    /// was there before and is not now.
    pub fn take_in(&mut self, highest: BTreeMap<String, u64>) -> Vec<String> {
        let mut missing = Vec::new();
        for (row, seq) in &self.points {
            let now = highest.get(row).copied().unwrap_or(0);
            if now < *seq {
                let (writer, job) = row.split_once(' ').unwrap_or((row, ""));
                missing.push(format!(
                    "this host has seen point number {seq} of job {job} by writer {writer}, and the newest there now is number {now}: the repository was rolled back, or points were removed without a trace"
                ));
            }
        }
        for (row, seq) in highest {
            let known = self.points.entry(row).or_default();
            *known = seq.max(*known);
        }
        missing
    }
}
