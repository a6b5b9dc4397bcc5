//! What writers may do beyond backing up, and on whom they rely.

use age::x25519;
use muster::jobs::keys::{HostRole, Right, admit_with, grant_removing, list, request, revoke, share};
use muster::model::{ErrorKind, PartyId};
use muster::repo::format::{Config, RIGHT_APPEND_ONLY, RIGHT_REMOVE_OTHERS};
use muster::repo::keys::HostKeys;

use crate::key_world::*;
use crate::tombstone;

fn rights_of(world: &World, id: &PartyId) -> u32 {
    world.as_kit().trusted().writer(id).unwrap().rights
}

fn admit_as(world: &World, role: HostRole, label: &str, right: Right) -> muster::model::Result<HostKeys> {
    let (keys, asked) = request(role, label, None, ENTROPY).unwrap();
    admit_with(&world.as_kit(), &world.root(), &asked, None, Some(right)).map(|_| keys)
}

#[test]
fn rights_come_with_a_key_and_one_is_granted_later() {
    let world = World::new();
    let pruner = admit_as(&world, HostRole::Writer, "pruner", Right::RemoveOthers).unwrap().sign.party();
    let adder = admit_as(&world, HostRole::Writer, "adder", Right::AppendOnly).unwrap();
    assert_eq!(rights_of(&world, &pruner), RIGHT_REMOVE_OTHERS);
    assert_eq!(rights_of(&world, &adder.sign.party()), RIGHT_APPEND_ONLY);
    let drill = admit_as(&world, HostRole::Drill, "drill-1", Right::RemoveOthers).map(drop).unwrap_err();
    assert_eq!(drill.kind(), ErrorKind::Refused);

    let change = grant_removing(&world.as_kit(), &world.root(), "web-1").unwrap();
    assert_eq!((change.action.as_str(), change.config), ("grant", Some(3)));
    assert_eq!(rights_of(&world, &world.writer.sign.party()), RIGHT_REMOVE_OTHERS);
    let again = grant_removing(&world.as_kit(), &world.root(), "web-1").unwrap();
    assert_eq!(again.config, None, "{again:?}");
    let bound = grant_removing(&world.as_kit(), &world.root(), "adder").unwrap_err();
    assert_eq!(bound.kind(), ErrorKind::Refused);
    let kit = grant_removing(&world.as_kit(), &world.root(), "recovery kit").unwrap_err();
    assert_eq!(kit.kind(), ErrorKind::Usage);

    // New keys have the rights of the old ones, or those that are named.
    let (adder, same) = world.renew(HostRole::Writer, &adder);
    assert_eq!(rights_of(&world, &adder.sign.party()), RIGHT_APPEND_ONLY);
    let late =
        admit_with(&world.as_kit(), &world.root(), &same, None, Some(Right::RemoveOthers)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Refused);
    assert!(late.remedy().unwrap().contains("muster key grant"), "{late:?}");
    let (keys, asked) = request(HostRole::Writer, "", Some(&adder), ENTROPY).unwrap();
    admit_with(&world.as_kit(), &world.root(), &asked, None, Some(Right::RemoveOthers)).unwrap();
    assert_eq!(rights_of(&world, &keys.sign.party()), RIGHT_REMOVE_OTHERS);

    let shown = list(&world.as_kit()).unwrap();
    let row = |label: &str| shown.writers.iter().find(|w| w.label == label && w.status == "active").unwrap();
    assert_eq!(row("adder").rights, ["may-remove-others"]);
    assert!(row("web-1").shares_with.is_empty());
}

#[test]
fn a_right_that_ends_with_its_key_leaves_the_removals_that_stood() {
    let world = World::new();
    back_up(&world.as_host(&world.writer), "app", &noise(1, 10_000));
    let pruner = admit_as(&world, HostRole::Writer, "pruner", Right::RemoveOthers).unwrap();
    let host = world.as_host(&pruner);
    let point = host.points().unwrap().points.remove(0);
    tombstone(&host, &pruner.sign, &point, pruner.sign.party());
    let (_, asked) = request(HostRole::Writer, "", Some(&pruner), ENTROPY).unwrap();
    admit_with(&world.as_kit(), &world.root(), &asked, None, Some(Right::AppendOnly)).unwrap();
    assert_eq!(world.as_kit().points().unwrap().removed.len(), 1);
    revoke(&world.as_kit(), &world.root(), "pruner").unwrap();
    assert_eq!(world.as_kit().points().unwrap().removed.len(), 1);
}

/// No Muster writes a configuration that readers refuse.
#[test]
fn a_right_is_not_taken_from_a_key_that_stays() {
    let world = World::new();
    let pruner = admit_as(&world, HostRole::Writer, "pruner", Right::RemoveOthers).unwrap().sign.party();
    let refused = |change: fn(&mut Config, PartyId)| {
        let done = world.as_kit().amend_config(&world.kit.root, Default::default(), None, |config, _| {
            change(config, pruner);
            Ok(())
        });
        assert_eq!(done.map(drop).unwrap_err().kind(), ErrorKind::Untrusted);
    };
    let before = world.mem.names();
    refused(|config, id| config.writers.iter_mut().filter(|w| w.id == id).for_each(|w| w.rights = 0));
    refused(|config, id| {
        config.writers.iter_mut().filter(|w| w.id == id).for_each(|w| w.rights |= RIGHT_APPEND_ONLY);
    });
    refused(|config, id| config.writers.retain(|w| w.id != id));
    assert_eq!(world.mem.names(), before);
}

#[test]
fn sharing_is_one_way_and_names_writers() {
    let world = World::new();
    let content = noise(1, 2_000_000);
    back_up(&world.as_host(&world.writer), "app", &content);
    let second = world.admit(HostRole::Writer, "web-2");
    world.admit(HostRole::Drill, "drill-1");
    let with = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        share(&world.as_kit(), &world.root(), "web-2", &names)
    };
    for bad in ["web-2", "drill-1", "recovery kit"] {
        assert_eq!(with(&[bad]).unwrap_err().kind(), ErrorKind::Usage, "{bad}");
    }
    assert_eq!(with(&["nobody"]).unwrap_err().kind(), ErrorKind::NotFound);
    let change = with(&["web-1", "web-1"]).unwrap();
    assert_eq!((change.action.as_str(), change.config), ("share", Some(3)));
    assert_eq!(with(&["web-1"]).unwrap().config, None, "so it is already");

    let (point, totals) = back_up(&world.as_host(&second), "app", &content);
    assert!(totals.bytes_new < 100_000, "the other's content is known: {totals:?}");
    assert!(read_back(&world.as_kit(), &point).unwrap() == content);
    // Not the other way: what the second stores the first stores again.
    let more = noise(2, 2_000_000);
    back_up(&world.as_host(&second), "more", &more);
    assert!(back_up(&world.as_host(&world.writer), "more", &more).1.bytes_new >= 2_000_000);

    let list = list(&world.as_kit()).unwrap();
    let row = list.writers.iter().find(|w| w.label == "web-2").unwrap();
    assert_eq!(row.shares_with, [world.writer.sign.party().to_string()]);
    with(&[]).unwrap();
    let third = noise(3, 2_000_000);
    back_up(&world.as_host(&world.writer), "third", &third);
    assert!(back_up(&world.as_host(&second), "third", &third).1.bytes_new >= 2_000_000);
}

#[test]
fn another_root_grants_and_shares_nothing() {
    let world = World::new();
    world.admit(HostRole::Writer, "web-2");
    let other = muster::repo::keys::RecoveryKit {
        root: World::new().kit.root.clone(),
        identity: x25519::Identity::generate(),
    };
    let by = muster::jobs::keys::Authority { root: &other.root, ..world.root() };
    let granted = grant_removing(&world.as_kit(), &by, "web-2").unwrap_err();
    let shared = share(&world.as_kit(), &by, "web-2", &["web-1".to_owned()]).unwrap_err();
    assert_eq!((granted.kind(), shared.kind()), (ErrorKind::WrongKey, ErrorKind::WrongKey));
}
