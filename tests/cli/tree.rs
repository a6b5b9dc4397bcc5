//! What is in a folder, to the last attribute, for exact comparison.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All that a restore must bring back of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub content: Option<blake3::Hash>,
    pub target: Option<PathBuf>,
    pub xattrs: Vec<(CString, Vec<u8>)>,
    /// Path of the first name of the same inode.
    pub first_name: Option<PathBuf>,
    pub device: u64,
}

/// Everything below `root`, `root` included, by relative path.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Thing> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    add(root, root, &mut found, &mut inodes);
    found
}

fn add(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, Thing>, inodes: &mut BTreeMap<u64, PathBuf>) {
    let meta = std::fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let relative = path.strip_prefix(root).unwrap().to_owned();
    let several = !meta.is_dir() && meta.nlink() > 1;
    let first_name = several.then(|| inodes.entry(meta.ino()).or_insert_with(|| relative.clone()).clone());
    let thing = Thing {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        content: meta.is_file().then(|| blake3::hash(&std::fs::read(path).unwrap())),
        target: meta.is_symlink().then(|| std::fs::read_link(path).unwrap()),
        xattrs: xattrs(path),
        first_name,
        device: meta.rdev(),
    };
    found.insert(relative, thing);
    if meta.is_dir() {
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names.iter().for_each(|name| add(root, name, found, inodes));
    }
}

fn xattrs(path: &Path) -> Vec<(CString, Vec<u8>)> {
    let mut names = vec![0u8; 4096];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut all: Vec<_> = names[..len]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0u8; 4096];
            let len = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(len);
            (CString::new(name).unwrap(), value)
        })
        .collect();
    all.sort();
    all
}

/// Fails unless both folders hold the same.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (tree(a), tree(b));
    let names = |t: &BTreeMap<PathBuf, Thing>| t.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (path, thing) in &a {
        assert_eq!(thing, &b[path], "{}", path.display());
    }
}

/// Fills `root` with one of everything.
pub fn fill(root: &Path) {
    use rustix::fs::{CWD, Mode, Timespec, Timestamps, XattrFlags};
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(root.join("deep/er")).unwrap();
    std::fs::create_dir(root.join("empty dir")).unwrap();
    std::fs::write(root.join("plain"), "plain content\n").unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::write(root.join("deep/er/big"), super::world::noise(7, 3 << 20)).unwrap();
    std::fs::write(root.join(std::ffi::OsStr::from_bytes(b"not \xff utf-8\n")), "odd name").unwrap();
    std::fs::write(root.join("suid"), "x").unwrap();
    std::fs::set_permissions(root.join("suid"), PermissionsExt::from_mode(0o6751)).unwrap();
    std::fs::write(root.join("secret"), "x").unwrap();
    std::fs::set_permissions(root.join("secret"), PermissionsExt::from_mode(0o000)).unwrap();
    std::fs::hard_link(root.join("plain"), root.join("second name")).unwrap();
    std::os::unix::fs::symlink("plain", root.join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 32 << 20).unwrap();
    drop(sparse);
    rustix::fs::mkfifoat(CWD, root.join("fifo"), Mode::from_raw_mode(0o640)).unwrap();
    rustix::fs::setxattr(root.join("plain"), "user.colour", b"blue\0and more", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(root.join("deep"), "user.folder", b"yes", XattrFlags::empty()).unwrap();
    std::fs::set_permissions(root.join("deep/er"), PermissionsExt::from_mode(0o1770)).unwrap();
    let _ = std::os::unix::fs::chown(root.join("plain"), Some(1234), Some(4321));
    for (name, secs, nanos) in
        [("plain", 1_000_000_001, 123_456_789), ("deep/er", 86_400, 1), ("deep", -5, 999_999_999)]
    {
        let time = Timespec { tv_sec: secs, tv_nsec: nanos };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, root.join(name), &times, rustix::fs::AtFlags::empty()).unwrap();
    }
}
