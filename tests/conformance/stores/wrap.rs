//! What the wrappers are for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use muster::model::{Error, ErrorKind, ObjectName, Result, Time};
use muster::ports::{Cancel, Capabilities, Clock, Entropy, ObjectMeta, Put, Store};
use muster::stores::Mem;
use muster::stores::wrap::{
    Fault, FaultPlan, Limit, Limits, OpKind, Pace, ReadOnly, RealPace, Retry, RetryPolicy,
};
use muster::sys::ManualClock;

use super::name;

/// Time that passes only by waiting.
#[derive(Default)]
struct FakePace(Mutex<(Duration, Vec<Duration>)>);

impl FakePace {
    fn waits(&self) -> Vec<Duration> {
        self.0.lock().unwrap().1.clone()
    }
    fn pass(&self, duration: Duration) {
        self.0.lock().unwrap().0 += duration;
    }
}

impl Pace for FakePace {
    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap().0
    }
    fn sleep(&self, duration: Duration) -> Result<()> {
        let mut inner = self.0.lock().unwrap();
        inner.0 += duration;
        inner.1.push(duration);
        Ok(())
    }
}

struct Fixed(u8);

impl Entropy for Fixed {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(self.0);
        Ok(())
    }
}

const POLICY: RetryPolicy = RetryPolicy {
    attempts: 5,
    first_delay: Duration::from_millis(100),
    max_delay: Duration::from_millis(300),
};

fn retrying(inner: Arc<dyn Store>, jitter: u8) -> (Retry, Arc<FakePace>) {
    let pace = Arc::new(FakePace::default());
    (Retry::new(inner, POLICY, Arc::new(Fixed(jitter)), pace.clone()), pace)
}

/// The first `n` operations fail with errors that a retry can help.
fn failing(inner: Arc<dyn Store>, n: u64, plan: fn(u64) -> FaultPlan) -> Arc<Fault> {
    let plan = (0..n).fold(FaultPlan::none(), |all, i| all.and(plan(i))).retryable();
    Arc::new(Fault::new(inner, plan))
}

#[test]
fn retry_waits_longer_each_time_and_then_succeeds() {
    for (jitter, share) in [(0xff, 1.0), (0, 0.5)] {
        let (store, pace) = retrying(failing(Arc::new(Mem::default()), 4, FaultPlan::fail_before), jitter);
        assert_eq!(store.put(&name("a"), &[b"x"]).unwrap(), Put::Created);
        let wanted = [100, 200, 300, 300].map(|ms| Duration::from_millis(ms).mul_f64(share));
        assert_eq!(pace.waits(), wanted);
    }
}

#[test]
fn retry_gives_up_after_its_attempts() {
    let fault = failing(Arc::new(Mem::default()), 5, FaultPlan::fail_before);
    let (store, pace) = retrying(fault.clone(), 0);
    assert_eq!(store.stat(&name("a")).unwrap_err().kind(), ErrorKind::Store);
    assert_eq!((fault.ops(), pace.waits().len()), (5, 4));
}

#[test]
fn retry_leaves_alone_what_it_cannot_help() {
    let fault = Arc::new(Fault::new(Arc::new(Mem::default()), FaultPlan::fail_before(0)));
    let (store, pace) = retrying(fault.clone(), 0);
    assert!(store.delete(&name("a")).is_err());
    assert_eq!(store.get(&name("a"), 1).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!((fault.ops(), pace.waits().len()), (2, 0));
}

#[test]
fn a_put_whose_answer_was_lost_is_still_created() {
    let mem = Arc::new(Mem::default());
    let (store, _) = retrying(failing(mem.clone(), 1, FaultPlan::fail_after), 0);
    assert_eq!(store.put(&name("a"), &[b"12", b"34"]).unwrap(), Put::Created);
    assert_eq!(mem.get(&name("a"), 4).unwrap(), b"1234");
}

#[test]
fn a_put_that_lost_the_race_while_failing_exists() {
    for theirs in [&b"1235"[..], b"12345", b"x"] {
        let mem = Arc::new(Mem::default());
        let fault = failing(mem.clone(), 1, FaultPlan::fail_before);
        mem.put(&name("a"), &[theirs]).unwrap();
        let (store, _) = retrying(fault, 0);
        assert_eq!(store.put(&name("a"), &[b"12", b"34"]).unwrap(), Put::Exists);
    }
}

#[test]
fn a_put_torn_by_the_store_is_damage_and_not_success() {
    let mem = Arc::new(Mem::default());
    let (store, _) = retrying(failing(mem, 1, |n| FaultPlan::torn_write(n, 500)), 0);
    let error = store.put(&name("a"), &[b"12", b"34"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.remedy().is_some());
}

#[test]
fn a_list_that_fails_is_taken_up_where_it_was() {
    let mem = Arc::new(Mem::default());
    for text in ["a", "b", "c"] {
        mem.put(&name(text), &[]).unwrap();
    }
    // It fails after all were visited.
    let (store, _) = retrying(failing(mem, 2, FaultPlan::fail_after), 0);
    let mut seen = Vec::new();
    store
        .list("", &mut |meta| {
            seen.push(meta.name.to_string());
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, ["a", "b", "c"]);
}

#[test]
fn waiting_ends_when_asked_to_stop() {
    let cancel = Cancel::default();
    cancel.cancel();
    let fault = failing(Arc::new(Mem::default()), 5, FaultPlan::fail_before);
    let policy = RetryPolicy { first_delay: Duration::from_secs(3600), ..POLICY };
    let policy = RetryPolicy { max_delay: policy.first_delay, ..policy };
    let store = Retry::new(fault, policy, Arc::new(Fixed(0)), Arc::new(RealPace::new(cancel)));
    assert_eq!(store.stat(&name("a")).unwrap_err().kind(), ErrorKind::Interrupted);
}

#[test]
fn read_only_refuses_to_change_anything() {
    let mem = Arc::new(Mem::default());
    mem.put(&name("a"), &[b"x"]).unwrap();
    let store = ReadOnly::new(mem.clone());
    for object in ["a", "b"] {
        assert_eq!(store.put(&name(object), &[b"y"]).unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(store.delete(&name(object)).unwrap_err().kind(), ErrorKind::Refused);
    }
    assert_eq!(mem.names(), [name("a")]);
}

#[test]
fn rates_hold_in_the_mean() {
    let pace = Arc::new(FakePace::default());
    let limits = Limits {
        upload_bytes_per_sec: Some(1000),
        download_bytes_per_sec: Some(4000),
        concurrent_requests: None,
    };
    let store = Limit::new(Arc::new(Mem::default()), limits, pace.clone());
    let block = [0; 1000];
    for i in 0..11 {
        store.put(&name(&format!("{i}")), &[&block]).unwrap();
    }
    // The first goes at once, each other a second after the one before.
    assert_eq!(pace.elapsed(), Duration::from_secs(10));
    let start = pace.elapsed();
    for i in 0..11 {
        store.get(&name(&format!("{i}")), 1000).unwrap();
    }
    let download = pace.elapsed() - start;
    // 2.75 s worth, less the half second that was saved up and the last, for which none waits.
    assert_eq!(download, Duration::from_secs(2));
    // After a pause not everything that was not used may go at once.
    pace.pass(Duration::from_secs(3600));
    let start = pace.elapsed();
    for i in 0..3 {
        store.get_range(&name(&format!("{i}")), 0, 1000).unwrap();
        store.get_range(&name(&format!("{i}")), 0, 1000).unwrap();
    }
    assert!(pace.elapsed() - start >= Duration::from_millis(700));
}

/// Sees how many calls are under way at a time.
struct Watching {
    inner: Mem,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Store for Watching {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(10));
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.inner.put(name, parts)
    }
    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        self.inner.get(name, limit_bytes)
    }
    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
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

#[test]
fn no_more_requests_at_a_time_than_allowed() {
    let inner =
        Arc::new(Watching { inner: Mem::default(), now: AtomicUsize::new(0), most: AtomicUsize::new(0) });
    let limits = Limits { concurrent_requests: Some(3), ..Limits::default() };
    let store = Limit::new(inner.clone(), limits, Arc::new(FakePace::default()));
    thread::scope(|scope| {
        for i in 0..12 {
            let store = &store;
            scope.spawn(move || store.put(&name(&format!("{i}")), &[]).unwrap());
        }
    });
    assert_eq!(inner.most.load(Ordering::SeqCst), 3);
    assert_eq!(inner.inner.names().len(), 12);
}

/// Puts a, b and c, and reads b.
fn work(store: &dyn Store) -> Result<Vec<u8>> {
    for text in ["a", "b", "c"] {
        store.put(&name(text), &[text.as_bytes(), b"234"])?;
    }
    store.get(&name("b"), 100)
}

fn after(plan: FaultPlan) -> (Vec<String>, Result<Vec<u8>>, Fault) {
    let mem = Arc::new(Mem::default());
    let fault = Fault::new(mem.clone(), plan);
    let result = work(&fault);
    (mem.names().iter().map(ToString::to_string).collect(), result, fault)
}

#[test]
fn faults_come_when_planned() {
    let (names, result, fault) = after(FaultPlan::none());
    assert_eq!((names.len(), result.unwrap().as_slice(), fault.ops()), (3, &b"b234"[..], 4));
    assert_eq!(fault.harmed(), 0);
    let kinds: Vec<_> = fault.log_of_ops().iter().map(|op| op.kind).collect();
    assert_eq!(kinds, [OpKind::Put, OpKind::Put, OpKind::Put, OpKind::Get]);

    for (plan, left, kind) in [
        (FaultPlan::fail_before(1), vec!["a"], ErrorKind::Store),
        (FaultPlan::fail_after(1), vec!["a", "b"], ErrorKind::Store),
        (FaultPlan::torn_write(1, 500), vec!["a", "b"], ErrorKind::Store),
        (FaultPlan::crash_before(1), vec!["a"], ErrorKind::Interrupted),
        (FaultPlan::crash_after(1), vec!["a", "b"], ErrorKind::Interrupted),
        (FaultPlan::crash_torn(1, 500), vec!["a", "b"], ErrorKind::Interrupted),
        (FaultPlan::fail_before(0).on_names("c"), vec!["a", "b"], ErrorKind::Store),
        (FaultPlan::fail_before(0).on_kinds(&[OpKind::Get]), vec!["a", "b", "c"], ErrorKind::Store),
        (FaultPlan::fail_before(9).and(FaultPlan::fail_before(2)), vec!["a", "b"], ErrorKind::Store),
    ] {
        let (names, result, fault) = after(plan);
        let error = result.unwrap_err();
        assert_eq!(
            (names, error.kind()),
            (left.iter().map(ToString::to_string).collect(), kind),
            "{}",
            fault.plan()
        );
        assert!(!error.is_retryable());
        assert_eq!(fault.harmed(), 1);
        assert_eq!(fault.is_dead(), kind == ErrorKind::Interrupted);
    }
    let (_, result, _) = after(FaultPlan::fail_before(0).retryable());
    assert!(result.unwrap_err().is_retryable());
}

#[test]
fn a_torn_write_keeps_a_beginning() {
    let mem = Arc::new(Mem::default());
    let fault = Fault::new(mem.clone(), FaultPlan::torn_write(0, 500));
    assert!(fault.put(&name("a"), &[b"12", b"34"]).is_err());
    assert_eq!(mem.get(&name("a"), 9).unwrap(), b"12");
}

#[test]
fn the_dead_do_nothing_more() {
    let mem = Arc::new(Mem::default());
    let fault = Fault::new(mem.clone(), FaultPlan::crash_after(0).on_writes());
    assert_eq!(fault.stat(&name("a")).unwrap(), None);
    for _ in 0..2 {
        assert_eq!(fault.put(&name("a"), &[]).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(fault.stat(&name("a")).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(fault.get(&name("a"), 1).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(fault.list("", &mut |_| Ok(())).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(fault.delete(&name("a")).unwrap_err().kind(), ErrorKind::Interrupted);
    }
    assert_eq!(mem.names(), [name("a")]);
    assert_eq!(fault.harmed(), 1);
}

#[test]
fn one_bit_is_flipped_and_the_stored_object_stays() {
    let mem = Arc::new(Mem::default());
    mem.put(&name("a"), &[&[0; 4]]).unwrap();
    let fault = Fault::new(mem.clone(), FaultPlan::flip_bit(0, 9).and(FaultPlan::flip_bit(1, 32)));
    assert_eq!(fault.get(&name("a"), 4).unwrap(), [0, 2, 0, 0]);
    assert_eq!(fault.get_range(&name("a"), 1, 3).unwrap(), [0, 1, 0]);
    assert_eq!(fault.get(&name("a"), 4).unwrap(), [0; 4]);
}

#[test]
fn a_seed_replays() {
    let outcome = |seed| {
        let fault = Fault::new(Arc::new(Mem::default()), FaultPlan::seeded(seed, 300));
        (0..200).map(|i| fault.put(&name(&format!("{i}")), &[]).is_ok()).collect::<Vec<_>>()
    };
    assert_eq!(outcome(1), outcome(1));
    assert_ne!(outcome(1), outcome(2));
    let failed = outcome(1).iter().filter(|ok| !**ok).count();
    assert!((30..90).contains(&failed), "{failed}");
    assert!(FaultPlan::seeded(0xbeef, 300).to_string().contains("0xbeef"));
}

#[test]
fn latency_is_the_test_clocks() {
    let clock = Arc::new(ManualClock::new(Time::new(1_800_000_000, 0)));
    let mem = Arc::new(Mem::new(clock.clone()));
    let calls = Arc::new(AtomicU64::new(0));
    let (hook_clock, hook_calls) = (clock.clone(), calls.clone());
    let fault = Fault::new(mem.clone(), FaultPlan::none()).before_each(move |_| {
        hook_clock.advance(Duration::from_secs(5));
        hook_calls.fetch_add(1, Ordering::Relaxed);
    });
    work(&fault).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    assert_eq!(clock.now().secs, 1_800_000_020);
    assert_eq!(mem.stat(&name("b")).unwrap().unwrap().stored_at.secs, 1_800_000_010);
}

#[test]
fn a_fork_goes_its_own_way() {
    let mem = Mem::default();
    mem.put(&name("a"), &[b"12"]).unwrap();
    let fork = mem.fork();
    fork.put(&name("b"), &[]).unwrap();
    assert!(fork.damage(&name("a"), |bytes| bytes[0] ^= 1));
    assert!(!fork.damage(&name("x"), |_| ()));
    assert!(fork.set_stored_at(&name("a"), Time::new(1, 0)));
    assert_eq!((mem.names().len(), mem.total_bytes()), (1, 2));
    assert_eq!(mem.get(&name("a"), 2).unwrap(), b"12");
    assert_ne!(fork.get(&name("a"), 2).unwrap(), b"12");
    assert_eq!(fork.stat(&name("a")).unwrap().unwrap().stored_at, Time::new(1, 0));
    let _: Error = fork.get(&name("z"), 1).unwrap_err();
}
