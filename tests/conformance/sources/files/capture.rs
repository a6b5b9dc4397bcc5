//! What a capture sees, leaves out, and does about things that move.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use muster::model::{Content, EntryKind, EntryState, ErrorKind, Extent};
use muster::ports::Source;
use muster::sources::{FilesConfig, FilesSource};

use super::{Tree, fill_richly, set_mtime, sh};
use crate::memory_engine::{MemoryEngine, MemoryPoint};

fn reason(state: &EntryState) -> &str {
    match state {
        EntryState::Unreadable(why) => why,
        other => panic!("not unreadable: {other:?}"),
    }
}

#[test]
fn everything_is_recorded() {
    let tree = Tree::new();
    fill_richly(&tree);
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let entry = |rest: &str| point.entry(&tree.entry(rest));
    let attrs = |rest: &str| entry(rest).attrs.clone().unwrap();
    assert_eq!(engine.bytes(entry("plain/a.txt")), b"hello");
    assert_eq!(attrs("plain/a.txt").mtime.nanos, 123_456_789);
    assert_eq!(attrs("plain/empty").mtime.secs, -5);
    assert_eq!(attrs("owned/script").mode, 0o6755);
    assert_eq!((attrs("owned/script").uid, attrs("owned/script").gid), (1234, 4321));
    assert_eq!(attrs("plain/a.txt").user.as_deref(), Some("root"));
    let names: Vec<_> = attrs("owned/tagged")
        .xattrs
        .unwrap()
        .into_iter()
        .map(|x| String::from_utf8(x.name).unwrap())
        .collect();
    assert_eq!(names, ["security.capability", "system.posix_acl_access", "trusted.secret", "user.note"]);
    assert_eq!(attrs("owned").xattrs.unwrap()[0].name, b"system.posix_acl_default");
    assert_eq!(entry("links/second").kind, EntryKind::HardLink(tree.entry_path("links/first")));
    assert_eq!(entry("plain/third").kind, EntryKind::HardLink(tree.entry_path("links/first")));
    assert_eq!(entry("links/soft").kind, EntryKind::Symlink(b"first".to_vec()));
    assert_eq!(entry("special/fifo").kind, EntryKind::Fifo);
    assert!(matches!(entry("special/null").kind, EntryKind::CharDevice(d) if (d.major, d.minor) == (1, 3)));
    assert!(matches!(entry("special/loop").kind, EntryKind::BlockDevice(d) if (d.major, d.minor) == (7, 0)));
    // The directories above the root are there too, and nothing else of them.
    assert_eq!(point.entries[0].path.to_string(), tree.entry("").split('/').next().unwrap());
    assert_eq!(point.entries.iter().filter(|e| e.path.components().count() == 1).count(), 1);
}

#[test]
fn unchanged_files_are_not_read_again() {
    let tree = Tree::new();
    for i in 0..20 {
        tree.write(&format!("d{}/f{i}", i % 3), [i; 100]);
    }
    let engine = MemoryEngine::default();
    let first = engine.capture(&tree.source(), None).unwrap();
    assert_eq!(first.was_read.len(), 20);
    tree.write("d0/f0", [99; 100]);
    // A content of the same length and with its old time set back shows in the change time.
    let path = tree.path("d1/f1");
    let mtime = first.entry(&tree.entry("d1/f1")).attrs.clone().unwrap().mtime;
    std::fs::write(&path, [98; 100]).unwrap();
    set_mtime(&path, mtime.secs, i64::from(mtime.nanos));
    // Another owner is recorded, and the content read as the change time moved.
    std::fs::set_permissions(tree.path("d2/f2"), PermissionsExt::from_mode(0o600)).unwrap();
    let second = engine.capture(&tree.source(), Some(&first)).unwrap();
    let read: Vec<_> = second.was_read.iter().map(ToString::to_string).collect();
    assert_eq!(read, ["d0/f0", "d1/f1", "d2/f2"].map(|f| tree.entry(f)));
    assert_eq!(second.report.counts["unchanged_files"], 17);
    assert_eq!(second.entry(&tree.entry("d2/f2")).attrs.as_ref().unwrap().mode, 0o600);

    let forced = FilesConfig { force_read: true, ..tree.config() };
    let third = engine.capture(&tree.source_of(forced), Some(&second)).unwrap();
    assert_eq!(third.was_read.len(), 20);
}

#[test]
fn a_file_changed_just_before_it_was_read_is_read_again() {
    let tree = Tree::new();
    tree.write("fresh", "1");
    let engine = MemoryEngine::default();
    // The host's own clock: the file is younger than file systems can tell apart.
    let source = FilesSource::new("docs", tree.config()).unwrap();
    let first = engine.capture(&source, None).unwrap();
    let second = engine.capture(&source, Some(&first)).unwrap();
    assert_eq!(second.was_read.len(), 1);
    // Two seconds later it is read once more, and then no more.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let third = engine.capture(&source, Some(&second)).unwrap();
    assert_eq!(third.was_read.len(), 1);
    let fourth = engine.capture(&source, Some(&third)).unwrap();
    assert_eq!(fourth.was_read.len(), 0);
}

#[test]
fn a_file_that_changes_while_read_is_read_again_and_then_marked() {
    let tree = Tree::new();
    let (busy, calm) = (tree.write("busy", vec![1; 3 << 20]), tree.write("once", vec![2; 3 << 20]));
    let mut engine = MemoryEngine::default();
    let is_first = std::sync::atomic::AtomicBool::new(true);
    engine.while_reading = Some(Box::new(move |path| {
        let is_busy = path.leaf() == b"busy";
        let is_once = path.leaf() == b"once" && is_first.swap(false, std::sync::atomic::Ordering::Relaxed);
        if is_busy || is_once {
            let file = if is_busy { &busy } else { &calm };
            std::fs::OpenOptions::new().append(true).open(file).unwrap().write_all(b"more").unwrap();
        }
    }));
    let point = engine.capture(&tree.source(), None).unwrap();
    assert_eq!(point.entry(&tree.entry("busy")).state, EntryState::Changed);
    assert!(point.entry(&tree.entry("busy")).size >= 3 << 20);
    let once = point.entry(&tree.entry("once"));
    assert_eq!((&once.state, once.size), (&EntryState::Good, (3 << 20) + 4));
    assert_eq!(engine.bytes(once), std::fs::read(tree.path("once")).unwrap());
    // A file caught changing is not trusted the next time.
    engine.while_reading = None;
    let next = engine.capture(&tree.source(), Some(&point)).unwrap();
    assert_eq!(next.was_read.len(), 1);
}

#[test]
fn things_that_vanish_or_are_replaced_are_recorded() {
    let tree = Tree::new();
    let gone = tree.write("gone", "x");
    let now_link = tree.write("now-a-link", "x");
    let new = tree.write("new", "old content");
    let now_fifo = tree.write("now-a-fifo", "x");
    tree.write("dir/inside", "safe");
    let dir = tree.path("dir");
    let mut engine = MemoryEngine::default();
    engine.before_reading = Some(Box::new(move || {
        std::fs::remove_file(&gone).unwrap();
        std::fs::remove_file(&now_link).unwrap();
        symlink("/etc/passwd", &now_link).unwrap();
        std::fs::remove_file(&now_fifo).unwrap();
        sh("mkfifo", &[now_fifo.as_os_str()]);
        std::fs::write(new.with_extension("tmp"), "new").unwrap();
        std::fs::rename(new.with_extension("tmp"), &new).unwrap();
        // A directory renamed away and replaced by a link must not lead us elsewhere.
        std::fs::rename(&dir, dir.with_extension("away")).unwrap();
        symlink("/etc", &dir).unwrap();
    }));
    let point = engine.capture(&tree.source(), None).unwrap();
    let state = |rest: &str| &point.entry(&tree.entry(rest)).state;
    assert_eq!(reason(state("gone")), "vanished while the backup ran");
    assert!(matches!(state("now-a-link"), EntryState::Unreadable(_)));
    assert!(reason(state("now-a-fifo")).contains("no file"));
    assert!(matches!(state("dir/inside"), EntryState::Unreadable(_)));
    assert_eq!(engine.bytes(point.entry(&tree.entry("new"))), b"new");
}

#[test]
fn a_file_that_loses_its_other_name_after_the_walk_comes_back_under_both() {
    let tree = Tree::new();
    let first = tree.write("first", "shared");
    let second = tree.path("second");
    std::fs::hard_link(&first, &second).unwrap();
    let mut engine = MemoryEngine::default();
    engine.before_reading = Some(Box::new(move || std::fs::remove_file(&second).unwrap()));
    let point = engine.capture(&tree.source(), None).unwrap();
    assert!(matches!(point.entry(&tree.entry("second")).kind, EntryKind::HardLink(_)));
    assert_eq!(point.entry(&tree.entry("first")).state, EntryState::Good);
    let target = tempfile::tempdir().unwrap();
    super::super::restore_all(&engine, &tree.source(), &point, &super::super::to_folder(target.path()));
    super::super::expect_same(&engine, &tree.source(), &point, target.path());
    assert_eq!(std::fs::read(tree.in_folder(target.path(), "second")).unwrap(), b"shared");
}

#[test]
fn a_path_as_long_as_can_be_does_not_end_the_walk() {
    const LONGEST: usize = 8192;
    let tree = Tree::new();
    let mut path = tree.entry_path("");
    let mut dir = std::fs::File::open(tree.path("")).unwrap();
    while path.as_bytes().len() < LONGEST {
        // No name may be longer than 255, and what is left after it must hold one more.
        let left = LONGEST - path.as_bytes().len() - 1;
        let name = "d".repeat(if left > 255 { left.min(200) } else { left });
        rustix::fs::mkdirat(&dir, name.as_str(), rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        dir = rustix::fs::openat(&dir, name.as_str(), flags, rustix::fs::Mode::empty()).unwrap().into();
        path = path.child(name.as_bytes()).unwrap();
    }
    assert_eq!(path.as_bytes().len(), LONGEST);
    tree.write("e", "after");
    let engine = MemoryEngine::default();
    let state = |point: &MemoryPoint| {
        assert!(point.has(&tree.entry("e")));
        point.entries.iter().find(|e| e.path == path).unwrap().state.clone()
    };
    // Empty it can be captured as it is.
    assert_eq!(state(&engine.capture(&tree.source(), None).unwrap()), EntryState::Good);
    rustix::fs::mkdirat(&dir, "x", rustix::fs::Mode::RWXU).unwrap();
    let point = engine.capture(&tree.source(), None).unwrap();
    assert!(reason(&state(&point)).contains("longer than 8192"));
    sh("rm", &["-rf".as_ref(), tree.path("").as_os_str()]);
}

#[test]
fn an_unreadable_file_is_recorded_with_the_reason() {
    // The kernel answers with an I/O error: a real one, also for root.
    let path = PathBuf::from(format!("/proc/{}/mem", std::process::id()));
    let config = FilesConfig { paths: vec![path.clone()], ..FilesConfig::default() };
    let source = FilesSource::new("docs", config).unwrap();
    let point = MemoryEngine::default().capture(&source, None).unwrap();
    let why = reason(&point.entry(path.to_str().unwrap()).state);
    assert!(why.contains("Input/output error"), "{why}");
}

#[test]
fn files_whose_length_the_kernel_does_not_say_are_read() {
    let config = FilesConfig { paths: vec!["/proc/version".into()], ..FilesConfig::default() };
    let engine = MemoryEngine::default();
    let point = engine.capture(&FilesSource::new("docs", config).unwrap(), None).unwrap();
    assert_eq!(engine.bytes(point.entry("proc/version")), std::fs::read("/proc/version").unwrap());
}

#[test]
fn missing_roots_fail_the_source_or_are_recorded() {
    let tree = Tree::new();
    tree.write("here/a", "x");
    let missing = tree.path("not/here");
    let config = |paths: &[PathBuf]| FilesConfig { paths: paths.to_vec(), ..FilesConfig::default() };
    let source = tree.source_of(config(std::slice::from_ref(&missing)));
    let error = MemoryEngine::default().capture(&source, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.to_string().contains("not/here does not exist"), "{error}");
    assert!(source.probe().unwrap().iter().any(|f| f.is_problem && f.what.contains("does not exist")));

    let source = tree.source_of(config(&[missing, tree.path("here")]));
    let point = MemoryEngine::default().capture(&source, None).unwrap();
    assert_eq!(reason(&point.entry(&tree.entry("not/here")).state), "does not exist");
    assert!(point.has(&tree.entry("here/a")));
    assert!(MemoryEngine::default().capture(&tree.source_of(config(&[])), None).is_err());
}

#[test]
fn overlapping_roots_and_links_on_the_way_are_walked_once_in_order() {
    let tree = Tree::new();
    for file in ["a/b/c", "a/b.x", "a-/d", "z/in", "other/no"] {
        tree.write(file, file);
    }
    symlink("z", tree.path("link")).unwrap();
    let paths = ["a/b", "a", "a-", "a/b/c", "link/in", "a/../a-"].map(|p| tree.path(p)).to_vec();
    let config = FilesConfig { paths, ..FilesConfig::default() };
    let point = MemoryEngine::default().capture(&tree.source_of(config), None).unwrap();
    let below: Vec<_> = point
        .paths()
        .into_iter()
        .filter(|p| p.starts_with(&tree.entry("x")[..tree.entry("x").len() - 1]))
        .collect();
    assert_eq!(
        below,
        ["a", "a/b", "a/b/c", "a/b.x", "a-", "a-/d", "link", "z", "z/in"].map(|p| tree.entry(p))
    );
}

#[test]
fn rules_leave_out_and_bring_back() {
    let tree = Tree::new();
    for file in [
        "keep.txt",
        "drop.tmp",
        "sub/drop.tmp",
        "sub/x.log",
        "sub/y.log",
        "cache/big",
        "cache/CACHEDIR.TAG",
        "fake/CACHEDIR.TAG",
        "fake/z",
        "old/a",
        "old/keep/b",
    ] {
        tree.write(file, file);
    }
    tree.write("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# more\n");
    tree.write("sub/.musterignore", "*.log\n!y.log\n# a comment\n");
    let config = FilesConfig {
        paths: vec![tree.path(""), tree.path("old/keep")],
        exclude: vec!["*.tmp".into(), format!("{}/old", tree.path("").display()).replace("//", "/")],
        ignore_files: vec![".musterignore".into()],
        exclude_caches: true,
        ..FilesConfig::default()
    };
    let point = MemoryEngine::default().capture(&tree.source_of(config), None).unwrap();
    for there in
        ["keep.txt", "sub/.musterignore", "sub/y.log", "cache/CACHEDIR.TAG", "fake/z", "old", "old/keep/b"]
    {
        assert!(point.has(&tree.entry(there)), "{there}");
    }
    for out in ["drop.tmp", "sub/drop.tmp", "sub/x.log", "cache/big", "old/a"] {
        assert!(!point.has(&tree.entry(out)), "{out}");
    }

    let only = FilesConfig { include: vec!["*.log".into(), "old/".into()], ..tree.config() };
    let point = MemoryEngine::default().capture(&tree.source_of(only), None).unwrap();
    let files: Vec<_> =
        point.entries.iter().filter(|e| e.kind == EntryKind::File).map(|e| e.path.to_string()).collect();
    assert_eq!(files, ["old/a", "old/keep/b", "sub/x.log", "sub/y.log"].map(|p| tree.entry(p)));
}

#[test]
fn other_file_systems_are_entered_or_not() {
    let shm = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is mounted");
    std::fs::write(shm.path().join("f"), "x").unwrap();
    let there = shm.path().join("f").to_str().unwrap().to_owned();
    let capture = |one_file_system| {
        let include = vec![there.clone()];
        let config =
            FilesConfig { paths: vec!["/dev".into()], one_file_system, include, ..FilesConfig::default() };
        let source = FilesSource::new("docs", config).unwrap();
        assert!(source.probe().unwrap().iter().any(|f| f.what.contains("/dev/shm is mounted below /dev")));
        MemoryEngine::default().capture(&source, None).unwrap()
    };
    let (one, all) = (capture(true), capture(false));
    assert!(one.has("dev/shm") && !one.has(&there));
    assert!(all.has(&there));
    assert!(!all.entries.iter().any(|e| e.path.to_string().starts_with("dev/pts/")), "devpts is no data");
}

#[test]
fn holes_are_holes() {
    let tree = Tree::new();
    let file = std::fs::File::create(tree.path("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 32 << 20).unwrap();
    std::fs::File::create(tree.path("all-hole")).unwrap().set_len(5 << 20).unwrap();
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let entry = point.entry(&tree.entry("sparse"));
    assert_eq!(entry.size, 64 << 20);
    let Some(Content::Inline(extents)) = &entry.content else { panic!() };
    let data: u64 = extents.iter().filter(|e| matches!(e, Extent::Chunk { .. })).map(Extent::len).sum();
    assert!(data <= 64 << 10, "{data} bytes of data");
    assert_eq!(&engine.bytes(entry)[32 << 20..][..6], b"middle");
    assert_eq!(
        point.entry(&tree.entry("all-hole")).content,
        Some(Content::Inline(vec![Extent::Hole { len: 5 << 20 }]))
    );
}

#[test]
fn a_tree_deeper_than_the_open_files_allowed_is_walked_and_restored() {
    let tree = Tree::new();
    // Deeper than one path may be long, too.
    let mut deep = String::from("top");
    let script = "cd \"$0\" && mkdir top && cd top && i=0 && while [ $i -lt 400 ]; do mkdir aaaaaaaaaaaaaaaa && cd -P aaaaaaaaaaaaaaaa && i=$((i+1)); done && echo deep > file";
    sh("bash", &["-c".as_ref(), script.as_ref(), tree.path("").as_os_str()]);
    for _ in 0..400 {
        deep.push_str("/aaaaaaaaaaaaaaaa");
    }
    tree.write("top/b", "after");
    let engine = MemoryEngine::default();
    let point = engine.capture(&tree.source(), None).unwrap();
    let entry = point.entry(&format!("{}/file", tree.entry(&deep)));
    assert_eq!(engine.bytes(entry), b"deep\n");
    assert!(point.has(&tree.entry("top/b")));
    let target = tempfile::tempdir().unwrap();
    super::super::restore_all(&engine, &tree.source(), &point, &super::super::to_folder(target.path()));
    super::super::expect_same(&engine, &tree.source(), &point, target.path());
    sh("rm", &["-rf".as_ref(), OsStr::new(tree.path("top").as_os_str())]);
}
