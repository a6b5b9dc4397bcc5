//! CPU seconds that chunking, hashing, zstd and age need for the files of a folder, each
//! standing alone, on one thread: the least that any pipeline of these parts can take.
//!
//! `cargo bench --bench primitives -- --dir DIR [--json]`. As in a backup, each distinct chunk is
//! compressed and encrypted once, and small chunks are laid together.
//!
//! Counted apart, and not in the total, is what a backup that verifies before it seals must do
//! beside them: finding, opening and reading the files, and opening and hashing every blob again.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use muster::model::ChunkClass;
use muster::repo::chunker::{Sizes, first_cut};
use muster::repo::layout::PackKind;
use muster::repo::limits::{GROUP_MAX_BYTES, OWN_BLOB_MIN_BYTES};
use muster::repo::seal::{Zstd, encrypt};
use muster::repo::secrets::Derived;
use rustix::time::{ClockId, clock_gettime};

const COMPRESSION_LEVEL: i32 = 3;

#[derive(Default)]
struct Seconds {
    chunk: f64,
    hash: f64,
    zstd: f64,
    age: f64,
    read: f64,
    verify: f64,
}

fn cpu_now() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let before = cpu_now();
    let value = work();
    *seconds += cpu_now() - before;
    value
}

struct Bench {
    derived: Derived,
    zstd: Zstd,
    recipient: age::x25519::Recipient,
    seen: HashSet<[u8; 32]>,
    group: Vec<u8>,
    /// Lengths of the chunks in the group.
    lens: Vec<usize>,
    seconds: Seconds,
    bytes: u64,
}

impl Bench {
    fn file(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        let mut rest = data;
        while !rest.is_empty() {
            let gear = self.derived.gear(ChunkClass::Bulk);
            let len = timed(&mut self.seconds.chunk, || first_cut(rest, gear, Sizes::BULK));
            let (chunk, after) = rest.split_at(len);
            rest = after;
            let id = timed(&mut self.seconds.hash, || self.derived.chunk_id(PackKind::Data, chunk));
            if self.seen.insert(id.0) {
                self.store(chunk);
            }
        }
    }

    fn store(&mut self, chunk: &[u8]) {
        if chunk.len() >= OWN_BLOB_MIN_BYTES {
            return self.seal(chunk, &[chunk.len()]);
        }
        if self.group.len() + chunk.len() > GROUP_MAX_BYTES {
            self.flush();
        }
        self.group.extend_from_slice(chunk);
        self.lens.push(chunk.len());
    }

    fn flush(&mut self) {
        let (group, lens) = (std::mem::take(&mut self.group), std::mem::take(&mut self.lens));
        if !group.is_empty() {
            self.seal(&group, &lens);
        }
        (self.group, self.lens) = (group, lens);
        self.group.clear();
        self.lens.clear();
    }

    fn seal(&mut self, plain: &[u8], lens: &[usize]) {
        let frame = timed(&mut self.seconds.zstd, || self.zstd.compress(plain)).expect("zstd compresses");
        timed(&mut self.seconds.verify, || {
            let opened = self.zstd.decompress(&frame, plain.len()).expect("zstd opens what it made");
            let mut rest = &opened[..];
            for len in lens {
                let (chunk, after) = rest.split_at(*len);
                std::hint::black_box(self.derived.chunk_id(PackKind::Data, chunk));
                rest = after;
            }
        });
        let sealed = timed(&mut self.seconds.age, || encrypt(&self.recipient, &frame)).expect("age encrypts");
        std::hint::black_box(sealed);
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let Some(dir) = args.iter().position(|a| a == "--dir").and_then(|i| args.get(i + 1)) else {
        // `cargo test --all-targets` runs benches without arguments; there is nothing to measure then.
        eprintln!("usage: cargo bench --bench primitives -- --dir DIR [--json]");
        return;
    };
    let mut paths = Vec::new();
    let mut read = 0.0;
    timed(&mut read, || files(Path::new(dir), &mut paths)).expect("the folder can be read");
    paths.sort();
    let mut bench = Bench {
        derived: Derived::new(&[7; 32].into()),
        zstd: Zstd::new(COMPRESSION_LEVEL).expect("zstd starts"),
        recipient: age::x25519::Identity::generate().to_public(),
        seen: HashSet::new(),
        group: Vec::with_capacity(GROUP_MAX_BYTES),
        lens: Vec::new(),
        seconds: Seconds { read, ..Seconds::default() },
        bytes: 0,
    };
    let mut data = Vec::new();
    for path in &paths {
        data.clear();
        timed(&mut bench.seconds.read, || {
            let mut file = std::fs::File::open(path).expect("the file opens");
            file.read_to_end(&mut data).expect("the file reads");
        });
        bench.file(&data);
    }
    bench.flush();
    let Seconds { chunk, hash, zstd, age, read, verify } = bench.seconds;
    let total = chunk + hash + zstd + age;
    let document = serde_json::json!({
        "cpu_seconds": { "chunk": chunk, "hash": hash, "zstd": zstd, "age": age, "total": total },
        "beside_cpu_seconds": { "read": read, "verify": verify },
        "bytes": bench.bytes,
        "files": paths.len(),
    });
    writeln!(std::io::stdout(), "{document}").expect("stdout takes it");
}
