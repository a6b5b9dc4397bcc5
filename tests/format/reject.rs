//! Bytes that must be refused, one malformation each, beside the sibling that must be accepted.
//! `MUSTER_WRITE_VECTORS=1` writes the file anew; without it the file is only tested.

use minicbor::{Decode, Encode};
use muster::model::*;
use muster::repo::cbor;
use muster::repo::evidence::Evidence;
use muster::repo::format::*;
use muster::repo::index::object::INDEX_MAGIC;
use muster::repo::keys::{KeyRequest, parse_epoch_identity};
use muster::repo::layout;
use muster::repo::pack::{PACK_MAGIC, parse_locator};
use muster::repo::seal::{self, Zstd};
use muster::repo::sign::{Envelope, Kind, SignKey};
use muster::repo::tree::{Branch, Page};
use muster::repo::trust::{ConfigObject, Pin, verify_chain};
use zeroize::Zeroizing;

use crate::meaning::{Meaning, of_cbor};
use crate::support::{folder, writes};
use crate::vectors::{self, Block, entry_path, parse, render, trusted, ulid};

/// What an opened frame may hold at most in these tests.
const FRAME_LIMIT: usize = 1000;

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Damaged, "read the vector", why.to_owned())
}

fn safe(entry: &Entry) -> Result<()> {
    let first = match &entry.kind {
        EntryKind::HardLink(first) => Some(first),
        _ => None,
    };
    let all_safe = [Some(&entry.path), first].into_iter().flatten().all(EntryPath::is_safe);
    if all_safe { Ok(()) } else { Err(damaged("unsafe path")) }
}

fn cbor_as<T>(bytes: &[u8]) -> Result<()>
where
    T: Meaning + Encode<()> + for<'b> Decode<'b, ()>,
{
    of_cbor::<T>(bytes).map(|_| ())
}

/// Reads `bytes` as a reader of that structure does.
fn read(structure: &str, bytes: &[u8]) -> Result<()> {
    let text = || std::str::from_utf8(bytes).map_err(|e| damaged(&e.to_string()));
    let name = || ObjectName::new(text()?);
    let named = |found: bool| if found { Ok(()) } else { Err(damaged("not a name of ours")) };
    match structure {
        "time" => cbor_as::<Time>(bytes),
        "epoch" => cbor_as::<Epoch>(bytes),
        "recipient" => cbor_as::<Recipient>(bytes),
        "config" => cbor_as::<Config>(bytes),
        "config object" => {
            let hash = Hash(*blake3::hash(bytes).as_bytes());
            let object = ConfigObject { name: layout::config(0, &hash), bytes: bytes.to_vec() };
            verify_chain(vec![object], &Pin { root: Some(vectors::root_key().public()), lowest: 0 })
                .map(|_| ())
        }
        "config chain" => {
            let objects = cbor::decode::<Vec<Envelope>>(bytes, "chain")?.iter().map(config_object).collect();
            verify_chain(objects, &Pin { root: Some(vectors::root_key().public()), lowest: 0 }).map(|_| ())
        }
        "blob record" => cbor_as::<BlobRecord>(bytes),
        "extent" => cbor_as::<Extent>(bytes),
        "content" => cbor_as::<Content>(bytes),
        "tree reference" => cbor_as::<TreeRef>(bytes),
        "entry" => safe(&cbor::decode(bytes, "entry")?),
        "catalogue leaf" => cbor_as::<Page<Entry>>(bytes),
        "branch page" => cbor_as::<Page<Branch>>(bytes),
        "signature piece" => cbor_as::<Piece>(bytes),
        "session" => cbor_as::<Session>(bytes),
        "point" => cbor_as::<Point>(bytes),
        "envelope" => cbor_as::<Envelope>(bytes),
        "signed point" => {
            let envelope: Envelope = cbor::decode(bytes, "envelope")?;
            let point: Point = cbor::decode(&envelope.payload, "point")?;
            trusted().verify_point(&envelope, &layout::point(&ulid(2)), &point)
        }
        "pack locator" => parse_locator(bytes, PACK_MAGIC).map(|_| ()),
        "index locator" => parse_locator(bytes, INDEX_MAGIC).map(|_| ()),
        "pack" => vectors::read_pack(bytes).map(|_| ()),
        "index" => vectors::read_index(bytes).map(|_| ()),
        "frame" => Zstd::new(3)?.decompress(bytes, FRAME_LIMIT).map(|_| ()),
        "sealed" => seal::open(&mut Zstd::new(3)?, &vectors::meta_epoch(), bytes, FRAME_LIMIT).map(|_| ()),
        "epoch identity" => parse_epoch_identity(bytes).map(|_| ()).ok_or_else(|| damaged("no identity")),
        "object name" => name().map(|_| ()),
        "config name" => named(layout::parse_config(&name()?).is_some()),
        "pack name" => named(layout::parse_pack(&name()?).is_some()),
        "session name" => named(layout::parse_session(&name()?).is_some()),
        "ulid" => text()?.parse::<Ulid>().map(|_| ()),
        "key request" => {
            let request: KeyRequest = serde_json::from_slice(bytes).map_err(|e| damaged(&e.to_string()))?;
            request.verify().map(|_| ())
        }
        "evidence" => Evidence::verify(bytes, &ulid(5), &trusted()).map(|_| ()),
        other => panic!("no structure is called {other:?}"),
    }
}

/// An envelope as it stands in `config/`.
fn config_object(envelope: &Envelope) -> ConfigObject {
    let (bytes, config) =
        (cbor::encode(envelope), cbor::decode::<Config>(&envelope.payload, "config").unwrap());
    let hash = Hash(*blake3::hash(&bytes).as_bytes());
    ConfigObject { name: layout::config(config.number, &hash), bytes }
}

/// Malformations of one good sibling.
struct Family {
    structure: &'static str,
    good: Vec<u8>,
    bad: Vec<(&'static str, Vec<u8>)>,
}

impl Family {
    fn of(structure: &'static str, good: impl Into<Vec<u8>>) -> Self {
        Self { structure, good: good.into(), bad: Vec::new() }
    }
    fn bad(mut self, why: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        self.bad.push((why, bytes.into()));
        self
    }
    /// The good sibling with the only place where `from` stands replaced.
    fn with(self, why: &'static str, from: &[u8], to: &[u8]) -> Self {
        let places: Vec<usize> =
            (0..=self.good.len() - from.len()).filter(|at| self.good[*at..].starts_with(from)).collect();
        assert_eq!(places.len(), 1, "{}: {why}: {places:?}", self.structure);
        let at = places[0];
        let bytes = [&self.good[..at], to, &self.good[at + from.len()..]].concat();
        self.bad(why, bytes)
    }
    fn with_text(self, why: &'static str, from: &str, to: &str) -> Self {
        self.with(why, from.as_bytes(), to.as_bytes())
    }
    fn flipped(self, why: &'static str, at: usize) -> Self {
        let mut bytes = self.good.clone();
        bytes[at] ^= 1;
        self.bad(why, bytes)
    }
    fn cut(self, why: &'static str, by: usize) -> Self {
        let bytes = self.good[..self.good.len() - by].to_vec();
        self.bad(why, bytes)
    }
}

fn plain_cbor() -> Vec<Family> {
    let time = Family::of("time", [0x82, 5, 6])
        .bad("an integer in two bytes that fits in one", [0x82, 5, 0x18, 6])
        .bad("an integer in three bytes that fits in one", [0x82, 0x19, 0, 5, 6])
        .bad("an array's length in two bytes that fits in one", [0x98, 2, 5, 6])
        .bad("an array of indefinite length", [0x9f, 5, 6, 0xff])
        .bad("a byte after the value", [0x82, 5, 6, 0])
        .bad("cut off", [0x82, 5])
        .bad("nothing", [])
        .bad("an array with one element too many", [0x83, 5, 6, 7])
        .bad("an array with one element too few", [0x81, 5])
        .bad("a map in place of an array", [0xa2, 0, 5, 1, 6])
        .bad("a float", [0x82, 0xf9, 0x45, 0, 6])
        .bad("text in place of an integer", [0x82, 0x61, 0x35, 6])
        .bad("null in place of an integer", [0x82, 0xf6, 6])
        .bad("a tag", [0xc1, 0x82, 5, 6])
        .bad("a reserved length", [0x82, 5, 0x1c])
        .bad("1,000,000,000 nanoseconds", [0x82, 5, 0x1a, 0x3b, 0x9a, 0xca, 0])
        .bad("negative nanoseconds", [0x82, 5, 0x20])
        .bad("seconds below what 64 bits hold", [0x82, 0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0, 6]);

    let id = [&[0x48][..], &[0xe0; 8]].concat();
    let map = |head: &[u8], fields: &[&[u8]]| [head, &fields.concat()].concat();
    let (f0, f1, f2, f3) = ([&[0][..], &id].concat(), [1, 0], [2, 0x63, b'a', b'g', b'e'], [3, 0]);
    let epoch = Family::of("epoch", map(&[0xa4], &[&f0, &f1, &f2, &f3]))
        .bad("keys out of order", map(&[0xa4], &[&f0, &f2, &f1, &f3]))
        .bad("a key twice", map(&[0xa5], &[&f0, &f1, &f1, &f2, &f3]))
        .bad("an unknown key", map(&[0xa5], &[&f0, &f1, &f2, &f3, &[4, 0]]))
        .bad("a required key is missing", map(&[0xa3], &[&f0, &f1, &f3]))
        .bad("a map of indefinite length", [&map(&[0xbf], &[&f0, &f1, &f2, &f3])[..], &[0xff]].concat())
        .bad("a key in two bytes that fits in one", map(&[0xa4], &[&f0, &[0x18, 1, 0], &f2, &f3]))
        .bad("a key that is text", map(&[0xa4], &[&f0, &[0x61, b'1', 0], &f2, &f3]))
        .bad("a negative key", map(&[0xa5], &[&[0x20, 0], &f0, &f1, &f2, &f3]))
        .bad("a map that says it has more than it has", map(&[0xa5], &[&f0, &f1, &f2, &f3]))
        .bad("an unknown kind", map(&[0xa4], &[&f0, &[1, 2], &f2, &f3]))
        .bad("an unknown state", map(&[0xa4], &[&f0, &f1, &f2, &[3, 3]]))
        .bad("an id of seven bytes", map(&[0xa4], &[&[&[0, 0x47][..], &[0xe0; 7]].concat(), &f1, &f2, &f3]))
        .bad("an id that is text", map(&[0xa4], &[&[&[0, 0x68][..], b"abcdefgh"].concat(), &f1, &f2, &f3]))
        .bad(
            "bytes of indefinite length",
            map(&[0xa4], &[&[&[0, 0x5f][..], &id, &[0xff]].concat(), &f1, &f2, &f3]),
        )
        .bad(
            "text of indefinite length",
            map(&[0xa4], &[&f0, &f1, &[2, 0x7f, 0x63, b'a', b'g', b'e', 0xff], &f3]),
        )
        .bad("text that is not UTF-8", map(&[0xa4], &[&f0, &f1, &[2, 0x63, b'a', 0xff, b'e'], &f3]))
        .bad(
            "text longer than the bytes there are",
            map(
                &[0xa4],
                &[&f0, &f1, &[2, 0x7b, 0x7f, 255, 255, 255, 255, 255, 255, 255, b'a', b'g', b'e'], &f3],
            ),
        );
    let recipient = Family::of("recipient", map(&[0xa2], &[&f0, &[1, 0x61, b'x']]))
        .bad("an absent field written as null", map(&[0xa3], &[&f0, &[1, 0x61, b'x'], &[2, 0xf6]]));
    vec![time, epoch, recipient]
}

fn config_objects() -> Vec<Family> {
    let good = vectors::config(b"sealed".to_vec());
    let sign = |config: &Config, key: &SignKey| {
        cbor::encode(&Envelope::sign(key, &config.repository, Kind::Config, None, cbor::encode(config)))
    };
    let root = vectors::root_key();
    let stranger = SignKey::new(root.party(), &Zeroizing::new([9; 32]));
    let odd = |change: &dyn Fn(&mut Config)| {
        let mut config = good.clone();
        change(&mut config);
        sign(&config, &root)
    };
    vec![
        Family::of("config object", sign(&good, &root))
            .bad("a format version that is not known", odd(&|c| c.version = 2))
            .bad("another number than its name says", odd(&|c| c.number = 1))
            .bad("a parent, and number 0", odd(&|c| c.parent = Some(Hash([1; 32]))))
            .bad("chunk sizes that cannot be used", odd(&|c| c.chunker.bulk.avg = 1_000_000))
            .bad(
                "two current epochs of a kind",
                odd(&|c| c.epochs.push(Epoch { id: EpochId([9; 8]), ..c.epochs[1].clone() })),
            )
            .bad("a right that is not known", odd(&|c| c.writers[0].rights = 4))
            .bad("signed by another key than the root's", sign(&good, &stranger))
            .bad("signed by a writer in the root's place", sign(&good, &vectors::writer_key()))
            .bad(
                "another root, rightly signed by it",
                sign(&Config { root: stranger.public(), ..good.clone() }, &stranger),
            ),
    ]
}

/// Number 0, and what a change makes of it, as number 1.
fn chain_of(before: &Config, change: &dyn Fn(&mut Config)) -> Vec<u8> {
    let root = vectors::root_key();
    let sign =
        |config: &Config| Envelope::sign(&root, &config.repository, Kind::Config, None, cbor::encode(config));
    let first = sign(before);
    let parent = Hash(*blake3::hash(&cbor::encode(&first)).as_bytes());
    let mut after = Config { number: 1, parent: Some(parent), ..before.clone() };
    change(&mut after);
    cbor::encode(&vec![first, sign(&after)])
}

/// A right ends with its key, and a revocation stays: section 5.4.
fn config_chains() -> Vec<Family> {
    let plain = vectors::config(b"sealed".to_vec());
    let with_right = |rights| {
        let mut config = plain.clone();
        config.writers[0].rights = rights;
        config
    };
    let may_remove = with_right(RIGHT_REMOVE_OTHERS);
    let revocation = Revocation {
        party: vectors::WRITER,
        signing_key: plain.writers[0].signing_key,
        trusted: Vec::new(),
        at: Time::new(0, 0),
        kept: vec![Hash([1; 32]), Hash([2; 32])],
    };
    let anew = |c: &mut Config, rights| {
        c.revocations.push(revocation.clone());
        c.writers[0].signing_key = SignKey::new(vectors::WRITER, &Zeroizing::new([9; 32])).public();
        c.writers[0].rights = rights;
    };
    let mut revoked = plain.clone();
    anew(&mut revoked, 0);
    vec![
        Family::of("config chain", chain_of(&plain, &|c| c.writers[0].rights = RIGHT_REMOVE_OTHERS)).bad(
            "append only, to a key that was not",
            chain_of(&plain, &|c| c.writers[0].rights = RIGHT_APPEND_ONLY),
        ),
        Family::of("config chain", chain_of(&may_remove, &|c| anew(c, 0)))
            .bad("a right taken from a key that stays", chain_of(&may_remove, &|c| c.writers[0].rights = 0))
            .bad("a key taken away without a revocation", chain_of(&may_remove, &|c| c.writers.clear()))
            .bad(
                "another key without a revocation",
                chain_of(&may_remove, &|c| {
                    anew(c, RIGHT_REMOVE_OTHERS);
                    c.revocations.clear();
                }),
            ),
        Family::of("config chain", chain_of(&may_remove, &|c| anew(c, RIGHT_APPEND_ONLY))).bad(
            "append only, and the key the same",
            chain_of(&may_remove, &|c| {
                c.writers[0].rights = RIGHT_REMOVE_OTHERS | RIGHT_APPEND_ONLY;
            }),
        ),
        Family::of("config chain", chain_of(&revoked, &|c| c.revocations[0].kept.push(Hash([3; 32]))))
            .bad("a revocation taken back", chain_of(&revoked, &|c| c.revocations.clear()))
            .bad("less kept than before", chain_of(&revoked, &|c| c.revocations[0].kept.truncate(1))),
    ]
}

fn trees() -> Vec<Family> {
    let head = |kind: u8, fields: u8| [0x82, kind, 0x80 | fields];
    let id = [&[0x58, 0x20][..], &[1; 32]].concat();
    let piece = |start: &[u8], len: &[u8]| [&head(0, 3)[..], &id, start, len].concat();
    let hole = |len: &[u8]| [&head(1, 1)[..], len].concat();
    let extent = Family::of("extent", piece(&[0], &[5]))
        .bad("an empty piece", piece(&[0], &[0]))
        .bad("a piece larger than a chunk", piece(&[0], &[0x1a, 0, 0x40, 0, 1]))
        .bad("a start of more than 32 bits", piece(&[0x1b, 0, 0, 0, 1, 0, 0, 0, 0], &[5]))
        .bad("an unknown choice", [&head(2, 1)[..], &[5]].concat())
        .bad("a choice with a field too many", [&head(0, 4)[..], &id, &[0, 5, 0]].concat())
        .bad("a choice without its array of fields", [&[0x84, 0][..], &id, &[0, 5]].concat());
    let holes = Family::of("extent", hole(&[5]))
        .bad("an empty hole", hole(&[0]))
        .bad("a hole of 2^63 bytes", hole(&[0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0]));
    let inline =
        |extents: &[Vec<u8>]| [&[0x82, 0, 0x81, 0x80 | extents.len() as u8][..], &extents.concat()].concat();
    let half = || hole(&[0x1b, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
    let content = Family::of("content", inline(&vec![piece(&[0], &[5]); 16]))
        .bad("17 extents in place", inline(&vec![piece(&[0], &[5]); 17]))
        .bad("two holes in a row", inline(&[hole(&[5]), hole(&[6])]))
        .bad("longer than 2^63 - 1 bytes in all", inline(&[half(), piece(&[0], &[5])]))
        .bad("an unknown choice", [0x82, 2, 0x81, 0x80]);
    let tree = vectors::tree_ref();
    let level = |level| cbor::encode(&TreeRef { level, ..tree.clone() });
    let reference = Family::of("tree reference", level(16)).bad("more than 16 levels", level(17));

    let entry = |path: &[u8], rest: &[u8]| {
        assert!(path.len() < 24);
        [&[0xa4, 0, 0x40 | path.len() as u8], path, &[1], rest, &[2, 0x82, 0, 0x80, 3, 0]].concat()
    };
    let directory = &[0x82, 1, 0x80];
    let entries = Family::of("entry", entry(b"a\0b", directory))
        .bad("an empty path", entry(b"", directory))
        .bad("an empty component", entry(b"a\0\0b", directory))
        .bad("a component `..`", entry(b"a\0..", directory))
        .bad("a component `.`", entry(b".\0b", directory))
        .bad("a component with a slash", entry(b"a\0/etc", directory))
        .bad("a path that begins at the root", entry(b"\0etc", directory))
        .bad("a hard link to a path outside", entry(b"a\0b", &[0x82, 3, 0x81, 0x42, b'.', b'.']))
        .bad("an unknown kind", entry(b"a\0b", &[0x82, 8, 0x80]))
        .bad("a symbolic link without a target", entry(b"a\0b", &[0x82, 2, 0x80]))
        .bad("a path of 8,193 bytes", {
            let path = vec![b'a'; 8193];
            [&[0xa4, 0, 0x59, 0x20, 0x01][..], &path, &[1], directory, &[2, 0x82, 0, 0x80, 3, 0]].concat()
        });
    let mode = |mode| {
        let attrs = Some(Attrs { mode, ..Attrs::default() });
        cbor::encode(&Entry { attrs, ..Entry::new(entry_path("a"), EntryKind::Fifo) })
    };
    let modes = Family::of("entry", mode(0o7777)).bad("a mode of 13 bits", mode(0o10_000));
    let leaf = Family::of("catalogue leaf", [&[0x82, 0, 0x81][..], &entry(b"a", directory)].concat())
        .bad("says two records and has one", [&[0x82, 0, 0x82][..], &entry(b"a", directory)].concat())
        .bad("no level", [&[0x81, 0x81][..], &entry(b"a", directory)].concat());
    let branch = [&[0x83][..], &id, &[1, 5]].concat();
    let null = [&[0x84][..], &id, &[1, 5, 0xf6]].concat();
    let branches = Family::of("branch page", [&[0x82, 1, 0x81][..], &branch].concat())
        .bad("an absent first path written as null", [&[0x82, 1, 0x81][..], &null].concat());
    let piece = Family::of("signature piece", cbor::encode(&Piece { hash: [1; 12], len: 9 }))
        .bad("a hash of eleven bytes", [&[0x82, 0x4b][..], &[1; 11], &[9]].concat());
    vec![extent, holes, content, reference, entries, modes, leaf, branches, piece]
}

fn signed() -> Vec<Family> {
    let point = vectors::point();
    let envelope = |repository, kind, name: Option<ObjectName>| {
        Envelope::sign(&vectors::writer_key(), &repository, kind, name.as_ref(), cbor::encode(&point))
    };
    let name = layout::point(&ulid(2));
    let good = envelope(vectors::REPOSITORY, Kind::Point, Some(name.clone()));
    let odd = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        cbor::encode(&envelope)
    };
    let other = Point { seq: 3, ..point.clone() };
    let points = Family::of("signed point", cbor::encode(&good))
        .bad(
            "the signature of another repository",
            cbor::encode(&envelope(RepositoryId([1; 16]), Kind::Point, Some(name.clone()))),
        )
        .bad(
            "the signature of a session",
            cbor::encode(&envelope(vectors::REPOSITORY, Kind::Session, Some(name))),
        )
        .bad(
            "the signature of another name",
            cbor::encode(&envelope(vectors::REPOSITORY, Kind::Point, Some(layout::point(&ulid(1))))),
        )
        .bad("the signature of no name", cbor::encode(&envelope(vectors::REPOSITORY, Kind::Point, None)))
        .bad("another payload", odd(&|e| e.payload = cbor::encode(&other)))
        .bad("a stranger in the signer's place", odd(&|e| e.signer = PartyId([9; 8])))
        .bad("a drill host in the writer's place", odd(&|e| e.signer = vectors::DRILL))
        .bad("no signature", odd(&|e| e.signature = [0; 64]))
        .bad("a signature whose second half is not reduced", odd(&|e| add_group_order(&mut e.signature)));
    let short = [&[0x83, 0x41, 1, 0x48][..], &[2; 8], &[0x58, 0x40], &[3; 64]].concat();
    let envelopes = Family::of("envelope", short)
        .bad(
            "a signature of 63 bytes",
            [&[0x83, 0x41, 1, 0x48][..], &[2; 8], &[0x58, 0x3f], &[3; 63]].concat(),
        )
        .bad(
            "a payload that is text",
            [&[0x83, 0x61, 1, 0x48][..], &[2; 8], &[0x58, 0x40], &[3; 64]].concat(),
        )
        .bad("no signer", [&[0x82, 0x41, 1, 0x58, 0x40][..], &[3; 64]].concat());
    vec![points, envelopes]
}

/// Adds the order of the group to the signature's scalar: the same signature, if it were not for the bytes.
fn add_group_order(signature: &mut [u8; 64]) {
    let order = vectors::unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
}

fn objects() -> Vec<Family> {
    let locator = |magic: &[u8; 8]| [&1000u32.to_le_bytes()[..], &[0; 4], magic].concat();
    let pack_locator = Family::of("pack locator", locator(PACK_MAGIC))
        .bad("the end of an index object", locator(INDEX_MAGIC))
        .bad("a middle that is not zero", [&1000u32.to_le_bytes()[..], &[1, 0, 0, 0], PACK_MAGIC].concat())
        .cut("fifteen bytes", 1);
    let index_locator =
        Family::of("index locator", locator(INDEX_MAGIC)).bad("the end of a pack", locator(PACK_MAGIC));
    let block =
        |file: &str, key: &str| vectors::old(file).values().next().expect("the vector is there").bytes(key);
    let (pack, index) = (block("pack", "pack"), block("index", "index"));
    let longer = |object: &[u8]| {
        let mut bytes = object.to_vec();
        let at = bytes.len() - 16;
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes
    };
    let (pack_longer, index_longer) = (longer(&pack), longer(&index));
    let (twice, shifted) = ([&pack[..], &pack].concat(), [&[0][..], &pack].concat());
    let packs = Family::of("pack", pack.clone())
        .bad("a directory larger than the pack", pack_longer)
        .bad("two packs", twice)
        .bad("a byte before the first blob", shifted)
        .flipped("a flipped bit in a blob", 300)
        .flipped("a flipped bit in the directory", pack.len() - 40)
        .cut("cut off", 1);
    let indexes = Family::of("index", index.clone())
        .bad("a root larger than the object", index_longer)
        .bad("bytes before the first page", [&[0][..], &index].concat())
        .flipped("a flipped bit in a page", 250)
        .flipped("a flipped bit in the root", index.len() - 40)
        .cut("cut off", 16);
    let record = |len: u32| {
        let chunks = vec![BlobChunk { id: ChunkId([1; 32]), len }];
        cbor::encode(&BlobRecord {
            epoch: vectors::DATA,
            sealed_len: 9,
            sealed_hash: BlobHash([2; 32]),
            chunks,
            opened_len: len,
        })
    };
    let records = Family::of("blob record", record(4 << 20))
        .bad("an empty chunk", record(0))
        .bad("a chunk of more than 4 MiB", record((4 << 20) + 1));
    vec![pack_locator, index_locator, packs, indexes, records]
}

fn frames() -> Vec<Family> {
    let mut zstd = Zstd::new(3).unwrap();
    let good = zstd.compress(b"hello").unwrap();
    let skippable = |zeros: usize| {
        [&[0x50, 0x2a, 0x4d, 0x18][..], &(zeros as u32).to_le_bytes(), &vec![0; zeros]].concat()
    };
    let frame = &good[..good.len() - 8 - padding_zeros(&good)];
    let odd_magic = {
        let mut bytes = good.clone();
        bytes[frame.len()] = 0x51;
        bytes
    };
    let mut raw = zstd::bulk::Compressor::new(3).unwrap();
    raw.set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(false)).unwrap();
    let unsized_frame = pad(&raw.compress(b"hello").unwrap());
    let mut sum = good.clone();
    *sum.last_mut().unwrap() = 1;
    let frames = Family::of("frame", good.clone())
        .bad("no padding", frame)
        .bad("a byte of padding that is not zero", sum)
        .bad("padding of the other magic number", odd_magic)
        .bad("64 bytes of padding too many", [frame, &skippable(padding_zeros(&good) + 64)].concat())
        .bad("padding in two frames", [frame, &skippable(4), &skippable(padding_zeros(&good) - 12)].concat())
        .bad("padding before the frame", [&skippable(padding_zeros(&good))[..], frame].concat())
        .bad("a second frame", [frame, frame].concat())
        .bad("a second frame after the padding", [&good[..], frame].concat())
        .bad("bytes after the padding", [&good[..], &[0]].concat())
        .bad("no frame, only padding", skippable(56))
        .bad("nothing", [])
        .bad("a frame that does not say its size", unsized_frame)
        .bad("a frame that says it holds more than is allowed", zstd.compress(&[0; FRAME_LIMIT + 1]).unwrap())
        .bad("a frame that says 2^62 bytes", pad(&oversize()))
        .cut("cut off", 1);

    let age = seal::encrypt(&vectors::meta_epoch().to_public(), &good).unwrap();
    let armored = age::encrypt_and_armor(&vectors::meta_epoch().to_public(), &good).unwrap();
    let other = seal::encrypt(&vectors::data_epoch().to_public(), &good).unwrap();
    let version = [b"age-encryption.org/v2", &age[21..]].concat();
    let endless = [&b"age-encryption.org/v1\n"[..], &b"-> X25519 aaaa\nbbbb\n".repeat(4000)].concat();
    let (middle, last) = (age.len() - 80, age.len() - 1);
    let sealed = Family::of("sealed", age)
        .bad("sealed to another epoch", other)
        .bad("an armored age file", armored)
        .bad("an age file of version 2", version)
        .bad("an age header that does not end within 64 KiB", endless)
        .bad("not sealed", good)
        .flipped("a flipped bit", middle)
        .flipped("a flipped bit at the end", last)
        .cut("cut off", 20);
    vec![frames, sealed]
}

/// How many zero bytes the padding frame at the end of a small padded frame holds.
fn padding_zeros(padded: &[u8]) -> usize {
    let at = padded.windows(4).rposition(|w| w == [0x50, 0x2a, 0x4d, 0x18]).expect("it is padded");
    padded.len() - at - 8
}

/// Pads as the format says.
fn pad(frame: &[u8]) -> Vec<u8> {
    let zeros = seal::padded_len(frame.len()) - frame.len() - 8;
    [frame, &[0x50, 0x2a, 0x4d, 0x18], &(zeros as u32).to_le_bytes(), &vec![0; zeros]].concat()
}

/// A frame with one empty raw block, whose header says 2^62 bytes.
fn oversize() -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1u64 << 62).to_le_bytes(), &[1, 0, 0]].concat()
}

fn texts() -> Vec<Family> {
    let hash = "0a".repeat(32);
    let config = Family::of("config name", format!("config/00000003-{hash}"))
        .bad("a number without its zeros", format!("config/3-{hash}"))
        .bad("a hash in capitals", format!("config/00000003-{}", hash.to_uppercase()))
        .bad("a hash that is short", format!("config/00000003-{}", &hash[2..]));
    let pack = Family::of("pack name", format!("packs/data/0a/{hash}"))
        .bad("another folder than its id's", format!("packs/data/0b/{hash}"))
        .bad("another kind", format!("packs/other/0a/{hash}"));
    let ulid_text = ulid(1).to_string();
    let session = Family::of("session name", format!("sessions/{ulid_text}-000007"))
        .bad("a number without its zeros", format!("sessions/{ulid_text}-7"))
        .bad("a sign", format!("sessions/{ulid_text}-+00007"));
    let object = Family::of("object name", "a/b")
        .bad("a part that begins with a dot", "a/..")
        .bad("an empty part", "a//b")
        .bad("it begins with a slash", "/a")
        .bad("a character that is not allowed", "a b");
    let ulids = Family::of("ulid", ulid_text.clone())
        .bad("small letters", ulid_text.to_lowercase())
        .bad("a letter that is not in the alphabet", format!("{}U", &ulid_text[..25]))
        .bad("more than 128 bits", format!("8{}", &ulid_text[1..]));
    let identity = {
        use age::secrecy::ExposeSecret;
        vectors::data_epoch().to_string().expose_secret().to_owned()
    };
    let identities = Family::of("epoch identity", format!("{identity}\n"))
        .bad("no newline at its end", identity.clone())
        .bad("two of them", format!("{identity}\n{identity}\n"))
        .bad("a public key", format!("{}\n", vectors::data_epoch().to_public()));

    let block = |file: &str, key: &str| {
        vectors::old(file).values().next().expect("the vector is there").get(key).to_owned()
    };
    let request = Family::of("key request", block("key-request", "json"))
        .with_text("another version", "key-request/1", "key-request/2")
        .with_text("another role, which the signature is not over", "\"writer\"", "\"drill\"")
        .with_text("an id in capitals", "b1b1b1b1b1b1b1b1", "B1B1B1B1B1B1B1B1")
        .with_text("an unknown field", "{\"muster\"", "{\"more\":1,\"muster\"")
        .with_text("another label, which the signature is not over", "web-1", "web-2");
    let dsse = block("evidence", "dsse");
    let own = vectors::evidence();
    let signed = |evidence: &Evidence| evidence.sign(&vectors::drill_key()).unwrap();
    let start = dsse.find("[{").unwrap();
    let signature = dsse[start + 1..dsse.len() - 2].to_owned();
    let evidence = Family::of("evidence", dsse)
        .with_text("another type of payload", "evidence.v1+json", "evidence.v2+json")
        .with_text("an unknown field", "{\"payloadType\"", "{\"more\":1,\"payloadType\"")
        .with_text("two signatures", &signature, &format!("{signature},{signature}"))
        .with_text("no signature", &signature, "")
        .with_text("signed by a writer", "b2b2b2b2b2b2b2b2", "b1b1b1b1b1b1b1b1")
        .bad("another id than its name", signed(&Evidence { id: ulid(6).to_string(), ..own.clone() }))
        .bad("another repository", signed(&Evidence { repository: "00".repeat(16), ..own.clone() }))
        .bad("another version", signed(&Evidence { version: 2, ..own.clone() }))
        .bad(
            "another key than the drill host's",
            own.sign(&SignKey::new(vectors::DRILL, &Zeroizing::new([9; 32]))).unwrap(),
        );
    vec![config, pack, session, object, ulids, identities, request, evidence]
}

fn families() -> Vec<Family> {
    [plain_cbor(), config_objects(), config_chains(), trees(), signed(), objects(), frames(), texts()]
        .into_iter()
        .flatten()
        .collect()
}

fn file() -> std::path::PathBuf {
    folder().join("vectors/reject.txt")
}

fn write() {
    let mut blocks = Vec::new();
    for family in families() {
        for (why, bytes) in &family.bad {
            let block = Block::new(&format!("{}: {why}", family.structure))
                .with("structure", family.structure)
                .with("why", why);
            blocks.push(block.hex("bad", bytes).hex("good", &family.good));
        }
    }
    let about = "Bytes that must be refused, one malformation each, and the sibling that must be accepted. Texts are\n\
                 in hex too. The keys are those of the other vectors; a frame may hold 1,000 bytes here.";
    std::fs::write(file(), render(about, &blocks)).unwrap();
}

#[test]
fn what_must_be_refused_is_and_its_sibling_is_not() {
    if writes("VECTORS") {
        write();
    }
    let blocks = parse(&std::fs::read_to_string(file()).unwrap());
    assert!(blocks.len() >= 40, "{} malformations", blocks.len());
    let mut expected: Vec<String> = Vec::new();
    for family in families() {
        expected.extend(family.bad.iter().map(|(why, _)| format!("{}: {why}", family.structure)));
    }
    assert_eq!(blocks.iter().map(|b| b.name().to_owned()).collect::<Vec<_>>(), expected);
    let mut wrong = Vec::new();
    for block in &blocks {
        let structure = block.get("structure");
        assert_ne!(block.get("bad"), block.get("good"), "{}", block.name());
        if let Err(error) = read(structure, &block.bytes("good")) {
            wrong.push(format!("the sibling is refused: {}: {error}", block.name()));
        }
        if read(structure, &block.bytes("bad")).is_ok() {
            wrong.push(format!("accepted: {}", block.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
