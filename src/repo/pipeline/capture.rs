//! A source's entries, put in order: streams are read by many threads, the catalogue is
//! written in the order in which the source named its entries.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::model::{
    ChunkClass, Content, Entry, EntryPath, EntryState, Error, ErrorKind, Extent, Result, TreeRef,
};
use crate::ports::{CaptureSink, Previous, StreamContent};
use crate::repo::reader::Reader;
use crate::repo::tree::{Cursor, TreeWriter, walk};

use super::budget::stopped;
use super::stream::{Cutter, Grouper, Pages};
use super::{Counters, Pipeline, SealJob, Shared, Work};
use crate::repo::layout::PackKind;

/// A batch is sent on when it has this many items …
const BATCH_ITEMS: usize = 256;
/// … or this many bytes to read.
const BATCH_BYTES: u64 = 2 << 20;
/// Batches under way for one source.
const BATCHES_MAX: usize = 64;

enum Item {
    Ready(Entry),
    Stream(Entry, ChunkClass, Box<dyn StreamContent>),
}

/// Items whose streams one thread reads, in order.
pub(super) struct Batch {
    items: Vec<Item>,
    answer: Sender<Result<Vec<Entry>>>,
}

/// Reads streams until there are no more.
pub(super) fn reader(shared: &Shared<'_>, work: &Work, seal: &Sender<SealJob>) -> Result<()> {
    let mut cutter = Cutter::new(shared, seal);
    for batch in work {
        shared.go_on()?;
        let mut entries = Vec::with_capacity(batch.items.len());
        let mut failed = None;
        for item in batch.items {
            match read_item(&mut cutter, item) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let answer = match failed {
            Some(error) => Err(error),
            None => Ok(entries),
        };
        // Nobody waits for it any more if the source has failed meanwhile.
        let _ = batch.answer.send(answer);
    }
    cutter.finish()
}

fn read_item(cutter: &mut Cutter<'_, '_>, item: Item) -> Result<Entry> {
    match item {
        Item::Ready(entry) => Ok(entry),
        Item::Stream(mut entry, class, mut content) => {
            read_stream(cutter, &mut entry, class, &mut *content)?;
            Ok(entry)
        }
    }
}

fn read_stream(
    cutter: &mut Cutter<'_, '_>,
    entry: &mut Entry,
    class: ChunkClass,
    content: &mut dyn StreamContent,
) -> Result<()> {
    let mut stream = cutter.stream(class);
    content.read(entry, &mut stream)?;
    let recipe = stream.finish()?;
    if matches!(entry.state, EntryState::Unreadable(_)) {
        entry.size = 0;
        entry.content = None;
    } else {
        entry.size = recipe.len();
        entry.content = Some(recipe);
    }
    Ok(())
}

/// What a source's catalogue came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureStats {
    /// Entries.
    pub items: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Entries not read again.
    pub reused: u64,
    /// Entries that could not be read.
    pub unreadable: u64,
    /// Entries that changed while they were read.
    pub changed: u64,
    /// The first unreadable or changed entries: path and why.
    pub failures: Vec<(EntryPath, String)>,
}

/// How many failures are named one by one.
pub const FAILURES_NAMED_MAX: usize = 100;

/// What to compare with, and how.
#[derive(Default)]
pub struct SinkOptions<'a> {
    /// The catalogue of the same source in the point before, and how to read it.
    pub previous: Option<(&'a Reader<'a>, TreeRef)>,
}

/// The sink of one source's capture.
pub struct SourceCapture<'s, 'p, 'r> {
    pipeline: &'s Pipeline<'p, 'r>,
    batch: Vec<Item>,
    batch_bytes: u64,
    batch_streams: usize,
    ordered: Sender<Receiver<Result<Vec<Entry>>>>,
    previous: Option<PreviousCursor<'s>>,
    last_path: Option<EntryPath>,
    reused: u64,
    cutter: Cutter<'p, 'r>,
}

struct PreviousCursor<'a> {
    reader: &'a Reader<'a>,
    cursor: Cursor<Entry>,
    head: Option<Entry>,
}

impl Pipeline<'_, '_> {
    /// Captures one source: runs `body` with its sink and writes its catalogue.
    pub fn capture<T>(
        &self,
        options: SinkOptions<'_>,
        body: impl FnOnce(&mut dyn CaptureSink) -> Result<T>,
    ) -> Result<SourceOutcome<T>> {
        let previous = match options.previous {
            Some((reader, tree)) => {
                let cursor = Cursor::new(reader, &tree)?;
                Some(PreviousCursor { reader, cursor, head: None })
            }
            None => None,
        };
        std::thread::scope(|scope| {
            let (ordered_in, ordered_out) = bounded(BATCHES_MAX);
            let shared = self.shared;
            let seal = self.seal.clone();
            let assembler = scope.spawn(move || assemble(shared, seal, &ordered_out));
            let mut sink = SourceCapture {
                pipeline: self,
                batch: Vec::new(),
                batch_bytes: 0,
                batch_streams: 0,
                ordered: ordered_in,
                previous,
                last_path: None,
                reused: 0,
                cutter: Cutter::new(shared, &self.seal),
            };
            let value = body(&mut sink);
            // What was cut is claimed, so it goes on its way also when the source has failed: another
            // source may already refer to it.
            let flushed = match &value {
                Ok(_) => sink.flush().and_then(|()| sink.cutter.finish()),
                Err(_) => sink.cutter.finish(),
            };
            let reused = sink.reused;
            drop(sink);
            let assembled = assembler
                .join()
                .unwrap_or_else(|_| Err(Error::internal("write the catalogue", "a thread panicked")));
            // A stream's failure shows to the source as a closed channel: the real one comes first.
            let (tree, mut stats) = match (assembled, value.as_ref().err().is_some_and(super::is_echo)) {
                (Err(error), _) => return Err(error),
                (Ok(done), _) => done,
            };
            let value = value?;
            flushed?;
            stats.reused = reused;
            Ok(SourceOutcome { value, tree, stats })
        })
    }
}

/// A captured source.
pub struct SourceOutcome<T> {
    /// What the body answered.
    pub value: T,
    /// Its catalogue.
    pub tree: TreeRef,
    /// Figures.
    pub stats: CaptureStats,
}

fn assemble(
    shared: &Shared<'_>,
    seal: Sender<SealJob>,
    ordered: &Receiver<Receiver<Result<Vec<Entry>>>>,
) -> Result<(TreeRef, CaptureStats)> {
    let mut pages = Pages(Grouper::new(shared, seal, PackKind::Meta));
    let catalogue = write_catalogue(shared, ordered, &mut pages);
    // Pages that were made are claimed: they go on their way also when the source has failed.
    pages.0.flush()?;
    catalogue
}

fn write_catalogue(
    shared: &Shared<'_>,
    ordered: &Receiver<Receiver<Result<Vec<Entry>>>>,
    pages: &mut Pages<'_, '_>,
) -> Result<(TreeRef, CaptureStats)> {
    let mut tree = TreeWriter::default();
    let mut stats = CaptureStats::default();
    for answer in ordered {
        let entries = answer.recv().map_err(|_| stopped())??;
        for entry in entries {
            stats.items += 1;
            stats.bytes += entry.size;
            note_state(&mut stats, &entry);
            Counters::add(&shared.counters.items, 1);
            tree.push(entry, pages)?;
        }
    }
    Ok((tree.finish(pages)?, stats))
}

fn note_state(stats: &mut CaptureStats, entry: &Entry) {
    let why = match &entry.state {
        EntryState::Good => return,
        EntryState::Changed => {
            stats.changed += 1;
            "it changed each time it was read".to_owned()
        }
        EntryState::Unreadable(why) => {
            stats.unreadable += 1;
            why.clone()
        }
    };
    if stats.failures.len() < FAILURES_NAMED_MAX {
        stats.failures.push((entry.path.clone(), why));
    }
}

impl SourceCapture<'_, '_, '_> {
    fn in_order(&mut self, entry: &Entry) -> Result<()> {
        if !entry.path.is_safe() || self.last_path.as_ref().is_some_and(|last| *last >= entry.path) {
            return Err(Error::new(ErrorKind::Internal, "capture an entry", "paths must be safe and ascend")
                .on(entry.path.to_string()));
        }
        self.last_path = Some(entry.path.clone());
        Ok(())
    }

    fn push(&mut self, item: Item, bytes: u64) -> Result<()> {
        self.batch_streams += usize::from(matches!(item, Item::Stream(..)));
        self.batch.push(item);
        self.batch_bytes += bytes;
        if self.batch.len() >= BATCH_ITEMS || self.batch_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let items = std::mem::take(&mut self.batch);
        let streams = std::mem::take(&mut self.batch_streams);
        self.batch_bytes = 0;
        let (answer_in, answer_out) = bounded(1);
        self.ordered.send(answer_out).map_err(|_| stopped())?;
        if streams == 0 {
            let ready = items.into_iter().filter_map(|item| match item {
                Item::Ready(entry) => Some(entry),
                Item::Stream(..) => None,
            });
            let _ = answer_in.send(Ok(ready.collect()));
            return Ok(());
        }
        self.pipeline.work.send(Batch { items, answer: answer_in }).map_err(|_| stopped())
    }

    /// Whether everything that `content` refers to is still stored.
    fn all_stored(&self, content: &Content, reader: &Reader<'_>) -> Result<bool> {
        let shared = self.pipeline.shared;
        let known = |extent: &Extent| match extent {
            Extent::Chunk { id, .. } => shared.is_known(id),
            Extent::Hole { .. } => Ok(true),
        };
        match content {
            Content::Inline(extents) => {
                for extent in extents {
                    if !known(extent)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Content::Tree(tree) => {
                let pages = KnownPages { reader, shared, missing: std::cell::Cell::new(false) };
                let mut all = true;
                let walked = walk(&pages, tree, &|_, _| true, &mut |extent: Extent| {
                    all = all && known(&extent)?;
                    Ok(())
                });
                // A page that cannot be read is a reason to read the file again, not to fail.
                Ok(walked.is_ok() && all && !pages.missing.get())
            }
        }
    }
}

/// Pages of an earlier recipe; notes those that may no longer be referred to.
struct KnownPages<'a> {
    reader: &'a Reader<'a>,
    shared: &'a Shared<'a>,
    missing: std::cell::Cell<bool>,
}

impl crate::repo::tree::PageSource for KnownPages<'_> {
    fn page(&self, id: &crate::model::ChunkId) -> Result<std::sync::Arc<Vec<u8>>> {
        if !self.shared.is_known(id)? {
            self.missing.set(true);
        }
        crate::repo::tree::PageSource::page(self.reader, id)
    }
}

impl CaptureSink for SourceCapture<'_, '_, '_> {
    fn previous(&mut self, path: &EntryPath) -> Result<Option<Previous>> {
        let Some(previous) = &mut self.previous else { return Ok(None) };
        loop {
            if previous.head.is_none() {
                previous.head = previous.cursor.next(previous.reader)?;
            }
            match &previous.head {
                None => return Ok(None),
                Some(head) if head.path < *path => previous.head = None,
                Some(head) if head.path == *path => return Ok(previous.head.clone()),
                Some(_) => return Ok(None),
            }
        }
    }

    fn add(&mut self, entry: Entry) -> Result<()> {
        self.in_order(&entry)?;
        self.push(Item::Ready(entry), 0)
    }

    fn add_unchanged(&mut self, mut entry: Entry, previous: &Previous) -> Result<bool> {
        let Some(content) = &previous.content else { return Ok(false) };
        let Some(reader) = self.previous.as_ref().map(|p| p.reader) else { return Ok(false) };
        if !self.all_stored(content, reader)? {
            return Ok(false);
        }
        self.in_order(&entry)?;
        entry.size = previous.size;
        entry.content.clone_from(&previous.content);
        self.reused += 1;
        Counters::add(&self.pipeline.shared.counters.bytes, entry.size);
        self.push(Item::Ready(entry), 0)?;
        Ok(true)
    }

    fn add_stream(
        &mut self,
        entry: Entry,
        class: ChunkClass,
        size_hint: u64,
        content: Box<dyn StreamContent>,
    ) -> Result<()> {
        self.in_order(&entry)?;
        // A large stream must not wait behind small ones of its batch.
        if size_hint >= BATCH_BYTES {
            self.flush()?;
        }
        self.push(Item::Stream(entry, class, content), size_hint)
    }

    fn add_stream_now(
        &mut self,
        mut entry: Entry,
        class: ChunkClass,
        content: &mut dyn StreamContent,
    ) -> Result<()> {
        self.in_order(&entry)?;
        read_stream(&mut self.cutter, &mut entry, class, content)?;
        self.push(Item::Ready(entry), 0)
    }
}
