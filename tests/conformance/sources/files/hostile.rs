//! Trees and targets made to lead a restore astray.

use std::os::unix::fs::symlink;

use muster::model::{Entry, EntryKind, EntryPath};
use muster::ports::{Cancel, Conflict, RestoreRequest, Source};

use super::super::to_folder;
use super::Tree;
use crate::memory_engine::{MemoryEngine, MemoryPoint};

/// A path that no honest capture holds, as its stored bytes.
fn raw(bytes: &[u8]) -> EntryPath {
    minicbor::decode(&minicbor::to_vec(<&minicbor::bytes::ByteSlice>::from(bytes)).unwrap()).unwrap()
}

/// A point with some honest entries, into which hostile ones are put.
fn honest(tree: &Tree, engine: &MemoryEngine) -> MemoryPoint {
    tree.write("good", "good");
    engine.capture(&tree.source(), None).unwrap()
}

#[test]
fn nothing_is_written_outside_the_target() {
    let tree = Tree::new();
    let engine = MemoryEngine::default();
    let point = honest(&tree, &engine);
    let good = point.entry(&tree.entry("good")).clone();
    let scratch = tempfile::tempdir().unwrap();
    let outside = scratch.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "untouched").unwrap();
    let file = |path: EntryPath| Entry { path, ..good.clone() };
    let link = |path: &str, to: &[u8]| {
        Entry::new(EntryPath::from_display(path.as_bytes()).unwrap(), EntryKind::Symlink(to.to_vec()))
    };
    let outside_bytes = outside.to_str().unwrap().as_bytes().to_vec();
    let p = |text: &str| EntryPath::from_display(text.as_bytes()).unwrap();
    let hostile: Vec<(&str, Vec<Entry>)> = vec![
        ("..", vec![file(raw(b"..\0outside\0victim"))]),
        ("hidden ..", vec![file(raw(b"a\0..\0..\0outside\0victim"))]),
        ("a slash", vec![file(raw(b"../outside/victim"))]),
        ("absolute", vec![file(raw([b"/", outside_bytes.as_slice(), b"/victim"].concat().as_slice()))]),
        ("an empty part", vec![file(raw(b"a\0\0b"))]),
        ("through a link", vec![link("a", &outside_bytes), file(p("a/victim"))]),
        ("through two links", vec![link("a", b"b"), link("b", b"../outside"), file(p("a/victim"))]),
        (
            "a directory through a link",
            vec![
                link("a", &outside_bytes),
                Entry::new(p("a/new"), EntryKind::Directory),
                file(p("a/new/file")),
            ],
        ),
        ("over a link", vec![link("a", &[&outside_bytes[..], b"/victim"].concat()), file(p("a"))]),
        (
            "a hard link to what is outside",
            vec![
                link("a", &outside_bytes),
                Entry::new(p("h"), EntryKind::HardLink(p("a/victim"))),
                Entry::new(p("i"), EntryKind::HardLink(raw(b"..\0outside\0victim"))),
            ],
        ),
    ];
    for (what, entries) in hostile {
        for conflict in [Conflict::Refuse, Conflict::Replace, Conflict::Mirror] {
            let target = scratch.path().join("target");
            let mut point = point.clone();
            point.entries.extend(entries.clone());
            let request = RestoreRequest { conflict, ..to_folder(&target) };
            let report = tree.source().restore(&engine.reader(&point), &request, &Cancel::default()).unwrap();
            assert!(!report.failures.is_empty() || what == "over a link", "{what}, {conflict:?}");
            assert_eq!(std::fs::read(tree.in_folder(&target, "good")).unwrap(), b"good", "{what}");
            assert_eq!(std::fs::read(outside.join("victim")).unwrap(), b"untouched", "{what}");
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{what}");
            let meta = std::fs::metadata(outside.join("victim")).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::nlink(&meta), 1, "{what}");
            std::fs::remove_dir_all(&target).unwrap();
        }
    }
}

#[test]
fn a_link_in_the_target_is_replaced_and_not_followed() {
    let tree = Tree::new();
    tree.write("docs/a", "A");
    tree.write("file", "F");
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("a"), "mine").unwrap();
    let target = tempfile::tempdir().unwrap();
    let at = |rest: &str| tree.in_folder(target.path(), rest);
    std::fs::create_dir_all(at("docs").parent().unwrap()).unwrap();
    symlink(outside.path(), at("docs")).unwrap();
    symlink(outside.path().join("a"), at("file")).unwrap();
    let request = RestoreRequest { conflict: Conflict::Replace, ..to_folder(target.path()) };
    let report = tree.source().restore(&engine.reader(&point), &request, &Cancel::default()).unwrap();
    assert_eq!(report.failures, []);
    assert_eq!(std::fs::read(at("docs/a")).unwrap(), b"A");
    assert!(std::fs::symlink_metadata(at("docs")).unwrap().is_dir());
    assert!(std::fs::symlink_metadata(at("file")).unwrap().is_file());
    assert_eq!(std::fs::read(outside.path().join("a")).unwrap(), b"mine");
}

#[test]
fn facts_that_lead_outside_are_refused() {
    let tree = Tree::new();
    let engine = MemoryEngine::default();
    let mut point = honest(&tree, &engine);
    point.report.facts = vec![0xff];
    let target = tempfile::tempdir().unwrap();
    let restored =
        tree.source().restore(&engine.reader(&point), &to_folder(target.path()), &Cancel::default());
    assert_eq!(restored.unwrap_err().kind(), muster::model::ErrorKind::Damaged);
}
