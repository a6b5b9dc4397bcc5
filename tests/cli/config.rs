//! A `muster.toml` that is wrong: the line is shown, what to write instead, and never a secret.

use super::world::World;

/// What the program says about a configuration with these lines after the repository's.
fn said(lines: &str) -> String {
    let world = World::new();
    world.configure(lines);
    let run = world.run(["points"]).expect_code(2);
    assert!(run.stdout.is_empty());
    let head = std::fs::read_to_string(world.join("muster.toml")).unwrap();
    let first = head.find(lines).map(|at| head[..at].lines().count()).unwrap();
    // Numbers of lines depend on the template's length.
    let mut said = run.stderr;
    for (n, _) in lines.lines().enumerate().collect::<Vec<_>>().iter().rev() {
        said = said.replace(&format!("{}", first + n + 1), &format!("<{}>", n + 1));
    }
    said
}

#[test]
fn a_misspelt_key_shows_line_and_suggestion() {
    insta::assert_snapshot!(said(
        "[[job]]\nname = \"app\"\nfreez = [\"true\"]\n[[job.source]]\nname = \"a\"\nkind = \"files\"\npaths = [\"a\"]"
    ));
}

#[test]
fn a_misspelt_table_shows_line_and_suggestion() {
    insta::assert_snapshot!(said(
        "[[jobs]]\nname = \"app\"\n[[job.source]]\nname = \"a\"\nkind = \"files\"\npaths = [\"a\"]"
    ));
}

#[test]
fn a_misspelt_kind_shows_line_and_suggestion() {
    insta::assert_snapshot!(said(
        "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"a\"\nkind = \"file\"\npaths = [\"a\"]"
    ));
}

#[test]
fn a_secret_in_plain_text_is_refused_without_an_echo() {
    let env = |line: &str| {
        said(&format!(
            "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"dump\"]\n{line}"
        ))
    };
    insta::assert_snapshot!("plain_secret", env("env = { PGPASSWORD = \"canary-hunter2\" }"));
    for line in [
        "env = { PGPASSWORD = \"canary-hunter2\" }",
        "env = { PGPASSWORD = 12345678901 }",
        "env = \"canary-hunter2\"",
        "env_plain = { PGPASSWORD = \"canary-hunter2\" }",
        "env_plain = { URL = \"postgres://app:canary-hunter2@db/app\" }",
        "restore = [\"load\", \"--password=canary-hunter2\"]",
        "restore = [\"load\", \"postgres://app:canary-hunter2@db/app\"]",
    ] {
        let text = env(line);
        assert!(!text.contains("canary") && !text.contains("12345678901"), "{line}\n{text}");
        assert!(text.contains("hint:"), "{line}\n{text}");
    }
}

#[test]
fn an_unknown_identity_reference_is_not_repeated() {
    let world = World::new();
    for given in ["AGE-SECRET-KEY-1CANARYCANARY", "canary-passphrase"] {
        for args in [
            vec!["points", "--identity", given],
            vec!["points", "--identity", given, "--json"],
            vec!["init", "--store", "file:///x", "--kit", "k", "--passphrase-from", given],
        ] {
            world.run(&args).expect_code(2).says_not("CANARY").says_not("canary");
        }
    }
}

#[test]
fn a_job_is_named_where_there_are_several() {
    let world = World::new();
    world.run(["backup"]).expect_code(2).says("job");
    for name in ["one", "two"] {
        world.configure(&format!("[[job]]\nname = \"{name}\"\n[[job.source]]\nname = \"a\"\nkind = \"command\"\nbackup = [\"echo\", \"x\"]"));
    }
    world.run(["backup"]).expect_code(2).says("one").says("two");
    world.run(["backup", "two"]).ok();
}
