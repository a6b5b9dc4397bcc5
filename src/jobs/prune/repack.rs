//! Moving live blobs out of packs that are mostly dead. Sealed bytes and their signed records are moved as they
//! are, so no key that opens content is needed; `--compact` opens blobs and stores their live chunks anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::model::{ChunkId, Error, ErrorKind, PackId, Result};
use crate::repo::format::EpochKind;
use crate::repo::index::{Row, SignAndSeal, build_object};
use crate::repo::layout::{self, BlobAt, PackKind};
use crate::repo::limits::PACK_TARGET_BYTES;
use crate::repo::live::{Leaving, PackUse};
use crate::repo::pack::{BuiltPack, PackBuilder, SealedBlob};
use crate::repo::pipeline::{self, Counters, Options, pack_rows};
use crate::repo::reader::{Reader, read_directory};
use crate::repo::repository::Repository;
use crate::repo::sign::Kind;
use crate::report::outcome::Prune;

use super::PruneRequest;
use super::plan::{Fate, Plan, is_wasteful};
use super::view::View;

/// Packs stored at once while compacting.
const UPLOADS: usize = 2;

/// Moves what the plan says, and notes what now stands elsewhere too.
pub(super) fn repack(
    repo: &Repository,
    request: &PruneRequest<'_>,
    view: &View,
    plan: &Plan,
    outcome: &mut Prune,
    leaving: &mut Leaving,
) -> Result<()> {
    let mut moving = Move { repo, request, open: HashMap::new(), outcome };
    let packs: Vec<&PackUse> = view.of(plan, Fate::Repack).collect();
    let bytes = packs.iter().map(|used| used.bytes_live).sum();
    request.progress.stage("move live blobs", Some(packs.len() as u64), Some(bytes));
    for used in packs {
        request.cancel.check()?;
        match moving.pack(used) {
            Ok(()) => {
                leaving.packs.insert(used.id);
            }
            // One pack that is damaged stays where it is, for `check` to name.
            Err(error) if error.is_about_content() => {
                moving.outcome.damaged += 1;
                moving.outcome.warnings.push(format!("a pack is left as it is: {error}; run `muster check`"));
            }
            Err(error) => return Err(error),
        }
        request.progress.add(1, used.bytes_live);
    }
    moving.finish()
}

/// Blobs on their way to new packs.
struct Move<'a> {
    repo: &'a Repository,
    request: &'a PruneRequest<'a>,
    open: HashMap<PackKind, PackBuilder>,
    outcome: &'a mut Prune,
}

impl Move<'_> {
    /// Takes the live blobs of one pack: all of them, or none.
    fn pack(&mut self, used: &PackUse) -> Result<()> {
        let repo = self.repo;
        let name = layout::pack(used.at.kind, &used.id);
        let opened = read_directory(repo, used.id, used.at.kind, used.at.size)?;
        let live: HashSet<u32> = used.live.iter().map(|(offset, _)| *offset).collect();
        let own = repo.writer()?.sign.party();
        let mut taken = Vec::new();
        let mut offset = 0u32;
        for (record, signed) in opened.records.into_iter().zip(opened.directory.blobs) {
            let at = offset;
            offset += record.sealed_len;
            if !live.contains(&at) {
                continue;
            }
            repo.trusted().verify_writer_past_or_present(&signed, Kind::Blob, None)?;
            if signed.signer != own {
                return Err(Error::new(ErrorKind::Untrusted, "move a blob", "another host sealed it")
                    .on(name.to_string()));
            }
            let bytes = repo.store().get_range(&name, u64::from(at), u64::from(record.sealed_len))?;
            if blake3::hash(&bytes).as_bytes() != &record.sealed_hash.0 {
                return Err(Error::new(
                    ErrorKind::Damaged,
                    "move a blob",
                    format!("the bytes at {at} are not what was stored"),
                )
                .on(name.to_string())
                .hint("run `muster check --read-data` to see what it hurts"));
            }
            taken.push(SealedBlob { bytes, record, signed });
        }
        if taken.len() != live.len() {
            return Err(Error::new(
                ErrorKind::Damaged,
                "move blobs",
                "its directory does not have the blobs that the index says",
            )
            .on(name.to_string())
            .hint("run `muster repair index`"));
        }
        self.outcome.packs_repacked += 1;
        for blob in taken {
            self.outcome.bytes_moved += blob.bytes.len() as u64;
            self.push(used.at.kind, blob)?;
        }
        Ok(())
    }

    fn push(&mut self, kind: PackKind, blob: SealedBlob) -> Result<()> {
        let target = PACK_TARGET_BYTES.min(self.request.memory_bytes / 8);
        let builder = self.open.entry(kind).or_insert_with(|| PackBuilder::new(kind));
        builder.push(blob);
        if (builder.len() >= target || builder.is_full())
            && let Some(full) = self.open.remove(&kind)
        {
            self.store(full)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        for (_, rest) in std::mem::take(&mut self.open) {
            self.store(rest)?;
        }
        Ok(())
    }

    /// The pack, durable before the index object that names it.
    fn store(&mut self, builder: PackBuilder) -> Result<()> {
        let repo = self.repo;
        let key = &repo.writer()?.sign;
        let (_, meta) = repo.current_epoch(EpochKind::Meta)?;
        let pack: BuiltPack = repo.with_zstd(|zstd| builder.finish(zstd, meta, key, repo.id()))?;
        let parts: Vec<&[u8]> = pack.parts.iter().map(Vec::as_slice).collect();
        repo.store().put(&layout::pack(pack.kind, &pack.id), &parts)?;
        let mut rows = pack_rows(pack.id, pack.kind, &pack.records);
        rows.sort_unstable_by_key(Row::key);
        let object = repo.with_zstd(|zstd| {
            let by = SignAndSeal { meta, key, repository: repo.id() };
            let size = |_: &PackId| pack.size;
            build_object(rows.iter().map(|row| Ok(*row)), Vec::new(), key.party(), &size, zstd, &by)
        })?;
        repo.put_index(&object)?;
        Ok(())
    }
}

/// What compacting would store anew.
#[derive(Default)]
pub(super) struct Compactable {
    /// Blobs that are opened.
    pub blobs: HashSet<BlobAt>,
    chunks: BTreeMap<PackKind, Vec<ChunkId>>,
}

/// Blobs worth opening: in packs that will be repacked once these are dead. In a pack that stayed, the old place
/// of a chunk would count as well as its new one.
pub(super) fn compactable(request: &PruneRequest<'_>, view: &View, plan: &Plan) -> Compactable {
    let settings = &request.settings;
    let mut found = Compactable::default();
    let mut left = settings.max_repack_bytes.unwrap_or(u64::MAX);
    let stays = view.of(plan, Fate::Stay).chain(view.of(plan, Fate::Repack));
    let old = |used: &&PackUse| used.at.stored_at < view.oldest_session && view.own.contains(&used.id);
    for used in stays.filter(old).filter(|used| !used.compactable.is_empty()) {
        let opened: HashSet<u32> = used.compactable.iter().copied().collect();
        let freed: u64 =
            used.live.iter().filter(|(at, _)| opened.contains(at)).map(|(_, len)| u64::from(*len)).sum();
        let is_worth_it = is_wasteful(used.bytes_dead + freed, used.at.size, settings);
        let Some(rest) = left.checked_sub(used.bytes_live).filter(|_| is_worth_it) else { continue };
        left = rest;
        found.chunks.entry(used.at.kind).or_default().extend(&used.compactable_chunks);
        found.blobs.extend(opened.into_iter().map(|offset| (used.id, offset)));
    }
    found
}

/// Stores the live chunks of blobs with dead ones in them anew; whether there were any.
pub(super) fn compact(
    repo: &Repository,
    request: &PruneRequest<'_>,
    view: &View,
    outcome: &mut Prune,
    leaving: &mut Leaving,
) -> Result<bool> {
    let wanted = compactable(request, view, &view.plan(&request.settings));
    if wanted.blobs.is_empty() {
        return Ok(false);
    }
    let total: usize = wanted.chunks.values().map(Vec::len).sum();
    request.progress.stage("compact blobs", Some(total as u64), None);
    let counters = Arc::new(Counters::default());
    let options = Options {
        memory_bytes: request.memory_bytes,
        threads: request.threads,
        uploads: UPLOADS,
        dry_run: false,
        began: view.began,
        cancel: request.cancel.clone(),
        avoid: wanted.blobs.clone(),
    };
    let reader = Reader::new(repo, &view.index, (request.memory_bytes / 4) as usize).until(request.cancel);
    pipeline::run(repo, &view.index, options, counters.clone(), |pipeline| {
        for (kind, chunks) in &wanted.chunks {
            pipeline.store_again(*kind, &reader, chunks, &mut || {
                request.progress.add(1, 0);
                request.cancel.check()
            })?;
        }
        Ok(())
    })?;
    outcome.blobs_compacted = wanted.blobs.len() as u64;
    outcome.bytes_moved += counters.totals().bytes_stored;
    leaving.blobs.extend(wanted.blobs);
    Ok(true)
}
