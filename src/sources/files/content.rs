//! Reading one file's content, on an engine's thread, some time after the walk saw it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::Errno;

use super::attrs::{Names, Stat, XattrReader};
use super::beneath::Beneath;
use super::walk::describe;
use crate::model::{Entry, EntryPath, EntryState, Result, Time};
use crate::ports::{Clock, StreamContent, StreamWriter};

/// How often a file that changes is read again.
const REREADS_MAX: u32 = 3;

/// Most that is read from a file whose length is given as 0 (`/proc` makes such).
const UNSIZED_MAX_BYTES: u64 = 64 << 20;

/// A file changed this shortly before it was read may change again without its times
/// showing it: file systems keep times as coarsely as 2 s.
const GRANULE_SECS: i64 = 2;

/// What all readings of one capture share.
pub struct Reading {
    /// `/`.
    pub world: Beneath,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
    /// Users and groups.
    pub names: Names,
}

/// A file to be read.
pub struct FileContent {
    /// What is shared.
    pub reading: Arc<Reading>,
    /// What the walk saw.
    pub seen: Stat,
}

impl StreamContent for FileContent {
    fn read(&mut self, entry: &mut Entry, out: &mut dyn StreamWriter) -> Result<()> {
        let mut attempt = 0;
        loop {
            match self.read_once(entry, out)? {
                Outcome::Whole => entry.state = EntryState::Good,
                Outcome::Changed if attempt < REREADS_MAX => {
                    attempt += 1;
                    out.restart()?;
                    continue;
                }
                Outcome::Changed => entry.state = EntryState::Changed,
                Outcome::Failed(why) => entry.state = EntryState::Unreadable(why),
            }
            return Ok(());
        }
    }
}

enum Outcome {
    Whole,
    Changed,
    Failed(String),
}

impl FileContent {
    fn read_once(&mut self, entry: &mut Entry, out: &mut dyn StreamWriter) -> Result<Outcome> {
        let started = self.reading.clock.now();
        let opened = open_to_read(&self.reading.world, &entry.path).and_then(|fd| Ok((Stat::of(&fd)?, fd)));
        let (before, fd) = match opened {
            Ok(found) => found,
            Err(e) => return Ok(Outcome::Failed(describe(&e))),
        };
        if !before.is_file() {
            return Ok(Outcome::Failed("was replaced by something that is no file".to_owned()));
        }
        // Other names of the file that the walk saw are recorded as links to this one,
        // whose content is another's now.
        let is_other = self.seen.nlink > 1 && !before.is_same_file(&self.seen);
        if before != self.seen {
            self.take_attributes(entry, before, &fd);
        }
        let mut file = File::from(fd);
        if let Err(e) = copy(&mut file, &before, out)? {
            return Ok(Outcome::Failed(describe(&e)));
        }
        let after = match Stat::of(&file) {
            Ok(stat) => stat,
            Err(e) => return Ok(Outcome::Failed(describe(&e))),
        };
        if is_other || !after.is_same_content(&before) || before.size != 0 && out.written() != before.size {
            return Ok(Outcome::Changed);
        }
        if let Some(attrs) = &mut entry.attrs {
            attrs.ctime = if is_racy(&before, started) { Time::default() } else { before.ctime };
        }
        Ok(Outcome::Whole)
    }

    /// The file is another, or has changed since the walk: its attributes go with the
    /// content that is read. The number of names stays at least what the walk saw: other
    /// entries may be links to this one even if those names are gone by now.
    fn take_attributes(&self, entry: &mut Entry, now: Stat, fd: &OwnedFd) {
        let old = entry.attrs.take().and_then(|attrs| attrs.xattrs).unwrap_or_default();
        let xattrs = XattrReader::default().read_fd(fd.as_fd()).unwrap_or(old);
        let nlink = now.nlink.max(self.seen.nlink);
        entry.attrs = Some(Stat { nlink, ..now }.to_attrs(&self.reading.names, xattrs));
    }
}

/// Whether a later change could leave all of the file's times as they are. Such a file
/// is stored with a change time of 0, which no file has, so that the next capture reads
/// it again (git calls this racily clean).
fn is_racy(stat: &Stat, read_at: Time) -> bool {
    let edge = read_at.plus_secs(-GRANULE_SECS);
    stat.ctime >= edge || stat.mtime >= edge && stat.mtime <= read_at.plus_secs(GRANULE_SECS)
}

/// Opens a file for reading without following links, without blocking on what is no
/// file, and without changing its access time where that is permitted.
pub fn open_to_read(world: &Beneath, path: &EntryPath) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    match world.open_at(path, flags | OFlags::NOATIME) {
        Err(e) if e.raw_os_error() == Some(Errno::PERM.raw_os_error()) => world.open_at(path, flags),
        other => other,
    }
}

/// Copies a file's content, holes as holes.
fn copy(file: &mut File, stat: &Stat, out: &mut dyn StreamWriter) -> Result<io::Result<()>> {
    if stat.size == 0 {
        return Ok(out.write_from(file, UNSIZED_MAX_BYTES)?.map(drop));
    }
    if !stat.may_be_sparse() {
        return Ok(out.write_from(file, stat.size)?.map(drop));
    }
    let mut at = 0;
    while at < stat.size {
        let data = match next_data(file, at, stat.size) {
            Ok(data) => data,
            Err(e) => return Ok(Err(e)),
        };
        if data.start > at {
            out.hole(data.start - at)?;
        }
        let wanted = data.end - data.start;
        if wanted > 0 {
            match out.write_from(file, wanted)? {
                Ok(got) if got == wanted => {}
                // It has become shorter; the caller sees that from its times.
                Ok(_) => return Ok(Ok(())),
                Err(e) => return Ok(Err(e)),
            }
        }
        at = data.end;
    }
    Ok(Ok(()))
}

/// The next stretch of data from `at`, with the file positioned at its start; empty at
/// `size` where only a hole is left.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<std::ops::Range<u64>> {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.min(size),
        Err(Errno::NXIO) => return Ok(size..size),
        // The file system cannot tell holes: all is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => {
            seek(file, SeekFrom::Start(at))?;
            return Ok(at..size);
        }
        Err(e) => return Err(e.into()),
    };
    if start == size {
        return Ok(size..size);
    }
    let end = match seek(file, SeekFrom::Hole(start)) {
        Ok(end) => end.min(size),
        Err(_) => size,
    };
    seek(file, SeekFrom::Start(start))?;
    Ok(start..end)
}
