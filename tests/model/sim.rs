//! Simulated time, and a store that crashes its users, lags behind, and lets others in between.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use muster::model::{Error, ErrorKind, ObjectName, Result, Time};
use muster::ports::{Bell, Capabilities, Clock, ObjectMeta, Put, Store};
use muster::stores::Mem;

/// How long time waits, while it passes once, for threads that are to wake: on a busy machine more
/// sessions lapse for nothing the shorter this is.
const PATIENCE: Duration = Duration::from_millis(800);

/// The time for which a thread waits that has woken.
const AT_WORK: i64 = i64::MIN;

/// SplitMix64: small, and the same everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// The time of the store; hosts' clocks are ahead or behind by a fixed while.
pub struct SimTime {
    millis: AtomicI64,
    /// Threads that wait for a time, and which; [`AT_WORK`]: they have woken, and do what they woke for.
    sleepers: Mutex<HashMap<u64, (i64, Arc<Process>)>>,
    next_sleeper: AtomicU64,
    tells_whole_seconds: bool,
}

impl SimTime {
    pub fn new(tells_whole_seconds: bool) -> Self {
        Self {
            tells_whole_seconds,
            millis: AtomicI64::new(1_767_225_600_000),
            sleepers: Mutex::default(),
            next_sleeper: AtomicU64::new(0),
        }
    }

    fn millis(&self) -> i64 {
        self.millis.load(Ordering::SeqCst)
    }

    pub fn now(&self) -> Time {
        Time::from_unix_millis(self.millis())
    }

    /// Lets time pass in steps short enough that sessions of processes that are awake are renewed.
    pub fn pass(&self, secs: i64) {
        let mut left = secs * 1000;
        let mut patience = PATIENCE;
        while left > 0 {
            let step = left.min(2_500_000);
            self.millis.fetch_add(step, Ordering::SeqCst);
            left -= step;
            patience = patience.saturating_sub(self.let_sleepers_wake(patience));
        }
    }

    /// Until all that are due have woken, done their work and sleep again. One that is held up by the very
    /// operation during which time passes stays behind: that is a sleep too. Answers with how long it took.
    fn let_sleepers_wake(&self, patience: Duration) -> Duration {
        let began = Instant::now();
        loop {
            let now = self.millis();
            let is_due = |(due, process): &(i64, Arc<Process>)| *due <= now && process.is_awake();
            if !self.sleepers.lock().unwrap().values().any(is_due) || began.elapsed() > patience {
                return began.elapsed();
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Clock for SimTime {
    /// Each look takes a millisecond.
    fn now(&self) -> Time {
        let millis = self.millis.fetch_add(1, Ordering::SeqCst);
        Time::from_unix_millis(if self.tells_whole_seconds {
            millis - millis.rem_euclid(1000)
        } else {
            millis
        })
    }
}

/// One run of the program.
pub struct Process {
    pub host: usize,
    /// How far ahead the host's clock is, in seconds.
    pub skew: i64,
    crashed: AtomicBool,
    asleep: AtomicBool,
    /// Its threads' operations come one after the other.
    gate: Mutex<()>,
    rng: Mutex<Rng>,
}

impl Process {
    pub fn new(host: usize, skew: i64, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            host,
            skew,
            crashed: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            gate: Mutex::new(()),
            rng: Mutex::new(Rng(seed)),
        })
    }

    fn is_awake(&self) -> bool {
        !self.asleep.load(Ordering::SeqCst) && !self.crashed.load(Ordering::SeqCst)
    }

    pub fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }
}

/// A host's clock.
pub struct HostClock {
    pub time: Arc<SimTime>,
    pub process: Arc<Process>,
}

thread_local! {
    /// Set where this thread renews a session: it goes on while its process's other threads are held up.
    static RENEWS: Cell<Option<u64>> = const { Cell::new(None) };
}

impl Clock for HostClock {
    fn now(&self) -> Time {
        SimTime::now(&self.time).plus_secs(self.process.skew)
    }

    fn wait(&self, time: Duration, bell: &Bell) -> bool {
        let id = RENEWS.get().unwrap_or_else(|| self.time.next_sleeper.fetch_add(1, Ordering::SeqCst));
        RENEWS.set(Some(id));
        let due = self.time.millis() + time.as_millis() as i64;
        self.time.sleepers.lock().unwrap().insert(id, (due, self.process.clone()));
        let was_rung = loop {
            if bell.wait(Duration::from_micros(300)) {
                break true;
            }
            if self.time.millis() >= due && self.process.is_awake() {
                break false;
            }
        };
        let mut sleepers = self.time.sleepers.lock().unwrap();
        if was_rung {
            sleepers.remove(&id);
        } else {
            sleepers.insert(id, (AT_WORK, self.process.clone()));
        }
        was_rung
    }
}

/// What may happen between two operations.
pub trait Meanwhile: Send + Sync {
    /// Others do something.
    fn others(&self, rng: &mut Rng);
    /// A thing was deleted or written.
    fn count(&self, what: Happening);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    Operation,
    Crash,
    Failure,
    Sleep,
    Interlude,
    LaggingList,
}

/// How rough life is, in 1/1000 of operations.
#[derive(Clone, Copy)]
pub struct Roughness {
    pub crash: u64,
    pub failure: u64,
    pub sleep: u64,
    pub interlude: u64,
    pub lag: u64,
}

/// A process's view of the store.
pub struct SimStore {
    pub mem: Arc<Mem>,
    pub time: Arc<SimTime>,
    pub process: Arc<Process>,
    pub meanwhile: Arc<dyn Meanwhile>,
    /// What was deleted, and when: lagging lists still show it.
    pub deleted: Arc<Mutex<Vec<(ObjectMeta, Time)>>>,
    pub roughness: Roughness,
    pub margin_secs: i64,
    pub grace_secs: i64,
}

impl SimStore {
    fn crashed(&self) -> Error {
        Error::new(ErrorKind::Store, "use the store", "this process has crashed")
    }

    /// Lets things happen, then does the operation.
    fn operate<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if RENEWS.get().is_some() {
            return if self.process.has_crashed() { Err(self.crashed()) } else { work() };
        }
        let _alone = self.process.gate.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.process.has_crashed() {
            return Err(self.crashed());
        }
        self.meanwhile.count(Happening::Operation);
        let mut rng = Rng(self.process.rng.lock().unwrap().next());
        let rough = self.roughness;
        if rng.chance(rough.sleep) {
            self.sleep(&mut rng);
        }
        if rng.chance(rough.interlude) {
            self.meanwhile.count(Happening::Interlude);
            self.meanwhile.others(&mut rng);
        }
        if rng.chance(rough.failure) {
            self.meanwhile.count(Happening::Failure);
            return Err(
                Error::new(ErrorKind::Store, "use the store", "it is out of order just now").retryable()
            );
        }
        if !rng.chance(rough.crash) {
            return work();
        }
        self.meanwhile.count(Happening::Crash);
        // Before the operation, or after it.
        if rng.chance(500) {
            let _ = work();
        }
        self.process.crashed.store(true, Ordering::SeqCst);
        Err(self.crashed())
    }

    /// Time passes: for all, or while this process sleeps.
    fn sleep(&self, rng: &mut Rng) {
        self.meanwhile.count(Happening::Sleep);
        let secs = match rng.below(10) {
            0..5 => rng.below(60),
            5..8 => rng.below(3000),
            8 => rng.below(20_000),
            _ => rng.below(self.grace_secs as u64 * 3 / 2),
        };
        let sleeps = rng.chance(250);
        self.process.asleep.store(sleeps, Ordering::SeqCst);
        self.time.pass(secs as i64);
        if sleeps && rng.chance(500) {
            self.meanwhile.others(rng);
        }
        self.process.asleep.store(false, Ordering::SeqCst);
    }
}

impl Store for SimStore {
    fn describe(&self) -> String {
        "sim:".to_owned()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { conditional_put: true }
    }
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        self.operate(|| self.mem.put(name, parts))
    }
    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        self.operate(|| self.mem.get(name, limit_bytes))
    }
    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.operate(|| self.mem.get_range(name, offset, len))
    }
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        self.operate(|| self.mem.stat(name))
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        let shown = self.operate(|| {
            let lags = RENEWS.get().is_some() || self.process.rng.lock().unwrap().chance(self.roughness.lag);
            let lag =
                if lags { self.process.rng.lock().unwrap().below(self.margin_secs as u64 * 1000) } else { 0 };
            let since = Time::from_unix_millis(self.time.millis() - lag as i64);
            let mut shown = std::collections::BTreeMap::new();
            self.mem.list(prefix, &mut |meta| {
                if lag == 0 || meta.stored_at <= since {
                    shown.insert(meta.name.clone(), meta);
                }
                Ok(())
            })?;
            if lag > 0 {
                self.meanwhile.count(Happening::LaggingList);
                for (meta, at) in self.deleted.lock().unwrap().iter() {
                    if *at > since && meta.stored_at <= since && meta.name.as_str().starts_with(prefix) {
                        shown.entry(meta.name.clone()).or_insert_with(|| meta.clone());
                    }
                }
            }
            Ok(shown)
        })?;
        shown.into_values().try_for_each(visit)
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.operate(|| {
            if let Some(meta) = self.mem.stat(name)? {
                self.deleted.lock().unwrap().push((meta, SimTime::now(&self.time)));
            }
            self.mem.delete(name)
        })
    }
}
