use std::path::Path;

use clap::{CommandFactory, Parser};

use super::*;
use crate::model::{EntryPath, ErrorKind};

fn parse(line: &str) -> Result<(Global, Command), String> {
    let words = std::iter::once("muster").chain(line.split_whitespace());
    let raw = RawCli::try_parse_from(words).map_err(|error| error.render().to_string())?;
    raw.validate().map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Usage, "{line}");
        format!("{error} {error:?} {}", error.remedy().unwrap_or_default())
    })
}

fn command(line: &str) -> Command {
    parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).1
}

#[test]
fn the_definition_is_sound() {
    RawCli::command().debug_assert();
}

#[test]
fn good_lines_are_taken() {
    for line in [
        "init --store file:///b --kit k",
        "init --store file:///b --kit k --recipient age1x --recipient age1y --passphrase --writer-label w",
        "init --store file:///b --kit k --passphrase-from env:P",
        "backup",
        "backup app --tag a --tag b --dry-run --force-read",
        "points --job app --all",
        "ls latest",
        "ls latest:app docs:srv/a -l -R",
        "find *.pdf --point latest -i",
        "diff 01KAJ latest docs",
        "cat latest docs:a",
        "restore latest --to d",
        "restore latest docs:a db --source x --in-place --replace=mirror --dry-run --strict-owner --verify",
        "retention plan",
        "retention plan app --keep-last 7 --keep-within 30d",
        "retention apply --keep-within 2w --dry-run",
        "retention remove 01KAJ latest --reason why --dry-run",
        "prune",
        "prune --dry-run --max-repack 0 --repack-unused 100 --compact --mark-only --accept-missing-points",
        "check",
        "check --read-data",
        "repair index --dry-run",
        "key list",
        "key add age1x --label l --kind x25519 --root file:kit",
        "key remove ab --root env:ROOT",
        "key request --role drill --label l --out f --keys k",
        "key admit f",
        "key revoke ab",
        "key rotate --all",
        "completions zsh",
    ] {
        command(line);
    }
}

#[test]
fn bad_lines_are_refused() {
    for line in [
        "",
        "frobnicate",
        "init --store file:///b",
        "init --store ftp:// --kit k",
        "init --store file:///b --kit k --passphrase --passphrase-from env:P",
        "ls",
        "ls lates!",
        "ls latest:",
        "ls latest docs:../etc",
        "ls latest /etc",
        "cat latest docs",
        "find [a",
        "find a --point latest --job app",
        "restore latest",
        "restore latest --to d --run",
        "restore latest --to d --replace=everything",
        "restore latest --to d --source docs:a",
        "retention",
        "retention apply --keep-last 0",
        "retention apply --keep-within 30",
        "retention plan --keep-within 1mo",
        "retention remove",
        "retention remove no!",
        "prune --max-repack lots",
        "prune --repack-unused 0",
        "prune --repack-unused 101",
        "check --read-data --read-data-subset 5%",
        "check --read-data-subset 0%",
        "check --read-data-subset 8/7",
        "check --read-data-subset half",
        "repair",
        "key",
        "key rotate",
        "key rotate --data --all",
        "key request",
        "key add age1x --kind passphrase",
        "points -q -v",
        "points --memory lots",
        "points --memory 0",
        "backup --tag a,b",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn global_flags_stand_anywhere() {
    let line = "-c /etc/m.toml points --json --identity file:kit --identity env:K --memory 64MiB --cache-dir /c --yes -vv --no-progress";
    let (global, _) = parse(line).unwrap();
    assert_eq!(global.config, Path::new("/etc/m.toml"));
    assert!(global.json && global.yes && !global.progress);
    assert_eq!(global.identities, [SecretRef::File("kit".into()), SecretRef::Env("K".into())]);
    assert_eq!((global.memory_bytes, global.verbosity), (Some(64 << 20), Verbosity::Trace));
    assert_eq!(parse("-q points").unwrap().0.verbosity, Verbosity::Quiet);
}

#[test]
fn a_secret_in_place_of_a_reference_is_not_repeated() {
    for line in [
        "points --identity hunter2",
        "init --store file:///b --kit k --passphrase-from hunter2",
        "key admit f --root hunter2",
        "init --store s3://key:hunter2@bucket --kit k",
    ] {
        let message = parse(line).unwrap_err();
        assert!(!message.contains("hunter2"), "{message}");
        assert!(message.contains("env:NAME"), "{message}");
    }
}

#[test]
fn restore_says_what_and_where() {
    let Command::Restore(restore) = command("restore latest:app docs:/srv/a/ --source db --to out --replace")
    else {
        panic!()
    };
    assert_eq!(restore.point, PointSpec::Latest { job: Some("app".into()) });
    let path = EntryPath::from_display(b"srv/a");
    assert_eq!(
        restore.selection,
        [SourcePath { source: "db".into(), path: None }, SourcePath { source: "docs".into(), path }]
    );
    assert_eq!(restore.conflict, Conflict::Replace);
    assert_eq!(restore.destination.of_source("db"), RestoreTarget::Folder("out/db".into()));
    assert_eq!(Destination::Run.of_source("db"), RestoreTarget::Original);
    let Command::Restore(plain) = command("restore latest --run") else { panic!() };
    assert_eq!((plain.conflict, plain.destination), (Conflict::Refuse, Destination::Run));
}

#[test]
fn points_and_subsets_read() {
    assert_eq!("01kaj".parse::<PointSpec>().unwrap(), PointSpec::Prefix("01KAJ".into()));
    for bad in ["", "latest:", "01L", "01KAJ4Z8T00000000000000000X", "app:latest"] {
        assert!(bad.parse::<PointSpec>().is_err(), "{bad}");
    }
    for (text, subset) in [
        ("5%", Subset::BasisPoints(500)),
        ("0.5%", Subset::BasisPoints(50)),
        ("100%", Subset::BasisPoints(10_000)),
        ("2/7", Subset::Part { part: 2, of: 7 }),
    ] {
        assert_eq!(text.parse::<Subset>().unwrap(), subset);
        assert_eq!(subset.to_string(), text);
    }
}

#[test]
fn rotation_says_which_epochs() {
    for (flag, epochs) in [("--data", Round::Data), ("--metadata", Round::Metadata), ("--all", Round::All)] {
        let Command::Key(Key::Rotate { epochs: found, .. }) = command(&format!("key rotate {flag}")) else {
            panic!()
        };
        assert_eq!(found, epochs);
    }
}

#[test]
fn a_rule_given_by_flags_stands_in_place_of_the_configured_one() {
    let rule = |line: &str| match command(line) {
        Command::Retention(Retention::Apply { job, keep, dry_run }) => (job, keep, dry_run),
        other => panic!("{other:?}"),
    };
    assert_eq!(rule("retention plan"), (None, None, true));
    let keep = Keep { last: Some(2), within_secs: Some(12 * 3600) };
    assert_eq!(
        rule("retention apply app --keep-last 2 --keep-within 12h"),
        (Some("app".to_owned()), Some(keep), false)
    );
}
