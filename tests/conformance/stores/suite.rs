//! What every store does.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use muster::model::{Error, ErrorKind, Result};
use muster::ports::{ObjectMeta, Put, Store};

use super::{Fixture, name};

type Make<'a> = &'a dyn Fn() -> Fixture;

const MANY: u64 = u64::MAX;

/// Bytes that differ from place to place.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn metas(store: &dyn Store, prefix: &str) -> Vec<ObjectMeta> {
    let mut found = Vec::new();
    store
        .list(prefix, &mut |meta| {
            found.push(meta);
            Ok(())
        })
        .unwrap();
    found
}

fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    metas(store, prefix).iter().map(|meta| meta.name.to_string()).collect()
}

pub fn put_creates_once(make: Make) {
    let fixture = make();
    let store = &fixture.store;
    assert!(!store.describe().is_empty());
    let object = name("points/A");
    assert_eq!(store.put(&object, &[b"one", b"", b"two"]).unwrap(), Put::Created);
    let before = store.stat(&object).unwrap();
    assert_eq!(store.put(&object, &[b"other"]).unwrap(), Put::Exists);
    assert_eq!(store.put(&object, &[b"onetwo"]).unwrap(), Put::Exists);
    assert_eq!(store.get(&object, MANY).unwrap(), b"onetwo");
    assert_eq!(store.stat(&object).unwrap(), before);
}

pub fn empty_object(make: Make) {
    let fixture = make();
    let store = &fixture.store;
    for (object, parts) in [(name("empty"), &[][..]), (name("leases/empty"), &[&b""[..]])] {
        assert_eq!(store.put(&object, parts).unwrap(), Put::Created);
        assert_eq!(store.put(&object, &[b"x"]).unwrap(), Put::Exists);
        assert_eq!(store.get(&object, 0).unwrap(), b"");
        assert_eq!(store.get_range(&object, 0, 0).unwrap(), b"");
        assert_eq!(store.stat(&object).unwrap().unwrap().size, 0);
    }
    assert_eq!(names(&**store, ""), ["empty", "leases/empty"]);
}

pub fn big_object(make: Make) {
    let fixture = make();
    let bytes = pattern(33 << 20, 0);
    let parts: Vec<&[u8]> = bytes.chunks(1_000_003).collect();
    let object = name("packs/data/ab/abcd");
    assert_eq!(fixture.store.put(&object, &parts).unwrap(), Put::Created);
    assert!(fixture.store.get(&object, bytes.len() as u64).unwrap() == bytes);
    let at = 17 << 20;
    assert_eq!(fixture.store.get_range(&object, at as u64, 999).unwrap(), bytes[at..at + 999]);
}

pub fn racing_puts_have_one_winner(make: Make) {
    const THREADS: usize = 8;
    let fixture = make();
    for round in 0..8 {
        let object = name(&format!("leases/race/{round}"));
        let contents: Vec<_> = (0..THREADS).map(|i| pattern(100_000 + i, i as u8)).collect();
        let barrier = Barrier::new(THREADS);
        let created: Vec<usize> = thread::scope(|scope| {
            let threads: Vec<_> = contents
                .iter()
                .map(|content| {
                    scope.spawn(|| {
                        barrier.wait();
                        let put = fixture.store.put(&object, &[content]).unwrap();
                        // Whoever was first, it is there whole from now on.
                        let seen = fixture.store.get(&object, MANY).unwrap();
                        assert!(contents.contains(&seen));
                        put
                    })
                })
                .collect();
            let puts = threads.into_iter().map(|thread| thread.join().unwrap());
            puts.enumerate().filter(|(_, put)| *put == Put::Created).map(|(i, _)| i).collect()
        });
        assert_eq!(created.len(), 1, "round {round}");
        assert!(fixture.store.get(&object, MANY).unwrap() == contents[created[0]]);
    }
    assert_eq!(names(&*fixture.store, "").len(), 8);
}

pub fn racing_puts_of_many_names(make: Make) {
    let fixture = make();
    // All of them make the same folders.
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for i in 0..8 {
            let (fixture, barrier) = (&fixture.store, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for j in 0..8 {
                    let object = name(&format!("packs/data/{j}/{i}"));
                    assert_eq!(fixture.put(&object, &[&pattern(1000, i)]).unwrap(), Put::Created);
                }
            });
        }
    });
    assert_eq!(names(&*fixture.store, "packs/data/").len(), 64);
    assert_eq!(names(&*fixture.store, "packs/data/3/").len(), 8);
}

pub fn a_reader_never_sees_half(make: Make) {
    let fixture = make();
    let object = name("index/x");
    let content = pattern(4 << 20, 7);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                match fixture.store.get(&object, MANY) {
                    Ok(seen) => assert!(seen == content, "{} bytes of {}", seen.len(), content.len()),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                }
                for meta in metas(&*fixture.store, "") {
                    assert_eq!((meta.name, meta.size), (object.clone(), content.len() as u64));
                }
            }
        });
        for _ in 0..10 {
            assert_eq!(fixture.store.put(&object, &[&content]).unwrap(), Put::Created);
            fixture.store.delete(&object).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

pub fn get_gives_what_was_put(make: Make) {
    let fixture = make();
    for len in [1, 4095, 4096, 4097, 1 << 20] {
        let object = name(&format!("packs/meta/ab/{len}"));
        let content = pattern(len, 3);
        fixture.writer.put(&object, &[&content]).unwrap();
        assert!(fixture.store.get(&object, len as u64).unwrap() == content);
    }
}

pub fn get_over_the_limit_is_limit(make: Make) {
    let fixture = make();
    let object = name("config/1-aa");
    fixture.writer.put(&object, &[b"12345"]).unwrap();
    assert_eq!(kind(fixture.store.get(&object, 4)), ErrorKind::Limit);
    assert_eq!(kind(fixture.store.get(&object, 0)), ErrorKind::Limit);
    assert_eq!(fixture.store.get(&object, 5).unwrap(), b"12345");
}

pub fn missing_objects(make: Make) {
    let fixture = make();
    let store = &fixture.store;
    fixture.writer.put(&name("a/b"), &[b"x"]).unwrap();
    // Beside an object, below one, a folder of one, and where there is nothing at all.
    for missing in ["a/c", "a/b/c", "a", "x/y/z", "b"] {
        let missing = name(missing);
        for error in [store.get(&missing, MANY), store.get_range(&missing, 0, 0)].map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{missing}");
            assert!(!error.is_retryable());
            assert!(error.subject().unwrap().contains(missing.as_str()), "{error}");
        }
        assert_eq!(store.stat(&missing).unwrap(), None, "{missing}");
    }
}

pub fn ranges_are_exact(make: Make) {
    let fixture = make();
    let object = name("packs/data/00/r");
    let content = pattern(10_000, 9);
    fixture.writer.put(&object, &[&content]).unwrap();
    for (offset, len) in [(0, 0), (0, 1), (0, 10_000), (4096, 17), (9_999, 1), (10_000, 0)] {
        let got = fixture.store.get_range(&object, offset as u64, len as u64).unwrap();
        assert_eq!(got, content[offset..offset + len], "{offset} {len}");
    }
}

pub fn ranges_beyond_the_end_are_damaged(make: Make) {
    let fixture = make();
    let object = name("packs/data/00/r");
    fixture.writer.put(&object, &[&[7; 100]]).unwrap();
    for (offset, len) in
        [(0, 101), (100, 1), (101, 0), (99, 2), (u64::MAX, 1), (1, u64::MAX), (0, u64::MAX), (u64::MAX, 0)]
    {
        assert_eq!(kind(fixture.store.get_range(&object, offset, len)), ErrorKind::Damaged, "{offset} {len}");
    }
}

pub fn stat_tells_size_and_store_time(make: Make) {
    let fixture = make();
    let mut last = None;
    for i in 0..3 {
        let object = name(&format!("sessions/{i}"));
        fixture.writer.put(&object, &[&vec![1; i]]).unwrap();
        let meta = fixture.store.stat(&object).unwrap().unwrap();
        assert_eq!((&meta.name, meta.size), (&object, i as u64));
        assert!(meta.stored_at.secs > 1_767_000_000, "{:?}", meta.stored_at);
        assert!(last.is_none_or(|last| last <= meta.stored_at), "store time went back");
        last = Some(meta.stored_at);
        assert!(metas(&*fixture.store, "sessions/").contains(&meta));
    }
}

pub fn list_is_in_byte_order_by_prefix(make: Make) {
    let fixture = make();
    // `-` and `.` sort before `/`, digits and letters after it.
    let all = ["a-", "a.b", "a/-", "a/b/c", "a/b.c/d", "a/b0", "a0", "aa/x", "b", "Z/1", "Z1", "_"];
    for text in all {
        fixture.writer.put(&name(text), &[text.as_bytes()]).unwrap();
    }
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    for prefix in ["", "a/", "a/b/", "aa/", "Z/", "nothing/", "a/b.c/"] {
        let wanted: Vec<_> = sorted.iter().filter(|text| text.starts_with(prefix)).copied().collect();
        assert_eq!(names(&*fixture.store, prefix), wanted, "{prefix:?}");
    }
    for meta in metas(&*fixture.store, "") {
        assert_eq!(meta.size, meta.name.as_str().len() as u64);
    }
}

pub fn list_of_nothing_is_empty(make: Make) {
    let fixture = make();
    assert!(metas(&*fixture.store, "").is_empty());
    assert!(metas(&*fixture.store, "packs/").is_empty());
    assert!(metas(&*fixture.store, "packs/data/ab/").is_empty());
    // Below an object there is nothing.
    fixture.writer.put(&name("a/b"), &[b"x"]).unwrap();
    assert!(metas(&*fixture.store, "a/b/").is_empty());
}

pub fn list_refuses_half_prefixes(make: Make) {
    let fixture = make();
    for bad in ["a", "/", "a//", "../", "a/../", "/a/", "./"] {
        assert!(fixture.store.list(bad, &mut |_| Ok(())).is_err(), "{bad:?}");
    }
}

pub fn list_ends_with_the_visitors_error(make: Make) {
    let fixture = make();
    for text in ["a/1", "a/2", "a/3"] {
        fixture.writer.put(&name(text), &[]).unwrap();
    }
    let mut seen = 0;
    let error = fixture.store.list("", &mut |_| {
        seen += 1;
        // It says that a retry can help: not the store's business.
        if seen < 2 { Ok(()) } else { Err(Error::new(ErrorKind::Usage, "test", "enough").retryable()) }
    });
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.why(), seen), (ErrorKind::Usage, "enough", 2));
}

pub fn list_may_be_used_while_listing(make: Make) {
    let fixture = make();
    for text in ["a/1", "a/2", "b/1"] {
        fixture.writer.put(&name(text), &[text.as_bytes()]).unwrap();
    }
    let mut got = Vec::new();
    fixture
        .store
        .list("", &mut |meta| {
            got.push(String::from_utf8(fixture.store.get(&meta.name, meta.size)?).unwrap());
            fixture.writer.delete(&meta.name)
        })
        .unwrap();
    assert_eq!(got, ["a/1", "a/2", "b/1"]);
    assert!(metas(&*fixture.store, "").is_empty());
}

pub fn delete_removes(make: Make) {
    let fixture = make();
    let store = &fixture.store;
    let object = name("condemned/x");
    store.delete(&object).unwrap();
    store.put(&object, &[b"1"]).unwrap();
    // A folder of objects is no object.
    store.delete(&name("condemned")).unwrap();
    store.delete(&object).unwrap();
    store.delete(&object).unwrap();
    assert_eq!(kind(store.get(&object, MANY)), ErrorKind::NotFound);
    assert_eq!(store.stat(&object).unwrap(), None);
    assert!(metas(&**store, "").is_empty());
    assert_eq!(store.put(&object, &[b"2"]).unwrap(), Put::Created);
    assert_eq!(store.get(&object, MANY).unwrap(), b"2");
}

#[derive(Clone, Debug)]
enum Step {
    Put(String, Vec<u8>),
    Delete(String),
    Get(String),
    Range(String, u64, u64),
    List(&'static str),
}

/// A store is a map from names to bytes, whatever is done to it.
pub fn any_history_is_that_of_a_map(make: Make) {
    // No name is a folder of another: the layout has none such.
    let object = || prop_oneof!["[ab]/[ab]/[01]", "[ab][.-]?/[01]"];
    let step = prop_oneof![
        4 => (object(), proptest::collection::vec(any::<u8>(), 0..50)).prop_map(|(n, b)| Step::Put(n, b)),
        1 => object().prop_map(Step::Delete),
        1 => object().prop_map(Step::Get),
        1 => (object(), 0..60u64, 0..60u64).prop_map(|(n, o, l)| Step::Range(n, o, l)),
        1 => prop_oneof![Just(""), Just("a/"), Just("a/b/"), Just("b-/")].prop_map(Step::List),
    ];
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&proptest::collection::vec(step, 0..40), |steps| {
        let fixture = make();
        let store = &fixture.store;
        let mut map = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(text, bytes) => {
                    let wanted = if map.contains_key(&text) { Put::Exists } else { Put::Created };
                    prop_assert_eq!(store.put(&name(&text), &[&bytes]).unwrap(), wanted);
                    map.entry(text).or_insert(bytes);
                }
                Step::Delete(text) => {
                    store.delete(&name(&text)).unwrap();
                    map.remove(&text);
                }
                Step::Get(text) => {
                    let got = store.get(&name(&text), MANY).ok();
                    prop_assert_eq!(got.as_ref(), map.get(&text));
                }
                Step::Range(text, offset, len) => {
                    let wanted = map.get(&text).and_then(|b| b.get(offset as usize..(offset + len) as usize));
                    let got = store.get_range(&name(&text), offset, len).ok();
                    prop_assert_eq!(got.as_deref(), wanted);
                }
                Step::List(prefix) => {
                    let wanted: Vec<_> = map.keys().filter(|n| n.starts_with(prefix)).cloned().collect();
                    prop_assert_eq!(names(&**store, prefix), wanted);
                }
            }
        }
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}
