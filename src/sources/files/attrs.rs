//! What the operating system says of a file: kind, attributes, extended attributes.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp, statx};
use rustix::io::Errno;

use super::beneath::proc_path;
use crate::model::entry::Xattr;
use crate::model::{Attrs, Device, EntryKind, Time};

/// One look at a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its type.
    pub kind: FileType,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Room taken, in units of 512 bytes.
    pub blocks: u64,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Device it is on.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
    /// Number of names.
    pub nlink: u64,
    /// The device it *is*, where it is one.
    pub rdev: Device,
    /// Whether something is mounted here.
    pub is_mount: bool,
}

impl Stat {
    /// The thing called `name` in `dir`, without following a link; the open thing
    /// itself where `name` is empty.
    pub fn at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        if name.is_empty() {
            flags |= AtFlags::EMPTY_PATH;
        }
        Ok(Self::from(statx(dir, name, flags, StatxFlags::BASIC_STATS)?))
    }

    /// The same for a name that the kernel gave us.
    pub fn at_c(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Ok(Self::from(statx(dir, name, flags, StatxFlags::BASIC_STATS)?))
    }

    /// The open thing.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        Self::at(fd.as_fd(), b"")
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    /// Whether the other look shows the same content: nothing has been written since.
    pub fn is_same_content(&self, other: &Self) -> bool {
        self.size == other.size && self.mtime == other.mtime && self.ctime == other.ctime
    }

    /// Whether both looks are at one and the same file.
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.dev == other.dev && self.inode == other.inode && self.kind == other.kind
    }

    /// Whether it takes less room than its length: it may have holes.
    pub fn may_be_sparse(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size
    }

    /// The entry kind of this; a link's target is given by the caller.
    pub fn entry_kind(&self, target: Option<Vec<u8>>) -> Option<EntryKind> {
        Some(match self.kind {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink(target?),
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => EntryKind::CharDevice(self.rdev),
            FileType::BlockDevice => EntryKind::BlockDevice(self.rdev),
            FileType::Socket => EntryKind::Socket,
            FileType::Unknown => return None,
        })
    }

    /// The attributes as they are stored.
    pub fn to_attrs(self, names: &Names, xattrs: Vec<Xattr>) -> Attrs {
        Attrs {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            user: names.user(self.uid),
            group: names.group(self.gid),
            mtime: self.mtime,
            xattrs: (!xattrs.is_empty()).then_some(xattrs),
            ctime: self.ctime,
            dev: self.dev,
            inode: self.inode,
            nlink: self.nlink,
        }
    }
}

impl From<Statx> for Stat {
    fn from(raw: Statx) -> Self {
        Self {
            kind: FileType::from_raw_mode(u32::from(raw.stx_mode)),
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            mtime: time(raw.stx_mtime),
            ctime: time(raw.stx_ctime),
            dev: u64::from(raw.stx_dev_major) << 32 | u64::from(raw.stx_dev_minor),
            inode: raw.stx_ino,
            nlink: u64::from(raw.stx_nlink),
            rdev: Device { major: raw.stx_rdev_major, minor: raw.stx_rdev_minor },
            is_mount: raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        }
    }
}

fn time(raw: StatxTimestamp) -> Time {
    Time::new(raw.tv_sec, raw.tv_nsec)
}

/// Users' and groups' names, read once from `/etc/passwd` and `/etc/group`. Names from
/// a directory service are not looked up: they are information, owners are numbers.
#[derive(Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    /// The names this host knows.
    pub fn of_host() -> Self {
        let read = |path: &str| std::fs::read(path).map(|text| parse_names(&text)).unwrap_or_default();
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    fn user(&self, uid: u32) -> Option<String> {
        self.users.get(&uid).cloned()
    }

    fn group(&self, gid: u32) -> Option<String> {
        self.groups.get(&gid).cloned()
    }
}

/// Lines `name:password:number:…`; the first of several names counts.
fn parse_names(text: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(number)) = (fields.next(), fields.nth(1)) else { continue };
        if let Ok(number) = number.parse() {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// Reads extended attributes with buffers that are used again.
pub struct XattrReader {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Default for XattrReader {
    fn default() -> Self {
        Self { names: vec![0; 4 << 10], value: vec![0; 4 << 10] }
    }
}

/// Largest value and largest list that Linux allows.
const XATTR_MAX_BYTES: usize = 64 << 10;

impl XattrReader {
    /// Those of the thing called `name` in `dir`, sorted by name; a link is not followed.
    pub fn read_at(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<Xattr>> {
        let path = proc_path(dir, name)?;
        self.read(
            |list| rustix::fs::llistxattr(path.as_c_str(), list),
            |name, value| rustix::fs::lgetxattr(path.as_c_str(), name, value),
        )
    }

    /// Those of an open file or directory.
    pub fn read_fd(&mut self, fd: BorrowedFd<'_>) -> io::Result<Vec<Xattr>> {
        self.read(
            |list| rustix::fs::flistxattr(fd, list),
            |name, value| rustix::fs::fgetxattr(fd, name, value),
        )
    }

    fn read(
        &mut self,
        list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
        get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
    ) -> io::Result<Vec<Xattr>> {
        let len = match fill(&mut self.names, list) {
            // Most files have none: nothing more is done or allocated for them.
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Ok(len) => len,
            Err(e) => return Err(e.into()),
        };
        let mut found = Vec::new();
        for name in self.names[..len].split(|b| *b == 0).filter(|name| !name.is_empty()) {
            match fill(&mut self.value, |value| get(name, value)) {
                Ok(len) => {
                    found.push(Xattr { name: name.to_vec(), value: self.value[..len].to_vec() });
                }
                // It went away meanwhile, or is listed but has no value to give.
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e.into()),
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Calls with the buffer, once more with the largest one where it was too small.
fn fill(buffer: &mut Vec<u8>, call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
    match call(buffer) {
        Err(Errno::RANGE) if buffer.len() < XATTR_MAX_BYTES => {
            buffer.resize(XATTR_MAX_BYTES, 0);
            call(buffer)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_their_files() {
        let names = parse_names(b"root:x:0:0:root:/root:/bin/sh\nbad\nme:x:1000:\ntoo:x:1000:\n");
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&1000).map(String::as_str), Some("me"));
        assert_eq!(names.len(), 2);
    }
}
