//! Putting single things back, on the restoring threads.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::attrs::Stat;
use super::super::beneath::{DIR_READ, ParentCache};
use super::super::{compare, is_damage};
use super::meta::{self, Place};
use super::{Restore, is_fatal};
use crate::model::{Entry, EntryKind, Error};
use crate::ports::{Cancel, Conflict, StreamSink};

/// Why a thing was not put back.
pub enum Problem {
    /// It alone: the rest goes on.
    Item(String),
    /// Nothing more can be put back.
    Fatal(Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        if is_fatal(&error) {
            let hint = "free some space on the target and run it again with --replace";
            return Self::Fatal(Error::io("write to", "the target", error).hint(hint));
        }
        Self::Item(error.to_string())
    }
}

impl From<Errno> for Problem {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<Error> for Problem {
    /// An error of reading the point.
    fn from(error: Error) -> Self {
        if is_damage(&error) { Self::Item(error.to_string()) } else { Self::Fatal(error) }
    }
}

/// What became of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Put back, with so many bytes.
    Restored(u64),
    /// It was as it should be.
    Unchanged(u64),
}

/// Part of a large file, or a whole thing.
pub enum Job {
    /// One thing.
    Whole(Box<Entry>),
    /// A range of a large file.
    Range(std::sync::Arc<LargeFile>, std::ops::Range<u64>),
}

/// A large file that several threads write.
pub struct LargeFile {
    entry: Entry,
    draft: Draft,
    ranges_left: AtomicUsize,
    problem: Mutex<Option<Problem>>,
}

/// A file being written.
pub struct Draft {
    fd: OwnedFd,
    /// Its name while it is written, where that is not its final one.
    temporary: Option<Vec<u8>>,
}

impl Draft {
    fn name<'a>(&'a self, entry: &'a Entry) -> &'a [u8] {
        self.temporary.as_deref().unwrap_or(entry.path.leaf())
    }

    fn discard(&self, dir: BorrowedFd<'_>, entry: &Entry) {
        // What is left of it is only litter, and the failure itself is reported.
        let _ = rustix::fs::unlinkat(dir, self.name(entry), AtFlags::empty());
    }
}

impl Restore<'_> {
    /// Puts one thing back that is neither a directory nor a hard link.
    pub fn put(&self, entry: &Entry, cache: &mut ParentCache) -> Result<Done, Problem> {
        let Some(world) = &self.world else { return Ok(Done::Restored(entry.size)) };
        let dir = match cache.parent_of(world, &entry.path) {
            Ok(dir) => dir,
            Err(e) if self.request.dry_run && e.kind() == io::ErrorKind::NotFound => {
                return Ok(Done::Restored(entry.size));
            }
            Err(e) => return Err(parent_problem(e)),
        };
        let existing = look(dir, entry.path.leaf())?;
        if let Some(stat) = &existing {
            if self.request.conflict == Conflict::Refuse {
                return Err(Problem::Item("something of that name is there already".to_owned()));
            }
            if let Some(done) = self.adopt(entry, dir, stat)? {
                return Ok(done);
            }
        }
        if self.request.dry_run {
            return Ok(Done::Restored(entry.size));
        }
        if let Some(stat) = existing.filter(Stat::is_dir) {
            self.clear_directory(dir, entry.path.leaf(), &stat)?;
        }
        match entry.kind {
            EntryKind::File => self.put_file(entry, dir, existing.is_some()),
            _ => self.put_special(entry, dir, existing.is_some()),
        }
    }

    /// Keeps what is there where its content is right, and corrects its attributes.
    fn adopt(&self, entry: &Entry, dir: BorrowedFd<'_>, stat: &Stat) -> Result<Option<Done>, Problem> {
        let Some(attrs) = &entry.attrs else { return Ok(None) };
        // Another name of the file may lie anywhere: writing its attributes would reach there.
        if !compare::is_same_kind(&entry.kind, stat) || stat.nlink > attrs.nlink.max(1) {
            return Ok(None);
        }
        let leaf = entry.path.leaf();
        let is_right = match &entry.kind {
            EntryKind::File => stat.size == entry.size && self.has_content(entry, dir)?,
            EntryKind::Symlink(target) => {
                rustix::fs::readlinkat(dir, leaf, Vec::new())?.as_bytes() == target.as_slice()
            }
            _ => true,
        };
        if !is_right {
            return Ok(None);
        }
        let place = Place::Named(dir, leaf);
        if compare::attributes(attrs, stat, &place.xattrs()?).is_none() {
            return Ok(Some(Done::Unchanged(entry.size)));
        }
        if !self.request.dry_run {
            self.apply(entry, place)?;
        }
        Ok(Some(Done::Restored(0)))
    }

    fn has_content(&self, entry: &Entry, dir: BorrowedFd<'_>) -> Result<bool, Problem> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(dir, entry.path.leaf(), flags, Mode::empty()) {
            Ok(fd) => Ok(self.from.is_same(entry, &mut File::from(fd))?),
            // Not readable: it is written anew.
            Err(_) => Ok(false),
        }
    }

    /// Opens a new file for writing, under another name where one is to be replaced.
    fn draft(&self, entry: &Entry, dir: BorrowedFd<'_>, is_replaced: bool) -> Result<Draft, Problem> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let temporary = is_replaced.then(|| self.temporary_name());
        let name = temporary.as_deref().unwrap_or(entry.path.leaf());
        let fd = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Draft { fd, temporary })
    }

    fn put_file(&self, entry: &Entry, dir: BorrowedFd<'_>, is_replaced: bool) -> Result<Done, Problem> {
        let draft = self.draft(entry, dir, is_replaced)?;
        let written =
            self.fill(entry, &draft, 0..entry.size, false).and_then(|()| self.finish(entry, &draft, dir));
        if let Err(problem) = written {
            draft.discard(dir, entry);
            return Err(problem);
        }
        Ok(Done::Restored(entry.size))
    }

    /// Writes a range of the content.
    fn fill(
        &self,
        entry: &Entry,
        draft: &Draft,
        range: std::ops::Range<u64>,
        is_sized: bool,
    ) -> Result<(), Problem> {
        let mut out = FileSink { fd: draft.fd.as_fd(), end: range.start, failed: None, cancel: self.cancel };
        if !range.is_empty() {
            let read = self.from.read(entry, range.start, range.end - range.start, &mut out);
            if let Some(error) = out.failed {
                return Err(error.into());
            }
            read?;
        }
        if !is_sized && out.end < entry.size {
            // It ends with a hole.
            rustix::fs::ftruncate(&draft.fd, entry.size)?;
        }
        Ok(())
    }

    fn finish(&self, entry: &Entry, draft: &Draft, dir: BorrowedFd<'_>) -> Result<(), Problem> {
        self.apply(entry, Place::Open(draft.fd.as_fd()))?;
        if let Some(temporary) = &draft.temporary {
            rustix::fs::renameat(dir, temporary.as_slice(), dir, entry.path.leaf())?;
        }
        Ok(())
    }

    /// Sets the attributes and reports what could not be set.
    pub fn apply(&self, entry: &Entry, place: Place<'_>) -> Result<(), Problem> {
        let Some(attrs) = &entry.attrs else { return Ok(()) };
        let unset = meta::apply(place, attrs, matches!(entry.kind, EntryKind::Symlink(_)))?;
        if unset.owner {
            self.owner_refused(entry, attrs);
        }
        for what in unset.other {
            self.failed(&entry.path, what);
        }
        Ok(())
    }

    fn put_special(&self, entry: &Entry, dir: BorrowedFd<'_>, is_replaced: bool) -> Result<Done, Problem> {
        let temporary = is_replaced.then(|| self.temporary_name());
        let name = temporary.as_deref().unwrap_or(entry.path.leaf());
        let mode = Mode::RUSR | Mode::WUSR;
        match &entry.kind {
            EntryKind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), dir, name)?,
            EntryKind::Fifo => rustix::fs::mknodat(dir, name, FileType::Fifo, mode, 0)?,
            EntryKind::CharDevice(device) | EntryKind::BlockDevice(device) => {
                let is_char = matches!(entry.kind, EntryKind::CharDevice(_));
                let kind = if is_char { FileType::CharacterDevice } else { FileType::BlockDevice };
                let number = rustix::fs::makedev(device.major, device.minor);
                rustix::fs::mknodat(dir, name, kind, mode, number)?;
            }
            _ => return Err(Problem::Item("is of a kind that cannot be put back".to_owned())),
        }
        let placed = self.apply(entry, Place::Named(dir, name)).and_then(|()| match &temporary {
            Some(name) => Ok(rustix::fs::renameat(dir, name.as_slice(), dir, entry.path.leaf())?),
            None => Ok(()),
        });
        if let Err(problem) = placed {
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
            return Err(problem);
        }
        Ok(Done::Restored(0))
    }

    /// Begins a large file and cuts it into ranges; `None` where one thread should see
    /// to it, because what is there may be right already, or is in the way.
    pub fn begin_large(
        &self,
        entry: &Entry,
        cache: &mut ParentCache,
        range_bytes: u64,
    ) -> Result<Option<Vec<Job>>, Problem> {
        let Some(world) = &self.world else { return Ok(None) };
        let dir = cache.parent_of(world, &entry.path).map_err(parent_problem)?;
        if self.request.dry_run || look(dir, entry.path.leaf())?.is_some() {
            return Ok(None);
        }
        let draft = self.draft(entry, dir, false)?;
        if let Err(e) = rustix::fs::ftruncate(&draft.fd, entry.size) {
            draft.discard(dir, entry);
            return Err(e.into());
        }
        let ranges: Vec<_> = (0..entry.size)
            .step_by(usize::try_from(range_bytes).unwrap_or(usize::MAX))
            .map(|start| start..entry.size.min(start + range_bytes))
            .collect();
        let file = std::sync::Arc::new(LargeFile {
            entry: entry.clone(),
            draft,
            ranges_left: AtomicUsize::new(ranges.len()),
            problem: Mutex::new(None),
        });
        Ok(Some(ranges.into_iter().map(|range| Job::Range(file.clone(), range)).collect()))
    }

    /// Writes one range; the last one finishes the file.
    pub fn put_range(&self, file: &LargeFile, range: std::ops::Range<u64>, cache: &mut ParentCache) {
        let has_failed = super::lock(&file.problem).is_some();
        if !has_failed && let Err(problem) = self.fill(&file.entry, &file.draft, range, true) {
            super::lock(&file.problem).get_or_insert(problem);
        }
        if file.ranges_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let done = self.finish_large(file, cache);
        self.record(&file.entry, done);
    }

    fn finish_large(&self, file: &LargeFile, cache: &mut ParentCache) -> Result<Done, Problem> {
        let Some(world) = &self.world else { return Ok(Done::Restored(0)) };
        let dir = cache.parent_of(world, &file.entry.path).map_err(parent_problem)?;
        let finished = match super::lock(&file.problem).take() {
            Some(problem) => Err(problem),
            None => self.finish(&file.entry, &file.draft, dir),
        };
        if let Err(problem) = finished {
            file.draft.discard(dir, &file.entry);
            return Err(problem);
        }
        Ok(Done::Restored(file.entry.size))
    }

    /// Makes room where a directory is in the way of something else.
    pub fn clear_directory(&self, dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<(), Problem> {
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.request.conflict == Conflict::Mirror => {
                remove_tree(dir, name, stat.dev).map_err(Into::into)
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let why = "a folder that is not empty stands in its place (--replace=mirror removes it)";
                Err(Problem::Item(why.to_owned()))
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// Why the directory that something lies in cannot be reached.
pub fn parent_problem(error: io::Error) -> Problem {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
            Problem::Item("a symbolic link, or something that is no directory, is on its way".to_owned())
        }
        Some(Errno::NOENT) => Problem::Item("the directory it belongs in is not there".to_owned()),
        _ => error.into(),
    }
}

/// What is called `name` in `dir`.
pub fn look(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Stat>> {
    match Stat::at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removes a directory with all below it; stops at anything mounted there.
fn remove_tree(dir: BorrowedFd<'_>, name: &[u8], dev: u64) -> io::Result<()> {
    let fd = rustix::fs::openat(dir, name, DIR_READ, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    for name in names {
        let stat = Stat::at(fd.as_fd(), &name)?;
        if stat.dev != dev || stat.is_mount {
            return Err(io::Error::other("something is mounted below the directory that is in the way"));
        }
        if stat.is_dir() {
            remove_tree(fd.as_fd(), &name, dev)?;
        } else {
            rustix::fs::unlinkat(&fd, name.as_slice(), AtFlags::empty())?;
        }
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Writes restored bytes in their place; holes are left out.
struct FileSink<'a> {
    fd: BorrowedFd<'a>,
    end: u64,
    failed: Option<io::Error>,
    cancel: &'a Cancel,
}

impl StreamSink for FileSink<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> crate::model::Result<()> {
        self.cancel.check()?;
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::pwrite(self.fd, rest, at) {
                Ok(0) => return self.fail(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    rest = &rest[n..];
                }
                Err(Errno::INTR) => {}
                Err(e) => return self.fail(e.into()),
            }
        }
        self.end = at;
        Ok(())
    }

    fn hole(&mut self, _offset: u64, _len: u64) -> crate::model::Result<()> {
        Ok(())
    }
}

impl FileSink<'_> {
    /// Keeps the error, so that it is not taken for one of reading the point.
    fn fail(&mut self, error: io::Error) -> crate::model::Result<()> {
        let kind = error.kind();
        self.failed = Some(error);
        Err(Error::io("write to", "the target", kind.into()))
    }
}
