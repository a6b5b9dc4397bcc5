//! Grows a repository that `muster init` and one `muster backup` made in a folder to millions of chunks and
//! thousands of points: `cargo bench --bench scale -- STORE KEY_FILE CACHE CHUNKS POINTS`.
//!
//! Metadata is real: points, catalogues, recipes and index objects, sealed and signed. Packs of data are sparse
//! files of the right size, for nothing that is measured here opens them. `scripts/bench scale` runs this.
//!
//! The world: a source of large files. Each point writes some of them anew in one place, as a database does.

use std::collections::{HashMap, HashSet};
use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use age::x25519;
use muster::model::{
    Attrs, ChunkId, Content, Entry, EntryKind, EntryPath, EpochId, Extent, PackId, Result, Secret, Time,
    TreeRef, Ulid,
};
use muster::repo::format::{BlobChunk, EpochKind, Point, PointSource, Predecessor, SessionState};
use muster::repo::index::{Location, Row, SignAndSeal, build_object};
use muster::repo::keys::{HostKeys, Identities};
use muster::repo::layout::{self, PackKind};
use muster::repo::limits::{GROUP_MAX_BYTES, PACK_TARGET_BYTES};
use muster::repo::pack::{PackBuilder, SealedBlob};
use muster::repo::pipeline::pack_rows;
use muster::repo::repository::{OpenWith, Repository};
use muster::repo::seal::{Zstd, encrypt};
use muster::repo::sign::SignKey;
use muster::repo::tree::{PageSink, TreeWriter};
use muster::repo::trust::Pin;
use muster::stores::Local;

const CHUNK_BYTES: u32 = 16 << 10;
const CHUNKS_IN_BLOB: u32 = 64;
const BLOBS_IN_PACK: u32 = 32;
/// A sealed blob of that much: what age adds, and what no compressor saved.
const SEALED_BYTES: u32 = CHUNK_BYTES * CHUNKS_IN_BLOB + 1024;

const FILES: usize = 2_000;
/// Of how many files a point writes a part anew.
const FILES_CHANGED: usize = 5;
/// Rows of an index object, about those of some weeks of backups.
const ROWS_IN_OBJECT: usize = 400_000;
const AGE: Duration = Duration::from_secs(40 * 86_400);

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// Writes index objects, and packs of metadata.
struct Maker<'r> {
    repo: &'r Repository,
    key: &'r SignKey,
    store: PathBuf,
    meta: (EpochId, x25519::Recipient),
    data: EpochId,
    zstd: Zstd,
    pages: HashSet<ChunkId>,
    group: Vec<u8>,
    in_group: Vec<BlobChunk>,
    pack: PackBuilder,
    rows: Vec<Row>,
    sizes: HashMap<PackId, u64>,
    chunks: u64,
    index_objects: usize,
    page_bytes: u64,
}

impl PageSink for Maker<'_> {
    fn store(&mut self, page: Vec<u8>) -> Result<ChunkId> {
        let id = self.repo.derived().chunk_id(PackKind::Meta, &page);
        if self.pages.insert(id) {
            self.page_bytes += page.len() as u64;
            self.group.extend_from_slice(&page);
            self.in_group.push(BlobChunk { id, len: page.len() as u32 });
            if self.group.len() >= GROUP_MAX_BYTES {
                self.seal_group()?;
            }
        }
        Ok(id)
    }

    fn cuts_after(&self, material: &[u8]) -> bool {
        self.repo.derived().cuts_after(material)
    }
}

impl<'r> Maker<'r> {
    fn new(repo: &'r Repository, key: &'r SignKey, store: &Path) -> Result<Self> {
        let (id, recipient) = repo.current_epoch(EpochKind::Meta)?;
        Ok(Self {
            repo,
            key,
            store: store.to_owned(),
            meta: (id, recipient.clone()),
            data: repo.current_epoch(EpochKind::Data)?.0,
            zstd: Zstd::new(1)?,
            pages: HashSet::new(),
            group: Vec::new(),
            in_group: Vec::new(),
            pack: PackBuilder::new(PackKind::Meta),
            rows: Vec::new(),
            sizes: HashMap::new(),
            chunks: 0,
            index_objects: 0,
            page_bytes: 0,
        })
    }

    fn seal_group(&mut self) -> Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        let frame = self.zstd.compress(&self.group)?;
        let chunks = std::mem::take(&mut self.in_group);
        self.group.clear();
        let sealed = encrypt(&self.meta.1, &frame)?;
        self.pack.push(SealedBlob::new(sealed, self.meta.0, chunks, self.key, self.repo.id())?);
        if self.pack.len() >= PACK_TARGET_BYTES { self.store_pack() } else { Ok(()) }
    }

    fn store_pack(&mut self) -> Result<()> {
        if self.pack.is_empty() {
            return Ok(());
        }
        let pack = std::mem::replace(&mut self.pack, PackBuilder::new(PackKind::Meta));
        let pack = pack.finish(&mut self.zstd, &self.meta.1, self.key, self.repo.id())?;
        let parts: Vec<&[u8]> = pack.parts.iter().map(Vec::as_slice).collect();
        self.repo.store().put(&layout::pack(PackKind::Meta, &pack.id), &parts)?;
        self.rows.extend(pack_rows(pack.id, PackKind::Meta, &pack.records));
        self.sizes.insert(pack.id, pack.size);
        Ok(())
    }

    /// The next chunk of data, which lies in a pack of zeros.
    fn chunk(&mut self) -> Result<ChunkId> {
        let number = self.chunks;
        self.chunks += 1;
        let per_pack = u64::from(CHUNKS_IN_BLOB * BLOBS_IN_PACK);
        let pack = PackId(*blake3::hash(format!("pack {}", number / per_pack).as_bytes()).as_bytes());
        let in_pack = (number % per_pack) as u32;
        if in_pack == 0 {
            let size = u64::from(SEALED_BYTES) * u64::from(BLOBS_IN_PACK) + 4096;
            let path = self.store.join(layout::pack(PackKind::Data, &pack).as_str());
            std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder");
            File::create(&path).and_then(|file| file.set_len(size)).expect("a sparse file");
            self.sizes.insert(pack, size);
        }
        let id = ChunkId(*blake3::hash(format!("chunk {number}").as_bytes()).as_bytes());
        let at = Location {
            pack,
            kind: PackKind::Data,
            epoch: self.data,
            offset: in_pack / CHUNKS_IN_BLOB * SEALED_BYTES,
            sealed_len: SEALED_BYTES,
            opened_len: CHUNK_BYTES * CHUNKS_IN_BLOB,
            start: in_pack % CHUNKS_IN_BLOB * CHUNK_BYTES,
            len: CHUNK_BYTES,
        };
        self.rows.push(Row { id, at });
        Ok(id)
    }

    fn store_index(&mut self, at_least: usize) -> Result<()> {
        if self.rows.len() < at_least {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by_key(Row::key);
        let sizes = &self.sizes;
        let by = SignAndSeal { meta: &self.meta.1, key: self.key, repository: self.repo.id() };
        let each = rows.into_iter().map(Ok);
        let object = build_object(each, Vec::new(), self.key.party(), &|id| sizes[id], &mut self.zstd, &by)?;
        self.repo.put_index(&object)?;
        self.index_objects += 1;
        Ok(())
    }

    fn recipe(&mut self, chunks: &[ChunkId]) -> Result<TreeRef> {
        let mut tree = TreeWriter::default();
        for id in chunks {
            tree.push(Extent::Chunk { id: *id, start: 0, len: CHUNK_BYTES }, self)?;
        }
        tree.finish(self)
    }

    fn catalogue(&mut self, files: &[LargeFile]) -> Result<TreeRef> {
        let mut tree = TreeWriter::default();
        for (number, file) in files.iter().enumerate() {
            let path = EntryPath::from_display(format!("base/{:03}/{number:06}", number / 100).as_bytes())
                .expect("a good path");
            let attrs = Attrs { mode: 0o600, mtime: file.changed, nlink: 1, ..Attrs::default() };
            let entry = Entry {
                size: file.chunks.len() as u64 * u64::from(CHUNK_BYTES),
                attrs: Some(attrs),
                content: Some(Content::Tree(file.recipe.clone())),
                ..Entry::new(path, EntryKind::File)
            };
            tree.push(entry, self)?;
        }
        tree.finish(self)
    }
}

struct LargeFile {
    chunks: Vec<ChunkId>,
    recipe: TreeRef,
    changed: Time,
}

fn grow(maker: &mut Maker<'_>, chunks: u64, points: u64) -> Result<()> {
    let list = maker.repo.points()?;
    let first = list.newest(None).expect("a backup was made");
    let (mut before, mut hash) = (first.point.clone(), first.hash);
    let base = chunks / 2;
    let mut files = Vec::with_capacity(FILES);
    for _ in 0..FILES {
        let ids: Vec<ChunkId> = (0..base / FILES as u64).map(|_| maker.chunk()).collect::<Result<_>>()?;
        let recipe = maker.recipe(&ids)?;
        files.push(LargeFile { chunks: ids, recipe, changed: before.started });
        maker.store_index(ROWS_IN_OBJECT)?;
    }
    let mut dice = Dice(7);
    for number in 0..points {
        let time = before.started.plus_secs(1);
        let until = base + (chunks - base) * (number + 1) / points;
        for left in (1..=FILES_CHANGED).rev() {
            let file = &mut files[dice.below(FILES)];
            let run = ((until - maker.chunks) / left as u64) as usize;
            let from = dice.below(file.chunks.len());
            for at in from..from + run {
                let at = at % file.chunks.len();
                file.chunks[at] = maker.chunk()?;
            }
            file.recipe = maker.recipe(&file.chunks)?;
            file.changed = time;
        }
        let catalogue = maker.catalogue(&files)?;
        let point = next_point(&before, hash, catalogue, time);
        let session = maker.repo.session(point.session, &point.job, 0, SessionState::Ended, point.started)?;
        maker.repo.put_session(&session)?;
        hash = maker.repo.put_point(&point)?;
        before = point;
        maker.store_index(ROWS_IN_OBJECT)?;
        if (number + 1) % 500 == 0 {
            eprintln!("{} points, {} chunks", number + 1, maker.chunks);
        }
    }
    maker.seal_group()?;
    maker.store_pack()?;
    maker.store_index(1)
}

fn next_point(before: &Point, hash: muster::model::Hash, catalogue: TreeRef, time: Time) -> Point {
    let mut random = [0; 10];
    random.copy_from_slice(&blake3::hash(&before.id.0).as_bytes()[..10]);
    let id = Ulid::new(time, random);
    let source = PointSource {
        items: catalogue.records,
        bytes: catalogue.bytes,
        catalogue: Some(catalogue),
        ..before.sources[0].clone()
    };
    Point {
        id,
        session: id,
        seq: before.seq + 1,
        predecessor: Some(Predecessor { id: before.id, hash }),
        commit_before: before.commit_before.plus_secs(86_400),
        started: time,
        ended: time,
        sources: vec![source],
        ..before.clone()
    }
}

/// All of it was stored long ago: no session is young, and no list may lag.
fn make_old(folder: &Path) -> std::io::Result<()> {
    for found in std::fs::read_dir(folder)? {
        let found = found?;
        if found.file_type()?.is_dir() {
            make_old(&found.path())?;
        } else {
            let file = File::options().write(true).open(found.path())?;
            let time = file.metadata()?.modified()?.checked_sub(AGE).unwrap_or(SystemTime::UNIX_EPOCH);
            file.set_times(FileTimes::new().set_modified(time))?;
        }
    }
    Ok(())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // `cargo test --benches` runs this too, and asks for nothing.
    let [store, key_file, cache, chunks, points] = &args[..] else {
        return;
    };
    let keys = Secret::new(std::fs::read_to_string(key_file).expect("the host's keys"));
    let host = HostKeys::parse(&keys).expect("the host's keys");
    let signs = HostKeys::parse(&keys).expect("the host's keys");
    let with = OpenWith {
        pin: Pin { root: None, lowest: 0 },
        host: Some(host),
        identities: &Identities::default(),
        cache_root: cache.into(),
        compression_level: 1,
    };
    let at = Path::new(store);
    let repo = Repository::open(Arc::new(Local::open(at).expect("the store")), with).expect("it opens");
    let mut maker = Maker::new(&repo, &signs.sign, at).expect("keys");
    grow(&mut maker, chunks.parse().expect("a number"), points.parse().expect("a number")).expect("it grows");
    println!(
        "{} chunks of data, {} pages of metadata ({} MiB), {} index objects",
        maker.chunks,
        maker.pages.len(),
        maker.page_bytes >> 20,
        maker.index_objects
    );
    make_old(at).expect("times");
}
