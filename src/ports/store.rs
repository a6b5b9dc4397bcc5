//! Where a repository's objects live.

use crate::model::{ObjectName, Result, Time};

/// What a listing or a look tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its name.
    pub name: ObjectName,
    /// Its size in bytes.
    pub size: u64,
    /// The *store's* time of its creation (Last-Modified), never a host's.
    pub stored_at: Time,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object was not there and is now.
    Created,
    /// An object of that name was there already; nothing was written.
    Exists,
}

/// What a store can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `put` really creates only where nothing is, also when many race.
    pub conditional_put: bool,
}

/// A flat set of immutable objects.
///
/// Every implementation passes the one conformance suite in `tests/conformance/`.
/// Errors say whether a retry can help. A list that fails is an error, never a
/// short list.
pub trait Store: Send + Sync {
    /// For messages: `file:///srv/backup`. Never holds a secret.
    fn describe(&self) -> String;

    /// What it can promise.
    fn capabilities(&self) -> Capabilities;

    /// Stores the concatenation of `parts` under `name` where no such object exists.
    /// When it returns `Created` the bytes are durable and visible whole.
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put>;

    /// The whole object. An object of more than `limit_bytes` is an error (`Limit`).
    /// A missing one is `NotFound`.
    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>>;

    /// Exactly `len` bytes from `offset`; a shorter object is `Damaged`.
    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>>;

    /// What is known of an object; `None` where it does not exist.
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>>;

    /// Calls `visit` for every object whose name starts with `prefix` (a whole
    /// folder, ending in `/`, or empty for all), in byte order of the names.
    /// Things in the place that are no objects (foreign names) are passed over.
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()>;

    /// Removes an object; one that is not there is no error. Where a lock or a policy keeps it, the error
    /// is `Refused`.
    fn delete(&self, name: &ObjectName) -> Result<()>;

    /// Why the bytes of an object would stay although it is deleted, in words; `None` where they would
    /// go, or nobody can tell. Some stores hide a locked object when it is deleted, and keep it.
    fn lock(&self, _name: &ObjectName) -> Result<Option<String>> {
        Ok(None)
    }
}
