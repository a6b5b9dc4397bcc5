//! What points need: which blobs, which packs, and how much of each is dead.
//!
//! A *place* is where the index says that a chunk lies. Of several places of one chunk each writer's
//! points need one, chosen by names and marks alone, so that two pruners choose alike.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{
    ChunkId, Content, Entry, Error, ErrorKind, Extent, PackId, PartyId, Result, Time, TreeRef,
};

use super::format::Point;
use super::index::segment::Segment;
use super::index::{Index, Location};
use super::layout::PackKind;
use super::limits::TREE_LEVELS_MAX;
use super::reader::Reader;
use super::session::Condemnation;
use super::tree::{Node, Record, load};

/// A blob of which less than this share is live, in percent, is *sparse*: backups that have its
/// chunks' plaintext in hand store them anew (docs/FORMAT.md section 9.4).
pub const SPARSE_PERCENT: u64 = 30;
/// Compacting opens blobs of which less than this share is live, in percent.
const COMPACT_PERCENT: u64 = 70;

/// A pack in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackAt {
    /// What kind.
    pub kind: PackKind,
    /// Its size.
    pub size: u64,
    /// The store's time of it.
    pub stored_at: Time,
}

/// A blob's place: its pack, and its offset there.
pub type BlobAt = (PackId, u32);

/// Whom a point's writer trusts to have sealed what it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trusts {
    /// The writer.
    pub own: PartyId,
    /// Those whose entries it deduplicates against too.
    pub shared: Vec<PartyId>,
}

/// How a pack is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackUse {
    /// Which.
    pub id: PackId,
    /// What the store says of it.
    pub at: PackAt,
    /// Blobs that some point needs.
    pub blobs_live: u64,
    /// Their sealed bytes.
    pub bytes_live: u64,
    /// Blobs that no point needs.
    pub blobs_dead: u64,
    /// Their sealed bytes.
    pub bytes_dead: u64,
    /// Of the live blobs' sealed bytes, the share of chunks that no point needs.
    pub bytes_pinned: u64,
    /// Offsets of live blobs, ascending, with their sealed lengths.
    pub live: Vec<(u32, u32)>,
    /// Offsets of sparse live blobs, ascending.
    pub sparse: Vec<u32>,
    /// Offsets of live blobs that compacting would make smaller, and the live chunks in them; where the
    /// census was asked for them.
    pub compactable: Vec<u32>,
    /// The live chunks in those.
    pub compactable_chunks: Vec<ChunkId>,
}

impl PackUse {
    fn new(id: PackId, at: PackAt) -> Self {
        Self {
            id,
            at,
            blobs_live: 0,
            bytes_live: 0,
            blobs_dead: 0,
            bytes_dead: 0,
            bytes_pinned: 0,
            live: Vec::new(),
            sparse: Vec::new(),
            compactable: Vec::new(),
            compactable_chunks: Vec::new(),
        }
    }

    fn take(&mut self, blob: &Blob) {
        let sealed = u64::from(blob.sealed_len);
        if blob.live == 0 {
            self.blobs_dead += 1;
            self.bytes_dead += sealed;
            return;
        }
        self.blobs_live += 1;
        self.bytes_live += sealed;
        self.live.push((blob.offset, blob.sealed_len));
        let opened = u64::from(blob.opened_len).max(1);
        self.bytes_pinned += sealed * opened.saturating_sub(blob.live) / opened;
        if blob.live * 100 < opened * SPARSE_PERCENT {
            self.sparse.push(blob.offset);
        }
    }
}

/// One bit a row, set by several threads.
struct Bits(Vec<AtomicU64>);

impl Bits {
    fn new(len: usize) -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(len.div_ceil(64)).collect())
    }
    fn set(&self, at: usize) {
        let (word, bit) = (&self.0[at / 64], 1 << (at % 64));
        // Most chunks are met again and again, and a look costs less than a write.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }
    fn get(&self, at: usize) -> bool {
        self.0[at / 64].load(Ordering::Relaxed) >> (at % 64) & 1 == 1
    }
}

/// Counts what points need, on as many threads as call it. Rows of all segments are numbered one after the other; one bit of each
/// says whether it is needed.
pub struct Census<'a> {
    segments: Vec<Arc<Segment>>,
    /// Number of each segment's first row.
    first: Vec<usize>,
    rows: usize,
    live: Bits,
    packs: &'a HashMap<PackId, PackAt>,
    marks: &'a Condemnation,
    leaving: &'a Leaving,
    /// Trees walked already, for whom: a thousand nearly equal points cost little more than one.
    walked: Mutex<HashSet<(ChunkId, usize, TreeKind)>>,
    known_trusts: Mutex<Vec<Trusts>>,
    wants_compactable: bool,
}

impl<'a> Census<'a> {
    /// Over this index and these packs. A place in a pack that is not there does not count, one in
    /// a condemned or sparse one only where there is no better.
    pub fn new(
        index: &Index,
        packs: &'a HashMap<PackId, PackAt>,
        marks: &'a Condemnation,
        leaving: &'a Leaving,
    ) -> Result<Self> {
        let segments = index.segments();
        let mut first = Vec::with_capacity(segments.len());
        let mut rows = 0;
        for segment in &segments {
            first.push(rows);
            rows += segment.len();
        }
        if u32::try_from(rows).is_err() {
            return Err(Error::new(
                ErrorKind::Limit,
                "count what is live",
                "the index has over 4 billion rows",
            ));
        }
        Ok(Self {
            segments,
            first,
            rows,
            live: Bits::new(rows),
            packs,
            marks,
            leaving,
            walked: Mutex::default(),
            known_trusts: Mutex::default(),
            wants_compactable: false,
        })
    }

    /// Asks for what compacting would make smaller.
    #[must_use]
    pub fn with_compactable(mut self, wanted: bool) -> Self {
        self.wants_compactable = wanted;
        self
    }

    /// Marks all that a point needs. What it needs and cannot be found, or a page of its metadata that cannot be read, is
    /// an error: nothing may be condemned on half a count.
    pub fn take_point(&self, reader: &Reader<'_>, point: &Point, trusts: &Trusts) -> Result<()> {
        let whom = &Whom { number: self.number_of(trusts), trusts };
        let on = |e: Error| if e.subject().is_none() { e.on(point.id.to_string()) } else { e };
        for source in &point.sources {
            if let Some(catalogue) = &source.catalogue {
                self.tree::<Entry>(reader, catalogue, whom).map_err(on)?;
            }
            if let Some(facts) = &source.facts {
                self.content(reader, facts, whom).map_err(on)?;
            }
        }
        Ok(())
    }

    fn content(&self, reader: &Reader<'_>, content: &Content, whom: &Whom<'_>) -> Result<()> {
        match content {
            Content::Inline(extents) => extents.iter().try_for_each(|extent| self.extent(extent, whom)),
            Content::Tree(tree) => self.tree::<Extent>(reader, tree, whom),
        }
    }

    fn extent(&self, extent: &Extent, whom: &Whom<'_>) -> Result<()> {
        match extent {
            Extent::Chunk { id, .. } => self.chunk(PackKind::Data, id, whom),
            Extent::Hole { .. } => Ok(()),
        }
    }

    fn tree<R: Needs>(&self, reader: &Reader<'_>, tree: &TreeRef, whom: &Whom<'_>) -> Result<()> {
        if tree.level > TREE_LEVELS_MAX {
            return Err(Error::new(ErrorKind::Damaged, "count what is live", "a tree has too many levels"));
        }
        self.page::<R>(reader, &tree.root, tree.level, whom)
    }

    fn page<R: Needs>(&self, reader: &Reader<'_>, id: &ChunkId, level: u8, whom: &Whom<'_>) -> Result<()> {
        if !self.is_first_walk(id, whom, R::KIND) {
            return Ok(());
        }
        self.chunk(PackKind::Meta, id, whom)?;
        match load::<R>(reader, id, level)? {
            Node::Leaf(records) => records.iter().try_for_each(|record| record.needs(self, reader, whom)),
            Node::Inner(branches) => {
                branches.iter().try_for_each(|branch| self.page::<R>(reader, &branch.child, level - 1, whom))
            }
        }
    }

    /// A signature's pages. Its leaves refer to nothing.
    fn signature(&self, reader: &Reader<'_>, id: &ChunkId, level: u8, whom: &Whom<'_>) -> Result<()> {
        if !self.is_first_walk(id, whom, TreeKind::Signature) {
            return Ok(());
        }
        self.chunk(PackKind::Meta, id, whom)?;
        if level == 0 {
            return Ok(());
        }
        match load::<Extent>(reader, id, level)? {
            Node::Leaf(_) => Ok(()),
            Node::Inner(below) => {
                below.iter().try_for_each(|branch| self.signature(reader, &branch.child, level - 1, whom))
            }
        }
    }

    fn number_of(&self, trusts: &Trusts) -> usize {
        let mut known = self.known_trusts.lock().unwrap_or_else(PoisonError::into_inner);
        match known.iter().position(|known| known == trusts) {
            Some(number) => number,
            None => {
                known.push(trusts.clone());
                known.len() - 1
            }
        }
    }

    fn is_first_walk(&self, id: &ChunkId, whom: &Whom<'_>, kind: TreeKind) -> bool {
        let mut walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        walked.insert((*id, whom.number, kind))
    }

    /// Marks the place of a chunk that counts for these points.
    fn chunk(&self, kind: PackKind, id: &ChunkId, whom: &Whom<'_>) -> Result<()> {
        let trusts = whom.trusts;
        let mut best: Option<(Rank, PackId, u32)> = None;
        let mut needed = Vec::new();
        for (number, segment) in self.segments.iter().enumerate() {
            let owner = segment.owner();
            let is_own = owner == Some(trusts.own);
            let is_trusted = is_own || owner.is_some_and(|owner| trusts.shared.contains(&owner));
            segment.each_place(id, &mut |row, at| {
                if at.kind != kind || !holds(self.packs, at) {
                    return;
                }
                let place = (self.rank(is_trusted, at), at.pack, at.offset);
                needed.push((place, self.first[number] + row));
                if best.is_none_or(|best| place < best) {
                    best = Some(place);
                }
            })?;
        }
        let Some(best) = best else {
            return Err(Error::new(
                ErrorKind::Damaged,
                "count what is live",
                "a point needs a chunk of which no pack that is there is known",
            )
            .on(id.to_string())
            .hint("run `muster check` to see what it hurts; `muster repair index` finds what only the index has lost"));
        };
        for (place, row) in needed {
            // Whose word is not trusted may be wrong, so all of those are kept.
            if place == best || best.0.is_untrusted && place.0.condemned.is_none() {
                self.live.set(row);
            }
        }
        Ok(())
    }

    fn rank(&self, is_trusted: bool, at: &Location) -> Rank {
        let blob = (at.pack, at.offset);
        Rank {
            is_untrusted: !is_trusted,
            condemned: self.marks.since(&at.pack).map(std::cmp::Reverse),
            is_leaving: self.leaving.packs.contains(&at.pack) || self.leaving.blobs.contains(&blob),
            is_sparse: self.marks.sparse.contains(&blob),
        }
    }

    /// How each pack is used, by id. Packs that no index names have no blobs here.
    pub fn uses(&self) -> Result<Vec<PackUse>> {
        let mut uses: Vec<PackUse> = self.packs.iter().map(|(id, at)| PackUse::new(*id, *at)).collect();
        uses.sort_by_key(|u| u.id);
        let numbers: HashMap<PackId, u32> = uses.iter().zip(0u32..).map(|(u, n)| (u.id, n)).collect();
        let (order, starts) = self.by_pack(&numbers, uses.len())?;
        for (n, used) in uses.iter_mut().enumerate() {
            self.use_of(used, &order[starts[n]..starts[n + 1]])?;
        }
        Ok(uses)
    }

    /// Row numbers laid together by pack, four bytes each, and where each pack's begin.
    fn by_pack(&self, numbers: &HashMap<PackId, u32>, packs: usize) -> Result<(Vec<u32>, Vec<usize>)> {
        let mut starts = vec![0usize; packs + 1];
        self.each_row(numbers, &mut |_, pack| starts[pack as usize + 1] += 1)?;
        for n in 0..packs {
            starts[n + 1] += starts[n];
        }
        let mut order = vec![0u32; starts[packs]];
        let mut next = starts.clone();
        self.each_row(numbers, &mut |row, pack| {
            order[next[pack as usize]] = row;
            next[pack as usize] += 1;
        })?;
        Ok((order, starts))
    }

    fn each_row(&self, numbers: &HashMap<PackId, u32>, visit: &mut dyn FnMut(u32, u32)) -> Result<()> {
        for (segment, first) in self.segments.iter().zip(&self.first) {
            // One look for each pack of the segment, not one for each row.
            let of_segment: Vec<Option<u32>> =
                segment.packs().iter().map(|p| numbers.get(&p.id).copied()).collect();
            for row in 0..segment.len() {
                if let Some(pack) = of_segment.get(segment.pack_number(row)).copied().flatten() {
                    // Rows are fewer than 2^32 (see `new`).
                    visit((first + row) as u32, pack);
                }
            }
        }
        Ok(())
    }

    fn row(&self, number: u32) -> Result<super::index::Row> {
        let number = number as usize;
        let segment = self.first.partition_point(|first| *first <= number) - 1;
        self.segments[segment].row(number - self.first[segment])
    }

    fn use_of(&self, used: &mut PackUse, rows: &[u32]) -> Result<()> {
        let mut places = Vec::with_capacity(rows.len());
        for number in rows {
            let at = self.row(*number)?.at;
            if holds(self.packs, &at) {
                places.push((at.offset, at.start, self.live.get(*number as usize), at, *number));
            }
        }
        places.sort_unstable_by_key(|(offset, start, is_live, ..)| (*offset, *start, !is_live));
        // One blob may stand in several index objects: a chunk counts once, live if any says so.
        places.dedup_by_key(|(offset, start, ..)| (*offset, *start));
        for blob in places.chunk_by(|a, b| a.0 == b.0) {
            let (offset, _, _, at, _) = blob[0];
            let live_rows = || blob.iter().filter(|(_, _, is_live, ..)| *is_live);
            let live = live_rows().map(|(.., at, _)| u64::from(at.len)).sum();
            used.take(&Blob { offset, sealed_len: at.sealed_len, opened_len: at.opened_len, live });
            if self.wants_compactable && live > 0 && live * 100 < u64::from(at.opened_len) * COMPACT_PERCENT {
                used.compactable.push(offset);
                for (.., number) in live_rows() {
                    used.compactable_chunks.push(self.row(*number)?.id);
                }
            }
        }
        Ok(())
    }

    /// Rows in the index.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// Whose points are counted, with the number that stands for them in `walked`.
struct Whom<'t> {
    number: usize,
    trusts: &'t Trusts,
}

struct Blob {
    offset: u32,
    sealed_len: u32,
    opened_len: u32,
    /// Bytes of live chunks in it.
    live: u64,
}

/// Which of two places counts: the lesser. Marks come before names. Among condemned ones the one
/// condemned last counts: what was condemned long ago may be deleted at this very moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_untrusted: bool,
    condemned: Option<std::cmp::Reverse<Time>>,
    is_leaving: bool,
    is_sparse: bool,
}

/// What this host has just stored anew elsewhere: other places count before these.
#[derive(Clone, Debug, Default)]
pub struct Leaving {
    /// Whole packs.
    pub packs: HashSet<PackId>,
    /// Single blobs.
    pub blobs: HashSet<BlobAt>,
}

/// Whether a place lies in a pack that is there.
fn holds(packs: &HashMap<PackId, PackAt>, at: &Location) -> bool {
    packs.get(&at.pack).is_some_and(|pack| {
        pack.kind == at.kind && u64::from(at.offset) + u64::from(at.sealed_len) <= pack.size
    })
}

/// What a tree lists.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum TreeKind {
    Catalogue,
    Recipe,
    Signature,
}

/// What a record of a tree refers to.
trait Needs: Record {
    const KIND: TreeKind;
    fn needs(&self, census: &Census<'_>, reader: &Reader<'_>, whom: &Whom<'_>) -> Result<()>;
}

impl Needs for Extent {
    const KIND: TreeKind = TreeKind::Recipe;

    fn needs(&self, census: &Census<'_>, _: &Reader<'_>, whom: &Whom<'_>) -> Result<()> {
        census.extent(self, whom)
    }
}

impl Needs for Entry {
    const KIND: TreeKind = TreeKind::Catalogue;

    fn needs(&self, census: &Census<'_>, reader: &Reader<'_>, whom: &Whom<'_>) -> Result<()> {
        if let Some(content) = &self.content {
            census.content(reader, content, whom)?;
        }
        match &self.signature {
            Some(signature) => census.signature(reader, &signature.root, signature.level, whom),
            None => Ok(()),
        }
    }
}
