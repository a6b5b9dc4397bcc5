//! A small set of sources, a repository in memory, and ways to look at it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use muster::jobs::backup::{BackupRequest, backup};
use muster::jobs::hooks::Hooks;
use muster::model::{ChunkClass, ChunkId, Entry, EntryKind, EntryPath, PackId, RepositoryId, Result, Time};
use muster::ports::{
    Cancel, CaptureReader, CaptureReport, CaptureSink, Clock, Finding, RestoreReport, RestoreRequest,
    RestoreTarget, Selection, Source, Store, StreamContent, StreamSink, StreamWriter, VerifyReport,
};
use muster::repo::format::Point;
use muster::repo::index::Index;
use muster::repo::index::object::open_root;
use muster::repo::keys::{HostKeys, Identities, RecoveryKit};
use muster::repo::layout::{self, PackKind};
use muster::repo::reader::{Reader, SourceReader};
use muster::repo::repository::{NewRepository, OpenWith, Repository, create};
use muster::repo::trust::Pin;
use muster::report::outcome::Backup;
use muster::report::progress::{Progress, ProgressMode};
use muster::stores::Mem;
use muster::sys::{OsEntropy, RealClock, RealProcess};

/// Paths and contents of one source.
pub type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// A source that gives what it was made with.
pub struct Fixed {
    pub name: &'static str,
    pub files: Files,
}

struct Bytes(Arc<Vec<u8>>);

impl StreamContent for Bytes {
    fn read(&mut self, _: &mut Entry, out: &mut dyn StreamWriter) -> Result<()> {
        out.write(&self.0)
    }
}

impl Source for Fixed {
    fn name(&self) -> &str {
        self.name
    }
    fn kind(&self) -> &'static str {
        "fixed"
    }
    fn probe(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }
    fn capture(&self, sink: &mut dyn CaptureSink, cancel: &Cancel) -> Result<CaptureReport> {
        for (path, content) in &self.files {
            cancel.check()?;
            let path = EntryPath::from_display(path.as_bytes()).unwrap();
            sink.previous(&path)?;
            let entry = Entry::new(path, EntryKind::File);
            sink.add_stream(entry, ChunkClass::Bulk, content.len() as u64, Box::new(Bytes(content.clone())))?;
        }
        Ok(CaptureReport { facts: self.name.as_bytes().to_vec(), ..CaptureReport::default() })
    }
    fn restore(&self, _: &dyn CaptureReader, _: &RestoreRequest, _: &Cancel) -> Result<RestoreReport> {
        unreachable!("read through CaptureReader")
    }
    fn verify(&self, _: &dyn CaptureReader, _: &RestoreTarget, _: &Cancel) -> Result<VerifyReport> {
        unreachable!("read through CaptureReader")
    }
}

/// What is backed up: each source's name and files.
#[derive(Clone, PartialEq)]
pub struct Set(pub [(&'static str, Files); 2]);

impl Set {
    /// Small files, `pieces` of those that make a blob and so a pack each, and an empty one;
    /// `version` changes most of them.
    pub fn version(version: u64, pieces: u64) -> Self {
        let noise = |seed: u64, len: usize| {
            let mut bytes = vec![0; len];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
            Arc::new(bytes)
        };
        let piece = |seed: u64| noise(seed + version * 1_000_000, 530 << 10);
        let mut first: Files =
            (0..20).map(|n| (format!("small/{n:02}"), noise(n, 3000 + n as usize))).collect();
        first.extend((0..pieces).map(|n| (format!("large/{n:03}"), piece(1000 + n))));
        first.insert("same".to_owned(), noise(99, 530 << 10));
        first.insert("small/changes".to_owned(), noise(500 + version, 500));
        let mut second: Files = (0..pieces / 2).map(|n| (format!("part/{n:03}"), piece(2000 + n))).collect();
        second.insert("empty".to_owned(), Arc::new(Vec::new()));
        second.insert("zeros".to_owned(), Arc::new(vec![0; 600 << 10]));
        Self([("first", first), ("second", second)])
    }

    fn sources(&self) -> Vec<Box<dyn Source>> {
        self.0
            .iter()
            .map(|(name, files)| Box::new(Fixed { name, files: files.clone() }) as Box<dyn Source>)
            .collect()
    }
}

/// Keys of a repository in memory.
pub struct Keys {
    kit: RecoveryKit,
    writer: String,
}

impl Keys {
    pub fn new() -> Self {
        let writer = HostKeys::generate(&OsEntropy).unwrap().to_file("test").expose().clone();
        Self { kit: RecoveryKit::generate(&OsEntropy).unwrap(), writer }
    }

    fn host(&self) -> HostKeys {
        HostKeys::parse(&muster::model::Secret::new(self.writer.clone())).unwrap()
    }

    /// A repository in a new store in memory.
    pub fn create(&self) -> Arc<Mem> {
        let mem = Arc::new(Mem::default());
        self.create_in(&*mem);
        mem
    }

    /// A repository in this store.
    pub fn create_in(&self, store: &dyn Store) {
        let writer = self.host();
        let new = NewRepository {
            kit: &self.kit,
            id: RepositoryId([7; 16]),
            writer: &writer,
            writer_label: "test".to_owned(),
            recipients: Vec::new(),
        };
        create(store, &new, age::NoCallbacks, &OsEntropy, &RealClock).unwrap();
    }

    /// Opens it as the host, or as the host with the kit.
    pub fn open(&self, store: Arc<dyn Store>, cache: &std::path::Path, with_kit: bool) -> Result<Repository> {
        let mut identities = Identities::default();
        if with_kit {
            let text = self.kit.to_file(&RepositoryId([7; 16]), "mem:", "now");
            let bytes = muster::model::Secret::new(text.expose().clone().into_bytes());
            identities.add_file(&bytes, "kit", age::NoCallbacks).unwrap();
        }
        let with = OpenWith {
            pin: Pin { root: Some(self.kit.root.public()), lowest: 0 },
            host: Some(self.host()),
            identities: &identities,
            cache_root: cache.to_owned(),
            compression_level: 1,
        };
        Repository::open(store, with)
    }
}

/// Times of the test store: a point must not be void because the test's clock is another.
pub struct StoreClock;

impl Clock for StoreClock {
    fn now(&self) -> Time {
        Time::from_unix_millis(1_767_225_600_000)
    }
}

/// Runs a backup with so little memory that several packs and index objects come to be.
pub fn run(repo: &Repository, set: &Set, memory_bytes: u64) -> Result<Backup> {
    run_with(repo, set, memory_bytes, 2)
}

/// As [`run`], with so many threads.
pub fn run_with(repo: &Repository, set: &Set, memory_bytes: u64, threads: usize) -> Result<Backup> {
    run_at(repo, set, memory_bytes, threads, &StoreClock)
}

/// As [`run_with`], on a host whose clock is `clock`.
pub fn run_at(
    repo: &Repository,
    set: &Set,
    memory_bytes: u64,
    threads: usize,
    clock: &dyn Clock,
) -> Result<Backup> {
    let progress = Progress::new(ProgressMode::Quiet);
    backup(
        repo,
        &BackupRequest {
            job: "app".to_owned(),
            tags: Vec::new(),
            sources: set.sources(),
            hooks: Hooks::default(),
            host: "test".to_owned(),
            dry_run: false,
            threads,
            memory_bytes,
            clock,
            entropy: &OsEntropy,
            process: &RealProcess,
            cancel: &Cancel::default(),
            progress: &progress,
        },
    )
}

/// Everything that a point holds, read as a restore reads it.
pub fn read_back(
    repo: &Repository,
    index: &Index,
    point: &Point,
) -> Result<BTreeMap<String, BTreeMap<String, Vec<u8>>>> {
    struct Flat(Vec<u8>);
    impl StreamSink for Flat {
        fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
            assert_eq!(offset, self.0.len() as u64);
            self.0.extend_from_slice(bytes);
            Ok(())
        }
        fn hole(&mut self, offset: u64, len: u64) -> Result<()> {
            assert_eq!(offset, self.0.len() as u64);
            self.0.resize((offset + len) as usize, 0);
            Ok(())
        }
    }
    let reader = Reader::new(repo, index, 8 << 20);
    let mut all = BTreeMap::new();
    for source in &point.sources {
        let from = SourceReader { reader: &reader, source, threads: 1, on_progress: &|_, _| {} };
        assert_eq!(from.facts()?, source.name.as_bytes());
        let mut files = BTreeMap::new();
        from.entries(&Selection::default(), &mut |entry| {
            let mut flat = Flat(Vec::new());
            from.read(&entry, 0, entry.size, &mut flat)?;
            files.insert(entry.path.to_string(), flat.0);
            Ok(())
        })?;
        all.insert(source.name.clone(), files);
    }
    Ok(all)
}

/// Whether a point holds exactly this set.
pub fn holds(repo: &Repository, index: &Index, point: &Point, set: &Set) -> Result<bool> {
    let found = read_back(repo, index, point)?;
    Ok(found.len() == set.0.len()
        && set.0.iter().all(|(name, files)| {
            let back = &found[*name];
            back.len() == files.len() && files.iter().all(|(path, bytes)| back[path] == **bytes)
        }))
}

/// Every chunk that a whole index object names, with its pack, once for each object.
pub fn indexed(repo: &Repository, mem: &Mem) -> Vec<(ChunkId, PackId, PackKind)> {
    let mut found = Vec::new();
    let mut superseded = HashSet::new();
    let identities = repo.meta_identities();
    let mut objects = Vec::new();
    for name in mem.names().iter().filter(|name| name.as_str().starts_with(layout::INDEX)) {
        let bytes = mem.get(name, u64::MAX).unwrap();
        let hash = layout::parse_index(name).unwrap();
        // A torn object is not what its name says, and counts for nothing.
        if *blake3::hash(&bytes).as_bytes() == hash.0 {
            objects.push((hash, bytes));
        }
    }
    repo.with_zstd(|zstd| {
        for (hash, bytes) in &objects {
            let opened = open_root(zstd, &identities, bytes)?;
            superseded.extend(opened.root.supersedes.iter().copied());
            let mut rows = Vec::new();
            opened.rows(zstd, &identities, &mut |row| {
                rows.push((row.id, row.at.pack, row.at.kind));
                Ok(())
            })?;
            found.push((*hash, rows));
        }
        Ok(())
    })
    .unwrap();
    found.into_iter().filter(|(hash, _)| !superseded.contains(hash)).flat_map(|(_, rows)| rows).collect()
}
