//! A repository in a folder.
//!
//! An object is written to a file of its own in `.tmp` under the root, synced, and then
//! given its name in one step that fails where the name is taken. So it is there whole
//! or not at all, and of many who race one wins. Nothing inside the repository is
//! reached through a symbolic link.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_NOW,
    UTIME_OMIT,
};
use rustix::io::Errno;

use crate::model::{Error, ErrorKind, ObjectName, Result, Time};
use crate::ports::{Capabilities, ObjectMeta, Put, Store};

use super::url::file_url;
use super::wrap::{check_prefix, missing, over_limit, too_short};

/// Holds files not yet complete. Begins with a dot, as no object's name does.
const TEMP_FOLDER: &str = ".tmp";
/// Begins the name of every unfinished file.
const TEMP_PREFIX: &str = "put-";
/// Locked while an object gets its name by [`Publish::Lock`].
const LOCK_FILE: &str = "lock";
/// An unfinished file older than this was left by somebody who died.
const TEMP_STALE_SECS: i64 = 24 * 3600;

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);

/// How a finished file gets its final name. The store begins with the first and falls
/// back by itself where the file system lacks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// `renameat2(RENAME_NOREPLACE)`.
    Rename,
    /// `link(2)`.
    Link,
    /// A look and a rename under a file lock. Two *hosts* that share the folder can
    /// race here, and the store then says so in its capabilities.
    Lock,
}

impl Publish {
    const ALL: [Self; 3] = [Self::Rename, Self::Link, Self::Lock];
}

/// A repository in a folder of this machine.
pub struct Local {
    root: OwnedFd,
    path: PathBuf,
    /// Index into `Publish::ALL`.
    publish: AtomicU8,
    /// Folders whose own name is known to be on disk.
    durable_folders: Mutex<HashSet<String>>,
    swept: AtomicBool,
}

impl Local {
    /// Opens the repository's folder, which must be there.
    pub fn open(path: &Path) -> Result<Self> {
        require_absolute(path)?;
        let what = "open the repository's folder";
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => Error::io(what, show(path), errno.into())
                .with_kind(ErrorKind::NotFound)
                .hint("is its disk mounted? `muster init` makes a new repository"),
            _ => Error::io(what, show(path), errno.into()),
        })?;
        Ok(Self {
            root,
            path: path.to_owned(),
            publish: AtomicU8::new(0),
            durable_folders: Mutex::default(),
            swept: AtomicBool::new(false),
        })
    }

    /// Opens the repository's folder, and first makes it, and those above it, where
    /// they are not there.
    pub fn create(path: &Path) -> Result<Self> {
        require_absolute(path)?;
        let there = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(path);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE.as_raw_mode())
            .create(path)
            .map_err(|error| Error::io("make the repository's folder", show(path), error))?;
        for parent in path.ancestors().skip(1).take_while(|folder| folder.starts_with(there)) {
            File::open(parent)
                .and_then(|folder| Ok(sync_folder(folder.as_fd())?))
                .map_err(|error| Error::io("write the folder to disk", show(parent), error))?;
        }
        Self::open(path)
    }

    /// The same store, which begins with this way of naming finished files: for a file
    /// system that is known to lack, or to fake, the ones before it.
    #[must_use]
    pub fn with_publish(self, publish: Publish) -> Self {
        self.publish.store(publish as u8, Ordering::Relaxed);
        self
    }

    fn publish_by(&self) -> Publish {
        Publish::ALL[usize::from(self.publish.load(Ordering::Relaxed))]
    }

    /// The path of an object, or of a folder of objects, for messages.
    fn on(&self, name: &str) -> String {
        show(&self.path.join(name))
    }

    fn fail(&self, what: &str, name: &str, errno: Errno) -> Error {
        let error = Error::io(what, self.on(name), errno.into());
        // What a network file system says when its server is away for a while.
        match errno {
            Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::STALE | Errno::TIMEDOUT => error.retryable(),
            _ => error,
        }
    }

    fn not_followed(&self, name: &str) -> Error {
        Error::new(ErrorKind::Refused, "use the repository's folder", "a symbolic link stands in it")
            .on(self.on(name))
            .hint("symbolic links inside a repository are not followed: put the real file or folder there")
    }

    /// The open folder `name` below `at`; `None` where there is no folder of that name.
    fn subfolder(&self, at: BorrowedFd<'_>, name: &str, path: &str) -> Result<Option<OwnedFd>> {
        match open_folder(at, name) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            // What O_NOFOLLOW says depends on the system.
            Err(errno @ (Errno::NOTDIR | Errno::LOOP | Errno::MLINK)) => match look(at, name) {
                Ok(stat) if is(&stat, FileType::Symlink) => Err(self.not_followed(path)),
                Ok(stat) if is(&stat, FileType::Directory) => Err(self.fail("open the folder", path, errno)),
                Ok(_) | Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(self.fail("look at the folder", path, errno)),
            },
            Err(errno) => Err(self.fail("open the folder", path, errno)),
        }
    }

    /// The open folder at `path` (parts with slashes between, or empty for the root);
    /// `None` where it is not there.
    fn folder(&self, path: &str) -> Result<Option<Folder<'_>>> {
        let mut current = Folder::Root(self.root.as_fd());
        for (part, so_far) in parts_of(path) {
            match self.subfolder(current.as_fd(), part, so_far)? {
                Some(next) => current = Folder::Below(next),
                None => return Ok(None),
            }
        }
        Ok(Some(current))
    }

    /// As [`folder`](Self::folder), and makes what is not there. When it returns, the
    /// folder's name and those above it are on disk.
    fn make_folder(&self, path: &str) -> Result<Folder<'_>> {
        let mut current = Folder::Root(self.root.as_fd());
        for (part, so_far) in parts_of(path) {
            let mut known = self.durable().contains(so_far);
            let next = match self.subfolder(current.as_fd(), part, so_far)? {
                Some(next) => next,
                None => {
                    known = false;
                    match rustix::fs::mkdirat(&current, part, FOLDER_MODE) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(self.fail("make the folder", so_far, errno)),
                    }
                    self.subfolder(current.as_fd(), part, so_far)?.ok_or_else(|| {
                        Error::new(ErrorKind::Refused, "make the folder", "something else has its name")
                            .on(self.on(so_far))
                    })?
                }
            };
            // Also for a folder that was there: whoever made it may not have come this far.
            if !known {
                sync_folder(current.as_fd())
                    .map_err(|errno| self.fail("write the folder to disk", so_far, errno))?;
                self.durable().insert(so_far.to_owned());
            }
            current = Folder::Below(next);
        }
        Ok(current)
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.durable_folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands at an object's place; `None` if nothing, or a folder.
    fn find(&self, folder: BorrowedFd<'_>, name: &ObjectName) -> Result<Option<Stat>> {
        match look(folder, name.leaf()) {
            Ok(stat) => self.checked(stat, name),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fail("look at the object", name.as_str(), errno)),
        }
    }

    /// Objects are regular files. A folder is no object, and harmless; what else stands
    /// at an object's place was put there by somebody else.
    fn checked(&self, stat: Stat, name: &ObjectName) -> Result<Option<Stat>> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some(stat)),
            FileType::Directory => Ok(None),
            FileType::Symlink => Err(self.not_followed(name.as_str())),
            _ => Err(Error::new(ErrorKind::Refused, "read the object", "it is no regular file")
                .on(self.on(name.as_str()))),
        }
    }

    fn open_object(&self, name: &ObjectName) -> Result<(File, u64)> {
        let gone = || missing(self.on(name.as_str()));
        let folder = self.folder(parent_of(name))?.ok_or_else(gone)?;
        // Not blocking: a named pipe in an object's place must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&folder, name.leaf(), flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Err(gone()),
            // What is no regular file may not open at all: say what it is.
            Err(errno) => {
                self.find(folder.as_fd(), name)?;
                return Err(self.fail("open the object", name.as_str(), errno));
            }
        };
        let stat = rustix::fs::fstat(&file)
            .map_err(|errno| self.fail("look at the object", name.as_str(), errno))?;
        let stat = self.checked(stat, name)?.ok_or_else(gone)?;
        Ok((file, size_of(&stat)))
    }

    /// Makes an empty file for a put. It goes when it is dropped.
    fn make_temp(&self) -> Result<Temp> {
        let folder = match self.subfolder(self.root.as_fd(), TEMP_FOLDER, TEMP_FOLDER)? {
            Some(folder) => folder,
            None => {
                match rustix::fs::mkdirat(&self.root, TEMP_FOLDER, FOLDER_MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(self.fail("make the folder", TEMP_FOLDER, errno)),
                }
                open_folder(self.root.as_fd(), TEMP_FOLDER)
                    .map_err(|errno| self.fail("open the folder", TEMP_FOLDER, errno))?
            }
        };
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| Error::internal("make a name for a temporary file", error.to_string()))?;
        let name = format!("{TEMP_PREFIX}{:032x}", u128::from_le_bytes(random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &name, flags, FILE_MODE)
            .map_err(|errno| self.fail("make a file in the folder", TEMP_FOLDER, errno))?;
        Ok(Temp { folder, name, file: File::from(file), is_named: false })
    }

    /// Removes what others left in `.tmp`. By the clock of the file system itself, and
    /// never a reason to fail: what cannot be removed only takes room.
    fn sweep(&self, temp: &Temp) {
        let Ok(now) = rustix::fs::fstat(&temp.file) else { return };
        let Ok(entries) = Dir::read_from(&temp.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !name.to_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&temp.folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if stored_at(&now).secs_since(stored_at(&stat)) > TEMP_STALE_SECS as f64 {
                match rustix::fs::unlinkat(&temp.folder, name, AtFlags::empty()) {
                    Ok(()) => tracing::info!(?name, "removed what an interrupted run left"),
                    Err(error) => tracing::warn!(?name, %error, "cannot remove what an interrupted run left"),
                }
            }
        }
    }

    /// Gives the finished file its name, unless that is taken.
    fn name_it(&self, temp: &mut Temp, folder: BorrowedFd<'_>, leaf: &str) -> Result<Put, Errno> {
        loop {
            let by = self.publish_by();
            let done = match by {
                Publish::Rename => temp.rename(folder, leaf, RenameFlags::NOREPLACE),
                Publish::Link => temp.link(folder, leaf),
                Publish::Lock => temp.rename_locked(folder, leaf),
            };
            match done {
                Ok(()) => return Ok(Put::Created),
                Err(Errno::EXIST) => return Ok(Put::Exists),
                // The file system does not have it.
                Err(
                    errno @ (Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::MLINK),
                ) if by != Publish::Lock => {
                    tracing::debug!(?by, %errno, "this file system needs another way to name a file");
                    self.publish.fetch_max(by as u8 + 1, Ordering::Relaxed);
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Visits what lies below an open folder, whose path is `prefix` (empty or with a
    /// slash at its end). Holds the names of the folders on the way, and no more.
    fn walk(
        &self,
        folder: BorrowedFd<'_>,
        prefix: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        let fail = |errno| self.fail("list the folder", prefix, errno);
        // A folder's name ends in a slash here, since that is what sorts against its
        // neighbours in the full names.
        let mut leaves: Vec<String> = Vec::new();
        for entry in Dir::read_from(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(leaf) = entry.file_name().to_str() else { continue };
            if ObjectName::new(format!("{prefix}{leaf}")).is_err() {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match look(folder, leaf) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(fail(errno)),
                },
                known => known,
            };
            match kind {
                FileType::RegularFile => leaves.push(leaf.to_owned()),
                FileType::Directory => leaves.push(format!("{leaf}/")),
                _ => {
                    tracing::warn!(path = self.on(&format!("{prefix}{leaf}")), "passing over what is no file")
                }
            }
        }
        leaves.sort_unstable();
        for leaf in leaves {
            let full = format!("{prefix}{leaf}");
            if let Some(name) = leaf.strip_suffix('/') {
                if let Some(below) = self.subfolder(folder, name, &full)? {
                    self.walk(below.as_fd(), &full, visit)?;
                }
                continue;
            }
            let name = ObjectName::new(full)?;
            // `None`: deleted since.
            if let Some(stat) = self.find(folder, &name)? {
                visit(meta(name, &stat))?;
            }
        }
        Ok(())
    }
}

impl Store for Local {
    fn describe(&self) -> String {
        file_url(&self.path)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { conditional_put: self.publish_by() != Publish::Lock }
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        let what = "store the object";
        let fail = |errno| self.fail(what, name.as_str(), errno);
        let folder = self.make_folder(parent_of(name))?;
        if self.find(folder.as_fd(), name)?.is_some() {
            // Whoever stored it may not have come to this yet.
            sync_folder(folder.as_fd()).map_err(fail)?;
            return Ok(Put::Exists);
        }

        let mut temp = self.make_temp()?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            self.sweep(&temp);
        }
        let written = parts.iter().try_for_each(|part| temp.file.write_all(part));
        written.map_err(|error| Error::io(what, self.on(name.as_str()), error))?;
        rustix::fs::fsync(&temp.file).map_err(fail)?;
        // The store's time of an object is that of its naming, not of its first byte.
        let touched = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        rustix::fs::futimens(&temp.file, &touched).map_err(fail)?;

        let put = self.name_it(&mut temp, folder.as_fd(), name.leaf()).map_err(|errno| match errno {
            Errno::XDEV => fail(errno).hint("all folders of a repository must lie on one file system"),
            // Somebody took a file or a folder away under us.
            Errno::NOENT => fail(errno).retryable(),
            _ => fail(errno),
        })?;
        if put == Put::Exists && self.find(folder.as_fd(), name)?.is_none() {
            return Err(Error::new(ErrorKind::Refused, what, "a folder stands in its place")
                .on(self.on(name.as_str())));
        }
        sync_folder(folder.as_fd()).map_err(fail)?;
        Ok(put)
    }

    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        let (file, size) = self.open_object(name)?;
        let on = || self.on(name.as_str());
        if size > limit_bytes {
            return Err(over_limit(on(), size, limit_bytes));
        }
        let mut bytes = Vec::new();
        reserve(&mut bytes, size, on)?;
        let read = file.take(size).read_to_end(&mut bytes);
        read.map_err(|error| Error::io("read the object", on(), error))?;
        if bytes.len() as u64 != size {
            return Err(too_short(on(), bytes.len() as u64, 0, size));
        }
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        let (file, size) = self.open_object(name)?;
        let on = || self.on(name.as_str());
        // Before anything is allocated: the numbers may come from a damaged index.
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(too_short(on(), size, offset, len));
        }
        let mut bytes = Vec::new();
        reserve(&mut bytes, len, on)?;
        bytes.resize(len as usize, 0);
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(too_short(on(), size, offset, len))
            }
            Err(error) => Err(Error::io("read a part of the object", on(), error)),
        }
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        let Some(folder) = self.folder(parent_of(name))? else { return Ok(None) };
        Ok(self.find(folder.as_fd(), name)?.map(|stat| meta(name.clone(), &stat)))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        check_prefix(prefix)?;
        // A folder that was removed reads as empty through a descriptor that is still open.
        let root = rustix::fs::fstat(&self.root).map_err(|errno| self.fail("list the folder", "", errno))?;
        if root.st_nlink == 0 {
            return Err(Error::new(ErrorKind::Store, "list the folder", "it was removed while it was open")
                .on(self.on("")));
        }
        match self.folder(prefix.trim_end_matches('/'))? {
            Some(folder) => self.walk(folder.as_fd(), prefix, visit),
            None => Ok(()),
        }
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let Some(folder) = self.folder(parent_of(name))? else { return Ok(()) };
        match rustix::fs::unlinkat(&folder, name.leaf(), AtFlags::empty()) {
            Ok(()) => sync_folder(folder.as_fd()),
            // A folder is no object, and so there is none.
            Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
            Err(errno) => Err(errno),
        }
        .map_err(|errno| self.fail("delete the object", name.as_str(), errno))
    }
}

/// An open folder: the root, or one below it.
enum Folder<'a> {
    Root(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Folder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

/// An unfinished file. Removed when dropped, unless it was renamed to its final name.
struct Temp {
    folder: OwnedFd,
    name: String,
    file: File,
    is_named: bool,
}

impl Temp {
    fn rename(&mut self, folder: BorrowedFd<'_>, leaf: &str, flags: RenameFlags) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.folder, &self.name, folder, leaf, flags)?;
        self.is_named = true;
        Ok(())
    }

    fn link(&self, folder: BorrowedFd<'_>, leaf: &str) -> Result<(), Errno> {
        match rustix::fs::linkat(&self.folder, &self.name, folder, leaf, AtFlags::empty()) {
            // Over NFS an answer may get lost, and the repeated call finds our own link.
            Err(Errno::EXIST) if rustix::fs::fstat(&self.file)?.st_nlink > 1 => Ok(()),
            done => done,
        }
    }

    fn rename_locked(&mut self, folder: BorrowedFd<'_>, leaf: &str) -> Result<(), Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Unlocked when it is closed.
        let lock = rustix::fs::openat(&self.folder, LOCK_FILE, flags, FILE_MODE)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))?;
        match look(folder, leaf) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => {
                rustix::fs::renameat(&self.folder, &self.name, folder, leaf)?;
                self.is_named = true;
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.is_named {
            // What stays is swept later.
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

fn require_absolute(path: &Path) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, "use the repository's folder", "the path is not absolute")
        .on(show(path)))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Everything of a name before its leaf, without the slash.
fn parent_of(name: &ObjectName) -> &str {
    name.as_str().rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The parts of a path, each with the path up to and with it.
fn parts_of(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut end = 0;
    path.split('/').filter(|part| !part.is_empty()).map(move |part| {
        end += part.len() + usize::from(end > 0);
        (part, &path[..end])
    })
}

fn open_folder(at: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn look(at: BorrowedFd<'_>, name: &str) -> Result<Stat, Errno> {
    rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn sync_folder(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fsync(folder) {
        // Some file systems have no such thing for folders (vfat over FUSE, CIFS).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        done => done,
    }
}

fn reserve(bytes: &mut Vec<u8>, len: u64, on: impl Fn() -> String) -> Result<()> {
    let room = usize::try_from(len).ok().and_then(|len| bytes.try_reserve_exact(len).ok());
    room.ok_or_else(|| {
        let why = format!("there is no memory for its {}", crate::model::Bytes(len));
        Error::new(ErrorKind::Limit, "read the object", why).on(on())
    })
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

#[allow(clippy::useless_conversion, reason = "the fields' types differ between systems")]
fn stored_at(stat: &Stat) -> Time {
    Time::new(stat.st_mtime.into(), u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

fn meta(name: ObjectName, stat: &Stat) -> ObjectMeta {
    ObjectMeta { name, size: size_of(stat), stored_at: stored_at(stat) }
}
