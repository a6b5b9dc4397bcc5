//! Tries again what may succeed later.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Error, ErrorKind, ObjectName, Result};
use crate::ports::{Capabilities, Entropy, ObjectMeta, Put, Store};

use super::Pace;

/// How often, and how long between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub attempts: u32,
    /// The longest wait after the first attempt; doubles with each.
    pub first_delay: Duration,
    /// No wait is longer than this.
    pub max_delay: Duration,
}

/// Seven attempts within about 25 seconds.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 7, first_delay: Duration::from_millis(400), max_delay: Duration::from_secs(15) }
    }
}

impl RetryPolicy {
    /// Twenty-three attempts within about a quarter of an hour: for writing across a network. A
    /// store that answers 503 for ten minutes then costs ten minutes, and not the backup.
    pub fn patient() -> Self {
        Self { attempts: 23, first_delay: Duration::from_millis(400), max_delay: Duration::from_secs(80) }
    }
}

/// Repeats calls that failed with an error that says a retry can help.
///
/// It keeps `put`'s promise over lost answers: where an attempt failed and the next
/// finds the object there, it is read back. Our own bytes mean `Created`; a beginning
/// of them means that the store tore the first attempt, which is `Damaged`; anything
/// else is somebody else's object, `Exists`.
pub struct Retry {
    inner: Arc<dyn Store>,
    policy: RetryPolicy,
    entropy: Arc<dyn Entropy>,
    pace: Arc<dyn Pace>,
}

impl Retry {
    /// Around `inner`; jitter comes from `entropy`, waiting is done by `pace`.
    pub fn new(
        inner: Arc<dyn Store>,
        policy: RetryPolicy,
        entropy: Arc<dyn Entropy>,
        pace: Arc<dyn Pace>,
    ) -> Self {
        Self { inner, policy, entropy, pace }
    }

    /// Calls `call` with the number of the attempt, from 0, until it succeeds or may not
    /// be tried again.
    fn attempt<T>(&self, mut call: impl FnMut(u32) -> Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            let error = match call(attempt) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            attempt += 1;
            if !error.is_retryable() || attempt >= self.policy.attempts {
                return Err(error);
            }
            let delay = self.delay(attempt)?;
            tracing::warn!(%error, attempt, ?delay, "trying again");
            self.pace.sleep(delay)?;
        }
    }

    /// Between half and the whole of the doubled delay, so that many hosts do not come
    /// back at the same moment.
    fn delay(&self, attempt: u32) -> Result<Duration> {
        let doubled = self.policy.first_delay.saturating_mul(1 << (attempt - 1).min(20));
        let longest = doubled.min(self.policy.max_delay);
        let mut random = [0; 4];
        self.entropy.fill(&mut random)?;
        let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
        Ok(longest.mul_f64(0.5 + 0.5 * share))
    }

    /// What became of an earlier attempt to put `parts`, now that an object is there.
    fn settle(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let found = match self.inner.get(name, len as u64) {
            Ok(found) => found,
            // Longer than ours.
            Err(error) if error.kind() == ErrorKind::Limit => return Ok(Put::Exists),
            Err(error) => return Err(error),
        };
        let mut rest = found.as_slice();
        for part in parts {
            let compared = part.len().min(rest.len());
            if part[..compared] != rest[..compared] {
                return Ok(Put::Exists);
            }
            rest = &rest[compared..];
        }
        if found.len() == len {
            return Ok(Put::Created);
        }
        let why = format!("an attempt that failed left {} of {len} bytes", found.len());
        Err(Error::new(ErrorKind::Damaged, "store the object", why)
            .on(name.as_str())
            .hint("delete that object and run this again"))
    }
}

impl Store for Retry {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        self.attempt(|attempt| match self.inner.put(name, parts)? {
            Put::Exists if attempt > 0 => self.settle(name, parts),
            put => Ok(put),
        })
    }

    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        self.attempt(|_| self.inner.get(name, limit_bytes))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.attempt(|_| self.inner.get_range(name, offset, len))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        self.attempt(|_| self.inner.stat(name))
    }

    /// A list that is begun again visits only what comes after the last object visited.
    /// An error of `visit` itself ends it.
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        let mut last: Option<ObjectName> = None;
        let mut visitors_error = None;
        let listed = self.attempt(|_| {
            let result = self.inner.list(prefix, &mut |meta| {
                if last.as_ref().is_some_and(|last| meta.name <= *last) {
                    return Ok(());
                }
                last = Some(meta.name.clone());
                visit(meta).map_err(|error| {
                    visitors_error = Some(error);
                    Error::new(ErrorKind::Interrupted, "list the objects", "the caller ended it")
                })
            });
            // Whatever the store made of it, the caller's own error is not tried again.
            if visitors_error.is_some() { Ok(()) } else { result }
        });
        visitors_error.map_or(listed, Err)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.attempt(|_| self.inner.delete(name))
    }

    fn lock(&self, name: &ObjectName) -> Result<Option<String>> {
        self.attempt(|_| self.inner.lock(name))
    }
}
