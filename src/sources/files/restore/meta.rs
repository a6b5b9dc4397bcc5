//! Giving things their attributes: owner before mode (a new owner clears set-id bits),
//! both before extended attributes (so do capabilities), times last.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::attrs::XattrReader;
use super::super::beneath::proc_path;
use super::super::compare::is_managed;
use crate::model::entry::Xattr;
use crate::model::{Attrs, Time};

/// The thing whose attributes are set.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// What is called so in a directory; a link itself, not what it points to.
    Named(BorrowedFd<'a>, &'a [u8]),
}

/// What could not be set.
#[derive(Debug, Default)]
pub struct Unset {
    /// The owner was not permitted.
    pub owner: bool,
    /// Anything else, in words.
    pub other: Vec<String>,
}

/// Sets everything. `is_link` leaves the mode alone, which links do not have.
pub fn apply(place: Place<'_>, attrs: &Attrs, is_link: bool) -> io::Result<Unset> {
    let mut unset = Unset::default();
    match place.chown(Some(attrs.uid), Some(attrs.gid)) {
        Ok(()) => {}
        Err(Errno::PERM) => {
            unset.owner = true;
            // The group alone may be one of ours.
            let _ = place.chown(None, Some(attrs.gid));
        }
        Err(e) => return Err(e.into()),
    }
    if !is_link {
        // Set-id bits on a file that is now another's would lend the wrong identity.
        let mode = if unset.owner { attrs.mode & !0o6000 } else { attrs.mode };
        place.chmod(mode)?;
    }
    set_xattrs(place, attrs.xattrs.as_deref().unwrap_or_default(), &mut unset)?;
    place.set_mtime(attrs.mtime)?;
    Ok(unset)
}

fn set_xattrs(place: Place<'_>, wanted: &[Xattr], unset: &mut Unset) -> io::Result<()> {
    let present = place.xattrs()?;
    for xattr in present.iter().filter(|x| is_managed(&x.name)) {
        if !wanted.iter().any(|w| w.name == xattr.name)
            && let Err(e) = place.remove_xattr(&xattr.name)
        {
            unset.other.push(format!("extended attribute {}: {e}", String::from_utf8_lossy(&xattr.name)));
        }
    }
    for xattr in wanted.iter().filter(|w| !present.contains(w)) {
        match place.set_xattr(xattr) {
            Ok(()) => {}
            Err(e) if super::is_fatal(&e) => return Err(e),
            Err(e) => {
                let name = String::from_utf8_lossy(&xattr.name);
                unset.other.push(format!("extended attribute {name}: {e}"));
            }
        }
    }
    Ok(())
}

impl Place<'_> {
    fn chown(self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        // The number that means "leave it" is nobody's; rustix refuses it.
        let is_real = |id: &u32| *id != u32::MAX;
        let uid = uid.filter(is_real).map(Uid::from_raw);
        let gid = gid.filter(is_real).map(Gid::from_raw);
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Named(dir, name) => rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    /// Sets the permission bits.
    pub fn chmod(self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Open(fd) => Ok(rustix::fs::fchmod(fd, mode)?),
            Self::Named(dir, name) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
                Ok(rustix::fs::chmodat(CWD, proc_path(fd.as_fd(), b"")?, mode, AtFlags::empty())?)
            }
        }
    }

    fn set_mtime(self, mtime: Time) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) },
        };
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, &times)?,
            Self::Named(dir, name) => {
                rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }

    /// Its extended attributes.
    pub fn xattrs(self) -> io::Result<Vec<Xattr>> {
        match self {
            Self::Open(fd) => XattrReader::default().read_fd(fd),
            Self::Named(dir, name) => XattrReader::default().read_at(dir, name),
        }
    }

    fn set_xattr(self, xattr: &Xattr) -> io::Result<()> {
        let (name, value, flags) = (xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags)?,
            Self::Named(dir, leaf) => rustix::fs::lsetxattr(proc_path(dir, leaf)?, name, value, flags)?,
        }
        Ok(())
    }

    fn remove_xattr(self, name: &[u8]) -> io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name)?,
            Self::Named(dir, leaf) => rustix::fs::lremovexattr(proc_path(dir, leaf)?, name)?,
        }
        Ok(())
    }
}
