//! From `init` to `restore`, as documented.

use std::os::unix::fs::MetadataExt;

use super::tree::{assert_same, fill, tree};
use super::world::{Run, World, noise};

/// Over the time in which a change could escape the clock that files have.
const RACY: std::time::Duration = std::time::Duration::from_millis(2100);

fn totals(run: &serde_json::Value, key: &str) -> u64 {
    run["totals"][key].as_u64().unwrap()
}

#[test]
fn what_was_backed_up_comes_back_exactly() {
    let world = World::new().with_docs();
    let src = world.join("src");
    fill(&src);
    let point = world.backup();
    for (out, more) in
        [("whole", vec![]), ("source", vec!["--source", "docs"]), ("verified", vec!["--verify"])]
    {
        let mut args = vec!["restore", "latest", "--to", out, "--json"];
        args.extend(more);
        let done = world.with_kit(args).ok().json();
        assert_eq!((&done["schema"], &done["point"]), (&"muster.restore/1".into(), &point.clone().into()));
        assert_same(&src, &world.restored(out, "docs", &src));
        let sparse = std::fs::metadata(world.restored(out, "docs", &src.join("sparse"))).unwrap();
        assert!(sparse.blocks() * 512 < 8 << 20, "the holes were filled");
        if out == "verified" {
            assert!(done["sources"][0]["verified"].as_u64().unwrap() >= 15, "{done}");
        }
    }
}

#[test]
fn a_path_alone_comes_back_alone() {
    let world = World::new().with_docs();
    let src = world.join("src");
    fill(&src);
    world.backup();
    let wanted = format!("docs:{}", src.join("deep/er").display());
    world.with_kit(["restore", "latest", &wanted, "--to", "out"]).ok();
    assert_same(&src.join("deep/er"), &world.restored("out", "docs", &src.join("deep/er")));
    assert!(!world.restored("out", "docs", &src.join("plain")).exists());
    // A comparison expects what was asked for, and no more.
    let verified =
        world.with_kit(["restore", "latest", &wanted, "--to", "verified", "--verify", "--json"]).ok().json();
    assert_eq!(verified["sources"][0]["verified"], 2, "{verified}");
    world.with_kit(["restore", "latest", &wanted, "--in-place", "--replace", "--yes", "--verify"]).ok();
    world
        .with_kit(["restore", "latest", "docs:no/such/path", "--to", "other"])
        .expect_code(1)
        .says("nothing of this name");
    assert!(!world.join("other").exists());
}

#[test]
fn in_place_brings_back_what_was_changed_and_removed() {
    let world = World::new().with_docs();
    let src = world.join("src");
    fill(&src);
    world.backup();
    let before = tree(&src);
    std::fs::write(src.join("plain"), "ruined").unwrap();
    std::fs::remove_file(src.join("deep/er/big")).unwrap();
    std::fs::remove_dir(src.join("empty dir")).unwrap();
    std::fs::write(src.join("added later"), "new").unwrap();
    let ruined = tree(&src);

    world.with_kit(["restore", "latest", "--in-place"]).expect_code(4).says("--replace");
    world.with_kit(["restore", "latest", "--in-place", "--replace"]).expect_code(4).says("--yes");
    world.with_kit(["restore", "latest", "--in-place", "--replace", "--dry-run"]).ok();
    assert_eq!(tree(&src), ruined, "nothing may have been written yet");

    world.with_kit(["restore", "latest", "--in-place", "--replace", "--yes", "--verify"]).ok();
    assert!(src.join("added later").exists(), "--replace keeps what is not in the point");
    world.with_kit(["restore", "latest", "--in-place", "--replace=mirror", "--yes", "--verify"]).ok();
    assert_eq!(tree(&src), before);
    // Nothing to do is no failure.
    let again = world
        .with_kit(["restore", "latest", "--in-place", "--replace=mirror", "--yes", "--json"])
        .ok()
        .json();
    assert_eq!(again["sources"][0]["removed"], 0);
    assert_eq!(tree(&src), before);
}

#[test]
fn a_dry_run_leaves_nothing() {
    let world = World::new().with_docs();
    fill(&world.join("src"));
    let empty = world.objects("");
    let dry = world.run(["backup", "--dry-run", "--json"]).ok().json();
    assert_eq!((&dry["point"], &dry["dry_run"]), (&serde_json::Value::Null, &true.into()));
    assert_eq!(world.objects(""), empty);
    world.backup();
    let full = world.objects("");
    let dry = world.with_kit(["restore", "latest", "--to", "out", "--dry-run", "--json"]).ok().json();
    assert!(dry["sources"][0]["items"].as_u64().unwrap() > 10);
    assert!(!world.join("out").exists());
    assert_eq!(world.objects(""), full);
}

#[test]
fn a_target_in_use_is_refused() {
    let world = World::new().with_docs();
    world.write("src/a", "A");
    world.backup();
    world.with_kit(["restore", "latest", "--to", "out"]).ok();
    world.with_kit(["restore", "latest", "--to", "out"]).expect_code(4).says("there is something already");
    std::fs::write(world.restored("out", "docs", &world.join("src/a")), "other").unwrap();
    world.with_kit(["restore", "latest", "--to", "out", "--replace", "--yes"]).ok();
    assert_same(&world.join("src"), &world.restored("out", "docs", &world.join("src")));
}

#[test]
fn a_second_backup_adds_next_to_nothing_and_reads_nothing() {
    let world = World::new().with_docs();
    let src = world.join("src");
    fill(&src);
    let first = world.backup_json();
    // Files so fresh that their clock could hide a change are read once more.
    std::thread::sleep(RACY);
    world.backup();
    let calm = world.backup_json();
    assert!(totals(&first, "bytes_stored") > 3 << 20, "{first}");
    assert!(totals(&calm, "bytes_stored") < 16 << 10, "{calm}");
    assert_eq!(totals(&calm, "bytes_read"), 0, "{calm}");
    let files = calm["sources"][0]["items_unchanged"].as_u64().unwrap();
    assert!(files >= 7, "{calm}");
    // A small change of a large file costs little, and only that file is read.
    let mut big = std::fs::read(src.join("deep/er/big")).unwrap();
    big[1_500_000] ^= 1;
    std::fs::write(src.join("deep/er/big"), big).unwrap();
    let changed = world.backup_json();
    assert_eq!(totals(&changed, "bytes_read"), 3 << 20, "{changed}");
    assert_eq!(changed["sources"][0]["items_unchanged"].as_u64(), Some(files - 1));
    let forced = world.run(["backup", "--force-read", "--json"]).ok().json();
    assert!(totals(&forced, "bytes_read") >= 3 << 20, "{forced}");
    world.with_kit(["restore", "latest", "--to", "out", "--verify"]).ok();
    assert_same(&src, &world.restored("out", "docs", &src));
}

#[test]
fn a_change_that_keeps_size_and_time_is_noticed() {
    let world = World::new().with_docs();
    let file = world.write("src/a", "one");
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    std::thread::sleep(RACY);
    world.backup();
    std::fs::write(&file, "two").unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    world.backup();
    assert_eq!(world.with_kit(["cat", "latest", &format!("docs:{}", file.display())]).ok().stdout, "two");
}

#[test]
fn browsing_shows_what_is_there() {
    let world = World::new().with_docs();
    let src = world.join("src");
    world.write("src/one.txt", "one\n");
    world.write("src/sub/two.PDF", "two\n");
    assert_eq!(world.run(["points"]).ok().stdout, "no points\n");
    let first =
        world.run(["backup", "--tag", "before", "--json"]).ok().json()["point"].as_str().unwrap().to_owned();
    world.write("src/one.txt", "one, changed\n");
    world.write("src/three", "3");
    std::fs::remove_dir_all(src.join("sub")).unwrap();
    let second = world.backup();

    let points = world.run(["points", "--json"]).ok().json();
    let rows = points["points"].as_array().unwrap();
    assert_eq!((points["schema"].as_str(), rows.len()), (Some("muster.points/1"), 2));
    assert_eq!((&rows[0]["point"], &rows[0]["tags"][0]), (&first.clone().into(), &"before".into()));
    assert_eq!(rows[1]["status"], "complete");
    world.run(["points", "--job", "nobody"]).ok().says("no points");

    let one = world.entry("src/one.txt");
    world.run(["ls", "latest", "-R"]).ok().says(&one).says_not("sub");
    world.run(["ls", &first[..20], &format!("docs:{}", src.display())]).ok().says("sub");
    world.run(["ls", "latest:app", "-l", &one]).ok().says("-rw");
    let ls = world.run(["ls", "latest", "-R", "--json"]).ok().json();
    assert!(ls["entries"].as_array().unwrap().iter().any(|e| e["path"].as_str().unwrap().ends_with("three")));

    let found = world.run(["find", "*.pdf", "-i", "--json"]).ok().json();
    assert_eq!(found["matches"].as_array().unwrap().len(), 1);
    assert_eq!(found["matches"][0]["point"], first);
    world.run(["find", "*.pdf"]).expect_code(1).says("no entry has such a name");

    let diff = world.run(["diff", &first, &second, "--json"]).ok().json();
    let changes = diff["changes"].as_array().unwrap();
    let change = |name: &str| {
        let of = changes.iter().find(|c| c["path"].as_str().unwrap().ends_with(name));
        of.map_or("none", |c| c["change"].as_str().unwrap())
    };
    assert_eq!(["one.txt", "three", "two.PDF"].map(change), ["changed", "added", "removed"]);
    world.run(["diff", &second, &second]).ok().says("0 added, 0 removed, 0 changed");

    assert_eq!(world.with_kit(["cat", &first, &one]).ok().stdout, "one\n");
    assert_eq!(world.with_kit(["cat", "latest", &one]).ok().stdout, "one, changed\n");
}

#[test]
fn every_document_has_its_schema_and_errors_are_documents() {
    let world = World::new().with_docs();
    world.write("src/a", "A");
    let named = |run: &Run| run.json()["schema"].as_str().unwrap().to_owned();
    let point = world.run(["backup", "--json"]).ok();
    assert_eq!(named(&point), "muster.backup/1");
    for (args, schema) in [
        (vec!["points", "--json"], "muster.points/1"),
        (vec!["ls", "latest", "--json"], "muster.ls/1"),
        (vec!["find", "a", "--json"], "muster.find/1"),
        (vec!["diff", "latest", "latest", "--json"], "muster.diff/1"),
        (vec!["ls", "01ZZ", "--json"], "muster.error/1"),
        (vec!["cat", "latest", "docs:a", "--json"], "muster.error/1"),
        (vec!["backup", "nojob", "--json"], "muster.error/1"),
        (vec!["nonsense", "--json"], "muster.error/1"),
        (vec!["-c", "no.toml", "points", "--json"], "muster.error/1"),
    ] {
        let run = world.run(&args);
        assert_eq!(named(&run), schema, "{args:?}");
        assert!(run.stdout.ends_with('\n') && !run.stdout.trim_end().contains('\n'), "one line");
    }
}

#[test]
fn each_exit_status() {
    let world = World::new().with_docs();
    world.write("src/a", "A");
    world.backup();
    world.run(["points"]).expect_code(0);
    world.run(["ls", "01ZZZZ"]).expect_code(1).says("muster points");
    world.run(["ls"]).expect_code(2);
    world.run(["-c", "missing.toml", "points"]).expect_code(2);
    world.run(["backup", "nojob"]).expect_code(2).says("it has: app");
    world.configure(
        "[[job]]\nname = \"half\"\n[[job.source]]\nname = \"gone\"\nkind = \"command\"\nbackup = [\"false\"]",
    );
    world.run(["backup", "half"]).expect_code(3);
    world.run(["init", "--store", "file:///tmp", "--kit", "kit.txt"]).expect_code(4);
    // Help and completions are no failures.
    world.run(["--help"]).expect_code(0);
    world.run(["completions", "bash"]).expect_code(0);
}

/// A point that every reader would refuse is not called a backup.
#[test]
fn a_key_that_ends_during_the_backup_ends_the_backup() {
    let muster = env!("CARGO_BIN_EXE_muster");
    let key =
        |rest: &str| format!("{muster} --cache-dir kit-cache --yes --identity file:kit.txt key {rest} >&2");
    let begin = |deed: &str| {
        let world = World::new();
        world.write("dump.sh", format!("set -e\n{deed}\necho content\n"));
        world.configure(
            "[[job]]\nname = \"db\"\n[[job.source]]\nname = \"dump\"\nkind = \"command\"\nbackup = [\"sh\", \"dump.sh\"]",
        );
        world
    };
    let world = begin(&key("revoke $(cat writer)"));
    world.write("writer", &world.writer);
    world.run(["backup"]).expect_code(1).says("was revoked before its point was written").says("key request");
    assert_eq!(world.objects("points").len(), 0);

    let request = format!("{muster} key request --keys muster.key --out request >&2");
    let world = begin(&format!("{request}\n{}", key("admit request")));
    world
        .run(["backup"])
        .expect_code(1)
        .says("was replaced by a new one")
        .says("put the new key file in the place");
    assert_eq!(world.objects("points").len(), 0);
    world.write("dump.sh", "echo content\n");
    std::fs::rename(world.join("muster.key.new"), world.join("muster.key")).unwrap();
    world.backup();
    world.with_kit(["check", "--read-data"]).ok();
}

#[test]
fn init_takes_nothing_that_is_there() {
    let world = World::new();
    let kit = std::fs::read(world.join("kit.txt")).unwrap();
    let store = format!("file://{}", world.repo().display());
    let other = world.join("other");
    std::fs::create_dir(&other).unwrap();
    for (args, code) in [
        (vec!["-c", "other/m.toml", "init", "--store", &store, "--kit", "other/kit.txt"], 4),
        (vec!["init", "--store", "file:///nonexistent/x/y", "--kit", "other/kit.txt"], 4),
    ] {
        world.run(&args).expect_code(code);
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0, "{args:?} left something behind");
    }
    assert_eq!(std::fs::read(world.join("kit.txt")).unwrap(), kit);
    for file in ["kit.txt", "muster.key", "muster.toml"] {
        assert_eq!(
            std::fs::metadata(world.join(file)).unwrap().mode() & 0o077,
            0,
            "{file} is open to others"
        );
    }
}

#[test]
fn init_says_how_its_configuration_is_named() {
    let world = World::new();
    std::fs::create_dir(world.join("other")).unwrap();
    for (n, (config, words)) in [
        ("other.toml", "run `muster -c other.toml backup`"),
        ("other/my muster.toml", "run `muster -c 'other/my muster.toml' backup`"),
    ]
    .into_iter()
    .enumerate()
    {
        let store = format!("file://{}", world.join(&format!("repo-{n}")).display());
        let kit = format!("kit-{n}");
        world.run(["-c", config, "init", "--store", &store, "--kit", &kit]).ok().says(words);
        world.run(["-c", config, "points"]).ok();
    }
    let fresh = tempfile::tempdir().unwrap();
    let store = format!("file://{}", fresh.path().join("repo").display());
    let mut command = world.command(["init", "--store", &store, "--kit", "kit.txt"]);
    command.current_dir(fresh.path());
    super::world::finish(command).ok().says("run `muster backup`.");
}

#[test]
fn a_kit_with_a_passphrase_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = World { dir, root: String::new(), repository: String::new(), writer: String::new() };
    let store = format!("file://{}", command.repo().display());
    command.write("passphrase", "correct horse\n");
    let made = command
        .run([
            "init",
            "--store",
            &store,
            "--kit",
            "kit.txt",
            "--passphrase-from",
            "file:passphrase",
            "--json",
        ])
        .ok()
        .json();
    assert_eq!(made["kit_has_passphrase"], true);
    command.root = made["root"].as_str().unwrap().to_owned();
    let world = command.with_docs();
    world.write("src/a", "A");
    world.backup();
    world.with_kit(["restore", "latest", "--to", "out"]).expect_code(1).says("nobody to ask");
    let restore = |out: &str, passphrase: &str| {
        world.write("given", passphrase);
        let kit = world.kit();
        let mut command = world.command(["restore", "latest", "--to", out, "--identity", &kit]);
        command.env("MUSTER_PASSPHRASE_FROM", "file:given");
        super::world::finish(command)
    };
    restore("out", "wrong").expect_code(1).says("the passphrase is wrong");
    assert!(!world.join("out").exists());
    restore("out", "correct horse").ok();
}

#[test]
fn a_stream_over_64_mib_comes_back_through_several_threads() {
    let world = World::new().with_docs();
    let big = world.write("src/big", noise(3, (70 << 20) + 12_345));
    world.write("src/small", "s");
    world.backup();
    world.with_kit(["restore", "latest", "--to", "out", "--verify"]).ok();
    assert_same(&world.join("src"), &world.restored("out", "docs", &world.join("src")));
    let run = world.with_kit(["restore", "latest", &format!("docs:{}", big.display()), "--to", "alone"]).ok();
    assert!(
        std::fs::read(world.restored("alone", "docs", &big)).unwrap() == noise(3, (70 << 20) + 12_345),
        "{}",
        run.stdout
    );
}

#[test]
fn an_unreadable_file_is_named_recorded_and_exits_3() {
    let world = World::new();
    world.configure("[[job]]\nname = \"app\"\n[[job.source]]\nname = \"odd\"\nkind = \"files\"\npaths = [\"src\", \"missing\"]");
    world.write("src/good", "good");
    let done = world.run(["backup", "--json"]).expect_code(3).json();
    assert!(done["status"] != "complete", "{done}");
    world.write("missing", "now there");
    assert_eq!(world.run(["backup", "--json"]).ok().json()["status"], "complete");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new().with_docs();
    (0..3000).for_each(|i| {
        world.write(&format!("src/a-rather-long-name-of-a-file-{i}"), "");
    });
    world.backup();
    let mut command = world.command(["ls", "latest", "-R"]);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let run = super::world::wait(child, std::time::Instant::now());
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}
