//! Changes of keys at the same moment, and what is kept of a key that ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use muster::jobs::keys::{HostRole, Round, revoke, rotate};
use muster::jobs::repair_config::{RepairConfigRequest, repair_config};
use muster::model::{Error, ErrorKind, ObjectName, Result};
use muster::ports::Store;
use muster::repo::layout;
use muster::repo::repository::{OpenWith, Repository};
use muster::repo::trust::Pin;
use muster::report::outcome::RepairConfig;
use muster::stores::wrap::{Fault, FaultPlan, Op, OpKind};

use crate::key_world::*;
use crate::tombstone;

/// The repository as whoever has the kit opens it on a machine of its own, with `before` called at each operation.
fn root_host(world: &World, before: impl Fn(&Op) + Send + Sync + 'static) -> (Repository, tempfile::TempDir) {
    let store = Fault::new(world.mem.clone(), FaultPlan::none()).before_each(before);
    let cache = tempfile::tempdir().unwrap();
    let with = OpenWith {
        pin: Pin { root: Some(world.kit.root.public()), lowest: 0 },
        host: None,
        identities: &world.kit_identities(),
        cache_root: cache.path().to_owned(),
        compression_level: 3,
    };
    (Repository::open(Arc::new(store), with).unwrap(), cache)
}

fn is_put_of_config(op: &Op) -> bool {
    op.kind == OpKind::Put && op.on.starts_with(layout::CONFIG)
}

fn configs(world: &World) -> Vec<ObjectName> {
    world.mem.names().into_iter().filter(|n| n.as_str().starts_with(layout::CONFIG)).collect()
}

/// One has looked, and is about to store; the other does all of its change in between. Which of the two names is
/// lower is left to chance, so this goes on until both cases were there.
#[test]
fn a_change_stored_after_another_one_has_looked_gives_way() {
    let mut was_lower = [false; 2];
    for _ in 0..40 {
        let world = Arc::new(World::new());
        let other = world.clone();
        let before = Mutex::new(Some(move || {
            rotate(&other.as_kit(), &other.root(), Round::Data).unwrap();
        }));
        let late_name = Arc::new(Mutex::new(String::new()));
        let noted = late_name.clone();
        let (late, _cache) = root_host(&world, move |op| {
            if is_put_of_config(op) {
                *noted.lock().unwrap() = op.on.clone();
                if let Some(before) = before.lock().unwrap().take() {
                    before();
                }
            }
        });
        let error = rotate(&late, &world.root(), Round::Data).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.remedy().unwrap().contains("run the command again"), "{error:?}");
        let there = configs(&world);
        assert_eq!(there.len(), 2, "{there:?}");
        was_lower[usize::from(late_name.lock().unwrap().as_str() < there[1].as_str())] = true;
        assert_eq!(world.as_kit().trusted().config.number, 1);
        if was_lower == [true; 2] {
            return;
        }
    }
    panic!("chance never made both cases");
}

/// Two, and three, at the same time, in many orders: never two of one number, and each that says it succeeded
/// stands in the chain.
#[test]
fn changes_at_the_same_time_never_fork_the_chain() {
    let world = World::new();
    let seed = AtomicU64::new(1);
    for round in 0..12 {
        let before = world.as_kit().trusted().config.number;
        let (at_once, met) = (2 + round % 2, Arc::new(Barrier::new(2 + round % 2)));
        let hosts: Vec<_> = (0..at_once)
            .map(|_| {
                let state = AtomicU64::new(seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed));
                let met = met.clone();
                root_host(&world, move |op| {
                    // All have passed the look before storing: else most rounds would be no race.
                    if is_put_of_config(op) {
                        met.wait();
                    }
                    let next = state.load(Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005) + 1;
                    state.store(next, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_micros((next >> 33) % 1500));
                })
            })
            .collect();
        let done = std::thread::scope(|scope| {
            let world = &world;
            let runs: Vec<_> = hosts
                .iter()
                .map(|(repo, _)| scope.spawn(move || rotate(repo, &world.root(), Round::Data).map(drop)))
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<Result<()>>>()
        });
        let succeeded = done.iter().filter(|one| one.is_ok()).count() as u64;
        assert!(succeeded <= 1, "round {round}: {done:?}");
        let now = world.as_kit();
        assert_eq!(now.trusted().config.number, before + succeeded, "round {round}: {done:?}");
        assert_eq!(configs(&world).len() as u64, now.trusted().config.number + 1);
    }
}

fn repair(world: &World, remove: Option<&str>, dry_run: bool) -> Result<RepairConfig> {
    let pin = Pin { root: Some(world.kit.root.public()), lowest: 0 };
    let request = RepairConfigRequest { root: &world.kit.root, pin, remove, dry_run };
    repair_config(&*world.mem, &request, &|_| Ok(()))
}

/// A fork as a crash between storing and taking back leaves it.
fn forked() -> (World, Vec<ObjectName>) {
    let world = World::new();
    let fork = world.fork(FaultPlan::none()).0;
    rotate(&world.as_kit(), &world.root(), Round::Data).unwrap();
    fork.admit(HostRole::Writer, "web-2");
    let other = configs(&fork)[1].clone();
    world.mem.put(&other, &[&fork.mem.get(&other, 1 << 20).unwrap()]).unwrap();
    let both = configs(&world)[1..].to_vec();
    (world, both)
}

#[test]
fn a_fork_that_stands_is_refused_and_whoever_has_the_kit_ends_it() {
    let (world, both) = forked();
    let refused = world.open("reader", None, &world.kit_identities()).map(drop).unwrap_err();
    assert!(
        refused.why().contains("forked") && refused.remedy().unwrap().contains("repair config"),
        "{refused:?}"
    );

    let shown = repair(&world, None, false).unwrap();
    assert!(!shown.was_whole && shown.removed.is_none(), "{shown:?}");
    let names: Vec<&str> = shown.candidates.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, both.iter().map(ObjectName::as_str).collect::<Vec<_>>());
    let changes: Vec<&String> = shown.candidates.iter().flat_map(|c| &c.changes).collect();
    assert_eq!(changes.iter().filter(|c| c.starts_with("admits writer")).count(), 1, "{changes:?}");
    assert_eq!(changes.iter().filter(|c| c.starts_with("begins epoch")).count(), 1, "{changes:?}");

    let first = configs(&world)[0].clone();
    assert_eq!(repair(&world, Some(first.as_str()), false).unwrap_err().kind(), ErrorKind::Usage);
    repair(&world, Some(both[0].as_str()), true).unwrap();
    assert_eq!(configs(&world).len(), 3, "a dry run removes nothing");
    let hash = layout::parse_config(&both[0]).unwrap().1.to_string();
    let done = repair(&world, Some(&hash[..12]), false).unwrap();
    assert_eq!(done.removed.as_deref(), Some(both[0].as_str()));
    assert_eq!(layout::config(1, &world.as_kit().trusted().hash), both[1]);

    // What stands in a whole chain stays.
    assert!(repair(&world, None, false).unwrap().was_whole);
    assert_eq!(repair(&world, Some(both[1].as_str()), false).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn what_was_built_on_is_not_what_goes() {
    let (world, both) = forked();
    // Somebody who saw the one alone has built on it.
    let other = world.mem.get(&both[1], 1 << 20).unwrap();
    world.mem.delete(&both[1]).unwrap();
    rotate(&world.as_kit(), &world.root(), Round::Data).unwrap();
    world.mem.put(&both[1], &[&other]).unwrap();
    let shown = repair(&world, None, false).unwrap();
    assert_eq!(shown.candidates.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), [both[1].as_str()]);
    repair(&world, Some(both[1].as_str()), false).unwrap();
    assert_eq!(world.as_kit().trusted().config.number, 2);
}

#[test]
fn another_root_mends_nothing() {
    let (world, both) = forked();
    let stranger = World::new();
    let pin = Pin { root: Some(world.kit.root.public()), lowest: 0 };
    let request =
        RepairConfigRequest { root: &stranger.kit.root, pin, remove: Some(both[0].as_str()), dry_run: false };
    let error: Error = repair_config(&*world.mem, &request, &|_| Ok(())).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    assert_eq!(configs(&world).len(), 3);
}

/// What the root names as kept when a key ends is all that stands, or the command ends.
#[test]
fn a_tombstone_that_cannot_be_read_now_ends_a_revocation() {
    let world = World::new();
    for seed in 0..2 {
        back_up(&world.as_host(&world.writer), "app", &noise(seed, 10_000));
    }
    let host = world.as_host(&world.writer);
    let points = host.points().unwrap().points;
    tombstone(&host, &world.writer.sign, &points[0], world.writer.sign.party());
    let kept = |world: &World| world.as_kit().trusted().config.revocations[0].kept.clone();
    let (calm, _) = world.fork(FaultPlan::none());
    revoke(&calm.as_kit(), &calm.root(), "web-1").unwrap();
    let all = kept(&calm);

    let reads = {
        let plan = FaultPlan::none().on_kinds(&[OpKind::Get]).on_names(layout::TOMBSTONES);
        let (count, fault) = world.fork(plan);
        revoke(&count.as_kit(), &count.root(), "web-1").unwrap();
        fault.ops()
    };
    assert!(reads >= 2, "the list, and what is kept");
    for n in 0..reads {
        let plan = FaultPlan::fail_before(n).on_kinds(&[OpKind::Get]).on_names(layout::TOMBSTONES);
        let (fork, _) = world.fork(plan);
        let done = revoke(&fork.as_kit(), &fork.root(), "web-1");
        match done {
            Ok(_) => assert_eq!(kept(&fork).len(), all.len(), "read number {n} failed, and nobody noticed"),
            Err(error) => assert!(!error.is_about_content(), "{error}"),
        }
        let fork = fork.healed();
        if fork.as_kit().trusted().config.revocations.is_empty() {
            revoke(&fork.as_kit(), &fork.root(), "web-1").unwrap();
        }
        assert_eq!(fork.as_kit().points().unwrap().removed.len(), 1, "read number {n}");
    }
}

#[test]
fn an_index_object_that_is_damaged_ends_a_revocation() {
    let world = World::new();
    back_up(&world.as_host(&world.writer), "app", &noise(1, 100_000));
    let index = world.mem.names().into_iter().find(|n| n.as_str().starts_with(layout::INDEX)).unwrap();
    let whole = world.mem.get(&index, 1 << 30).unwrap();
    // One bit in a page: the root of the object still opens.
    world.mem.damage(&index, |bytes| bytes[10] ^= 1);
    let error = revoke(&world.as_kit(), &world.root(), "web-1").unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Damaged, Some(index.as_str())), "{error}");
    assert!(error.remedy().unwrap().contains("run it again"), "{error:?}");
    assert_eq!(world.as_kit().trusted().config.number, 0);

    world.mem.damage(&index, |bytes| *bytes = whole);
    // A bit that is turned over on the way is fetched again.
    let plan = FaultPlan::flip_bit(0, 80).on_kinds(&[OpKind::Get]).on_names(layout::INDEX);
    let (fork, fault) = world.fork(plan);
    revoke(&fork.as_kit(), &fork.root(), "web-1").unwrap();
    assert_eq!((fault.harmed(), fork.as_kit().trusted().config.revocations[0].kept.len()), (1, 2));
}
