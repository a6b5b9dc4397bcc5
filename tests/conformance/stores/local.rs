//! What is special to a folder. Run as root, as CI does: a file system is mounted, and
//! rights are taken away. Nothing is skipped; without root these tests fail and say why.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use muster::model::{ErrorKind, Result};
use muster::ports::{Put, Store};
use muster::stores::Local;
use muster::stores::local::Publish;

use super::name;

const WAYS: [Publish; 3] = [Publish::Rename, Publish::Link, Publish::Lock];

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    fn root(&self) -> PathBuf {
        self.dir.path().join("repository")
    }
    fn store(&self) -> Local {
        Local::create(&self.root()).unwrap()
    }
}

fn names(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    store.list(prefix, &mut |meta| {
        found.push(meta.name.to_string());
        Ok(())
    })?;
    Ok(found)
}

/// Every file below a folder, hidden ones included.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// A small file system, which is unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "this test mounts a small file system and so must run as root with CAP_SYS_ADMIN"
        );
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half() {
    for way in WAYS {
        let disk = SmallDisk::new("size=1m");
        let store = Local::open(disk.0.path()).unwrap().with_publish(way);
        assert_eq!(store.put(&name("packs/a"), &[&[1; 300 << 10]]).unwrap(), Put::Created);
        let error = store.put(&name("packs/b"), &[&[2; 2 << 20]]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull));
        assert!(error.subject().unwrap().ends_with("packs/b"));
        assert!(error.remedy().unwrap().contains("space"));
        assert!(!error.is_retryable());
        // What was there is there, nothing else is, and what fits still goes in.
        assert_eq!(names(&store, "").unwrap(), ["packs/a"]);
        assert_eq!(store.get(&name("packs/a"), 1 << 20).unwrap(), [1; 300 << 10]);
        let left = files_below(disk.0.path());
        assert!(left.iter().all(|path| path.ends_with("packs/a") || path.ends_with(".tmp/lock")), "{left:?}");
        assert_eq!(store.put(&name("packs/b"), &[&[2; 300 << 10]]).unwrap(), Put::Created);
    }
}

#[test]
fn no_inodes_left_is_told() {
    let disk = SmallDisk::new("size=1m,nr_inodes=4");
    let store = Local::open(disk.0.path()).unwrap();
    // The root, `.tmp` and `a` are three.
    store.put(&name("a/1"), &[]).unwrap();
    let error = store.put(&name("a/2"), &[]).unwrap_err();
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull));
    assert_eq!(names(&store, "").unwrap(), ["a/1"]);
}

#[test]
fn a_read_only_disk_is_told_and_can_be_read() {
    let disk = SmallDisk::new("size=1m");
    Local::open(disk.0.path()).unwrap().put(&name("a/1"), &[b"x"]).unwrap();
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0.path()).status().unwrap();
    assert!(status.success());
    let store = Local::open(disk.0.path()).unwrap();
    assert_eq!(store.get(&name("a/1"), 1).unwrap(), b"x");
    let error = store.put(&name("a/2"), &[b"y"]).unwrap_err();
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::ReadOnlyFilesystem));
    assert!(store.delete(&name("a/1")).is_err());
}

#[test]
fn folders_on_two_file_systems_are_told() {
    let place = Place::new();
    let store = place.store();
    store.put(&name("packs/a"), &[]).unwrap();
    let disk = SmallDisk::new("size=1m");
    fs::create_dir(place.root().join("index")).unwrap();
    let bound =
        Command::new("mount").arg("--bind").arg(disk.0.path()).arg(place.root().join("index")).status();
    assert!(bound.is_ok_and(|status| status.success()), "this test must run as root with CAP_SYS_ADMIN");
    let error = store.put(&name("index/a"), &[b"x"]);
    let unbound = Command::new("umount").arg(place.root().join("index")).status().unwrap();
    assert!(unbound.success());
    assert!(error.unwrap_err().remedy().unwrap().contains("one file system"));
}

#[test]
fn a_link_to_a_folder_inside_is_not_followed() {
    let place = Place::new();
    let store = place.store();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s3cret").unwrap();
    symlink(outside.path(), place.root().join("packs")).unwrap();
    let object = name("packs/secret");
    let errors = [
        store.get(&object, 100).unwrap_err(),
        store.get_range(&object, 0, 1).unwrap_err(),
        store.stat(&object).unwrap_err(),
        store.put(&name("packs/new"), &[b"x"]).unwrap_err(),
        store.delete(&object).unwrap_err(),
        names(&store, "packs/").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.remedy().unwrap().contains("link"));
    }
    assert!(names(&store, "").unwrap().is_empty());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_link_in_an_objects_place_is_not_followed() {
    for way in WAYS {
        let place = Place::new();
        let store = place.store().with_publish(way);
        store.put(&name("points/real"), &[b"x"]).unwrap();
        let outside = place.dir.path().join("outside");
        fs::write(&outside, "s3cret").unwrap();
        // One that leads somewhere, and one through which a file could be made.
        symlink(&outside, place.root().join("points/there")).unwrap();
        symlink(place.dir.path().join("made"), place.root().join("points/dangling")).unwrap();
        for object in ["points/there", "points/dangling"] {
            let object = name(object);
            assert_eq!(store.get(&object, 100).unwrap_err().kind(), ErrorKind::Refused);
            assert_eq!(store.get_range(&object, 0, 1).unwrap_err().kind(), ErrorKind::Refused);
            assert_eq!(store.stat(&object).unwrap_err().kind(), ErrorKind::Refused);
            assert_eq!(store.put(&object, &[b"y"]).unwrap_err().kind(), ErrorKind::Refused);
        }
        assert_eq!(names(&store, "").unwrap(), ["points/real"]);
        // Deleting takes the link away and not what it leads to.
        store.delete(&name("points/there")).unwrap();
        assert_eq!(fs::read(&outside).unwrap(), b"s3cret");
        assert!(!place.dir.path().join("made").exists());
    }
}

#[test]
fn a_link_in_place_of_the_temporary_folder_is_not_followed() {
    let place = Place::new();
    let store = place.store();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), place.root().join(".tmp")).unwrap();
    assert_eq!(store.put(&name("a"), &[b"x"]).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn the_root_itself_may_be_a_link() {
    let place = Place::new();
    place.store().put(&name("a"), &[b"x"]).unwrap();
    let link = place.dir.path().join("link");
    symlink(place.root(), &link).unwrap();
    assert_eq!(Local::open(&link).unwrap().get(&name("a"), 1).unwrap(), b"x");
}

#[test]
fn pipes_and_folders_are_no_objects_and_hold_nobody_up() {
    for way in WAYS {
        let place = Place::new();
        let store = place.store().with_publish(way);
        let pipe = place.root().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        fs::create_dir(place.root().join("folder")).unwrap();
        assert_eq!(store.get(&name("pipe"), 1).unwrap_err().kind(), ErrorKind::Refused);
        assert!(store.put(&name("pipe"), &[]).is_err());
        assert_eq!(store.get(&name("folder"), 1).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.put(&name("folder"), &[]).unwrap_err().kind(), ErrorKind::Refused);
        // A file where a folder is needed.
        store.put(&name("file"), &[]).unwrap();
        assert!(store.put(&name("file/below"), &[]).is_err());
        assert_eq!(names(&store, "").unwrap(), ["file"]);
    }
}

#[test]
fn foreign_names_are_passed_over() {
    let place = Place::new();
    let store = place.store();
    store.put(&name("points/a"), &[]).unwrap();
    for foreign in ["lost+found", "points/.hidden", "points/a b", "points/ü", "README.txt~"] {
        fs::write(place.root().join(foreign), "x").unwrap();
    }
    fs::create_dir_all(place.root().join(".snapshot/points")).unwrap();
    fs::write(place.root().join(".snapshot/points/b"), "x").unwrap();
    fs::create_dir(place.root().join("empty")).unwrap();
    use std::os::unix::ffi::OsStrExt;
    fs::write(place.root().join(std::ffi::OsStr::from_bytes(b"a\xff")), "x").unwrap();
    assert_eq!(names(&store, "").unwrap(), ["points/a"]);
}

#[test]
fn only_the_owner_may_read() {
    let place = Place::new();
    let store = place.store();
    store.put(&name("packs/data/ab/x"), &[b"x"]).unwrap();
    for (path, mode) in [
        ("", 0o700),
        (".tmp", 0o700),
        ("packs", 0o700),
        ("packs/data", 0o700),
        ("packs/data/ab", 0o700),
        ("packs/data/ab/x", 0o600),
    ] {
        let found = fs::metadata(place.root().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{path:?} has {found:o}");
    }
}

#[test]
fn nothing_stays_in_the_temporary_folder() {
    for way in WAYS {
        let place = Place::new();
        let store = place.store().with_publish(way);
        for object in ["a", "b", "a"] {
            store.put(&name(object), &[b"x"]).unwrap();
        }
        let left = files_below(&place.root().join(".tmp"));
        assert!(left.iter().all(|path| path.ends_with("lock")), "{left:?}");
        assert_eq!(fs::metadata(place.root().join("a")).unwrap().nlink(), 1);
    }
}

#[test]
fn what_the_dead_left_is_swept_after_a_day() {
    let place = Place::new();
    place.store().put(&name("a"), &[]).unwrap();
    let temp = place.root().join(".tmp");
    let leave = |leaf: &str, age_hours: u64| {
        let file = fs::File::create(temp.join(leaf)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_hours * 3600)).unwrap();
    };
    leave("put-old", 25);
    leave("put-new", 23);
    leave("lock", 25);
    let store = place.store();
    // Reading changes nothing.
    assert_eq!(names(&store, "").unwrap(), ["a"]);
    assert!(temp.join("put-old").exists());
    store.put(&name("b"), &[]).unwrap();
    assert!(!temp.join("put-old").exists());
    assert!(temp.join("put-new").exists() && temp.join("lock").exists());
}

#[test]
fn folders_that_went_away_are_made_again() {
    let place = Place::new();
    let store = place.store();
    store.put(&name("packs/data/x"), &[]).unwrap();
    fs::remove_dir_all(place.root().join("packs")).unwrap();
    fs::remove_dir_all(place.root().join(".tmp")).unwrap();
    assert_eq!(store.put(&name("packs/data/x"), &[]).unwrap(), Put::Created);
}

#[test]
fn a_root_that_went_away_is_an_error_and_not_empty() {
    let place = Place::new();
    let store = place.store();
    store.put(&name("packs/a"), &[]).unwrap();
    fs::remove_dir_all(place.root()).unwrap();
    assert_eq!(names(&store, "").unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(names(&store, "packs/").unwrap_err().kind(), ErrorKind::Store);
    assert!(store.put(&name("packs/a"), &[]).is_err());
}

/// Runs `test` on a thread that may not pass over rights, as root else may.
fn without_rights(test: impl FnOnce() + Send) {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let over = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
            let now = capabilities(None).unwrap();
            set_capabilities(None, CapabilitySets { effective: now.effective - over, ..now }).unwrap();
            test();
        });
        thread.join().unwrap();
    });
}

#[test]
fn what_cannot_be_read_is_an_error_and_not_empty() {
    let place = Place::new();
    let store = place.store();
    store.put(&name("a/1"), &[]).unwrap();
    store.put(&name("b/1"), &[]).unwrap();
    let lock = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let denied = Some(std::io::ErrorKind::PermissionDenied);
    without_rights(|| {
        // A folder inside: the whole list fails, and so does its own.
        lock(&place.root().join("b"), 0o000);
        for prefix in ["", "b/"] {
            let error = names(&store, prefix).unwrap_err();
            assert_eq!(error.io_kind(), denied, "{prefix:?}");
            assert!(error.remedy().is_some());
        }
        assert_eq!(store.get(&name("b/1"), 1).unwrap_err().io_kind(), denied);
        assert_eq!(store.stat(&name("b/1")).unwrap_err().io_kind(), denied);
        assert_eq!(names(&store, "a/").unwrap(), ["a/1"]);
        lock(&place.root().join("b"), 0o700);
        // An object.
        lock(&place.root().join("a/1"), 0o000);
        assert_eq!(store.get(&name("a/1"), 1).unwrap_err().io_kind(), denied);
        // The root, before and after it was opened.
        lock(&place.root(), 0o000);
        assert_eq!(names(&store, "").unwrap_err().io_kind(), denied);
        assert_eq!(Local::open(&place.root()).err().unwrap().io_kind(), denied);
        lock(&place.root(), 0o700);
    });
}

#[test]
fn a_truncated_object_is_damaged_where_it_is_short() {
    let place = Place::new();
    let store = place.store();
    store.put(&name("a"), &[&[7; 100]]).unwrap();
    fs::OpenOptions::new().write(true).open(place.root().join("a")).unwrap().set_len(50).unwrap();
    assert_eq!(store.get_range(&name("a"), 0, 50).unwrap(), [7; 50]);
    assert_eq!(store.get_range(&name("a"), 40, 20).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn the_store_time_is_the_files() {
    let place = Place::new();
    let store = place.store();
    let before = SystemTime::now() - Duration::from_secs(2);
    store.put(&name("a"), &[b"x"]).unwrap();
    let stored = store.stat(&name("a")).unwrap().unwrap().stored_at;
    let file = fs::metadata(place.root().join("a")).unwrap().modified().unwrap();
    assert_eq!(stored.to_system(), file);
    assert!(file > before && file < SystemTime::now() + Duration::from_secs(2));
}

#[test]
fn open_needs_a_folder_and_create_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("x/y z/%");
    let url = format!("file://{}", deep.display()).replace(' ', "%20").replace("/%", "/%25");
    let url = url.replace("%2520", "%20");
    let missing = muster::stores::open(&url, Default::default()).err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.remedy().unwrap().contains("mounted"));
    let store = muster::stores::create(&url, Default::default()).unwrap();
    store.put(&name("a"), &[b"x"]).unwrap();
    assert_eq!(store.describe(), url);
    assert_eq!(fs::read(deep.join("a")).unwrap(), b"x");
    // Creating again is opening; a plain path is the same place.
    let again = muster::stores::create(deep.to_str().unwrap(), Default::default()).unwrap();
    assert_eq!(again.get(&name("a"), 1).unwrap(), b"x");
    // A file is no place, and no more is what has no store.
    assert!(muster::stores::open(deep.join("a").to_str().unwrap(), Default::default()).is_err());
    assert!(muster::stores::create(deep.join("a").to_str().unwrap(), Default::default()).is_err());
    assert!(Local::open(Path::new("relative")).is_err());
    let s3 = muster::stores::open("s3://key:hunter2@bucket/x", Default::default()).err().unwrap();
    assert_eq!(s3.kind(), ErrorKind::Config);
    assert!(!format!("{s3} {s3:?}").contains("hunter2"));
}

#[test]
fn a_store_says_when_hosts_may_race() {
    for way in WAYS {
        let place = Place::new();
        let store = place.store().with_publish(way);
        assert_eq!(store.capabilities().conditional_put, way != Publish::Lock);
    }
}

#[test]
fn two_stores_on_one_folder_have_one_winner() {
    for way in WAYS {
        let place = Place::new();
        let stores: Vec<_> = (0..4).map(|_| Arc::new(place.store().with_publish(way))).collect();
        for round in 0..10 {
            let object = name(&format!("leases/{round}"));
            let created = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    stores.iter().map(|store| scope.spawn(|| store.put(&object, &[b"x"]).unwrap())).collect();
                threads.into_iter().map(|t| t.join().unwrap()).filter(|p| *p == Put::Created).count()
            });
            assert_eq!(created, 1, "{way:?}");
        }
    }
}
