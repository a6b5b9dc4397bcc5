//! Stores: one file a kind, and wrappers.

use std::sync::Arc;

use crate::model::{Error, ErrorKind, Result};
use crate::ports::Store;

pub mod local;
pub mod mem;
mod url;
pub mod wrap;

pub use local::Local;
pub use mem::Mem;
pub use url::Location;

/// Opens the store that `url` names (`file:///srv/backup`, or an absolute path). What
/// is not there is an error: a disk that is not mounted must not become a new, empty
/// repository.
pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    connect(url, Local::open)
}

/// As [`open`], and makes the place first where it is not there.
pub fn create(url: &str) -> Result<Arc<dyn Store>> {
    connect(url, Local::create)
}

/// The one place that knows which kinds of stores there are.
fn connect(url: &str, local: fn(&std::path::Path) -> Result<Local>) -> Result<Arc<dyn Store>> {
    match url.parse::<Location>()? {
        Location::Folder(path) => Ok(Arc::new(local(&path)?)),
        Location::S3 => Err(Error::new(
            ErrorKind::Unsupported,
            "open the repository",
            "this build has no s3:// store: it comes with a later version",
        )
        .hint("use a folder for now: file:///path")),
    }
}
