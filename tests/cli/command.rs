//! The `command` source through the program.

use super::world::{Who, World, files_below, noise};

/// A job `db` of one source `dump`, whose program is this shell line.
fn world(line: &str) -> World {
    let world = World::new();
    set(&world, line);
    world
}

fn set(world: &World, line: &str) {
    world.write("dump.sh", format!("{line}\n"));
    if !std::fs::read_to_string(world.join("muster.toml")).unwrap().contains("name = \"dump\"") {
        world.configure(
            "[[job]]\nname = \"db\"\n[[job.source]]\nname = \"dump\"\nkind = \"command\"\nfile_name = \"app.dump\"\n\
             backup = [\"sh\", \"dump.sh\"]\nrestore = [\"sh\", \"restore.sh\"]",
        );
    }
}

#[test]
fn the_output_comes_back_through_the_restore_command() {
    let world = world("cat content");
    world.write("content", noise(1, 5 << 20));
    world.write("restore.sh", "cat > restored\necho $MUSTER_CONFLICT > conflict\n");
    world.backup();
    world.with_kit(["restore", "latest", "--run"]).ok();
    assert!(std::fs::read(world.join("restored")).unwrap() == noise(1, 5 << 20));
    assert_eq!(std::fs::read_to_string(world.join("conflict")).unwrap(), "refuse\n");
    world.with_kit(["restore", "latest", "--run", "--replace", "--yes"]).ok();
    assert_eq!(std::fs::read_to_string(world.join("conflict")).unwrap(), "replace\n");
    world.with_kit(["restore", "latest", "--to", "out", "--verify"]).ok();
    assert!(std::fs::read(world.join("out/dump/app.dump")).unwrap() == noise(1, 5 << 20));
    let piped = super::world::finish({
        let mut command = world.command(["cat", "latest", "dump:app.dump", "--identity", &world.kit()]);
        command.stdout(std::fs::File::create(world.join("piped")).unwrap());
        command
    });
    assert_eq!(piped.code, Some(0), "{}", piped.stderr);
    assert!(std::fs::read(world.join("piped")).unwrap() == noise(1, 5 << 20));
}

#[test]
fn a_restore_command_that_fails_is_a_failure() {
    let world = world("echo content");
    world.write("restore.sh", "cat >/dev/null; echo the server said no >&2; exit 9\n");
    world.backup();
    world.with_kit(["restore", "latest", "--run"]).expect_code(1).says("9").says("the server said no");
    world.write("restore.sh", "exec <&-; exit 0\n");
    set(&world, "head -c 3000000 /dev/zero");
    world.backup();
    world.with_kit(["restore", "latest", "--run"]).expect_code(1).says("before it had taken everything");
}

/// Each way for a program to fail is a failed source: recorded, named, status 3, and what it gave
/// before is no point's content.
#[test]
fn a_program_that_fails_makes_the_source_failed() {
    for (what, line, words) in [
        ("fails", "echo half; exit 4", "4"),
        ("is killed half-way", "head -c 3000000 /dev/urandom; kill -9 $$", "9"),
        ("gives nothing", "true", "0 bytes"),
        ("is not there", "exec /no/such/program", "127"),
    ] {
        let world = world("echo good");
        let good = world.backup();
        set(&world, line);
        let run = world.run(["backup", "--json"]).expect_code(3);
        let failed = run.json();
        assert_eq!(
            (&failed["status"], &failed["sources"][0]["status"]),
            (&"failed".into(), &"failed".into()),
            "{what}"
        );
        assert!(failed["sources"][0]["error"].as_str().unwrap().contains(words), "{what}: {failed}");
        let point = failed["point"].as_str().unwrap();
        let points = world.run(["points", "--json"]).ok().json();
        assert_eq!(points["points"][1]["status"], "failed", "{what}");
        // `latest` passes over a point without content; asked for by name it says what to take.
        assert_eq!(world.with_kit(["cat", "latest", "dump:app.dump"]).ok().stdout, "good\n", "{what}");
        // Nothing at all came of it: that is a failure.
        let run = world.with_kit(["restore", point, "--to", "out", "--json"]).expect_code(1).says(&good);
        assert_eq!(run.json()["schema"], "muster.restore/1");
        set(&world, "echo better");
        world.backup();
        assert_eq!(world.with_kit(["cat", "latest", "dump:app.dump"]).ok().stdout, "better\n", "{what}");
    }
}

#[test]
fn latest_tells_points_without_content_from_none() {
    let world = world("exit 4");
    let latest = || world.with_kit(["restore", "latest:db", "--to", "out"]).expect_code(1);
    latest().says("there is none of job db");
    world.run(["backup"]).expect_code(3);
    latest().says("every source failed in 1 point of job db").says("run `muster backup db`");
    world.run(["backup"]).expect_code(3);
    latest().says("2 points of job db");
    world.run(["ls", "latest"]).expect_code(1).says("every source failed in 2 points,");
    set(&world, "echo content");
    world.backup();
    latest_is_there(&world);
}

fn latest_is_there(world: &World) {
    world.with_kit(["restore", "latest:db", "--to", "out"]).ok().says("restored 1 of 1 source ");
    world.run(["check"]).ok().says("1 configuration, ").says(" 3 points, ");
}

#[test]
fn a_failed_source_leaves_the_others() {
    let world = world("echo half; exit 1");
    world.configure("[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [\"src\"]");
    world.write("src/a", "A");
    let done = world.run(["backup", "--json"]).expect_code(3).json();
    assert_eq!(done["sources"][1]["status"], "complete");
    // `latest` takes it: there is content in it.
    let run = world.with_kit(["restore", "latest", "--to", "out"]).expect_code(3);
    run.says("its capture failed");
    assert_eq!(std::fs::read(world.restored("out", "docs", &world.join("src/a"))).unwrap(), b"A");
    world.with_kit(["restore", "latest", "--source", "docs", "--to", "docs-only"]).ok();
}

/// What a program says on standard error may hold content: it is sealed as data, never in
/// metadata, and shown only to whoever runs the backup.
#[test]
fn standard_error_is_data() {
    let canary = "canary-said-on-stderr";
    let world = world(&format!("echo content; echo {canary} >&2"));
    let run = world.run(["backup", "-vv"]).ok();
    assert!(!run.all().contains(canary), "{}", run.all());
    let repo = world.open(Who::Both);
    let list = repo.points().unwrap();
    let source = &list.points[0].point.sources[0];
    assert!(!format!("{:?}", list.points[0].point).contains(canary));
    let (index, _) = muster::repo::index::Index::sync(&repo).unwrap();
    let reader = muster::repo::reader::Reader::new(&repo, &index, 8 << 20);
    let facts = reader.read_all(source.facts.as_ref().unwrap(), 1 << 20).unwrap();
    assert!(String::from_utf8(facts).unwrap().contains(canary));

    set(&world, &format!("echo half; echo {canary} >&2; exit 3"));
    world.run(["backup"]).expect_code(3).says(canary);
    let list = repo.points().unwrap();
    assert_eq!(list.points.len(), 2);
    assert!(!format!("{:?}", list.points[1].point).contains(canary));
    for command in [["points", "--json"], ["ls", "latest"]] {
        world.run(command).ok().says_not(canary);
    }
    for file in files_below(&world.join("cache")) {
        assert!(
            !String::from_utf8_lossy(&std::fs::read(&file).unwrap()).contains(canary),
            "{}",
            file.display()
        );
    }
}
