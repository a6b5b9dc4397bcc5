//! Hosts that share what they store, that remove each other's points, and a chain of keys that was forked.

use std::path::Path;

use serde_json::Value;

use super::prune::second_host;
use super::world::{World, noise};

const DOCS: &str =
    "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [\"src\"]";
/// Over the grace period.
const A_DAY: u64 = 26 * 3600;

fn stored(backup: &Value) -> u64 {
    backup["totals"]["bytes_stored"].as_u64().unwrap_or_else(|| panic!("{backup}"))
}

fn two_hosts() -> (World, World) {
    let world = World::new().with_docs();
    let other = second_host(&world);
    other.configure(DOCS);
    (world, other)
}

fn host<'v>(list: &'v Value, label: &str) -> &'v Value {
    list["writers"].as_array().unwrap().iter().find(|w| w["label"] == label).unwrap()
}

#[test]
fn a_host_that_shares_stores_nothing_twice() {
    let (world, other) = two_hosts();
    let content = noise(1, 4 << 20);
    world.write("src/a", &content);
    other.write("src/b", &content);
    world.backup();

    let without = world.run(["key", "share", "web-2", "--with-nobody"]).expect_code(1);
    without.says("the root key is not at hand");
    world.with_kit(["key", "share", "web-2", "--with", &world.writer]).expect_code(4).says("will rely on");
    world.with_kit(["key", "share", "web-2"]).expect_code(2);
    world.with_kit(["key", "share", "web-2", "--with", "web-1", "--with-nobody"]).expect_code(2);
    let shared = world
        .with_kit(["key", "share", "web-2", "--with", &world.writer[..8], "--yes", "--json"])
        .ok()
        .json();
    assert_eq!((&shared["schema"], &shared["action"]), (&"muster.key-change/1".into(), &"share".into()));
    let list = world.run(["key", "list", "--json"]).ok().json();
    assert_eq!(host(&list, "web-2")["shares_with"], serde_json::json!([world.writer]));
    world.run(["key", "list"]).ok().says("SHARES WITH");

    let first = other.backup_json();
    assert!(stored(&first) < 1 << 20, "{first}");
    // What the first host stored stays while the second host's point needs it.
    world.write("src/a", "small");
    world.backup();
    world.run(["retention", "apply", "--keep-last", "1", "--yes"]).ok();
    for _ in 0..2 {
        world.pass(A_DAY);
        world.run(["prune"]).ok();
    }
    world.with_kit(["check", "--read-data"]).ok().says_not("warning");
    let point = first["point"].as_str().unwrap();
    let kit = world.kit();
    other.run(["restore", point, "--to", "out", "--identity", &kit]).ok();
    let back = other.restored("out", "docs", &other.join("src/b"));
    assert!(std::fs::read(back).unwrap() == content);

    world.with_kit(["key", "share", "web-2", "--with-nobody", "--yes"]).ok();
    let again = other.run(["backup", "--force-read", "--json"]).ok().json();
    assert!(stored(&again) > 4 << 20, "{again}");
    world.with_kit(["check", "--read-data"]).ok();
}

#[test]
fn a_host_thins_anothers_points_once_it_may() {
    let (world, other) = two_hosts();
    world.write("src/a", noise(1, 1 << 20));
    other.write("src/b", noise(2, 1 << 20));
    let first = world.backup();
    world.backup();
    other.run(["retention", "remove", &first, "--yes"]).expect_code(4).says("another host wrote it");
    world.with_kit(["key", "grant", "web-2"]).expect_code(2).says("--may-remove-others");
    world
        .with_kit(["key", "grant", "web-2", "--may-remove-others"])
        .expect_code(4)
        .says("every host's points");
    world.with_kit(["key", "grant", "web-2", "--may-remove-others", "--yes"]).ok().says("from now on");
    let list = world.run(["key", "list", "--json"]).ok().json();
    assert_eq!(host(&list, "web-2")["rights"], serde_json::json!(["may-remove-others"]));
    let done = other.run(["retention", "apply", "--keep-last", "1", "--yes", "--json"]).ok().json();
    assert_eq!(done["removed"], 1, "{done}");
    world.run(["points", "--all"]).ok().says("1 point removed").says(&first);
    world.with_kit(["key", "grant", "web-2", "--may-remove-others", "--yes"]).ok().says("already");

    // Whoever is admitted append only stays so.
    let adder = second_host_called(&world, "web-3", &["--append-only"]);
    adder.write("src/c", "C");
    let theirs = adder.backup();
    adder.run(["retention", "remove", &theirs, "--yes"]).expect_code(4).says("may only add");
    world
        .with_kit(["key", "grant", "web-3", "--may-remove-others", "--yes"])
        .expect_code(4)
        .says("append only, and stays so");
    world.run(["key", "list"]).ok().says("append-only").says("may-remove-others");
}

fn second_host_called(world: &World, label: &str, rights: &[&str]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let (root, repository) = (world.root.clone(), world.repository.clone());
    let other = World { dir, root, repository, writer: String::new() };
    let config = std::fs::read_to_string(world.join("muster.toml")).unwrap();
    other.write("muster.toml", config);
    other.run(["key", "request", "--label", label, "--out", "request"]).ok();
    let request = other.join("request");
    let admit = ["key", "admit", request.to_str().unwrap(), "--yes"];
    world.with_kit(admit.into_iter().chain(rights.iter().copied())).ok();
    other
}

#[test]
fn a_forked_chain_is_mended_with_the_kit() {
    let world = World::new().with_docs();
    let before = world.objects("config");
    let configs = |world: &World| world.objects("config");
    world.with_kit(["key", "rotate", "--data"]).ok();
    let one = configs(&world).into_iter().find(|path| !before.contains(path)).unwrap();
    let kept = std::fs::read(&one).unwrap();
    std::fs::remove_file(&one).unwrap();
    // What this host has seen must not hide the fork.
    let _ = std::fs::remove_file(world.join("cache").join(&world.repository).join("seen.json"));
    world.with_kit(["key", "rotate", "--all"]).ok();
    world.run(["repair", "config"]).expect_code(1).says("the root key is not at hand");
    world.with_kit(["repair", "config"]).ok().says("stand in one chain");
    std::fs::write(&one, kept).unwrap();

    world.run(["points"]).expect_code(1).says("forked").says("muster repair config");
    let name = |path: &Path| format!("config/{}", path.file_name().unwrap().to_str().unwrap());
    world.with_kit(["repair", "config"]).expect_code(3).says(&name(&one)).says("begins epoch");
    world.with_kit(["repair", "config", "--remove", &name(&one)]).expect_code(4).says("--yes");
    let dry = world.with_kit(["repair", "config", "--remove", &name(&one), "--dry-run", "--json"]);
    assert_eq!(dry.expect_code(3).json()["removed"], name(&one));
    world.with_kit(["repair", "config", "--remove", &name(&one), "--yes"]).ok().says("removed config/");
    assert!(!one.exists());
    world.write("src/a", "A");
    world.backup();
}
