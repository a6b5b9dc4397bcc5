//! One thing to protect, and what the engine offers it.
//!
//! A source says *what* to capture, in path order; the engine decides when each
//! stream is read, on which thread, and keeps memory bounded.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use crate::model::{ChunkClass, Entry, EntryPath, Result};

use super::clock::Cancel;

/// One thing to protect.
///
/// Every implementation passes the one conformance suite in `tests/conformance/`.
pub trait Source: Send + Sync {
    /// Its name inside the job.
    fn name(&self) -> &str;

    /// Its kind, as in the configuration: `files`, `command`.
    fn kind(&self) -> &'static str;

    /// Looks, without capturing anything, at what would keep a capture from working.
    fn probe(&self) -> Result<Vec<Finding>>;

    /// Captures everything into `sink`. An error makes the whole source *failed*; a
    /// single item that cannot be read is an entry with that state instead.
    fn capture(&self, sink: &mut dyn CaptureSink, cancel: &Cancel) -> Result<CaptureReport>;

    /// Puts what was captured back.
    fn restore(
        &self,
        from: &dyn CaptureReader,
        request: &RestoreRequest,
        cancel: &Cancel,
    ) -> Result<RestoreReport>;

    /// Compares what is at `target` with what was captured.
    fn verify(
        &self,
        from: &dyn CaptureReader,
        target: &RestoreTarget,
        cancel: &Cancel,
    ) -> Result<VerifyReport>;
}

/// Something a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether a capture would fail or lose something because of it.
    pub is_problem: bool,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// An entry of the previous capture of the same source.
pub type Previous = Entry;

/// What a source tells when its capture is over.
#[derive(Clone, Debug, Default)]
pub struct CaptureReport {
    /// Figures that stand in metadata, for alarms and lists (`tables`, `rows`).
    pub counts: BTreeMap<String, u64>,
    /// What verification needs (digests, samples, exit status, standard error); sealed as data.
    pub facts: Vec<u8>,
    /// Things a person should know; stand in metadata, so no content and no program output.
    pub notes: Vec<String>,
}

/// Takes what a source captures. Entries come in strictly ascending path order.
pub trait CaptureSink {
    /// The entry at `path` in the previous capture, where there is one. Paths must be
    /// asked for in ascending order.
    fn previous(&mut self, path: &EntryPath) -> Result<Option<Previous>>;

    /// Adds an entry without content.
    fn add(&mut self, entry: Entry) -> Result<()>;

    /// Adds an entry whose content is that of `previous`, which is not read again.
    /// `false` if some of that content is no longer stored: nothing was added, and the
    /// source must read it.
    fn add_unchanged(&mut self, entry: Entry, previous: &Previous) -> Result<bool>;

    /// Adds an entry whose content is read later, on a worker thread. `size_hint` is in bytes.
    fn add_stream(
        &mut self,
        entry: Entry,
        class: ChunkClass,
        size_hint: u64,
        content: Box<dyn StreamContent>,
    ) -> Result<()>;

    /// Adds an entry whose content is read now, on this thread, to its end: for a stream
    /// whose failure must be known before the source goes on.
    fn add_stream_now(
        &mut self,
        entry: Entry,
        class: ChunkClass,
        content: &mut dyn StreamContent,
    ) -> Result<()>;
}

/// Bytes to be read when the engine is ready for them.
pub trait StreamContent: Send {
    /// Writes the stream to `out` and corrects `entry` to what was really read
    /// (attributes, state). Content of an entry that ends `Unreadable` is dropped.
    /// The engine sets size and content itself. An error makes the source failed.
    fn read(&mut self, entry: &mut Entry, out: &mut dyn StreamWriter) -> Result<()>;
}

/// Takes a stream's bytes in order.
pub trait StreamWriter {
    /// The next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// The next bytes, read from `from` until its end or `limit` bytes; how many came.
    /// The outer error is the engine's, the inner one the reader's.
    fn write_from(
        &mut self,
        from: &mut dyn Read,
        limit: u64,
    ) -> Result<std::result::Result<u64, std::io::Error>>;

    /// Zeros that take no room.
    fn hole(&mut self, len: u64) -> Result<()>;

    /// Forgets what was written so far: the stream is read anew.
    fn restart(&mut self) -> Result<()>;

    /// Bytes written so far.
    fn written(&self) -> u64;
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// These paths and what lies below them; empty means everything.
    pub paths: Vec<EntryPath>,
}

impl Selection {
    /// Whether the entry itself is wanted.
    pub fn takes(&self, path: &EntryPath) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|wanted| path.is_within(wanted))
    }
    /// Whether `path` is a directory on the way to something wanted.
    pub fn leads_through(&self, path: &EntryPath) -> bool {
        self.paths.iter().any(|wanted| wanted.is_within(path))
    }
}

/// Reads one captured source out of a point. Every byte is verified before it is given.
pub trait CaptureReader: Sync {
    /// Calls `visit` for every wanted entry, in path order.
    fn entries(&self, selection: &Selection, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()>;

    /// One entry.
    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>>;

    /// Writes `len` bytes of the entry's content from `offset` into `out`, in order.
    fn read(&self, entry: &Entry, offset: u64, len: u64, out: &mut dyn StreamSink) -> Result<()>;

    /// Whether `content` is, to its end, the entry's content.
    fn is_same(&self, entry: &Entry, content: &mut dyn Read) -> Result<bool>;

    /// Whether a thing at `path` that the capture does not have counts as a difference. It does
    /// not where only a part was restored, or where what was there before was to be kept.
    fn minds_extra(&self, _path: &EntryPath) -> bool {
        true
    }

    /// The sealed facts of the capture.
    fn facts(&self) -> Result<Vec<u8>>;

    /// How many threads a restore should use.
    fn parallelism(&self) -> usize;

    /// Says that `bytes` more were restored, for the progress display.
    fn progress(&self, items: u64, bytes: u64);
}

/// Takes restored bytes.
pub trait StreamSink {
    /// Bytes of the stream at `offset`; offsets ascend without gaps but for holes.
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// `len` zeros at `offset` that need not take room.
    fn hole(&mut self, offset: u64, len: u64) -> Result<()>;
}

/// Where a restore puts things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreTarget {
    /// Below this folder.
    Folder(PathBuf),
    /// Where they came from (a command source: its restore command).
    Original,
}

/// What to do about things that are in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Conflict {
    /// Refuse a target that is not empty.
    #[default]
    Refuse,
    /// Replace what has the same name and keep everything else.
    Replace,
    /// Make the target equal to the point: what is not in the point goes.
    Mirror,
}

/// A restore, as asked for.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// What.
    pub selection: Selection,
    /// Where to.
    pub target: RestoreTarget,
    /// What about things in the way.
    pub conflict: Conflict,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Restore owners also where that is not permitted (it is an error then).
    pub strict_owner: bool,
}

/// What a restore did, or with `dry_run` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Entries put back.
    pub items: u64,
    /// Bytes of content put back.
    pub bytes: u64,
    /// Entries that were as they should be already.
    pub unchanged: u64,
    /// Of those two, folders that are not what was asked for: those on the way to it, and all of them where
    /// anything but folders was asked for.
    pub folders_beside: u64,
    /// Entries removed (`Mirror`).
    pub removed: u64,
    /// What could not be put back exactly: path and why. Any makes the exit status 3.
    pub failures: Vec<(String, String)>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Equal in every respect that was captured.
    Same,
    /// Not equal.
    Different,
    /// It cannot be told here.
    CannotTell,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Entries found equal.
    pub same: u64,
    /// Path and difference.
    pub different: Vec<(String, String)>,
    /// Path and why it cannot be told.
    pub cannot_tell: Vec<(String, String)>,
}

impl VerifyReport {
    /// The whole in one word.
    pub fn verdict(&self) -> Verdict {
        if !self.different.is_empty() {
            Verdict::Different
        } else if !self.cannot_tell.is_empty() {
            Verdict::CannotTell
        } else {
            Verdict::Same
        }
    }
}
