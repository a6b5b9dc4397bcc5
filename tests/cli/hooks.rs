//! Freeze and thaw.

use super::world::World;

const APPEND: &str = "[\"sh\", \"-c\", \"echo WORD >> log; echo content; EXIT\"]";

fn hook(word: &str, exit: &str) -> String {
    APPEND.replace("WORD", word).replace("EXIT", exit)
}

/// A job whose hooks and source each write a word into `log`.
fn world(freeze: &str, thaw: &str, source: &str) -> World {
    let world = World::new();
    world.configure(&format!(
        "[[job]]\nname = \"app\"\nfreeze = {}\nthaw = {}\n[[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = {}",
        hook("freeze", freeze),
        hook("thaw", thaw),
        hook("source", source),
    ));
    world
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.join("log")).unwrap_or_default().replace('\n', " ")
}

#[test]
fn they_stand_around_the_capture() {
    let world = world("exit 0", "exit 0", "exit 0");
    world.configure("[[job.source]]\nname = \"second\"\nkind = \"command\"\nbackup = [\"sh\", \"-c\", \"echo second >> log; echo x\"]");
    world.backup();
    assert_eq!(log(&world), "freeze source second thaw ");
}

#[test]
fn a_failing_source_is_thawed() {
    let world = world("exit 0", "exit 0", "exit 7");
    world.run(["backup"]).expect_code(3).says("exit");
    assert!(log(&world).ends_with("thaw "), "{}", log(&world));
    assert_eq!(log(&world).matches("thaw").count(), 1);
}

#[test]
fn a_failing_freeze_is_thawed_and_makes_no_point() {
    let world = world("echo the lock is taken >&2; exit 5", "exit 0", "exit 0");
    world.run(["backup"]).expect_code(1).says("freeze").says("the lock is taken");
    assert_eq!(log(&world), "freeze thaw ");
    assert_eq!(world.objects("points").len(), 0);
}

#[test]
fn a_freeze_that_hangs_is_ended() {
    let world = World::new();
    world.configure(&format!(
        "[[job]]\nname = \"app\"\nhook_timeout_secs = 1\nfreeze = [\"sleep\", \"600\"]\nthaw = {}\n[[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"echo\", \"x\"]",
        hook("thaw", "exit 0")
    ));
    let run = world.run(["backup"]).expect_code(1);
    assert!(run.took.as_secs() < 20, "{:?}", run.took);
    assert_eq!(log(&world), "thaw ");
}

#[test]
fn a_failing_thaw_is_said_loudly() {
    let world = world("exit 0", "echo still frozen >&2; exit 1", "exit 0");
    let run = world.run(["backup"]);
    assert_ne!(run.code, Some(0));
    run.says("thaw").says("still frozen");
}

#[test]
fn without_a_repository_nothing_is_frozen() {
    let world = world("exit 0", "exit 0", "exit 0");
    std::fs::rename(world.repo(), world.join("away")).unwrap();
    world.run(["backup"]).expect_code(1);
    assert_eq!(log(&world), "");
}
