//! Every operation, every way to fail.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster::model::ChunkId;
use muster::repo::format::SourceStatus;
use muster::repo::index::Index;
use muster::repo::layout::{POINTS, PackKind};
use muster::stores::Mem;
use muster::stores::wrap::{Fault, FaultPlan};

use super::set::{Keys, Set, holds, indexed, run, run_with};

struct Matrix {
    keys: Keys,
    /// Holds one good point of `before`.
    base: Arc<Mem>,
    before: Set,
    after: Set,
    memory_bytes: u64,
}

impl Matrix {
    fn new(pieces: u64, memory_bytes: u64) -> Self {
        let keys = Keys::new();
        let base = keys.create();
        let cache = tempfile::tempdir().unwrap();
        let (before, after) = (Set::version(1, pieces), Set::version(2, pieces));
        let repo = keys.open(base.clone(), cache.path(), false).unwrap();
        run(&repo, &before, memory_bytes).unwrap();
        Self { keys, base, before, after, memory_bytes }
    }

    /// How many operations the backup makes when all is well; what it stores.
    fn calm(&self) -> (u64, u64, u64) {
        let cache = tempfile::tempdir().unwrap();
        let calm = Arc::new(Fault::new(Arc::new(self.base.fork()), FaultPlan::none()));
        let repo = self.keys.open(calm.clone(), cache.path(), false).unwrap();
        let done = run(&repo, &self.after, self.memory_bytes).unwrap();
        (calm.ops(), done.totals.packs, done.totals.index_objects)
    }

    /// One failure, and everything that must hold after it. Answers whether the plan did harm.
    fn cell(&self, plan: &FaultPlan, resend: Resend) -> bool {
        let mem = Arc::new(self.base.fork());
        let cache = tempfile::tempdir().unwrap();
        let fault = Arc::new(Fault::new(mem.clone(), plan.clone()));
        let failed = self
            .keys
            .open(fault.clone(), cache.path(), false)
            .and_then(|repo| run(&repo, &self.after, self.memory_bytes));
        let harmed = fault.harmed() > 0;
        if let Ok(done) = &failed {
            assert!(done.point.is_some());
        }

        // Another host looks, with no cache.
        let fresh = tempfile::tempdir().unwrap();
        let both = self.keys.open(mem.clone(), fresh.path(), true).unwrap();
        let (index, _) = Index::sync(&both).unwrap();
        let list = both.points().unwrap();
        assert!(list.vanished.is_empty() && list.removed.is_empty());
        let objects = mem.names().iter().filter(|n| n.as_str().starts_with(POINTS)).count();
        assert_eq!(list.points.len() + list.refused.len(), objects);
        assert!(list.refused.len() <= 1, "{:?}", list.refused);
        assert!(list.points.iter().all(|p| !p.is_void));
        assert!(
            holds(&both, &index, &list.points[0].point, &self.before).unwrap(),
            "an earlier point is hurt"
        );
        // A point that exists is whole, whatever its writer was told.
        for point in &list.points[1..] {
            assert!(
                holds(&both, &index, &point.point, &self.after).unwrap(),
                "a point exists and is not whole"
            );
        }
        assert!(failed.is_err() || list.points.len() == 2, "a backup that said it was done left no point");
        let kept: HashSet<ChunkId> = indexed(&both, &mem).into_iter().map(|(id, ..)| id).collect();
        let rows_before = indexed(&both, &mem).len();

        // The same host runs it again, cache and all.
        let repo = self.keys.open(mem.clone(), cache.path(), false).unwrap();
        let again = run(&repo, &self.after, self.memory_bytes).unwrap();
        assert!(again.point.is_some());
        let fresh = tempfile::tempdir().unwrap();
        let both = self.keys.open(mem.clone(), fresh.path(), true).unwrap();
        let (index, _) = Index::sync(&both).unwrap();
        let list = both.points().unwrap();
        let newest = &list.newest(Some("app")).unwrap().point;
        assert_eq!(Some(newest.id.to_string()), again.point);
        assert_eq!(newest.status(), SourceStatus::Complete);
        assert!(
            holds(&both, &index, newest, &self.after).unwrap(),
            "the rerun's point is not what was there"
        );
        assert!(holds(&both, &index, &list.points[0].point, &self.before).unwrap());
        let rows = indexed(&both, &mem);
        let sent_again = rows.len() - rows.iter().map(|(id, ..)| id).collect::<HashSet<_>>().len();
        if resend == Resend::Never {
            assert_eq!(sent_again, 0, "{sent_again} chunks that were indexed were sent again");
        }
        assert!(rows.len() >= rows_before && kept.iter().all(|id| rows.iter().any(|(row, ..)| row == id)));
        harmed
    }

    /// Runs a cell; a failure names its plan.
    fn try_cell(&self, plan: &FaultPlan, resend: Resend) -> bool {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.cell(plan, resend)));
        result.unwrap_or_else(|panic| {
            eprintln!("the plan was: {plan}");
            std::panic::resume_unwind(panic)
        })
    }
}

/// Whether a chunk may be stored twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resend {
    /// Not once it is indexed.
    Never,
    /// An index object that came damaged is refused, so what it named is stored anew.
    WhereTheIndexWasHurt,
}

fn is_full() -> bool {
    std::env::var_os("MUSTER_TEST_FULL").is_some_and(|v| v == "1")
}

#[test]
fn a_backup_may_fail_at_any_operation() {
    let began = Instant::now();
    let matrix = Matrix::new(if is_full() { 12 } else { 6 }, 1 << 20);
    let (ops, packs, index_objects) = matrix.calm();
    assert!(
        packs >= 9 && index_objects >= 2,
        "{packs} packs and {index_objects} index objects are too few to tell"
    );
    let (mut cells, mut harmed) = (0, 0);
    for n in 0..ops {
        for plan in FaultPlan::all_at(n) {
            cells += 1;
            harmed += u64::from(matrix.try_cell(&plan, Resend::Never));
        }
    }
    // How many operations there are may vary by a few: threads share the work anew each time.
    assert!(harmed * 10 >= cells * 9, "only {harmed} of {cells} plans did harm");
    eprintln!(
        "{ops} operations, {cells} cells, {packs} packs, {index_objects} index objects, {:?}",
        began.elapsed()
    );
    assert!(is_full() || began.elapsed() < Duration::from_secs(240), "too slow: {:?}", began.elapsed());
}

#[test]
fn a_backup_may_meet_a_store_that_fails_now_and_then() {
    let matrix = Matrix::new(4, 1 << 20);
    let cells = if is_full() { 500 } else { 40 };
    let seeds = (0..cells).map(|n| 0x5eed_0000 + n);
    let harmed = seeds.filter(|seed| matrix.try_cell(&FaultPlan::seeded(*seed, 60), Resend::Never)).count();
    assert!(harmed > cells as usize / 2, "{harmed} of {cells}");
}

#[test]
fn bits_that_flip_on_the_way_make_no_wrong_point() {
    let matrix = Matrix::new(2, 1 << 20);
    for seed in 0..if is_full() { 300 } else { 30 } {
        let plan = FaultPlan::seeded_bit_flips(0xf11b_0000 + seed, 100);
        matrix.try_cell(&plan, Resend::WhereTheIndexWasHurt);
    }
}

#[test]
fn packs_of_an_interrupted_backup_are_not_sent_again() {
    let matrix = Matrix::new(6, 1 << 20);
    let cache = tempfile::tempdir().unwrap();
    let mem = Arc::new(matrix.base.fork());
    let fault = Arc::new(Fault::new(mem.clone(), FaultPlan::crash_before(0).on_names(POINTS).on_writes()));
    let repo = matrix.keys.open(fault, cache.path(), false).unwrap();
    run(&repo, &matrix.after, matrix.memory_bytes).unwrap_err();
    let data = |mem: &Mem| mem.names().iter().filter(|n| n.as_str().starts_with("packs/data")).count();
    let (packs, bytes) = (data(&mem), mem.total_bytes());
    let repo = matrix.keys.open(mem.clone(), cache.path(), false).unwrap();
    let again = run(&repo, &matrix.after, matrix.memory_bytes).unwrap();
    assert_eq!((again.totals.packs, again.totals.bytes_new), (0, 0));
    assert_eq!(data(&mem), packs);
    assert!(mem.total_bytes() - bytes < 16 << 10);
    assert!(indexed(&repo, &mem).iter().any(|(.., kind)| *kind == PackKind::Data));
}

/// Readers that each hold half-full blobs must not wait for one another for ever.
#[test]
fn little_memory_and_many_threads_do_not_stall() {
    let keys = Keys::new();
    let set = Set::version(1, 12);
    for (memory_bytes, threads) in [(1, 1), (1 << 20, 2), (1 << 20, 16), (16 << 20, 64), (64 << 20, 40)] {
        let cache = tempfile::tempdir().unwrap();
        let repo = keys.open(keys.create(), cache.path(), true).unwrap();
        run_with(&repo, &set, memory_bytes, threads).unwrap();
        let (index, _) = Index::sync(&repo).unwrap();
        assert!(holds(&repo, &index, &repo.points().unwrap().points[0].point, &set).unwrap());
    }
}
