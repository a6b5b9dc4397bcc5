//! Small objects beside config, packs, index and points (docs/FORMAT.md sections 8 to 11).

use minicbor::{Decode, Encode};

use crate::model::{Hash, PackId, PartyId, Time, Ulid};
use crate::repo::sign::PublicKey;

/// A removed point.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Tombstone {
    /// Which point.
    #[n(0)]
    pub point: Ulid,
    /// Hash of its payload.
    #[n(1)]
    pub hash: Hash,
    /// Its writer.
    #[n(2)]
    pub writer: PartyId,
    /// Its job.
    #[n(3)]
    pub job: String,
    /// Its sequence number.
    #[n(4)]
    pub seq: u64,
    /// Who removed it.
    #[n(5)]
    pub by: PartyId,
    /// By which rule.
    #[n(6)]
    pub rule: String,
    /// Host clock.
    #[n(7)]
    pub at: Time,
}

/// Packs marked for deletion.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Condemned {
    /// Which, sorted.
    #[n(0)]
    pub packs: Vec<PackId>,
    /// By whom.
    #[n(1)]
    pub by: PartyId,
    /// Store time at which the oldest live session began.
    #[n(2)]
    pub oldest_session: Time,
    /// Host clock.
    #[n(3)]
    pub at: Time,
    /// Why.
    #[n(4)]
    pub reason: String,
    /// The statement is void if the store received it later than this (store time).
    #[n(5)]
    pub put_before: Time,
    /// Packs that are needed after all, sorted.
    #[n(6)]
    pub spared: Vec<PackId>,
    /// Packs that were seen to be gone, sorted; they stay condemned.
    #[n(7)]
    pub gone: Vec<PackId>,
    /// Blobs that are mostly dead, sorted by pack. Their packs are not condemned by this.
    #[n(8)]
    pub sparse: Option<Vec<SparseBlobs>>,
}

/// Mostly dead blobs of a pack.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct SparseBlobs {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// Offsets of the blobs, ascending.
    #[n(1)]
    pub offsets: Vec<u32>,
}

/// One object's original store time.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Received {
    /// Name.
    #[n(0)]
    pub name: String,
    /// Size.
    #[n(1)]
    pub size: u64,
    /// Store time at the origin.
    #[n(2)]
    pub stored_at: Time,
}

/// Original store times of objects that were copied.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Receipt {
    /// By whom.
    #[n(0)]
    pub by: PartyId,
    /// Objects, sorted by name.
    #[n(1)]
    pub objects: Vec<Received>,
}

/// Whether a lease is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum LeaseState {
    /// Held.
    #[n(0)]
    Held,
    /// Given up.
    #[n(1)]
    Released,
}

/// An advisory lease.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Lease {
    /// What for.
    #[n(0)]
    pub name: String,
    /// Its id.
    #[n(1)]
    pub id: Ulid,
    /// By whom.
    #[n(2)]
    pub holder: PartyId,
    /// How long, from its store time.
    #[n(3)]
    pub lasts_secs: u32,
    /// Held or released.
    #[n(4)]
    pub state: LeaseState,
    /// Host clock.
    #[n(5)]
    pub at: Time,
}

/// A detail of an audit record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Detail {
    /// Name.
    #[n(0)]
    pub name: String,
    /// Value.
    #[n(1)]
    pub value: String,
}

/// A hash-chained audit record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Audit {
    /// Who acted.
    #[n(0)]
    pub party: PartyId,
    /// From 1.
    #[n(1)]
    pub seq: u64,
    /// Hash of the payload before.
    #[n(2)]
    pub previous: Option<Hash>,
    /// Host clock.
    #[n(3)]
    pub at: Time,
    /// What was done.
    #[n(4)]
    pub action: String,
    /// Details.
    #[n(5)]
    pub detail: Vec<Detail>,
}

/// What a key request signs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct KeyRequestBody {
    /// `writer` or `drill`.
    #[n(0)]
    pub role: String,
    /// Name for people.
    #[n(1)]
    pub label: String,
    /// Wanted id.
    #[n(2)]
    pub party: PartyId,
    /// Signing key.
    #[n(3)]
    pub signing_key: PublicKey,
    /// Age recipient.
    #[n(4)]
    pub recipient: String,
}

/// A piece of a stream that a delta can match (docs/FORMAT.md section 8).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Piece {
    /// First 12 bytes of the keyed hash.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub hash: [u8; 12],
    /// Its length.
    #[n(1)]
    pub len: u32,
}
