//! Makes a store fail, on purpose and reproducibly.
//!
//! A crash matrix runs the thing once with [`FaultPlan::none`] to learn how many
//! operations it makes, then once for each of them and each way to fail:
//!
//! ```
//! # use std::sync::Arc;
//! # use muster::model::{ObjectName, Result};
//! # use muster::ports::Store;
//! # use muster::stores::{Mem, wrap::{Fault, FaultPlan}};
//! fn work(store: &dyn Store) -> Result<()> {
//!     store.put(&ObjectName::new("a")?, &[b"1"])?;
//!     store.put(&ObjectName::new("b")?, &[b"2"])?;
//!     Ok(())
//! }
//! let calm = Fault::new(Arc::new(Mem::default()), FaultPlan::none().on_writes());
//! work(&calm).unwrap();
//! for n in 0..calm.ops() {
//!     for plan in FaultPlan::crashes(n) {
//!         let mem = Arc::new(Mem::default());
//!         let fault = Fault::new(mem.clone(), plan.on_writes());
//!         assert!(work(&fault).is_err(), "{}", fault.plan());
//!         // Now look at `mem`, or run `work(&*mem)` again.
//!     }
//! }
//! ```

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{Error, ErrorKind, ObjectName, Result};
use crate::ports::{Capabilities, ObjectMeta, Put, Store};

/// Which of a store's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// `put`.
    Put,
    /// `get`.
    Get,
    /// `get_range`.
    GetRange,
    /// `stat`.
    Stat,
    /// `list`.
    List,
    /// `delete`.
    Delete,
}

impl OpKind {
    /// Whether it changes what is stored.
    pub fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::Delete)
    }
}

/// One call, as counted and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Its number among the calls that the plan counts, from 0; `None` where it does
    /// not count this one.
    pub number: Option<u64>,
    /// What it was.
    pub kind: OpKind,
    /// The object's name, or the prefix of a list.
    pub on: String,
    /// Whether the plan harmed it.
    pub harmed: bool,
}

/// What is done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// It is not done, and reports an error.
    Before,
    /// It is done, and reports an error.
    After,
    /// A put stores this share of its bytes, in 1/1000, and reports an error; other
    /// calls fail before.
    Torn(u16),
    /// A get or a range has this bit flipped (modulo its length); other calls are well.
    FlipBit(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    At(u64),
    /// Each call with this chance, in 1/1000, decided by the seed and the call's number.
    Chance {
        seed: u64,
        per_mille: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    when: When,
    harm: Harm,
    /// Whether every later call fails too, as after a crash.
    fatal: bool,
}

/// What goes wrong, and when. Operations are counted from 0; [`on_writes`](Self::on_writes),
/// [`on_kinds`](Self::on_kinds) and [`on_names`](Self::on_names) narrow what is counted.
/// Prints as what it does, to be shown when a test fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    rules: Vec<Rule>,
    kinds: Option<Vec<OpKind>>,
    prefix: String,
    retryable: bool,
}

impl FaultPlan {
    fn one(when: When, harm: Harm, fatal: bool) -> Self {
        Self { rules: vec![Rule { when, harm, fatal }], ..Self::none() }
    }

    /// Nothing goes wrong; operations are counted and logged.
    pub fn none() -> Self {
        Self { rules: Vec::new(), kinds: None, prefix: String::new(), retryable: false }
    }
    /// Operation `n` is not done, and reports an error.
    pub fn fail_before(n: u64) -> Self {
        Self::one(When::At(n), Harm::Before, false)
    }
    /// Operation `n` is done, and yet reports an error: the answer was lost. A list
    /// visits everything and then fails.
    pub fn fail_after(n: u64) -> Self {
        Self::one(When::At(n), Harm::After, false)
    }
    /// Operation `n`, if a put, stores only the first `kept_per_mille` thousandths of its
    /// bytes and reports an error; if something else, it fails before. No store that
    /// passes the conformance suite does this to a put that it calls `Created`; it is what
    /// one that tears (an unsynced disk after a power cut) may leave.
    pub fn torn_write(n: u64, kept_per_mille: u16) -> Self {
        Self::one(When::At(n), Harm::Torn(kept_per_mille), false)
    }
    /// Operation `n`, if a get or a range, returns its bytes with bit `bit` flipped
    /// (counted modulo their number).
    pub fn flip_bit(n: u64, bit: u64) -> Self {
        Self::one(When::At(n), Harm::FlipBit(bit), false)
    }
    /// The process dies before operation `n`: it and every later one, of any kind, fail
    /// with `Interrupted`.
    pub fn crash_before(n: u64) -> Self {
        Self::one(When::At(n), Harm::Before, true)
    }
    /// The process dies after operation `n` was done, before it learns of it.
    pub fn crash_after(n: u64) -> Self {
        Self::one(When::At(n), Harm::After, true)
    }
    /// The process dies while operation `n` is half done.
    pub fn crash_torn(n: u64, kept_per_mille: u16) -> Self {
        Self::one(When::At(n), Harm::Torn(kept_per_mille), true)
    }
    /// The two ways to die at operation `n` that every store may show: before, after.
    pub fn crashes(n: u64) -> [Self; 2] {
        [Self::crash_before(n), Self::crash_after(n)]
    }
    /// Every way of failing at operation `n`: an error before, an error after, a death
    /// before, a death after, and on stores that tear, a torn write with and without a death.
    pub fn all_at(n: u64) -> [Self; 6] {
        [
            Self::fail_before(n),
            Self::fail_after(n),
            Self::crash_before(n),
            Self::crash_after(n),
            Self::torn_write(n, 500),
            Self::crash_torn(n, 500),
        ]
    }
    /// Each operation fails with a chance of `per_mille`/1000, before or after, as `seed`
    /// decides: the same seed and the same order of calls fail alike.
    pub fn seeded(seed: u64, per_mille: u16) -> Self {
        let chance = |seed| When::Chance { seed, per_mille: per_mille / 2 };
        Self::one(chance(seed), Harm::Before, false).and(Self::one(chance(!seed), Harm::After, false))
    }
    /// Each get and range has a bit flipped with a chance of `per_mille`/1000.
    pub fn seeded_bit_flips(seed: u64, per_mille: u16) -> Self {
        Self::one(When::Chance { seed, per_mille }, Harm::FlipBit(seed), false)
    }

    /// Also does what `other` does. What is counted stays as it is here.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.rules.extend(other.rules);
        self
    }
    /// Counts, and harms, only operations of these kinds.
    #[must_use]
    pub fn on_kinds(mut self, kinds: &[OpKind]) -> Self {
        self.kinds = Some(kinds.to_vec());
        self
    }
    /// Counts, and harms, only puts and deletes.
    #[must_use]
    pub fn on_writes(self) -> Self {
        self.on_kinds(&[OpKind::Put, OpKind::Delete])
    }
    /// Counts, and harms, only operations on names (or lists of prefixes) that begin so.
    #[must_use]
    pub fn on_names(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }
    /// Its errors say that a retry can help (those of a crash never do).
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    fn counts(&self, kind: OpKind, on: &str) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind)) && on.starts_with(&self.prefix)
    }

    fn rule_for(&self, number: u64) -> Option<Rule> {
        self.rules
            .iter()
            .find(|rule| match rule.when {
                When::At(n) => n == number,
                When::Chance { seed, per_mille } => draw(seed, number) % 1000 < u64::from(per_mille),
            })
            .copied()
    }
}

/// An even draw that depends on nothing but its arguments.
fn draw(seed: u64, number: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    let hash = blake3::hash(&bytes);
    hash.as_bytes()[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rules.is_empty() {
            f.write_str("no fault")?;
        }
        for (i, rule) in self.rules.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            let (verb, noun) = if rule.fatal { ("dies", "death") } else { ("fails", "failure") };
            match rule.harm {
                Harm::Before => write!(f, "{verb} before")?,
                Harm::After => write!(f, "{verb} after")?,
                Harm::Torn(kept) => write!(f, "torn at {kept}/1000 with a {noun} in")?,
                Harm::FlipBit(bit) => write!(f, "bit {bit} flipped in")?,
            }
            match rule.when {
                When::At(n) => write!(f, " operation {n}")?,
                When::Chance { seed, per_mille } => {
                    write!(f, " {per_mille}/1000 of operations (seed {seed:#x})")?;
                }
            }
        }
        if let Some(kinds) = &self.kinds {
            write!(f, ", counting {kinds:?}")?;
        }
        if !self.prefix.is_empty() {
            write!(f, ", on {}…", self.prefix)?;
        }
        Ok(())
    }
}

/// A store that fails as planned, counts, and keeps a log.
pub struct Fault {
    inner: Arc<dyn Store>,
    plan: FaultPlan,
    dead: AtomicBool,
    log: Mutex<Log>,
    before_each: Option<Hook>,
}

#[derive(Default)]
struct Log {
    counted: u64,
    ops: Vec<Op>,
}

/// Called with every operation before it is done.
type Hook = Box<dyn Fn(&Op) + Send + Sync>;

impl Fault {
    /// Around `inner`.
    pub fn new(inner: Arc<dyn Store>, plan: FaultPlan) -> Self {
        Self { inner, plan, dead: AtomicBool::new(false), log: Mutex::default(), before_each: None }
    }

    /// Calls `hook` before every operation: to let a test clock run on (latency), to
    /// change the store behind a job's back, to cancel.
    #[must_use]
    pub fn before_each(mut self, hook: impl Fn(&Op) + Send + Sync + 'static) -> Self {
        self.before_each = Some(Box::new(hook));
        self
    }

    /// How many operations were made that the plan counts.
    pub fn ops(&self) -> u64 {
        self.log().counted
    }

    /// Every operation so far, in the order in which they began.
    pub fn log_of_ops(&self) -> Vec<Op> {
        self.log().ops.clone()
    }

    /// How many operations were harmed; a matrix should see at least one.
    pub fn harmed(&self) -> u64 {
        self.log().ops.iter().filter(|op| op.harmed).count() as u64
    }

    /// Whether the planned crash has come.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// What it does.
    pub fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and logs a call, and says what is to happen to it.
    fn begin(&self, kind: OpKind, on: &str) -> Result<Option<Rule>> {
        let (op, rule) = {
            let mut log = self.log();
            let number = self.plan.counts(kind, on).then(|| {
                log.counted += 1;
                log.counted - 1
            });
            let rule = number.and_then(|n| self.plan.rule_for(n)).filter(|_| !self.is_dead());
            let op = Op { number, kind, on: on.to_owned(), harmed: rule.is_some() };
            log.ops.push(op.clone());
            (op, rule)
        };
        if let Some(hook) = &self.before_each {
            hook(&op);
        }
        if self.is_dead() {
            return Err(self.error(kind, on, true));
        }
        if rule.is_some_and(|rule| rule.fatal) {
            self.dead.store(true, Ordering::SeqCst);
        }
        Ok(rule)
    }

    fn error(&self, kind: OpKind, on: &str, fatal: bool) -> Error {
        let what = format!("{kind:?}").to_lowercase();
        if fatal {
            return Error::new(ErrorKind::Interrupted, what, "the process died (planned)").on(on);
        }
        let error = Error::new(ErrorKind::Store, what, "the store failed (planned)").on(on);
        if self.plan.retryable { error.retryable() } else { error }
    }

    /// Does `call` as the plan wants it.
    fn run<T>(
        &self,
        kind: OpKind,
        on: &str,
        call: impl FnOnce() -> Result<T>,
        torn: impl FnOnce(u16),
        flip: impl FnOnce(&mut T, u64),
    ) -> Result<T> {
        let Some(rule) = self.begin(kind, on)? else { return call() };
        match rule.harm {
            Harm::Before => Err(self.error(kind, on, rule.fatal)),
            Harm::After => call().and_then(|_| Err(self.error(kind, on, rule.fatal))),
            Harm::Torn(kept_per_mille) => {
                torn(kept_per_mille);
                Err(self.error(kind, on, rule.fatal))
            }
            Harm::FlipBit(bit) => {
                let mut value = call()?;
                flip(&mut value, bit);
                Ok(value)
            }
        }
    }
}

fn flip_bit(bytes: &mut [u8], bit: u64) {
    if !bytes.is_empty() {
        let bit = bit % (bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

fn no_flip<T>(_: &mut T, _: u64) {}

impl Store for Fault {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        let torn = |kept_per_mille: u16| {
            let whole = parts.concat();
            let kept = whole.len() as u64 * u64::from(kept_per_mille.min(1000)) / 1000;
            // It reports an error whatever comes of it.
            let _ = self.inner.put(name, &[&whole[..kept as usize]]);
        };
        self.run(OpKind::Put, name.as_str(), || self.inner.put(name, parts), torn, no_flip)
    }

    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        let call = || self.inner.get(name, limit_bytes);
        self.run(OpKind::Get, name.as_str(), call, |_| {}, |bytes, bit| flip_bit(bytes, bit))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        let call = || self.inner.get_range(name, offset, len);
        self.run(OpKind::GetRange, name.as_str(), call, |_| {}, |bytes, bit| flip_bit(bytes, bit))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        self.run(OpKind::Stat, name.as_str(), || self.inner.stat(name), |_| {}, no_flip)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.run(OpKind::List, prefix, || self.inner.list(prefix, visit), |_| {}, no_flip)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.run(OpKind::Delete, name.as_str(), || self.inner.delete(name), |_| {}, no_flip)
    }

    fn lock(&self, name: &ObjectName) -> Result<Option<String>> {
        self.inner.lock(name)
    }
}
