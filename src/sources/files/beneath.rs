//! Opening things below a folder without ever following a symbolic link, so that
//! neither a hostile tree nor a directory renamed under us can lead elsewhere.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::model::EntryPath;

/// Longest path given to one system call (below PATH_MAX); longer ones go in pieces.
const STEP_MAX_BYTES: usize = 4000;

/// Flags for a directory that is only passed through or worked in.
pub const DIR_HANDLE: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Flags for a directory whose names are read.
pub const DIR_READ: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder as the top of a world: nothing opened through it lies outside.
pub struct Beneath {
    base: OwnedFd,
    /// Whether `openat2` exists here; else every step is opened on its own.
    has_openat2: AtomicBool,
}

impl Beneath {
    /// The world whose top is `folder`. The folder's own path may hold symbolic links.
    pub fn open(folder: &std::path::Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = openat(CWD, folder, flags, Mode::empty())?;
        Ok(Self { base, has_openat2: AtomicBool::new(true) })
    }

    /// The top itself.
    pub fn base(&self) -> BorrowedFd<'_> {
        self.base.as_fd()
    }

    /// Opens the thing at `path` with `flags`; no component may be a symbolic link.
    pub fn open_at(&self, path: &EntryPath, flags: OFlags) -> io::Result<OwnedFd> {
        if !path.is_safe() {
            return Err(Errno::INVAL.into());
        }
        let slashed = path.to_slashed();
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if slashed.len() > STEP_MAX_BYTES || !self.has_openat2.load(Ordering::Relaxed) {
            return self.open_stepwise(path, flags);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.base, slashed.as_slice(), flags, Mode::empty(), resolve) {
                // A rename raced with the walk of the path; the kernel asks for another try.
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => {
                    self.has_openat2.store(false, Ordering::Relaxed);
                    return self.open_stepwise(path, flags);
                }
                other => return other.map_err(Into::into),
            }
        }
    }

    /// The directory at `path`, to work in.
    pub fn open_dir(&self, path: &EntryPath) -> io::Result<OwnedFd> {
        self.open_at(path, DIR_HANDLE)
    }

    /// The directory that holds `path`; `None` stands for the top itself.
    pub fn open_parent(&self, path: &EntryPath) -> io::Result<Option<OwnedFd>> {
        path.parent().map(|parent| self.open_dir(&parent)).transpose()
    }

    fn open_stepwise(&self, path: &EntryPath, flags: OFlags) -> io::Result<OwnedFd> {
        let mut at: Option<OwnedFd> = None;
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_some() { DIR_HANDLE } else { flags };
            let dir = at.as_ref().map_or(self.base(), AsFd::as_fd);
            at = Some(openat(dir, part, flags, Mode::empty())?);
        }
        at.ok_or_else(|| Errno::INVAL.into())
    }
}

/// The directory of the last thing worked on, kept open because the next thing mostly
/// lies in it too.
#[derive(Default)]
pub struct ParentCache {
    parent: Option<(EntryPath, OwnedFd)>,
}

impl ParentCache {
    /// The directory that holds `path`.
    pub fn parent_of<'a>(&'a mut self, world: &'a Beneath, path: &EntryPath) -> io::Result<BorrowedFd<'a>> {
        let Some(parent) = path.parent() else { return Ok(world.base()) };
        if self.parent.as_ref().is_none_or(|(known, _)| *known != parent) {
            let fd = world.open_dir(&parent)?;
            self.parent = Some((parent, fd));
        }
        match &self.parent {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Ok(world.base()),
        }
    }
}

/// A path that reaches `name` inside the open directory `dir`, for the calls that take
/// no directory handle (extended attributes). `/proc` leads to the directory itself,
/// whatever it is called by now.
pub fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<CString> {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let mut path = Vec::with_capacity(32 + name.len());
    write!(path, "/proc/self/fd/{}", dir.as_raw_fd())?;
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    CString::new(path).map_err(|_| io::ErrorKind::InvalidInput.into())
}
