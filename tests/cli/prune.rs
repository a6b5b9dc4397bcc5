//! Points are removed, and what only they needed is freed a day later, and nothing else is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster::jobs::prune::{PruneRequest, Settings, prune};
use muster::model::{ErrorKind, Time, Ulid};
use muster::ports::Cancel;
use muster::repo::format::SessionState;
use muster::report::progress::{Progress, ProgressMode};
use muster::sys::{OsEntropy, RealClock};
use serde_json::{Value, json};

use super::tree::assert_same;
use super::world::{Run, Who, World, copy_folder, files_below, noise, wait, wait_until};

const HOUR: u64 = 3600;
/// Over the grace period.
const A_DAY: u64 = 26 * HOUR;
/// More than a reader takes in before it cuts.
const BIG: usize = 24 << 20;
/// Makes packs of 1 MiB.
const SMALL: [&str; 2] = ["--memory", "8MiB"];

impl World {
    /// Lets time pass for the store, whose time is its objects' modification time. Their order is kept.
    pub fn pass(&self, secs: u64) {
        for path in self.objects("") {
            let file = std::fs::File::open(&path).unwrap();
            let before = file.metadata().unwrap().modified().unwrap();
            file.set_modified(before - Duration::from_secs(secs)).unwrap();
        }
    }

    fn small_backup(&self) -> String {
        let done = self.run(["backup", "--json", SMALL[0], SMALL[1]]).ok().json();
        done["point"].as_str().unwrap().to_owned()
    }

    fn prune(&self, more: &[&str]) -> Value {
        let args = ["prune", "--json", SMALL[0], SMALL[1]].iter().chain(more);
        let done = self.run(args).ok().json();
        assert_eq!(done["schema"], "muster.prune/1");
        done
    }

    /// Keeps the newest point alone.
    fn keep_one(&self) {
        self.run(["retention", "apply", "--keep-last", "1", "--yes"]).ok();
    }

    fn pack_bytes(&self) -> u64 {
        self.objects("packs").iter().map(|path| std::fs::metadata(path).unwrap().len()).sum()
    }

    /// Everything in `src` comes back, and nothing is wrong with the repository.
    fn is_whole(&self, out: &str) {
        let run = self.with_kit(["check", "--read-data", "--json"]).ok();
        let check = run.json();
        assert_eq!((&check["problems"], &check["content_proven"]), (&Value::Array(vec![]), &true.into()));
        assert_eq!(check["warnings"], Value::Array(vec![]), "{check}");
        for folder in ["condemned", "index", "points", "tombstones", "packs"] {
            let there = self.objects(folder).len();
            assert_eq!(check["objects"][folder].as_u64().unwrap_or(0), there as u64, "{folder}: {check}");
        }
        self.with_kit(["restore", "latest", "--to", out, "--verify"]).ok();
        let src = self.join("src");
        assert_same(&src, &self.restored(out, "docs", &src));
    }
}

fn bytes(run: &Value, what: &str) -> u64 {
    run["bytes"][what].as_u64().unwrap_or_else(|| panic!("{what}: {run}"))
}

/// What all reasons come to.
fn sum(run: &Value) -> u64 {
    let parts =
        ["live", "pinned", "unused", "repacked", "condemned", "session", "grace", "deleted", "locked"];
    parts.iter().map(|part| bytes(run, part)).sum()
}

#[test]
fn what_no_point_needs_is_freed_a_day_later() {
    let world = World::new().with_docs();
    world.write("src/same", noise(1, 3 << 20));
    world.write("src/turns", noise(2, 4 << 20));
    let first = world.small_backup();
    world.write("src/turns", noise(3, 4 << 20));
    let second = world.small_backup();
    world.pass(2 * HOUR);
    let full = world.pack_bytes();

    // Nothing is removed that nobody agreed to.
    world.run(["retention", "apply", "--keep-last", "1"]).expect_code(4).says("Remove 1 point").says("--yes");
    world.run(["retention", "apply", "--keep-last", "1", "--dry-run"]).ok().says("would remove").says(&first);
    let plan = world.run(["retention", "plan", "app", "--keep-last", "1", "--json"]).ok().json();
    assert_eq!((&plan["schema"], &plan["removed"]), (&"muster.retention/1".into(), &1.into()));
    assert_eq!(world.objects("tombstones").len(), 0);
    let all_live = world.prune(&["--dry-run"]);
    assert_eq!((bytes(&all_live, "live"), sum(&all_live)), (full, full), "{all_live}");

    world.keep_one();
    world.run(["points"]).ok().says(&second).says_not(&first);
    world.run(["points", "--all"]).ok().says(&first).says("keep-last 1").says("REMOVED");
    world.with_kit(["restore", &first, "--to", "gone"]).expect_code(1).says("it was removed by the rule");
    world.run(["retention", "apply", "--keep-last", "1"]).ok().says("nothing to remove");

    // A dry run changes nothing, and accounts for every byte.
    let before = world.objects("");
    let dry = world.prune(&["--dry-run"]);
    assert_eq!(world.objects(""), before);
    assert_eq!((sum(&dry), bytes(&dry, "total")), (full, full), "{dry}");
    // Where pieces end is a secret's matter, and so is how many share a pack with live ones.
    assert!(bytes(&dry, "condemned") + bytes(&dry, "repacked") > 6 << 19, "{dry}");
    let packs = world.objects("packs");
    let marked = world.prune(&[]);
    assert_eq!(sum(&marked), world.pack_bytes(), "{marked}");
    assert!(packs.iter().all(|pack| pack.exists()), "the first prune deletes nothing");
    let after_marking = world.objects("packs");
    let waiting = world.prune(&[]);
    assert_eq!((waiting["packs_deleted"].as_u64(), waiting["packs_condemned"].as_u64()), (Some(0), Some(0)));
    assert!(bytes(&waiting, "grace") >= bytes(&dry, "condemned"), "{waiting}");
    assert_eq!(world.objects("packs"), after_marking);
    world.is_whole("marked");

    world.pass(A_DAY);
    let (before, dry) = (world.pack_bytes(), world.prune(&["--dry-run"]));
    assert_eq!(bytes(&dry, "deleted"), bytes(&waiting, "grace"));
    let deleted = world.prune(&[]);
    assert_eq!(bytes(&deleted, "deleted"), bytes(&dry, "deleted"));
    assert_eq!(world.pack_bytes(), before - bytes(&deleted, "deleted"));
    assert!(world.pack_bytes() < 9 << 20, "{} are left", world.pack_bytes());
    world.is_whole("deleted");
    // What was deleted is no damage, and nobody misses it.
    let repaired = world.run(["repair", "index", "--json"]).ok().json();
    assert_eq!(
        (&repaired["was_whole"], &repaired["problems"]),
        (&true.into(), &Value::Array(vec![])),
        "{repaired}"
    );
    world.run(["points", "--all"]).ok().says(&first).says("deleted");
    assert!(!world.repo().join("points").join(&first).exists());

    // Books are kept no longer than they serve.
    for _ in 0..4 {
        world.pass(A_DAY);
        world.prune(&[]);
    }
    let rest = world.prune(&["--dry-run"]);
    // A dead piece may lie in one blob with a live one, or in a pack that is not worth moving.
    let stays = ["live", "pinned", "unused"].map(|what| bytes(&rest, what)).iter().sum::<u64>();
    assert_eq!(stays, bytes(&rest, "total"), "{rest}");
    assert_eq!(world.objects("condemned").len(), 0, "marks of packs that nobody names any more");
    // One session for each point, the last prune's, and its end.
    assert!(world.objects("sessions").len() <= 2 + 3, "{:?}", world.objects("sessions"));
    world.is_whole("at rest");
    // And backing up goes on.
    world.write("src/new", noise(4, 1 << 20));
    world.small_backup();
    world.is_whole("later");
}

#[test]
fn what_is_live_is_moved_out_of_mostly_dead_packs() {
    let world = World::new().with_docs();
    world.write("src/big", noise(1, 5 << 20));
    world.write("src/same", noise(2, 2 << 20));
    world.backup();
    let old = world.objects("packs/data");
    assert_eq!(old.len(), 1, "all of it lies in one pack");
    std::fs::remove_file(world.join("src/big")).unwrap();
    world.backup();
    world.keep_one();
    world.pass(2 * HOUR);

    let none = world.prune(&["--dry-run", "--max-repack", "1MiB"]);
    assert_eq!((bytes(&none, "repacked"), none["packs_repacked"].as_u64()), (0, Some(0)), "{none}");
    assert!(bytes(&none, "unused") > 4 << 20, "{none}");
    let none = world.prune(&["--dry-run", "--repack-unused", "90"]);
    assert_eq!(bytes(&none, "repacked"), 0, "{none}");
    let dry = world.prune(&["--dry-run"]);
    assert!(bytes(&dry, "repacked") > 4 << 20 && sum(&dry) == world.pack_bytes(), "{dry}");
    // No key that opens content is needed to move it.
    let moved = world.prune(&[]);
    assert_eq!(moved["bytes_moved"], dry["bytes_moved"]);
    assert!(bytes(&moved, "condemned") > 6 << 20, "{moved}");
    assert!(old[0].exists());
    world.is_whole("moved");
    world.pass(A_DAY);
    world.prune(&[]);
    assert!(!old[0].exists());
    assert!(world.pack_bytes() < 3 << 20, "{} are left", world.pack_bytes());
    world.is_whole("deleted");
    // The next backup refers to where it is now.
    world.run(["backup", "--force-read"]).ok();
    assert!(world.pack_bytes() < 3 << 20, "{} are left", world.pack_bytes());
    world.is_whole("again");
}

#[test]
fn compacting_frees_what_shares_a_blob_with_what_is_needed() {
    let world = World::new().with_docs();
    for n in 0..200u64 {
        world.write(&format!("src/{n:03}"), noise(n, 4 << 10));
    }
    world.backup();
    for n in (0..200u64).filter(|n| n % 2 == 0) {
        std::fs::remove_file(world.join(&format!("src/{n:03}"))).unwrap();
    }
    world.backup();
    world.keep_one();
    world.pass(2 * HOUR);
    let before = world.pack_bytes();
    let dry = world.prune(&["--dry-run"]);
    assert!(bytes(&dry, "pinned") > 300 << 10, "{dry}");
    world.run(["prune", "--compact"]).expect_code(1).says("--identity");
    let compact = || {
        let done = world.with_kit(["prune", "--compact", "--json"]).ok().json();
        assert_eq!(sum(&done), world.pack_bytes() + bytes(&done, "deleted"), "{done}");
        done
    };
    let dry = world.with_kit(["prune", "--compact", "--dry-run", "--json"]).ok().json();
    let first = compact();
    assert_eq!(first["blobs_compacted"], dry["blobs_compacted"]);
    assert!(first["blobs_compacted"].as_u64() > Some(0) && bytes(&first, "pinned") < 20 << 10, "{first}");
    assert_eq!(compact()["blobs_compacted"], 0, "what was compacted stays so");
    world.is_whole("compacted");
    world.pass(A_DAY);
    let last = compact();
    assert!(bytes(&last, "deleted") > 0 && last["blobs_compacted"] == 0, "{last}");
    assert!(world.pack_bytes() + (300 << 10) < before, "{} of {before} are left", world.pack_bytes());
    world.is_whole("deleted");
}

#[test]
fn a_list_that_may_lack_points_is_no_ground_to_delete_on() {
    let world = World::new().with_docs();
    let points: Vec<String> = (0..3)
        .map(|n| {
            world.write("src/a", noise(n, 1 << 20));
            world.small_backup()
        })
        .collect();
    world.pass(2 * HOUR);
    let object = |n: usize| world.repo().join("points").join(&points[n]);
    let untouched = |why: &str| {
        let before = world.objects("packs");
        let run = world.run(["prune"]).expect_code(4);
        world.run(["prune", "--dry-run"]).expect_code(4).says(why);
        assert_eq!((world.objects("packs"), world.objects("condemned").len()), (before, 0));
        run.says(why)
    };

    // Damaged.
    let good = std::fs::read(object(1)).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    let time = std::fs::metadata(object(1)).unwrap().modified().unwrap();
    std::fs::write(object(1), &bad).unwrap();
    untouched("a point cannot be read").says(&points[1]);
    // Taken away, in the middle and at the end.
    for (n, words) in [(1, "point number 2 of job app"), (2, "number 3")] {
        let object = object(n);
        std::fs::remove_file(&object).unwrap();
        untouched("points are missing").says(words).says("--accept-missing-points");
        std::fs::write(&object, if n == 1 { &good[..] } else { &[] }).unwrap();
        if n == 1 {
            std::fs::File::open(&object).unwrap().set_modified(time).unwrap();
            world.prune(&["--dry-run"]);
        } else {
            std::fs::remove_file(&object).unwrap();
        }
    }
    // Somebody who knows that it is gone says so, for one run or for good.
    let acknowledge = ["retention", "acknowledge", "--reason", "a dead disk"];
    world.run(acknowledge).expect_code(4).says("Take 1 missing point for gone for good?");
    world.run(acknowledge.iter().chain(&["--dry-run"])).ok().says("number 3 of job app");
    let accepted = world.prune(&["--accept-missing-points"]);
    assert!(bytes(&accepted, "condemned") > 1 << 20, "{accepted}");
    world.run(["prune"]).expect_code(4);
    let noted = world.run(acknowledge.iter().chain(&["--yes", "--json"])).ok().json();
    assert_eq!(
        (&noted["schema"], &noted["points"][0]["number"]),
        (&json!("muster.retention-acknowledge/1"), &json!(3))
    );
    world.prune(&[]);
    world.run(["check"]).ok();

    // A copy without times.
    let world = World::new().with_docs();
    world.write("src/a", noise(1, 1 << 20));
    world.backup();
    world.write("src/a", noise(2, 1 << 20));
    world.backup();
    world.keep_one();
    world.pass(2 * HOUR);
    world.prune(&[]);
    world.pass(A_DAY);
    world.prune(&[]);
    let (copy, store) = (world.join("copy"), format!("file://{}", world.join("copy").display()));
    let status = std::process::Command::new("cp").arg("-r").arg(world.repo()).arg(&copy).status().unwrap();
    assert!(status.success());
    // The copy is made later than any of its points had to arrive; those times stand in the points.
    let later = std::time::SystemTime::now() + Duration::from_secs(2 * HOUR);
    for path in files_below(&copy) {
        std::fs::File::open(&path).unwrap().set_modified(later).unwrap();
    }
    let at_copy = |args: &[&str]| {
        let mut command = world.command(args);
        command.env("MUSTER_STORE", &store);
        super::world::finish(command)
    };
    at_copy(&["prune"]).expect_code(4).says("plain copy");
    at_copy(&["retention", "apply", "--keep-last", "1", "--yes"]).expect_code(4).says("plain copy");
    // That packs were deleted in the original is no damage of the copy.
    at_copy(&["check"]).ok().says("plain copy");
    // Copied with its times it is as good as the original.
    std::fs::remove_dir_all(&copy).unwrap();
    copy_folder(&world.repo(), &copy);
    at_copy(&["prune"]).ok();
    at_copy(&["check"]).ok();
}

/// Another host with keys of its own, and a cache.
pub fn second_host(world: &World) -> World {
    let dir = tempfile::tempdir().unwrap();
    let other =
        World { dir, root: world.root.clone(), repository: world.repository.clone(), writer: String::new() };
    let (store, root) = (world.repo(), &world.root);
    other.write(
        "muster.toml",
        format!(
            "version = 1\n[repository]\nstore = \"file://{}\"\nroot = \"{root}\"\nkeys = \"file:muster.key\"\n",
            store.display()
        ),
    );
    other.run(["key", "request", "--label", "web-2", "--out", "request"]).ok();
    world.with_kit(["key", "admit", other.join("request").to_str().unwrap(), "--yes"]).ok();
    other
}

/// Gives a host new keys with other rights: a right goes only with its key.
fn new_keys(world: &World, other: &World, right: &str) {
    let request = other.join(&format!("request{right}"));
    other.run(["key", "request", "--out", request.to_str().unwrap()]).ok();
    world.with_kit(["key", "admit", request.to_str().unwrap(), right, "--yes"]).ok();
    std::fs::rename(other.join("muster.key.new"), other.join("muster.key")).unwrap();
}

fn objects_of(world: &World) -> Vec<PathBuf> {
    files_below(&world.repo().join("packs"))
}

#[test]
fn a_host_leaves_alone_what_a_running_backup_of_another_stores() {
    let world = World::new().with_docs();
    world.write("src/a", noise(1, 2 << 20));
    world.backup();
    let other = second_host(&world);
    other.write("big", noise(9, BIG));
    other.write("dump.sh", "cat big\nwhile [ ! -e go ]; do sleep 0.05; done\n");
    other.configure("[[job]]\nname = \"db\"\n[[job.source]]\nname = \"dump\"\nkind = \"command\"\nbackup = [\"sh\", \"dump.sh\"]");
    world.pass(3 * HOUR);
    let before = objects_of(&world).len();
    let began = Instant::now();
    let running = other.command(["backup", SMALL[0], SMALL[1]]).spawn().unwrap();
    wait_until("packs of the running backup", || objects_of(&world).len() >= before + 3);

    // It has been at work for an hour, which is less than its session lives.
    world.pass(HOUR);
    let beside = world.prune(&[]);
    assert!(bytes(&beside, "session") > 2 << 20, "{beside}");
    assert_eq!((bytes(&beside, "condemned"), world.objects("condemned").len()), (0, 0), "{beside}");
    other.write("go", "");
    wait(running, began).ok();
    let out = other.join("out");
    let kit = world.kit();
    other.run(["restore", "latest:db", "--to", "out", "--identity", &kit]).ok();
    assert_eq!(std::fs::read(out.join("dump/dump")).unwrap(), noise(9, BIG));

    // What a backup leaves that is killed is freed once its session has lapsed.
    std::fs::remove_file(other.join("go")).unwrap();
    other.write("big", noise(10, BIG));
    let before = objects_of(&world).len();
    let mut running = other.command(["backup", SMALL[0], SMALL[1]]).spawn().unwrap();
    wait_until("packs of the killed backup", || objects_of(&world).len() >= before + 3);
    running.kill().unwrap();
    running.wait().unwrap();
    world.pass(2 * HOUR);
    let orphaned = world.prune(&[]);
    assert!(bytes(&orphaned, "condemned") > 2 << 20, "{orphaned}");
    world.run(["check"]).ok();
    world.pass(A_DAY);
    assert!(bytes(&world.prune(&[]), "deleted") > 2 << 20);
    other.write("go", "");
    other.run(["backup"]).ok();
    world.run(["check", "--read-data"]).ok();
    world.is_whole_for(&other, &noise(10, BIG));
}

impl World {
    fn is_whole_for(&self, other: &World, content: &[u8]) {
        let kit = self.kit();
        other.run(["restore", "latest:db", "--to", "again", "--identity", &kit]).ok();
        assert!(std::fs::read(other.join("again/dump/dump")).unwrap() == content);
    }
}

#[test]
fn a_session_that_began_before_a_mark_holds_the_pack() {
    let world = World::new().with_docs();
    world.write("src/a", noise(1, 2 << 20));
    world.backup();
    world.write("src/a", noise(2, 2 << 20));
    world.backup();
    world.keep_one();
    world.pass(3 * HOUR);
    // A backup that was under way when the pack was marked, and still is a day later.
    let repo = world.open(Who::Writer);
    let id = Ulid::new(Time::new(1_800_000_000, 0), [7; 10]);
    let say = |renewal, state| {
        repo.put_session(&repo.session(id, "long", renewal, state, Time::new(0, 0)).unwrap()).unwrap();
    };
    say(0, SessionState::Running);
    world.prune(&[]);
    world.pass(A_DAY);
    say(1, SessionState::Running);
    let held = world.prune(&[]);
    assert!(bytes(&held, "session") > 1 << 20 && bytes(&held, "deleted") == 0, "{held}");
    say(2, SessionState::Ended);
    world.pass(HOUR);
    let freed = world.prune(&[]);
    assert!(bytes(&freed, "deleted") > 1 << 20, "{freed}");
    world.is_whole("out");
}

#[test]
fn rights_say_who_removes_what() {
    let world = World::new().with_docs();
    let other = second_host(&world);
    other.configure(
        "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [\"src\"]",
    );
    world.write("src/a", noise(1, 1 << 20));
    other.write("src/a", noise(2, 1 << 20));
    let (first, theirs) = (world.backup(), other.backup());
    world.backup();
    other.backup();
    world.pass(2 * HOUR);

    // Without a right a host removes its own alone.
    let plan = world.run(["retention", "plan", "--keep-last", "1", "--json"]).ok().json();
    assert_eq!((plan["removed"].as_u64(), plan["points"].as_array().unwrap().len()), (Some(1), 2), "{plan}");
    assert!(plan["notes"].to_string().contains("2 points of other hosts left alone"), "{plan}");
    other
        .run(["retention", "remove", &first, "--yes"])
        .expect_code(4)
        .says("another host wrote it")
        .says(&first);

    new_keys(&world, &other, "--append-only");
    for args in [
        vec!["retention", "apply", "--keep-last", "1", "--yes"],
        vec!["retention", "remove", &theirs, "--yes"],
    ] {
        other.run(args).expect_code(4).says("may only add");
    }
    other.run(["prune"]).expect_code(4).says("may only add").says("--mark-only");
    other.run(["prune", "--mark-only"]).ok();
    assert_eq!(world.objects("tombstones").len(), 0);

    // One host with the right removes for all, and deletes what the others may not.
    new_keys(&world, &other, "--may-remove-others");
    let done = other.run(["retention", "apply", "--keep-last", "1", "--yes", "--json"]).ok().json();
    assert_eq!((done["removed"].as_u64(), done["kept"].as_u64()), (Some(2), Some(2)), "{done}");
    world.run(["points", "--all"]).ok().says("2 points removed");
}

#[test]
fn one_host_marks_and_another_deletes() {
    let world = World::new().with_docs();
    let other = second_host(&world);
    world.write("src/a", noise(1, 2 << 20));
    world.backup();
    world.write("src/a", noise(2, 2 << 20));
    world.backup();
    world.keep_one();
    world.pass(2 * HOUR);
    let before = world.objects("packs");
    let marked = world.prune(&["--mark-only"]);
    assert!(bytes(&marked, "condemned") > 1 << 20, "{marked}");
    world.pass(A_DAY);
    let still = world.prune(&["--mark-only"]);
    assert!(bytes(&still, "grace") > 1 << 20 && bytes(&still, "deleted") == 0, "{still}");
    assert!(before.iter().all(|pack| pack.exists()));
    let deleted = other.run(["prune", "--json"]).ok().json();
    assert!(bytes(&deleted, "deleted") > 1 << 20, "{deleted}");
    world.is_whole("out");
}

#[test]
fn rules_stand_in_the_configuration_and_flags_override_them() {
    let world = World::new();
    world.configure(
        "[[job]]\nname = \"app\"\n[job.retention]\nkeep_last = 2\n[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [\"src\"]\n\
         [[job]]\nname = \"free\"\n[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [\"src\"]",
    );
    world.write("src/a", "A");
    let points: Vec<String> = (0..4).map(|_| backup_of(&world, "app")).collect();
    backup_of(&world, "free");
    let plan = |args: &[&str]| {
        let run = world.run(["retention", "plan", "--json"].iter().chain(args)).ok();
        let plan = run.json();
        let gone = plan["points"].as_array().unwrap().iter().filter(|p| p["kept"] == false);
        let gone: Vec<String> = gone.map(|p| p["point"].as_str().unwrap().to_owned()).collect();
        (gone, plan)
    };
    let (gone, whole) = plan(&[]);
    assert_eq!(gone, points[..2]);
    assert!(whole["notes"][0].as_str().unwrap().contains("no rule says which points of job free"), "{whole}");
    assert_eq!(plan(&["app", "--keep-last", "3"]).0, points[..1]);
    assert!(plan(&["app", "--keep-within", "1d"]).0.is_empty(), "flags replace the whole rule");
    world
        .run(["retention", "apply", "free", "--yes"])
        .ok()
        .says("no rule says")
        .says("nothing to remove; 1 point kept");
    world.run(["retention", "plan", "ap"]).expect_code(2).says("did you mean `app`?");
    world
        .run(["retention", "plan", "ap", "--keep-last", "1"])
        .expect_code(1)
        .says("neither the configuration");
    world.pass(3 * A_DAY);
    let (gone, _) = plan(&["app", "--keep-within", "2d"]);
    assert_eq!(gone, points[..3], "the newest stays, however old");

    // By name, with the reason on record.
    let last = &points[3];
    world.run(["retention", "remove", last]).expect_code(4).says("--yes");
    let run = world.run(["retention", "remove", last, "--reason", "held a password", "--dry-run"]).ok();
    run.says("would remove").says("held a password");
    world.run(["retention", "remove", last, &points[2], "--reason", "held a password", "--yes"]).ok();
    world.run(["retention", "remove", last, "--yes"]).expect_code(1).says("held a password");
    world.run(["points", "--all", "--job", "app"]).ok().says("held a password").says(last);
    let rest = world.run(["points", "--json"]).ok().json();
    assert_eq!((rest["points"].as_array().unwrap().len(), &rest["removed"]), (3, &Value::Array(vec![])));
    let removed = world.run(["points", "--all", "--json"]).ok().json();
    assert_eq!(removed["removed"].as_array().unwrap().len(), 2);
    // Within the grace period whoever may delete from the store can undo it.
    std::fs::remove_file(world.repo().join("tombstones").join(last)).unwrap();
    world.run(["points"]).ok().says(last);
    world.run(["check"]).ok().says_not("warning");
    world.run(["retention", "remove", last, "--yes"]).ok();
    // What is removed is no damage, and no gap.
    world.run(["check"]).ok().says_not("warning");
    world.run(["prune"]).ok();
    backup_of(&world, "app");
}

fn backup_of(world: &World, job: &str) -> String {
    let done: Run = world.run(["backup", job, "--json"]).ok();
    done.json()["point"].as_str().unwrap().to_owned()
}

/// To a run that began before, whoever was admitted since is a stranger, whose points need nothing.
#[test]
fn a_prune_that_is_older_than_the_configuration_stops() {
    let world = World::new().with_docs();
    let repo = world.open(Who::Writer);
    let other = second_host(&world);
    other.configure(
        "[[job]]\nname = \"db\"\n[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [\"src\"]",
    );
    other.write("src/a", noise(1, 1 << 20));
    other.backup();
    world.pass(2 * HOUR);
    let request = PruneRequest {
        settings: Settings { max_repack_bytes: None, repack_percent: 25, delete: true },
        compact: false,
        accept_missing_points: false,
        dry_run: false,
        threads: 1,
        memory_bytes: 64 << 20,
        clock: &RealClock,
        entropy: &OsEntropy,
        progress: &Progress::new(ProgressMode::Quiet),
        cancel: &Cancel::default(),
    };
    let error = prune(&repo, &request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert!(error.to_string().contains("configuration changed"), "{error}");
    assert_eq!(world.objects("condemned").len(), 0);
    assert_eq!(bytes(&world.prune(&[]), "condemned"), 0);
}

/// Whatever else somebody keeps in the folder.
#[test]
fn what_is_not_ours_is_left_alone() {
    let world = World::new().with_docs();
    world.write("src/a", "A");
    world.backup();
    let strange: Vec<PathBuf> = ["packs/data/README", "index/note.txt", "condemned/what"]
        .iter()
        .map(|name| world.write(&Path::new("repo").join(name).display().to_string(), "not ours"))
        .collect();
    world.pass(A_DAY);
    world.prune(&[]);
    world.pass(A_DAY);
    world.prune(&[]);
    assert!(strange.iter().all(|path| path.exists()));
}
