//! Stored structures, field by field as in docs/FORMAT.md.

use minicbor::{Decode, Encode};

use crate::model::{
    BlobHash, ChunkId, Content, EpochId, Hash, PackId, PartyId, RepositoryId, Time, TreeRef, Ulid,
};

use super::chunker::Sizes;
use super::layout::PackKind;
use super::limits::CHUNK_MAX_BYTES;
use super::sign::{Envelope, PublicKey};

mod small;

pub use small::{
    Audit, Condemned, Detail, KeyRequestBody, Lease, LeaseState, Piece, Receipt, Received, SparseBlobs,
    Tombstone,
};

/// The one format version that this build reads and writes.
pub const VERSION: u32 = 1;

/// What an epoch key seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum EpochKind {
    /// Content.
    #[n(0)]
    Data,
    /// Names, sizes, recipes.
    #[n(1)]
    Meta,
}

/// Whether new bytes may be sealed to an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum EpochState {
    /// New bytes are sealed to it.
    #[n(0)]
    Current,
    /// Only read.
    #[n(1)]
    Retired,
    /// Its identity got out: reseal.
    #[n(2)]
    Leaked,
}

/// An epoch key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Epoch {
    /// Its id.
    #[n(0)]
    pub id: EpochId,
    /// What it seals.
    #[n(1)]
    pub kind: EpochKind,
    /// Its age recipient, `age1…`.
    #[n(2)]
    pub recipient: String,
    /// Whether it is in use.
    #[n(3)]
    pub state: EpochState,
}

/// Who may open data: an off-line recovery identity, or a drill host's.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Recipient {
    /// Its id.
    #[n(0)]
    pub id: PartyId,
    /// `x25519`, `ssh`, `plugin` or `passphrase`.
    #[n(1)]
    pub kind: String,
    /// The age recipient; none for a passphrase.
    #[n(2)]
    pub recipient: Option<String>,
}

/// A backup host.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Writer {
    /// Its id, which stays while keys rotate.
    #[n(0)]
    pub id: PartyId,
    /// Its signing key.
    #[n(1)]
    pub signing_key: PublicKey,
    /// Its age recipient, for metadata epochs.
    #[n(2)]
    pub recipient: String,
    /// Rights, see [`RIGHT_REMOVE_OTHERS`].
    #[n(3)]
    pub rights: u32,
    /// Writers whose index entries it may deduplicate against.
    #[n(4)]
    pub shares_with: Vec<PartyId>,
}

/// Right bit 0: may remove others' points.
pub const RIGHT_REMOVE_OTHERS: u32 = 1;
/// Right bit 1: append only.
pub const RIGHT_APPEND_ONLY: u32 = 2;

/// A drill host.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DrillHost {
    /// Its id.
    #[n(0)]
    pub id: PartyId,
    /// Its signing key.
    #[n(1)]
    pub signing_key: PublicKey,
    /// Its entry among the recipients.
    #[n(2)]
    pub recipient: PartyId,
}

/// The last point of one job that is still trusted after a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct TrustedUpTo {
    /// Job.
    #[n(0)]
    pub job: String,
    /// Sequence number.
    #[n(1)]
    pub seq: u64,
    /// Hash of the point's payload.
    #[n(2)]
    pub hash: Hash,
}

/// A signing key that is no longer trusted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Revocation {
    /// Whose.
    #[n(0)]
    pub party: PartyId,
    /// Which key.
    #[n(1)]
    pub signing_key: PublicKey,
    /// What of it stays trusted.
    #[n(2)]
    pub trusted: Vec<TrustedUpTo>,
    /// When, by the root's host.
    #[n(3)]
    pub at: Time,
    /// Hashes of stored index objects and tombstones, and of points' payloads, of this key that keep
    /// their full worth, sorted.
    #[n(4)]
    pub kept: Vec<Hash>,
}

/// Chunk sizes of both classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ChunkerParams {
    /// Files and dumps.
    #[n(0)]
    pub bulk: Sizes,
    /// Rows and segments.
    #[n(1)]
    pub fine: Sizes,
}

/// Intervals, in seconds of the store's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Times {
    /// How often a session is renewed.
    #[n(0)]
    pub renewal_secs: u32,
    /// When a session that was not renewed has lapsed.
    #[n(1)]
    pub lapse_secs: u32,
    /// By how much a list may lag.
    #[n(2)]
    pub margin_secs: u32,
    /// How long a condemned pack is kept.
    #[n(3)]
    pub grace_secs: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self { renewal_secs: 300, lapse_secs: 3600, margin_secs: 900, grace_secs: 86_400 }
    }
}

/// The whole configuration, as the root signs it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Config {
    /// Format version.
    #[n(0)]
    pub version: u32,
    /// Which repository.
    #[n(1)]
    pub repository: RepositoryId,
    /// Place in the chain.
    #[n(2)]
    pub number: u64,
    /// Hash of the object before.
    #[n(3)]
    pub parent: Option<Hash>,
    /// When, by the root's host.
    #[n(4)]
    pub made: Time,
    /// The root's public key.
    #[n(5)]
    pub root: PublicKey,
    /// Chunk sizes.
    #[n(6)]
    pub chunker: ChunkerParams,
    /// Intervals.
    #[n(7)]
    pub times: Times,
    /// Epoch keys.
    #[n(8)]
    pub epochs: Vec<Epoch>,
    /// Who may open data.
    #[n(9)]
    pub recipients: Vec<Recipient>,
    /// Backup hosts.
    #[n(10)]
    pub writers: Vec<Writer>,
    /// Drill hosts.
    #[n(11)]
    pub drills: Vec<DrillHost>,
    /// Keys no longer trusted.
    #[n(12)]
    pub revocations: Vec<Revocation>,
    /// The sealed part.
    #[cbor(n(13), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

/// Only the first field, to tell a newer format before anything else is read.
#[derive(Debug, Decode)]
#[cbor(map)]
pub struct VersionOnly {
    /// Format version.
    #[n(0)]
    pub version: u32,
}

/// A party's name for people.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Label {
    /// Whose.
    #[n(0)]
    pub party: PartyId,
    /// The name.
    #[n(1)]
    pub text: String,
}

/// The config's sealed part.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ConfigSecret {
    /// The master secret.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub master: [u8; 32],
    /// Names for people.
    #[n(1)]
    pub labels: Vec<Label>,
}

impl std::fmt::Debug for ConfigSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConfigSecret([redacted])")
    }
}

impl Drop for ConfigSecret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.master);
    }
}

/// A chunk inside a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct BlobChunk {
    /// Its id.
    #[n(0)]
    pub id: ChunkId,
    /// Its length in bytes.
    #[cbor(n(1), decode_with = "decode_chunk_len")]
    pub len: u32,
}

fn decode_chunk_len<Ctx>(d: &mut minicbor::Decoder<'_>, _: &mut Ctx) -> Result<u32, minicbor::decode::Error> {
    let (at, len) = (d.position(), d.u32()?);
    if (1..=CHUNK_MAX_BYTES as u32).contains(&len) {
        Ok(len)
    } else {
        Err(minicbor::decode::Error::message("a chunk is empty or over 4 MiB").at(at))
    }
}

/// The sealer's record of one blob.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BlobRecord {
    /// Epoch it is sealed to.
    #[n(0)]
    pub epoch: EpochId,
    /// Length of the sealed bytes.
    #[n(1)]
    pub sealed_len: u32,
    /// Hash of the sealed bytes.
    #[n(2)]
    pub sealed_hash: BlobHash,
    /// Chunks, end to end.
    #[n(3)]
    pub chunks: Vec<BlobChunk>,
    /// Length of the opened blob.
    #[n(4)]
    pub opened_len: u32,
}

/// A pack's directory.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Directory {
    /// What the pack holds.
    #[n(0)]
    pub kind: PackKind,
    /// Hash of the bytes before the directory.
    #[n(1)]
    pub body_hash: Hash,
    /// Signed [`BlobRecord`]s in order.
    #[n(2)]
    pub blobs: Vec<Envelope>,
}

/// A pack that an index object speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct IndexPack {
    /// Its id.
    #[n(0)]
    pub id: PackId,
    /// What it holds.
    #[n(1)]
    pub kind: PackKind,
    /// Its size in bytes.
    #[n(2)]
    pub size: u64,
}

/// A page of blob rows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct BlobPage {
    /// Sealed length.
    #[n(0)]
    pub sealed_len: u32,
    /// Hash of the sealed page.
    #[n(1)]
    pub hash: Hash,
    /// Rows in it.
    #[n(2)]
    pub rows: u32,
}

/// A page of chunk rows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ChunkPage {
    /// Sealed length.
    #[n(0)]
    pub sealed_len: u32,
    /// Hash of the sealed page.
    #[n(1)]
    pub hash: Hash,
    /// Rows in it.
    #[n(2)]
    pub rows: u32,
    /// First chunk id in it.
    #[n(3)]
    pub first: ChunkId,
}

/// An index object's root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct IndexRoot {
    /// Index objects that this one replaces, sorted.
    #[n(0)]
    pub supersedes: Vec<Hash>,
    /// Packs by number.
    #[n(1)]
    pub packs: Vec<IndexPack>,
    /// Epochs by number.
    #[n(2)]
    pub epochs: Vec<EpochId>,
    /// Sealers by number.
    #[n(3)]
    pub sealers: Vec<PartyId>,
    /// Pages of blob rows.
    #[n(4)]
    pub blob_pages: Vec<BlobPage>,
    /// Pages of chunk rows: the fence table.
    #[n(5)]
    pub chunk_pages: Vec<ChunkPage>,
}

/// Where a point stands in its writer's and job's row.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Predecessor {
    /// Its id.
    #[n(0)]
    pub id: Ulid,
    /// Hash of its payload.
    #[n(1)]
    pub hash: Hash,
}

/// How a source's capture went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum SourceStatus {
    /// Everything is in it.
    #[n(0)]
    Complete,
    /// Some items are unreadable or changed while they were read.
    #[n(1)]
    Incomplete,
    /// The source failed.
    #[n(2)]
    Failed,
}

/// A named figure.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Count {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its value.
    #[n(1)]
    pub value: u64,
}

/// One source of a point.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PointSource {
    /// Name in the job.
    #[n(0)]
    pub name: String,
    /// Kind.
    #[n(1)]
    pub kind: String,
    /// How it went.
    #[n(2)]
    pub status: SourceStatus,
    /// Began (host clock).
    #[n(3)]
    pub started: Time,
    /// Ended (host clock).
    #[n(4)]
    pub ended: Time,
    /// Its entries.
    #[n(5)]
    pub catalogue: Option<TreeRef>,
    /// How many entries.
    #[n(6)]
    pub items: u64,
    /// Bytes of all their content.
    #[n(7)]
    pub bytes: u64,
    /// Entries that could not be read.
    #[n(8)]
    pub unreadable: u64,
    /// Entries that changed while they were read.
    #[n(9)]
    pub changed: u64,
    /// Sealed facts.
    #[n(10)]
    pub facts: Option<Content>,
    /// Figures for alarms and lists, sorted by name.
    #[n(11)]
    pub counts: Vec<Count>,
    /// Why it failed.
    #[n(12)]
    pub error: Option<String>,
    /// What a person should know.
    #[n(13)]
    pub notes: Vec<String>,
    /// Entries that were unchanged and not read again.
    #[n(14)]
    pub reused: u64,
}

/// What a point added to the repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Totals {
    /// Plain bytes of new chunks.
    #[n(0)]
    pub bytes_new: u64,
    /// Sealed bytes written.
    #[n(1)]
    pub bytes_stored: u64,
    /// New chunks.
    #[n(2)]
    pub chunks_new: u64,
    /// New packs.
    #[n(3)]
    pub packs: u64,
}

/// A recovery point's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Point {
    /// Its id.
    #[n(0)]
    pub id: Ulid,
    /// Who wrote it.
    #[n(1)]
    pub writer: PartyId,
    /// Of which job.
    #[n(2)]
    pub job: String,
    /// From 1, per writer and job.
    #[n(3)]
    pub seq: u64,
    /// The one before.
    #[n(4)]
    pub predecessor: Option<Predecessor>,
    /// Config in force.
    #[n(5)]
    pub config: u64,
    /// Session it was made in.
    #[n(6)]
    pub session: Ulid,
    /// Void if the store received it later than this (store time).
    #[n(7)]
    pub commit_before: Time,
    /// Began (host clock).
    #[n(8)]
    pub started: Time,
    /// Ended (host clock).
    #[n(9)]
    pub ended: Time,
    /// Host name.
    #[n(10)]
    pub host: String,
    /// Tags.
    #[n(11)]
    pub tags: Vec<String>,
    /// Sources in the order of the job.
    #[n(12)]
    pub sources: Vec<PointSource>,
    /// What it added.
    #[n(13)]
    pub totals: Totals,
    /// Muster's version.
    #[n(14)]
    pub muster: String,
    /// What a person should know.
    #[n(15)]
    pub notes: Vec<String>,
}

impl Point {
    /// The worst status of its sources.
    pub fn status(&self) -> SourceStatus {
        self.sources.iter().map(|s| s.status).max().unwrap_or(SourceStatus::Complete)
    }
}

/// Whether a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum SessionState {
    /// It does.
    #[n(0)]
    Running,
    /// It is over.
    #[n(1)]
    Ended,
}

/// A running backup.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Session {
    /// Its id.
    #[n(0)]
    pub id: Ulid,
    /// Whose.
    #[n(1)]
    pub writer: PartyId,
    /// Of which job.
    #[n(2)]
    pub job: String,
    /// Which renewal.
    #[n(3)]
    pub renewal: u32,
    /// Running or ended.
    #[n(4)]
    pub state: SessionState,
    /// Config in force.
    #[n(5)]
    pub config: u64,
    /// Host clock.
    #[n(6)]
    pub at: Time,
}
