//! Random interleavings of backups, pruners, removals, revocations, crashes, sleeps and lagging lists on
//! simulated hosts: at every step each live point restores byte for byte, and at rest nothing is left over.
//!
//! `MUSTER_MODEL_SEED=N` runs one world; `MUSTER_TEST_FULL=1` the long run.

#[path = "model/hosts.rs"]
mod hosts;
// The crash tests use the rest of it.
#[allow(dead_code)]
#[path = "crash/set.rs"]
mod set;
#[path = "model/sim.rs"]
mod sim;

use std::sync::atomic::{AtomicU64, Ordering};

use hosts::World;

/// Worlds in which something went wrong once.
const REGRESSIONS: [u64; 5] = [1, 2, 3, 4, 124_912_647_633_291];
/// Whole operations in one world before it comes to rest.
const OPERATIONS: u64 = 60;

fn run_world(seed: u64) -> hosts::Figures {
    let result = std::panic::catch_unwind(|| World::new(seed).live(OPERATIONS));
    result.unwrap_or_else(|panic| {
        eprintln!("the world was MUSTER_MODEL_SEED={seed}");
        std::panic::resume_unwind(panic)
    })
}

fn run_worlds(seeds: impl IntoIterator<Item = u64>) -> hosts::Figures {
    let seeds: Vec<u64> = seeds.into_iter().collect();
    let next = AtomicU64::new(0);
    let all = std::sync::Mutex::new(hosts::Figures::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let figures = run_world(*seed);
                    all.lock().unwrap().add(&figures);
                }
            });
        }
    });
    all.into_inner().unwrap()
}

#[test]
fn worlds_that_failed_once_hold() {
    run_worlds(REGRESSIONS);
}

/// The worst moment is any moment: all are tried.
#[test]
fn a_backup_that_outlasts_the_grace_period_refers_to_nothing_that_is_deleted() {
    let operations = (0..).take_while(|operation| hosts::meets_a_pruner_in(*operation)).count();
    assert!(operations > 20, "only {operations} operations are too few to tell");
}

/// The seed changes with every run, and is printed.
#[test]
fn no_interleaving_loses_a_point_or_leaves_waste() {
    if let Some(seed) = std::env::var("MUSTER_MODEL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        eprintln!("{:?}", run_world(seed));
        return;
    }
    let is_full = std::env::var_os("MUSTER_TEST_FULL").is_some_and(|v| v == "1");
    let wanted: u64 = if is_full { 10_000 } else { 600 };
    let mut first = [0; 8];
    getrandom::fill(&mut first).unwrap();
    let mut seed = u64::from_le_bytes(first) >> 16;
    let mut figures = hosts::Figures::default();
    while figures.operations < wanted {
        eprintln!("seeds {seed} to {}", seed + 3);
        figures.add(&run_worlds(seed..seed + 4));
        seed += 4;
    }
    eprintln!("{figures:?}");
    assert!(figures.is_worth_something(), "the worlds were too quiet to tell anything: {figures:?}");
}
