//! Reads packs whole and proves every byte that the keys at hand can prove.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::{Error, ErrorKind, PackId, Result};
use crate::ports::Cancel;
use crate::repo::format::BlobRecord;
use crate::repo::index::{Index, Row};
use crate::repo::layout::{self, PackKind};
use crate::repo::limits::{BLOB_OPENED_MAX_BYTES, LOCATOR_BYTES, PACK_MAX_BYTES};
use crate::repo::pack::{OpenedDirectory, PACK_MAGIC, open_directory, parse_locator};
use crate::repo::pipeline::budget::Budget;
use crate::repo::pipeline::pack_rows;
use crate::repo::repository::{Repository, random};
use crate::repo::seal::{self, Zstd};
use crate::repo::sign::Kind;
use crate::report::human::counted;

use super::damage::Damage;
use super::structure::wrong_epoch;
use super::{CheckRequest, DataSelection, Findings, finding, reason};

/// What an index row takes in memory, about.
const ROW_MEMORY_BYTES: u64 = 128;
/// After so many rows it is looked whether somebody asks to stop.
const ROWS_BETWEEN_LOOKS: usize = 1 << 16;

/// How much was read.
#[derive(Default)]
pub(super) struct DataRead {
    /// Packs read.
    pub(super) packs: u64,
    /// Packs there are.
    pub(super) packs_there: u64,
    /// Blobs whose content no key at hand opens.
    pub(super) unproven: u64,
}

/// A pack to be read.
struct Wanted {
    id: PackId,
    kind: PackKind,
    size: u64,
    /// What the index says of it.
    rows: Vec<Row>,
}

/// What reading one pack showed.
#[derive(Default)]
struct PackVerdict {
    notes: Vec<String>,
    bad_blobs: Vec<u32>,
    unproven: u64,
    bytes: u64,
    /// It is not there any more.
    is_gone: bool,
}

/// Reads the selected packs. Damage goes into `damage`.
pub(super) fn read(
    repo: &Repository,
    index: &Index,
    damage: &mut Damage,
    found: &mut Findings,
    request: &CheckRequest<'_>,
) -> Result<DataRead> {
    let mut total = DataRead { packs_there: damage.sizes.len() as u64, ..DataRead::default() };
    let chosen = choose(damage, request)?;
    if chosen.is_empty() {
        return Ok(total);
    }
    let bytes = chosen.iter().map(|w| w.size).sum();
    request.progress.stage("read packs", Some(chosen.len() as u64), Some(bytes));
    for mut batch in batches(index, chosen, request)? {
        fill_rows(index, &mut batch, request.cancel)?;
        for (wanted, verdict) in read_batch(repo, index, request, batch)? {
            if verdict.is_gone && damage.given_up.contains(&wanted.id) {
                // A pruner deleted it after it was listed.
                damage.sizes.remove(&wanted.id);
                damage.gone.insert(wanted.id, wanted.kind);
                continue;
            }
            total.packs += 1;
            total.unproven += verdict.unproven;
            found.read(verdict.bytes);
            verdict.notes.into_iter().for_each(|note| damage.note(wanted.id, wanted.kind, note));
            verdict.bad_blobs.into_iter().for_each(|offset| damage.bad_blob(wanted.id, offset));
        }
    }
    Ok(total)
}

fn choose(damage: &Damage, request: &CheckRequest<'_>) -> Result<Vec<Wanted>> {
    let all = damage.sizes.iter().map(|(id, (kind, size))| Wanted {
        id: *id,
        kind: *kind,
        size: *size,
        rows: Vec::new(),
    });
    let mut packs: Vec<Wanted> = all.collect();
    packs.sort_by_key(|w| w.id);
    match request.data {
        DataSelection::None => packs.clear(),
        DataSelection::All => {}
        DataSelection::Part { part, of } => {
            let of = u64::from(of.max(1));
            packs.retain(|w| leading(&w.id.0) % of + 1 == u64::from(part));
        }
        DataSelection::BasisPoints(points) => {
            let seed: [u8; 32] = random(request.entropy)?;
            tracing::debug!(seed = crate::model::id::to_hex(&seed), "packs are chosen at random");
            let wanted = (packs.len() as u64 * u64::from(points.min(10_000))).div_ceil(10_000);
            packs.sort_by_key(|w| *blake3::keyed_hash(&seed, &w.id.0).as_bytes());
            packs.truncate(wanted as usize);
        }
    }
    Ok(packs)
}

fn leading(bytes: &[u8; 32]) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(eight)
}

/// Packs in batches whose index rows fit into memory together.
fn batches(index: &Index, packs: Vec<Wanted>, request: &CheckRequest<'_>) -> Result<Vec<Vec<Wanted>>> {
    let mut rows: HashMap<PackId, u64> = packs.iter().map(|w| (w.id, 0)).collect();
    each_row(index, request.cancel, &mut |row| {
        if let Some(n) = rows.get_mut(&row.at.pack) {
            *n += 1;
        }
    })?;
    let rows_max = (request.memory_bytes / 4 / ROW_MEMORY_BYTES).max(1);
    let (mut batches, mut batch, mut held) = (Vec::new(), Vec::new(), 0);
    for pack in packs {
        let n = rows.get(&pack.id).copied().unwrap_or(0);
        if held + n > rows_max && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            held = 0;
        }
        held += n;
        batch.push(pack);
    }
    batches.push(batch);
    Ok(batches)
}

fn each_row(index: &Index, cancel: &Cancel, visit: &mut dyn FnMut(Row)) -> Result<()> {
    for segment in index.segments() {
        for i in 0..segment.len() {
            if i % ROWS_BETWEEN_LOOKS == 0 {
                cancel.check()?;
            }
            visit(segment.row(i)?);
        }
    }
    Ok(())
}

fn fill_rows(index: &Index, batch: &mut [Wanted], cancel: &Cancel) -> Result<()> {
    let mut numbers = HashMap::new();
    for (number, pack) in batch.iter().enumerate() {
        numbers.insert(pack.id, number);
    }
    each_row(index, cancel, &mut |row| {
        if let Some(pack) = numbers.get(&row.at.pack).and_then(|number| batch.get_mut(*number)) {
            pack.rows.push(row);
        }
    })
}

/// Reads a batch on many threads, within a budget of bytes.
fn read_batch(
    repo: &Repository,
    index: &Index,
    request: &CheckRequest<'_>,
    batch: Vec<Wanted>,
) -> Result<Vec<(Wanted, PackVerdict)>> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let verdicts = Mutex::new(Vec::new());
    let budget = Budget::new(request.memory_bytes / 2);
    let work = || -> Result<()> {
        let mut zstd = repo.new_zstd()?;
        while let Some(number) = claim(&next, batch.len()) {
            request.cancel.check()?;
            let wanted = &batch[number];
            let permit = budget.take(wanted.size.min(PACK_MAX_BYTES))?;
            let verdict = Proof {
                repo,
                index,
                zstd: &mut zstd,
                wanted,
                cancel: request.cancel,
                verdict: PackVerdict::default(),
            }
            .run()?;
            drop(permit);
            request.progress.add(1, wanted.size);
            verdicts.lock().unwrap_or_else(PoisonError::into_inner).push((number, verdict));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..request.threads.max(1).min(batch.len()) {
            scope.spawn(|| {
                if let Err(error) = work() {
                    // The first failure is the one that counts; it wakes and stops the others.
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    next.store(batch.len(), Ordering::Relaxed);
                    budget.close();
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
    verdicts.sort_by_key(|(number, _)| *number);
    Ok(batch.into_iter().zip(verdicts.into_iter().map(|(_, verdict)| verdict)).collect())
}

fn claim(next: &AtomicUsize, len: usize) -> Option<usize> {
    next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < len).then_some(n + 1)).ok()
}

/// The proof of one pack.
struct Proof<'a> {
    repo: &'a Repository,
    index: &'a Index,
    zstd: &'a mut Zstd,
    wanted: &'a Wanted,
    cancel: &'a Cancel,
    verdict: PackVerdict,
}

impl Proof<'_> {
    fn run(mut self) -> Result<PackVerdict> {
        let name = layout::pack(self.wanted.kind, &self.wanted.id);
        match finding(self.repo.store().get(&name, PACK_MAX_BYTES))? {
            Ok(bytes) => self.pack(&bytes)?,
            Err(error) => {
                self.verdict.is_gone = error.kind() == ErrorKind::NotFound;
                self.note(format!("it cannot be read whole: {}", error.why()));
                self.salvage(&[]);
            }
        }
        Ok(self.verdict)
    }

    fn note(&mut self, what: impl Into<String>) {
        self.verdict.notes.push(what.into());
    }

    fn pack(&mut self, bytes: &[u8]) -> Result<()> {
        self.verdict.bytes = bytes.len() as u64;
        if blake3::hash(bytes).as_bytes() != self.wanted.id.as_bytes() {
            self.note("its bytes are not what its name says");
        }
        match finding(self.directory(bytes))? {
            Ok((body, opened)) => self.contents(body, &opened),
            Err(error) => {
                self.note(format!("its directory cannot be read: {}", error.why()));
                self.salvage(bytes);
                Ok(())
            }
        }
    }

    fn directory<'b>(&mut self, bytes: &'b [u8]) -> Result<(&'b [u8], OpenedDirectory)> {
        let short = || Error::new(ErrorKind::Damaged, "read the directory", "the pack is too short");
        let tail = bytes.len().checked_sub(LOCATOR_BYTES).ok_or_else(short)?;
        let len = parse_locator(&bytes[tail..], PACK_MAGIC)? as usize;
        let at = tail.checked_sub(len).ok_or_else(short)?;
        let opened = open_directory(self.zstd, &self.repo.meta_identities(), &bytes[at..tail], at as u64)?;
        Ok((&bytes[..at], opened))
    }

    /// Proves what the directory says, blob by blob.
    fn contents(&mut self, body: &[u8], opened: &OpenedDirectory) -> Result<()> {
        let trusted = self.repo.trusted();
        if let Err(error) = trusted.verify_writer_past_or_present(&opened.envelope, Kind::Directory, None) {
            self.note(format!("its directory is not trusted: {}", reason(&error)));
        }
        if opened.directory.kind != self.wanted.kind {
            self.note("its directory says that it is the other kind of pack");
        }
        if blake3::hash(body).as_bytes() != &opened.directory.body_hash.0 {
            self.note("its blobs are not what its directory says");
        }
        let mut offset = 0usize;
        for (number, record) in opened.records.iter().enumerate() {
            self.cancel.check()?;
            if let Err(error) =
                trusted.verify_writer_past_or_present(&opened.directory.blobs[number], Kind::Blob, None)
            {
                self.note(format!("the record of the blob at {offset} is not trusted: {}", reason(&error)));
            }
            // open_directory has checked that the blobs fill the body.
            let end = offset + record.sealed_len as usize;
            self.blob(offset, &body[offset..end], record);
            offset = end;
        }
        self.compare_with_index(&opened.records)
    }

    fn blob(&mut self, offset: usize, sealed: &[u8], record: &BlobRecord) {
        let wrong = if let Some(wrong) = wrong_epoch(self.repo, &record.epoch, self.wanted.kind) {
            Some(wrong)
        } else if blake3::hash(sealed).as_bytes() != record.sealed_hash.as_bytes() {
            Some("its sealed bytes are damaged".to_owned())
        } else {
            self.open(sealed, record).err()
        };
        if let Some(wrong) = wrong {
            self.note(format!("the blob at {offset}: {wrong}"));
            // A pack has at most 128 MiB.
            self.verdict.bad_blobs.push(offset as u32);
        }
    }

    /// Opens a blob where a key is at hand and compares the id of every chunk.
    fn open(&mut self, sealed: &[u8], record: &BlobRecord) -> std::result::Result<(), String> {
        let epoch = self.repo.epoch(&record.epoch).map_err(|e| e.why().to_owned())?;
        let Some(identity) = &epoch.identity else {
            self.verdict.unproven += 1;
            return Ok(());
        };
        let limit = (record.opened_len as usize).min(BLOB_OPENED_MAX_BYTES);
        let opened = seal::open(self.zstd, identity, sealed, limit)
            .map_err(|e| format!("it cannot be opened: {}", e.why()))?;
        let mut rest = &opened[..];
        for chunk in &record.chunks {
            let (bytes, after) =
                rest.split_at_checked(chunk.len as usize).ok_or("it is shorter than its record says")?;
            if self.repo.derived().chunk_id(self.wanted.kind, bytes) != chunk.id {
                return Err(format!("chunk {} in it is not what its id says", chunk.id));
            }
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err("it is longer than its record says".to_owned()) }
    }

    /// Every row of the index must be one that the directory gives, and every chunk be known.
    fn compare_with_index(&mut self, records: &[BlobRecord]) -> Result<()> {
        let given = pack_rows(self.wanted.id, self.wanted.kind, records);
        let known: HashMap<_, _> =
            given.iter().map(|row| ((row.id, row.at.offset, row.at.start), row)).collect();
        let is_given = |row: &&Row| known.get(&(row.id, row.at.offset, row.at.start)) != Some(row);
        let wrong: Vec<&Row> = self.wanted.rows.iter().filter(is_given).collect();
        for row in &wrong {
            self.verdict.bad_blobs.push(row.at.offset);
        }
        if let Some(first) = wrong.first() {
            let n = counted(wrong.len() as u64, "chunk");
            self.note(format!("the index has {n} at places where its directory has others (first {}): run `muster repair index`", first.id));
        }
        let mut unknown = 0;
        // A pack that the index does not know at all is told of elsewhere.
        for row in given.iter().filter(|_| !self.wanted.rows.is_empty()) {
            unknown += u64::from(self.index.find(&row.id, &|_, _| true)?.is_none());
        }
        if unknown > 0 {
            self.note(format!(
                "the index does not know {} of it: run `muster repair index`",
                counted(unknown, "chunk")
            ));
        }
        Ok(())
    }

    /// Without a directory, what the index says is all there is: a blob that opens and whose chunks
    /// have their ids is whole; any other is taken for bad.
    fn salvage(&mut self, bytes: &[u8]) {
        let mut blobs: HashMap<u32, Vec<Row>> = HashMap::new();
        for row in &self.wanted.rows {
            blobs.entry(row.at.offset).or_default().push(*row);
        }
        let mut unproven = 0;
        for (offset, rows) in blobs {
            if !self.is_salvaged(bytes, &rows) {
                self.verdict.bad_blobs.push(offset);
                unproven += 1;
            }
        }
        if unproven > 0 {
            self.note(format!("{} of it could not be proven whole", counted(unproven, "blob")));
        }
    }

    fn is_salvaged(&mut self, bytes: &[u8], rows: &[Row]) -> bool {
        let Some(at) = rows.first().map(|row| row.at) else { return true };
        let (from, to) = (at.offset as usize, at.offset as usize + at.sealed_len as usize);
        let Some(sealed) = bytes.get(from..to) else { return false };
        let identity = self.repo.epochs().get(&at.epoch).and_then(|epoch| epoch.identity.as_ref());
        let Some(identity) = identity else { return false };
        let limit = (at.opened_len as usize).min(BLOB_OPENED_MAX_BYTES);
        let Ok(opened) = seal::open(self.zstd, identity, sealed, limit) else { return false };
        rows.iter().all(|row| {
            let chunk = opened.get(row.at.start as usize..row.at.start as usize + row.at.len as usize);
            chunk.is_some_and(|chunk| self.repo.derived().chunk_id(self.wanted.kind, chunk) == row.id)
        })
    }
}
