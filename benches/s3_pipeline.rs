//! A backup and a restore through an S3 server, beside the two things that bound them: the same requests
//! with nothing behind, and the same work with a store in memory. `scripts/bench s3` runs it; each way
//! is a process of its own, so that memory and cores are measured and pinned one by one.
//!
//! `s3_pipeline make DIR MIB | serve | memory DIR RECORD | store DIR | raw RECORD`

#[path = "../tests/support/s3_server.rs"]
mod s3_server;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use muster::jobs::backup::{BackupRequest, backup};
use muster::jobs::hooks::Hooks;
use muster::jobs::points::Wanted;
use muster::jobs::restore::{RestoreRequest, restore};
use muster::model::error::Exit;
use muster::model::{ObjectName, RepositoryId, Result, Secret};
use muster::ports::{Cancel, Capabilities, Conflict, ObjectMeta, Put, RestoreTarget, Store};
use muster::repo::keys::{HostKeys, Identities, RecoveryKit};
use muster::repo::repository::{NewRepository, OpenWith, Repository, create};
use muster::repo::trust::Pin;
use muster::report::outcome::Outcome;
use muster::report::progress::{Progress, ProgressMode};
use muster::sources::files::{FilesConfig, FilesSource};
use muster::stores::s3::ConditionalPut;
use muster::stores::wrap::{RealPace, Retry, RetryPolicy};
use muster::stores::{Mem, S3};
use muster::sys::{OsEntropy, RealClock, RealProcess};
use rustix::time::{ClockId, clock_gettime};

/// What `muster` takes by default on two cores.
const THREADS: usize = 2;
const MEMORY_BYTES: u64 = 256 << 20;
/// As many as the pipeline stores at once, and a restore reads at once.
const AT_A_TIME: usize = 2;
const FILE_BYTES: usize = 32 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["make", folder, mib] => make(Path::new(folder), mib.parse().unwrap()),
        ["serve"] => serve(),
        ["memory", folder, record] => memory(Path::new(folder), Path::new(record)),
        ["store", folder] => through(Path::new(folder), outside()),
        ["raw", record] => raw(Path::new(record)),
        // `cargo test --benches` runs this too, and has no time for it.
        _ => {}
    }
}

/// Files that neither compress nor repeat: every byte goes to the store.
fn make(folder: &Path, mib: usize) {
    std::fs::create_dir_all(folder).unwrap();
    let mut bytes = vec![0; FILE_BYTES];
    for number in 0..(mib << 20) / FILE_BYTES {
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
        std::fs::write(folder.join(format!("{number:04}")), &bytes).unwrap();
    }
}

/// The server that tests have in their process, in one of its own; until it is killed.
fn serve() {
    let server = s3_server::S3Server::start();
    println!("{} {} {}", server.endpoint(), s3_server::KEY_ID, s3_server::SECRET_KEY);
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

/// The server that the environment names, reached as `muster backup` reaches it.
fn outside() -> Arc<dyn Store> {
    let (bucket, mut options) = s3_server::outside();
    // What a probe finds there.
    options.conditional_put = match s3_server::outside_kind().as_str() {
        "s3s" => ConditionalPut::Works,
        _ => ConditionalPut::Ignored,
    };
    let store = Arc::new(S3::new(s3_server::fresh(bucket), options).unwrap());
    let pace = Arc::new(RealPace::new(Cancel::default()));
    Arc::new(Retry::new(store, RetryPolicy::default(), Arc::new(OsEntropy), pace))
}

fn memory(folder: &Path, record: &Path) {
    let recorder = Arc::new(Recorder { inner: Mem::default(), asked: Mutex::default() });
    through(folder, recorder.clone());
    recorder.write(record);
}

struct Keys {
    kit: RecoveryKit,
    host: HostKeys,
}

impl Keys {
    fn create(store: &dyn Store) -> Self {
        let host = HostKeys::generate(&OsEntropy).unwrap();
        let keys = Self { kit: RecoveryKit::generate(&OsEntropy).unwrap(), host };
        let new = NewRepository {
            kit: &keys.kit,
            id: RepositoryId([7; 16]),
            writer: &keys.host,
            writer_label: "bench".to_owned(),
            recipients: Vec::new(),
        };
        create(store, &new, age::NoCallbacks, &OsEntropy, &RealClock).unwrap();
        keys
    }

    fn open(&self, store: Arc<dyn Store>, cache: &Path) -> Repository {
        let mut identities = Identities::default();
        let kit = self.kit.to_file(&RepositoryId([7; 16]), "bench", "now");
        let kit = Secret::new(kit.expose().clone().into_bytes());
        identities.add_file(&kit, "kit", age::NoCallbacks).unwrap();
        let host = HostKeys::parse(&self.host.to_file("bench")).unwrap();
        let with = OpenWith {
            pin: Pin { root: Some(self.kit.root.public()), lowest: 0 },
            host: Some(host),
            identities: &identities,
            cache_root: cache.to_owned(),
            compression_level: 3,
        };
        Repository::open(store, with).unwrap()
    }
}

/// Backs the folder up and restores it; prints what it took.
fn through(folder: &Path, store: Arc<dyn Store>) {
    let scratch = tempfile::tempdir_in(folder.parent().unwrap()).unwrap();
    let keys = Keys::create(&*store);
    let repo = keys.open(store, &scratch.path().join("cache"));
    let (progress, cancel) = (Progress::new(ProgressMode::Quiet), Cancel::default());
    let files = FilesConfig { paths: vec![folder.to_owned()], ..FilesConfig::default() };
    let source = FilesSource::new("data".to_owned(), files).unwrap();
    let cpu_before = cpu();
    let done = backup(
        &repo,
        &BackupRequest {
            job: "bench".to_owned(),
            tags: Vec::new(),
            sources: vec![Box::new(source)],
            hooks: Hooks::default(),
            host: "bench".to_owned(),
            dry_run: false,
            threads: THREADS,
            memory_bytes: MEMORY_BYTES,
            clock: &RealClock,
            entropy: &OsEntropy,
            process: &RealProcess,
            cancel: &cancel,
            progress: &progress,
        },
    )
    .unwrap();
    assert_eq!(done.exit(), Exit::Done);
    let (put_cpu, backup_peak) = (cpu() - cpu_before, peak_mib());
    let target = scratch.path().join("restored");
    let (began, cpu_before) = (Instant::now(), cpu());
    let back = restore(
        &repo,
        &RestoreRequest {
            point: Wanted::Latest { job: None },
            selection: Vec::new(),
            target: &|_| (RestoreTarget::Folder(target.clone()), String::new()),
            source: &|stored| Ok(Box::new(FilesSource::new(stored.name.clone(), FilesConfig::default())?)),
            conflict: Conflict::Refuse,
            dry_run: false,
            strict_owner: false,
            verify: false,
            threads: THREADS,
            memory_bytes: MEMORY_BYTES,
            cancel: &cancel,
            progress: &progress,
            confirm: &|_| Ok(()),
        },
    )
    .unwrap();
    let (restored, get_cpu) = (began.elapsed().as_secs_f64(), cpu() - cpu_before);
    assert_eq!(back.exit(), Exit::Done);
    println!(
        "{{\"put_secs\":{:.3},\"get_secs\":{restored:.3},\"put_cpu\":{put_cpu:.3},\"get_cpu\":{get_cpu:.3},\"put_peak_mib\":{backup_peak},\"peak_mib\":{}}}",
        done.duration_secs,
        peak_mib()
    );
}

/// CPU seconds that this process took until now.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The most memory that this process held.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
}

enum Asked {
    Put(usize),
    Get { object: usize, offset: u64, len: u64 },
}

/// A store in memory that notes what is asked of its packs.
struct Recorder {
    inner: Mem,
    asked: Mutex<(HashMap<ObjectName, usize>, Vec<Asked>)>,
}

impl Recorder {
    fn note(&self, name: &ObjectName, what: impl FnOnce(usize) -> Asked) {
        if name.as_str().starts_with("packs/") {
            let mut asked = self.asked.lock().unwrap();
            let next = asked.0.len();
            let object = *asked.0.entry(name.clone()).or_insert(next);
            asked.1.push(what(object));
        }
    }

    fn write(&self, path: &Path) {
        let lines = self.asked.lock().unwrap().1.iter().fold(String::new(), |lines, asked| match asked {
            Asked::Put(size) => format!("{lines}put {size}\n"),
            Asked::Get { object, offset, len } => format!("{lines}get {object} {offset} {len}\n"),
        });
        std::fs::write(path, lines).unwrap();
    }
}

impl Store for Recorder {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        self.note(name, |_| Asked::Put(parts.iter().map(|part| part.len()).sum()));
        self.inner.put(name, parts)
    }
    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.inner.get(name, limit)
    }
    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.note(name, |object| Asked::Get { object, offset, len });
        self.inner.get_range(name, offset, len)
    }
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        self.inner.stat(name)
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, visit)
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }
}

/// The same requests, as many at a time, with nothing behind: puts, gets of whole packs, and the ranges
/// that the restore read.
fn raw(record: &Path) {
    let text = std::fs::read_to_string(record).unwrap();
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let numbers: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
        match numbers[..] {
            [size] => puts.push(size as usize),
            [object, offset, len] => gets.push((object as usize, offset, len)),
            _ => unreachable!("a record is not whole"),
        }
    }
    let store = outside();
    // Garage compresses, and stores equal blocks once: each object begins at another place of noise.
    let shift = |object: usize| object * 4099;
    let mut content = vec![0; puts.iter().max().unwrap() + shift(puts.len())];
    blake3::Hasher::new().update(b"raw").finalize_xof().fill(&mut content);
    let name = |object: usize| ObjectName::new(format!("packs/data/00/{object}")).unwrap();
    // Content is laid together of pieces as a pack's is.
    let start = cpu();
    let put = at_once(puts.len(), &|n| {
        let pieces: Vec<&[u8]> = content[shift(n)..][..puts[n]].chunks(1 << 20).collect();
        store.put(&name(n), &pieces).unwrap();
    });
    let put_cpu = cpu() - start;
    let whole = at_once(puts.len(), &|n| {
        store.get(&name(n), puts[n] as u64).unwrap();
    });
    let start = cpu();
    let ranges = at_once(gets.len(), &|n| {
        let (object, offset, len) = gets[n];
        store.get_range(&name(object), offset, len).unwrap();
    });
    let get_cpu = cpu() - start;
    let stored: usize = puts.iter().sum();
    let read: u64 = gets.iter().map(|get| get.2).sum();
    println!(
        "{{\"put_secs\":{put:.3},\"get_secs\":{ranges:.3},\"put_cpu\":{put_cpu:.3},\"get_cpu\":{get_cpu:.3},\"whole_secs\":{whole:.3},\"puts\":{},\"gets\":{},\"stored_mib\":{:.1},\"read_mib\":{:.1}}}",
        puts.len(),
        gets.len(),
        stored as f64 / 1_048_576.0,
        read as f64 / 1_048_576.0
    );
}

/// Seconds that all of them take, some at a time.
fn at_once(count: usize, work: &(dyn Fn(usize) + Sync)) -> f64 {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
    began.elapsed().as_secs_f64()
}
