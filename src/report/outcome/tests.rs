use jiff::tz::TimeZone;

use super::*;
use crate::model::{Attrs, Entry, EntryKind, EntryPath, EntryState, Time};

fn human() -> Human {
    Human::in_zone(TimeZone::UTC)
}

/// Both forms, for people first.
fn both(outcome: &impl Outcome) -> String {
    let print = |format| {
        let mut out = Vec::new();
        emit(outcome, format, &human(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&print(Format::Json)).unwrap();
    format!("{}\n{}", print(Format::Human), serde_json::to_string_pretty(&json).unwrap())
}

fn at(secs: i64) -> super::super::Stamp {
    Time::new(1_795_245_473 + secs, 500_000_000).into()
}

fn failure(path: &str, why: &str) -> Failure {
    Failure { path: path.into(), why: why.into() }
}

fn source(name: &str, kind: &str, status: Status) -> BackupSource {
    BackupSource {
        name: name.into(),
        kind: kind.into(),
        status,
        items: 12_345,
        items_unchanged: 12_000,
        items_unreadable: 0,
        items_changed: 0,
        bytes: 5 << 30,
        bytes_read: 12 << 20,
        started: at(0),
        ended: at(123),
        notes: vec![],
        error: None,
        failures: vec![],
    }
}

fn backup() -> Backup {
    Backup {
        alarms: 0,
        point: Some("01KAJ4Z8T0000000000000000".into()),
        job: "app".into(),
        dry_run: false,
        status: Status::Incomplete,
        sources: vec![
            BackupSource {
                items: 0,
                error: Some("pg_dump ended with exit status 1".into()),
                ..source("db", "command", Status::Failed)
            },
            BackupSource {
                items_unreadable: 12,
                items_changed: 1,
                failures: vec![
                    failure("a/\x1b[2Jb", "permission denied"),
                    failure("c", "changed while read"),
                ],
                notes: vec!["a mount point was passed over: proc".into()],
                ..source("docs", "files", Status::Incomplete)
            },
        ],
        totals: BackupTotals {
            items: 12_345,
            bytes: 5 << 30,
            bytes_read: 12 << 20,
            bytes_new: 7 << 20,
            bytes_stored: 3 << 20,
            chunks_new: 17,
            chunks_known: 4321,
            packs: 1,
            index_objects: 1,
        },
        duration_secs: 123.4,
        warnings: vec!["the point is much smaller than its predecessor".into()],
        thaw_error: None,
    }
}

#[test]
fn backup_outcome() {
    assert_eq!(backup().exit(), Exit::Partial);
    insta::assert_snapshot!("backup", both(&backup()));
}

#[test]
fn points_outcome() {
    let row = PointRow {
        point: "01KAJ4Z8T0000000000000000".into(),
        job: "app".into(),
        time: at(0),
        status: Status::Complete,
        void: false,
        writer: "web-1".into(),
        tags: vec!["production".into(), "nightly".into()],
        items: 1234,
        bytes: 1 << 30,
        bytes_stored: 1 << 20,
        sources: vec![PointSource {
            name: "docs".into(),
            kind: "files".into(),
            status: Status::Complete,
            items: 1234,
            bytes: 1 << 30,
        }],
    };
    let removed = RemovedPoint {
        point: "01KAJ00000000000000000000".into(),
        job: "app".into(),
        writer: "web-1".into(),
        removed: at(0),
        by: "web-1".into(),
        rule: "keep-last 7".into(),
        due: Some(at(86_400)),
    };
    let points = Points {
        points: vec![row.clone(), PointRow { void: true, point: "01KAJ5".into(), ..row }],
        unusable: vec![failure("01X", "signed by a stranger")],
        removed: vec![removed.clone(), RemovedPoint { due: None, ..removed }],
        warnings: vec![],
    };
    insta::assert_snapshot!("points", both(&points));
    let mut out = Vec::new();
    Points::default().render(&mut out, &human()).unwrap();
    assert_eq!(out, b"no points\n");
}

#[test]
fn prune_outcome() {
    let bytes = PruneBytes {
        total: 100 << 20,
        live: 60 << 20,
        pinned: 1 << 20,
        unused: 2 << 20,
        repacked: 0,
        condemned: 7 << 20,
        session: 3 << 20,
        grace: 4 << 20,
        deleted: 19 << 20,
        locked: 4 << 20,
    };
    let prune = Prune {
        points: 12,
        packs: 9,
        packs_condemned: 2,
        packs_spared: 1,
        packs_deleted: 3,
        packs_waiting: 2,
        packs_locked: 1,
        packs_repacked: 2,
        bytes_moved: 5 << 20,
        objects_tidied: 14,
        bytes,
        warnings: vec!["1 point is void: what only such points need is not kept".into()],
        duration_secs: 3.2,
        ..Prune::default()
    };
    assert_eq!(prune.exit(), Exit::Partial);
    let dry = Prune {
        dry_run: true,
        bytes: PruneBytes { repacked: 4 << 20, locked: 0, ..prune.bytes.clone() },
        packs_locked: 0,
        objects_tidied: 0,
        ..prune.clone()
    };
    assert_eq!(dry.exit(), Exit::Done);
    let mut out = Vec::new();
    dry.render(&mut out, &human()).unwrap();
    insta::assert_snapshot!("prune", format!("{}\n{}", both(&prune), String::from_utf8(out).unwrap()));
}

#[test]
fn retention_outcome() {
    let row = |point: &str, kept, rule: &str| RetentionRow {
        point: point.into(),
        job: "app".into(),
        time: at(0),
        kept,
        rule: rule.into(),
    };
    let retention = Retention {
        dry_run: true,
        points: vec![row("01A", false, "keep-last 1"), row("01B", true, "the newest that holds something")],
        kept: 1,
        removed: 1,
        notes: vec!["left alone, as no rule was asked for: web (3 points)".into()],
        warnings: vec!["something is odd".into()],
    };
    let mut out = Vec::new();
    Retention { dry_run: false, ..retention.clone() }.render(&mut out, &human()).unwrap();
    Retention::default().render(&mut out, &human()).unwrap();
    insta::assert_snapshot!(
        "retention",
        format!("{}\n{}", both(&retention), String::from_utf8(out).unwrap())
    );
}

#[test]
fn rows_of_ls_and_find() {
    let path = |text: &str| EntryPath::from_display(text.as_bytes()).unwrap();
    let attrs =
        Attrs { mode: 0o4755, uid: 1000, user: Some("ann".into()), mtime: at(0).0, ..Attrs::default() };
    let file = Entry { size: 2048, attrs: Some(attrs), ..Entry::new(path("srv/a"), EntryKind::File) };
    let link = Entry::new(path("srv/l"), EntryKind::Symlink(b"/etc\x1b".to_vec()));
    let lost = Entry {
        state: EntryState::Unreadable("permission denied".into()),
        ..Entry::new(path("srv/x"), EntryKind::Directory)
    };
    let mut out = Vec::new();
    writeln!(out, "{}", ls_header()).unwrap();
    for entry in [&file, &link, &lost] {
        LsEntry::new("docs", entry).render(&mut out, &human(), true).unwrap();
    }
    LsEntry::new("docs", &lost).render(&mut out, &human(), false).unwrap();
    let found = FindMatch {
        point: "01KAJ".into(),
        job: "app".into(),
        time: at(0),
        entry: LsEntry::new("docs", &file),
    };
    found.render(&mut out, &human()).unwrap();
    let text = String::from_utf8(out).unwrap();
    insta::assert_snapshot!("rows", format!("{text}\n{}", serde_json::to_string_pretty(&found).unwrap()));
}

#[test]
fn diff_rows_and_sum() {
    let change = |change, before, after, differs: &[&'static str]| DiffChange {
        change,
        source: "docs".into(),
        path: "srv/a".into(),
        size_before: before,
        size_after: after,
        differs: differs.to_vec(),
    };
    let changes = [
        change(Change::Added, None, Some(2048), &[]),
        change(Change::Removed, Some(10), None, &[]),
        change(Change::Changed, Some(2048), Some(1024), &["content", "mtime"]),
        change(Change::Changed, Some(7), Some(7), &["mode"]),
    ];
    let mut sum = DiffSummary { unchanged: 1000, ..DiffSummary::default() };
    let mut out = Vec::new();
    for change in &changes {
        sum.count(change);
        change.render(&mut out).unwrap();
    }
    sum.render(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    insta::assert_snapshot!(
        "diff",
        format!("{text}\n{}", serde_json::to_string_pretty(&changes[2]).unwrap())
    );
}

#[test]
fn restore_outcome() {
    let restore = Restore {
        point: "01KAJ".into(),
        job: "app".into(),
        dry_run: false,
        sources: vec![
            RestoreSource {
                name: "docs".into(),
                kind: "files".into(),
                target: "/tmp/out".into(),
                items: 1234,
                bytes: 1 << 30,
                unchanged: 7,
                verified: Some(1234),
                failed: 1,
                failures: vec![failure("a", "the owner cannot be set")],
                ..RestoreSource::default()
            },
            RestoreSource {
                name: "db".into(),
                error: Some("psql is missing".into()),
                ..RestoreSource::default()
            },
        ],
        duration_secs: 3.0,
        warnings: vec![],
    };
    assert_eq!(restore.exit(), Exit::Partial);
    insta::assert_snapshot!("restore", both(&restore));
}

#[test]
fn check_outcome() {
    let problem = Problem {
        object: "packs/data/ab/abcd".into(),
        what: "it is 3 bytes short".into(),
        points_hurt: vec!["01KAJ".into()],
        paths_hurt: (0..12).map(|n| format!("01KAJ docs:{n}")).collect(),
    };
    let check = Check {
        verdict: "1 problem: 1 point cannot be restored whole".into(),
        objects: [("packs".to_owned(), 1234), ("points".to_owned(), 7)].into(),
        data: DataCheck::Subset("5%".into()),
        bytes_read: 1 << 30,
        content_proven: false,
        problems: vec![problem.clone()],
        warnings: vec!["a leftover file was passed over".into()],
        duration_secs: 61.0,
    };
    assert_eq!(check.exit(), Exit::Partial);
    let repair = RepairIndex {
        packs_unread: 0,
        dry_run: true,
        was_whole: false,
        packs_read: 3,
        chunks_found: 1200,
        chunks_dropped: 0,
        index_objects: 1,
        problems: vec![],
        duration_secs: 0.2,
    };
    let whole = RepairIndex { was_whole: true, chunks_found: 0, index_objects: 0, ..repair.clone() };
    insta::assert_snapshot!("check", [both(&check), both(&repair), both(&whole)].join("\n\n"));
}

#[test]
fn key_outcomes() {
    let init = Init {
        store: "file:///srv/backup".into(),
        repository: "0123".into(),
        root: "root1abc".into(),
        kit: "kit.txt".into(),
        config: "muster.toml".into(),
        keys: "muster.key".into(),
        writer: "aa".into(),
        recipients: vec!["bb".into()],
        kit_has_passphrase: false,
        remarks: vec![],
    };
    let list = KeyList {
        config: 3,
        root: "root1abc".into(),
        data_epoch: "d1".into(),
        metadata_epoch: "m1".into(),
        recipients: vec![KeyRecipient {
            id: "bb".into(),
            label: "kit".into(),
            kind: "x25519".into(),
            recipient: "age1xyz".into(),
        }],
        writers: vec![KeyWriter {
            id: "aa".into(),
            label: "web-1".into(),
            role: "writer".into(),
            status: "active".into(),
            rights: vec!["may-remove-others".into()],
            shares_with: vec!["aa".into(), "dd".into()],
            public_key: "ed1".into(),
        }],
    };
    let change = KeyChange {
        action: "request".into(),
        id: Some("cc".into()),
        file: Some("req".into()),
        config: None,
        done: "wrote the request to req".into(),
        next: vec!["run `muster key admit req` where the root key is".into()],
    };
    insta::assert_snapshot!("keys", [both(&init), both(&list), both(&change)].join("\n\n"));
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    struct Gone(io::ErrorKind);
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert!(emit(&backup(), Format::Human, &human(), &mut Gone(io::ErrorKind::BrokenPipe)).is_ok());
    assert!(emit(&backup(), Format::Json, &human(), &mut Gone(io::ErrorKind::StorageFull)).is_err());
    assert!(emit(&backup(), Format::Json, &human(), &mut Gone(io::ErrorKind::BrokenPipe)).is_ok());
}
