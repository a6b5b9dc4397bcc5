//! What this host has seen of a repository, so that one that was rolled back is noticed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Error, PartyId, Result};

/// The highest numbers seen. Kept in the cache folder; losing it loses only this memory,
/// and `lowest_config` in `muster.toml` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Highest config number.
    pub config: u64,
    /// Highest sequence number by `<writer> <job>`.
    pub points: BTreeMap<String, u64>,
    /// Highest sequence number that this host gave to a point of its own. A list may not show that point yet, so
    /// that it is missing from one says nothing.
    #[serde(default)]
    pub given: BTreeMap<String, u64>,
}

/// What a writer's points of one job are counted under.
pub fn row(writer: &PartyId, job: &str) -> String {
    format!("{writer} {job}")
}

fn path(cache_dir: &Path) -> PathBuf {
    cache_dir.join("seen.json")
}

/// Where a file that cannot be read is kept, for whoever wants to look at it.
fn damaged_path(cache_dir: &Path) -> PathBuf {
    cache_dir.join("seen.damaged")
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let shown = path.display().to_string();
    move |error| Error::io("remember what was seen", shown.clone(), error)
}

impl Seen {
    /// What was kept; nothing where there is no file. One that cannot be read is set aside, with a warning.
    pub fn load(cache_dir: &Path) -> Self {
        // Another run may be writing a good one just now: only who holds the lock sets a file aside.
        let read = read(cache_dir).or_else(|_| {
            let _lock = lock(cache_dir).map_err(|error| error.to_string())?;
            read_or_set_aside(cache_dir)
        });
        read.unwrap_or_else(|why: String| {
            tracing::warn!(%why, "what this host has seen of the repository cannot be read");
            Self::default()
        })
    }

    /// Takes in a config number and the highest number of each row. Nothing is ever lowered, also where
    /// other runs do the same at the same time.
    pub fn raise(cache_dir: &Path, config: u64, points: &BTreeMap<String, u64>) -> Result<()> {
        if !Self::load(cache_dir).take_in(config, points) {
            return Ok(());
        }
        let _lock = lock(cache_dir)?;
        let mut seen = read_or_set_aside(cache_dir).unwrap_or_default();
        if seen.take_in(config, points) { seen.save(cache_dir) } else { Ok(()) }
    }

    /// Remembers a number that was given to a point.
    pub fn gave(cache_dir: &Path, row: &str, seq: u64) -> Result<()> {
        let _lock = lock(cache_dir)?;
        let mut seen = read_or_set_aside(cache_dir).unwrap_or_default();
        let known = seen.given.entry(row.to_owned()).or_default();
        *known = seq.max(*known);
        seen.save(cache_dir)
    }

    /// Whether that told anything new.
    fn take_in(&mut self, config: u64, points: &BTreeMap<String, u64>) -> bool {
        let mut is_news = config > self.config;
        self.config = self.config.max(config);
        for (row, seq) in points {
            let known = self.points.entry(row.clone()).or_insert_with(|| {
                is_news = true;
                0
            });
            is_news |= seq > known;
            *known = (*known).max(*seq);
        }
        is_news
    }

    /// Puts it in the file's place: whole, and to stay there when the machine stops right after.
    fn save(&self, cache_dir: &Path) -> Result<()> {
        let path = path(cache_dir);
        let failed = failed(&path);
        let text =
            serde_json::to_vec(self).map_err(|e| Error::internal("remember what was seen", e.to_string()))?;
        let mut file = tempfile::NamedTempFile::new_in(cache_dir).map_err(&failed)?;
        file.write_all(&text).map_err(&failed)?;
        file.as_file().sync_all().map_err(&failed)?;
        file.persist(&path).map_err(|e| failed(e.error))?;
        File::open(cache_dir).and_then(|folder| folder.sync_all()).map_err(&failed)
    }

    /// Says in words what was seen and is above the highest numbers that are there now.
    pub fn vanished(&self, highest: &BTreeMap<String, u64>) -> Vec<String> {
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
        missing
    }
}

/// Held by one run at a time while it changes the file; given back when it is closed.
fn lock(cache_dir: &Path) -> Result<File> {
    let path = cache_dir.join("seen.lock");
    let failed = failed(&path);
    let file = File::options().create(true).append(true).open(&path).map_err(&failed)?;
    file.lock().map_err(&failed)?;
    Ok(file)
}

/// The file's content, or in words why it cannot be read.
fn read(cache_dir: &Path) -> Result<Seen, String> {
    let bytes = match std::fs::read(path(cache_dir)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Seen::default()),
        Err(error) => return Err(error.to_string()),
    };
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// A file that is there and says nothing is no file that is not there: a thief may have cut it, so it is named
/// and kept. Whoever calls this holds the lock.
fn read_or_set_aside(cache_dir: &Path) -> Result<Seen, String> {
    read(cache_dir).map_err(|why| {
        let (path, aside) = (path(cache_dir), damaged_path(cache_dir));
        match std::fs::rename(&path, &aside) {
            Ok(()) => format!(
                "{}: {why}; it is kept as {}, and this host begins anew: it would not notice now that the repository was rolled back to before today",
                path.display(),
                aside.display()
            ),
            Err(error) => format!("{}: {why}; nor can it be set aside: {error}", path.display()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(job: &str, seq: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([(format!("aa {job}"), seq)])
    }

    #[test]
    fn numbers_only_rise() {
        let dir = tempfile::tempdir().unwrap();
        Seen::raise(dir.path(), 3, &row("app", 7)).unwrap();
        Seen::raise(dir.path(), 2, &row("app", 6)).unwrap();
        let seen = Seen::load(dir.path());
        assert_eq!((seen.config, seen.points["aa app"]), (3, 7));
        assert_eq!(seen.vanished(&row("app", 7)), Vec::<String>::new());
        assert!(seen.vanished(&row("app", 6))[0].contains("number 7 of job app"));
    }

    #[test]
    fn runs_at_the_same_time_lose_nothing_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for run in 0..8 {
                let dir = dir.path();
                scope.spawn(move || {
                    for n in 1..=20 {
                        Seen::raise(dir, n, &row(&format!("own-{run}"), n)).unwrap();
                        Seen::raise(dir, 0, &row("shared", n * 8 + run)).unwrap();
                    }
                });
            }
        });
        let seen = Seen::load(dir.path());
        assert_eq!((seen.config, seen.points["aa shared"]), (20, 167));
        assert!((0..8).all(|run| seen.points[&format!("aa own-{run}")] == 20), "{seen:?}");
    }

    #[test]
    fn what_cannot_be_read_is_kept_aside_and_named() {
        for bad in ["", "{\"config\":", "{\"config\":\"x\",\"points\":{}}"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(path(dir.path()), bad).unwrap();
            assert_eq!(Seen::load(dir.path()), Seen::default());
            assert_eq!(std::fs::read_to_string(damaged_path(dir.path())).unwrap(), bad);
            Seen::raise(dir.path(), 4, &row("app", 1)).unwrap();
            assert_eq!(Seen::load(dir.path()).config, 4, "{bad:?}");
        }
        // The reason is told, and where the file is now.
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path()), "").unwrap();
        let why = read_or_set_aside(dir.path()).unwrap_err();
        assert!(why.contains("seen.json") && why.contains("seen.damaged"), "{why}");
    }
}
