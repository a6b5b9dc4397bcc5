//! Puts and gets of 32 MiB objects, one request or parts: `scripts/with-services --garage cargo bench
//! --bench s3`. The server shares the machine.

#[path = "../tests/support/s3_server.rs"]
mod s3_server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use muster::model::ObjectName;
use muster::ports::Store;
use muster::stores::S3;
use muster::stores::s3::{Checksums, ConditionalPut, Multipart, S3Options};

const OBJECT_BYTES: usize = 32 << 20;
const OBJECTS: usize = 16;

fn main() {
    // `cargo test --benches` runs this too, and has no time for it.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let server = s3_server::S3Server::start();
    let mut sites = vec![("in-process", s3_server::BUCKET, server.options())];
    if std::env::var_os("MUSTER_TEST_S3_ENDPOINT").is_some() {
        let (bucket, options) = s3_server::outside();
        sites.push(("outside", bucket, options));
    }
    let content: Vec<u8> =
        (0..OBJECT_BYTES as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let never = Multipart { from_bytes: usize::MAX, ..Multipart::default() };
    let parts = |mib: usize| Multipart { from_bytes: 0, part_bytes: mib << 20, at_a_time: 4 };
    println!("{OBJECTS} objects of 32 MiB; MiB/s put, got");
    for (kind, bucket, options) in &sites {
        for (way, multipart, checksums) in [
            ("one put, crc32c", never, Checksums::Crc32c),
            ("one put, sha256", never, Checksums::Sha256),
            ("one put, no checksum", never, Checksums::Off),
            ("parts of 8 MiB, crc32c", parts(8), Checksums::Crc32c),
            ("parts of 16 MiB, crc32c", parts(16), Checksums::Crc32c),
        ] {
            for threads in [1, 2, 4] {
                let options = S3Options {
                    multipart: Some(multipart),
                    checksums,
                    conditional_put: ConditionalPut::Works,
                    ..options.clone()
                };
                let store = S3::new(s3_server::fresh(bucket), options).unwrap();
                let put = rate(threads, |name| {
                    store.put(name, &[&content]).unwrap();
                });
                let got = rate(threads, |name| {
                    assert_eq!(store.get(name, OBJECT_BYTES as u64).unwrap().len(), OBJECT_BYTES);
                });
                rate(threads, |name| store.delete(name).unwrap());
                println!("{kind:10}  {way:24}  {threads} at a time  {put:6.0}  {got:6.0}");
            }
        }
    }
}

/// Does `work` for every object, some at a time; MiB a second.
fn rate(threads: usize, work: impl Fn(&ObjectName) + Sync) -> f64 {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= OBJECTS {
                        return;
                    }
                    work(&ObjectName::new(format!("packs/data/00/{number}")).unwrap());
                }
            });
        }
    });
    ((OBJECTS * OBJECT_BYTES) >> 20) as f64 / began.elapsed().as_secs_f64()
}
