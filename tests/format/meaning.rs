//! What stored structures mean, as JSON: ids and bytes in hex, times as `[seconds, nanoseconds]`,
//! absent fields left out.

use minicbor::{Decode, Encode};
use muster::model::entry::Xattr;
use muster::model::id::to_hex;
use muster::model::*;
use muster::repo::cbor;
use muster::repo::chunker::Sizes;
use muster::repo::format::*;
use muster::repo::layout::PackKind;
use muster::repo::sign::{Envelope, PublicKey};
use muster::repo::tree::{Branch, Page, Record};
use serde_json::{Map, Value, json};

pub trait Meaning {
    fn json(&self) -> Value;
}

/// Decodes as a reader must, and tells what the bytes mean. That they are encoded again to the same
/// bytes is part of decoding, and asserted once more here.
pub fn of_cbor<T>(bytes: &[u8]) -> Result<Value>
where
    T: Meaning + Encode<()> + for<'b> Decode<'b, ()>,
{
    let value: T = cbor::decode(bytes, "vector")?;
    assert_eq!(cbor::encode(&value), bytes);
    Ok(value.json())
}

fn object(fields: Vec<(&str, Value)>) -> Value {
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

macro_rules! plain {
    ($($type:ty),*) => { $(impl Meaning for $type { fn json(&self) -> Value { json!(self) } })* };
}
plain!(u32, u64, String, u8);

macro_rules! shown {
    ($($type:ty),*) => { $(impl Meaning for $type { fn json(&self) -> Value { json!(self.to_string()) } })* };
}
shown!(ChunkId, PackId, BlobHash, Hash, RepositoryId, PartyId, EpochId, Ulid, PublicKey);

macro_rules! worded {
    ($($type:ty),*) => { $(impl Meaning for $type { fn json(&self) -> Value { json!(format!("{self:?}").to_lowercase()) } })* };
}
worded!(EpochKind, EpochState, PackKind, SourceStatus, SessionState, LeaseState);

macro_rules! fields {
    ($type:ty { $($field:ident),* } $(hex { $($bytes:ident),* })?) => {
        impl Meaning for $type {
            fn json(&self) -> Value {
                object(vec![
                    $((stringify!($field), self.$field.json()),)*
                    $($((stringify!($bytes), json!(to_hex(&self.$bytes))),)*)?
                ])
            }
        }
    };
}
fields!(Sizes { min, avg, max });
fields!(ChunkerParams { bulk, fine });
fields!(Times { renewal_secs, lapse_secs, margin_secs, grace_secs });
fields!(Epoch { id, kind, recipient, state });
fields!(Recipient { id, kind, recipient });
fields!(Writer { id, signing_key, recipient, rights, shares_with });
fields!(DrillHost { id, signing_key, recipient });
fields!(TrustedUpTo { job, seq, hash });
fields!(Revocation { party, signing_key, trusted, at, kept });
fields!(Config { version, repository, number, parent, made, root, chunker, times, epochs, recipients, writers, drills, revocations } hex { sealed });
fields!(Label { party, text });
fields!(ConfigSecret { labels } hex { master });
fields!(KeyRequestBody { role, label, party, signing_key, recipient });
fields!(Envelope { signer } hex { payload, signature });
fields!(BlobChunk { id, len });
fields!(BlobRecord { epoch, sealed_len, sealed_hash, chunks, opened_len });
fields!(Directory { kind, body_hash, blobs });
fields!(IndexPack { id, kind, size });
fields!(BlobPage { sealed_len, hash, rows });
fields!(ChunkPage { sealed_len, hash, rows, first });
fields!(IndexRoot { supersedes, packs, epochs, sealers, blob_pages, chunk_pages });
fields!(Device { major, minor });
fields!(TreeRef { root, level, records, bytes });
fields!(Attrs { mode, uid, gid, user, group, mtime, xattrs, ctime, dev, inode, nlink });
fields!(Entry { path, kind, state, size, attrs, content, signature });
fields!(Branch { child, records, bytes, first });
fields!(Piece { len } hex { hash });
fields!(Predecessor { id, hash });
fields!(Count { name, value });
fields!(PointSource {
    name,
    kind,
    status,
    started,
    ended,
    catalogue,
    items,
    bytes,
    unreadable,
    changed,
    facts,
    counts,
    error,
    notes,
    reused
});
fields!(Totals { bytes_new, bytes_stored, chunks_new, packs });
fields!(Point {
    id,
    writer,
    job,
    seq,
    predecessor,
    config,
    session,
    commit_before,
    started,
    ended,
    host,
    tags,
    sources,
    totals,
    muster,
    notes
});
fields!(Session { id, writer, job, renewal, state, config, at });
fields!(Tombstone { point, hash, writer, job, seq, by, rule, at });
fields!(Condemned { packs, by, oldest_session, at, reason, put_before, spared, gone, sparse });
fields!(SparseBlobs { pack, offsets });
fields!(Received { name, size, stored_at });
fields!(Receipt { by, objects });
fields!(Lease { name, id, holder, lasts_secs, state, at });
fields!(Detail { name, value });
fields!(Audit { party, seq, previous, at, action, detail });

impl<T: Meaning> Meaning for Vec<T> {
    fn json(&self) -> Value {
        self.iter().map(Meaning::json).collect()
    }
}
impl<T: Meaning> Meaning for Option<T> {
    fn json(&self) -> Value {
        self.as_ref().map_or(Value::Null, Meaning::json)
    }
}
impl<R: Record + Meaning> Meaning for Page<R> {
    fn json(&self) -> Value {
        json!({"level": self.level, "records": self.records.json()})
    }
}
impl Meaning for Time {
    fn json(&self) -> Value {
        json!([self.secs, self.nanos])
    }
}
impl Meaning for EntryPath {
    /// Its components, bytes that are not printable ASCII escaped.
    fn json(&self) -> Value {
        self.as_bytes().split(|b| *b == 0).map(|part| part.escape_ascii().to_string()).collect()
    }
}
impl Meaning for Xattr {
    fn json(&self) -> Value {
        json!([self.name.escape_ascii().to_string(), to_hex(&self.value)])
    }
}
impl Meaning for EntryKind {
    fn json(&self) -> Value {
        match self {
            Self::File => json!("file"),
            Self::Directory => json!("directory"),
            Self::Symlink(target) => json!({"symlink": target.escape_ascii().to_string()}),
            Self::HardLink(first) => json!({"hard_link": first.json()}),
            Self::Fifo => json!("fifo"),
            Self::CharDevice(device) => json!({"character_device": device.json()}),
            Self::BlockDevice(device) => json!({"block_device": device.json()}),
            Self::Socket => json!("socket"),
        }
    }
}
impl Meaning for EntryState {
    fn json(&self) -> Value {
        match self {
            Self::Good => json!("good"),
            Self::Changed => json!("changed"),
            Self::Unreadable(why) => json!({"unreadable": why}),
        }
    }
}
impl Meaning for Extent {
    fn json(&self) -> Value {
        match self {
            Self::Chunk { id, start, len } => json!({"chunk": id.json(), "start": start, "len": len}),
            Self::Hole { len } => json!({"hole": len}),
        }
    }
}
impl Meaning for Content {
    fn json(&self) -> Value {
        match self {
            Self::Inline(extents) => json!({"inline": extents.json()}),
            Self::Tree(tree) => json!({"tree": tree.json()}),
        }
    }
}
