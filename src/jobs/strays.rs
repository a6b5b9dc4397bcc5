//! Packs that an interrupted backup of this host stored, and that no index object names yet.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::model::{PackId, PartyId, Result, Time};
use crate::repo::format::EpochKind;
use crate::repo::index::{Index, Row, SignAndSeal, build_object};
use crate::repo::pack::OpenedDirectory;
use crate::repo::pipeline::pack_rows;
use crate::repo::reader::read_directory;
use crate::repo::repository::Repository;
use crate::repo::sign::Kind;

use super::check::finding;

/// Most packs that are looked at, the newest first: what one index object would have named, twice over.
const LOOKED_AT_MAX: usize = 16;

/// Names them in an index object, so that what they hold is not sent again; answers with how many. Only packs
/// of which this host's present key signed everything: no other may serve its deduplication.
///
/// To be called in a session, before the pipeline looks at what is there: a pack that is listed is durable, and
/// that it was not condemned meanwhile is checked for these as for all before the point is written.
pub(super) fn take_in(repo: &Repository, index: &Index, now: Time) -> Result<usize> {
    let own = repo.writer()?.sign.party();
    let condemned = repo.condemned(now)?;
    let segments = index.segments();
    let known: HashSet<PackId> = segments.iter().flat_map(|s| s.packs()).map(|pack| pack.id).collect();
    let mut strays: Vec<_> = repo.list_packs_at()?.into_iter().collect();
    strays.retain(|(id, _)| !known.contains(id) && !condemned.shuns(id));
    strays.sort_by_key(|(id, at)| (Reverse(at.stored_at), *id));
    let (mut rows, mut sizes) = (Vec::new(), HashMap::new());
    for (id, at) in strays.into_iter().take(LOOKED_AT_MAX) {
        // One that cannot be read is for `check` to name.
        let Ok(opened) = finding(read_directory(repo, id, at.kind, at.size))? else { continue };
        if is_all_of(repo, own, &opened) {
            rows.extend(pack_rows(id, at.kind, &opened.records));
            sizes.insert(id, at.size);
        }
    }
    if rows.is_empty() {
        return Ok(0);
    }
    rows.sort_unstable_by_key(Row::key);
    rows.dedup_by_key(|row| row.key());
    let (_, meta) = repo.current_epoch(EpochKind::Meta)?;
    let size = |id: &PackId| sizes.get(id).copied().unwrap_or(0);
    let by = SignAndSeal { meta, key: &repo.writer()?.sign, repository: repo.id() };
    let each = rows.iter().map(|row| Ok(*row));
    let object = repo.with_zstd(|zstd| build_object(each, Vec::new(), own, &size, zstd, &by))?;
    let hash = repo.put_index(&object)?;
    index.add(own, hash, &rows, &size)?;
    Ok(sizes.len())
}

fn is_all_of(repo: &Repository, own: PartyId, opened: &OpenedDirectory) -> bool {
    let trusted = repo.trusted();
    let is_own = |signed, kind| trusted.verify_writer(signed, kind, None).is_ok();
    opened.envelope.signer == own
        && is_own(&opened.envelope, Kind::Directory)
        && opened.directory.blobs.iter().all(|blob| blob.signer == own && is_own(blob, Kind::Blob))
}
