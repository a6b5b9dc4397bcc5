//! Holds back: bytes a second each way, and requests at a time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::model::{ObjectName, Result};
use crate::ports::{Capabilities, ObjectMeta, Put, Store};

use super::Pace;

/// The bounds. `None` means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second that are put; at least 1.
    pub upload_bytes_per_sec: Option<u64>,
    /// Bytes a second that are got; at least 1.
    pub download_bytes_per_sec: Option<u64>,
    /// Requests under way at a time; at least 1. A listing takes no slot, since its
    /// visitor may make requests itself.
    pub concurrent_requests: Option<usize>,
}

/// Keeps within [`Limits`]. Objects go whole, so the rate is that of the mean over
/// some objects: after each, the next one waits until its time has come.
pub struct Limit {
    inner: Arc<dyn Store>,
    pace: Arc<dyn Pace>,
    upload: Option<Bucket>,
    download: Option<Bucket>,
    slots: Option<Slots>,
}

impl Limit {
    /// Around `inner`.
    pub fn new(inner: Arc<dyn Store>, limits: Limits, pace: Arc<dyn Pace>) -> Self {
        Self {
            inner,
            pace,
            upload: limits.upload_bytes_per_sec.map(Bucket::new),
            download: limits.download_bytes_per_sec.map(Bucket::new),
            slots: limits.concurrent_requests.map(Slots::new),
        }
    }

    fn slot(&self) -> Option<Slot<'_>> {
        self.slots.as_ref().map(Slots::take)
    }

    /// As [`wait`](Self::wait), but once somebody asks to stop nothing waits any more: what is put then
    /// makes an orderly end (an index of what is stored, the end of a session).
    fn wait_to_put(&self, bytes: u64) -> Result<()> {
        if self.pace.is_ending() { Ok(()) } else { self.wait(self.upload.as_ref(), bytes) }
    }

    /// Waits until `bucket` lets something through again.
    fn wait(&self, bucket: Option<&Bucket>, bytes: u64) -> Result<()> {
        let Some(bucket) = bucket else { return Ok(()) };
        let wait = bucket.reserve(self.pace.elapsed(), bytes);
        if wait.is_zero() { Ok(()) } else { self.pace.sleep(wait) }
    }

    /// How much comes stands fast only afterwards (a range from a damaged index may be
    /// absurd), so the next one waits for it.
    fn download(&self, get: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        self.wait(self.download.as_ref(), 0)?;
        let _slot = self.slot();
        let got = get()?;
        if let Some(bucket) = &self.download {
            bucket.reserve(self.pace.elapsed(), got.len() as u64);
        }
        Ok(got)
    }
}

/// A token bucket, kept as the moment at which it is full again.
struct Bucket {
    bytes_per_sec: u64,
    free_at: Mutex<Duration>,
}

/// What may go at once after a pause: this much time's worth.
const BURST: Duration = Duration::from_millis(500);

impl Bucket {
    fn new(bytes_per_sec: u64) -> Self {
        Self { bytes_per_sec: bytes_per_sec.max(1), free_at: Mutex::default() }
    }

    /// Takes `bytes` and tells how long to wait before they may go.
    fn reserve(&self, now: Duration, bytes: u64) -> Duration {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*free_at).max(now.saturating_sub(BURST));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_sec);
        *free_at = start.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        start.saturating_sub(now)
    }
}

struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(count: usize) -> Self {
        Self { free: Mutex::new(count.max(1)), freed: Condvar::new() }
    }

    fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

impl Store for Limit {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.wait_to_put(bytes)?;
        let _slot = self.slot();
        self.inner.put(name, parts)
    }

    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        self.download(|| self.inner.get(name, limit_bytes))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.download(|| self.inner.get_range(name, offset, len))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        let _slot = self.slot();
        self.inner.stat(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let _slot = self.slot();
        self.inner.delete(name)
    }

    fn lock(&self, name: &ObjectName) -> Result<Option<String>> {
        let _slot = self.slot();
        self.inner.lock(name)
    }
}
