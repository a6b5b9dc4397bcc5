//! Reading chunks: index -> pack range -> age -> zstd -> chunk id. Every byte is verified
//! before it is given, and damage is named.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::model::{ChunkId, Content, Entry, EntryPath, Error, ErrorKind, Extent, PackId, Result, TreeRef};
use crate::ports::{Cancel, CaptureReader, Selection, StreamSink};

use super::format::PointSource;
use super::index::{Index, Location};
use super::layout::{self, PackKind};
use super::limits::{BLOB_OPENED_MAX_BYTES, DIRECTORY_MAX_BYTES, LOCATOR_BYTES, PACK_MAX_BYTES};
use super::pack::{OpenedDirectory, PACK_MAGIC, open_directory, parse_locator};
use super::repository::Repository;
use super::seal;
use super::sign::Kind;
use super::tree::{Node, PageSource, load, walk};

type BlobKey = (PackId, u32);

/// Opened blobs, the most recently used of them, within a bound.
struct Cache {
    blobs: HashMap<BlobKey, (Arc<Vec<u8>>, u64)>,
    loading: std::collections::HashSet<BlobKey>,
    bytes: usize,
    clock: u64,
}

/// Reads chunks of one repository.
pub struct Reader<'r> {
    repo: &'r Repository,
    index: &'r Index,
    cache: Mutex<Cache>,
    loaded: Condvar,
    cache_bytes_max: usize,
    bytes_read: AtomicU64,
    cancel: Cancel,
}

impl<'r> Reader<'r> {
    /// A reader that keeps at most `cache_bytes_max` of opened blobs.
    pub fn new(repo: &'r Repository, index: &'r Index, cache_bytes_max: usize) -> Self {
        let cache = Cache { blobs: HashMap::new(), loading: Default::default(), bytes: 0, clock: 0 };
        Self {
            repo,
            index,
            cache: Mutex::new(cache),
            loaded: Condvar::new(),
            cache_bytes_max: cache_bytes_max.max(BLOB_OPENED_MAX_BYTES),
            bytes_read: AtomicU64::new(0),
            cancel: Cancel::default(),
        }
    }

    /// Reads nothing more once somebody asks to stop, in the middle of a long stream too.
    #[must_use]
    pub fn until(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Bytes that were read from the store so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Where a chunk is.
    pub fn locate(&self, kind: PackKind, id: &ChunkId) -> Result<Location> {
        self.index.find(id, &|_, at| at.kind == kind)?.ok_or_else(|| {
            Error::new(
                ErrorKind::Damaged,
                "find the chunk",
                "the index does not know it (`muster repair index` reads it anew from the packs)",
            )
            .on(id.to_string())
            .hint("afterwards `muster check` says what is still missing")
        })
    }

    /// Gives the verified bytes of a chunk to `with`.
    pub fn with_chunk<T>(
        &self,
        kind: PackKind,
        id: &ChunkId,
        with: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        self.cancel.check()?;
        let first = self.locate(kind, id)?;
        let failed = match self.chunk_at(id, &first) {
            Ok((blob, range)) => return with(&blob[range]),
            Err(error) => error,
        };
        // Another writer, or another copy, may have the same chunk whole; and a false entry of one
        // writer must not hide the true one of another.
        let mut tried = vec![(first.pack, first.offset)];
        while let Some(other) =
            self.index.find(id, &|_, at| at.kind == kind && !tried.contains(&(at.pack, at.offset)))?
        {
            if let Ok((blob, range)) = self.chunk_at(id, &other) {
                tracing::warn!(error = %failed, "a damaged chunk was read from another copy");
                return with(&blob[range]);
            }
            tried.push((other.pack, other.offset));
        }
        Err(failed)
    }

    fn chunk_at(&self, id: &ChunkId, at: &Location) -> Result<(Arc<Vec<u8>>, std::ops::Range<usize>)> {
        let blob = self.blob(at)?;
        let range = at.start as usize..at.start as usize + at.len as usize;
        let damaged = |why: &str| {
            Error::new(ErrorKind::Damaged, "read the chunk", why).on(format!(
                "{id} in {} at {}",
                layout::pack(at.kind, &at.pack),
                at.offset
            ))
        };
        let chunk = blob.get(range.clone()).ok_or_else(|| damaged("it would lie outside its blob"))?;
        if self.repo.derived().chunk_id(at.kind, chunk) != *id {
            return Err(damaged("its bytes are not what its id says"));
        }
        Ok((blob, range))
    }

    fn blob(&self, at: &Location) -> Result<Arc<Vec<u8>>> {
        let key = (at.pack, at.offset);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            cache.clock += 1;
            let now = cache.clock;
            if let Some((blob, used)) = cache.blobs.get_mut(&key) {
                *used = now;
                return Ok(blob.clone());
            }
            if cache.loading.insert(key) {
                break;
            }
            // Another thread is opening this very blob.
            cache = self.loaded.wait(cache).unwrap_or_else(PoisonError::into_inner);
        }
        drop(cache);
        let loading = Loading { reader: self, key };
        let opened = self.open_blob(at);
        drop(loading);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let blob = Arc::new(opened?);
        cache.clock += 1;
        let now = cache.clock;
        cache.bytes += blob.len();
        cache.blobs.insert(key, (blob.clone(), now));
        while cache.bytes > self.cache_bytes_max && cache.blobs.len() > 1 {
            let Some(oldest) = cache.blobs.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
            else {
                break;
            };
            if let Some((gone, _)) = cache.blobs.remove(&oldest) {
                cache.bytes -= gone.len();
            }
        }
        Ok(blob)
    }

    fn open_blob(&self, at: &Location) -> Result<Vec<u8>> {
        let name = layout::pack(at.kind, &at.pack);
        let on = || format!("{name} at {}", at.offset);
        let epoch = self.repo.epoch(&at.epoch)?;
        let Some(identity) = &epoch.identity else {
            return Err(self.repo.no_data_key("open content").on(on()));
        };
        let missing = |e: Error| match e.kind() {
            ErrorKind::NotFound => e
                .with_kind(ErrorKind::Damaged)
                .hint("the pack is gone: run `muster check` to see which points it hurts"),
            _ => e,
        };
        let sealed = self
            .repo
            .store()
            .get_range(&name, u64::from(at.offset), u64::from(at.sealed_len))
            .map_err(missing)?;
        self.bytes_read.fetch_add(sealed.len() as u64, Ordering::Relaxed);
        let limit = (at.opened_len as usize).min(BLOB_OPENED_MAX_BYTES);
        let opened = self
            .repo
            .with_zstd(|zstd| seal::open(zstd, identity, &sealed, limit))
            // The epoch's key is right, so what does not open is damage, not a wrong key.
            .map_err(|e| Error::new(ErrorKind::Damaged, "open the blob", e.why()).on(on()))?;
        if opened.len() != at.opened_len as usize {
            return Err(Error::new(
                ErrorKind::Damaged,
                "open the blob",
                "it has another length than the index says",
            )
            .on(on()));
        }
        Ok(opened)
    }

    /// Calls `visit` for every extent of a recipe that overlaps the range, with its offset.
    pub fn extents(
        &self,
        content: &Content,
        range: std::ops::Range<u64>,
        visit: &mut dyn FnMut(u64, &Extent) -> Result<()>,
    ) -> Result<()> {
        let mut offset = 0u64;
        let each = |extent: &Extent| {
            let at = offset;
            offset = offset.saturating_add(extent.len());
            if at < range.end && offset > range.start { visit(at, extent) } else { Ok(()) }
        };
        match content {
            Content::Inline(extents) => extents.iter().try_for_each(each),
            Content::Tree(tree) => self.extents_below(&tree.root, tree.level, (0, tree.bytes), &range, visit),
        }
    }

    /// The same in a recipe's tree, without reading pages that lie outside the range. `place` is
    /// where the page begins and how many bytes it stands for.
    fn extents_below(
        &self,
        page: &ChunkId,
        level: u8,
        place: (u64, u64),
        range: &std::ops::Range<u64>,
        visit: &mut dyn FnMut(u64, &Extent) -> Result<()>,
    ) -> Result<()> {
        if level > super::limits::TREE_LEVELS_MAX {
            return Err(Error::new(ErrorKind::Damaged, "read the stream", "its recipe has too many levels"));
        }
        let overlaps = |at: u64, len: u64| at < range.end && at.saturating_add(len) > range.start;
        let mut at = place.0;
        match load::<Extent>(self, page, level)? {
            Node::Leaf(extents) => {
                for extent in &extents {
                    if overlaps(at, extent.len()) {
                        visit(at, extent)?;
                    }
                    at = at.saturating_add(extent.len());
                }
            }
            Node::Inner(branches) => {
                for branch in &branches {
                    if overlaps(at, branch.bytes) {
                        self.extents_below(&branch.child, level - 1, (at, branch.bytes), range, visit)?;
                    }
                    at = at.saturating_add(branch.bytes);
                }
            }
        }
        if at == place.0.saturating_add(place.1) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Damaged,
            "read the stream",
            "a page of its recipe has other sums than its parent says",
        )
        .on(page.to_string()))
    }

    /// Writes `range` of a stream into `out`.
    pub fn read_content(
        &self,
        content: &Content,
        range: std::ops::Range<u64>,
        out: &mut dyn StreamSink,
    ) -> Result<()> {
        self.extents(content, range.clone(), &mut |at, extent| {
            let from = range.start.max(at);
            let to = range.end.min(at.saturating_add(extent.len()));
            match extent {
                Extent::Hole { .. } => out.hole(from, to - from),
                Extent::Chunk { id, start, len } => self.with_chunk(PackKind::Data, id, |chunk| {
                    let whole = u64::from(*start) + u64::from(*len) <= chunk.len() as u64;
                    if !whole {
                        return Err(Error::new(
                            ErrorKind::Damaged,
                            "read the stream",
                            "an extent lies outside its chunk",
                        )
                        .on(id.to_string()));
                    }
                    let begin = (u64::from(*start) + (from - at)) as usize;
                    out.data(from, &chunk[begin..begin + (to - from) as usize])
                }),
            }
        })
    }

    /// All bytes of a short stream.
    pub fn read_all(&self, content: &Content, limit: u64) -> Result<Vec<u8>> {
        struct Collect(Vec<u8>);
        impl StreamSink for Collect {
            fn data(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
                self.0.extend_from_slice(bytes);
                Ok(())
            }
            fn hole(&mut self, _: u64, len: u64) -> Result<()> {
                self.0.resize(self.0.len() + len as usize, 0);
                Ok(())
            }
        }
        if content.len() > limit {
            return Err(Error::new(
                ErrorKind::Limit,
                "read the stream",
                format!("it has {} bytes, over {limit}", content.len()),
            ));
        }
        let mut out = Collect(Vec::new());
        self.read_content(content, 0..content.len(), &mut out)?;
        Ok(out.0)
    }

    /// Calls `visit` for the entries of a catalogue that a selection may want.
    pub fn catalogue(
        &self,
        tree: &TreeRef,
        selection: &Selection,
        visit: &mut dyn FnMut(Entry) -> Result<()>,
    ) -> Result<()> {
        let enter =
            |first: Option<&EntryPath>, after: Option<&EntryPath>| subtree_may_match(selection, first, after);
        walk(self, tree, &enter, visit)
    }
}

/// Whether a subtree whose paths lie in `first..after` can hold a wanted entry, or one
/// on the way to it.
fn subtree_may_match(selection: &Selection, first: Option<&EntryPath>, after: Option<&EntryPath>) -> bool {
    let Some(first) = first else { return true };
    selection.paths.is_empty()
        || selection.paths.iter().any(|wanted| {
            let on_the_way = wanted.is_within(first);
            let begins_before_end = after.is_none_or(|after| *wanted < *after || after.is_within(wanted));
            let ends_after_begin = *wanted >= *first || first.is_within(wanted);
            let ancestor_inside =
                ancestors(wanted).any(|a| a >= *first && after.is_none_or(|after| a < *after));
            on_the_way || (begins_before_end && ends_after_begin) || ancestor_inside
        })
}

fn ancestors(path: &EntryPath) -> impl Iterator<Item = EntryPath> {
    std::iter::successors(path.parent(), EntryPath::parent)
}

impl PageSource for Reader<'_> {
    fn page(&self, id: &ChunkId) -> Result<Arc<Vec<u8>>> {
        self.with_chunk(PackKind::Meta, id, |bytes| Ok(Arc::new(bytes.to_vec())))
    }
}

/// Says that a blob is no longer being opened, also when opening it panics: others wait for it.
struct Loading<'a, 'r> {
    reader: &'a Reader<'r>,
    key: BlobKey,
}

impl Drop for Loading<'_, '_> {
    fn drop(&mut self) {
        self.reader.cache.lock().unwrap_or_else(PoisonError::into_inner).loading.remove(&self.key);
        self.reader.loaded.notify_all();
    }
}

/// Reads and verifies a pack's directory by two ranges.
pub fn read_directory(repo: &Repository, id: PackId, kind: PackKind, size: u64) -> Result<OpenedDirectory> {
    let name = layout::pack(kind, &id);
    let bad =
        |why: &str| Error::new(ErrorKind::Damaged, "read the pack's directory", why).on(name.to_string());
    let tail = size.checked_sub(LOCATOR_BYTES as u64).ok_or_else(|| bad("the pack is too short"))?;
    if size > PACK_MAX_BYTES {
        return Err(bad("the pack is larger than one may be"));
    }
    let locator = repo.store().get_range(&name, tail, LOCATOR_BYTES as u64)?;
    let len = u64::from(parse_locator(&locator, PACK_MAGIC)?);
    let at = tail.checked_sub(len).ok_or_else(|| bad("its directory would be larger than itself"))?;
    if len > DIRECTORY_MAX_BYTES as u64 {
        return Err(bad("its directory is larger than one may be"));
    }
    let sealed = repo.store().get_range(&name, at, len)?;
    let opened = repo.with_zstd(|zstd| open_directory(zstd, &repo.meta_identities(), &sealed, at))?;
    repo.trusted().verify_writer_past_or_present(&opened.envelope, Kind::Directory, None)?;
    if opened.directory.kind != kind {
        return Err(bad("its directory says that it is the other kind of pack"));
    }
    Ok(opened)
}

/// Told of restored items and bytes.
pub type OnProgress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// One source of one point, as a source's restore sees it.
pub struct SourceReader<'a> {
    /// Reads chunks.
    pub reader: &'a Reader<'a>,
    /// What the manifest says.
    pub source: &'a PointSource,
    /// Threads a restore should use.
    pub threads: usize,
    /// Told of progress.
    pub on_progress: OnProgress<'a>,
}

/// Most bytes of sealed facts.
const FACTS_MAX_BYTES: u64 = 64 << 20;

impl CaptureReader for SourceReader<'_> {
    fn entries(&self, selection: &Selection, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        let Some(tree) = &self.source.catalogue else { return Ok(()) };
        self.reader.catalogue(tree, selection, &mut |entry| {
            if selection.takes(&entry.path) || selection.leads_through(&entry.path) {
                visit(entry)
            } else {
                Ok(())
            }
        })
    }

    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>> {
        let mut found = None;
        let selection = Selection { paths: vec![path.clone()] };
        let read = self.entries(&selection, &mut |entry| {
            if entry.path == *path {
                found = Some(entry);
            }
            Ok(())
        });
        match read {
            // What is damaged lies beside or below what was found.
            Err(error) if found.is_none() || !error.is_about_content() => Err(error),
            _ => Ok(found),
        }
    }

    fn read(&self, entry: &Entry, offset: u64, len: u64, out: &mut dyn StreamSink) -> Result<()> {
        match &entry.content {
            Some(content) => {
                if content.len() != entry.size {
                    return Err(Error::new(
                        ErrorKind::Damaged,
                        "read the entry",
                        "its recipe has another length than it says",
                    )
                    .on(entry.path.to_string()));
                }
                self.reader
                    .read_content(content, offset..offset.saturating_add(len), out)
                    .map_err(|e| if e.subject().is_none() { e.on(entry.path.to_string()) } else { e })
            }
            None => Ok(()),
        }
    }

    fn is_same(&self, entry: &Entry, content: &mut dyn std::io::Read) -> Result<bool> {
        let empty = Content::Inline(Vec::new());
        let recipe = entry.content.as_ref().unwrap_or(&empty);
        let mut same = true;
        let mut buffer = Vec::new();
        self.reader.extents(recipe, 0..u64::MAX, &mut |_, extent| {
            self.reader.cancel.check()?;
            same = same && self.extent_is_same(extent, content, &mut buffer, &entry.path)?;
            Ok(())
        })?;
        let mut more = [0];
        let failed = |e| Error::io("read what was restored", entry.path.to_string(), e);
        Ok(same && content.read(&mut more).map_err(failed)? == 0)
    }

    fn facts(&self) -> Result<Vec<u8>> {
        match &self.source.facts {
            Some(content) => self.reader.read_all(content, FACTS_MAX_BYTES),
            None => Ok(Vec::new()),
        }
    }

    fn parallelism(&self) -> usize {
        self.threads
    }

    fn progress(&self, items: u64, bytes: u64) {
        (self.on_progress)(items, bytes);
    }
}

impl SourceReader<'_> {
    /// Compares the next bytes with an extent: a whole chunk by its id, so that no stored content
    /// needs to be opened; anything else by its bytes.
    fn extent_is_same(
        &self,
        extent: &Extent,
        content: &mut dyn std::io::Read,
        buffer: &mut Vec<u8>,
        path: &EntryPath,
    ) -> Result<bool> {
        let failed = |e| Error::io("read what was restored", path.to_string(), e);
        match extent {
            Extent::Hole { len } => {
                let mut left = *len;
                buffer.resize(64 << 10, 0);
                while left > 0 {
                    let want = left.min(buffer.len() as u64) as usize;
                    let n = content.read(&mut buffer[..want]).map_err(failed)?;
                    if n == 0 || buffer[..n].iter().any(|b| *b != 0) {
                        return Ok(false);
                    }
                    left -= n as u64;
                }
                Ok(true)
            }
            Extent::Chunk { id, start, len } => {
                if *len as usize > super::limits::CHUNK_MAX_BYTES {
                    return Err(Error::new(
                        ErrorKind::Damaged,
                        "read the entry",
                        "an extent is larger than a chunk may be",
                    )
                    .on(path.to_string()));
                }
                buffer.resize(*len as usize, 0);
                match content.read_exact(buffer) {
                    Ok(()) => {}
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
                    Err(e) => return Err(failed(e)),
                }
                if *start == 0 {
                    if self.reader.repo.derived().chunk_id(PackKind::Data, buffer) == *id {
                        return Ok(true);
                    }
                    // Of a whole chunk that is the answer; nothing needs to be opened.
                    let is_whole = |_, at: &Location| at.kind == PackKind::Data && at.len == *len;
                    if self.reader.index.find(id, &is_whole)?.is_some() {
                        return Ok(false);
                    }
                }
                self.reader.with_chunk(PackKind::Data, id, |chunk| {
                    Ok(chunk.get(*start as usize..*start as usize + *len as usize) == Some(&buffer[..]))
                })
            }
        }
    }
}
