//! One stream: cut, name, refer or send on; and its recipe.

use std::io::Read;

use crossbeam_channel::Sender;

use crate::model::{ChunkClass, ChunkId, Content, Extent, Result};
use crate::ports::StreamWriter;
use crate::repo::chunker::{Gear, Sizes, first_cut};
use crate::repo::layout::PackKind;
use crate::repo::limits::{GROUP_MAX_BYTES, INLINE_EXTENTS_MAX, OWN_BLOB_MIN_BYTES};
use crate::repo::reader::Reader;
use crate::repo::tree::{PageSink, TreeWriter};

use super::budget::{Permit, stopped};
use super::{Counters, SealJob, Shared};

/// Lays small chunks together in the order in which they come, and sends blobs on.
pub(super) struct Grouper<'s, 'r> {
    shared: &'s Shared<'r>,
    seal: Sender<SealJob>,
    kind: PackKind,
    chunks: Vec<(ChunkId, u32)>,
    plain: Vec<u8>,
    permit: Option<Permit>,
}

impl<'s, 'r> Grouper<'s, 'r> {
    pub(super) fn new(shared: &'s Shared<'r>, seal: Sender<SealJob>, kind: PackKind) -> Self {
        Self { shared, seal, kind, chunks: Vec::new(), plain: Vec::new(), permit: None }
    }

    /// Names a chunk and stores it unless it is known.
    pub(super) fn chunk(&mut self, bytes: &[u8]) -> Result<ChunkId> {
        let id = self.shared.repo.derived().chunk_id(self.kind, bytes);
        if self.shared.is_known_or_claim(&id)? {
            Counters::add(&self.shared.counters.chunks_known, 1);
            return Ok(id);
        }
        // A chunk has at most 4 MiB.
        let len = bytes.len() as u32;
        if bytes.len() >= OWN_BLOB_MIN_BYTES {
            let permit = self.shared.budget.take(bytes.len() as u64)?;
            self.send(vec![(id, len)], bytes.to_vec(), permit)?;
            return Ok(id);
        }
        if self.plain.len() + bytes.len() > GROUP_MAX_BYTES {
            self.flush()?;
        }
        if self.permit.is_none() {
            self.permit = Some(self.shared.budget.take(GROUP_MAX_BYTES as u64)?);
            self.plain.reserve_exact(GROUP_MAX_BYTES);
        }
        self.plain.extend_from_slice(bytes);
        self.chunks.push((id, len));
        Ok(id)
    }

    fn send(&self, chunks: Vec<(ChunkId, u32)>, plain: Vec<u8>, permit: Permit) -> Result<()> {
        self.seal.send(SealJob { kind: self.kind, chunks, plain, permit }).map_err(|_| stopped())
    }

    /// Sends what is gathered.
    pub(super) fn flush(&mut self) -> Result<()> {
        let Some(permit) = self.permit.take() else { return Ok(()) };
        let (chunks, plain) = (std::mem::take(&mut self.chunks), std::mem::take(&mut self.plain));
        self.send(chunks, plain, permit)
    }
}

/// Metadata pages go the way of all chunks.
pub(super) struct Pages<'s, 'r>(pub(super) Grouper<'s, 'r>);

impl PageSink for Pages<'_, '_> {
    fn store(&mut self, page: Vec<u8>) -> Result<ChunkId> {
        self.0.chunk(&page)
    }
    fn cuts_after(&self, material: &[u8]) -> bool {
        self.0.shared.repo.derived().cuts_after(material)
    }
}

/// A recipe being written: inline while it is short, a tree from then on.
enum Recipe {
    Short(Vec<Extent>),
    Long(Box<TreeWriter<Extent>>),
}

impl Recipe {
    fn push(&mut self, extent: Extent, pages: &mut dyn PageSink) -> Result<()> {
        match self {
            Self::Short(extents) if extents.len() < INLINE_EXTENTS_MAX => extents.push(extent),
            Self::Short(extents) => {
                let mut tree = Box::new(TreeWriter::default());
                for earlier in extents.drain(..) {
                    tree.push(earlier, pages)?;
                }
                tree.push(extent, pages)?;
                *self = Self::Long(tree);
            }
            Self::Long(tree) => tree.push(extent, pages)?,
        }
        Ok(())
    }
}

/// What one reader thread keeps between streams.
pub(super) struct Cutter<'s, 'r> {
    shared: &'s Shared<'r>,
    data: Grouper<'s, 'r>,
    pages: Pages<'s, 'r>,
    buffer: Vec<u8>,
}

impl<'s, 'r> Cutter<'s, 'r> {
    pub(super) fn new(shared: &'s Shared<'r>, seal: &Sender<SealJob>) -> Self {
        Self {
            shared,
            data: Grouper::new(shared, seal.clone(), PackKind::Data),
            pages: Pages(Grouper::new(shared, seal.clone(), PackKind::Meta)),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Begins a stream.
    pub(super) fn stream(&mut self, class: ChunkClass) -> ChunkStream<'_, 's, 'r> {
        let params = &self.shared.repo.trusted().config.chunker;
        let sizes = match class {
            ChunkClass::Bulk => params.bulk,
            ChunkClass::Fine => params.fine,
        };
        let gear = self.shared.repo.derived().gear(class);
        ChunkStream {
            cutter: self,
            gear,
            sizes,
            at: 0,
            end: 0,
            recipe: Recipe::Short(Vec::new()),
            hole: 0,
            written: 0,
            is_content: true,
        }
    }

    /// Sends on what is gathered.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.data.flush()?;
        self.pages.0.flush()
    }
}

/// A stream being cut. The buffer holds less than one largest chunk beyond `at`.
pub(super) struct ChunkStream<'c, 's, 'r> {
    cutter: &'c mut Cutter<'s, 'r>,
    gear: &'s Gear,
    sizes: Sizes,
    /// Bytes of the buffer that are cut already.
    at: usize,
    /// Where the bytes that were read end.
    end: usize,
    recipe: Recipe,
    hole: u64,
    written: u64,
    /// Whether it counts as read from a source.
    is_content: bool,
}

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;
/// One reader's buffer: a largest chunk, a read, and room so that moving the rest to the
/// front is seldom. Allocated once, since clearing it for each small file would cost more
/// than the file.
const BUFFER_BYTES: usize = 8 << 20;

impl ChunkStream<'_, '_, '_> {
    /// The rest is cut; the whole stream's recipe.
    pub(super) fn finish(mut self) -> Result<Content> {
        self.cut_rest()?;
        self.end_hole()?;
        match self.recipe {
            Recipe::Short(extents) => Ok(Content::Inline(extents)),
            Recipe::Long(tree) => Ok(Content::Tree(tree.finish(&mut self.cutter.pages)?)),
        }
    }

    fn cut_ready(&mut self) -> Result<()> {
        while self.end - self.at >= self.sizes.max as usize {
            self.cut_one()?;
        }
        Ok(())
    }

    fn cut_rest(&mut self) -> Result<()> {
        while self.at < self.end {
            self.cut_one()?;
        }
        self.at = 0;
        self.end = 0;
        Ok(())
    }

    fn cut_one(&mut self) -> Result<()> {
        let rest = &self.cutter.buffer[self.at..self.end];
        let len = first_cut(rest, self.gear, self.sizes);
        let id = self.cutter.data.chunk(&rest[..len])?;
        self.at += len;
        // A chunk has at most 4 MiB.
        self.recipe.push(Extent::Chunk { id, start: 0, len: len as u32 }, &mut self.cutter.pages)
    }

    /// At least `want` bytes after `end`, at most [`READ_BYTES`].
    fn room(&mut self, want: usize) -> &mut [u8] {
        if self.cutter.buffer.len() - self.end < want {
            self.cutter.buffer.copy_within(self.at..self.end, 0);
            self.end -= self.at;
            self.at = 0;
        }
        &mut self.cutter.buffer[self.end..self.end + want]
    }

    fn took(&mut self, n: usize) -> Result<()> {
        // A hole stands before these bytes; nothing of them was cut yet.
        self.end_hole()?;
        self.end += n;
        self.written += n as u64;
        if self.is_content {
            Counters::add(&self.cutter.shared.counters.bytes_read, n as u64);
            Counters::add(&self.cutter.shared.counters.bytes, n as u64);
        }
        self.cut_ready()
    }

    fn end_hole(&mut self) -> Result<()> {
        if self.hole > 0 {
            let len = std::mem::take(&mut self.hole);
            self.recipe.push(Extent::Hole { len }, &mut self.cutter.pages)?;
        }
        Ok(())
    }
}

impl StreamWriter for ChunkStream<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(READ_BYTES) {
            self.cutter.shared.go_on()?;
            self.room(piece.len()).copy_from_slice(piece);
            self.took(piece.len())?;
        }
        Ok(())
    }

    fn write_from(
        &mut self,
        from: &mut dyn Read,
        limit: u64,
    ) -> Result<std::result::Result<u64, std::io::Error>> {
        let mut total = 0;
        while total < limit {
            self.cutter.shared.go_on()?;
            let want = (limit - total).min(READ_BYTES as u64) as usize;
            let n = match from.read(self.room(want)) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(error)),
            };
            self.took(n)?;
            total += n as u64;
        }
        Ok(Ok(total))
    }

    fn hole(&mut self, len: u64) -> Result<()> {
        if len > 0 {
            self.cut_rest()?;
            self.hole += len;
            self.written += len;
            Counters::add(&self.cutter.shared.counters.bytes, len);
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.at = 0;
        self.end = 0;
        self.hole = 0;
        self.written = 0;
        self.recipe = Recipe::Short(Vec::new());
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }
}

/// Stores bytes of our own as data; they do not count as read.
pub(super) fn store_bytes(shared: &Shared<'_>, seal: &Sender<SealJob>, bytes: &[u8]) -> Result<Content> {
    let mut cutter = Cutter::new(shared, seal);
    let mut stream = cutter.stream(ChunkClass::Bulk);
    stream.is_content = false;
    stream.write(bytes)?;
    let content = stream.finish()?;
    cutter.finish()?;
    Ok(content)
}

/// Sends stored chunks on their way once more.
pub(super) fn store_again(
    shared: &Shared<'_>,
    seal: &Sender<SealJob>,
    kind: PackKind,
    reader: &Reader<'_>,
    chunks: &[ChunkId],
    each: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let mut grouper = Grouper::new(shared, seal.clone(), kind);
    for id in chunks {
        each()?;
        reader.with_chunk(kind, id, |bytes| grouper.chunk(bytes))?;
    }
    grouper.flush()
}
