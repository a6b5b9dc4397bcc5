//! What a restore makes, keeps, replaces and removes.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use muster::model::{Content, Entry, EntryPath, EntryState, Error, ErrorKind, Extent, Result};
use muster::ports::{
    Cancel, CaptureReader, Conflict, RestoreReport, RestoreRequest, RestoreTarget, Selection, Source,
    StreamSink, Verdict,
};
use muster::sources::FilesConfig;

use super::super::{expect_same, restore_all, to_folder, verdict};
use super::{Tree, fill_richly, get_xattr, set_xattr, sh};
use crate::memory_engine::{MemoryEngine, MemoryPoint, MemoryReader};

fn restore(
    engine: &MemoryEngine,
    tree: &Tree,
    point: &MemoryPoint,
    request: &RestoreRequest,
) -> RestoreReport {
    tree.source().restore(&engine.reader(point), request, &Cancel::default()).unwrap()
}

#[test]
fn everything_comes_back_exactly() {
    let tree = Tree::new();
    fill_richly(&tree);
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let target = tempfile::tempdir().unwrap();
    restore_all(&engine, &tree.source(), &point, &to_folder(target.path()));
    expect_same(&engine, &tree.source(), &point, target.path());
    // Verification is ours too: look at some of it by other eyes.
    let at = |rest: &str| tree.in_folder(target.path(), rest);
    let meta = |rest: &str| std::fs::symlink_metadata(at(rest)).unwrap();
    assert_eq!((meta("plain/a.txt").mtime(), meta("plain/a.txt").mtime_nsec()), (1_000_000_000, 123_456_789));
    assert_eq!((meta("plain").mtime(), meta("plain").mtime_nsec()), (7, 1));
    assert_eq!(meta("owned/script").mode() & 0o7777, 0o6755);
    assert_eq!((meta("owned/script").uid(), meta("owned/script").gid()), (1234, 4321));
    assert_eq!(meta("links/first").ino(), meta("plain/third").ino());
    assert_eq!(meta("closed").mode() & 0o7777, 0);
    assert_eq!(get_xattr(&at("owned/tagged"), "user.note"), b"a\0b");
    assert_eq!(get_xattr(&at("links/soft"), "trusted.on-a-link"), b"1");
    assert_eq!(meta("special/null").rdev(), rustix::fs::makedev(1, 3));
    let acl =
        std::process::Command::new("getfacl").args(["-cpn", "--"]).arg(at("owned/tagged")).output().unwrap();
    assert!(String::from_utf8_lossy(&acl.stdout).contains("user:1234:r--"));
    let status = std::process::Command::new("diff")
        .args(["-r", "--no-dereference", "--exclude=special"])
        .arg(tree.path(""))
        .arg(at(""))
        .status();
    assert!(status.unwrap().success());
}

/// A point some of whose catalogue is lost.
struct Torn<'a> {
    whole: MemoryReader<'a>,
    lost: Vec<EntryPath>,
}

impl CaptureReader for Torn<'_> {
    fn entries(&self, selection: &Selection, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        self.whole.entries(selection, &mut |entry| {
            if self.lost.contains(&entry.path) { Ok(()) } else { visit(entry) }
        })?;
        Err(Error::new(ErrorKind::Damaged, "read the tree", "a page is lost"))
    }
    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>> {
        self.whole.entry(path)
    }
    fn read(&self, entry: &Entry, offset: u64, len: u64, out: &mut dyn StreamSink) -> Result<()> {
        self.whole.read(entry, offset, len, out)
    }
    fn is_same(&self, entry: &Entry, content: &mut dyn std::io::Read) -> Result<bool> {
        self.whole.is_same(entry, content)
    }
    fn facts(&self) -> Result<Vec<u8>> {
        self.whole.facts()
    }
    fn parallelism(&self) -> usize {
        self.whole.parallelism()
    }
    fn progress(&self, items: u64, bytes: u64) {
        self.whole.progress(items, bytes);
    }
}

#[test]
fn a_damaged_catalogue_costs_only_what_it_lists() {
    let tree = Tree::new();
    fill_richly(&tree);
    std::fs::create_dir(tree.path("calm")).unwrap();
    std::fs::set_permissions(tree.path("calm"), PermissionsExt::from_mode(0o751)).unwrap();
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let lost = ["owned", "owned/script", "plain/a.txt"].map(|rest| tree.entry_path(rest));
    let torn = Torn { whole: engine.reader(&point), lost: lost.to_vec() };
    let target = tempfile::tempdir().unwrap();
    let at = |rest: &str| tree.in_folder(target.path(), rest);
    let meta = |rest: &str| std::fs::symlink_metadata(at(rest)).unwrap();
    let request = to_folder(target.path());
    let report = tree.source().restore(&torn, &request, &Cancel::default()).unwrap();
    assert_eq!(report.failures.len(), 2, "{report:?}");
    assert_eq!(report.failures[0].0, "the catalogue");
    assert!(report.failures[0].1.contains("a page is lost"), "{report:?}");
    // Links, and the attributes of directories, are finished all the same.
    assert_eq!(meta("links/first").ino(), meta("links/second").ino());
    assert_eq!(meta("links/first").ino(), meta("plain/third").ino());
    assert_eq!(meta("calm").mode() & 0o7777, 0o751);
    assert_eq!((meta("plain").mtime(), meta("plain").mtime_nsec()), (7, 1));
    // What lies in a directory that is lost itself comes back; the directory is named.
    assert_eq!(std::fs::read(at("owned/tagged")).unwrap(), b"x");
    assert_eq!(report.failures[1].0, tree.entry("owned"));
    assert!(!at("owned/script").exists() && !at("plain/a.txt").exists());
    let verdict = |reader: &Torn<'_>| {
        let target = RestoreTarget::Folder(target.path().to_owned());
        tree.source().verify(reader, &target, &Cancel::default()).unwrap()
    };
    let found = verdict(&torn);
    assert!(found.cannot_tell.iter().any(|(path, _)| path == "the catalogue"), "{found:?}");

    // Mirroring must not take what is lost in the point for too much in the target.
    std::fs::write(at("plain/a.txt"), "kept").unwrap();
    let mirror = RestoreRequest { conflict: Conflict::Mirror, ..request };
    let report = tree.source().restore(&torn, &mirror, &Cancel::default()).unwrap();
    assert_eq!((report.removed, report.failures.len()), (0, 1), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("nothing was removed")), "{report:?}");
    assert_eq!(std::fs::read(at("plain/a.txt")).unwrap(), b"kept");
    assert_eq!((meta("plain").mtime(), meta("plain").mtime_nsec()), (7, 1));
}

#[test]
fn sparse_and_large_files_are_written_in_ranges_and_stay_sparse() {
    let tree = Tree::new();
    let file = std::fs::File::create(tree.path("large")).unwrap();
    file.set_len(200 << 20).unwrap();
    for at in [0u64, (64 << 20) - 3, 130 << 20, (200 << 20) - 6] {
        file.write_all_at(b"island", at).unwrap();
    }
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let target = tempfile::tempdir().unwrap();
    restore_all(&engine, &tree.source(), &point, &to_folder(target.path()));
    expect_same(&engine, &tree.source(), &point, target.path());
    let meta = std::fs::metadata(tree.in_folder(target.path(), "large")).unwrap();
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
}

#[test]
fn each_kind_of_tampering_is_named() {
    let tree = Tree::new();
    fill_richly(&tree);
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    type Tamper = fn(&Path);
    let cases: [(&str, &str, Tamper); 11] = [
        ("plain/a.txt", "content differs", |p| {
            let mtime = std::fs::metadata(p).unwrap();
            std::fs::write(p, "jello").unwrap();
            super::set_mtime(p, mtime.mtime(), mtime.mtime_nsec());
        }),
        ("plain/a.txt", "6 bytes instead of 5", |p| std::fs::write(p, "hello!").unwrap()),
        ("plain/a.txt", "mode 0777", |p| {
            std::fs::set_permissions(p, PermissionsExt::from_mode(0o777)).unwrap()
        }),
        ("plain/a.txt", "owner 5:6", |p| std::os::unix::fs::chown(p, Some(5), Some(6)).unwrap()),
        ("plain/a.txt", "modified at 1000000000.123456790", |p| {
            super::set_mtime(p, 1_000_000_000, 123_456_790)
        }),
        ("owned/tagged", "user.note differs", |p| set_xattr(p, "user.note", b"other")),
        ("owned/script", "user.new was not there", |p| set_xattr(p, "user.new", b"x")),
        ("links/soft", "points elsewhere", |p| {
            std::fs::remove_file(p).unwrap();
            symlink("elsewhere", p).unwrap();
        }),
        ("plain/third", "is no hard link", |p| {
            std::fs::remove_file(p).unwrap();
            std::fs::write(p, "shared").unwrap();
        }),
        ("special/fifo", "another kind", |p| {
            std::fs::remove_file(p).unwrap();
            std::fs::write(p, "").unwrap();
        }),
        ("plain/unknown", "not in the point", |p| std::fs::write(p, "").unwrap()),
    ];
    for (at, why, tamper) in cases {
        let target = tempfile::tempdir().unwrap();
        restore_all(&engine, &tree.source(), &point, &to_folder(target.path()));
        tamper(&tree.in_folder(target.path(), at));
        let (found, text) = verdict(&engine, &tree.source(), &point, target.path());
        assert_eq!(found, Verdict::Different, "{at}: {why}");
        assert!(text.contains(why), "{at}: expected {why:?} in {text}");
    }
}

#[test]
fn replace_keeps_others_and_mirror_removes_them() {
    let tree = Tree::new();
    for (file, text) in [("a", "A"), ("sub/b", "B"), ("sub/c", "C"), ("ignored.tmp", "I")] {
        tree.write(file, text);
    }
    let engine = MemoryEngine::default();
    let config = FilesConfig { exclude: vec!["*.tmp".into()], ..tree.config() };
    let source = tree.source_of(config);
    let point = engine.capture(&source, None).unwrap();
    let target = tempfile::tempdir().unwrap();
    restore_all(&engine, &source, &point, &to_folder(target.path()));
    let at = |rest: &str| tree.in_folder(target.path(), rest);
    let spoil = || {
        std::fs::write(at("a"), "changed").unwrap();
        std::fs::create_dir_all(at("extra/deep")).unwrap();
        std::fs::write(at("extra/deep/x"), "").unwrap();
        std::fs::write(at("kept.tmp"), "excluded, so not ours to remove").unwrap();
        std::fs::write(target.path().join("beside"), "outside the roots").unwrap();
    };
    spoil();
    let request = |conflict| RestoreRequest { conflict, ..to_folder(target.path()) };
    let go = |request: &RestoreRequest| {
        source.restore(&engine.reader(&point), request, &Cancel::default()).unwrap()
    };
    let dry = go(&RestoreRequest { dry_run: true, ..request(Conflict::Mirror) });
    assert_eq!(std::fs::read(at("a")).unwrap(), b"changed");
    assert_eq!(dry.removed, 3);
    let replaced = go(&request(Conflict::Replace));
    assert_eq!(std::fs::read(at("a")).unwrap(), b"A");
    assert!(at("extra/deep/x").exists());
    assert_eq!(replaced.bytes, 1, "only what differed is written: {replaced:?}");
    assert!(replaced.unchanged >= 3);
    spoil();
    let mirrored = go(&request(Conflict::Mirror));
    assert_eq!(mirrored.removed, 3);
    assert!(!at("extra").exists() && at("kept.tmp").exists() && target.path().join("beside").exists());
    expect_same(&engine, &source, &point, target.path());

    // A directory with other things in it is in the way of a file: only mirroring clears it.
    std::fs::remove_file(at("a")).unwrap();
    std::fs::create_dir(at("a")).unwrap();
    std::fs::write(at("a/precious"), "").unwrap();
    let failed = go(&request(Conflict::Replace));
    assert_eq!(failed.failures.len(), 1);
    assert!(at("a/precious").exists());
    assert_eq!(go(&request(Conflict::Mirror)).failures, []);
    assert_eq!(std::fs::read(at("a")).unwrap(), b"A");
}

#[test]
fn mirroring_spares_what_was_not_read() {
    let tree = Tree::new();
    tree.write("docs/a", "x");
    let engine = MemoryEngine::default();
    let mut point = engine.capture(&tree.source(), None).unwrap();
    point.entries.retain(|e| e.path.leaf() != b"a");
    point.entries.last_mut().unwrap().state = EntryState::Unreadable("Permission denied".into());
    let target = tempfile::tempdir().unwrap();
    let kept = tree.in_folder(target.path(), "docs/kept");
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    std::fs::write(&kept, "x").unwrap();
    let request = RestoreRequest { conflict: Conflict::Mirror, ..to_folder(target.path()) };
    let report = restore(&engine, &tree, &point, &request);
    assert_eq!((report.removed, report.failures.len()), (0, 1));
    assert!(kept.exists());
    assert_eq!(verdict(&engine, &tree.source(), &point, target.path()).0, Verdict::CannotTell);
}

#[test]
fn a_selection_brings_its_directories_and_its_links() {
    let tree = Tree::new();
    fill_richly(&tree);
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let target = tempfile::tempdir().unwrap();
    let paths =
        vec![tree.entry_path("plain/third"), tree.entry_path("closed/inner/file"), tree.entry_path("none")];
    let request = RestoreRequest { selection: Selection { paths }, ..to_folder(target.path()) };
    let report = restore(&engine, &tree, &point, &request);
    assert_eq!(report.failures, [(tree.entry("none"), "is not in the point".to_owned())]);
    let at = |rest: &str| tree.in_folder(target.path(), rest);
    assert_eq!(std::fs::read(at("plain/third")).unwrap(), b"shared");
    assert!(!at("plain/a.txt").exists() && !at("links").exists());
    assert_eq!(std::fs::metadata(at("closed")).unwrap().mode() & 0o7777, 0);
    assert_eq!(std::fs::metadata(at("plain")).unwrap().mtime(), 7);
}

#[test]
fn the_original_place_is_put_right_and_nothing_above_it_touched() {
    let tree = Tree::new();
    fill_richly(&tree);
    let root = tree.path("data");
    std::fs::create_dir(&root).unwrap();
    tree.write("data/a", "A");
    let source = tree.source_of(FilesConfig { paths: vec![root.clone()], ..FilesConfig::default() });
    let engine = MemoryEngine::default();
    let point = engine.capture(&source, None).unwrap();
    let request = RestoreRequest { target: RestoreTarget::Original, ..to_folder(&root) };
    let go = |request: &RestoreRequest| source.restore(&engine.reader(&point), request, &Cancel::default());
    assert_eq!(go(&request).unwrap_err().kind(), ErrorKind::Refused);
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::set_permissions(tree.path(""), PermissionsExt::from_mode(0o711)).unwrap();
    tree.write("beside", "not ours");
    let before = std::fs::metadata(tree.path("")).unwrap();
    assert_eq!(go(&request).unwrap().failures, []);
    assert_eq!(std::fs::read(root.join("a")).unwrap(), b"A");
    let verified =
        source.verify(&engine.reader(&point), &RestoreTarget::Original, &Cancel::default()).unwrap();
    assert_eq!(verified.verdict(), Verdict::Same, "{verified:?}");
    let mirror = RestoreRequest { conflict: Conflict::Mirror, ..request };
    tree.write("data/extra", "");
    let report = go(&mirror).unwrap();
    assert_eq!((report.removed, report.failures.len()), (1, 0), "{report:?}");
    assert!(tree.path("beside").exists());
    assert_eq!(std::fs::metadata(tree.path("")).unwrap().mode(), before.mode());
}

#[test]
fn a_restore_that_fails_half_way_leaves_the_old_file() {
    let tree = Tree::new();
    tree.write("a", vec![1; 3 << 20]);
    tree.write("b", "fine");
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let target = tempfile::tempdir().unwrap();
    let at = |rest: &str| tree.in_folder(target.path(), rest);
    std::fs::create_dir_all(at("a").parent().unwrap()).unwrap();
    std::fs::write(at("a"), "old").unwrap();
    let Some(Content::Inline(extents)) = &point.entry(&tree.entry("a")).content else { panic!() };
    let mut last = point.entry(&tree.entry("a")).clone();
    last.content = Some(Content::Inline(vec![extents.last().unwrap().clone()]));
    assert!(matches!(extents.last(), Some(Extent::Chunk { .. })));
    engine.damage(&last);
    let request = RestoreRequest { conflict: Conflict::Replace, ..to_folder(target.path()) };
    let report = restore(&engine, &tree, &point, &request);
    assert_eq!(report.failures.len(), 1);
    assert!(report.failures[0].1.contains("lost"), "{report:?}");
    assert_eq!(std::fs::read(at("a")).unwrap(), b"old");
    assert_eq!(std::fs::read(at("b")).unwrap(), b"fine");
    let left = std::fs::read_dir(at("a").parent().unwrap()).unwrap().count();
    assert_eq!(left, 2, "no temporary file is left");
}

#[test]
fn another_name_outside_is_not_reached_through_a_hard_link() {
    let tree = Tree::new();
    tree.write("a", "same");
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let target = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let at = tree.in_folder(target.path(), "a");
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(outside.path().join("mine"), "same").unwrap();
    std::fs::set_permissions(outside.path().join("mine"), PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::hard_link(outside.path().join("mine"), &at).unwrap();
    let request = RestoreRequest { conflict: Conflict::Replace, ..to_folder(target.path()) };
    assert_eq!(restore(&engine, &tree, &point, &request).failures, []);
    assert_eq!(std::fs::metadata(outside.path().join("mine")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(std::fs::metadata(&at).unwrap().nlink(), 1);
}

#[test]
fn a_full_target_stops_the_restore_and_leaves_no_half_file() {
    let tree = Tree::new();
    tree.write("large", vec![1; 130 << 20]);
    tree.write("small", vec![2; 2 << 20]);
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    // A file system of its own that holds 32 MiB.
    let place = tempfile::tempdir().unwrap();
    sh(
        "mount",
        &["-t", "tmpfs", "-o", "size=32m", "tmpfs"]
            .map(AsRef::as_ref)
            .into_iter()
            .chain([place.path().as_os_str()])
            .collect::<Vec<_>>(),
    );
    let request = to_folder(&place.path().join("target"));
    let restored = tree.source().restore(&engine.reader(&point), &request, &Cancel::default());
    let is_left = tree.in_folder(&place.path().join("target"), "large").exists();
    sh("umount", &[place.path().as_os_str()]);
    let error = restored.unwrap_err();
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull), "{error}");
    assert!(error.remedy().unwrap().contains("--replace"));
    assert!(!is_left);
}
