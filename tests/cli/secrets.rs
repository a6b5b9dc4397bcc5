//! No secret shows: not in what the program prints or logs, not in what it stores or caches, not in
//! the arguments of programs that it starts.

use age::secrecy::ExposeSecret;
use muster::model::id::to_hex;

use super::world::{Run, Who, World, files_below};

/// What may be nowhere, and what it is.
struct Canaries(Vec<(&'static str, String)>);

impl Canaries {
    fn of(world: &World) -> Self {
        let lines = |file: &str| std::fs::read_to_string(world.join(file)).unwrap();
        let mut found = Vec::new();
        for (file, what) in [("kit.txt.plain", "the kit"), ("muster.key", "the host's keys")] {
            for line in lines(file).lines() {
                let secret =
                    line.strip_prefix("# muster-root-key: ").or(line.strip_prefix("# muster-signing-key: "));
                found.extend(secret.map(|s| (what, s.to_owned())));
                if line.starts_with("AGE-SECRET-KEY-") {
                    found.push((what, line.to_owned()));
                }
            }
        }
        assert_eq!(found.len(), 4);
        let repo = world.open(Who::Both);
        for epoch in repo.epochs().values() {
            let identity = epoch.identity.as_ref().unwrap().to_string();
            found.push(("an epoch's identity", identity.expose_secret().to_owned()));
        }
        assert_eq!(found.len(), 6);
        found.extend(
            [
                ("a secret in the environment", "canary-of-env"),
                ("a secret in a file", "canary-of-file"),
                ("a secret of a command", "canary-of-cmd"),
                ("a passphrase", "canary-of-passphrase"),
                ("what a program said", "canary-of-stderr"),
                ("a plain secret in the configuration", "canary-in-plain"),
            ]
            .map(|(what, text)| (what, text.to_owned())),
        );
        Self(found)
    }

    #[track_caller]
    fn are_not_in(&self, place: &str, bytes: &[u8]) {
        for (what, text) in &self.0 {
            for form in [text.clone(), text.to_lowercase(), to_hex(text.as_bytes())] {
                let is_there = bytes.windows(form.len()).any(|w| w == form.as_bytes());
                assert!(!is_there, "{what} stands in {place}:\n{}", String::from_utf8_lossy(bytes));
            }
        }
    }
}

/// A world in which every way to give a secret is used.
fn world() -> World {
    let world = World::new().with_docs();
    std::fs::copy(world.join("kit.txt"), world.join("kit.txt.plain")).unwrap();
    world.write("src/a", "A");
    world.write("of-file", "canary-of-file\n");
    world.write("of-cmd", "canary-of-cmd\n");
    world.write("of-passphrase", "canary-of-passphrase\n");
    // Looks at its own arguments and those of everybody above it, and fails when a secret is missing.
    world.write(
        "dump.sh",
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done >> seen 2>/dev/null\n\
         [ \"$A\" = canary-of-env ] && [ \"$B\" = canary-of-file ] && [ \"$C\" = canary-of-cmd ] || exit 9\n\
         echo canary-of-stderr >&2; echo content\n",
    );
    world.configure(
        "[[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"sh\", \"dump.sh\"]\nrestore = [\"sh\", \"-c\", \"cat >/dev/null\"]\n\
         env = { A = \"env:CANARY\", B = \"file:of-file\", C = \"cmd:cat of-cmd\" }\n\
         [[job]]\nname = \"broken\"\n[[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"sh\", \"-c\", \"exit 3\"]\n\
         env = { A = \"env:CANARY\" }\n\
         [[job]]\nname = \"unset\"\n[[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"true\"]\n\
         env = { A = \"env:NOT_SET\" }\n\
         [[job]]\nname = \"failing\"\n[[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"true\"]\n\
         env = { A = \"cmd:cat of-cmd; cat of-cmd >&2; exit 1\" }",
    );
    world
}

fn run(world: &World, args: &[&str]) -> Run {
    let mut command = world.command(args);
    command.env("CANARY", "canary-of-env").env("MUSTER_PASSPHRASE_FROM", "file:of-passphrase");
    super::world::finish(command)
}

#[test]
fn no_secret_shows_anywhere() {
    let world = world();
    let kit = world.kit();
    let canaries = Canaries::of(&world);
    let entry = world.entry("src/a");
    world.write(
        "broken.toml",
        "version = 1\n[repository]\nstore = \"file:///x\"\nroot = \"r\"\nkeys = \"canary-in-plain\"\n",
    );
    world.write(
        "odd.toml",
        "version = 1\n[repository]\nstore = \"s3://key:canary-in-plain@bucket/x\"\nroot = \"r\"\n",
    );
    world.write("half-a-kit", "# muster-root-key: canary-in-plain\nAGE-SECRET-KEY-1CANARY-IN-PLAIN\n");
    let commands: Vec<(Vec<&str>, i32)> = vec![
        (vec!["backup", "app"], 0),
        (vec!["backup", "app", "--dry-run"], 0),
        (vec!["backup", "broken"], 3),
        (vec!["backup", "unset"], 2),
        (vec!["backup", "failing"], 2),
        (vec!["points", "--all"], 0),
        (vec!["ls", "latest:app", "-R"], 0),
        (vec!["find", "a"], 0),
        (vec!["diff", "latest:app", "latest:app"], 0),
        (vec!["cat", "latest:app", &entry], 1),
        (vec!["restore", "latest:app", "--to", "out1"], 1),
        (vec!["restore", "latest:app", "--to", "out", "--verify", "--identity", &kit], 0),
        (vec!["restore", "latest:app", "--source", "db", "--run", "--identity", &kit], 0),
        (vec!["restore", "latest:broken", "--to", "out2", "--identity", &kit], 1),
        (vec!["points", "--identity", "file:half-a-kit"], 2),
        (vec!["points", "--identity", "cmd:cat of-cmd"], 2),
        (vec!["points", "--identity", "env:CANARY"], 2),
        (vec!["points", "--identity", "canary-in-plain"], 2),
        (vec!["points", "-c", "broken.toml"], 2),
        (vec!["points", "-c", "odd.toml"], 2),
        (vec!["completions", "zsh"], 0),
        (vec!["nonsense"], 2),
        (vec!["--help"], 0),
    ];
    for (args, code) in commands {
        for more in [vec![], vec!["-v"], vec!["-vv"], vec!["--json"], vec!["-vv", "--json"]] {
            let _ = std::fs::remove_dir_all(world.join("out"));
            let all: Vec<&str> = args.iter().copied().chain(more).collect();
            let ran = run(&world, &all);
            assert!(
                ran.code == Some(code) || all.contains(&"--json") && args[0] == "cat",
                "{all:?}: {:?}\n{}",
                ran.code,
                ran.all()
            );
            // What a failing program said is for whoever runs it, and only there.
            canaries.are_not_in(&format!("the output of {all:?}"), ran.all().as_bytes());
        }
    }
    let made = world.join("made");
    std::fs::create_dir(&made).unwrap();
    let store = format!("file://{}", made.join("repo").display());
    let init = [
        "-c",
        "made/m.toml",
        "init",
        "--store",
        &store,
        "--kit",
        "made/kit",
        "--passphrase-from",
        "file:of-passphrase",
        "-vv",
    ];
    canaries.are_not_in("the output of init", run(&world, &init).ok().all().as_bytes());

    let mut looked = 0;
    for folder in ["repo", "cache", "made"] {
        for file in files_below(&world.join(folder)) {
            looked += 1;
            canaries.are_not_in(&file.display().to_string(), &std::fs::read(&file).unwrap());
        }
    }
    assert!(looked > 10);
    let seen = std::fs::read(world.join("seen")).unwrap();
    assert!(String::from_utf8_lossy(&seen).contains("dump.sh"));
    canaries.are_not_in("the arguments of programs", &seen);
}

/// Where keys and passphrases are is not for the programs that Muster runs, unless they are told.
#[test]
fn programs_do_not_inherit_where_keys_are() {
    let world = World::new();
    world.configure(
        "[[job]]\nname = \"app\"\nfreeze = [\"sh\", \"-c\", \"env > hook\"]\n\
         [[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"env\"]\n\
         restore = [\"sh\", \"-c\", \"cat > back; env > restored\"]\n\
         [[job.source]]\nname = \"told\"\nkind = \"command\"\nbackup = [\"env\"]\n\
         env = { KIT_PASSPHRASE = \"env:KIT_PASSPHRASE\", OTHER = \"env:HOST_KEYS\" }",
    );
    let run = |args: &[&str]| {
        let mut command = world.command(args);
        command.env("MUSTER_IDENTITY", "env:KIT").env("MUSTER_KEYS", "env:HOST_KEYS");
        command.env("MUSTER_PASSPHRASE_FROM", "env:KIT_PASSPHRASE").env("MUSTER_MEMORY", "64MiB");
        command.env("KIT", std::fs::read_to_string(world.join("kit.txt")).unwrap());
        command.env("HOST_KEYS", std::fs::read_to_string(world.join("muster.key")).unwrap());
        command.env("KIT_PASSPHRASE", "canary-of-passphrase").env("OF_THE_PROGRAMS", "own");
        super::world::finish(command).ok()
    };
    run(&["backup"]);
    run(&["restore", "latest", "--source", "db", "--run"]);
    let read = |file: &str| std::fs::read_to_string(world.join(file)).unwrap();
    for (what, seen) in [("hook", read("hook")), ("source", read("back")), ("restore", read("restored"))] {
        for name in ["MUSTER_IDENTITY", "MUSTER_KEYS", "MUSTER_PASSPHRASE_FROM", "KIT", "HOST_KEYS", "canary"]
        {
            assert!(!seen.contains(name) && !seen.contains("AGE-SECRET"), "{what} sees {name}:\n{seen}");
        }
        assert!(
            seen.contains("OF_THE_PROGRAMS=own") && seen.contains("MUSTER_MEMORY=64MiB"),
            "{what}: {seen}"
        );
    }
    assert!(read("restored").contains("MUSTER_CONFLICT=refuse"));
    let told = run(&["cat", "latest", "told:told"]).stdout;
    assert!(told.contains("KIT_PASSPHRASE=canary-of-passphrase") && told.contains("OTHER="), "{told}");
    assert!(!told.contains("MUSTER_IDENTITY") && !told.contains("HOST_KEYS"), "{told}");
}

/// Not even the program that fetches the first of them sees the others.
#[test]
fn a_command_that_fetches_a_key_sees_no_other() {
    let world = World::new();
    let mut command = world.command(["key", "rotate", "--metadata", "--root", "env:ROOT_KIT", "--yes"]);
    command.env("MUSTER_PASSPHRASE_FROM", "cmd:env > seen-1; echo canary");
    command.env("MUSTER_IDENTITY", "cmd:env > seen-2; cat kit.txt").env("MUSTER_KEYS", "env:HOST_KEYS");
    command.env("HOST_KEYS", std::fs::read_to_string(world.join("muster.key")).unwrap());
    command.env("ROOT_KIT", std::fs::read_to_string(world.join("kit.txt")).unwrap());
    super::world::finish(command).ok();
    for file in ["seen-1", "seen-2"] {
        let seen = std::fs::read_to_string(world.join(file)).unwrap();
        for name in ["MUSTER_IDENTITY", "MUSTER_KEYS", "HOST_KEYS", "ROOT_KIT", "AGE-SECRET"] {
            assert!(!seen.contains(name), "{file} has {name}:\n{seen}");
        }
    }
}

#[test]
fn nothing_is_left_in_temporary_folders() {
    let world = world();
    let temporary = world.join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let kit = world.kit();
    for args in [
        vec!["backup", "app"],
        vec!["restore", "latest", "--to", "out", "--verify", "--identity", &kit],
        vec!["backup", "broken"],
    ] {
        let mut command = world.command(&args);
        command.env("TMPDIR", &temporary).env("CANARY", "canary-of-env");
        super::world::finish(command);
    }
    assert_eq!(files_below(&temporary), Vec::<std::path::PathBuf>::new());
}
