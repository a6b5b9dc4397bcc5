//! What points need: which blobs, which packs, and how much of each is dead.
//!
//! A *place* is where the index says that a chunk lies. Of several places of one chunk each writer's
//! points need one, chosen by names and marks alone, so that two pruners choose alike.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{
    ChunkId, Content, Entry, Error, ErrorKind, Extent, PackId, PartyId, Result, Time, TreeRef,
};

use super::format::Point;
use super::index::segment::{ROWS_HELD, Segment};
use super::index::{Index, Location};
use super::layout::{BlobAt, PackAt, PackKind};
use super::limits::TREE_LEVELS_MAX;
use super::reader::Reader;
use super::session::Condemnation;
use super::tree::{Node, Record, load};

/// A blob of which less than this share is live, in percent, is *sparse*: backups that have its
/// chunks' plaintext in hand store them anew (docs/FORMAT.md section 9.4).
pub const SPARSE_PERCENT: u64 = 30;
/// Compacting opens blobs of which less than this share is live, in percent.
const COMPACT_PERCENT: u64 = 70;

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

/// A chunk that is needed, for whose points.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    id: ChunkId,
    is_data: bool,
    whom: u32,
}

/// So many chunks are looked up together, in order: 15 MiB of them.
const WANTED_MAX: usize = 3 << 17;
/// So many a thread collects before it hands them over.
const WANTED_OF_WALK: usize = 1 << 14;
/// Places that are laid together by pack at once: 16 MiB of them.
const PLACES_MAX: usize = 1 << 19;
/// Single looks map some pages each; after so many these are let go.
const LOOKS_HELD: u32 = 128;

/// Counts what points need, on as many threads as call it. Rows of all segments are numbered one after the
/// other; one bit of each says whether it is needed.
///
/// Ids are spread evenly, so looking chunks up as they come would touch the whole index for every few of them.
/// They are collected, sorted and met with the segments in one pass instead, which holds little of the index at a time.
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
    walked: Mutex<HashSet<(ChunkId, u32, TreeKind)>>,
    known_trusts: Mutex<Vec<Arc<Trusts>>>,
    wanted: Mutex<Vec<Wanted>>,
    looks: AtomicU32,
    forgives_missing: AtomicBool,
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
            wanted: Mutex::default(),
            looks: AtomicU32::new(0),
            forgives_missing: AtomicBool::new(false),
            wants_compactable: false,
        })
    }

    /// Asks for what compacting would make smaller.
    #[must_use]
    pub fn with_compactable(mut self, wanted: bool) -> Self {
        self.wants_compactable = wanted;
        self
    }

    /// Collects all that a point needs; [`Self::settle`] marks the last of it. A page of its metadata that cannot be
    /// read is an error: nothing may be condemned on half a count.
    pub fn take_point(&self, reader: &Reader<'_>, point: &Point, trusts: &Trusts) -> Result<()> {
        let whom = self.number_of(trusts);
        let mut walk = Walk { census: self, reader, whom, wanted: Vec::with_capacity(WANTED_OF_WALK) };
        let on = |e: Error| if e.subject().is_none() { e.on(point.id.to_string()) } else { e };
        for source in &point.sources {
            if let Some(catalogue) = &source.catalogue {
                walk.tree::<Entry>(catalogue).map_err(on)?;
            }
            if let Some(facts) = &source.facts {
                walk.content(facts).map_err(on)?;
            }
        }
        walk.hand_over()
    }

    /// From here on chunks that are nowhere are no error: those of points that were removed may be gone rightly.
    pub fn forgive_missing(&self) {
        self.forgives_missing.store(true, Ordering::Relaxed);
    }

    /// Looks up what was collected. What a point needs and cannot be found is an error.
    pub fn settle(&self) -> Result<()> {
        let wanted = std::mem::take(&mut *lock(&self.wanted));
        self.mark(wanted)
    }

    fn number_of(&self, trusts: &Trusts) -> u32 {
        let mut known = lock(&self.known_trusts);
        let number = known.iter().position(|known| **known == *trusts).unwrap_or_else(|| {
            known.push(Arc::new(trusts.clone()));
            known.len() - 1
        });
        // There are fewer writers than that: a configuration has a bound.
        number as u32
    }

    fn is_first_walk(&self, id: &ChunkId, whom: u32, kind: TreeKind) -> bool {
        lock(&self.walked).insert((*id, whom, kind))
    }

    /// A page is about to be looked up by itself.
    fn looks(&self) {
        if self.looks.fetch_add(1, Ordering::Relaxed) % LOOKS_HELD == LOOKS_HELD - 1 {
            self.let_go();
        }
    }

    fn let_go(&self) {
        self.segments.iter().for_each(|segment| segment.let_go());
    }

    /// Marks the places of these chunks that count.
    fn mark(&self, mut wanted: Vec<Wanted>) -> Result<()> {
        wanted.sort_unstable();
        wanted.dedup();
        let trusts = lock(&self.known_trusts).clone();
        let mut cursors: Vec<Cursor<'_>> =
            self.segments.iter().map(|segment| Cursor::new(segment, wanted.len())).collect();
        let mut places = Vec::new();
        let mut passed = 0;
        for chunk in &wanted {
            let kind = if chunk.is_data { PackKind::Data } else { PackKind::Meta };
            let trusts = &trusts[chunk.whom as usize];
            places.clear();
            for (number, cursor) in cursors.iter_mut().enumerate() {
                let owner = self.segments[number].owner();
                let is_trusted =
                    owner == Some(trusts.own) || owner.is_some_and(|o| trusts.shared.contains(&o));
                let (rows, stepped) = cursor.rows_of(&chunk.id);
                passed += stepped;
                for row in rows {
                    let at = self.segments[number].row(row)?.at;
                    if at.kind == kind && holds(self.packs, &at) {
                        places.push((
                            self.rank(is_trusted, &at),
                            at.pack,
                            at.offset,
                            self.first[number] + row,
                        ));
                    }
                }
            }
            self.mark_best(&chunk.id, &places)?;
            if passed >= ROWS_HELD {
                passed = 0;
                self.let_go();
            }
        }
        Ok(())
    }

    fn mark_best(&self, id: &ChunkId, places: &[(Rank, PackId, u32, usize)]) -> Result<()> {
        let of = |place: &(Rank, PackId, u32, usize)| (place.0, place.1, place.2);
        let Some(best) = places.iter().map(of).min() else {
            if self.forgives_missing.load(Ordering::Relaxed) {
                return Ok(());
            }
            return Err(Error::new(
                ErrorKind::Damaged,
                "count what is live",
                "a point needs a chunk of which no pack that is there is known",
            )
            .on(id.to_string())
            .hint("run `muster check` to see what it hurts; `muster repair index` finds what only the index has lost"));
        };
        for place in places {
            // Whose word is not trusted may be wrong, so all of those are kept.
            if of(place) == best || best.0.is_untrusted && place.0.condemned.is_none() {
                self.live.set(place.3);
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
        let mut rows_of = vec![0usize; uses.len()];
        self.each_row(&numbers, &mut |_, pack| {
            rows_of[pack as usize] += 1;
            Ok(())
        })?;
        let mut from = 0;
        while from < uses.len() {
            // As many packs at a time as fit, and one at least.
            let mut rows = rows_of[from];
            let mut to = from + 1;
            while to < uses.len() && rows + rows_of[to] <= PLACES_MAX {
                rows += rows_of[to];
                to += 1;
            }
            self.uses_of(&mut uses[from..to], from, rows, &numbers)?;
            from = to;
        }
        Ok(uses)
    }

    /// Fills in the uses of the packs from number `from` on, which have so many rows.
    fn uses_of(
        &self,
        uses: &mut [PackUse],
        from: usize,
        rows: usize,
        numbers: &HashMap<PackId, u32>,
    ) -> Result<()> {
        let mut places = Vec::with_capacity(rows);
        let wanted = from..from + uses.len();
        self.each_row(numbers, &mut |row, pack| {
            if wanted.contains(&(pack as usize)) {
                let at = self.row(row)?.at;
                if holds(self.packs, &at) {
                    places.push(Place::new(pack, row, &at, self.live.get(row as usize)));
                }
            }
            Ok(())
        })?;
        places.sort_unstable_by_key(|p| (p.pack, p.offset, p.start, !p.is_live));
        // One blob may stand in several index objects: a chunk counts once, live if any says so.
        places.dedup_by_key(|p| (p.pack, p.offset, p.start));
        for blob in places.chunk_by(|a, b| (a.pack, a.offset) == (b.pack, b.offset)) {
            self.use_of(&mut uses[blob[0].pack as usize - from], blob)?;
        }
        Ok(())
    }

    /// Number and pack's number of each row that names one of these packs.
    fn each_row(
        &self,
        numbers: &HashMap<PackId, u32>,
        visit: &mut dyn FnMut(u32, u32) -> Result<()>,
    ) -> Result<()> {
        for (segment, first) in self.segments.iter().zip(&self.first) {
            // One look for each pack of the segment, not one for each row.
            let of_segment: Vec<Option<u32>> =
                segment.packs().iter().map(|p| numbers.get(&p.id).copied()).collect();
            for row in 0..segment.len() {
                if let Some(pack) = of_segment.get(segment.pack_number(row)).copied().flatten() {
                    // Rows are fewer than 2^32 (see `new`).
                    visit((first + row) as u32, pack)?;
                }
                if row % ROWS_HELD == ROWS_HELD - 1 {
                    segment.let_go();
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

    fn use_of(&self, used: &mut PackUse, blob: &[Place]) -> Result<()> {
        let Place { offset, sealed_len, opened_len, .. } = blob[0];
        let live_rows = || blob.iter().filter(|place| place.is_live);
        let live = live_rows().map(|place| u64::from(place.len)).sum();
        used.take(&Blob { offset, sealed_len, opened_len, live });
        if self.wants_compactable && live > 0 && live * 100 < u64::from(opened_len) * COMPACT_PERCENT {
            used.compactable.push(offset);
            for place in live_rows() {
                used.compactable_chunks.push(self.row(place.row)?.id);
            }
        }
        Ok(())
    }

    /// Rows in the index.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one thread sees of one point.
struct Walk<'c, 'a, 'r> {
    census: &'c Census<'a>,
    reader: &'c Reader<'r>,
    /// Stands for whom its writer trusts.
    whom: u32,
    wanted: Vec<Wanted>,
}

impl Walk<'_, '_, '_> {
    fn content(&mut self, content: &Content) -> Result<()> {
        match content {
            Content::Inline(extents) => extents.iter().try_for_each(|extent| self.extent(extent)),
            Content::Tree(tree) => self.tree::<Extent>(tree),
        }
    }

    fn extent(&mut self, extent: &Extent) -> Result<()> {
        match extent {
            Extent::Chunk { id, .. } => self.chunk(PackKind::Data, id),
            Extent::Hole { .. } => Ok(()),
        }
    }

    fn tree<R: Needs>(&mut self, tree: &TreeRef) -> Result<()> {
        if tree.level > TREE_LEVELS_MAX {
            return Err(Error::new(ErrorKind::Damaged, "count what is live", "a tree has too many levels"));
        }
        self.page::<R>(&tree.root, tree.level)
    }

    fn page<R: Needs>(&mut self, id: &ChunkId, level: u8) -> Result<()> {
        if !self.census.is_first_walk(id, self.whom, R::KIND) {
            return Ok(());
        }
        self.chunk(PackKind::Meta, id)?;
        self.census.looks();
        match load::<R>(self.reader, id, level)? {
            Node::Leaf(records) => records.iter().try_for_each(|record| record.needs(self)),
            Node::Inner(branches) => {
                branches.iter().try_for_each(|branch| self.page::<R>(&branch.child, level - 1))
            }
        }
    }

    /// A signature's pages. Its leaves refer to nothing.
    fn signature(&mut self, id: &ChunkId, level: u8) -> Result<()> {
        if !self.census.is_first_walk(id, self.whom, TreeKind::Signature) {
            return Ok(());
        }
        self.chunk(PackKind::Meta, id)?;
        if level == 0 {
            return Ok(());
        }
        self.census.looks();
        match load::<Extent>(self.reader, id, level)? {
            Node::Leaf(_) => Ok(()),
            Node::Inner(below) => {
                below.iter().try_for_each(|branch| self.signature(&branch.child, level - 1))
            }
        }
    }

    fn chunk(&mut self, kind: PackKind, id: &ChunkId) -> Result<()> {
        self.wanted.push(Wanted { id: *id, is_data: kind == PackKind::Data, whom: self.whom });
        if self.wanted.len() >= WANTED_OF_WALK { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<()> {
        let full = {
            let mut all = lock(&self.census.wanted);
            // At once, for growing would double it.
            let room = (WANTED_MAX + WANTED_OF_WALK).saturating_sub(all.len());
            all.reserve_exact(room);
            all.append(&mut self.wanted);
            if all.len() < WANTED_MAX {
                return Ok(());
            }
            std::mem::take(&mut *all)
        };
        self.census.mark(full)
    }
}

/// Finds rows of ascending chunks: step by step where many are wanted, and else one by one.
struct Cursor<'s> {
    segment: &'s Segment,
    at: usize,
    steps: bool,
}

impl<'s> Cursor<'s> {
    fn new(segment: &'s Segment, wanted: usize) -> Self {
        Self { segment, at: 0, steps: wanted > segment.len() / 64 }
    }

    /// The rows of a chunk, and how many were passed on the way.
    fn rows_of(&mut self, id: &ChunkId) -> (Range<usize>, usize) {
        if !self.steps {
            return (self.segment.rows_of(id), 16);
        }
        let from = self.at;
        while self.at < self.segment.len() && self.segment.id_at(self.at) < id.as_bytes() {
            self.at += 1;
        }
        let rest = self.at..self.segment.len();
        let same = rest.take_while(|row| self.segment.id_at(*row) == id.as_bytes()).count();
        (self.at..self.at + same, self.at - from)
    }
}

/// A row's place in its pack.
struct Place {
    pack: u32,
    offset: u32,
    start: u32,
    len: u32,
    sealed_len: u32,
    opened_len: u32,
    row: u32,
    is_live: bool,
}

impl Place {
    fn new(pack: u32, row: u32, at: &Location, is_live: bool) -> Self {
        Self {
            pack,
            offset: at.offset,
            start: at.start,
            len: at.len,
            sealed_len: at.sealed_len,
            opened_len: at.opened_len,
            row,
            is_live,
        }
    }
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
    fn needs(&self, walk: &mut Walk<'_, '_, '_>) -> Result<()>;
}

impl Needs for Extent {
    const KIND: TreeKind = TreeKind::Recipe;

    fn needs(&self, walk: &mut Walk<'_, '_, '_>) -> Result<()> {
        walk.extent(self)
    }
}

impl Needs for Entry {
    const KIND: TreeKind = TreeKind::Catalogue;

    fn needs(&self, walk: &mut Walk<'_, '_, '_>) -> Result<()> {
        if let Some(content) = &self.content {
            walk.content(content)?;
        }
        match &self.signature {
            Some(signature) => walk.signature(&signature.root, signature.level),
            None => Ok(()),
        }
    }
}
