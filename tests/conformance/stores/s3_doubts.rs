//! Answers that leave in doubt what is there: what is not known is not taken for what would be handy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use muster::model::{ErrorKind, Secret};
use muster::ports::{Put, Store};
use muster::stores::probe::{probe, with_two_objects};
use muster::stores::s3::{AccessKeys, ChecksumUse, ConditionalPut, Credentials, S3Options};
use muster::stores::wrap::{Limit, Limits, RealPace, RetryPolicy};
use muster::sys::{OsEntropy, RealClock};

use super::name;
use super::s3_faults::{all_errors, is_clear, on, open, retrying, works};
use crate::s3_server::{KEY_ID, SECRET_KEY};
use crate::wrong_server::{Answer, Asked, WrongServer};

const PACK: &str = "packs/data/aa/x";

fn is_lock_setting(asked: &Asked) -> bool {
    asked.is("GET") && asked.query.contains("object-lock")
}

fn locks_are_on() -> Answer {
    Answer::new(200).header("content-type", "application/xml").body(
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>",
    )
}

/// What HEAD says of an object that is locked until then.
fn locked(good: Answer, until: &str) -> Answer {
    good.header("x-amz-object-lock-mode", "GOVERNANCE").header("x-amz-object-lock-retain-until-date", until)
}

/// A bucket where everything is locked for long, and the bucket's setting is answered by `setting`.
fn locking(setting: impl Fn(usize) -> Answer + Send + Sync + 'static) -> (WrongServer, muster::stores::S3) {
    let looks = AtomicUsize::new(0);
    on(move |_, asked, good| match asked.method.as_str() {
        _ if is_lock_setting(asked) => setting(looks.fetch_add(1, Ordering::Relaxed)),
        "HEAD" => locked(good, "2100-01-01T00:00:00Z"),
        _ => good,
    })
}

/// `prune` would hide locked packs, and say that it freed their space.
#[test]
fn a_failed_look_at_locks_is_not_taken_for_none() {
    let away = |looks: usize| match looks {
        0 => Answer::error(503, "SlowDown"),
        _ => locks_are_on(),
    };
    let (_server, store) = locking(away);
    store.put(&name(PACK), &[b"x"]).unwrap();
    let error = store.lock(&name(PACK)).unwrap_err();
    is_clear("lock", &error);
    assert!(error.is_retryable(), "{error}");
    assert!(store.lock(&name(PACK)).unwrap().is_some_and(|why| why.contains("2100")));

    let (server, store) = locking(away);
    store.put(&name(PACK), &[b"x"]).unwrap();
    let (store, _) = retrying(store, RetryPolicy::default());
    assert!(store.lock(&name(PACK)).unwrap().is_some());
    // What is known is not asked again.
    assert!(store.lock(&name(PACK)).unwrap().is_some());
    assert_eq!(server.asked().iter().filter(|asked| is_lock_setting(asked)).count(), 2);
}

#[test]
fn who_may_not_read_the_buckets_lock_looks_at_each_object() {
    let (_server, store) = locking(|_| Answer::error(403, "AccessDenied"));
    store.put(&name(PACK), &[b"x"]).unwrap();
    assert!(store.lock(&name(PACK)).unwrap().is_some());
    assert_eq!(store.lock(&name("packs/data/aa/none")).unwrap(), None);
}

#[test]
fn a_bucket_without_locks_is_asked_once() {
    for (status, code) in [(404, "ObjectLockConfigurationNotFoundError"), (501, "NotImplemented")] {
        let (server, store) = locking(move |_| Answer::error(status, code));
        store.put(&name(PACK), &[b"x"]).unwrap();
        for _ in 0..3 {
            assert_eq!(store.lock(&name(PACK)).unwrap(), None, "{code}");
        }
        assert_eq!(server.asked().iter().filter(|asked| is_lock_setting(asked)).count(), 1, "{code}");
    }
}

/// This machine's clock may be years off.
#[test]
fn a_lock_is_over_when_the_stores_clock_says_so() {
    let store_at = |date: Option<&'static str>, until: &'static str| {
        let (_server, store) = on(move |_, asked, good| match asked.method.as_str() {
            _ if is_lock_setting(asked) => locks_are_on(),
            "HEAD" => match date {
                Some(date) => locked(good, until).header("date", date),
                None => locked(good, until),
            },
            _ => good,
        });
        store.put(&name(PACK), &[b"x"]).unwrap();
        store.lock(&name(PACK)).unwrap()
    };
    let (early, late) = ("Thu, 01 Jan 1998 00:00:00 GMT", "Sun, 01 Jan 2102 00:00:00 GMT");
    assert!(store_at(Some(early), "2000-01-01T00:00:00Z").is_some());
    assert_eq!(store_at(Some(late), "2100-01-01T00:00:00Z"), None);
    // A store that does not tell the time is not taken to have passed the end of a lock.
    assert!(store_at(None, "2000-01-01T00:00:00Z").is_some());
}

/// "default backend - 404", says an ingress whose store is away.
fn no_backend() -> Answer {
    Answer::new(404).header("content-type", "text/plain").body("default backend - 404")
}

#[test]
fn a_proxys_404_is_no_missing_object() {
    let (_server, store) = on(|_, _, _| no_backend());
    for (what, error) in all_errors(&store) {
        is_clear(what, &error);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true), "{what}: {error}");
    }
    // One that comes and goes, which a retry outlasts.
    let (_server, store) = on(|n, asked, good| match asked.is("PUT") || n % 3 != 1 {
        true => good,
        false => no_backend(),
    });
    store.put(&name("points/A"), &[b"x"]).unwrap();
    let (store, _) = retrying(store, RetryPolicy::default());
    assert_eq!(store.get(&name("points/A"), 1).unwrap(), b"x");
    assert_eq!(store.get_range(&name("points/A"), 0, 1).unwrap(), b"x");
    assert_eq!(store.stat(&name("points/A")).unwrap().unwrap().size, 1);
}

#[test]
fn a_look_that_finds_nothing_is_confirmed_by_a_list() {
    let (_server, store) = on(|_, asked, good| if asked.is("HEAD") { Answer::new(404) } else { good });
    store.put(&name("points/A"), &[b"x"]).unwrap();
    let error = store.stat(&name("points/A")).unwrap_err();
    is_clear("stat", &error);
    assert!(error.is_retryable(), "{error}");
    assert_eq!(store.stat(&name("points/B")).unwrap(), None);
    // Another name that begins alike is another object.
    assert_eq!(store.stat(&name("points")).unwrap(), None);
    assert_eq!(store.get(&name("points/B"), 1).unwrap_err().kind(), ErrorKind::NotFound);
}

/// As AWS does where lists are allowed only below a prefix.
#[test]
fn a_policy_that_allows_lists_below_the_prefix_alone() {
    let server = WrongServer::start(|_, asked, good| match asked.method.as_str() {
        _ if asked.is_list() && !asked.query.contains("prefix=app") => Answer::error(403, "AccessDenied"),
        "HEAD" if good.is_missing() => Answer::new(403),
        "GET" if good.is_missing() => Answer::error(403, "AccessDenied"),
        _ => good,
    });
    for conditional_put in [ConditionalPut::Unknown, ConditionalPut::Ignored] {
        let store = open(S3Options { conditional_put, ..works(&server.endpoint) });
        let object = name(&format!("points/{conditional_put:?}"));
        assert_eq!(store.stat(&object).unwrap(), None);
        assert_eq!(store.put(&object, &[b"x"]).unwrap(), Put::Created);
        assert_eq!(store.put(&object, &[b"y"]).unwrap(), Put::Exists);
        assert_eq!(store.get(&object, 1).unwrap(), b"x");
    }
}

/// Keys that may create and read, and not delete.
#[test]
fn a_probe_with_keys_that_may_not_delete() {
    let (server, store) =
        on(|_, asked, good| if asked.is("DELETE") { Answer::error(403, "AccessDenied") } else { good });
    let found = probe(&store, &RealClock, &OsEntropy).unwrap();
    assert!(found.conditional_put() && found.ranges && found.list_lag_after_put.is_some(), "{found:?}");
    assert!(found.delete_refused.as_ref().is_some_and(|why| why.contains("denied")), "{found:?}");
    assert!(found.left_behind.is_some() && !server.keys().is_empty(), "{found:?}");
    let (checksums, left) = with_two_objects(&store, &OsEntropy, |names| store.checksum_use(names)).unwrap();
    assert_eq!(checksums, ChecksumUse::Ignored);
    assert!(left.is_some());
    // An error of another kind is still one.
    let (_server, store) =
        on(|_, asked, good| if asked.is("DELETE") { Answer::error(400, "InvalidRequest") } else { good });
    assert!(probe(&store, &RealClock, &OsEntropy).is_err());
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let (server, store) = on(|_, _, good| good);
    store.put(&name(PACK), &[&[7; 60]]).unwrap();
    let trickles = WrongServer::start(|_, asked, good| match asked.is("GET") {
        true => good.trickle(100),
        false => good,
    });
    let quick = S3Options { answer_timeout: Some(Duration::from_millis(700)), ..works(&trickles.endpoint) };
    let store_of = |options: S3Options| {
        let store = open(options);
        store.put(&name(PACK), &[&[7; 60]]).unwrap();
        store
    };
    let store = store_of(quick);
    let began = Instant::now();
    for error in [store.get(&name(PACK), 60).unwrap_err(), store.get_range(&name(PACK), 1, 50).unwrap_err()] {
        is_clear("get", &error);
        assert!(error.is_retryable() && error.why().contains("did not all come"), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());

    // What the operator wants slow is not: that waits between requests.
    let quick = S3Options { answer_timeout: Some(Duration::from_millis(700)), ..works(&server.endpoint) };
    let limits = Limits { download_bytes_per_sec: Some(60), ..Limits::default() };
    let limited = Limit::new(Arc::new(open(quick)), limits, Arc::new(RealPace::new(Default::default())));
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(limited.get(&name(PACK), 60).unwrap(), [7; 60]);
    }
    assert!(began.elapsed() > Duration::from_millis(1400), "{:?}", began.elapsed());
}

/// A program that gives them may take a minute; each request has its own limit.
#[test]
fn keys_that_take_longer_than_an_answer_may() {
    let server = WrongServer::start(|_, _, good| good);
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = fetched.clone();
    let credentials = Credentials::Given(Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1200));
        Ok(AccessKeys {
            id: Secret::new(KEY_ID.to_owned()),
            secret: Secret::new(SECRET_KEY.to_owned()),
            token: None,
        })
    }));
    let answer_timeout = Some(Duration::from_millis(400));
    let store = open(S3Options { credentials, answer_timeout, ..works(&server.endpoint) });
    std::thread::scope(|scope| {
        for i in 0..4 {
            let (store, object) = (&store, name(&format!("index/{i}")));
            scope.spawn(move || assert_eq!(store.put(&object, &[b"x"]).unwrap(), Put::Created));
        }
    });
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
}
