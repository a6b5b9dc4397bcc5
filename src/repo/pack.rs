//! Packs: blobs end to end, a sealed and signed directory, a locator
//! (docs/FORMAT.md section 6).

use age::x25519;

use crate::model::{BlobHash, EpochId, Error, ErrorKind, Hash, PackId, RepositoryId, Result};

use super::cbor;
use super::format::{BlobChunk, BlobRecord, Directory};
use super::layout::PackKind;
use super::limits::{
    BLOB_OPENED_MAX_BYTES, CHUNK_MAX_BYTES, DIRECTORY_MAX_BYTES, LOCATOR_BYTES, PACK_BLOBS_MAX,
    PACK_MAX_BYTES,
};
use super::seal::{self, Zstd};
use super::sign::{Envelope, Kind, SignKey};

/// Ends every pack.
pub const PACK_MAGIC: &[u8; 8] = b"MUSTPACK";

/// The 16 bytes that say how long the sealed directory before them is.
pub fn locator(directory_len: usize, magic: &[u8; 8]) -> Result<[u8; LOCATOR_BYTES]> {
    let len = u32::try_from(directory_len)
        .map_err(|_| Error::new(ErrorKind::Limit, "write the directory", "it is over 4 GiB"))?;
    let mut bytes = [0; LOCATOR_BYTES];
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[8..].copy_from_slice(magic);
    Ok(bytes)
}

/// Reads a locator: the directory's length.
pub fn parse_locator(bytes: &[u8], magic: &[u8; 8]) -> Result<u32> {
    let bad = |why: &str| Error::new(ErrorKind::Damaged, "read the directory", why);
    if bytes.len() != LOCATOR_BYTES || bytes[8..] != magic[..] {
        return Err(bad("the object does not end as it must; it may be truncated"));
    }
    if bytes[4..8] != [0; 4] {
        return Err(bad("its last bytes are not canonical"));
    }
    let mut len = [0; 4];
    len.copy_from_slice(&bytes[..4]);
    Ok(u32::from_le_bytes(len))
}

/// A sealed blob with its signed record, ready to be put in a pack.
#[derive(Clone, Debug)]
pub struct SealedBlob {
    /// The age file.
    pub bytes: Vec<u8>,
    /// What its record says.
    pub record: BlobRecord,
    /// The record, signed by its sealer.
    pub signed: Envelope,
}

impl SealedBlob {
    /// Signs the record of freshly sealed bytes.
    pub fn new(
        bytes: Vec<u8>,
        epoch: EpochId,
        chunks: Vec<BlobChunk>,
        key: &SignKey,
        repository: &RepositoryId,
    ) -> Result<Self> {
        let too_large = |_| Error::internal("seal a blob", "it is over 4 GiB");
        let record = BlobRecord {
            epoch,
            sealed_len: u32::try_from(bytes.len()).map_err(too_large)?,
            sealed_hash: BlobHash(*blake3::hash(&bytes).as_bytes()),
            opened_len: chunks.iter().map(|c| c.len).sum(),
            chunks,
        };
        let signed = Envelope::sign(key, repository, Kind::Blob, None, cbor::encode(&record));
        Ok(Self { bytes, record, signed })
    }
}

/// A pack being filled. Holds its bytes in memory: at most the pack target and a blob.
pub struct PackBuilder {
    kind: PackKind,
    parts: Vec<Vec<u8>>,
    hasher: blake3::Hasher,
    len: u64,
    records: Vec<BlobRecord>,
    signed: Vec<Envelope>,
}

/// A finished pack.
pub struct BuiltPack {
    /// Its id: the hash of its bytes.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Its bytes, in parts.
    pub parts: Vec<Vec<u8>>,
    /// Its size.
    pub size: u64,
    /// Its blobs, in order.
    pub records: Vec<BlobRecord>,
}

impl PackBuilder {
    /// An empty pack.
    pub fn new(kind: PackKind) -> Self {
        Self {
            kind,
            parts: Vec::new(),
            hasher: blake3::Hasher::new(),
            len: 0,
            records: Vec::new(),
            signed: Vec::new(),
        }
    }

    /// Adds a blob.
    pub fn push(&mut self, blob: SealedBlob) {
        self.hasher.update(&blob.bytes);
        self.len += blob.bytes.len() as u64;
        self.parts.push(blob.bytes);
        self.records.push(blob.record);
        self.signed.push(blob.signed);
    }

    /// Bytes of blobs so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no blob.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether it holds as many blobs as a pack may.
    pub fn is_full(&self) -> bool {
        self.records.len() >= PACK_BLOBS_MAX / 2
    }

    /// Writes the directory and closes the pack.
    pub fn finish(
        mut self,
        zstd: &mut Zstd,
        meta: &x25519::Recipient,
        key: &SignKey,
        repository: &RepositoryId,
    ) -> Result<BuiltPack> {
        let directory = Directory {
            kind: self.kind,
            body_hash: Hash(*self.hasher.finalize().as_bytes()),
            blobs: self.signed,
        };
        let envelope = Envelope::sign(key, repository, Kind::Directory, None, cbor::encode(&directory));
        let mut tail = seal::seal(zstd, meta, &cbor::encode(&envelope))?;
        let locator = locator(tail.len(), PACK_MAGIC)?;
        tail.extend_from_slice(&locator);
        self.hasher.update(&tail);
        let size = self.len + tail.len() as u64;
        self.parts.push(tail);
        if size > PACK_MAX_BYTES {
            return Err(Error::internal(
                "close the pack",
                format!("it has {size} bytes, more than a pack may"),
            ));
        }
        Ok(BuiltPack {
            id: PackId(*self.hasher.finalize().as_bytes()),
            kind: self.kind,
            parts: self.parts,
            size,
            records: self.records,
        })
    }
}

/// An opened directory; signatures are checked by the caller, who knows the keys.
pub struct OpenedDirectory {
    /// The directory's envelope.
    pub envelope: Envelope,
    /// What it says.
    pub directory: Directory,
    /// Its blob records, decoded, in order.
    pub records: Vec<BlobRecord>,
}

/// Opens sealed directory bytes and checks what can be checked without keys of signers.
pub fn open_directory(
    zstd: &mut Zstd,
    identities: &[&dyn age::Identity],
    sealed: &[u8],
    body_len: u64,
) -> Result<OpenedDirectory> {
    let plain = zstd.decompress(&seal::decrypt(identities, sealed)?, DIRECTORY_MAX_BYTES)?;
    let envelope: Envelope = cbor::decode(&plain, "pack directory's envelope")?;
    let directory: Directory = cbor::decode(&envelope.payload, "pack directory")?;
    let records = directory
        .blobs
        .iter()
        .map(|signed| cbor::decode::<BlobRecord>(&signed.payload, "blob record"))
        .collect::<Result<Vec<_>>>()?;
    let bad = |why: &str| Error::new(ErrorKind::Damaged, "read the pack's directory", why);
    if records.len() > PACK_BLOBS_MAX {
        return Err(bad("it has more blobs than a pack may"));
    }
    if records.iter().map(|r| u64::from(r.sealed_len)).sum::<u64>() != body_len {
        return Err(bad("its blobs do not fill the pack"));
    }
    if !records.iter().all(record_is_sound) {
        return Err(bad("a blob's record contradicts itself"));
    }
    Ok(OpenedDirectory { envelope, directory, records })
}

fn record_is_sound(record: &BlobRecord) -> bool {
    let sum: u64 = record.chunks.iter().map(|c| u64::from(c.len)).sum();
    sum == u64::from(record.opened_len)
        && sum <= BLOB_OPENED_MAX_BYTES as u64
        && !record.chunks.is_empty()
        && record.chunks.iter().all(|c| c.len > 0 && c.len as usize <= CHUNK_MAX_BYTES)
}
