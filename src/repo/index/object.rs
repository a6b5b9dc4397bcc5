//! Index objects (docs/FORMAT.md section 7).

use std::collections::HashMap;

use age::x25519;

use crate::model::{ChunkId, EpochId, Error, ErrorKind, Hash, PackId, PartyId, RepositoryId, Result};
use crate::repo::cbor;
use crate::repo::format::{BlobPage, ChunkPage, IndexPack, IndexRoot};
use crate::repo::limits::{DIRECTORY_MAX_BYTES, INDEX_PAGE_ROWS, LOCATOR_BYTES};
use crate::repo::pack::{locator, parse_locator};
use crate::repo::seal::{self, Zstd};
use crate::repo::sign::{Envelope, Kind, SignKey};

use super::{Location, Row};

/// Owner of rows that nobody deduplicates against: they only help reading.
pub const NOBODY: PartyId = PartyId([0; 8]);
/// Ends every index object.
pub const INDEX_MAGIC: &[u8; 8] = b"MUSTINDX";
const BLOB_ROW_BYTES: usize = 20;
const CHUNK_ROW_BYTES: usize = 44;

/// Packs, epochs and blobs by number, gathered from rows.
#[derive(Default)]
pub struct Table {
    packs: Vec<IndexPack>,
    pack_numbers: HashMap<PackId, u32>,
    epochs: Vec<EpochId>,
    blobs: Vec<u8>,
    blob_numbers: HashMap<(u32, u32), u32>,
}

impl Table {
    fn blob(&mut self, at: &Location, size: u64) -> u32 {
        let packs = &mut self.packs;
        let pack = *self.pack_numbers.entry(at.pack).or_insert_with(|| {
            packs.push(IndexPack { id: at.pack, kind: at.kind, size });
            packs.len() as u32 - 1
        });
        let epoch = self.epochs.iter().position(|e| *e == at.epoch).unwrap_or_else(|| {
            self.epochs.push(at.epoch);
            self.epochs.len() - 1
        }) as u16;
        let blobs = &mut self.blobs;
        *self.blob_numbers.entry((pack, at.offset)).or_insert_with(|| {
            for word in [pack, at.offset, at.sealed_len, at.opened_len] {
                blobs.extend_from_slice(&word.to_le_bytes());
            }
            blobs.extend_from_slice(&epoch.to_le_bytes());
            // One sealer in each object that we write.
            blobs.extend_from_slice(&0u16.to_le_bytes());
            (blobs.len() / BLOB_ROW_BYTES) as u32 - 1
        })
    }
}

/// Who signs an object, and to which epoch it is sealed.
#[derive(Clone, Copy)]
pub struct SignAndSeal<'a> {
    /// The metadata epoch's recipient.
    pub meta: &'a x25519::Recipient,
    /// The writer's key.
    pub key: &'a SignKey,
    /// Which repository it is for.
    pub repository: &'a RepositoryId,
}

/// Encodes ascending `rows` of blobs that `sealer` sealed. `pack_size` tells a pack's size.
pub fn build_object(
    rows: impl Iterator<Item = Result<Row>>,
    supersedes: Vec<Hash>,
    sealer: PartyId,
    pack_size: &dyn Fn(&PackId) -> u64,
    zstd: &mut Zstd,
    by: &SignAndSeal<'_>,
) -> Result<Vec<u8>> {
    let SignAndSeal { meta, key, repository } = *by;
    let mut table = Table::default();
    let mut chunk_rows = Vec::new();
    let mut chunk_pages = Vec::new();
    let mut sealed_chunk_pages = Vec::new();
    let mut first = None;
    let mut last = None;
    let mut close = |rows: &mut Vec<u8>, first: ChunkId, zstd: &mut Zstd| -> Result<()> {
        let sealed = seal::seal(zstd, meta, rows)?;
        chunk_pages.push(ChunkPage {
            sealed_len: sealed.len() as u32,
            hash: Hash(*blake3::hash(&sealed).as_bytes()),
            rows: (rows.len() / CHUNK_ROW_BYTES) as u32,
            first,
        });
        sealed_chunk_pages.push(sealed);
        rows.clear();
        Ok(())
    };
    for row in rows {
        let row = row?;
        if last == Some(row.key()) {
            continue;
        }
        last = Some(row.key());
        let blob = table.blob(&row.at, pack_size(&row.at.pack));
        let page_first = *first.get_or_insert(row.id);
        chunk_rows.extend_from_slice(row.id.as_bytes());
        for word in [blob, row.at.start, row.at.len] {
            chunk_rows.extend_from_slice(&word.to_le_bytes());
        }
        if chunk_rows.len() >= INDEX_PAGE_ROWS * CHUNK_ROW_BYTES {
            close(&mut chunk_rows, page_first, zstd)?;
            first = None;
        }
    }
    if let Some(first) = first {
        close(&mut chunk_rows, first, zstd)?;
    }
    let mut blob_pages = Vec::new();
    let mut object = Vec::new();
    for page in table.blobs.chunks(INDEX_PAGE_ROWS * BLOB_ROW_BYTES) {
        let sealed = seal::seal(zstd, meta, page)?;
        blob_pages.push(BlobPage {
            sealed_len: sealed.len() as u32,
            hash: Hash(*blake3::hash(&sealed).as_bytes()),
            rows: (page.len() / BLOB_ROW_BYTES) as u32,
        });
        object.extend_from_slice(&sealed);
    }
    for sealed in sealed_chunk_pages {
        object.extend_from_slice(&sealed);
    }
    let root = IndexRoot {
        supersedes,
        packs: table.packs,
        epochs: table.epochs,
        sealers: vec![sealer],
        blob_pages,
        chunk_pages,
    };
    let envelope = Envelope::sign(key, repository, Kind::Index, None, cbor::encode(&root));
    let sealed_root = seal::seal(zstd, meta, &cbor::encode(&envelope))?;
    let tail = locator(sealed_root.len(), INDEX_MAGIC)?;
    object.extend_from_slice(&sealed_root);
    object.extend_from_slice(&tail);
    Ok(object)
}

/// An index object, opened; the signature is checked by the caller.
pub struct OpenedObject<'a> {
    /// The root's envelope.
    pub envelope: Envelope,
    /// What it says.
    pub root: IndexRoot,
    /// Whose rows these are for deduplication: the signer's, where all blobs are sealed by the
    /// signer; nobody's ([`NOBODY`]) otherwise.
    pub owner: PartyId,
    pages: &'a [u8],
}

/// Opens an object's root.
pub fn open_root<'a>(
    zstd: &mut Zstd,
    identities: &[&dyn age::Identity],
    object: &'a [u8],
) -> Result<OpenedObject<'a>> {
    let bad = |why: &str| Error::new(ErrorKind::Damaged, "read the index", why);
    let at = object.len().checked_sub(LOCATOR_BYTES).ok_or_else(|| bad("it is too short"))?;
    let len = parse_locator(&object[at..], INDEX_MAGIC)? as usize;
    let root_at = at.checked_sub(len).ok_or_else(|| bad("its root would be larger than itself"))?;
    let plain = zstd.decompress(&seal::decrypt(identities, &object[root_at..at])?, DIRECTORY_MAX_BYTES)?;
    let envelope: Envelope = cbor::decode(&plain, "index root's envelope")?;
    let root: IndexRoot = cbor::decode(&envelope.payload, "index root")?;
    let pages: u64 = root.blob_pages.iter().map(|p| u64::from(p.sealed_len)).sum::<u64>()
        + root.chunk_pages.iter().map(|p| u64::from(p.sealed_len)).sum::<u64>();
    if pages != root_at as u64 {
        return Err(bad("its pages do not fill it"));
    }
    let is_own = root.sealers.iter().all(|sealer| *sealer == envelope.signer);
    let owner = if is_own { envelope.signer } else { NOBODY };
    Ok(OpenedObject { envelope, root, owner, pages: &object[..root_at] })
}

impl OpenedObject<'_> {
    /// Calls `visit` for every row, ascending by chunk id.
    pub fn rows(
        &self,
        zstd: &mut Zstd,
        identities: &[&dyn age::Identity],
        visit: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<()> {
        let bad = |why: &str| Error::new(ErrorKind::Damaged, "read the index", why);
        let mut rest = self.pages;
        let mut blobs = Vec::new();
        for page in &self.root.blob_pages {
            let rows = take_page(
                &mut rest,
                page.sealed_len,
                &page.hash,
                page.rows,
                BLOB_ROW_BYTES,
                zstd,
                identities,
            )?;
            blobs.extend_from_slice(&rows);
        }
        let mut last = None;
        for page in &self.root.chunk_pages {
            let rows = take_page(
                &mut rest,
                page.sealed_len,
                &page.hash,
                page.rows,
                CHUNK_ROW_BYTES,
                zstd,
                identities,
            )?;
            for (i, bytes) in rows.chunks_exact(CHUNK_ROW_BYTES).enumerate() {
                let row = self.row(bytes, &blobs)?;
                if last.is_some_and(|last| last >= row.key()) || (i == 0 && row.id != page.first) {
                    return Err(bad("its rows do not ascend"));
                }
                last = Some(row.key());
                visit(row)?;
            }
        }
        Ok(())
    }

    fn row(&self, bytes: &[u8], blobs: &[u8]) -> Result<Row> {
        let bad = |why: &str| Error::new(ErrorKind::Damaged, "read the index", why);
        let id = ChunkId::from_slice(&bytes[..32]).ok_or_else(|| bad("a row is short"))?;
        let blob = word(bytes, 32) as usize * BLOB_ROW_BYTES;
        let blob = blobs
            .get(blob..blob + BLOB_ROW_BYTES)
            .ok_or_else(|| bad("a row names a blob that is not there"))?;
        let pack = self
            .root
            .packs
            .get(word(blob, 0) as usize)
            .ok_or_else(|| bad("a blob names a pack that is not there"))?;
        let epoch_number = u16::from_le_bytes([blob[16], blob[17]]);
        let epoch = self
            .root
            .epochs
            .get(usize::from(epoch_number))
            .ok_or_else(|| bad("a blob names an epoch that is not there"))?;
        let at = Location {
            pack: pack.id,
            kind: pack.kind,
            epoch: *epoch,
            offset: word(blob, 4),
            sealed_len: word(blob, 8),
            opened_len: word(blob, 12),
            start: word(bytes, 36),
            len: word(bytes, 40),
        };
        if u64::from(at.start) + u64::from(at.len) > u64::from(at.opened_len) || at.len == 0 {
            return Err(bad("a chunk does not lie in its blob"));
        }
        if u64::from(at.offset) + u64::from(at.sealed_len) > pack.size {
            return Err(bad("a blob does not lie in its pack"));
        }
        Ok(Row { id, at })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn take_page(
    rest: &mut &[u8],
    len: u32,
    hash: &Hash,
    rows: u32,
    row_bytes: usize,
    zstd: &mut Zstd,
    identities: &[&dyn age::Identity],
) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::new(ErrorKind::Damaged, "read the index", why);
    // open_root has checked that the lengths fill the pages.
    let (page, after) = rest.split_at_checked(len as usize).ok_or_else(|| bad("a page is cut off"))?;
    *rest = after;
    if blake3::hash(page).as_bytes() != &hash.0 {
        return Err(bad("a page is not what the root says"));
    }
    if rows as usize > INDEX_PAGE_ROWS {
        return Err(bad("a page has too many rows"));
    }
    let plain = zstd.decompress(&seal::decrypt(identities, page)?, INDEX_PAGE_ROWS * row_bytes)?;
    if plain.len() != rows as usize * row_bytes {
        return Err(bad("a page has other rows than the root says"));
    }
    Ok(plain)
}
