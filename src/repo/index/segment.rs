//! One sorted, memory-mapped file of rows in this host's cache. Not part of the
//! repository format; made anew whenever it is missing or strange.
//!
//! Layout: rows of 60 bytes ‖ tables (CBOR) ‖ u64 rows ‖ u64 length of tables ‖ magic.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};
use minicbor::{Decode, Encode};

use crate::model::{ChunkId, EpochId, Error, ErrorKind, Hash, PackId, PartyId, Result};
use crate::repo::cbor;
use crate::repo::format::IndexPack;

use super::{Location, Row};

const ROW_BYTES: usize = 60;
const MAGIC: &[u8; 8] = b"MSEGv002";
/// Whoever passes over a segment lets its pages go after so many rows, 30 MiB.
pub(in crate::repo) const ROWS_HELD: usize = 1 << 19;

#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
struct Tables {
    #[n(0)]
    signer: Option<PartyId>,
    #[n(1)]
    objects: Vec<Hash>,
    #[n(2)]
    packs: Vec<IndexPack>,
    #[n(3)]
    epochs: Vec<EpochId>,
    #[n(4)]
    owner: Option<PartyId>,
}

/// Writes a segment from ascending rows.
pub struct SegmentWriter {
    out: BufWriter<tempfile::NamedTempFile>,
    tables: Tables,
    pack_numbers: std::collections::HashMap<PackId, u32>,
    rows: u64,
    last: Option<(ChunkId, PackId, u32)>,
}

impl SegmentWriter {
    /// A new segment in `dir`, of rows that `signer` signed in `objects` and that are `owner`'s
    /// for deduplication.
    pub fn new(dir: &Path, signer: PartyId, owner: PartyId, mut objects: Vec<Hash>) -> Result<Self> {
        objects.sort();
        objects.dedup();
        let file = tempfile::Builder::new()
            .prefix("new-")
            .tempfile_in(dir)
            .map_err(|e| Error::io("write the index cache", dir.display().to_string(), e))?;
        Ok(Self {
            out: BufWriter::with_capacity(256 << 10, file),
            tables: Tables { signer: Some(signer), owner: Some(owner), objects, ..Tables::default() },
            pack_numbers: Default::default(),
            rows: 0,
            last: None,
        })
    }

    /// Adds a row; a row that was just added is passed over. A chunk may stand at several places.
    pub fn push(&mut self, row: &Row, pack_size: u64) -> Result<()> {
        if self.last.is_some_and(|last| last >= row.key()) {
            if self.last == Some(row.key()) {
                return Ok(());
            }
            return Err(Error::internal("write the index cache", "rows do not ascend"));
        }
        self.last = Some(row.key());
        let tables = &mut self.tables;
        let pack = *self.pack_numbers.entry(row.at.pack).or_insert_with(|| {
            tables.packs.push(IndexPack { id: row.at.pack, kind: row.at.kind, size: pack_size });
            tables.packs.len() as u32 - 1
        });
        let epoch = tables.epochs.iter().position(|e| *e == row.at.epoch).unwrap_or_else(|| {
            tables.epochs.push(row.at.epoch);
            tables.epochs.len() - 1
        }) as u32;
        let mut bytes = [0; ROW_BYTES];
        bytes[..32].copy_from_slice(row.id.as_bytes());
        let words =
            [pack, row.at.offset, row.at.sealed_len, row.at.opened_len, row.at.start, row.at.len, epoch];
        for (slot, word) in bytes[32..].chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        self.rows += 1;
        self.out.write_all(&bytes).map_err(|e| Error::io("write the index cache", "a segment", e))
    }

    /// Closes the segment and puts it in place.
    pub fn finish(mut self, path: &Path) -> Result<Segment> {
        let failed = |e: std::io::Error| Error::io("write the index cache", path.display().to_string(), e);
        let tables = cbor::encode(&self.tables);
        self.out.write_all(&tables).map_err(failed)?;
        self.out.write_all(&self.rows.to_le_bytes()).map_err(failed)?;
        self.out.write_all(&(tables.len() as u64).to_le_bytes()).map_err(failed)?;
        self.out.write_all(MAGIC).map_err(failed)?;
        let file = self.out.into_inner().map_err(|e| failed(e.into_error()))?;
        file.persist(path).map_err(|e| failed(e.error))?;
        Segment::open(path)
    }
}

/// A segment, mapped.
pub struct Segment {
    path: PathBuf,
    map: Mmap,
    rows: usize,
    tables: Tables,
}

impl Segment {
    /// Maps a segment.
    pub fn open(path: &Path) -> Result<Self> {
        let strange = || {
            Error::new(ErrorKind::Damaged, "read the index cache", "a segment is not whole")
                .on(path.display().to_string())
        };
        let file =
            File::open(path).map_err(|e| Error::io("read the index cache", path.display().to_string(), e))?;
        // SAFETY: the file lies in this host's private cache folder (mode 0700), was written whole
        // before it got its name, and Muster never changes or shortens such a file in place (it is
        // only ever unlinked, which leaves a mapping intact), so the mapped bytes do not change.
        let map = unsafe { Mmap::map(&file) }
            .map_err(|e| Error::io("map the index cache", path.display().to_string(), e))?;
        let tail_at = map.len().checked_sub(24).ok_or_else(strange)?;
        let number = |at: usize| map[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
        let (rows, tables_len) = (number(tail_at), number(tail_at + 8));
        let rows_len = rows.checked_mul(ROW_BYTES as u64).ok_or_else(strange)?;
        if &map[tail_at + 16..] != MAGIC || rows_len.checked_add(tables_len) != Some(tail_at as u64) {
            return Err(strange());
        }
        let tables: Tables = cbor::decode(&map[rows_len as usize..tail_at], "index cache's tables")?;
        Ok(Self { path: path.to_owned(), rows: rows as usize, tables, map })
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who signed its objects.
    pub fn signer(&self) -> Option<PartyId> {
        self.tables.signer
    }

    /// Who may deduplicate against it.
    pub fn owner(&self) -> Option<PartyId> {
        self.tables.owner
    }

    /// Index objects that it holds.
    pub fn objects(&self) -> &[Hash] {
        &self.tables.objects
    }

    /// Packs that it speaks of.
    pub fn packs(&self) -> &[IndexPack] {
        &self.tables.packs
    }

    /// Id in row `i`, which must be below `len()`.
    pub(in crate::repo) fn id_at(&self, i: usize) -> &[u8] {
        &self.map[i * ROW_BYTES..i * ROW_BYTES + 32]
    }

    /// The row `i`, which must be below `len()`.
    pub fn row(&self, i: usize) -> Result<Row> {
        let strange = || {
            Error::new(ErrorKind::Damaged, "read the index cache", "a row is strange")
                .on(self.path.display().to_string())
        };
        let bytes = &self.map[i * ROW_BYTES..(i + 1) * ROW_BYTES];
        let word = |n: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[32 + 4 * n..36 + 4 * n]);
            u32::from_le_bytes(four)
        };
        let pack = self.tables.packs.get(word(0) as usize).ok_or_else(strange)?;
        let epoch = self.tables.epochs.get(word(6) as usize).ok_or_else(strange)?;
        Ok(Row {
            id: ChunkId::from_slice(&bytes[..32]).ok_or_else(strange)?,
            at: Location {
                pack: pack.id,
                kind: pack.kind,
                epoch: *epoch,
                offset: word(1),
                sealed_len: word(2),
                opened_len: word(3),
                start: word(4),
                len: word(5),
            },
        })
    }

    /// Number, in [`Self::packs`], of the pack of row `i`, which must be below `len()`.
    pub fn pack_number(&self, i: usize) -> usize {
        let mut four = [0; 4];
        four.copy_from_slice(&self.map[i * ROW_BYTES + 32..i * ROW_BYTES + 36]);
        u32::from_le_bytes(four) as usize
    }

    /// Takes the mapped pages out of this process's memory. They come back from the file, or the system's cache
    /// of it, when they are looked at.
    pub(in crate::repo) fn let_go(&self) {
        // SAFETY: the mapping is of a file, shared and never written through, so what is read after this is
        // what was read before (see `open` for why the file does not change).
        let _ = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
    }

    /// Size of a pack by its id, where this segment knows it.
    pub fn pack_size(&self, id: &PackId) -> Option<u64> {
        self.tables.packs.iter().find(|p| p.id == *id).map(|p| p.size)
    }

    /// Where a chunk is. Ids are uniform, so the first guess is nearly right.
    /// A chunk may stand at several places: the first that `accept` takes, in order of (pack, offset).
    pub fn find(&self, id: &ChunkId, accept: &dyn Fn(&Location) -> bool) -> Result<Option<Location>> {
        for i in self.rows_of(id) {
            let at = self.row(i)?.at;
            if accept(&at) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The rows of a chunk.
    pub(in crate::repo) fn rows_of(&self, id: &ChunkId) -> std::ops::Range<usize> {
        let Some(hit) = self.position(id) else { return 0..0 };
        let same = |i: &usize| self.id_at(*i) == id.as_bytes();
        let first = (0..hit).rev().take_while(same).last().unwrap_or(hit);
        first..hit + (hit..self.rows).take_while(same).count()
    }

    /// Some row of a chunk.
    fn position(&self, id: &ChunkId) -> Option<usize> {
        let prefix = |bytes: &[u8]| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[..8]);
            u64::from_be_bytes(eight)
        };
        let wanted = prefix(id.as_bytes());
        let (mut low, mut high) = (0usize, self.rows);
        let (mut low_key, mut high_key) = (0u64, u64::MAX);
        let mut steps = 0;
        while low < high {
            steps += 1;
            // Interpolation first; bisection once the guesses stop helping.
            let middle = if steps <= 8 && high_key > low_key {
                let span = (high - low) as u128;
                let part =
                    u128::from(wanted.saturating_sub(low_key)) * span / (u128::from(high_key - low_key) + 1);
                low + (part as usize).min(high - low - 1)
            } else {
                low + (high - low) / 2
            };
            match self.id_at(middle).cmp(id.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => {
                    low = middle + 1;
                    low_key = prefix(self.id_at(middle));
                }
                std::cmp::Ordering::Greater => {
                    high = middle;
                    high_key = prefix(self.id_at(middle));
                }
            }
        }
        None
    }
}

/// Merges segments of one signer and owner into one file, streaming.
pub fn merge(
    segments: &[&Segment],
    dir: &Path,
    to: &Path,
    (signer, owner): (PartyId, PartyId),
    objects: Vec<Hash>,
) -> Result<Segment> {
    let sizes: std::collections::HashMap<PackId, u64> =
        segments.iter().flat_map(|s| s.packs()).map(|p| (p.id, p.size)).collect();
    let mut writer = SegmentWriter::new(dir, signer, owner, objects)?;
    merged_rows(segments, &mut |row| writer.push(&row, sizes.get(&row.at.pack).copied().unwrap_or(0)))?;
    writer.finish(to)
}

/// Calls `visit` for the rows of all segments in order of [`Row::key`], repeats included.
pub fn merged_rows(segments: &[&Segment], visit: &mut dyn FnMut(Row) -> Result<()>) -> Result<()> {
    use std::cmp::Reverse;
    let mut heap = std::collections::BinaryHeap::new();
    let mut rows = Vec::new();
    let mut passed = 0;
    for (number, segment) in segments.iter().enumerate() {
        rows.push(0usize);
        if !segment.is_empty() {
            heap.push(Reverse((segment.row(0)?.key(), number)));
        }
    }
    while let Some(Reverse((_, number))) = heap.pop() {
        visit(segments[number].row(rows[number])?)?;
        rows[number] += 1;
        passed += 1;
        if passed % ROWS_HELD == 0 {
            segments.iter().for_each(|segment| segment.let_go());
        }
        if rows[number] < segments[number].len() {
            heap.push(Reverse((segments[number].row(rows[number])?.key(), number)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::layout::PackKind;
    use proptest::prelude::*;

    fn row(id: [u8; 32], pack: u8) -> Row {
        let at = Location {
            pack: PackId([pack; 32]),
            kind: PackKind::Data,
            epoch: EpochId([1; 8]),
            offset: 5,
            sealed_len: 6,
            opened_len: 70,
            start: 7,
            len: 8,
        };
        Row { id: ChunkId(id), at }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_row_is_found_and_no_other(ids in proptest::collection::btree_set(any::<[u8; 32]>(), 0..400), skew: bool, absent: [u8; 32]) {
            let dir = tempfile::tempdir().unwrap();
            let ids: std::collections::BTreeSet<_> = ids.into_iter().map(|mut id| { if skew { id[..7].fill(9) } id }).collect();
            let mut writer = SegmentWriter::new(dir.path(), PartyId([1; 8]), PartyId([1; 8]), vec![]).unwrap();
            for id in &ids {
                writer.push(&row(*id, id[0] % 5), 100).unwrap();
            }
            let segment = writer.finish(&dir.path().join("s")).unwrap();
            for id in &ids {
                prop_assert_eq!(segment.find(&ChunkId(*id), &|_| true).unwrap(), Some(row(*id, id[0] % 5).at));
            }
            prop_assert_eq!(segment.find(&ChunkId(absent), &|_| true).unwrap().is_some(), ids.contains(&absent));
        }
    }

    #[test]
    fn a_merge_keeps_every_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut segments = Vec::new();
        for (n, pack) in [(0, 9u8), (1, 3), (2, 7)] {
            let mut writer =
                SegmentWriter::new(dir.path(), PartyId([1; 8]), PartyId([1; 8]), vec![]).unwrap();
            writer.push(&row([4; 32], pack), 1).unwrap();
            writer.push(&row([5 + n; 32], pack), 1).unwrap();
            segments.push(writer.finish(&dir.path().join(n.to_string())).unwrap());
        }
        let all: Vec<_> = segments.iter().collect();
        let merged =
            merge(&all, dir.path(), &dir.path().join("m"), (PartyId([1; 8]), PartyId([1; 8])), vec![])
                .unwrap();
        assert_eq!(merged.len(), 6);
        let find = |accept: &dyn Fn(&Location) -> bool| {
            merged.find(&ChunkId([4; 32]), accept).unwrap().map(|at| at.pack)
        };
        assert_eq!(find(&|_| true), Some(PackId([3; 32])));
        // Where that pack is gone, the others are still known.
        assert_eq!(find(&|at| at.pack != PackId([3; 32])), Some(PackId([7; 32])));
        assert_eq!(find(&|_| false), None);
    }

    #[test]
    fn a_truncated_segment_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::new(dir.path(), PartyId([1; 8]), PartyId([1; 8]), vec![]).unwrap();
        writer.push(&row([4; 32], 1), 1).unwrap();
        let path = dir.path().join("s");
        drop(writer.finish(&path).unwrap());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(Segment::open(&path).is_err());
        std::fs::write(&path, b"").unwrap();
        assert!(Segment::open(&path).is_err());
    }
}
