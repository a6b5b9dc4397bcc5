//! The files source. These tests need root (owners, devices, privileged attributes) and
//! a file system with extended attributes and ACLs; without, they fail.

mod capture;
mod hostile;
mod restore;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use muster::model::{EntryPath, Time};
use muster::ports::{Clock, Source};
use muster::sources::{FilesConfig, FilesSource};
use tempfile::TempDir;

use super::{Fixture, run};

/// A clock so far ahead that no file is new enough to be distrusted.
pub struct Later;

impl Clock for Later {
    fn now(&self) -> Time {
        Time::from_system(std::time::SystemTime::now()).plus_secs(3600)
    }
}

/// A folder to protect and the source that does.
pub struct Tree {
    dir: TempDir,
}

impl Tree {
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, rest: &str) -> PathBuf {
        self.dir.path().join(rest)
    }

    /// Makes a file with its directories.
    pub fn write(&self, rest: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(rest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The entry path, as text, of something in it.
    pub fn entry(&self, rest: &str) -> String {
        self.path(rest).to_str().unwrap().trim_matches('/').to_owned()
    }

    pub fn entry_path(&self, rest: &str) -> EntryPath {
        EntryPath::from_display(self.path(rest).as_os_str().as_bytes()).unwrap()
    }

    pub fn config(&self) -> FilesConfig {
        FilesConfig { paths: vec![self.dir.path().to_owned()], ..FilesConfig::default() }
    }

    pub fn source(&self) -> FilesSource {
        self.source_of(self.config())
    }

    pub fn source_of(&self, config: FilesConfig) -> FilesSource {
        FilesSource::new("docs", config).unwrap().with_clock(Arc::new(Later))
    }

    /// Where something comes to lie in `folder`.
    pub fn in_folder(&self, folder: &Path, rest: &str) -> PathBuf {
        folder.join(self.path(rest).strip_prefix("/").unwrap())
    }
}

/// Runs a program that must succeed.
pub fn sh(program: &str, args: &[&OsStr]) {
    let status = Command::new(program).args(args).status();
    assert!(status.unwrap_or_else(|e| panic!("{program}: {e}")).success(), "{program} {args:?} failed");
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())
        .unwrap_or_else(|e| panic!("{name} on {}: {e}; this file system cannot test this", path.display()));
}

pub fn get_xattr(path: &Path, name: &str) -> Vec<u8> {
    let mut value = [0; 4096];
    let len = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
    value[..len].to_vec()
}

/// One of everything.
pub fn fill_richly(tree: &Tree) {
    tree.write("plain/a.txt", "hello");
    tree.write("plain/empty", "");
    tree.write("plain/big.bin", vec![3; 3_000_000]);
    for name in [&b"-rf"[..], b"new\nline", b"\xff\xfe not utf-8", b" ", b"*", "größe".as_bytes()] {
        std::fs::write(tree.path("plain").join(OsStr::from_bytes(name)), name).unwrap();
    }
    let links = tree.write("links/first", "shared").parent().unwrap().to_owned();
    std::fs::hard_link(links.join("first"), links.join("second")).unwrap();
    std::fs::hard_link(links.join("first"), tree.path("plain/third")).unwrap();
    symlink("first", links.join("soft")).unwrap();
    symlink("/nowhere/\u{e9}", links.join("dangling")).unwrap();
    set_xattr(&links.join("soft"), "trusted.on-a-link", b"1");
    let owned = tree.write("owned/script", "#!/bin/sh\n");
    std::os::unix::fs::chown(&owned, Some(1234), Some(4321)).unwrap();
    std::fs::set_permissions(&owned, PermissionsExt::from_mode(0o6755)).unwrap();
    let tagged = tree.write("owned/tagged", "x");
    set_xattr(&tagged, "user.note", b"a\0b");
    set_xattr(&tagged, "trusted.secret", &[9; 3000]);
    // cap_net_bind_service=ep, as setcap writes it.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&tagged, "security.capability", &capability);
    sh("setfacl", &["-m".as_ref(), "u:1234:r,g:99:rw".as_ref(), tagged.as_os_str()]);
    sh("setfacl", &["-dm".as_ref(), "u:77:rwx".as_ref(), tree.path("owned").as_os_str()]);
    let special = tree.path("special");
    std::fs::create_dir(&special).unwrap();
    sh("mkfifo", &[special.join("fifo").as_os_str()]);
    sh("mknod", &[special.join("null").as_os_str(), "c".as_ref(), "1".as_ref(), "3".as_ref()]);
    sh("mknod", &[special.join("loop").as_os_str(), "b".as_ref(), "7".as_ref(), "0".as_ref()]);
    std::fs::create_dir_all(tree.path("closed/inner")).unwrap();
    tree.write("closed/inner/file", "y");
    std::fs::set_permissions(tree.path("closed/inner"), PermissionsExt::from_mode(0o500)).unwrap();
    std::fs::set_permissions(tree.path("closed"), PermissionsExt::from_mode(0o000)).unwrap();
    for (path, secs, nanos) in
        [("plain/a.txt", 1_000_000_000, 123_456_789), ("plain", 7, 1), ("plain/empty", -5, 250_000_000)]
    {
        set_mtime(&tree.path(path), secs, nanos);
    }
}

pub fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

impl Fixture for Tree {
    fn source(&self) -> Box<dyn Source> {
        Box::new(Tree::source(self))
    }

    fn fill(&self) {
        fill_richly(self);
    }

    fn change(&self) {
        self.write("plain/a.txt", "HELLO");
        std::fs::remove_file(self.path("plain/big.bin")).unwrap();
        self.write("new/below", "new");
        std::fs::rename(self.path("links"), self.path("moved")).unwrap();
    }

    fn tamper(&self, folder: &Path) {
        let at = |rest: &str| self.in_folder(folder, rest);
        std::fs::remove_file(at("plain/third")).unwrap();
        std::fs::create_dir_all(at("plain/third/not/this")).unwrap();
        std::fs::remove_dir_all(at("owned")).unwrap();
        std::fs::write(at("owned"), "a file where a directory was").unwrap();
        std::fs::write(at("extra"), "too much").unwrap();
        std::fs::write(at("plain/a.txt"), "HELLo").unwrap();
    }
}

#[test]
fn files_conform() {
    run(&Tree::new());
}
