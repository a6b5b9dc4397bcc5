//! A store that can only be read: for drills, and for looking at another's repository.

use std::sync::Arc;

use crate::model::{Error, ErrorKind, ObjectName, Result};
use crate::ports::{Capabilities, ObjectMeta, Put, Store};

/// Refuses to write or delete.
pub struct ReadOnly(Arc<dyn Store>);

impl ReadOnly {
    /// `inner`, to be read only.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self(inner)
    }
}

fn refused(what: &str, name: &ObjectName) -> Error {
    Error::new(ErrorKind::Refused, what, "the repository is opened for reading only").on(name.as_str())
}

impl Store for ReadOnly {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    fn put(&self, name: &ObjectName, _parts: &[&[u8]]) -> Result<Put> {
        Err(refused("store the object", name))
    }
    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        self.0.get(name, limit_bytes)
    }
    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.0.get_range(name, offset, len)
    }
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        self.0.stat(name)
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.0.list(prefix, visit)
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        Err(refused("delete the object", name))
    }
    fn lock(&self, name: &ObjectName) -> Result<Option<String>> {
        self.0.lock(name)
    }
}
