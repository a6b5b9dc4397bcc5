//! A small engine in memory, to test sources without a repository: it keeps every
//! stream as it came, and lets a test step in between walk and reading.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use muster::model::{
    ChunkClass, ChunkId, Content, Entry, EntryPath, EntryState, Error, ErrorKind, Extent, Result,
};
use muster::ports::{
    Cancel, CaptureReader, CaptureReport, CaptureSink, Previous, Selection, Source, StreamContent,
    StreamSink, StreamWriter,
};

type PathHook = Box<dyn Fn(&EntryPath) + Send + Sync>;

/// Holds the content of all points.
#[derive(Default)]
pub struct MemoryEngine {
    chunks: Mutex<HashMap<ChunkId, Vec<u8>>>,
    next_chunk: AtomicU64,
    /// `add_unchanged` says that content is no longer stored.
    pub forgets_content: bool,
    /// Called after the walk, before any stream is read.
    pub before_reading: Option<Box<dyn Fn() + Send + Sync>>,
    /// Called after each piece that was read of a stream.
    pub while_reading: Option<PathHook>,
}

/// One captured source.
#[derive(Clone, Default)]
pub struct MemoryPoint {
    pub entries: Vec<Entry>,
    pub report: CaptureReport,
    /// Streams that were read, not taken over.
    pub was_read: Vec<EntryPath>,
}

impl MemoryPoint {
    pub fn entry(&self, path: &str) -> &Entry {
        let wanted = EntryPath::from_display(path.as_bytes()).unwrap();
        let found = self.entries.iter().find(|e| e.path == wanted);
        found.unwrap_or_else(|| panic!("{path} is not in the point: {:?}", self.paths()))
    }

    pub fn has(&self, path: &str) -> bool {
        let wanted = EntryPath::from_display(path.as_bytes()).unwrap();
        self.entries.iter().any(|e| e.path == wanted)
    }

    pub fn paths(&self) -> Vec<String> {
        self.entries.iter().map(|e| e.path.to_string()).collect()
    }
}

impl MemoryEngine {
    /// Captures `source`; entries must come in ascending order.
    pub fn capture(&self, source: &dyn Source, previous: Option<&MemoryPoint>) -> Result<MemoryPoint> {
        let mut sink = Sink {
            engine: self,
            previous,
            asked: None,
            entries: Vec::new(),
            pending: Vec::new(),
            was_read: Vec::new(),
        };
        let report = source.capture(&mut sink, &Cancel::default())?;
        if let Some(hook) = &self.before_reading {
            hook();
        }
        let Sink { mut entries, pending, mut was_read, .. } = sink;
        for (at, mut content) in pending {
            was_read.push(entries[at].path.clone());
            entries[at] = std::thread::scope(|scope| {
                let entry = entries[at].clone();
                scope.spawn(|| self.read(entry, &mut *content)).join().unwrap()
            })?;
        }
        Ok(MemoryPoint { entries, report, was_read })
    }

    /// A reader of `point`.
    pub fn reader<'a>(&'a self, point: &'a MemoryPoint) -> MemoryReader<'a> {
        MemoryReader { engine: self, point }
    }

    /// The whole content of an entry.
    pub fn bytes(&self, entry: &Entry) -> Vec<u8> {
        struct Flat(Vec<u8>);
        impl StreamSink for Flat {
            fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
                assert_eq!(offset, self.0.len() as u64);
                self.0.extend_from_slice(bytes);
                Ok(())
            }
            fn hole(&mut self, offset: u64, len: u64) -> Result<()> {
                assert_eq!(offset, self.0.len() as u64);
                self.0.resize(self.0.len() + len as usize, 0);
                Ok(())
            }
        }
        let mut flat = Flat(Vec::new());
        self.reader(&MemoryPoint::default()).read(entry, 0, entry.size, &mut flat).unwrap();
        flat.0
    }

    /// Loses an entry's stored bytes, as a damaged repository does.
    pub fn damage(&self, entry: &Entry) {
        for extent in extents(entry) {
            if let Extent::Chunk { id, .. } = extent {
                self.chunks.lock().unwrap().remove(&id);
            }
        }
    }

    fn read(&self, mut entry: Entry, content: &mut dyn StreamContent) -> Result<Entry> {
        let mut out = Writer { engine: self, path: entry.path.clone(), extents: Vec::new(), written: 0 };
        content.read(&mut entry, &mut out)?;
        if matches!(entry.state, EntryState::Unreadable(_)) {
            entry.content = None;
            entry.size = 0;
        } else {
            entry.size = out.written;
            entry.content = Some(Content::Inline(out.extents));
        }
        Ok(entry)
    }
}

fn extents(entry: &Entry) -> Vec<Extent> {
    match &entry.content {
        Some(Content::Inline(extents)) => extents.clone(),
        _ => Vec::new(),
    }
}

struct Sink<'a> {
    engine: &'a MemoryEngine,
    previous: Option<&'a MemoryPoint>,
    asked: Option<EntryPath>,
    entries: Vec<Entry>,
    pending: Vec<(usize, Box<dyn StreamContent>)>,
    was_read: Vec<EntryPath>,
}

impl Sink<'_> {
    fn push(&mut self, entry: Entry) {
        assert!(entry.path.is_safe());
        if let Some(last) = self.entries.last() {
            assert!(last.path < entry.path, "{} does not follow {}", entry.path, last.path);
        }
        self.entries.push(entry);
    }
}

impl CaptureSink for Sink<'_> {
    fn previous(&mut self, path: &EntryPath) -> Result<Option<Previous>> {
        assert!(self.asked.as_ref().is_none_or(|asked| asked < path), "asked out of order");
        self.asked = Some(path.clone());
        Ok(self.previous.and_then(|point| point.entries.iter().find(|e| e.path == *path).cloned()))
    }

    fn add(&mut self, entry: Entry) -> Result<()> {
        self.push(entry);
        Ok(())
    }

    fn add_unchanged(&mut self, mut entry: Entry, previous: &Previous) -> Result<bool> {
        if self.engine.forgets_content {
            return Ok(false);
        }
        entry.content = previous.content.clone();
        entry.size = previous.size;
        self.push(entry);
        Ok(true)
    }

    fn add_stream(
        &mut self,
        entry: Entry,
        _class: ChunkClass,
        _size_hint: u64,
        content: Box<dyn StreamContent>,
    ) -> Result<()> {
        self.push(entry);
        self.pending.push((self.entries.len() - 1, content));
        Ok(())
    }

    fn add_stream_now(
        &mut self,
        entry: Entry,
        _class: ChunkClass,
        content: &mut dyn StreamContent,
    ) -> Result<()> {
        self.was_read.push(entry.path.clone());
        let entry = self.engine.read(entry, content)?;
        self.push(entry);
        Ok(())
    }
}

struct Writer<'a> {
    engine: &'a MemoryEngine,
    path: EntryPath,
    extents: Vec<Extent>,
    written: u64,
}

impl StreamWriter for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if !bytes.is_empty() {
            let mut id = [0; 32];
            let number = self.engine.next_chunk.fetch_add(1, Ordering::Relaxed);
            id[..8].copy_from_slice(&number.to_be_bytes());
            let id = ChunkId(id);
            self.engine.chunks.lock().unwrap().insert(id, bytes.to_vec());
            self.extents.push(Extent::Chunk { id, start: 0, len: bytes.len() as u32 });
            self.written += bytes.len() as u64;
        }
        Ok(())
    }

    fn write_from(
        &mut self,
        from: &mut dyn Read,
        limit: u64,
    ) -> Result<std::result::Result<u64, std::io::Error>> {
        let mut left = limit;
        let mut piece = vec![0; 1 << 20];
        while left > 0 {
            let room = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match from.read(&mut piece[..room]) {
                Ok(0) => break,
                Ok(n) => {
                    self.write(&piece[..n])?;
                    left -= n as u64;
                }
                Err(e) => return Ok(Err(e)),
            }
            if let Some(hook) = &self.engine.while_reading {
                hook(&self.path);
            }
        }
        Ok(Ok(limit - left))
    }

    fn hole(&mut self, len: u64) -> Result<()> {
        assert!(len > 0, "an empty hole");
        self.extents.push(Extent::Hole { len });
        self.written += len;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.extents.clear();
        self.written = 0;
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }
}

/// Reads a point.
pub struct MemoryReader<'a> {
    engine: &'a MemoryEngine,
    point: &'a MemoryPoint,
}

impl CaptureReader for MemoryReader<'_> {
    fn entries(&self, selection: &Selection, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        let wanted = self.point.entries.iter().filter(|e| selection.takes(&e.path));
        wanted.cloned().try_for_each(visit)
    }

    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>> {
        Ok(self.point.entries.iter().find(|e| e.path == *path).cloned())
    }

    fn read(&self, entry: &Entry, offset: u64, len: u64, out: &mut dyn StreamSink) -> Result<()> {
        let end = offset + len;
        let mut at = 0;
        for extent in extents(entry) {
            let (from, to) = (at.max(offset), (at + extent.len()).min(end));
            if from < to {
                match &extent {
                    Extent::Hole { .. } => out.hole(from, to - from)?,
                    Extent::Chunk { id, .. } => {
                        let bytes = self.engine.chunks.lock().unwrap().get(id).cloned();
                        let bytes = bytes
                            .ok_or_else(|| Error::new(ErrorKind::Damaged, "read a chunk", "it is lost"))?;
                        out.data(from, &bytes[(from - at) as usize..(to - at) as usize])?;
                    }
                }
            }
            at += extent.len();
        }
        Ok(())
    }

    fn is_same(&self, entry: &Entry, content: &mut dyn Read) -> Result<bool> {
        let mut wanted = Cursor::new(self.engine.bytes(entry));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        wanted.read_to_end(&mut a).unwrap();
        content.read_to_end(&mut b).map_err(|e| Error::io("read", entry.path.to_string(), e))?;
        Ok(a == b)
    }

    fn facts(&self) -> Result<Vec<u8>> {
        Ok(self.point.report.facts.clone())
    }

    fn parallelism(&self) -> usize {
        2
    }

    fn progress(&self, _items: u64, _bytes: u64) {}
}
