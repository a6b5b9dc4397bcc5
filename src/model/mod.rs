//! Value types shared by every room: ids, sizes, times, secrets, entries and the
//! error type. No I/O and no concurrency lives here.

pub mod count;
pub mod entry;
pub mod error;
pub mod id;
pub mod name;
pub mod secret;
pub mod size;
pub mod span;
pub mod time;

pub use entry::{
    Attrs, ChunkClass, Content, Device, Entry, EntryKind, EntryPath, EntryState, Extent, TreeRef,
};
pub use error::{Error, ErrorKind, Result};
pub use id::{BlobHash, ChunkId, EpochId, Hash, PackId, PartyId, RepositoryId, Ulid};
pub use name::{ObjectName, PROBE_FOLDER};
pub use secret::{Secret, SecretRef};
pub use size::{Bytes, parse_size};
pub use span::{parse_span, span_text};
pub use time::Time;
