//! Whether what a file system says of a thing is what was captured.

use super::attrs::Stat;
use crate::model::entry::Xattr;
use crate::model::{Attrs, Device, EntryKind};

/// What of a thing's attributes is not as captured.
#[derive(Debug, Default)]
pub struct Difference {
    /// Anything but the owner, in words.
    pub what: Vec<String>,
    /// The owner, in words.
    pub owner: Option<String>,
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.what.is_empty() && self.owner.is_none()
    }
}

/// Whether the kinds are the same; content, link targets and hard links apart.
pub fn is_same_kind(kind: &EntryKind, stat: &Stat) -> bool {
    use rustix::fs::FileType as T;
    let is_device = |device: &Device, kind| stat.kind == kind && stat.rdev == *device;
    match kind {
        EntryKind::File => stat.kind == T::RegularFile,
        EntryKind::Directory => stat.kind == T::Directory,
        EntryKind::Symlink(_) => stat.kind == T::Symlink,
        EntryKind::HardLink(_) => stat.kind != T::Directory,
        EntryKind::Fifo => stat.kind == T::Fifo,
        EntryKind::CharDevice(device) => is_device(device, T::CharacterDevice),
        EntryKind::BlockDevice(device) => is_device(device, T::BlockDevice),
        EntryKind::Socket => stat.kind == T::Socket,
    }
}

/// Compares attributes. A link's permission bits mean nothing and are passed over.
pub fn attributes(wanted: &Attrs, stat: &Stat, xattrs: &[Xattr]) -> Difference {
    let mut found = Difference::default();
    let is_link = stat.kind == rustix::fs::FileType::Symlink;
    if wanted.mode != stat.mode && !is_link {
        found.what.push(format!("mode {:04o} instead of {:04o}", stat.mode, wanted.mode));
    }
    if wanted.mtime != stat.mtime {
        let [is, was] = [stat.mtime, wanted.mtime].map(|t| format!("{}.{:09}", t.secs, t.nanos));
        found.what.push(format!("modified at {is} instead of {was}"));
    }
    if (wanted.uid, wanted.gid) != (stat.uid, stat.gid) {
        let text = format!("owner {}:{} instead of {}:{}", stat.uid, stat.gid, wanted.uid, wanted.gid);
        found.owner = Some(text);
    }
    let captured = wanted.xattrs.as_deref().unwrap_or_default();
    for xattr in captured {
        let name = String::from_utf8_lossy(&xattr.name);
        match xattrs.iter().find(|x| x.name == xattr.name) {
            None => found.what.push(format!("extended attribute {name} is missing")),
            Some(x) if x.value != xattr.value => {
                found.what.push(format!("extended attribute {name} differs"));
            }
            Some(_) => {}
        }
    }
    for xattr in xattrs.iter().filter(|x| is_managed(&x.name)) {
        if !captured.iter().any(|c| c.name == xattr.name) {
            let name = String::from_utf8_lossy(&xattr.name);
            found.what.push(format!("extended attribute {name} was not there"));
        }
    }
    found
}

/// Whether an extended attribute that was not captured counts as a difference, and is
/// taken away by a restore. Labels that a system sets by itself do not.
pub fn is_managed(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}
