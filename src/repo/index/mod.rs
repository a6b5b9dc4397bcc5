//! Where chunks are: stored index objects, and a sorted memory-mapped cache of them.

pub mod cache;
pub mod object;
pub mod segment;

pub use cache::{Index, SyncReport, objects_signed_with};
pub use object::{SignAndSeal, Table, build_object};

use crate::model::{ChunkId, EpochId, PackId};

use super::layout::PackKind;

/// Where one chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Pack.
    pub pack: PackId,
    /// What kind of pack.
    pub kind: PackKind,
    /// Epoch that the blob is sealed to.
    pub epoch: EpochId,
    /// Offset of the blob in the pack.
    pub offset: u32,
    /// Length of the sealed blob.
    pub sealed_len: u32,
    /// Length of the opened blob.
    pub opened_len: u32,
    /// Where the chunk begins in the opened blob.
    pub start: u32,
    /// Length of the chunk.
    pub len: u32,
}

/// A chunk and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The chunk.
    pub id: ChunkId,
    /// Its place.
    pub at: Location,
}

impl Row {
    /// Order in which rows stand: by chunk, then by the place that counts.
    pub fn key(&self) -> (ChunkId, PackId, u32) {
        (self.id, self.at.pack, self.at.offset)
    }
}
