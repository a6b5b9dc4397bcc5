//! Writes what no honest Muster writes, validly sealed and signed with a writer's real keys.

use age::x25519;
use muster::model::{Attrs, ChunkId, Entry, EntryKind, EntryPath, EpochId, PackId, Time, TreeRef, Ulid};
use muster::repo::cbor;
use muster::repo::format::{BlobChunk, EpochKind, Point, PointSource, Predecessor};
use muster::repo::index::{Location, Row, build_object};
use muster::repo::layout::{self, PackKind};
use muster::repo::pack::{PackBuilder, SealedBlob};
use muster::repo::points::PointList;
use muster::repo::repository::Repository;
use muster::repo::seal::{self, Zstd};
use muster::repo::tree::{Page, Record};

use super::world::{Who, World};

/// Makes points of one repository.
pub struct Forge<'w> {
    pub world: &'w World,
    pub repo: Repository,
    zstd: Zstd,
    next: u8,
}

impl<'w> Forge<'w> {
    pub fn new(world: &'w World) -> Self {
        Self { world, repo: world.open(Who::Both), zstd: Zstd::new(3).unwrap(), next: 1 }
    }

    pub fn points(&self) -> PointList {
        self.repo.points().unwrap()
    }

    fn epoch(&self, kind: PackKind) -> (EpochId, x25519::Recipient) {
        let kind = if kind == PackKind::Data { EpochKind::Data } else { EpochKind::Meta };
        let (id, recipient) = self.repo.current_epoch(kind).unwrap();
        (id, recipient.clone())
    }

    /// Stores one chunk in a pack of its own.
    pub fn chunk(&mut self, kind: PackKind, bytes: &[u8]) -> ChunkId {
        let id = self.repo.derived().chunk_id(kind, bytes);
        let frame = self.zstd.compress(bytes).unwrap();
        let sealed = seal::encrypt(&self.epoch(kind).1, &frame).unwrap();
        self.sealed(kind, id, bytes.len() as u32, sealed, |_| {})
    }

    /// Stores these sealed bytes as the blob of chunk `id`; `lie` may change the index's rows.
    pub fn sealed(
        &mut self,
        kind: PackKind,
        id: ChunkId,
        len: u32,
        sealed: Vec<u8>,
        lie: impl Fn(&mut Row),
    ) -> ChunkId {
        let key = self.world.host_keys().sign;
        let (epoch, _) = self.epoch(kind);
        let (_, meta) = self.epoch(PackKind::Meta);
        let blob = SealedBlob::new(sealed, epoch, vec![BlobChunk { id, len }], &key, self.repo.id()).unwrap();
        let mut pack = PackBuilder::new(kind);
        pack.push(blob);
        let pack = pack.finish(&mut self.zstd, &meta, &key, self.repo.id()).unwrap();
        let parts: Vec<&[u8]> = pack.parts.iter().map(Vec::as_slice).collect();
        self.repo.store().put(&layout::pack(kind, &pack.id), &parts).unwrap();
        let sealed_len = pack.records[0].sealed_len;
        let at =
            Location { pack: pack.id, kind, epoch, offset: 0, sealed_len, opened_len: len, start: 0, len };
        let mut row = Row { id, at };
        lie(&mut row);
        let size = |_: &PackId| pack.size;
        let rows = std::iter::once(Ok(row));
        let by = muster::repo::index::SignAndSeal { meta: &meta, key: &key, repository: self.repo.id() };
        let object = build_object(rows, Vec::new(), key.party(), &size, &mut self.zstd, &by).unwrap();
        self.repo.put_index(&object).unwrap();
        id
    }

    /// Seals to the current epoch of a kind, as a blob is sealed.
    pub fn seal_frame(&self, kind: PackKind, frame: &[u8]) -> Vec<u8> {
        seal::encrypt(&self.epoch(kind).1, frame).unwrap()
    }

    /// Seals to very many recipients: a header that is slow to read.
    pub fn seal_to_many(&self, kind: PackKind, plain: &[u8], stanzas: usize) -> Vec<u8> {
        use std::io::Write;
        let recipient = self.epoch(kind).1;
        let all = std::iter::repeat_n(&recipient as &dyn age::Recipient, stanzas);
        let mut sealed = Vec::new();
        let mut writer = age::Encryptor::with_recipients(all).unwrap().wrap_output(&mut sealed).unwrap();
        writer.write_all(plain).unwrap();
        writer.finish().unwrap();
        sealed
    }

    /// Stores a tree page.
    pub fn page<R: Record>(&mut self, level: u8, records: Vec<R>) -> ChunkId {
        self.chunk(PackKind::Meta, &cbor::encode(&Page { level, records }))
    }

    /// A catalogue in one page, whatever its entries are.
    pub fn catalogue(&mut self, entries: Vec<Entry>) -> TreeRef {
        let (records, bytes) =
            (entries.len() as u64, entries.iter().fold(0u64, |sum, e| sum.saturating_add(e.size)));
        TreeRef { root: self.page(0, entries), level: 0, records, bytes }
    }

    /// A point of job `app` like the newest, with another catalogue; its name.
    pub fn point(&mut self, catalogue: TreeRef) -> String {
        let list = self.points();
        let newest = list.newest(None).unwrap();
        let source = PointSource {
            items: catalogue.records,
            catalogue: Some(catalogue),
            ..newest.point.sources[0].clone()
        };
        self.next += 1;
        let point = Point {
            id: Ulid::new(Time::from_unix_millis(1_800_000_000_000 + i64::from(self.next)), [self.next; 10]),
            seq: newest.point.seq + 1,
            predecessor: Some(Predecessor { id: newest.point.id, hash: newest.hash }),
            commit_before: Time::from_unix_millis(4_000_000_000_000),
            sources: vec![source],
            ..newest.point.clone()
        };
        self.repo.put_point(&point).unwrap();
        point.id.to_string()
    }

    /// The entries of the newest point's first source.
    pub fn honest_entries(&self) -> Vec<Entry> {
        let (index, _) = muster::repo::index::Index::sync(&self.repo).unwrap();
        let reader = muster::repo::reader::Reader::new(&self.repo, &index, 8 << 20);
        let list = self.points();
        let tree = list.newest(None).unwrap().point.sources[0].catalogue.clone().unwrap();
        let mut entries = Vec::new();
        reader
            .catalogue(&tree, &Default::default(), &mut |entry| {
                entries.push(entry);
                Ok(())
            })
            .unwrap();
        entries
    }
}

/// A path of any bytes, as its stored form.
pub fn raw_path(bytes: &[u8]) -> EntryPath {
    minicbor::decode(&minicbor::to_vec(<&minicbor::bytes::ByteSlice>::from(bytes)).unwrap()).unwrap()
}

/// An honest path.
pub fn path(text: &str) -> EntryPath {
    EntryPath::from_display(text.as_bytes()).unwrap()
}

pub fn entry(path: EntryPath, kind: EntryKind) -> Entry {
    let attrs = Attrs { mode: 0o755, mtime: Time::from_unix_millis(1), nlink: 1, ..Attrs::default() };
    Entry { attrs: Some(attrs), ..Entry::new(path, kind) }
}
