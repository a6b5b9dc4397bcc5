//! Stores around another store.
//!
//! The usual order, from the outside: `ReadOnly(Retry(Limit(store)))`; in tests
//! `Retry(Fault(Mem))`.

use std::time::{Duration, Instant};

use crate::model::count::counted;
use crate::model::{Bytes, Error, ErrorKind, ObjectName, Result};
use crate::ports::Cancel;

pub mod fault;
pub mod limit;
pub mod readonly;
pub mod retry;

pub use fault::{Fault, FaultPlan, Op, OpKind};
pub use limit::{Limit, Limits};
pub use readonly::ReadOnly;
pub use retry::{Retry, RetryPolicy};

/// Time that passes, and waiting for it. Tests bring their own, so that nothing waits.
pub trait Pace: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;
    /// Waits. An error (`Interrupted`) if someone asked us to stop meanwhile.
    fn sleep(&self, duration: Duration) -> Result<()>;
    /// Whether someone asked us to stop.
    fn is_ending(&self) -> bool {
        false
    }
}

/// The real passing of time.
pub struct RealPace {
    start: Instant,
    cancel: Cancel,
}

impl RealPace {
    /// Real time; waiting ends early once `cancel` is set.
    pub fn new(cancel: Cancel) -> Self {
        Self { start: Instant::now(), cancel }
    }
}

impl Pace for RealPace {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Result<()> {
        const SLICE: Duration = Duration::from_millis(50);
        let start = Instant::now();
        loop {
            self.cancel.check()?;
            let left = duration.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }

    fn is_ending(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// A prefix is empty, or a whole folder that ends in a slash.
pub(super) fn check_prefix(prefix: &str) -> Result<()> {
    let is_folder = |prefix: &str| prefix.strip_suffix('/').is_some_and(|p| ObjectName::new(p).is_ok());
    if prefix.is_empty() || is_folder(prefix) {
        return Ok(());
    }
    Err(Error::internal("list the objects", "the prefix is no whole folder").on(format!("{prefix:?}")))
}

pub(super) fn missing(on: impl Into<String>) -> Error {
    Error::new(ErrorKind::NotFound, "read the object", "it does not exist").on(on)
}

pub(super) fn over_limit(on: impl Into<String>, size: u64, limit: u64) -> Error {
    let why = format!("it has {} and may have at most {}", Bytes(size), Bytes(limit));
    Error::new(ErrorKind::Limit, "read the object", why).on(on)
}

pub(super) fn too_short(on: impl Into<String>, size: u64, offset: u64, len: u64) -> Error {
    let why = format!("it has only {}, and {len} were wanted from byte {offset} on", counted(size, "byte"));
    Error::new(ErrorKind::Damaged, "read a part of the object", why).on(on)
}
