//! Object names, in one place.

use crate::model::id::to_hex;
use crate::model::{EpochId, Hash, ObjectName, PackId, PartyId, Result, Time, Ulid};

/// Folders of the repository.
pub const CONFIG: &str = "config/";
/// Epoch identities.
pub const KEYS: &str = "keys/";
/// All packs.
pub const PACKS: &str = "packs/";
/// Index objects.
pub const INDEX: &str = "index/";
/// Running backups.
pub const SESSIONS: &str = "sessions/";
/// Recovery points.
pub const POINTS: &str = "points/";
/// Removed points.
pub const TOMBSTONES: &str = "tombstones/";
/// Packs marked for deletion.
pub const CONDEMNED: &str = "condemned/";

/// What a pack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum PackKind {
    /// Content, sealed to a data epoch.
    #[n(0)]
    Data,
    /// Trees, sealed to a metadata epoch.
    #[n(1)]
    Meta,
}

/// A pack in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackAt {
    /// What kind.
    pub kind: PackKind,
    /// Its size.
    pub size: u64,
    /// The store's time of it.
    pub stored_at: Time,
}

/// A blob's place: its pack, and its offset there.
pub type BlobAt = (PackId, u32);

fn name(text: String) -> ObjectName {
    // Built from hex digits, decimal digits, ULIDs and fixed words only.
    ObjectName::new(text).expect("layout names are valid")
}

/// `config/<n>-<hash>`.
pub fn config(number: u64, hash: &Hash) -> ObjectName {
    name(format!("{CONFIG}{number:08}-{hash}"))
}

/// Number and hash of a config's name.
pub fn parse_config(object: &ObjectName) -> Option<(u64, Hash)> {
    let (number, hash) = object.as_str().strip_prefix(CONFIG)?.split_once('-')?;
    let number = number.parse().ok()?;
    let hash = hash.parse().ok()?;
    (config(number, &hash) == *object).then_some((number, hash))
}

/// `keys/<epoch>/<who>.age`: written together with the epoch.
pub fn key(epoch: &EpochId, who: &PartyId) -> ObjectName {
    name(format!("{KEYS}{epoch}/{who}.age"))
}

/// `keys/<epoch>/<who>-<k>.age`: written later, `k` at random. A host whose keys rotate gets
/// a second file so, and nothing is overwritten.
pub fn added_key(epoch: &EpochId, who: &PartyId, k: [u8; 8]) -> ObjectName {
    name(format!("{KEYS}{epoch}/{who}-{}.age", to_hex(&k)))
}

/// Whether the object is a key file of that party, under either form of name.
pub fn is_key_of(object: &ObjectName, who: &PartyId) -> bool {
    let rest =
        object.as_str().starts_with(KEYS).then(|| object.leaf().strip_prefix(&who.to_string())).flatten();
    rest.and_then(|rest| rest.strip_suffix(".age")).is_some_and(|k| k.is_empty() || k.starts_with('-'))
}

/// `packs/<kind>/<2 hex>/<id>`.
pub fn pack(kind: PackKind, id: &PackId) -> ObjectName {
    let hex = id.to_string();
    let kind = match kind {
        PackKind::Data => "data",
        PackKind::Meta => "meta",
    };
    name(format!("{PACKS}{kind}/{}/{hex}", &hex[..2]))
}

/// Kind and id of a pack's name.
pub fn parse_pack(object: &ObjectName) -> Option<(PackKind, PackId)> {
    let rest = object.as_str().strip_prefix(PACKS)?;
    let kind = match rest.split('/').next()? {
        "data" => PackKind::Data,
        "meta" => PackKind::Meta,
        _ => return None,
    };
    let id = object.leaf().parse().ok()?;
    (pack(kind, &id) == *object).then_some((kind, id))
}

/// `index/<hash>`.
pub fn index(hash: &Hash) -> ObjectName {
    name(format!("{INDEX}{hash}"))
}

/// Hash of an index object's name.
pub fn parse_index(object: &ObjectName) -> Option<Hash> {
    object.as_str().strip_prefix(INDEX)?.parse().ok()
}

/// `sessions/<ulid>-<k>`.
pub fn session(id: &Ulid, renewal: u32) -> ObjectName {
    name(format!("{SESSIONS}{id}-{renewal:06}"))
}

/// Id and renewal number of a session's name.
pub fn parse_session(object: &ObjectName) -> Option<(Ulid, u32)> {
    let (id, renewal) = object.as_str().strip_prefix(SESSIONS)?.split_once('-')?;
    let parsed = (id.parse().ok()?, renewal.parse().ok()?);
    (session(&parsed.0, parsed.1) == *object).then_some(parsed)
}

/// `points/<ulid>`.
pub fn point(id: &Ulid) -> ObjectName {
    name(format!("{POINTS}{id}"))
}

/// Id of a point's name.
pub fn parse_point(object: &ObjectName) -> Option<Ulid> {
    object.as_str().strip_prefix(POINTS)?.parse().ok()
}

/// `tombstones/<ulid>`.
pub fn tombstone(id: &Ulid) -> ObjectName {
    name(format!("{TOMBSTONES}{id}"))
}

/// Id of a tombstone's name.
pub fn parse_tombstone(object: &ObjectName) -> Option<Ulid> {
    object.as_str().strip_prefix(TOMBSTONES)?.parse().ok()
}

/// `condemned/<hash>`.
pub fn condemned(hash: &Hash) -> ObjectName {
    name(format!("{CONDEMNED}{hash}"))
}

/// The name itself, checked: for names that come out of a listing or a test.
pub fn checked(text: &str) -> Result<ObjectName> {
    ObjectName::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_only_canonical_ones_parse() {
        let id = PackId([0xab; 32]);
        let pack_name = pack(PackKind::Meta, &id);
        assert!(pack_name.as_str().starts_with("packs/meta/ab/abab"));
        assert_eq!(parse_pack(&pack_name), Some((PackKind::Meta, id)));
        let wrong_folder = pack_name.as_str().replace("/ab/", "/ac/");
        assert_eq!(parse_pack(&checked(&wrong_folder).unwrap()), None);

        let hash = Hash([1; 32]);
        assert_eq!(parse_config(&config(3, &hash)), Some((3, hash)));
        assert_eq!(parse_config(&checked(&format!("config/3-{hash}")).unwrap()), None);

        let (epoch, who) = (EpochId([1; 8]), PartyId([2; 8]));
        assert!(is_key_of(&key(&epoch, &who), &who) && is_key_of(&added_key(&epoch, &who, [3; 8]), &who));
        assert!(!is_key_of(&key(&epoch, &PartyId([3; 8])), &who));

        let ulid = Ulid([0; 16]);
        assert_eq!(parse_session(&session(&ulid, 7)), Some((ulid, 7)));
    }
}
