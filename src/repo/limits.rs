//! Bounds of the format (docs/FORMAT.md section 1) and the engine's targets.

pub use crate::model::entry::{INLINE_EXTENTS_MAX, TREE_LEVELS_MAX};

/// Most bytes of an opened blob.
pub const BLOB_OPENED_MAX_BYTES: usize = 8 << 20;
/// Most bytes of a chunk, and so of a tree page.
pub const CHUNK_MAX_BYTES: usize = 4 << 20;
/// Most bytes of a pack.
pub const PACK_MAX_BYTES: u64 = 128 << 20;
/// Most blobs in a pack.
pub const PACK_BLOBS_MAX: usize = 1 << 20;
/// Packs are closed when they reach this.
pub const PACK_TARGET_BYTES: u64 = 32 << 20;
/// Most bytes of a small object, sealed or opened.
pub const SMALL_OBJECT_MAX_BYTES: usize = 16 << 20;
/// Most bytes of a point, sealed or opened.
pub const POINT_MAX_BYTES: usize = 64 << 20;
/// Most bytes of an opened index root, index page or pack directory.
pub const DIRECTORY_MAX_BYTES: usize = 64 << 20;
/// Most bytes of an index object.
pub const INDEX_OBJECT_MAX_BYTES: u64 = 4 << 30;
/// A chunk this large is a blob of its own.
pub const OWN_BLOB_MIN_BYTES: usize = 512 << 10;
/// Smaller chunks are laid together up to this.
pub const GROUP_MAX_BYTES: usize = 1 << 20;
/// Most rows of an index page.
pub const INDEX_PAGE_ROWS: usize = 4096;
/// Bytes of the locator at the end of a pack or index object.
pub const LOCATOR_BYTES: usize = 16;
