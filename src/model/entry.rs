//! What a capture is made of: named entries with attributes, whose content is a
//! list of extents into chunks.

use std::fmt;

use minicbor::{Decode, Decoder, Encode};

use super::id::ChunkId;
use super::time::Time;

/// An entry's path: components, none empty, joined by one zero byte. Byte order of
/// this form is the order of a depth-first walk with sorted names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct EntryPath(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

/// Longest path, in bytes (Linux's PATH_MAX twice over).
pub const PATH_MAX_BYTES: usize = 8192;

impl EntryPath {
    /// From components. `None` where one is empty, `.`, `..`, holds a zero byte or a
    /// slash, or the whole is empty or too long: such a path could leave a target.
    pub fn from_components<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut joined = Vec::new();
        for (i, part) in parts.into_iter().enumerate() {
            if i > 0 {
                joined.push(0);
            }
            joined.extend_from_slice(part);
            if part.contains(&0) {
                return None;
            }
        }
        let path = Self(joined);
        path.is_safe().then_some(path)
    }

    /// From text as a person writes it, `a/b/c`; leading and trailing slashes go.
    pub fn from_display(text: &[u8]) -> Option<Self> {
        Self::from_components(text.split(|b| *b == b'/').filter(|part| !part.is_empty()))
    }

    /// A child of this path.
    pub fn child(&self, name: &[u8]) -> Option<Self> {
        Self::from_components(self.components().chain([name]))
    }

    /// Whether every component is one that may be used as a file name inside a
    /// target. Decoding does not check this; readers of stored entries must.
    pub fn is_safe(&self) -> bool {
        !self.0.is_empty()
            && self.0.len() <= PATH_MAX_BYTES
            && self
                .0
                .split(|b| *b == 0)
                .all(|part| !part.is_empty() && part != b"." && part != b".." && !part.contains(&b'/'))
    }

    /// Its components.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == 0).filter(|part| !part.is_empty())
    }

    /// The last component.
    pub fn leaf(&self) -> &[u8] {
        self.0.rsplit(|b| *b == 0).next().unwrap_or(&[])
    }

    /// The path without its last component; `None` at the top.
    pub fn parent(&self) -> Option<Self> {
        self.0.iter().rposition(|b| *b == 0).map(|at| Self(self.0[..at].to_vec()))
    }

    /// Whether this is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        self.0.starts_with(&ancestor.0) && matches!(self.0.get(ancestor.0.len()), None | Some(0))
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// With slashes, as bytes: a relative file path on Unix.
    pub fn to_slashed(&self) -> Vec<u8> {
        self.0.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect()
    }
}

/// With slashes; bytes that are not UTF-8 and control characters are escaped.
impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.to_slashed().utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}
impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How finely a stream is cut (DESIGN section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkClass {
    /// Files and dumps: 256 KiB / 1 MiB / 4 MiB.
    Bulk,
    /// Rows, vector segments, anything rewritten in small places: 16 / 64 / 256 KiB.
    Fine,
}

/// A device's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Device {
    /// Major number.
    #[n(0)]
    pub major: u32,
    /// Minor number.
    #[n(1)]
    pub minor: u32,
}

/// Longest stream, in bytes: what a file's offset can say.
const STREAM_MAX_BYTES: u64 = i64::MAX as u64;
/// Most bytes of a chunk, and so of an extent of one.
const CHUNK_MAX_BYTES: u32 = 4 << 20;
/// Extents that may stand in place; more stand in a tree.
pub const INLINE_EXTENTS_MAX: usize = 16;
/// Most levels of a tree above its leaves.
pub const TREE_LEVELS_MAX: u8 = 16;

type Decoded<T> = Result<T, minicbor::decode::Error>;

/// What does not obey the format's bounds is refused where it is decoded, so that nobody
/// computes with it.
fn within<T>(is_sound: bool, value: T, at: usize, why: &'static str) -> Decoded<T> {
    if is_sound { Ok(value) } else { Err(minicbor::decode::Error::message(why).at(at)) }
}

fn decode_mode<Ctx>(d: &mut Decoder<'_>, _: &mut Ctx) -> Decoded<u32> {
    let (at, mode) = (d.position(), d.u32()?);
    within(mode <= 0o7777, mode, at, "a mode has more than its 12 bits")
}

fn decode_piece_len<Ctx>(d: &mut Decoder<'_>, _: &mut Ctx) -> Decoded<u32> {
    let (at, len) = (d.position(), d.u32()?);
    within((1..=CHUNK_MAX_BYTES).contains(&len), len, at, "an extent is empty or larger than a chunk")
}

fn decode_stream_len<Ctx>(d: &mut Decoder<'_>, _: &mut Ctx) -> Decoded<u64> {
    let (at, len) = (d.position(), d.u64()?);
    within(len <= STREAM_MAX_BYTES, len, at, "a stream is longer than 2^63 - 1 bytes")
}

fn decode_hole_len<Ctx>(d: &mut Decoder<'_>, ctx: &mut Ctx) -> Decoded<u64> {
    let at = d.position();
    let len = decode_stream_len(d, ctx)?;
    within(len > 0, len, at, "a hole is empty")
}

fn decode_level<Ctx>(d: &mut Decoder<'_>, _: &mut Ctx) -> Decoded<u8> {
    let (at, level) = (d.position(), d.u8()?);
    within(level <= TREE_LEVELS_MAX, level, at, "a tree has too many levels")
}

fn decode_inline<Ctx>(d: &mut Decoder<'_>, ctx: &mut Ctx) -> Decoded<Vec<Extent>> {
    let at = d.position();
    let extents: Vec<Extent> = d.decode_with(ctx)?;
    let sum = extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.len()));
    let is_hole = |extent: &Extent| matches!(extent, Extent::Hole { .. });
    let touching = extents.windows(2).any(|pair| pair.iter().all(is_hole));
    let is_sound =
        extents.len() <= INLINE_EXTENTS_MAX && sum.is_some_and(|sum| sum <= STREAM_MAX_BYTES) && !touching;
    within(
        is_sound,
        extents,
        at,
        "a recipe in place has too many extents, two holes in a row, or is too long",
    )
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EntryKind {
    /// A regular file, or a named stream of a source that has no files.
    #[n(0)]
    File,
    /// A directory.
    #[n(1)]
    Directory,
    /// A symbolic link and where it points, as it stands.
    #[n(2)]
    Symlink(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Another name of the file at this path, which stands earlier in the capture.
    #[n(3)]
    HardLink(#[n(0)] EntryPath),
    /// A named pipe.
    #[n(4)]
    Fifo,
    /// A character device.
    #[n(5)]
    CharDevice(#[n(0)] Device),
    /// A block device.
    #[n(6)]
    BlockDevice(#[n(0)] Device),
    /// A Unix socket; recorded, not restored.
    #[n(7)]
    Socket,
}

/// Whether what stands in the capture is what was there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EntryState {
    /// Captured whole.
    #[n(0)]
    Good,
    /// It changed each time it was read; the last reading was kept.
    #[n(1)]
    Changed,
    /// It could not be read, and why; there is no content.
    #[n(2)]
    Unreadable(#[n(0)] String),
}

/// One extended attribute (POSIX ACLs are stored as these, as Linux does).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub struct Xattr {
    /// Its name, namespace included.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// Its value.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// A file's attributes. The last four serve to see that a file is unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attrs {
    /// Permission bits, set-id and sticky bits included (`st_mode & 0o7777`).
    #[cbor(n(0), decode_with = "decode_mode")]
    pub mode: u32,
    /// Owner.
    #[n(1)]
    pub uid: u32,
    /// Group.
    #[n(2)]
    pub gid: u32,
    /// Owner's name where the host knew one.
    #[n(3)]
    pub user: Option<String>,
    /// Group's name where the host knew one.
    #[n(4)]
    pub group: Option<String>,
    /// Last change of content.
    #[n(5)]
    pub mtime: Time,
    /// Extended attributes, sorted by name.
    #[n(6)]
    pub xattrs: Option<Vec<Xattr>>,
    /// Last change of the inode.
    #[n(7)]
    pub ctime: Time,
    /// Device the file is on.
    #[n(8)]
    pub dev: u64,
    /// Inode number.
    #[n(9)]
    pub inode: u64,
    /// Number of names.
    #[n(10)]
    pub nlink: u64,
}

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Extent {
    /// `len` bytes of a chunk from `start`.
    #[n(0)]
    Chunk {
        /// Which chunk.
        #[n(0)]
        id: ChunkId,
        /// First byte inside the opened chunk.
        #[n(1)]
        start: u32,
        /// How many bytes.
        #[cbor(n(2), decode_with = "decode_piece_len")]
        len: u32,
    },
    /// Zeros that take no room (a hole of a sparse file).
    #[n(1)]
    Hole {
        /// How many bytes.
        #[cbor(n(0), decode_with = "decode_hole_len")]
        len: u64,
    },
}

impl Extent {
    /// Bytes of the stream that it stands for.
    pub fn len(&self) -> u64 {
        match self {
            Self::Chunk { len, .. } => u64::from(*len),
            Self::Hole { len } => *len,
        }
    }
    /// Whether it stands for nothing; such an extent is not canonical.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The root of a tree of metadata chunks that holds a list too long to stand inline.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct TreeRef {
    /// The root page, a chunk of a metadata blob.
    #[n(0)]
    pub root: ChunkId,
    /// Levels above the leaves: 0 where the root is a leaf.
    #[cbor(n(1), decode_with = "decode_level")]
    pub level: u8,
    /// Records in all leaves.
    #[n(2)]
    pub records: u64,
    /// Bytes that the records stand for.
    #[cbor(n(3), decode_with = "decode_stream_len")]
    pub bytes: u64,
}

/// A stream's recipe.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Content {
    /// Few extents, in place.
    #[n(0)]
    Inline(#[cbor(n(0), decode_with = "decode_inline")] Vec<Extent>),
    /// Many, in a tree of metadata chunks.
    #[n(1)]
    Tree(#[n(0)] TreeRef),
}

impl Content {
    /// Length of the stream in bytes. Absurd lengths that a hostile point claims stop at the
    /// largest number.
    pub fn len(&self) -> u64 {
        match self {
            // Stored lengths may be anything; a sum that is too large fits no reference.
            Self::Inline(extents) => extents.iter().fold(0, |sum, extent| extent.len().saturating_add(sum)),
            Self::Tree(tree) => tree.bytes,
        }
    }
    /// Whether the stream has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One record of a capture's catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// Where; unique and ascending in a catalogue.
    #[n(0)]
    pub path: EntryPath,
    /// What.
    #[n(1)]
    pub kind: EntryKind,
    /// Whole, changed or unreadable.
    #[n(2)]
    pub state: EntryState,
    /// Length of the content in bytes.
    #[cbor(n(3), decode_with = "decode_stream_len")]
    pub size: u64,
    /// Attributes, where the source has such.
    #[n(4)]
    pub attrs: Option<Attrs>,
    /// The recipe, where there is content.
    #[n(5)]
    pub content: Option<Content>,
    /// Signature stream of the content, for deltas.
    #[n(6)]
    pub signature: Option<TreeRef>,
}

impl Entry {
    /// A good entry without attributes or content.
    pub fn new(path: EntryPath, kind: EntryKind) -> Self {
        Self { path, kind, state: EntryState::Good, size: 0, attrs: None, content: None, signature: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_of_paths_is_walk_order() {
        let mut paths: Vec<_> = ["a.b", "a", "a/x", "a/x/y", "a-", "b"]
            .iter()
            .map(|p| EntryPath::from_display(p.as_bytes()).unwrap())
            .collect();
        paths.sort();
        let shown: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a", "a/x", "a/x/y", "a-", "a.b", "b"]);
    }

    #[test]
    fn unsafe_components_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert!(EntryPath::from_components([b"ok".as_slice(), bad]).is_none(), "{bad:?}");
        }
        assert!(EntryPath::from_components([]).is_none());
        assert!(EntryPath::from_display(b"a/../b").is_none());
    }

    #[test]
    fn within_means_whole_components() {
        let p = |s: &str| EntryPath::from_display(s.as_bytes()).unwrap();
        assert!(p("a/b").is_within(&p("a")));
        assert!(p("a").is_within(&p("a")));
        assert!(!p("ab").is_within(&p("a")));
    }
}
