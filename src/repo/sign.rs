//! Ed25519 signatures over domain, repository, kind, name and payload hash
//! (docs/FORMAT.md section 3.2).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::model::{Error, ErrorKind, Hash, ObjectName, PartyId, RepositoryId, Result};

const DOMAIN: &[u8] = b"muster-signature-v1\0";

/// The party id of the root.
pub const ROOT: PartyId = PartyId([0; 8]);

/// What a signature is for, so that one is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Root-signed configuration.
    Config = 1,
    /// One blob, by its sealer.
    Blob = 2,
    /// A pack's directory.
    Directory = 3,
    /// An index object's root.
    Index = 4,
    /// A running backup.
    Session = 5,
    /// A recovery point.
    Point = 6,
    /// A removed point.
    Tombstone = 7,
    /// Packs marked for deletion.
    Condemned = 8,
    /// Original store times.
    Receipt = 9,
    /// An advisory lease.
    Lease = 10,
    /// An audit record.
    Audit = 11,
    /// A new host's request to be admitted.
    KeyRequest = 12,
}

impl Kind {
    /// In words, for messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Config => "configuration",
            Self::Blob => "blob record",
            Self::Directory => "pack directory",
            Self::Index => "index",
            Self::Session => "session",
            Self::Point => "recovery point",
            Self::Tombstone => "tombstone",
            Self::Condemned => "condemned mark",
            Self::Receipt => "receipt",
            Self::Lease => "lease",
            Self::Audit => "audit record",
            Self::KeyRequest => "key request",
        }
    }
}

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct PublicKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::model::id::to_hex(&self.0))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        crate::model::id::from_hex(text).map(Self).ok_or_else(|| {
            Error::new(ErrorKind::Config, "read the public key", "it is not 64 lower-case hexadecimal digits")
        })
    }
}

/// A private signing key with its owner's id.
#[derive(Clone)]
pub struct SignKey {
    party: PartyId,
    key: SigningKey,
}

impl std::fmt::Debug for SignKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignKey({}, [redacted])", self.party)
    }
}

impl SignKey {
    /// From a 32-byte seed.
    pub fn new(party: PartyId, seed: &Zeroizing<[u8; 32]>) -> Self {
        Self { party, key: SigningKey::from_bytes(seed) }
    }
    /// Whose it is.
    pub fn party(&self) -> PartyId {
        self.party
    }
    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }
    /// Its seed, for the key file.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }
}

/// A signed payload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Envelope {
    /// What is signed.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// Who says to have signed it.
    #[n(1)]
    pub signer: PartyId,
    /// The signature.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

fn message(repository: &RepositoryId, kind: Kind, name: Option<&ObjectName>, payload: &[u8]) -> Vec<u8> {
    let name = name.map_or("", ObjectName::as_str).as_bytes();
    // An object name has at most 255 bytes.
    let name_len = (name.len() as u16).to_le_bytes();
    [DOMAIN, &repository.0, &[kind as u8], &name_len, name, blake3::hash(payload).as_bytes()].concat()
}

impl Envelope {
    /// Signs `payload`. `name` is given where the object's name does not hold its hash.
    pub fn sign(
        key: &SignKey,
        repository: &RepositoryId,
        kind: Kind,
        name: Option<&ObjectName>,
        payload: Vec<u8>,
    ) -> Self {
        let signature = key.key.sign(&message(repository, kind, name, &payload)).to_bytes();
        Self { payload, signer: key.party, signature }
    }

    /// Checks the signature with the signer's key.
    pub fn verify(
        &self,
        public: &PublicKey,
        repository: &RepositoryId,
        kind: Kind,
        name: Option<&ObjectName>,
    ) -> Result<()> {
        let untrusted = |why: &str| {
            Error::new(ErrorKind::Untrusted, format!("trust the {}", kind.word()), why)
                .hint("somebody without the key may have written it: look at who can write to the store")
        };
        let key = VerifyingKey::from_bytes(&public.0)
            .map_err(|_| untrusted("the signer's key is not a valid key"))?;
        key.verify_strict(
            &message(repository, kind, name, &self.payload),
            &Signature::from_bytes(&self.signature),
        )
        .map_err(|_| untrusted("its signature does not verify"))
    }

    /// Hash of the payload.
    pub fn payload_hash(&self) -> Hash {
        Hash(*blake3::hash(&self.payload).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_one_thing_only() {
        let key = SignKey::new(PartyId([7; 8]), &Zeroizing::new([9; 32]));
        let repo = RepositoryId([1; 16]);
        let name = ObjectName::new("points/x").unwrap();
        let other = ObjectName::new("points/y").unwrap();
        let signed = Envelope::sign(&key, &repo, Kind::Point, Some(&name), b"p".to_vec());
        let public = key.public();
        signed.verify(&public, &repo, Kind::Point, Some(&name)).unwrap();
        assert!(signed.verify(&public, &repo, Kind::Point, Some(&other)).is_err());
        assert!(signed.verify(&public, &repo, Kind::Point, None).is_err());
        assert!(signed.verify(&public, &repo, Kind::Session, Some(&name)).is_err());
        assert!(signed.verify(&public, &RepositoryId([2; 16]), Kind::Point, Some(&name)).is_err());
        let changed = Envelope { payload: b"q".to_vec(), ..signed.clone() };
        assert!(changed.verify(&public, &repo, Kind::Point, Some(&name)).is_err());
        let stranger = SignKey::new(PartyId([7; 8]), &Zeroizing::new([8; 32])).public();
        assert!(signed.verify(&stranger, &repo, Kind::Point, Some(&name)).is_err());
        assert!(!format!("{key:?}").contains("09"));
    }
}
