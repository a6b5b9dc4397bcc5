//! A store in memory whose objects a test can damage.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use muster::model::{Error, ErrorKind, ObjectName, Result, Time};
use muster::ports::{Capabilities, ObjectMeta, Put, Store};

/// Objects by name, with their store time.
#[derive(Default)]
pub struct MemStore {
    objects: Mutex<BTreeMap<String, (Vec<u8>, Time)>>,
    unreachable: AtomicBool,
}

impl MemStore {
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.objects.lock().unwrap().keys().filter(|n| n.starts_with(prefix)).cloned().collect()
    }
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.objects.lock().unwrap()[name].0.clone()
    }
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        edit(&mut self.objects.lock().unwrap().get_mut(name).unwrap().0);
    }
    pub fn flip(&self, name: &str, at: usize) {
        self.edit(name, |bytes| bytes[at] ^= 1);
    }
    pub fn remove(&self, name: &str) -> Vec<u8> {
        self.objects.lock().unwrap().remove(name).unwrap().0
    }
    pub fn insert(&self, name: &str, bytes: Vec<u8>) {
        self.objects.lock().unwrap().insert(name.to_owned(), (bytes, Time::new(2_000, 0)));
    }
    /// From now on reading packs fails as a broken line does.
    pub fn cut_line(&self, cut: bool) {
        self.unreachable.store(cut, Ordering::Relaxed);
    }
    fn with<T>(&self, name: &ObjectName, with: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        if self.unreachable.load(Ordering::Relaxed) && name.as_str().starts_with("packs/") {
            return Err(Error::new(ErrorKind::Store, "read", "the line is cut")
                .on(name.to_string())
                .retryable());
        }
        match self.objects.lock().unwrap().get(name.as_str()) {
            Some((bytes, _)) => with(bytes),
            None => Err(Error::new(ErrorKind::NotFound, "read", "there is none").on(name.to_string())),
        }
    }
}

impl Store for MemStore {
    fn describe(&self) -> String {
        "mem:".to_owned()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { conditional_put: true }
    }
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(name.as_str()) {
            return Ok(Put::Exists);
        }
        objects.insert(name.as_str().to_owned(), (parts.concat(), Time::new(1_000, 0)));
        Ok(Put::Created)
    }
    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        self.with(name, |bytes| {
            if bytes.len() as u64 > limit_bytes {
                return Err(Error::new(ErrorKind::Limit, "read", "it is too large").on(name.to_string()));
            }
            Ok(bytes.to_vec())
        })
    }
    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.with(name, |bytes| {
            bytes
                .get(offset as usize..(offset + len) as usize)
                .map(<[u8]>::to_vec)
                .ok_or_else(|| Error::new(ErrorKind::Damaged, "read", "it is too short").on(name.to_string()))
        })
    }
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        let objects = self.objects.lock().unwrap();
        Ok(objects.get(name.as_str()).map(|(bytes, at)| ObjectMeta {
            name: name.clone(),
            size: bytes.len() as u64,
            stored_at: *at,
        }))
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        let metas: Vec<ObjectMeta> = {
            let objects = self.objects.lock().unwrap();
            let wanted = objects.iter().filter(|(name, _)| name.starts_with(prefix));
            wanted
                .map(|(name, (bytes, at))| ObjectMeta {
                    name: ObjectName::new(name.clone()).unwrap(),
                    size: bytes.len() as u64,
                    stored_at: *at,
                })
                .collect()
        };
        metas.into_iter().try_for_each(visit)
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.objects.lock().unwrap().remove(name.as_str());
        Ok(())
    }
}
