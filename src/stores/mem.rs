//! A store in memory, for tests: deterministic where its clock is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{ObjectName, Result, Time};
use crate::ports::{Capabilities, Clock, ObjectMeta, Put, Store};

use super::wrap::{check_prefix, missing, over_limit, too_short};

/// A store in memory.
pub struct Mem {
    clock: Arc<dyn Clock>,
    objects: Mutex<BTreeMap<ObjectName, Object>>,
}

#[derive(Clone)]
struct Object {
    bytes: Arc<Vec<u8>>,
    stored_at: Time,
}

/// A clock that moves one millisecond forward each time it is asked, from a fixed day.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Time {
        Time::from_unix_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// The store's time then is 2026-01-01T00:00:00Z, and a millisecond more for every object.
impl Default for Mem {
    fn default() -> Self {
        Self::new(Arc::new(Ticking(AtomicI64::new(1_767_225_600_000))))
    }
}

impl Mem {
    /// An empty store whose own time is `clock`'s.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, objects: Mutex::default() }
    }

    /// A store with the same objects and clock, which then goes its own way: the state
    /// at a crash, to be opened again. Content is shared, so it costs little.
    pub fn fork(&self) -> Self {
        Self { clock: self.clock.clone(), objects: Mutex::new(self.lock().clone()) }
    }

    /// Changes a stored object's bytes in place, as damage would; `false` if it is not there.
    pub fn damage(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        match self.lock().get_mut(name) {
            Some(object) => {
                change(Arc::make_mut(&mut object.bytes));
                true
            }
            None => false,
        }
    }

    /// Sets the store's time of an object, as if it had been put then; `false` if it is not there.
    pub fn set_stored_at(&self, name: &ObjectName, time: Time) -> bool {
        self.lock().get_mut(name).map(|object| object.stored_at = time).is_some()
    }

    /// The names of all objects, in order.
    pub fn names(&self) -> Vec<ObjectName> {
        self.lock().keys().cloned().collect()
    }

    /// The bytes of all objects together.
    pub fn total_bytes(&self) -> u64 {
        self.lock().values().map(|object| object.bytes.len() as u64).sum()
    }

    // A panic of a thread that held the lock leaves the map whole: every change is one call.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &ObjectName) -> Result<Object> {
        self.lock().get(name).cloned().ok_or_else(|| missing(name.as_str()))
    }
}

impl Store for Mem {
    fn describe(&self) -> String {
        "mem:".to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { conditional_put: true }
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        let bytes = Arc::new(parts.concat());
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Ok(Put::Exists);
        }
        let stored_at = self.clock.now();
        objects.insert(name.clone(), Object { bytes, stored_at });
        Ok(Put::Created)
    }

    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        let object = self.find(name)?;
        let size = object.bytes.len() as u64;
        if size > limit_bytes {
            return Err(over_limit(name.as_str(), size, limit_bytes));
        }
        Ok(object.bytes.to_vec())
    }

    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        let object = self.find(name)?;
        let size = object.bytes.len() as u64;
        let range =
            offset.checked_add(len).filter(|end| *end <= size).map(|end| offset as usize..end as usize);
        range
            .and_then(|range| object.bytes.get(range))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| too_short(name.as_str(), size, offset, len))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        Ok(self.lock().get_key_value(name).map(meta))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        check_prefix(prefix)?;
        // The lock is not held while `visit` runs, which may call this store.
        let found: Vec<_> = {
            let objects = self.lock();
            objects.iter().filter(|(name, _)| name.as_str().starts_with(prefix)).map(meta).collect()
        };
        found.into_iter().try_for_each(visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.lock().remove(name);
        Ok(())
    }
}

fn meta((name, object): (&ObjectName, &Object)) -> ObjectMeta {
    ObjectMeta { name: name.clone(), size: object.bytes.len() as u64, stored_at: object.stored_at }
}
