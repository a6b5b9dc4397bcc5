//! Stopped and killed in the middle of things.

use std::path::Path;
use std::process::Child;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::world::{World, noise, wait, wait_until};

const BYTES: usize = 60 << 20;

/// A job whose source gives much, and then stalls until `go` is there.
fn world() -> World {
    let world = World::new();
    world.write("content", noise(11, BYTES));
    world.write("dump.sh", "echo $$ > pid\ncat content\ntouch stalled\n[ -e go ] || exec sleep 600\n");
    world.write("frozen", "");
    world.configure(
        "[[job]]\nname = \"app\"\nfreeze = [\"sh\", \"-c\", \"echo freeze >> log\"]\nthaw = [\"sh\", \"-c\", \"echo thaw >> log\"]\n\
         [[job.source]]\nname = \"dump\"\nkind = \"command\"\nbackup = [\"sh\", \"dump.sh\"]",
    );
    world
}

fn start(world: &World) -> Child {
    let child = world.command(["backup", "app", "--memory", "32MiB"]).spawn().unwrap();
    wait_until("the source stalls", || world.join("stalled").exists());
    child
}

/// Ends what a killed backup left running.
fn end_source(pid_file: &Path) {
    let text = std::fs::read_to_string(pid_file).unwrap();
    if let Some(group) = text.trim().parse().ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn points(world: &World) -> usize {
    world.objects("points").len()
}

#[test]
fn a_backup_that_was_killed_goes_on_where_it_was() {
    let world = world();
    world.configure("[[job]]\nname = \"early\"\n[[job.source]]\nname = \"e\"\nkind = \"command\"\nbackup = [\"echo\", \"early\"]");
    world.run(["backup", "early"]).ok();
    let indexed = world.objects("index").len();
    let mut child = start(&world);
    wait_until("packs are indexed", || world.objects("index").len() > indexed);
    child.kill().unwrap();
    child.wait().unwrap();
    end_source(&world.join("pid"));
    let stored: u64 = world.objects("packs/data").iter().map(|f| f.metadata().unwrap().len()).sum();

    assert_eq!(points(&world), 1, "a killed backup leaves no point");
    assert_eq!(world.with_kit(["cat", "latest:early", "e:e"]).ok().stdout, "early\n");
    world.write("go", "");
    let done = world.run(["backup", "app", "--json", "--memory", "32MiB"]).ok().json();
    let new = done["totals"]["bytes_new"].as_u64().unwrap();
    // Nothing of what is there is sent again, though the last packs were not indexed any more.
    let left = (BYTES as u64).saturating_sub(stored);
    assert!(new <= left + (1 << 20), "{new} of {BYTES} bytes were stored, and {stored} were there");
    world.with_kit(["restore", "latest:app", "--to", "out", "--verify"]).ok();
    assert!(std::fs::read(world.join("out/dump/dump")).unwrap() == noise(11, BYTES));
    assert_eq!(world.with_kit(["cat", "latest:early", "e:e"]).ok().stdout, "early\n");
    // Nothing half-written lies about.
    for file in world.objects("") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with('.') && !name.contains("tmp"), "{}", file.display());
    }
}

#[test]
fn an_interrupt_thaws_says_so_and_leaves_no_point() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = world();
        let child = start(&world);
        let began = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let run = wait(child, began).expect_code(1).says("stopping").says("interrupted").says("run it again");
        assert!(run.took.as_secs() < 20, "{:?}", run.took);
        assert_eq!(std::fs::read_to_string(world.join("log")).unwrap(), "freeze\nthaw\n");
        assert_eq!(points(&world), 0);
        let pid = std::fs::read_to_string(world.join("pid")).unwrap();
        wait_until("the source is ended", || !Path::new(&format!("/proc/{}", pid.trim())).exists());
        world.write("go", "");
        world.run(["backup"]).ok();
    }
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let world = world();
    world.write("dump.sh", "echo $$ > pid\ntouch stalled\ntrap '' INT TERM\nwhile :; do sleep 1; done\n");
    let child = start(&world);
    let began = Instant::now();
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let _ = kill_process(pid, Signal::INT);
    let run = wait(child, began);
    end_source(&world.join("pid"));
    assert!(matches!(run.code, Some(1 | 130)), "{:?}", run.code);
    assert!(run.took.as_secs() < 10, "{:?}", run.took);
    assert_eq!(points(&world), 0);
}

// ---- one large file ----

/// Large enough to be in the middle of for a while.
const LARGE_BYTES: usize = 300 << 20;

fn world_of_one_large_file() -> World {
    let world = World::new().with_docs();
    world.write("src/large", noise(12, LARGE_BYTES));
    world
}

/// Starts a command, and asks it to stop once `is_under_way`.
fn interrupted(world: &World, args: &[&str], is_under_way: impl Fn() -> bool) -> super::world::Run {
    let child = world.command(args.iter().copied().chain(["--memory", "32MiB"])).spawn().unwrap();
    wait_until("it is under way", is_under_way);
    let began = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let run = wait(child, began).expect_code(1).says("interrupted");
    assert!(run.took.as_secs() < 20, "{:?}", run.took);
    run
}

#[test]
fn an_interrupt_stops_in_the_middle_of_a_large_file() {
    let world = world_of_one_large_file();
    interrupted(&world, &["backup"], || world.objects("packs").len() > 2)
        .says("what is stored already is not sent again");
    assert_eq!(points(&world), 0, "an interrupted backup leaves no point");
    // What was stored is indexed, and the session is over.
    assert!(!world.objects("index").is_empty());
    assert_eq!(world.objects("sessions").len(), 2);

    let done = world.run(["backup", "--json"]).ok().json();
    let new = done["totals"]["bytes_new"].as_u64().unwrap();
    assert!(new < LARGE_BYTES as u64, "{new} of {LARGE_BYTES} bytes were stored again");

    // So does a restore, which leaves nothing half-written …
    let kit = world.kit();
    let out = world.restored("out", "docs", &world.join("src/large"));
    let restore = ["restore", "latest", "--to", "out", "--identity", &kit];
    interrupted(&world, &restore, || out.exists()).says("--replace").says_not("not sent again");
    assert!(!out.exists());
    world.with_kit(["restore", "latest", "--to", "out", "--replace", "--yes", "--verify"]).ok();
    assert!(std::fs::read(out).unwrap() == noise(12, LARGE_BYTES));
}
