//! One look at a repository: sessions, marks, packs, points, and what these need.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use crate::model::{Error, ErrorKind, ObjectName, PackId, Result, Time};
use crate::repo::format::{Point, Times};
use crate::repo::index::{Index, SyncReport};
use crate::repo::layout::{self, PackAt};
use crate::repo::live::{Census, Leaving, PackUse, Trusts};
use crate::repo::points::{PointList, StoredPoint};
use crate::repo::reader::Reader;
use crate::repo::repository::Repository;
use crate::repo::session::{Condemnation, Mark, SessionSeen};
use crate::report::outcome::Prune;

use super::super::session::Session;
use super::plan::{Facts, Plan, Settings, Tally, plan};
use super::{Fate, PruneRequest, list_warnings, refuse_unsafe_list};

/// What was seen.
pub(super) struct View {
    /// The store's time before anything was read.
    pub began: Time,
    pub times: Times,
    pub oldest_session: Time,
    pub sessions: Vec<SessionSeen>,
    pub marks: Vec<Mark>,
    pub condemnation: Condemnation,
    pub packs: HashMap<PackId, PackAt>,
    pub points: PointList,
    pub index: Index,
    pub synced: SyncReport,
    /// The store's times of index objects.
    pub index_times: HashMap<ObjectName, Time>,
    pub uses: Vec<PackUse>,
    uses_lately: Vec<PackUse>,
    pub own: HashSet<PackId>,
    pub warnings: Vec<String>,
}

impl View {
    /// Looks. The order matters: sessions first, and the index after the points, so that it knows what these need
    /// (docs/FORMAT.md section 9.8).
    pub fn take(
        repo: &Repository,
        request: &PruneRequest<'_>,
        session: &Session<'_>,
        leaving: &Leaving,
    ) -> Result<Self> {
        let times = repo.trusted().config.times;
        let began = session.renew()?;
        let sessions = repo.sessions(began)?;
        let oldest_session = oldest(&sessions, session, began, times);
        let marks = repo.marks()?;
        let condemnation = Condemnation::of(&marks, repo.spared_before(began));
        let points = repo.points()?;
        refuse_newer_config(repo)?;
        refuse_unsafe_list(&points, request.accept_missing_points)?;
        request.progress.stage("read the index", None, None);
        let index_times: HashMap<ObjectName, Time> =
            repo.list_all(layout::INDEX)?.into_iter().map(|meta| (meta.name, meta.stored_at)).collect();
        let (index, synced) = Index::sync(repo)?;
        let packs = repo.list_packs_at()?;
        let (uses, uses_lately) = {
            let removed_since = began.plus_secs(-i64::from(times.grace_secs));
            let census = Census::new(&index, &packs, &condemnation, leaving)?;
            let count = Count { repo, request, census: census.with_compactable(request.compact) };
            let reader = Reader::new(repo, &index, (request.memory_bytes / 8) as usize).until(request.cancel);
            let (void, good): (Vec<&StoredPoint>, Vec<_>) = points.points.iter().partition(|p| p.is_void);
            request.progress.stage("count what points need", Some(points.points.len() as u64), None);
            // A list may not show yet what the newest points rest on.
            let is_fresh = |p: &&StoredPoint| p.stored_at.plus_secs(i64::from(times.margin_secs)) >= began;
            let newest = good.iter().any(is_fresh);
            let counted =
                count.all(&good, &|point| count.take(&reader, point)).and_then(|()| count.census.settle());
            counted.map_err(|error| if newest { may_be_late(error, times) } else { error })?;
            // A void point may be one that was lost and put back. What is there of it stays until it is removed.
            count.census.forgive_missing();
            count.all(&void, &|point| count.take_lately(&reader, point))?;
            count.census.settle()?;
            let uses = count.census.uses()?;
            // A point that is on its way out may still be what spared a pack a moment ago.
            let lately = |p: &&StoredPoint| {
                points.tombstoned_at.get(&p.point.id).is_some_and(|at| *at > removed_since)
            };
            let lately: Vec<&StoredPoint> = points.removed.iter().filter(lately).collect();
            count.all(&lately, &|point| count.take_lately(&reader, point))?;
            count.census.settle()?;
            let uses_lately = if lately.is_empty() { uses.clone() } else { count.census.uses()? };
            (uses, uses_lately)
        };
        let own = own_packs(repo, &index)?;
        let mut warnings = list_warnings(&points);
        warnings.extend(synced.refused.iter().map(|(_, e)| format!("{e}; run `muster check`")));
        Ok(Self {
            began,
            times,
            oldest_session,
            sessions,
            marks,
            condemnation,
            packs,
            points,
            index,
            synced,
            index_times,
            uses,
            uses_lately,
            own,
            warnings,
        })
    }

    /// What is to be done.
    pub fn plan(&self, settings: &Settings) -> Plan {
        plan(
            &Facts {
                now: self.began,
                oldest_session: self.oldest_session,
                times: self.times,
                uses: &self.uses,
                uses_lately: &self.uses_lately,
                marks: &self.condemnation,
                own: &self.own,
            },
            settings,
        )
    }

    /// Whether a thing was stored so long ago that every list shows it.
    pub fn is_settled(&self, stored_at: Time) -> bool {
        stored_at.plus_secs(i64::from(self.times.margin_secs)) < self.oldest_session
    }

    /// Packs of one fate.
    pub fn of<'v>(&'v self, plan: &'v Plan, fate: Fate) -> impl Iterator<Item = &'v PackUse> {
        self.uses.iter().zip(&plan.fates).filter(move |(_, f)| **f == fate).map(|(used, _)| used)
    }

    /// Packs that would be deleted, and that the store would keep all the same: with the reason.
    pub fn locked<'v>(
        &'v self,
        repo: &Repository,
        request: &PruneRequest<'_>,
        plan: &'v Plan,
    ) -> Result<Vec<(&'v PackUse, String)>> {
        let mut locked = Vec::new();
        for used in self.of(plan, Fate::Delete) {
            request.cancel.check()?;
            let name = layout::pack(used.at.kind, &used.id);
            if let Some(why) = repo.store().lock(&name)? {
                locked.push((used, format!("{name}: {why}")));
            }
        }
        Ok(locked)
    }

    /// What the plan comes to.
    pub fn tell(&self, plan: &Plan, outcome: &mut Prune) {
        let tally = Tally::of(&self.uses, plan);
        outcome.damaged += self.synced.damaged().count() as u64;
        outcome.packs = self.uses.len() as u64;
        outcome.points = self.points.points.iter().filter(|p| !p.is_void).count() as u64;
        outcome.bytes.live = tally.live;
        outcome.bytes.pinned = tally.pinned;
        outcome.bytes.unused = tally.unused;
        outcome.bytes.repacked = tally.repacked;
        outcome.bytes.condemned = tally.condemned;
        outcome.bytes.session = tally.session;
        outcome.bytes.grace = tally.grace;
        outcome.bytes.deleted = tally.deleted;
        outcome.bytes.total = tally.total();
        let count = |fate| plan.fates.iter().filter(|f| **f == fate).count() as u64;
        outcome.packs_condemned = count(Fate::Condemn);
        outcome.packs_spared = count(Fate::Spare);
        outcome.packs_deleted = count(Fate::Delete);
        outcome.packs_waiting = count(Fate::Grace) + count(Fate::HeldBySession) + count(Fate::Young);
        if outcome.dry_run {
            outcome.packs_repacked = count(Fate::Repack);
            outcome.bytes_moved = self.of(plan, Fate::Repack).map(|used| used.bytes_live).sum();
        }
    }
}

/// What one of the newest points needs may be stored and not listed yet.
fn may_be_late(error: Error, times: Times) -> Error {
    if !error.is_about_content() {
        return error;
    }
    let why = format!("a backup ended while this looked, and what it stored is not all listed yet ({error})");
    Error::new(ErrorKind::Interrupted, "count what points need", why).hint(format!(
        "run it again, {} later at the latest; if it says the same then, run `muster check`",
        span(times.margin_secs)
    ))
}

fn span(secs: u32) -> String {
    crate::report::human::counted(u64::from(secs.div_ceil(60)), "minute")
}

/// Whoever was admitted after this run began would be a stranger to it, and so would what that host stores.
pub(super) fn refuse_newer_config(repo: &Repository) -> Result<()> {
    let (now, then) = (repo.trusted_now()?.config.number, repo.trusted().config.number);
    if now <= then {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Interrupted,
        "prune",
        format!("the repository's configuration changed meanwhile, from number {then} to {now}"),
    )
    .hint("run it again: what is done is done"))
}

/// Before what everything is old to everybody at work. A session that was put a moment ago may not be
/// listed yet, so it is never later than a margin ago.
fn oldest(sessions: &[SessionSeen], own: &Session<'_>, now: Time, times: Times) -> Time {
    let others = sessions.iter().filter(|s| s.id != own.id() && s.is_alive(now)).map(|s| s.began);
    let unseen = now.plus_secs(-i64::from(times.margin_secs));
    others.chain([unseen]).min().unwrap_or(unseen)
}

/// A count under way.
struct Count<'a> {
    repo: &'a Repository,
    request: &'a PruneRequest<'a>,
    census: Census<'a>,
}

impl Count<'_> {
    /// Counts some points at a time. The first failure ends it.
    fn all(&self, points: &[&StoredPoint], count: &(dyn Fn(&Point) -> Result<()> + Sync)) -> Result<()> {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(stored) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                // The others have nothing left to take, after a failure either.
                count(&stored.point).inspect_err(|_| next.store(points.len(), Ordering::Relaxed))?;
            }
            Ok(())
        };
        let threads = self.request.threads.clamp(1, points.len().max(1));
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let of_thread = |thread: ScopedJoinHandle<'_, Result<()>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            others.into_iter().map(of_thread).fold(own, |first, next| first.and(next))
        })
    }

    fn take(&self, reader: &Reader<'_>, point: &Point) -> Result<()> {
        self.request.cancel.check()?;
        self.census.take_point(reader, point, &self.trusts(point))?;
        self.request.progress.add(1, 0);
        Ok(())
    }

    /// Of a point that was removed what is still there counts; the rest may be gone rightly.
    fn take_lately(&self, reader: &Reader<'_>, point: &Point) -> Result<()> {
        match self.take(reader, point) {
            Err(error) if error.is_about_content() => Ok(()),
            other => other,
        }
    }

    fn trusts(&self, point: &Point) -> Trusts {
        let writer = self.repo.trusted().writer(&point.writer);
        let mut shared = writer.map(|w| w.shares_with.clone()).unwrap_or_default();
        shared.sort();
        Trusts { own: point.writer, shared }
    }
}

/// Packs that this host's own index objects name.
fn own_packs(repo: &Repository, index: &Index) -> Result<HashSet<PackId>> {
    let own = repo.writer()?.sign.party();
    let segments = index.segments();
    let of_own = segments.iter().filter(|segment| segment.owner() == Some(own));
    Ok(of_own.flat_map(|segment| segment.packs().iter().map(|pack| pack.id).collect::<Vec<_>>()).collect())
}
