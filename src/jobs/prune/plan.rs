//! What is to become of each pack: a pure function of what was counted, of the marks, and of the store's time.

use std::collections::HashSet;

use crate::model::{PackId, Time};
use crate::repo::format::Times;
use crate::repo::live::PackUse;
use crate::repo::session::{Condemnation, Verdict};

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Live bytes that may be moved at most; `None`: any number.
    pub max_repack_bytes: Option<u64>,
    /// A pack is repacked once this share of it is dead, in percent.
    pub repack_percent: u64,
    /// Whether packs may be deleted, or only marked.
    pub delete: bool,
}

/// What was found out, all after one look at the sessions.
pub struct Facts<'a> {
    /// The store's time, at the latest.
    pub now: Time,
    /// What was stored before this cannot be new to anybody who is at work.
    pub oldest_session: Time,
    /// The repository's times.
    pub times: Times,
    /// How packs are used by points, by id.
    pub uses: &'a [PackUse],
    /// The same if points removed within the grace period were still there, in the same order.
    pub uses_lately: &'a [PackUse],
    /// What the marks say.
    pub marks: &'a Condemnation,
    /// Packs of blobs that this host sealed.
    pub own: &'a HashSet<PackId>,
}

/// What becomes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It stays as it is.
    Stay,
    /// It is worth repacking, but it may be new to a backup that is running.
    StayWhileYoung,
    /// Its live blobs are moved to another one.
    Repack,
    /// No point needs it: it is marked.
    Condemn,
    /// No point needs it, but it may be new to a backup that is running.
    Young,
    /// Marked, and not long enough ago, or needed by a point that was removed lately.
    Grace,
    /// Marked long enough ago, but a backup that is running began before.
    HeldBySession,
    /// It is deleted.
    Delete,
    /// Marked, and needed after all.
    Spare,
}

/// The packs' fates, in the order of [`Facts::uses`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each pack.
    pub fates: Vec<Fate>,
}

/// Plans. Packs are repacked from the most wasteful on.
pub fn plan(facts: &Facts<'_>, settings: &Settings) -> Plan {
    let mut fates: Vec<Fate> = facts
        .uses
        .iter()
        .zip(facts.uses_lately)
        .map(|(used, lately)| fate(facts, settings, used, lately))
        .collect();
    let mut wanted: Vec<usize> = (0..fates.len()).filter(|n| fates[*n] == Fate::Repack).collect();
    wanted.sort_by_key(|n| {
        let used = &facts.uses[*n];
        (std::cmp::Reverse(used.bytes_dead * 1000 / used.at.size.max(1)), used.id)
    });
    let mut left = settings.max_repack_bytes.unwrap_or(u64::MAX);
    for n in wanted {
        match left.checked_sub(facts.uses[n].bytes_live) {
            Some(rest) => left = rest,
            None => fates[n] = Fate::Stay,
        }
    }
    Plan { fates }
}

fn fate(facts: &Facts<'_>, settings: &Settings, used: &PackUse, lately: &PackUse) -> Fate {
    let is_needed = used.blobs_live > 0;
    let is_young = used.at.stored_at >= facts.oldest_session;
    match facts.marks.verdicts.get(&used.id) {
        Some(Verdict::Condemned(_) | Verdict::Gone(_)) if is_needed => Fate::Spare,
        Some(Verdict::Condemned(since) | Verdict::Gone(since)) => {
            let margin = i64::from(facts.times.margin_secs);
            let grace = i64::from(facts.times.grace_secs);
            if facts.now < since.plus_secs(grace) || lately.blobs_live > 0 {
                Fate::Grace
            } else if since.plus_secs(margin) >= facts.oldest_session {
                Fate::HeldBySession
            } else if settings.delete {
                Fate::Delete
            } else {
                Fate::Grace
            }
        }
        // Nobody refers to it while a past key's mark is the last word on it.
        None | Some(Verdict::Spared) if is_needed && facts.marks.condemned_by_past.contains(&used.id) => {
            Fate::Spare
        }
        None | Some(Verdict::Spared) if !is_needed => {
            if is_young {
                Fate::Young
            } else {
                Fate::Condemn
            }
        }
        None | Some(Verdict::Spared) => {
            let is_wasteful = is_wasteful(used.bytes_dead, used.at.size, settings);
            match is_wasteful && facts.own.contains(&used.id) {
                true if is_young => Fate::StayWhileYoung,
                true => Fate::Repack,
                false => Fate::Stay,
            }
        }
    }
}

/// Whether so many dead bytes are reason to repack a pack of this size.
pub(super) fn is_wasteful(dead: u64, size: u64, settings: &Settings) -> bool {
    dead * 100 >= size * settings.repack_percent.max(1)
}

/// Stored bytes of packs by what is to become of them. Their sum is the size of all packs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Of chunks that points need, with the packs' directories.
    pub live: u64,
    /// Of chunks that no point needs, in one blob with some that are needed.
    pub pinned: u64,
    /// Of dead blobs in packs that stay.
    pub unused: u64,
    /// Of dead blobs in packs that are repacked.
    pub repacked: u64,
    /// Of packs that are marked now.
    pub condemned: u64,
    /// Of packs that a running backup may be about to use.
    pub session: u64,
    /// Of marked packs that wait.
    pub grace: u64,
    /// Of packs that are deleted.
    pub deleted: u64,
}

impl Tally {
    /// Of a plan.
    pub fn of(uses: &[PackUse], plan: &Plan) -> Self {
        let mut tally = Self::default();
        for (used, fate) in uses.iter().zip(&plan.fates) {
            let size = used.at.size;
            match fate {
                Fate::Stay | Fate::StayWhileYoung | Fate::Repack | Fate::Spare => {
                    // Two records of one place could count more than there is.
                    let dead = used.bytes_dead.min(size);
                    let pinned = used.bytes_pinned.min(size - dead);
                    tally.pinned += pinned;
                    tally.live += size - dead - pinned;
                    *match fate {
                        Fate::Repack => &mut tally.repacked,
                        Fate::StayWhileYoung => &mut tally.session,
                        _ => &mut tally.unused,
                    } += dead;
                }
                Fate::Condemn => tally.condemned += size,
                Fate::Young | Fate::HeldBySession => tally.session += size,
                Fate::Grace => tally.grace += size,
                Fate::Delete => tally.deleted += size,
            }
        }
        tally
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.live
            + self.pinned
            + self.unused
            + self.repacked
            + self.condemned
            + self.session
            + self.grace
            + self.deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::layout::{PackAt, PackKind};
    use proptest::prelude::*;

    const NOW: i64 = 1_000_000;

    fn used(id: u8, stored_at: i64, live: u64, dead: u64) -> PackUse {
        PackUse {
            id: PackId([id; 32]),
            at: PackAt { kind: PackKind::Data, size: live + dead + 10, stored_at: Time::new(stored_at, 0) },
            blobs_live: u64::from(live > 0),
            bytes_live: live,
            blobs_dead: u64::from(dead > 0),
            bytes_dead: dead,
            bytes_pinned: live / 3,
            live: Vec::new(),
            sparse: Vec::new(),
            compactable: Vec::new(),
            compactable_chunks: Vec::new(),
        }
    }

    fn one(used: &PackUse, lately: &PackUse, verdict: Option<Verdict>, oldest: i64) -> Fate {
        let marks = Condemnation {
            verdicts: verdict.map(|v| (used.id, v)).into_iter().collect(),
            ..Condemnation::default()
        };
        let own = HashSet::from([used.id]);
        let facts = Facts {
            now: Time::new(NOW, 0),
            oldest_session: Time::new(oldest, 0),
            times: Times::default(),
            uses: std::slice::from_ref(used),
            uses_lately: std::slice::from_ref(lately),
            marks: &marks,
            own: &own,
        };
        let settings = Settings { max_repack_bytes: None, repack_percent: 25, delete: true };
        plan(&facts, &settings).fates[0]
    }

    #[test]
    fn each_fate_has_its_reason() {
        let (live, dead, half) = (used(1, 0, 100, 0), used(1, 0, 0, 100), used(1, 0, 50, 50));
        let young = used(1, NOW - 50, 0, 100);
        let since = |secs: i64| Some(Verdict::Condemned(Time::new(NOW - secs, 0)));
        let (margin, grace) = (900, 86_400);
        let idle = NOW - margin;
        assert_eq!(one(&live, &live, None, idle), Fate::Stay);
        assert_eq!(one(&half, &half, None, idle), Fate::Repack);
        assert_eq!(one(&dead, &dead, None, idle), Fate::Condemn);
        assert_eq!(one(&young, &young, None, idle), Fate::Young);
        assert_eq!(one(&dead, &dead, None, -10), Fate::Young);
        assert_eq!(one(&dead, &dead, since(grace - 1), idle), Fate::Grace);
        assert_eq!(one(&dead, &live, since(grace * 2), idle), Fate::Grace);
        assert_eq!(one(&dead, &dead, since(grace), idle), Fate::Delete);
        assert_eq!(one(&dead, &dead, since(grace), NOW - grace + margin), Fate::HeldBySession);
        assert_eq!(one(&dead, &dead, since(grace), NOW - grace + margin + 1), Fate::Delete);
        assert_eq!(one(&live, &live, since(grace * 9), idle), Fate::Spare);
        assert_eq!(one(&dead, &dead, Some(Verdict::Spared), idle), Fate::Condemn);
    }

    proptest! {
        #[test]
        fn every_byte_is_counted_once_and_little_is_moved(
            packs in proptest::collection::vec((0..NOW, 0u64..1000, 0u64..1000, 0u8..4, 0..NOW), 0..40),
            oldest in 0..NOW, limit in 0u64..3000, foreign in 0usize..40,
        ) {
            let uses: Vec<PackUse> =
                packs.iter().zip(0u8..).map(|((at, live, dead, ..), id)| used(id, *at, *live, *dead)).collect();
            let marks = Condemnation {
                verdicts: packs.iter().zip(&uses).filter_map(|((.., kind, since), used)| match kind {
                    0 => Some((used.id, Verdict::Condemned(Time::new(*since, 0)))),
                    1 => Some((used.id, Verdict::Spared)),
                    _ => None,
                }).collect(),
                ..Condemnation::default()
            };
            let own: HashSet<PackId> = uses.iter().skip(foreign).map(|u| u.id).collect();
            let facts = Facts {
                now: Time::new(NOW, 0), oldest_session: Time::new(oldest, 0), times: Times::default(),
                uses: &uses, uses_lately: &uses, marks: &marks, own: &own,
            };
            let plan = plan(&facts, &Settings { max_repack_bytes: Some(limit), repack_percent: 20, delete: true });
            prop_assert_eq!(Tally::of(&uses, &plan).total(), uses.iter().map(|u| u.at.size).sum::<u64>());
            let moved: u64 = uses.iter().zip(&plan.fates).filter(|(_, f)| **f == Fate::Repack).map(|(u, _)| u.bytes_live).sum();
            prop_assert!(moved <= limit);
            for (used, fate) in uses.iter().zip(&plan.fates) {
                let needed = used.blobs_live > 0;
                prop_assert!(!needed || matches!(fate, Fate::Stay | Fate::StayWhileYoung | Fate::Repack | Fate::Spare));
                prop_assert!(*fate != Fate::Condemn || used.at.stored_at < facts.oldest_session);
                prop_assert!(*fate != Fate::Repack || own.contains(&used.id));
            }
        }
    }
}
