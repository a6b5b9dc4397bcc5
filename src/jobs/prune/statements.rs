//! Which marks to write, and which are no longer needed: pure functions of one look.
//!
//! A mark is only ever put out of use by a newer one, and removed once every list shows the newer one.
//! So it does no harm if somebody who slept removes one long after he looked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::model::{ObjectName, PackId, PartyId, Time};
use crate::repo::format::{Condemned, SparseBlobs};
use crate::repo::layout::{BlobAt, PackAt};
use crate::repo::live::PackUse;
use crate::repo::session::{Condemnation, Mark, Verdict};

/// Most packs in one mark: it stays well below the size of a small object.
const PACKS_MAX: usize = 200_000;
/// Most sparse blobs that are named. More help little, and everybody keeps them in memory.
const SPARSE_MAX: usize = 500_000;

/// What all marks of one look have in common.
#[derive(Clone, Copy)]
pub(super) struct By {
    pub by: PartyId,
    pub oldest_session: Time,
    pub at: Time,
    pub put_before: Time,
}

impl By {
    fn mark(&self, reason: &str) -> Condemned {
        Condemned {
            packs: Vec::new(),
            by: self.by,
            oldest_session: self.oldest_session,
            at: self.at,
            reason: reason.to_owned(),
            put_before: self.put_before,
            spared: Vec::new(),
            gone: Vec::new(),
            sparse: None,
        }
    }

    /// Marks that condemn packs.
    pub fn condemned(&self, packs: impl Iterator<Item = PackId>) -> Vec<Condemned> {
        each(packs, |packs| Condemned { packs, ..self.mark("no point needs them") })
    }

    /// Marks that spare packs.
    pub fn spared(&self, packs: impl Iterator<Item = PackId>) -> Vec<Condemned> {
        each(packs, |spared| Condemned { spared, ..self.mark("a point needs them") })
    }

    /// Marks of packs that are gone.
    pub fn gone(&self, packs: impl Iterator<Item = PackId>) -> Vec<Condemned> {
        each(packs, |gone| Condemned { gone, ..self.mark("they were deleted") })
    }

    /// A mark that names the sparse blobs, where others are named now. One that was named and is wholly dead by
    /// now stays named while its pack is there: else its place could count again before the new one, for ever.
    pub fn sparse(&self, uses: &[PackUse], named: &HashSet<BlobAt>) -> Option<Condemned> {
        let mut known: HashMap<PackId, Vec<u32>> = HashMap::new();
        for (pack, offset) in named {
            known.entry(*pack).or_default().push(*offset);
        }
        let of_pack = |used: &PackUse| {
            let is_live = |at: &u32| used.live.binary_search_by_key(at, |(offset, _)| *offset).is_ok();
            let dead = known.get(&used.id).into_iter().flatten().copied().filter(|at| !is_live(at));
            let all: BTreeSet<u32> = used.sparse.iter().copied().chain(dead).collect();
            all.into_iter().map(|at| (used.id, at)).collect::<Vec<_>>()
        };
        let found: Vec<BlobAt> = uses.iter().flat_map(of_pack).take(SPARSE_MAX).collect();
        if found.len() == named.len() && found.iter().all(|blob| named.contains(blob)) {
            return None;
        }
        let mut by_pack: BTreeMap<PackId, Vec<u32>> = BTreeMap::new();
        for (pack, offset) in found {
            by_pack.entry(pack).or_default().push(offset);
        }
        let sparse = by_pack.into_iter().map(|(pack, offsets)| SparseBlobs { pack, offsets }).collect();
        Some(Condemned { sparse: Some(sparse), ..self.mark("mostly dead blobs") })
    }
}

fn each(packs: impl Iterator<Item = PackId>, make: impl Fn(Vec<PackId>) -> Condemned) -> Vec<Condemned> {
    let sorted: Vec<PackId> = packs.collect::<BTreeSet<_>>().into_iter().collect();
    sorted.chunks(PACKS_MAX).map(|part| make(part.to_vec())).collect()
}

/// Packs that are condemned and not there any more. `is_settled` tells what is old enough for every list.
pub(super) fn newly_gone<'a>(
    condemnation: &'a Condemnation,
    packs: &'a HashMap<PackId, PackAt>,
    is_settled: &'a dyn Fn(Time) -> bool,
) -> impl Iterator<Item = PackId> + 'a {
    condemnation.verdicts.iter().filter_map(move |(pack, verdict)| match verdict {
        Verdict::Condemned(since) if is_settled(*since) && !packs.contains_key(pack) => Some(*pack),
        _ => None,
    })
}

/// Marks that can be removed. `is_named` tells whether an index object still names a pack.
pub(super) fn needless(
    marks: &[Mark],
    packs: &HashMap<PackId, PackAt>,
    is_settled: &dyn Fn(Time) -> bool,
    is_named: &dyn Fn(&PackId) -> bool,
) -> Vec<ObjectName> {
    let mut newest: HashMap<PackId, (Time, &ObjectName)> = HashMap::new();
    let mut oldest: HashMap<PackId, (Time, &ObjectName)> = HashMap::new();
    let mut newest_sparse = None;
    // Of what was stored lately a list elsewhere may not know yet, so it puts nothing out of use.
    for mark in marks.iter().filter(|mark| mark.is_valid()) {
        let key = (mark.stored_at, &mark.name);
        for pack in mark.packs() {
            let first = oldest.entry(*pack).or_insert(key);
            *first = key.min(*first);
            if is_settled(mark.stored_at) {
                let last = newest.entry(*pack).or_insert(key);
                *last = key.max(*last);
            }
        }
        if mark.says.sparse.is_some() && is_settled(mark.stored_at) {
            newest_sparse = newest_sparse.max(Some(key));
        }
    }
    let is_needless = |mark: &&Mark| {
        let key = (mark.stored_at, &mark.name);
        let is_followed = |pack: &PackId| newest.get(pack).is_some_and(|last| *last > key);
        if !mark.is_valid() {
            // A past key's mark still tells writers what not to refer to, until somebody in good standing has
            // said what is to become of it.
            let is_heard =
                |pack: &PackId| mark.is_in_time() && packs.contains_key(pack) && !is_followed(pack);
            let mut condemned = mark.says.packs.iter().chain(&mark.says.gone);
            return is_settled(mark.stored_at) && !condemned.any(is_heard);
        }
        // Condemned packs stay condemned by an older mark of theirs; a list that shows that one alone errs on
        // the safe side.
        let is_last_word = |pack: &PackId| oldest.get(pack) == Some(&key) && is_settled(mark.stored_at);
        let says_nothing_of_sparse = match &mark.says.sparse {
            None => true,
            Some(list) => {
                newest_sparse.is_some_and(|last| last > key) || list.is_empty() && newest_sparse == Some(key)
            }
        };
        says_nothing_of_sparse
            && mark.says.packs.iter().all(is_followed)
            && mark.says.spared.iter().all(|pack| is_followed(pack) || is_last_word(pack))
            && mark.says.gone.iter().all(|pack| {
                is_followed(pack) || is_last_word(pack) && !packs.contains_key(pack) && !is_named(pack)
            })
    };
    marks.iter().filter(is_needless).map(|mark| mark.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::layout::PackKind;

    fn used(live: &[u32], sparse: &[u32]) -> PackUse {
        PackUse {
            id: PackId([1; 32]),
            at: PackAt { kind: PackKind::Data, size: 1000, stored_at: Time::new(0, 0) },
            blobs_live: live.len() as u64,
            bytes_live: 0,
            blobs_dead: 0,
            bytes_dead: 0,
            bytes_pinned: 0,
            live: live.iter().map(|at| (*at, 10)).collect(),
            sparse: sparse.to_vec(),
            compactable: Vec::new(),
            compactable_chunks: Vec::new(),
        }
    }

    /// The place that was named must not count again once its last chunk has been stored elsewhere.
    #[test]
    fn a_sparse_blob_stays_named_until_it_is_gone_or_well_used() {
        let at = Time::new(0, 0);
        let by = By { by: PartyId([2; 8]), oldest_session: at, at, put_before: at };
        let named = |offsets: &[u32]| offsets.iter().map(|at| (PackId([1; 32]), *at)).collect();
        let said = |uses: &[PackUse], before: &[u32]| {
            by.sparse(uses, &named(before)).map(|mark| match &mark.sparse.unwrap()[..] {
                [] => Vec::new(),
                [one] => one.offsets.clone(),
                _ => panic!("one pack"),
            })
        };
        assert_eq!(said(&[used(&[0, 50, 90], &[90, 50])], &[]), Some(vec![50, 90]));
        assert_eq!(said(&[used(&[0, 50, 90], &[50, 90])], &[50, 90]), None);
        assert_eq!(said(&[used(&[0, 90], &[90])], &[50, 90]), None, "50 is dead, and stays named");
        assert_eq!(said(&[used(&[0, 50, 90], &[90])], &[50, 90]), Some(vec![90]), "50 is used again");
        assert_eq!(said(&[], &[50]), Some(Vec::new()), "the pack is gone");
        assert_eq!(said(&[used(&[0], &[])], &[]), None);
    }
}
