//! What is damaged in the packs, and what that hurts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::model::{ObjectName, PackId};
use crate::repo::index::Location;
use crate::repo::layout::{self, PackKind};
use crate::report::human::{count, counted};
use crate::report::outcome::Problem;

use super::Findings;

/// Most hurt paths that are kept of one problem.
pub(super) const PATHS_MAX: usize = 1_000;
/// Most findings that are told of one pack.
const NOTES_MAX: usize = 10;

/// Why something cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Something in this pack, or all of it.
    Pack(PackId),
    /// No index object knows the chunk.
    Index,
}

/// What is wrong with one pack.
struct Noted {
    kind: PackKind,
    notes: Vec<String>,
    more: u64,
}

/// What one cause hurts.
#[derive(Default)]
struct Hurt {
    points: BTreeSet<String>,
    paths: Vec<String>,
    more: u64,
}

/// The packs that are there, what is wrong in them, and what that hurts.
pub(super) struct Damage {
    /// Packs in the store.
    pub(super) sizes: HashMap<PackId, (PackKind, u64)>,
    /// Packs that marks condemn: they may be gone, unless a point needs them.
    pub(super) given_up: HashSet<PackId>,
    /// Those of them that the index names and that are gone.
    pub(super) gone: HashMap<PackId, PackKind>,
    bad_blobs: HashSet<(PackId, u32)>,
    packs: BTreeMap<PackId, Noted>,
    hurt: BTreeMap<Cause, Hurt>,
    /// Packs in the store that no index object names.
    pub(super) unknown: usize,
}

impl Damage {
    pub(super) fn new(sizes: HashMap<PackId, (PackKind, u64)>, given_up: HashSet<PackId>) -> Self {
        Self {
            sizes,
            given_up,
            gone: HashMap::new(),
            bad_blobs: HashSet::new(),
            packs: BTreeMap::new(),
            hurt: BTreeMap::new(),
            unknown: 0,
        }
    }

    /// Whether a place lies inside a pack that is there, in a blob that is not known to be bad.
    pub(super) fn is_whole(&self, at: &Location) -> bool {
        let end = u64::from(at.offset) + u64::from(at.sealed_len);
        self.sizes.get(&at.pack).is_some_and(|(kind, size)| *kind == at.kind && end <= *size)
            && !self.bad_blobs.contains(&(at.pack, at.offset))
    }

    /// Notes what is wrong with a pack.
    pub(super) fn note(&mut self, pack: PackId, kind: PackKind, what: impl Into<String>) {
        let noted = self.packs.entry(pack).or_insert_with(|| Noted { kind, notes: Vec::new(), more: 0 });
        let what = what.into();
        if noted.notes.len() >= NOTES_MAX {
            noted.more += 1;
        } else if !noted.notes.contains(&what) {
            noted.notes.push(what);
        }
    }

    /// A blob that cannot be used.
    pub(super) fn bad_blob(&mut self, pack: PackId, offset: u32) {
        self.bad_blobs.insert((pack, offset));
    }

    /// A point loses something because of `cause`.
    pub(super) fn hurts(&mut self, cause: Cause, point: &str, path: Option<String>) {
        let hurt = self.hurt.entry(cause).or_default();
        if !hurt.points.contains(point) {
            hurt.points.insert(point.to_owned());
        }
        match path {
            Some(path) if hurt.paths.len() < PATHS_MAX => hurt.paths.push(path),
            Some(_) => hurt.more += 1,
            None => {}
        }
    }

    /// So many more paths than could be kept.
    pub(super) fn hurts_more(&mut self, cause: Cause, paths: u64) {
        self.hurt.entry(cause).or_default().more += paths;
    }

    /// Turns everything into problems. `refused` are the index objects that could not be used.
    pub(super) fn report(mut self, refused: &[ObjectName], found: &mut Findings) {
        for (id, noted) in std::mem::take(&mut self.packs) {
            let hurt = self.hurt.remove(&Cause::Pack(id)).unwrap_or_default();
            found.problems.push(hurt.problem(layout::pack(noted.kind, &id).to_string(), noted.text()));
        }
        for (cause, hurt) in std::mem::take(&mut self.hurt) {
            match cause {
                // Whatever hurts a point was noted, but for packs that nobody was to need any more; the rest is
                // for a defect of our own.
                Cause::Pack(id) => {
                    let (object, what) = match self.gone.get(&id) {
                        Some(kind) => (
                            layout::pack(*kind, &id).to_string(),
                            "it was marked as needed by nothing and is gone, and a point needs it",
                        ),
                        None => (id.to_string(), "it is damaged"),
                    };
                    found.problems.push(hurt.problem(object, what.to_owned()));
                }
                Cause::Index => report_unindexed(hurt, self.unknown, refused, found),
            }
        }
    }
}

/// Chunks that no index object knows: where just one was refused, that one is to blame.
fn report_unindexed(hurt: Hurt, unknown: usize, refused: &[ObjectName], found: &mut Findings) {
    let blamed = match refused {
        [only] => found.problems.iter_mut().find(|p| p.object == only.as_str()),
        _ => None,
    };
    match blamed {
        Some(problem) => {
            let whole = hurt.problem(String::new(), String::new());
            problem.points_hurt = whole.points_hurt;
            problem.paths_hurt = whole.paths_hurt;
        }
        None => {
            let what = match unknown + refused.len() {
                0 => {
                    "no index object knows some of the chunks that points need, and every pack that is there is in the index: \
                     the packs that held them are gone for good, unless a copy of the repository has them. `muster repair index` \
                     cannot bring them back; a backup with --force-read stores anew what the sources still have, and what \
                     only older points had stays lost"
                }
                _ => {
                    "no index object knows some of the chunks that points need: an index object is gone or damaged, \
                     or the packs are gone (run `muster repair index`, then `muster check`)"
                }
            };
            found.problems.push(hurt.problem(layout::INDEX.to_owned(), what.to_owned()));
        }
    }
}

impl Noted {
    fn text(&self) -> String {
        let mut text = self.notes.join("; ");
        if self.more > 0 {
            text.push_str(&format!("; and {} more", counted(self.more, "finding")));
        }
        text
    }
}

impl Hurt {
    fn problem(self, object: String, what: String) -> Problem {
        let mut paths_hurt = self.paths;
        if self.more > 0 {
            paths_hurt.push(format!("and {} more", count(self.more)));
        }
        Problem { object, what, points_hurt: self.points.into_iter().collect(), paths_hurt }
    }
}
