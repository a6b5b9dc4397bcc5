//! Files that hold keys or name them: written whole, and never over another.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::model::{Error, Result};

/// For the owner alone.
pub const PRIVATE: u32 = 0o600;
/// For everybody to read.
pub const PUBLIC: u32 = 0o644;

/// Writes a file that must not be there yet.
pub fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let failed = |e| {
        Error::io("write", path.display().to_string(), e)
            .hint("nothing is ever overwritten: name another place")
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}
