//! What commands answer where something is missing, replaced or lost.

use super::world::{World, finish, wait};

/// A job of one file, backed up once, of which no content is left.
fn without_content() -> World {
    let world = World::new().with_docs();
    world.write("src/deep/below/a", "A");
    world.backup();
    for pack in world.objects("packs/data") {
        std::fs::remove_file(pack).unwrap();
    }
    world
}

#[test]
fn a_restore_of_which_only_folders_came_back_failed() {
    let world = without_content();
    world.with_kit(["restore", "latest", "--to", "out"]).expect_code(1);
    world.with_kit(["restore", "latest", &world.entry("src/deep/below/a"), "--to", "out2"]).expect_code(1);
    // Where folders are all that was asked for, they count.
    world.write("src/empty/x", "");
    std::fs::remove_file(world.join("src/empty/x")).unwrap();
    world.run(["backup"]);
    world.with_kit(["restore", "latest", &world.entry("src/empty"), "--to", "out3"]).ok();
}

#[test]
fn a_source_named_whole_and_by_a_path_is_refused() {
    let world = World::new().with_docs();
    world.write("src/a", "A");
    world.backup();
    let entry = world.entry("src/a");
    world
        .with_kit(["restore", "latest", &entry, "--source", "docs", "--to", "out"])
        .expect_code(2)
        .says("both all of this source and a path in it")
        .says("leave out");
    assert!(!world.join("out").exists());
}

#[test]
fn a_host_with_replaced_keys_is_told_so() {
    let world = World::new().with_docs();
    world.write("src/a", "A");
    world.backup();
    world.run(["key", "request", "--label", "web-new", "--out", "r"]).ok();
    world.with_kit(["key", "admit", "r", "--yes"]).ok().says("web-new");
    for run in [world.run(["points"]), world.run(["backup"]), world.with_kit(["backup"])] {
        run.expect_code(1).says("was replaced by a new one").says("put the new key file in the place");
    }
    // The old keys open nothing of their party any more, which is no damage.
    world.with_kit(["check"]).ok().says("the structure is whole");
    std::fs::rename(world.join("muster.key.new"), world.join("muster.key")).unwrap();
    world.run(["key", "list"]).ok().says("web-new");
    world.backup();
}

#[test]
fn a_store_may_be_an_absolute_path_everywhere() {
    let world = World::new().with_docs();
    world.write("src/a", "A");
    let path = world.repo().display().to_string();
    let text = std::fs::read_to_string(world.join("muster.toml")).unwrap();
    world.write("muster.toml", text.replace(&format!("\"file://{path}\""), &format!("\"{path}\"")));
    world.backup();
    let mut command = world.command(["points"]);
    command.env("MUSTER_STORE", &path);
    finish(command).ok();
}

#[test]
fn a_repository_without_points_is_called_that() {
    World::new().run(["check"]).ok().says("there is no recovery point here").says_not("0 recovery points");
}

#[test]
fn a_missing_version_and_a_wrong_passphrase_come_with_a_remedy() {
    let world = World::new();
    let text = std::fs::read_to_string(world.join("muster.toml")).unwrap();
    world.write("muster.toml", text.replace("version = 1\n", ""));
    world.run(["points"]).expect_code(2).says("`version` is missing").says("version = 1").says_not("line 1");
    world.write("muster.toml", text);

    world.write("right", "right\n");
    world.write("wrong", "wrong\n");
    let store = format!("file://{}", world.join("other").display());
    let init =
        ["-c", "o.toml", "init", "--store", &store, "--kit", "o.kit", "--passphrase-from", "file:right"];
    world.run(init).ok();
    let mut command = world.command(["-c", "o.toml", "--identity", "file:o.kit", "points"]);
    command.env("MUSTER_PASSPHRASE_FROM", "file:wrong");
    let began = std::time::Instant::now();
    wait(command.spawn().unwrap(), began)
        .expect_code(1)
        .says("the passphrase is wrong")
        .says("MUSTER_PASSPHRASE_FROM");
}
