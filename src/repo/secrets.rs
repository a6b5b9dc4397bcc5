//! Keys derived from the repository's master secret (docs/FORMAT.md section 4).

use zeroize::Zeroizing;

use crate::model::{ChunkClass, ChunkId};

use super::chunker::Gear;
use super::layout::PackKind;

/// The master secret.
pub type Master = Zeroizing<[u8; 32]>;

/// Everything that is derived from the master secret.
pub struct Derived {
    data: Zeroizing<[u8; 32]>,
    meta: Zeroizing<[u8; 32]>,
    cut: Zeroizing<[u8; 32]>,
    gear_bulk: Gear,
    gear_fine: Gear,
}

fn derive(context: &str, master: &Master) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(blake3::derive_key(context, &master[..]))
}

fn gear(context: &str, master: &Master) -> Gear {
    let mut bytes = Zeroizing::new([0u8; 2048]);
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&master[..]);
    hasher.finalize_xof().fill(&mut bytes[..]);
    Gear::from_bytes(&bytes)
}

impl Derived {
    /// Derives all keys.
    pub fn new(master: &Master) -> Self {
        Self {
            data: derive("muster v1 chunk id data", master),
            meta: derive("muster v1 chunk id meta", master),
            cut: derive("muster v1 tree cut", master),
            gear_bulk: gear("muster v1 gear bulk", master),
            gear_fine: gear("muster v1 gear fine", master),
        }
    }

    /// The id of a chunk.
    pub fn chunk_id(&self, kind: PackKind, bytes: &[u8]) -> ChunkId {
        let key = match kind {
            PackKind::Data => &self.data,
            PackKind::Meta => &self.meta,
        };
        ChunkId(*blake3::keyed_hash(key, bytes).as_bytes())
    }

    /// The gear table of a class.
    pub fn gear(&self, class: ChunkClass) -> &Gear {
        match class {
            ChunkClass::Bulk => &self.gear_bulk,
            ChunkClass::Fine => &self.gear_fine,
        }
    }

    /// Whether a tree page may end after a record with this cut material.
    pub fn cuts_after(&self, material: &[u8]) -> bool {
        blake3::keyed_hash(&self.cut, material).as_bytes()[0] == 0
    }
}
