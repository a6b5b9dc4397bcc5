//! What happens to new chunks after they were cut: seal, pack, upload, index.

use std::collections::HashMap;

use crossbeam_channel::{Receiver, Sender};

use crate::model::{ChunkId, Error, ErrorKind, PackId, Result};
use crate::repo::format::BlobChunk;
use crate::repo::index::{Location, Row, SignAndSeal, build_object};
use crate::repo::layout::{self, PackKind};
use crate::repo::pack::{BuiltPack, PackBuilder, SealedBlob};
use crate::repo::seal::{self, Zstd};

use super::budget::{Permit, stopped};
use super::{Counters, SealJob, Shared};

/// An index object is written at the latest after this many packs or rows, so that little is
/// sent again after an interruption, and little is held in memory.
const INDEX_EVERY_PACKS: usize = 8;
const INDEX_EVERY_ROWS: usize = 50_000;

/// A sealed blob and the memory it holds.
pub(super) struct Sealed {
    kind: PackKind,
    blob: SealedBlob,
    permit: Permit,
}

/// A closed pack and the memory it holds.
pub(super) struct Ready {
    pack: BuiltPack,
    permits: Vec<Permit>,
}

/// A stored pack's rows.
pub(super) struct Stored {
    pack: PackId,
    size: u64,
    rows: Vec<Row>,
}

/// What a sealer uses again for each blob: fresh memory costs the kernel's clearing of it.
struct Workbench {
    zstd: Zstd,
    frame: Vec<u8>,
    opened: Vec<u8>,
}

pub(super) fn sealer(shared: &Shared<'_>, jobs: &Receiver<SealJob>, out: &Sender<Sealed>) -> Result<()> {
    let mut bench = Workbench { zstd: shared.repo.new_zstd()?, frame: Vec::new(), opened: Vec::new() };
    for job in jobs {
        shared.go_on()?;
        let Some(sealed) = seal_job(shared, &mut bench, job)? else { continue };
        out.send(sealed).map_err(|_| stopped())?;
    }
    Ok(())
}

fn seal_job(shared: &Shared<'_>, bench: &mut Workbench, job: SealJob) -> Result<Option<Sealed>> {
    let SealJob { kind, chunks, plain, mut permit } = job;
    Counters::add(&shared.counters.chunks_new, chunks.len() as u64);
    Counters::add(&shared.counters.bytes_new, plain.len() as u64);
    if shared.options.dry_run {
        return Ok(None);
    }
    bench.zstd.compress_into(&plain, &mut bench.frame)?;
    verify(shared, bench, kind, &chunks, plain.len())?;
    drop(plain);
    let (epoch, recipient) = match kind {
        PackKind::Data => &shared.data_epoch,
        PackKind::Meta => &shared.meta_epoch,
    };
    let bytes = seal::encrypt(recipient, &bench.frame)?;
    permit.shrink_to(bytes.len() as u64);
    let chunks = chunks.into_iter().map(|(id, len)| BlobChunk { id, len }).collect();
    let key = &shared.repo.writer()?.sign;
    let blob = SealedBlob::new(bytes, *epoch, chunks, key, shared.repo.id())?;
    Ok(Some(Sealed { kind, blob, permit }))
}

/// What was compressed is opened again and every chunk's id compared, before anything is sealed:
/// broken memory or a broken compressor must not make a backup that cannot be restored.
fn verify(
    shared: &Shared<'_>,
    bench: &mut Workbench,
    kind: PackKind,
    chunks: &[(ChunkId, u32)],
    len: usize,
) -> Result<()> {
    let wrong = |why: &str| {
        Error::new(ErrorKind::Internal, "verify a blob before sealing", why).hint(
            "this machine's memory or processor may be faulty: test it before you trust it with backups",
        )
    };
    let Workbench { zstd, frame, opened } = bench;
    zstd.decompress_into(frame, len, opened).map_err(|e| wrong(e.why()))?;
    let mut rest = &opened[..];
    for (id, len) in chunks {
        let (chunk, after) =
            rest.split_at_checked(*len as usize).ok_or_else(|| wrong("it is shorter than what went in"))?;
        if shared.repo.derived().chunk_id(kind, chunk) != *id {
            return Err(wrong("a chunk is not what went in"));
        }
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(wrong("it is longer than what went in")) }
}

pub(super) fn packer(shared: &Shared<'_>, blobs: &Receiver<Sealed>, out: &Sender<Ready>) -> Result<()> {
    let mut zstd = shared.repo.new_zstd()?;
    let target = shared.options.pack_target_bytes();
    let mut open: HashMap<PackKind, (PackBuilder, Vec<Permit>)> = HashMap::new();
    for Sealed { kind, blob, permit } in blobs {
        shared.go_on()?;
        let (builder, permits) = open.entry(kind).or_insert_with(|| (PackBuilder::new(kind), Vec::new()));
        builder.push(blob);
        permits.push(permit);
        let is_full = builder.len() >= target || builder.is_full();
        if is_full && let Some(full) = open.remove(&kind) {
            close(shared, &mut zstd, full, out)?;
        }
    }
    shared.go_on()?;
    for (_, rest) in open {
        close(shared, &mut zstd, rest, out)?;
    }
    Ok(())
}

fn close(
    shared: &Shared<'_>,
    zstd: &mut Zstd,
    (builder, permits): (PackBuilder, Vec<Permit>),
    out: &Sender<Ready>,
) -> Result<()> {
    let key = &shared.repo.writer()?.sign;
    let pack = builder.finish(zstd, &shared.meta_epoch.1, key, shared.repo.id())?;
    out.send(Ready { pack, permits }).map_err(|_| stopped())
}

pub(super) fn uploader(shared: &Shared<'_>, packs: &Receiver<Ready>, out: &Sender<Stored>) -> Result<()> {
    for Ready { pack, permits } in packs {
        shared.go_on()?;
        let parts: Vec<&[u8]> = pack.parts.iter().map(Vec::as_slice).collect();
        // An object of this name has these bytes: the name is their hash.
        shared.repo.store().put(&layout::pack(pack.kind, &pack.id), &parts)?;
        drop(parts);
        Counters::add(&shared.counters.bytes_stored, pack.size);
        Counters::add(&shared.counters.packs, 1);
        shared.arrived(pack.id, pack.kind, pack.size);
        let rows = rows_of(&pack);
        drop((pack.parts, permits));
        out.send(Stored { pack: pack.id, size: pack.size, rows }).map_err(|_| stopped())?;
    }
    Ok(())
}

/// The index rows of a pack's blobs.
fn rows_of(pack: &BuiltPack) -> Vec<Row> {
    pack_rows(pack.id, pack.kind, &pack.records)
}

/// The index rows of a pack's directory.
pub fn pack_rows(pack: PackId, kind: PackKind, records: &[crate::repo::format::BlobRecord]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut offset = 0u32;
    for record in records {
        let mut start = 0;
        for chunk in &record.chunks {
            let at = Location {
                pack,
                kind,
                epoch: record.epoch,
                offset,
                sealed_len: record.sealed_len,
                opened_len: record.opened_len,
                start,
                len: chunk.len,
            };
            rows.push(Row { id: chunk.id, at });
            start += chunk.len;
        }
        // A pack has at most 128 MiB.
        offset += record.sealed_len;
    }
    rows
}

pub(super) fn indexer(shared: &Shared<'_>, stored: &Receiver<Stored>) -> Result<()> {
    let mut rows = Vec::new();
    let mut sizes = HashMap::new();
    for Stored { pack, size, rows: more } in stored {
        rows.extend(more);
        sizes.insert(pack, size);
        if sizes.len() >= INDEX_EVERY_PACKS || rows.len() >= INDEX_EVERY_ROWS {
            write_index(shared, &mut rows, &mut sizes)?;
        }
    }
    // What was stored is indexed even when the backup has failed: it is found again next time.
    write_index(shared, &mut rows, &mut sizes)
}

fn write_index(shared: &Shared<'_>, rows: &mut Vec<Row>, sizes: &mut HashMap<PackId, u64>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_unstable_by_key(Row::key);
    let key = &shared.repo.writer()?.sign;
    let size = |id: &PackId| sizes.get(id).copied().unwrap_or(0);
    let object = shared.repo.with_zstd(|zstd| {
        build_object(
            rows.iter().map(|r| Ok(*r)),
            Vec::new(),
            shared.own,
            &size,
            zstd,
            &SignAndSeal { meta: &shared.meta_epoch.1, key, repository: shared.repo.id() },
        )
    })?;
    let hash = shared.repo.put_index(&object)?;
    Counters::add(&shared.counters.bytes_stored, object.len() as u64);
    Counters::add(&shared.counters.index_objects, 1);
    shared.index.add(shared.own, hash, rows, &size)?;
    shared.release_claims(rows.iter().map(|r| r.id));
    rows.clear();
    sizes.clear();
    Ok(())
}
