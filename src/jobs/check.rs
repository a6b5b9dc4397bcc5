//! Is the repository whole? Structure first; with `--read-data` every stored byte too. Damage is
//! named down to the points and paths it hurts; a store that cannot be reached is an error of the
//! check and never damage.

mod damage;
mod data;
mod structure;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Error, Result};
use crate::ports::{Cancel, Clock, Entropy};
use crate::repo::keys::Identities;
use crate::repo::points::PointList;
use crate::repo::repository::Repository;
use crate::report::Progress;
use crate::report::human::{all_of, count, counted};
use crate::report::outcome::{Check, DataCheck, Problem};

use super::after_interrupt;
use data::DataRead;

/// Which packs are read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSelection {
    /// None: structure only.
    None,
    /// All.
    All,
    /// That many hundredths of a percent of the packs, at random.
    BasisPoints(u32),
    /// Part `part` of `of`, so that `of` runs read everything.
    Part {
        /// From 1.
        part: u32,
        /// How many parts.
        of: u32,
    },
}

/// A check, as asked for.
pub struct CheckRequest<'a> {
    /// Which packs are read whole.
    pub data: DataSelection,
    /// Threads that read packs.
    pub threads: usize,
    /// Bytes of memory to stay near.
    pub memory_bytes: u64,
    /// Identities given for this command; they prove their own key files.
    pub identities: &'a Identities,
    /// Told of progress.
    pub progress: &'a Progress,
    /// Asks to stop.
    pub cancel: &'a Cancel,
    /// Chooses packs.
    pub entropy: &'a dyn Entropy,
    /// Measures how long it takes.
    pub clock: &'a dyn Clock,
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    objects: BTreeMap<String, u64>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    bytes_read: AtomicU64,
}

impl Findings {
    fn problem(&mut self, object: impl Into<String>, what: impl Into<String>) {
        let (object, what) = (object.into(), what.into());
        self.problems.push(Problem { object, what, points_hurt: Vec::new(), paths_hurt: Vec::new() });
    }

    fn warn(&mut self, what: impl Into<String>) {
        self.warnings.push(what.into());
    }

    fn count(&mut self, folder: &str, n: u64) {
        if n > 0 {
            *self.objects.entry(folder.trim_end_matches('/').to_owned()).or_default() += n;
        }
    }

    fn read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// An error about content as a value, anything else as an error.
pub(super) fn finding<T>(result: Result<T>) -> Result<std::result::Result<T, Error>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.is_about_content() => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

/// What is wrong, for a problem's text: the reason and the remedy.
pub(super) fn reason(error: &Error) -> String {
    match error.remedy() {
        Some(remedy) => format!("{} ({remedy})", error.why()),
        None => error.why().to_owned(),
    }
}

/// Checks a repository, whose configuration was verified when it was opened.
pub fn check(repo: &Repository, request: &CheckRequest<'_>) -> Result<Check> {
    check_all(repo, request).map_err(|e| after_interrupt(e, "run it again: a check begins from the start"))
}

fn check_all(repo: &Repository, request: &CheckRequest<'_>) -> Result<Check> {
    let began = request.clock.now();
    let mut found = Findings::default();
    request.progress.stage("check keys and points", None, None);
    structure::config(repo, &mut found)?;
    structure::keys(repo, request, &mut found)?;
    let points = structure::points(repo, &mut found)?;
    structure::small_objects(repo, request, points.is_copy, &mut found)?;
    request.progress.stage("check the index", None, None);
    let scratch = tempfile::Builder::new()
        .prefix("check-")
        .tempdir_in(repo.cache_dir())
        .map_err(|e| Error::io("make a folder for the check", repo.cache_dir().display().to_string(), e))?;
    let (index, refused) = structure::index(repo, scratch.path(), &mut found)?;
    // The marks are read before the packs are listed: what is deleted from here on was condemned long ago.
    let given_up = structure::given_up(repo, points.is_copy)?;
    let mut damage = structure::packs(repo, &index, given_up, &mut found)?;
    let read = data::read(repo, &index, &mut damage, &mut found, request)?;
    walk::points(repo, &index, &points, &mut damage, &mut found, request)?;
    damage.report(&refused, &mut found);
    Ok(assemble(repo, request, &points, found, &read, request.clock.now().secs_since(began)))
}

fn assemble(
    repo: &Repository,
    request: &CheckRequest<'_>,
    points: &PointList,
    mut found: Findings,
    read: &DataRead,
    duration_secs: f64,
) -> Check {
    found.problems.sort_by(|a, b| a.object.cmp(&b.object));
    let content_proven = request.data != DataSelection::None && read.unproven == 0 && read.packs > 0;
    Check {
        verdict: verdict(repo, request, points, &found, read),
        data: describe(request.data),
        bytes_read: found.bytes_read.load(Ordering::Relaxed),
        content_proven: content_proven && found.problems.is_empty(),
        objects: found.objects,
        problems: found.problems,
        warnings: found.warnings,
        duration_secs,
    }
}

fn describe(data: DataSelection) -> DataCheck {
    match data {
        DataSelection::None => DataCheck::None,
        DataSelection::All => DataCheck::All,
        DataSelection::BasisPoints(points) => DataCheck::Subset(percent(points)),
        DataSelection::Part { part, of } => DataCheck::Subset(format!("{part}/{of}")),
    }
}

fn percent(basis_points: u32) -> String {
    let (whole, rest) = (basis_points / 100, basis_points % 100);
    match rest {
        0 => format!("{whole}%"),
        _ => format!("{whole}.{}%", format!("{rest:02}").trim_end_matches('0')),
    }
}

fn verdict(
    repo: &Repository,
    request: &CheckRequest<'_>,
    points: &PointList,
    found: &Findings,
    read: &DataRead,
) -> String {
    let good = points.points.iter().filter(|p| !p.is_void).count() as u64;
    if !found.problems.is_empty() {
        return format!("{}: {}.", counted(found.problems.len() as u64, "problem"), how_hurt(found, points));
    }
    let structure = match good {
        0 => "there is no recovery point here (`muster backup` makes one), and the structure is whole"
            .to_owned(),
        _ => format!(
            "the structure is whole: {} signed, and every chunk that they need lies in a pack that is there",
            counted(good, "recovery point")
        ),
    };
    let keys = if repo.can_open_data() && !request.identities.is_empty() {
        ""
    } else {
        " The recovery kit's key files can be proven only with the kit: --identity file:KIT."
    };
    let bytes = match (request.data, read.unproven) {
        (DataSelection::None, _) => "stored bytes were not read (--read-data does)".to_owned(),
        (data, _) if read.packs == 0 => format!("{} read, so no content was looked at", scope(data, read)),
        (data, 0) => format!("{} read, every chunk opened and proven", scope(data, read)),
        (data, unproven) => format!(
            "{} read: sealed bytes intact, content not proven ({} could not be opened with the keys at hand)",
            scope(data, read),
            counted(unproven, "blob")
        ),
    };
    format!("{structure}; {bytes}.{keys}")
}

fn scope(data: DataSelection, read: &DataRead) -> String {
    match data {
        DataSelection::All => all_of(read.packs, "pack"),
        _ => format!("{} of {}", counted(read.packs, "pack"), count(read.packs_there)),
    }
}

fn how_hurt(found: &Findings, points: &PointList) -> String {
    let good: BTreeSet<String> =
        points.points.iter().filter(|p| !p.is_void).map(|p| p.point.id.to_string()).collect();
    let hurt: BTreeSet<&String> = found.problems.iter().flat_map(|p| &p.points_hurt).collect();
    let is_good = |id: &&&String| good.contains(**id);
    match (hurt.len() as u64, good.len() as u64) {
        (0, 1) => "as far as was looked, the one good recovery point is not hurt".to_owned(),
        (0, good) => {
            format!("as far as was looked, none of {} is hurt", counted(good, "good recovery point"))
        }
        (n, good) => {
            // A point that cannot even be read is hurt, and not among the good.
            let there = good + hurt.iter().filter(|id| !is_good(id)).count() as u64;
            format!(
                "{} of {} cannot be restored whole, see above",
                count(n),
                counted(there, "recovery point")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    #[test]
    fn shares_are_written_as_people_do() {
        for (points, text) in [(500, "5%"), (50, "0.5%"), (1, "0.01%"), (10_000, "100%"), (1_250, "12.5%")] {
            assert_eq!(percent(points), text);
        }
    }

    #[test]
    fn only_what_is_stored_counts_as_a_finding() {
        for kind in [ErrorKind::Damaged, ErrorKind::Untrusted, ErrorKind::NotFound] {
            assert!(Error::new(kind, "x", "y").is_about_content());
            assert!(!Error::new(kind, "x", "y").retryable().is_about_content());
        }
        for kind in [ErrorKind::Store, ErrorKind::Io, ErrorKind::Interrupted, ErrorKind::Internal] {
            assert!(!Error::new(kind, "x", "y").is_about_content());
        }
    }
}
