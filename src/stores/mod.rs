//! Stores: one file or folder a kind, and wrappers.

use std::sync::Arc;

use crate::model::Result;
use crate::ports::Store;

pub mod local;
pub mod mem;
pub mod probe;
pub mod s3;
mod url;
pub mod wrap;

pub use local::Local;
pub use mem::Mem;
pub use s3::{S3, S3Options};
pub use url::Location;

/// Opens the store that `url` names: `file:///srv/backup`, an absolute path, or
/// `s3://bucket/prefix`, which `s3` tells how to reach. A folder that is not there is an
/// error: a disk that is not mounted must not become a new, empty repository.
pub fn open(url: &str, s3: S3Options) -> Result<Arc<dyn Store>> {
    connect(url, s3, Local::open)
}

/// As [`open`], and makes the folder first where it is not there. A bucket is never made.
pub fn create(url: &str, s3: S3Options) -> Result<Arc<dyn Store>> {
    connect(url, s3, Local::create)
}

/// The one place that knows which kinds of stores there are.
fn connect(url: &str, s3: S3Options, local: fn(&std::path::Path) -> Result<Local>) -> Result<Arc<dyn Store>> {
    match url.parse::<Location>()? {
        Location::Folder(path) => Ok(Arc::new(local(&path)?)),
        Location::S3(address) => Ok(Arc::new(S3::new(address, s3)?)),
    }
}
