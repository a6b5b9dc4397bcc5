//! A prune that dies at any operation of its store loses nothing, and running it again finishes the work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster::jobs::prune::{PruneRequest, Settings, prune};
use muster::jobs::retention::{RetentionRequest, retention};
use muster::model::{Error, ErrorKind, ObjectName, Result};
use muster::policy::retention::Keep;
use muster::ports::{Cancel, Capabilities, Clock, ObjectMeta, Put, Store};
use muster::repo::index::Index;
use muster::repo::layout;
use muster::repo::repository::Repository;
use muster::report::outcome::Prune;
use muster::report::progress::{Progress, ProgressMode};
use muster::stores::Mem;
use muster::stores::wrap::{Fault, FaultPlan};
use muster::sys::OsEntropy;

use super::set::{Keys, Set, StoreClock, holds, run};

const MEMORY: u64 = 1 << 20;
/// Over the margin and a session's life.
const HOURS: i64 = 3 * 3600;
/// Over the grace period.
const A_DAY: i64 = 26 * 3600;

/// Lets time pass for a store: everything in it becomes so much older.
fn pass(mem: &Mem, secs: i64) {
    let mut times: Vec<_> = Vec::new();
    mem.list("", &mut |meta| {
        times.push((meta.name, meta.stored_at));
        Ok(())
    })
    .unwrap();
    for (name, at) in times {
        assert!(mem.set_stored_at(&name, at.plus_secs(-secs)));
    }
}

fn request<'a>(progress: &'a Progress, cancel: &'a Cancel, compact: bool) -> PruneRequest<'a> {
    PruneRequest {
        settings: Settings { max_repack_bytes: None, repack_percent: 25, delete: true },
        compact,
        accept_missing_points: false,
        dry_run: false,
        threads: 1,
        memory_bytes: MEMORY,
        clock: &StoreClock,
        entropy: &OsEntropy,
        progress,
        cancel,
    }
}

fn run_prune(repo: &Repository, compact: bool) -> Result<Prune> {
    let progress = Progress::new(ProgressMode::Quiet);
    prune(repo, &request(&progress, &Cancel::default(), compact))
}

struct Scene {
    keys: Keys,
    /// Two points of which the newer is to stay.
    base: Arc<Mem>,
    kept: Set,
    compact: bool,
}

impl Scene {
    /// Packs that are dead, and such as are partly so.
    fn unmarked(compact: bool) -> Self {
        let keys = Keys::new();
        let base = keys.create();
        let cache = tempfile::tempdir().unwrap();
        let repo = keys.open(base.clone(), cache.path(), false).unwrap();
        let (removed, kept) = (Set::version(1, 6), Set::version(2, 6));
        for set in [&removed, &kept] {
            run(&repo, set, 16 << 20).unwrap();
        }
        let keep = [("app".to_owned(), Keep { last: Some(1), within_secs: None })].into();
        let request = RetentionRequest { keep, dry_run: false, clock: &StoreClock, entropy: &OsEntropy };
        assert_eq!(retention(&repo, &request).unwrap().removed, 1);
        pass(&base, HOURS);
        Self { keys, base, kept, compact }
    }

    /// What is dead was moved out and marked, and is to be deleted now.
    fn marked(compact: bool) -> Self {
        let scene = Self::unmarked(compact);
        let cache = tempfile::tempdir().unwrap();
        let repo = scene.keys.open(scene.base.clone(), cache.path(), compact).unwrap();
        let done = run_prune(&repo, compact).unwrap();
        assert!(done.packs_condemned > 2 && done.packs_repacked > 0 && done.packs_deleted == 0, "{done:?}");
        assert_eq!(done.blobs_compacted > 0, compact, "{done:?}");
        pass(&scene.base, A_DAY);
        scene
    }

    fn calm(&self) -> u64 {
        let cache = tempfile::tempdir().unwrap();
        let calm = Arc::new(Fault::new(Arc::new(self.base.fork()), FaultPlan::none()));
        let repo = self.keys.open(calm.clone(), cache.path(), self.compact).unwrap();
        run_prune(&repo, self.compact).unwrap();
        calm.ops()
    }

    /// The point that stays is whole, for somebody without a cache.
    fn is_whole(&self, mem: &Arc<Mem>, torn: bool) {
        let cache = tempfile::tempdir().unwrap();
        let repo = self.keys.open(mem.clone(), cache.path(), true).unwrap();
        let (index, report) = Index::sync(&repo).unwrap();
        // What a store tore is not what its name says, and counts for nothing.
        let other = report.refused.iter().find(|(_, error)| !torn || error.kind() != ErrorKind::Damaged);
        assert!(other.is_none(), "{other:?}");
        let list = repo.points().unwrap();
        assert_eq!((list.points.len(), list.gaps().len(), list.vanished.len()), (1, 0, 0));
        assert!(holds(&repo, &index, &list.points[0].point, &self.kept).unwrap(), "a point is hurt");
    }

    fn cell(&self, plan: &FaultPlan) -> bool {
        let torn = plan.to_string().starts_with("torn");
        let mem = Arc::new(self.base.fork());
        let cache = tempfile::tempdir().unwrap();
        let fault = Arc::new(Fault::new(mem.clone(), plan.clone()));
        let died = self
            .keys
            .open(fault.clone(), cache.path(), self.compact)
            .and_then(|repo| run_prune(&repo, self.compact));
        drop(died);
        self.is_whole(&mem, torn);
        // The same host runs it again, and again a day later, cache and all.
        let again = |expected: &str| {
            let repo = self.keys.open(mem.clone(), cache.path(), self.compact).unwrap();
            let done = run_prune(&repo, self.compact).unwrap();
            self.is_whole(&mem, torn);
            let packs: u64 = repo.list_packs().unwrap().values().map(|(_, size)| size).sum();
            assert_eq!(done.bytes.total - done.bytes.deleted, packs, "{expected}: {done:?}");
            done
        };
        again("at once");
        // What the dead run moved may be new to somebody for a while.
        pass(&mem, HOURS);
        again("once that is old");
        pass(&mem, A_DAY);
        again("a day later");
        // Of two copies that a dead run left, one may be moved before the other turns out to be the one that
        // counts: that is a pack more to mark.
        pass(&mem, A_DAY);
        again("two days later");
        pass(&mem, HOURS);
        let rest = again("at rest");
        let dead = rest.bytes.total - rest.bytes.live - rest.bytes.pinned - rest.bytes.unused;
        assert_eq!(dead, 0, "what nobody refers to outlived the grace period: {rest:?}");
        // A backup deduplicates against what is left.
        let repo = self.keys.open(mem.clone(), cache.path(), false).unwrap();
        let stored = run(&repo, &self.kept, MEMORY).unwrap();
        assert!(stored.totals.bytes_stored < 64 << 10, "{stored:?}");
        fault.harmed() > 0
    }

    fn matrix(&self, name: &str) {
        let (began, ops) = (Instant::now(), self.calm());
        assert!(ops > 30, "{ops} operations are too few to tell");
        let (mut cells, mut harmed) = (0, 0);
        for n in 0..ops {
            let plans =
                if is_full() { FaultPlan::all_at(n).to_vec() } else { FaultPlan::crashes(n).to_vec() };
            for plan in plans {
                cells += 1;
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.cell(&plan)));
                harmed += u64::from(result.unwrap_or_else(|panic| {
                    eprintln!("the plan was: {plan}");
                    std::panic::resume_unwind(panic)
                }));
            }
        }
        assert!(harmed * 10 >= cells * 9, "only {harmed} of {cells} plans did harm");
        eprintln!("{name}: {ops} operations, {cells} cells, {:?}", began.elapsed());
        assert!(is_full() || began.elapsed() < Duration::from_secs(240), "too slow: {:?}", began.elapsed());
    }
}

fn is_full() -> bool {
    std::env::var_os("MUSTER_TEST_FULL").is_some_and(|v| v == "1")
}

#[test]
fn a_prune_that_marks_and_moves_may_die_at_any_operation() {
    Scene::unmarked(false).matrix("marking");
}

#[test]
fn a_prune_that_deletes_may_die_at_any_operation() {
    Scene::marked(false).matrix("deleting");
}

#[test]
fn a_prune_that_compacts_may_die_at_any_operation() {
    Scene::unmarked(true).matrix("compacting");
}

/// A store that does not let go of an object (a lock, a policy) is no failure, and is told.
#[test]
fn what_the_store_does_not_let_go_of_is_told() {
    struct Locked(Arc<Mem>);
    impl Store for Locked {
        fn describe(&self) -> String {
            self.0.describe()
        }
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities()
        }
        fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
            self.0.put(name, parts)
        }
        fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
            self.0.get(name, limit)
        }
        fn get_range(&self, name: &ObjectName, at: u64, len: u64) -> Result<Vec<u8>> {
            self.0.get_range(name, at, len)
        }
        fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
            self.0.stat(name)
        }
        fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
            self.0.list(prefix, visit)
        }
        fn delete(&self, name: &ObjectName) -> Result<()> {
            match name.as_str().starts_with(layout::PACKS) {
                true => Err(Error::new(ErrorKind::Refused, "delete", "it is locked").on(name.to_string())),
                false => self.0.delete(name),
            }
        }
    }
    let scene = Scene::marked(false);
    let cache = tempfile::tempdir().unwrap();
    let repo = scene.keys.open(Arc::new(Locked(scene.base.clone())), cache.path(), false).unwrap();
    let done = run_prune(&repo, false).unwrap();
    assert!(done.packs_locked > 2 && done.packs_deleted == 0 && done.bytes.deleted == 0, "{done:?}");
    assert_eq!(muster::report::outcome::Outcome::exit(&done), muster::model::error::Exit::Partial);
    scene.is_whole(&scene.base, false);
    // Once the lock has gone it goes on.
    let repo = scene.keys.open(scene.base.clone(), cache.path(), false).unwrap();
    assert_eq!(run_prune(&repo, false).unwrap().packs_deleted, done.packs_locked);
    scene.is_whole(&scene.base, false);
}

/// What the scenes rest on.
#[test]
fn time_passes_for_the_store() {
    let mem = Mem::default();
    let name = ObjectName::new("a").unwrap();
    mem.put(&name, &[b"1"]).unwrap();
    let at = mem.stat(&name).unwrap().unwrap().stored_at;
    assert!(at.secs_since(StoreClock.now()).abs() < 60.0, "{at:?}");
    pass(&mem, 5);
    assert_eq!(mem.stat(&name).unwrap().unwrap().stored_at, at.plus_secs(-5));
}
