//! The capture: one thread walks ahead, another hands to the engine what it finds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::FileType;

use super::attrs::{Names, Stat};
use super::beneath::Beneath;
use super::content::{FileContent, Reading};
use super::roots::{Facts, Node, Resolved, resolve};
use super::walk::{Item, WalkCounts, WalkOptions, Walker};
use super::{FilesSource, ROOT, require_proc};
use crate::model::count::counted;
use crate::model::{ChunkClass, Entry, EntryKind, EntryPath, EntryState, Error, ErrorKind, Result, Time};
use crate::ports::{Cancel, CaptureReport, CaptureSink, Previous};

/// Items handed over at once, and how many such batches may wait.
const BATCH_ITEMS: usize = 256;
const BATCHES_WAITING: usize = 8;

/// Captures the source into `sink`.
pub fn capture(source: &FilesSource, sink: &mut dyn CaptureSink, cancel: &Cancel) -> Result<CaptureReport> {
    require_proc()?;
    let Resolved { facts, notes } = resolve(&source.config.paths)?;
    let world = open_root()?;
    refuse_if_nothing_is_there(&world, &facts)?;
    let reading = Reading { world: open_root()?, clock: source.clock.clone(), names: Names::of_host() };
    let mut capture = Capture::new(source, Arc::new(reading), notes);
    let tree = Node::tree(&facts);
    let mut walker = Walker::new(&world, &tree, &source.config, &source.filter, WalkOptions::default())
        .map_err(|e| Error::io("read the directory", ROOT, e).with_kind(ErrorKind::Source))?;
    let (send, receive) = sync_channel(BATCHES_WAITING);
    let counts = std::thread::scope(|scope| {
        let walk = scope.spawn(move || {
            send_all(&mut walker, &send, cancel);
            walker.counts
        });
        capture.take_all(receive, sink, cancel)?;
        walk.join().map_err(|_| Error::internal("walk the files", "the walking thread panicked"))
    })?;
    cancel.check()?;
    capture.report(&facts, &counts)
}

fn open_root() -> Result<Beneath> {
    Beneath::open(ROOT.as_ref()).map_err(|e| Error::io("open", ROOT, e).with_kind(ErrorKind::Source))
}

/// A capture in which no root is there would be a point of nothing: the source fails.
fn refuse_if_nothing_is_there(world: &Beneath, facts: &Facts) -> Result<()> {
    let mut problems = Vec::new();
    for root in &facts.roots {
        match super::look_at_root(world, root) {
            // A link counts only for what it leads to, which is a root too.
            Ok(stat) if stat.kind == FileType::Symlink && facts.roots.len() > 1 => {}
            Ok(_) => return Ok(()),
            Err(why) => problems.push(format!("/{root} {why}")),
        }
    }
    if facts.everything {
        return Ok(());
    }
    let why = if problems.is_empty() { "no paths are configured".to_owned() } else { problems.join("; ") };
    Err(Error::new(ErrorKind::Source, "capture the files", why)
        .hint("mount what should be there, or correct `paths` in muster.toml"))
}

fn send_all(walker: &mut Walker<'_>, send: &SyncSender<Vec<Item>>, cancel: &Cancel) {
    let mut batch = Vec::with_capacity(BATCH_ITEMS);
    for item in walker {
        batch.push(item);
        if batch.len() == BATCH_ITEMS {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ITEMS));
            // A send fails where the engine has given up.
            if cancel.is_cancelled() || send.send(full).is_err() {
                return;
            }
        }
    }
    let _ = send.send(batch);
}

#[derive(Default)]
struct Counts {
    files: u64,
    directories: u64,
    symlinks: u64,
    hard_links: u64,
    special: u64,
    bytes: u64,
    unchanged_files: u64,
    unreadable: u64,
}

/// A file with several names: where its first one was recorded, and how many may come.
struct LinkedFile {
    first: EntryPath,
    names_left: u64,
}

struct Capture {
    reading: Arc<Reading>,
    force_read: bool,
    linked: HashMap<(u64, u64), LinkedFile>,
    counts: Counts,
    xattr_problem: Option<(u64, String)>,
    notes: Vec<String>,
}

impl Capture {
    fn new(source: &FilesSource, reading: Arc<Reading>, notes: Vec<String>) -> Self {
        Self {
            reading,
            force_read: source.config.force_read,
            linked: HashMap::new(),
            counts: Counts::default(),
            xattr_problem: None,
            notes,
        }
    }

    fn take_all(
        &mut self,
        batches: Receiver<Vec<Item>>,
        sink: &mut dyn CaptureSink,
        cancel: &Cancel,
    ) -> Result<()> {
        for batch in batches {
            for item in batch {
                cancel.check()?;
                self.take(item, sink)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, mut item: Item, sink: &mut dyn CaptureSink) -> Result<()> {
        if let Some(why) = item.xattr_problem.take() {
            let (count, _) = self.xattr_problem.get_or_insert_with(|| (0, format!("{}: {why}", item.path)));
            *count += 1;
        }
        let kind = item.stat.and_then(|stat| Some((stat, stat.entry_kind(item.target.take())?)));
        let Some((stat, kind)) = kind else {
            self.counts.unreadable += 1;
            let mut entry = Entry::new(item.path, EntryKind::File);
            let why = item.problem.unwrap_or_else(|| "is of an unknown kind".to_owned());
            entry.state = EntryState::Unreadable(why);
            return sink.add(entry);
        };
        let mut entry = Entry::new(item.path, kind);
        entry.attrs = Some(stat.to_attrs(&self.reading.names, item.xattrs));
        if let Some(why) = item.problem {
            self.counts.unreadable += 1;
            entry.state = EntryState::Unreadable(why);
            return sink.add(entry);
        }
        if stat.nlink > 1 && !stat.is_dir() && self.is_known_link(&mut entry, &stat) {
            self.counts.hard_links += 1;
            return sink.add(entry);
        }
        self.count(&entry, &stat);
        if stat.is_file() { self.take_file(entry, stat, sink) } else { sink.add(entry) }
    }

    /// Whether the file has been recorded under an earlier name; the entry is a link then.
    fn is_known_link(&mut self, entry: &mut Entry, stat: &Stat) -> bool {
        use std::collections::hash_map::Entry as Slot;
        match self.linked.entry((stat.dev, stat.inode)) {
            Slot::Vacant(slot) => {
                slot.insert(LinkedFile { first: entry.path.clone(), names_left: stat.nlink - 1 });
                false
            }
            Slot::Occupied(mut slot) => {
                entry.kind = EntryKind::HardLink(slot.get().first.clone());
                slot.get_mut().names_left -= 1;
                if slot.get().names_left == 0 {
                    slot.remove();
                }
                true
            }
        }
    }

    fn count(&mut self, entry: &Entry, stat: &Stat) {
        match entry.kind {
            EntryKind::File => {
                self.counts.files += 1;
                self.counts.bytes += stat.size;
            }
            EntryKind::Directory => self.counts.directories += 1,
            EntryKind::Symlink(_) => self.counts.symlinks += 1,
            _ => self.counts.special += 1,
        }
    }

    fn take_file(&mut self, mut entry: Entry, stat: Stat, sink: &mut dyn CaptureSink) -> Result<()> {
        if !self.force_read
            && let Some(previous) = sink.previous(&entry.path)?
            && is_unchanged(&previous, &stat)
        {
            entry.size = stat.size;
            if sink.add_unchanged(entry.clone(), &previous)? {
                self.counts.unchanged_files += 1;
                return Ok(());
            }
            entry.size = 0;
        }
        let content = FileContent { reading: self.reading.clone(), seen: stat };
        sink.add_stream(entry, ChunkClass::Bulk, stat.size, Box::new(content))
    }

    fn report(mut self, facts: &Facts, walk: &WalkCounts) -> Result<CaptureReport> {
        let counts = &self.counts;
        let figures = [
            ("files", counts.files),
            ("directories", counts.directories),
            ("symlinks", counts.symlinks),
            ("hard_links", counts.hard_links),
            ("special", counts.special),
            ("bytes", counts.bytes),
            ("unchanged_files", counts.unchanged_files),
            ("unreadable_in_walk", counts.unreadable),
            ("excluded", walk.excluded),
            ("caches", walk.caches),
            ("other_file_systems", walk.other_file_systems),
        ];
        let counts: BTreeMap<_, _> = figures.map(|(name, n)| (name.to_owned(), n)).into();
        if let Some((count, first)) = self.xattr_problem.take() {
            let what = "could not have their extended attributes read";
            self.notes.push(format!("{} {what}, the first: {first}", counted(count, "entry")));
        }
        if walk.bad_ignore_rules > 0 {
            let what = "lines of ignore files are no patterns, or the files cannot be read";
            self.notes.push(format!("{} {what}", walk.bad_ignore_rules));
        }
        if facts.everything {
            self.notes.push("the attributes of / itself are not captured".to_owned());
        }
        Ok(CaptureReport { counts, facts: facts.encode()?, notes: self.notes })
    }
}

/// Whether the file is as the previous capture read it. The device's number is not
/// looked at: it changes when a volume is mounted anew, while inode and change time
/// stay. A change time of 0 marks a file that was read too soon after a change.
fn is_unchanged(previous: &Previous, now: &Stat) -> bool {
    let Some(attrs) = &previous.attrs else { return false };
    previous.kind == EntryKind::File
        && previous.state == EntryState::Good
        && previous.size == now.size
        && attrs.mtime == now.mtime
        && attrs.ctime == now.ctime
        && attrs.ctime != Time::default()
        && attrs.inode == now.inode
}
