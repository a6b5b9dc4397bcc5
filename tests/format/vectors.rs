//! Vectors: what each structure's bytes are and mean. `MUSTER_WRITE_VECTORS=1` writes the files anew;
//! without it they are only compared. Sealed bytes, which are random, are kept where they still
//! open to what they should.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use age::x25519;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};
use muster::model::id::to_hex;
use muster::model::*;
use muster::repo::cbor;
use muster::repo::chunker::{Gear, Sizes, first_cut};
use muster::repo::evidence::{Evidence, EvidenceKind, EvidenceSource, Verdict, pae};
use muster::repo::format::*;
use muster::repo::index::object::{INDEX_MAGIC, build_object, open_root};
use muster::repo::index::{Location, Row};
use muster::repo::keys::{HostKeys, KeyRequest, parse_epoch_identity};
use muster::repo::layout::{self, PackKind};
use muster::repo::pack::{PACK_MAGIC, PackBuilder, SealedBlob, locator, open_directory, parse_locator};
use muster::repo::seal::{self, Zstd, padded_len};
use muster::repo::secrets::Derived;
use muster::repo::sign::{Envelope, Kind, PublicKey, ROOT, SignKey};
use muster::repo::tree::{Branch, Page};
use muster::repo::trust::{ConfigObject, Pin, Trusted, sign_config, verify_chain};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::meaning::{Meaning, of_cbor};
use crate::support::{folder, noise, writes};

/// One vector: named values, and what they mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub fields: Vec<(String, String)>,
    pub means: Option<Value>,
}

impl Block {
    pub fn new(name: &str) -> Self {
        Self { fields: vec![("name".to_owned(), name.to_owned())], means: None }
    }
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.fields.push((key.to_owned(), value.to_string()));
        self
    }
    pub fn hex(self, key: &str, bytes: &[u8]) -> Self {
        self.with(key, to_hex(bytes))
    }
    pub fn means(mut self, value: Value) -> Self {
        self.means = Some(value);
        self
    }
    pub fn get(&self, key: &str) -> &str {
        let found = self.fields.iter().find(|(k, _)| k == key);
        &found.unwrap_or_else(|| panic!("{:?} has no {key}", self.fields.first())).1
    }
    pub fn bytes(&self, key: &str) -> Vec<u8> {
        unhex(self.get(key))
    }
    pub fn name(&self) -> &str {
        self.get("name")
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex");
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

/// Lines of at most this many characters, longer values continued on indented ones.
const LINE: usize = 100;

pub fn render(about: &str, blocks: &[Block]) -> String {
    let mut text = about.lines().map(|line| format!("# {line}\n")).collect::<String>();
    for block in blocks {
        text.push('\n');
        for (key, value) in &block.fields {
            let is_hex = value.len() > LINE && value.bytes().all(|b| b.is_ascii_hexdigit());
            if is_hex {
                let _ = writeln!(text, "{key}:");
                value.as_bytes().chunks(LINE).for_each(|part| {
                    let _ = writeln!(text, "  {}", String::from_utf8_lossy(part));
                });
            } else {
                let _ = writeln!(text, "{key}: {value}");
            }
        }
        if let Some(means) = &block.means {
            let _ = writeln!(text, "means: {}", serde_json::to_string_pretty(means).unwrap());
        }
    }
    text
}

pub fn parse(text: &str) -> Vec<Block> {
    let no_comments: String =
        text.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    no_comments.split("\n\n").filter(|part| !part.trim().is_empty()).map(parse_block).collect()
}

fn parse_block(text: &str) -> Block {
    let (text, means) = match text.split_once("\nmeans: ") {
        Some((text, means)) => (text, Some(serde_json::from_str(means).expect("JSON"))),
        None => (text, None),
    };
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.trim_matches('\n').lines() {
        match line.strip_prefix("  ") {
            Some(more) => fields.last_mut().expect("a value goes on").1.push_str(more),
            None => {
                let (key, value) = line.split_once(':').expect("a line is `key: value`");
                fields.push((key.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned()));
            }
        }
    }
    Block { fields, means }
}

pub fn path(file: &str) -> PathBuf {
    folder().join("vectors").join(format!("{file}.txt"))
}

/// What stands in the file, by name.
pub fn old(file: &str) -> BTreeMap<String, Block> {
    let text = std::fs::read_to_string(path(file)).unwrap_or_default();
    parse(&text).into_iter().map(|block| (block.name().to_owned(), block)).collect()
}

/// Compares the file with what it should be, or writes it.
pub fn settle(file: &str, about: &str, blocks: &[Block]) {
    let text = render(about, blocks);
    assert_eq!(parse(&text), blocks, "{file} reads back");
    if writes("VECTORS") {
        std::fs::create_dir_all(folder().join("vectors")).unwrap();
        std::fs::write(path(file), &text).unwrap();
    }
    let stands =
        std::fs::read_to_string(path(file)).unwrap_or_else(|e| panic!("{}: {e}", path(file).display()));
    assert!(
        stands == text,
        "tests/format/vectors/{file}.txt is not what this build makes: the format changed. If that is \
         meant, run the test with MUSTER_WRITE_VECTORS=1 and look at the difference"
    );
}

// ---- fixed keys and ids: of no use, and named so ----

pub const REPOSITORY: RepositoryId = RepositoryId([0xa0; 16]);
pub const WRITER: PartyId = PartyId([0xb1; 8]);
pub const DRILL: PartyId = PartyId([0xb2; 8]);
pub const RECOVERY: PartyId = PartyId([0xb3; 8]);
pub const DATA: EpochId = EpochId([0xe0; 8]);
pub const META: EpochId = EpochId([0xe1; 8]);

pub fn master() -> Zeroizing<[u8; 32]> {
    Zeroizing::new(std::array::from_fn(|i| i as u8))
}
pub fn root_key() -> SignKey {
    SignKey::new(ROOT, &Zeroizing::new([0x22; 32]))
}
pub fn writer_key() -> SignKey {
    SignKey::new(WRITER, &Zeroizing::new([0x11; 32]))
}
pub fn drill_key() -> SignKey {
    SignKey::new(DRILL, &Zeroizing::new([0x33; 32]))
}

/// The X25519 identity whose 32 bytes are all `byte`.
pub fn identity(byte: u8) -> x25519::Identity {
    let hrp = bech32::Hrp::parse("age-secret-key-").unwrap();
    let text = bech32::encode::<bech32::Bech32>(hrp, &[byte; 32]).unwrap();
    x25519::Identity::from_str(&text.to_uppercase()).unwrap()
}
pub fn data_epoch() -> x25519::Identity {
    identity(0x44)
}
pub fn meta_epoch() -> x25519::Identity {
    identity(0x55)
}
fn secret(identity: &x25519::Identity) -> String {
    use age::secrecy::ExposeSecret;
    identity.to_string().expose_secret().to_owned()
}
fn zstd() -> Zstd {
    Zstd::new(3).unwrap()
}

pub fn ulid(n: u8) -> Ulid {
    Ulid::new(Time::from_unix_millis(1_767_225_600_000 + i64::from(n)), [n; 10])
}
pub fn time(secs: i64) -> Time {
    Time::new(1_767_225_600 + secs, 123_456_789)
}
fn chunk_id(n: u8) -> ChunkId {
    ChunkId([n; 32])
}
fn hash(n: u8) -> Hash {
    Hash([n; 32])
}
pub fn entry_path(text: &str) -> EntryPath {
    EntryPath::from_display(text.as_bytes()).unwrap()
}

// ---- plain structures: canonical CBOR and its meaning ----

fn plain<T>(name: &str, value: &T) -> Block
where
    T: Meaning + Encode<()> + for<'b> Decode<'b, ()>,
{
    let bytes = cbor::encode(value);
    Block::new(name).hex("cbor", &bytes).means(value.json())
}

/// Settles a file of plain structures, and decodes each from the file's own bytes.
fn settle_plain<T>(file: &str, about: &str, vectors: &[(&str, T)])
where
    T: Meaning + Encode<()> + for<'b> Decode<'b, ()>,
{
    let blocks: Vec<Block> = vectors.iter().map(|(name, value)| plain(name, value)).collect();
    settle(file, about, &blocks);
    check_plain::<T>(file, &blocks.iter().map(Block::name).collect::<Vec<_>>());
}

fn check_plain<T>(file: &str, names: &[&str])
where
    T: Meaning + Encode<()> + for<'b> Decode<'b, ()>,
{
    let stands = old(file);
    for name in names {
        let block = &stands[*name];
        let meaning = of_cbor::<T>(&block.bytes("cbor")).unwrap_or_else(|e| panic!("{file}: {name}: {e}"));
        assert_eq!(Some(meaning), block.means, "{file}: {name}");
    }
}

pub fn config(sealed: Vec<u8>) -> Config {
    Config {
        version: VERSION,
        repository: REPOSITORY,
        number: 0,
        parent: None,
        made: time(0),
        root: root_key().public(),
        chunker: ChunkerParams { bulk: Sizes::BULK, fine: Sizes::FINE },
        times: Times::default(),
        epochs: vec![
            Epoch {
                id: DATA,
                kind: EpochKind::Data,
                recipient: data_epoch().to_public().to_string(),
                state: EpochState::Current,
            },
            Epoch {
                id: META,
                kind: EpochKind::Meta,
                recipient: meta_epoch().to_public().to_string(),
                state: EpochState::Current,
            },
        ],
        recipients: vec![Recipient {
            id: RECOVERY,
            kind: "x25519".into(),
            recipient: Some(identity(0x66).to_public().to_string()),
        }],
        writers: vec![Writer {
            id: WRITER,
            signing_key: writer_key().public(),
            recipient: identity(0x88).to_public().to_string(),
            rights: 0,
            shares_with: vec![],
        }],
        drills: vec![DrillHost { id: DRILL, signing_key: drill_key().public(), recipient: RECOVERY }],
        revocations: vec![],
        sealed,
    }
}

fn full_config() -> Config {
    let base = config(b"sealed".to_vec());
    let mut epochs = base.epochs.clone();
    epochs[0].state = EpochState::Leaked;
    epochs[1].state = EpochState::Retired;
    Config {
        number: 7,
        parent: Some(hash(0x0a)),
        epochs,
        recipients: vec![
            Recipient { id: RECOVERY, kind: "passphrase".into(), recipient: None },
            Recipient { id: DRILL, kind: "ssh".into(), recipient: Some("ssh-ed25519 AAAA".into()) },
        ],
        writers: vec![Writer {
            rights: RIGHT_REMOVE_OTHERS | RIGHT_APPEND_ONLY,
            shares_with: vec![PartyId([1; 8])],
            ..base.writers[0].clone()
        }],
        revocations: vec![Revocation {
            party: WRITER,
            signing_key: PublicKey([0x0b; 32]),
            trusted: vec![TrustedUpTo { job: "app".into(), seq: 3, hash: hash(0x0c) }],
            at: Time::new(-1, 999_999_999),
            kept: vec![hash(0x0d), hash(0x0e)],
        }],
        ..base
    }
}

#[test]
fn config_vectors() {
    settle_plain(
        "config",
        "Payload of config/<n>-<hash>. FORMAT.md section 5.1. The sealed part is a stand-in here.",
        &[("the first", config(b"sealed".to_vec())), ("everything in it", full_config())],
    );
}

#[test]
fn config_secret_vectors() {
    let labels = vec![
        Label { party: WRITER, text: "web-1".into() },
        Label { party: RECOVERY, text: "Tresor \u{fc}".into() },
    ];
    settle_plain(
        "config-secret",
        "The config's sealed part, opened. FORMAT.md section 5.1.",
        &[("two labels", ConfigSecret { master: *master(), labels })],
    );
}

#[test]
fn key_request_vectors() {
    let keys = HostKeys { sign: writer_key(), identity: identity(0x88) };
    let request = KeyRequest::new("writer", "web-1", &keys);
    let body = request.verify().unwrap();
    let block = plain("a writer's", &body)
        .with("json", serde_json::to_string(&request).unwrap())
        .hex("seed", &[0x11; 32]);
    settle(
        "key-request",
        "What `muster key request` prints: the signed body, and the JSON around it.\nFORMAT.md section 11.",
        &[block],
    );
    check_plain::<KeyRequestBody>("key-request", &["a writer's"]);
    let stands: KeyRequest = serde_json::from_str(old("key-request")["a writer's"].get("json")).unwrap();
    assert_eq!(stands.verify().unwrap(), body);
}

#[test]
fn epoch_key_vectors() {
    let recovery = identity(0x66);
    let plain = format!("{}\n", secret(&data_epoch()));
    let opens = |sealed: &[u8]| seal::decrypt(&[&recovery], sealed).is_ok_and(|p| p == plain.as_bytes());
    let before = old("epoch-key").get("data epoch for the recovery recipient").map(|b| b.bytes("sealed"));
    let sealed = before
        .filter(|s| opens(s))
        .unwrap_or_else(|| seal::encrypt(&recovery.to_public(), plain.as_bytes()).unwrap());
    let block = Block::new("data epoch for the recovery recipient")
        .with("object", layout::key(&DATA, &RECOVERY))
        .with("identity", secret(&recovery))
        .hex("plain", plain.as_bytes())
        .hex("sealed", &sealed);
    settle(
        "epoch-key",
        "An object of keys/: `age -d` with the identity gives the epoch's identity.\nFORMAT.md section 3.3.",
        &[block],
    );
    let stands = old("epoch-key").remove("data epoch for the recovery recipient").unwrap();
    let opened = seal::decrypt(&[&recovery], &stands.bytes("sealed")).unwrap();
    assert_eq!(
        parse_epoch_identity(&opened).unwrap().to_public().to_string(),
        data_epoch().to_public().to_string()
    );
}

/// The bytes that an envelope's signature is over, made from the specification's words.
fn message(kind: u8, name: &str, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(name.len()).unwrap().to_le_bytes();
    [
        b"muster-signature-v1\0",
        &REPOSITORY.0[..],
        &[kind],
        &len,
        name.as_bytes(),
        blake3::hash(payload).as_bytes(),
    ]
    .concat()
}

#[test]
fn envelope_vectors() {
    let point = layout::point(&ulid(1));
    let kinds = [
        (Kind::Config, 1, None),
        (Kind::Blob, 2, None),
        (Kind::Directory, 3, None),
        (Kind::Index, 4, None),
        (Kind::Session, 5, Some(layout::session(&ulid(1), 0))),
        (Kind::Point, 6, Some(point)),
        (Kind::Tombstone, 7, Some(layout::tombstone(&ulid(1)))),
        (Kind::Condemned, 8, None),
        (Kind::Receipt, 9, None),
        (Kind::Lease, 10, Some(ObjectName::new(format!("leases/prune/{}", ulid(1))).unwrap())),
        (Kind::Audit, 11, Some(ObjectName::new(format!("audit/{WRITER}/000000000001")).unwrap())),
        (Kind::KeyRequest, 12, None),
    ];
    let mut blocks = Vec::new();
    for (kind, number, name) in &kinds {
        let (key, seed) =
            if *kind == Kind::Config { (root_key(), [0x22; 32]) } else { (writer_key(), [0x11; 32]) };
        let envelope = Envelope::sign(&key, &REPOSITORY, *kind, name.as_ref(), b"payload".to_vec());
        let name = name.as_ref().map_or("", ObjectName::as_str);
        let block = plain(kind.word(), &envelope)
            .with("kind", number)
            .with("signed name", name)
            .hex("repository", &REPOSITORY.0)
            .hex("seed", &seed)
            .hex("public key", &key.public().0)
            .hex("message", &message(*number, name, b"payload"))
            .hex("signature", &envelope.signature);
        blocks.push(block);
    }
    settle(
        "envelope",
        "Signed envelopes, one of each kind: the signature is Ed25519 of the seed over the message.\nFORMAT.md section 3.2.",
        &blocks,
    );
    let names: Vec<&str> = blocks.iter().map(Block::name).collect();
    check_plain::<Envelope>("envelope", &names);
    let stands = old("envelope");
    for (kind, _, name) in &kinds {
        let block = &stands[kind.word()];
        let key = VerifyingKey::try_from(&block.bytes("public key")[..]).unwrap();
        assert_eq!(SigningKey::try_from(&block.bytes("seed")[..]).unwrap().verifying_key(), key);
        key.verify_strict(
            &block.bytes("message"),
            &Signature::from_slice(&block.bytes("signature")).unwrap(),
        )
        .unwrap();
        let envelope: Envelope = cbor::decode(&block.bytes("cbor"), "vector").unwrap();
        envelope.verify(&PublicKey(key.to_bytes()), &REPOSITORY, *kind, name.as_ref()).unwrap();
    }
}

fn blob_record() -> BlobRecord {
    BlobRecord {
        epoch: DATA,
        sealed_len: 300,
        sealed_hash: BlobHash([5; 32]),
        chunks: vec![BlobChunk { id: chunk_id(1), len: 11 }, BlobChunk { id: chunk_id(2), len: 4 << 20 }],
        opened_len: (4 << 20) + 11,
    }
}

#[test]
fn blob_record_vectors() {
    settle_plain("blob-record", "Payload of kind 2. FORMAT.md section 6.", &[("two chunks", blob_record())]);
}

#[test]
fn pack_directory_vectors() {
    let signed = Envelope::sign(&writer_key(), &REPOSITORY, Kind::Blob, None, cbor::encode(&blob_record()));
    settle_plain(
        "pack-directory",
        "Payload of kind 3. FORMAT.md section 6.",
        &[("one blob", Directory { kind: PackKind::Data, body_hash: hash(6), blobs: vec![signed] })],
    );
}

const TEXTS: [&[u8]; 3] = [b"the first chunk", b"the second", b"alone in its blob"];

/// Two blobs of small chunks, as bytes in order.
fn build_pack() -> Vec<u8> {
    let derived = Derived::new(&master());
    let mut builder = PackBuilder::new(PackKind::Data);
    for texts in [&TEXTS[..2], &TEXTS[2..]] {
        let chunks = texts
            .iter()
            .map(|t| BlobChunk { id: derived.chunk_id(PackKind::Data, t), len: t.len() as u32 })
            .collect();
        let sealed = seal::seal(&mut zstd(), &data_epoch().to_public(), &texts.concat()).unwrap();
        builder.push(SealedBlob::new(sealed, DATA, chunks, &writer_key(), &REPOSITORY).unwrap());
    }
    builder.finish(&mut zstd(), &meta_epoch().to_public(), &writer_key(), &REPOSITORY).unwrap().parts.concat()
}

/// Opens a whole pack, checks all there is to check, and says what it holds.
pub fn read_pack(pack: &[u8]) -> Result<Value> {
    let bad = |why: &str| Error::new(ErrorKind::Damaged, "read the pack", why.to_owned());
    let at = pack.len().checked_sub(16).ok_or_else(|| bad("short"))?;
    let length = parse_locator(&pack[at..], PACK_MAGIC)? as usize;
    let body = at.checked_sub(length).ok_or_else(|| bad("directory is larger than the pack"))?;
    let opened = open_directory(&mut zstd(), &[&meta_epoch()], &pack[body..at], body as u64)?;
    opened.envelope.verify(&writer_key().public(), &REPOSITORY, Kind::Directory, None)?;
    if blake3::hash(&pack[..body]).as_bytes() != &opened.directory.body_hash.0 {
        return Err(bad("body hash"));
    }
    let (derived, mut offset, mut blobs) = (Derived::new(&master()), 0, Vec::new());
    for (record, signed) in opened.records.iter().zip(&opened.directory.blobs) {
        signed.verify(&writer_key().public(), &REPOSITORY, Kind::Blob, None)?;
        let sealed = &pack[offset..offset + record.sealed_len as usize];
        if blake3::hash(sealed).as_bytes() != &record.sealed_hash.0 {
            return Err(bad("blob hash"));
        }
        let blob = seal::open(&mut zstd(), &data_epoch(), sealed, record.opened_len as usize)?;
        let (mut start, mut chunks) = (0, Vec::new());
        for chunk in &record.chunks {
            let bytes = &blob[start..start + chunk.len as usize];
            if derived.chunk_id(PackKind::Data, bytes) != chunk.id {
                return Err(bad("chunk id"));
            }
            chunks
                .push(json!({"id": chunk.id.json(), "start": start, "text": String::from_utf8_lossy(bytes)}));
            start += chunk.len as usize;
        }
        blobs.push(json!({"offset": offset, "sealed_len": record.sealed_len, "chunks": chunks}));
        offset += record.sealed_len as usize;
    }
    Ok(json!({"kind": opened.directory.kind.json(), "blobs": blobs}))
}

#[test]
fn pack_vectors() {
    let name = "two blobs, three chunks";
    let texts = |value: &Value| value.to_string().matches("text").count() == TEXTS.len();
    let before = old("pack").get(name).map(|b| b.bytes("pack"));
    let pack = before.filter(|p| read_pack(p).is_ok_and(|v| texts(&v))).unwrap_or_else(build_pack);
    let block = Block::new(name)
        .with("object", layout::pack(PackKind::Data, &PackId(*blake3::hash(&pack).as_bytes())))
        .with("data epoch", secret(&data_epoch()))
        .with("metadata epoch", secret(&meta_epoch()))
        .hex("master secret", &master()[..])
        .hex("repository", &REPOSITORY.0)
        .hex("sealer's public key", &writer_key().public().0)
        .hex("pack", &pack)
        .means(read_pack(&pack).unwrap());
    settle(
        "pack",
        "A whole pack: blobs, sealed directory, locator. Every part of it opens with `age -d | zstd -d`.\nFORMAT.md section 6.",
        &[block],
    );
    let stands = old("pack").remove(name).unwrap();
    assert_eq!(Some(read_pack(&stands.bytes("pack")).unwrap()), stands.means);
    assert!(
        TEXTS.iter().all(|t| stands
            .means
            .as_ref()
            .unwrap()
            .to_string()
            .contains(std::str::from_utf8(t).unwrap()))
    );
}

fn index_root() -> IndexRoot {
    IndexRoot {
        supersedes: vec![hash(1), hash(2)],
        packs: vec![
            IndexPack { id: PackId([3; 32]), kind: PackKind::Data, size: 32 << 20 },
            IndexPack { id: PackId([4; 32]), kind: PackKind::Meta, size: 1000 },
        ],
        epochs: vec![DATA, META],
        sealers: vec![WRITER],
        blob_pages: vec![BlobPage { sealed_len: 500, hash: hash(5), rows: 2 }],
        chunk_pages: vec![ChunkPage { sealed_len: 600, hash: hash(6), rows: 3, first: chunk_id(7) }],
    }
}

#[test]
fn index_root_vectors() {
    settle_plain("index-root", "Payload of kind 4. FORMAT.md section 7.", &[("two packs", index_root())]);
}

fn index_rows() -> Vec<Row> {
    let at = |pack: u8, kind, epoch, offset, start, len| Location {
        pack: PackId([pack; 32]),
        kind,
        epoch,
        offset,
        sealed_len: 400,
        opened_len: 100,
        start,
        len,
    };
    vec![
        Row { id: chunk_id(1), at: at(9, PackKind::Data, DATA, 400, 0, 60) },
        Row { id: chunk_id(2), at: at(9, PackKind::Data, DATA, 400, 60, 40) },
        Row { id: chunk_id(3), at: at(8, PackKind::Meta, META, 0, 0, 100) },
    ]
}

/// Opens a whole index object, and says what it holds.
pub fn read_index(object: &[u8]) -> Result<Value> {
    let opened = open_root(&mut zstd(), &[&meta_epoch()], object)?;
    opened.envelope.verify(&writer_key().public(), &REPOSITORY, Kind::Index, None)?;
    let mut rows = Vec::new();
    opened.rows(&mut zstd(), &[&meta_epoch()], &mut |row| {
        rows.push(json!({
            "chunk": row.id.json(), "pack": row.at.pack.json(), "kind": row.at.kind.json(), "epoch": row.at.epoch.json(),
            "offset": row.at.offset, "sealed_len": row.at.sealed_len, "opened_len": row.at.opened_len,
            "start": row.at.start, "len": row.at.len,
        }));
        Ok(())
    })?;
    Ok(json!({"root": opened.root.json(), "rows": rows}))
}

#[test]
fn index_vectors() {
    let name = "three chunks in two packs";
    let build = || {
        let rows = index_rows().into_iter().map(Ok);
        build_object(
            rows,
            vec![hash(1)],
            WRITER,
            &|_| 900,
            &mut zstd(),
            &muster::repo::index::SignAndSeal {
                meta: &meta_epoch().to_public(),
                key: &writer_key(),
                repository: &REPOSITORY,
            },
        )
        .unwrap()
    };
    let rows = |value: &Value| value["rows"].clone();
    let expected = rows(&read_index(&build()).unwrap());
    let before = old("index").get(name).map(|b| b.bytes("index"));
    let object = before.filter(|o| read_index(o).is_ok_and(|v| rows(&v) == expected)).unwrap_or_else(build);
    // The rows as bytes, from the specification's words.
    let blob_row = |pack: u32, offset: u32, epoch: u16| {
        [
            &pack.to_le_bytes()[..],
            &offset.to_le_bytes(),
            &400u32.to_le_bytes(),
            &100u32.to_le_bytes(),
            &epoch.to_le_bytes(),
            &0u16.to_le_bytes(),
        ]
        .concat()
    };
    let chunk_row = |id: u8, blob: u32, start: u32, len: u32| {
        [&[id; 32][..], &blob.to_le_bytes(), &start.to_le_bytes(), &len.to_le_bytes()].concat()
    };
    let blob_rows = [blob_row(0, 400, 0), blob_row(1, 0, 1)].concat();
    let chunk_rows = [chunk_row(1, 0, 0, 60), chunk_row(2, 0, 60, 40), chunk_row(3, 1, 0, 100)].concat();
    let block = Block::new(name)
        .with("object", layout::index(&Hash(*blake3::hash(&object).as_bytes())))
        .with("metadata epoch", secret(&meta_epoch()))
        .hex("repository", &REPOSITORY.0)
        .hex("signer's public key", &writer_key().public().0)
        .hex("blob rows", &blob_rows)
        .hex("chunk rows", &chunk_rows)
        .hex("index", &object)
        .means(read_index(&object).unwrap());
    settle(
        "index",
        "A whole index object: a page of blob rows, a page of chunk rows, the root, the locator.\nFORMAT.md section 7.",
        &[block],
    );
    let stands = old("index").remove(name).unwrap();
    let object = stands.bytes("index");
    assert_eq!(Some(read_index(&object).unwrap()), stands.means);
    let root = &stands.means.as_ref().unwrap()["root"];
    let lens =
        ["blob_pages", "chunk_pages"].map(|pages| root[pages][0]["sealed_len"].as_u64().unwrap() as usize);
    for (page, rows) in
        [(&object[..lens[0]], "blob rows"), (&object[lens[0]..lens[0] + lens[1]], "chunk rows")]
    {
        assert_eq!(
            seal::open(&mut zstd(), &meta_epoch(), page, 1 << 20).unwrap(),
            stands.bytes(rows),
            "{rows}"
        );
    }
}

fn attrs() -> Attrs {
    Attrs {
        mode: 0o4755,
        uid: 1000,
        gid: 100,
        user: Some("ann".into()),
        group: Some("staff".into()),
        mtime: Time::new(-2, 500_000_000),
        xattrs: Some(vec![
            Xattr { name: b"user.a".to_vec(), value: vec![0, 255] },
            Xattr { name: b"user.b".to_vec(), value: vec![] },
        ]),
        ctime: time(1),
        dev: 66_304,
        inode: 1 << 40,
        nlink: 2,
    }
}
use muster::model::entry::Xattr;

pub fn tree_ref() -> TreeRef {
    TreeRef { root: chunk_id(9), level: 2, records: 5_000_000_000, bytes: 1 << 42 }
}
fn piece(n: u8, len: u32) -> Extent {
    Extent::Chunk { id: chunk_id(n), start: 0, len }
}

#[test]
fn entry_vectors() {
    let path = entry_path("srv/docs/a");
    let entry = |kind| Entry {
        attrs: Some(Attrs { xattrs: None, user: None, group: None, ..attrs() }),
        ..Entry::new(path.clone(), kind)
    };
    let odd = EntryPath::from_components([b"srv".as_slice(), b"odd \xff\n name"]).unwrap();
    settle_plain(
        "entry",
        "Records of a catalogue. In paths and targets, bytes that are not printable ASCII are escaped here.\nFORMAT.md section 8.",
        &[
            (
                "file, everything in it",
                Entry {
                    size: 1 << 42,
                    attrs: Some(attrs()),
                    content: Some(Content::Tree(tree_ref())),
                    signature: Some(tree_ref()),
                    ..Entry::new(path.clone(), EntryKind::File)
                },
            ),
            (
                "stream without attributes",
                Entry {
                    size: 5,
                    content: Some(Content::Inline(vec![piece(1, 5)])),
                    ..Entry::new(entry_path("dump"), EntryKind::File)
                },
            ),
            ("empty file", Entry { content: Some(Content::Inline(vec![])), ..entry(EntryKind::File) }),
            (
                "file that changed while it was read",
                Entry {
                    state: EntryState::Changed,
                    size: 5,
                    content: Some(Content::Inline(vec![piece(1, 5)])),
                    ..entry(EntryKind::File)
                },
            ),
            (
                "file that could not be read",
                Entry {
                    state: EntryState::Unreadable("permission denied".into()),
                    size: 9,
                    ..entry(EntryKind::File)
                },
            ),
            ("odd name", Entry::new(odd, EntryKind::Directory)),
            ("directory", entry(EntryKind::Directory)),
            ("symbolic link", entry(EntryKind::Symlink(b"../b \xe9".to_vec()))),
            ("hard link", entry(EntryKind::HardLink(entry_path("srv/a")))),
            ("fifo", entry(EntryKind::Fifo)),
            ("character device", entry(EntryKind::CharDevice(Device { major: 1, minor: 3 }))),
            ("block device", entry(EntryKind::BlockDevice(Device { major: 259, minor: 65_536 }))),
            ("socket", entry(EntryKind::Socket)),
        ],
    );
}

#[test]
fn extent_vectors() {
    settle_plain(
        "extent",
        "Extents of a recipe. FORMAT.md section 8.",
        &[
            ("a whole chunk", piece(1, 4 << 20)),
            ("bytes inside a chunk", Extent::Chunk { id: chunk_id(1), start: 1000, len: 24 }),
            ("a hole", Extent::Hole { len: 1 << 40 }),
        ],
    );
}

#[test]
fn content_vectors() {
    settle_plain(
        "content",
        "Recipes. FORMAT.md section 8.",
        &[
            ("empty", Content::Inline(vec![])),
            ("inline", Content::Inline(vec![piece(1, 300_000), Extent::Hole { len: 4096 }, piece(2, 7)])),
            ("tree", Content::Tree(tree_ref())),
        ],
    );
}

#[test]
fn tree_page_vectors() {
    let entries = vec![
        Entry::new(entry_path("a"), EntryKind::Directory),
        Entry::new(entry_path("a/b"), EntryKind::Fifo),
    ];
    let branch = |first: Option<&str>| Branch {
        child: chunk_id(3),
        records: 300,
        bytes: 1 << 33,
        first: first.map(entry_path),
    };
    let leaf = Page { level: 0, records: entries };
    let extents = Page { level: 0, records: vec![piece(1, 5), Extent::Hole { len: 6 }] };
    let catalogue = Page { level: 1, records: vec![branch(Some("a")), branch(Some("b/c"))] };
    let recipe = Page { level: 2, records: vec![branch(None), branch(None)] };
    let empty = Page::<Entry> { level: 0, records: vec![] };
    let blocks = [
        plain("catalogue leaf", &leaf),
        plain("catalogue of nothing", &empty),
        plain("catalogue branches", &catalogue),
        plain("recipe leaf", &extents),
        plain("recipe branches", &recipe),
    ];
    settle("tree-page", "Pages of trees. FORMAT.md section 8.", &blocks);
    check_plain::<Page<Entry>>("tree-page", &["catalogue leaf", "catalogue of nothing"]);
    check_plain::<Page<Extent>>("tree-page", &["recipe leaf"]);
    check_plain::<Page<Branch>>("tree-page", &["catalogue branches", "recipe branches"]);
}

#[test]
fn signature_piece_vectors() {
    let data = noise(9, 1024);
    let key = blake3::derive_key("muster v1 signatures", &master()[..]);
    let mut hash = [0; 12];
    hash.copy_from_slice(&blake3::keyed_hash(&key, &data).as_bytes()[..12]);
    let block = plain("1,024 bytes", &Piece { hash, len: 1024 })
        .hex("master secret", &master()[..])
        .hex("data", &data);
    settle("signature-piece", "Records of a signature, for deltas. FORMAT.md section 8.", &[block]);
    check_plain::<Piece>("signature-piece", &["1,024 bytes"]);
}

fn source() -> PointSource {
    PointSource {
        name: "docs".into(),
        kind: "files".into(),
        status: SourceStatus::Incomplete,
        started: time(1),
        ended: time(2),
        catalogue: Some(tree_ref()),
        items: 4,
        bytes: 5,
        unreadable: 1,
        changed: 2,
        facts: Some(Content::Inline(vec![piece(1, 30)])),
        counts: vec![Count { name: "files".into(), value: 3 }],
        error: None,
        notes: vec!["one".into()],
        reused: 3,
    }
}

pub fn point() -> Point {
    Point {
        id: ulid(2),
        writer: WRITER,
        job: "app".into(),
        seq: 2,
        predecessor: Some(Predecessor { id: ulid(1), hash: hash(1) }),
        config: 0,
        session: ulid(3),
        commit_before: time(2700),
        started: time(0),
        ended: time(3),
        host: "web-1".into(),
        tags: vec!["nightly".into()],
        sources: vec![
            source(),
            PointSource {
                name: "db".into(),
                kind: "command".into(),
                status: SourceStatus::Failed,
                catalogue: None,
                facts: None,
                counts: vec![],
                error: Some("pg_dump ended with status 1".into()),
                notes: vec![],
                ..source()
            },
        ],
        totals: Totals { bytes_new: 1, bytes_stored: 2, chunks_new: 3, packs: 4 },
        muster: "0.1.0".into(),
        notes: vec![],
    }
}

#[test]
fn point_vectors() {
    let first = Point { id: ulid(1), seq: 1, predecessor: None, sources: vec![], tags: vec![], ..point() };
    settle_plain(
        "point",
        "Payload of kind 6. FORMAT.md section 9.1.",
        &[("the first of a job", first), ("everything in it", point())],
    );
}

pub fn session() -> Session {
    Session {
        id: ulid(3),
        writer: WRITER,
        job: "app".into(),
        renewal: 0,
        state: SessionState::Running,
        config: 0,
        at: time(0),
    }
}

#[test]
fn session_vectors() {
    let ended = Session { renewal: 300, state: SessionState::Ended, ..session() };
    settle_plain(
        "session",
        "Payload of kind 5. FORMAT.md section 9.2.",
        &[("begun", session()), ("ended", ended)],
    );
}

pub fn tombstone() -> Tombstone {
    Tombstone {
        point: ulid(1),
        hash: hash(1),
        writer: WRITER,
        job: "app".into(),
        seq: 1,
        by: WRITER,
        rule: "keep-last 7".into(),
        at: time(9),
    }
}

#[test]
fn small_object_vectors() {
    settle_plain("tombstone", "Payload of kind 7. FORMAT.md section 9.3.", &[("by its writer", tombstone())]);
    let condemned = Condemned {
        packs: vec![PackId([1; 32]), PackId([2; 32])],
        by: WRITER,
        oldest_session: time(0),
        at: time(1),
        reason: "no point needs them".into(),
        put_before: time(3600),
        spared: Vec::new(),
        gone: Vec::new(),
        sparse: None,
    };
    let spared = Condemned {
        packs: Vec::new(),
        spared: vec![PackId([1; 32])],
        reason: "a point needs them".into(),
        ..condemned.clone()
    };
    let sparse = Condemned {
        packs: Vec::new(),
        gone: vec![PackId([2; 32])],
        sparse: Some(vec![SparseBlobs { pack: PackId([3; 32]), offsets: vec![0, 70_000] }]),
        reason: "mostly dead blobs".into(),
        ..condemned.clone()
    };
    settle_plain(
        "condemned",
        "Payload of kind 8. FORMAT.md section 9.4.",
        &[
            ("two packs", condemned),
            ("one is spared", spared),
            ("one is gone, two blobs are mostly dead", sparse),
        ],
    );
    let received = Received {
        name: layout::point(&ulid(1)).to_string(),
        size: 700,
        stored_at: Time::new(1_767_225_600, 0),
    };
    settle_plain(
        "receipt",
        "Payload of kind 9. FORMAT.md section 9.5.",
        &[("one object", Receipt { by: WRITER, objects: vec![received] })],
    );
    let lease = Lease {
        name: "prune".into(),
        id: ulid(4),
        holder: WRITER,
        lasts_secs: 600,
        state: LeaseState::Held,
        at: time(0),
    };
    let released = Lease { state: LeaseState::Released, ..lease.clone() };
    settle_plain(
        "lease",
        "Payload of kind 10. FORMAT.md section 9.6.",
        &[("held", lease), ("released", released)],
    );
    let first =
        Audit { party: WRITER, seq: 1, previous: None, at: time(0), action: "backup".into(), detail: vec![] };
    let next = Audit {
        seq: 2,
        previous: Some(Hash(*blake3::hash(&cbor::encode(&first)).as_bytes())),
        detail: vec![Detail { name: "point".into(), value: ulid(2).to_string() }],
        ..first.clone()
    };
    settle_plain(
        "audit",
        "Payload of kind 11; the second names the hash of the first. FORMAT.md section 10.",
        &[("the first", first), ("the second", next)],
    );
}

pub fn trusted() -> Trusted {
    let (name, bytes) = sign_config(&config(b"sealed".to_vec()), &root_key());
    verify_chain(vec![ConfigObject { name, bytes }], &Pin { root: Some(root_key().public()), lowest: 0 })
        .unwrap()
}

pub fn evidence() -> Evidence {
    Evidence {
        version: 1,
        repository: REPOSITORY.to_string(),
        id: ulid(5).to_string(),
        kind: EvidenceKind::Drill,
        point: Some(ulid(2).to_string()),
        point_hash: Some(hash(1).to_string()),
        started: "2026-01-01T00:00:00Z".into(),
        ended: "2026-01-01T00:05:00Z".into(),
        verdict: Verdict::CannotTell,
        rto_seconds: Some(300),
        rpo_seconds: Some(3600),
        sources: vec![
            EvidenceSource {
                name: "docs".into(),
                kind: "files".into(),
                verdict: Verdict::Same,
                checks: 12,
                failed: 0,
            },
            EvidenceSource {
                name: "db".into(),
                kind: "command".into(),
                verdict: Verdict::CannotTell,
                checks: 1,
                failed: 0,
            },
        ],
        detail_hash: Some(hash(2).to_string()),
    }
}

#[test]
fn evidence_vectors() {
    let runbook = Evidence {
        kind: EvidenceKind::Runbook,
        verdict: Verdict::Different,
        point: None,
        point_hash: None,
        rto_seconds: None,
        rpo_seconds: None,
        sources: vec![],
        detail_hash: None,
        ..evidence()
    };
    let cases = [("a drill", evidence()), ("a runbook that restored nothing", runbook)];
    let block = |(name, value): &(&str, Evidence)| {
        let payload = serde_json::to_string(value).unwrap();
        Block::new(name)
            .hex("seed", &[0x33; 32])
            .hex("public key", &drill_key().public().0)
            .with("payload", &payload)
            .hex("message", &pae(payload.as_bytes()))
            .with("dsse", String::from_utf8(value.sign(&drill_key()).unwrap()).unwrap())
            .means(serde_json::to_value(value).unwrap())
    };
    settle(
        "evidence",
        "Evidence: DSSE over the payload; the message is DSSE's PAE, the signature Ed25519 of the seed.\nFORMAT.md section 10.",
        &cases.iter().map(block).collect::<Vec<_>>(),
    );
    let stands = old("evidence");
    for (name, value) in cases {
        let block = &stands[name];
        let (read, signer) = Evidence::verify(block.get("dsse").as_bytes(), &ulid(5), &trusted()).unwrap();
        assert_eq!((read, signer), (value.clone(), DRILL));
        let dsse: Value = serde_json::from_str(block.get("dsse")).unwrap();
        use base64::Engine as _;
        let decode =
            |text: &Value| base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap();
        assert_eq!(decode(&dsse["payload"]), block.get("payload").as_bytes());
        let key = VerifyingKey::try_from(&block.bytes("public key")[..]).unwrap();
        let sig = Signature::from_slice(&decode(&dsse["signatures"][0]["sig"])).unwrap();
        // The message from DSSE's words: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body.
        let kind = "application/vnd.muster.evidence.v1+json";
        let message =
            format!("DSSEv1 {} {kind} {} {}", kind.len(), block.get("payload").len(), block.get("payload"));
        assert_eq!(message.as_bytes(), block.bytes("message"));
        key.verify_strict(message.as_bytes(), &sig).unwrap();
        assert_eq!(serde_json::to_value(value).unwrap(), block.means.clone().unwrap());
    }
}

#[test]
fn padding_vectors() {
    let lengths = [
        0,
        1,
        55,
        56,
        57,
        63,
        64,
        65,
        120,
        121,
        127,
        128,
        1000,
        8191,
        16_383,
        16_384,
        16_385,
        16_504,
        16_505,
        100_000,
        262_144,
        1_000_000,
        1 << 20,
        (1 << 20) + 1,
        4_194_304,
        8_000_001,
    ];
    let blocks: Vec<Block> = lengths
        .iter()
        .map(|len| Block::new(&format!("{len} bytes")).with("length", len).with("padded", padded_len(*len)))
        .collect();
    settle("padding", "Length of a zstd frame, and what it is padded to. FORMAT.md section 3.1.", &blocks);
    for block in old("padding").values() {
        // From the specification's words.
        let len: usize = block.get("length").parse().unwrap();
        let step = 1 << (len.checked_ilog2().unwrap_or(0) as i32 - 7).max(6);
        let padded = (len..).find(|n| n % step == 0 && (*n == len || *n >= len + 8)).unwrap();
        assert_eq!(block.get("padded"), padded.to_string(), "{len}");
    }
}

#[test]
fn derived_key_vectors() {
    let derive = |context: &str| blake3::derive_key(context, &master()[..]);
    let gear_bytes = |context: &str| {
        let mut bytes = [0; 2048];
        blake3::Hasher::new_derive_key(context).update(&master()[..]).finalize_xof().fill(&mut bytes);
        bytes
    };
    let mut keys = Block::new("derived keys").hex("master secret", &master()[..]);
    for context in [
        "muster v1 chunk id data",
        "muster v1 chunk id meta",
        "muster v1 tree cut",
        "muster v1 facts",
        "muster v1 signatures",
    ] {
        keys = keys.hex(context, &derive(context));
    }
    let mut blocks = vec![keys];
    for context in ["muster v1 gear bulk", "muster v1 gear fine"] {
        let words = gear_bytes(context)
            .chunks(8)
            .take(4)
            .map(|w| u64::from_le_bytes(w.try_into().unwrap()))
            .collect::<Vec<_>>();
        blocks.push(Block::new(context).hex("first bytes", &gear_bytes(context)[..32]).means(json!(words)));
    }
    let derived = Derived::new(&master());
    for (name, bytes) in [("empty chunk", &b""[..]), ("chunk", b"the first chunk")] {
        blocks.push(
            Block::new(name)
                .hex("bytes", bytes)
                .with("as data", derived.chunk_id(PackKind::Data, bytes))
                .with("as metadata", derived.chunk_id(PackKind::Meta, bytes)),
        );
        assert_eq!(
            derived.chunk_id(PackKind::Data, bytes).0,
            *blake3::keyed_hash(&derive("muster v1 chunk id data"), bytes).as_bytes()
        );
        assert_eq!(
            derived.chunk_id(PackKind::Meta, bytes).0,
            *blake3::keyed_hash(&derive("muster v1 chunk id meta"), bytes).as_bytes()
        );
    }
    let material = (0u16..).map(u16::to_le_bytes).find(|m| derived.cuts_after(m)).unwrap();
    assert_eq!(blake3::keyed_hash(&derive("muster v1 tree cut"), &material).as_bytes()[0], 0);
    blocks.push(
        Block::new("the first 16-bit number after which a page may be cut").hex("cut material", &material),
    );
    let input = noise(7, 9 << 20);
    for (name, context, class, sizes) in [
        ("cuts, bulk", "muster v1 gear bulk", ChunkClass::Bulk, Sizes::BULK),
        ("cuts, fine", "muster v1 gear fine", ChunkClass::Fine, Sizes::FINE),
    ] {
        let data = if class == ChunkClass::Bulk { &input[..] } else { &input[..1 << 20] };
        let cuts = |gear: &Gear| {
            let (mut at, mut cuts) = (0, Vec::new());
            while at < data.len() {
                at += first_cut(&data[at..], gear, sizes);
                cuts.push(at);
            }
            cuts
        };
        let found = cuts(derived.gear(class));
        assert_eq!(found, cuts(&Gear::from_bytes(&gear_bytes(context))));
        assert_eq!(found, cuts_by_the_words(data, &gear_bytes(context), sizes));
        blocks.push(
            Block::new(name)
                .with(
                    "input",
                    format!(
                        "the first {} bytes of the XOF output of BLAKE3, keyed with 32 bytes 07, of nothing",
                        data.len()
                    ),
                )
                .hex("BLAKE3 of the input", blake3::hash(data).as_bytes())
                .means(json!(found)),
        );
    }
    settle(
        "derived",
        "What follows from a master secret: keys, the first words of both gear tables, chunk ids, cut points\n(where chunks end). FORMAT.md section 4.",
        &blocks,
    );
}

/// Where chunks end, written from the specification's words, slowly.
fn cuts_by_the_words(data: &[u8], gear: &[u8; 2048], sizes: Sizes) -> Vec<usize> {
    let word = |byte: u8| u64::from_le_bytes(gear[usize::from(byte) * 8..][..8].try_into().unwrap());
    let (min, avg, max) = (sizes.min as usize, sizes.avg as usize, sizes.max as usize);
    let bits = avg.ilog2();
    let (mut start, mut cuts) = (0, Vec::new());
    while start < data.len() {
        let mut h = 0u64;
        let mut length = (data.len() - start).min(max);
        for i in min..length {
            h = (h << 1).wrapping_add(word(data[start + i]));
            let top = if i < avg { bits + 2 } else { bits - 2 };
            if h >> (64 - top) == 0 {
                length = i + 1;
                break;
            }
        }
        start += length;
        cuts.push(start);
    }
    cuts
}

#[test]
fn locator_vectors() {
    let blocks = [
        Block::new("pack, directory of 1,000 bytes")
            .hex("bytes", &locator(1000, PACK_MAGIC).unwrap())
            .means(json!(1000)),
        Block::new("index, root of 70,000 bytes")
            .hex("bytes", &locator(70_000, INDEX_MAGIC).unwrap())
            .means(json!(70_000)),
    ];
    settle(
        "locator",
        "The last 16 bytes of packs and index objects, and what length they tell. FORMAT.md sections 6 and 7.",
        &blocks,
    );
    let stands = old("locator");
    for (name, magic) in [(blocks[0].name(), PACK_MAGIC), (blocks[1].name(), INDEX_MAGIC)] {
        let block = &stands[name];
        assert_eq!(Some(json!(parse_locator(&block.bytes("bytes"), magic).unwrap())), block.means);
    }
}

#[test]
fn frame_vectors() {
    let name = "hello, padded and sealed";
    let open =
        |sealed: &[u8]| seal::open(&mut zstd(), &meta_epoch(), sealed, 100).is_ok_and(|p| p == b"hello");
    let before = old("sealed").get(name).map(|b| b.bytes("sealed"));
    let sealed = before
        .filter(|s| open(s))
        .unwrap_or_else(|| seal::seal(&mut zstd(), &meta_epoch().to_public(), b"hello").unwrap());
    let frame = seal::decrypt(&[&meta_epoch()], &sealed).unwrap();
    let block = Block::new(name)
        .with("identity", secret(&meta_epoch()))
        .hex("plain", b"hello")
        .hex("zstd frame and padding", &frame)
        .hex("sealed", &sealed);
    settle(
        "sealed",
        "Sealed bytes: `age -d` gives the padded frame, `zstd -d` the plain bytes. FORMAT.md section 3.1.",
        &[block],
    );
    let stands = old("sealed").remove(name).unwrap();
    assert!(open(&stands.bytes("sealed")));
    assert_eq!(
        zstd().decompress(&stands.bytes("zstd frame and padding"), 100).unwrap(),
        stands.bytes("plain")
    );
}
