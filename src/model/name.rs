//! Names of stored objects.

use std::fmt;

use super::error::{Error, ErrorKind, Result};

/// The name of one object inside a repository: `/`-separated parts of
/// `[A-Za-z0-9._-]`, none empty, none beginning with a dot. So a name can never
/// leave the repository's folder or prefix, and every store can hold it as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// Where objects lie by which a store was tried out. They are no part of a repository, and stay where
/// their maker may not delete.
pub const PROBE_FOLDER: &str = "probe/";

/// Longest name, in bytes.
pub const NAME_MAX_BYTES: usize = 255;

impl ObjectName {
    /// Checks and takes a name.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let part_ok = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if text.len() > NAME_MAX_BYTES || !text.split('/').all(part_ok) {
            return Err(
                Error::new(ErrorKind::Damaged, "use the object name", "it is not a valid name").on(text)
            );
        }
        Ok(Self(text))
    }

    /// Whether it was made to try the store out.
    pub fn is_of_a_probe(&self) -> bool {
        self.0.starts_with(PROBE_FOLDER)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last `/`.
    pub fn leaf(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_repository() {
        for good in ["points/01ARYZ6S41", "packs/data/ab/abcd", "a", "x/y.z_-1"] {
            assert_eq!(ObjectName::new(good).unwrap().as_str(), good);
        }
        let long = "a".repeat(256);
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a b", "ä", "a\\b", &long] {
            assert!(ObjectName::new(bad).is_err(), "{bad}");
        }
    }
}
