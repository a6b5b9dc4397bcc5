//! Where a repository is, as a person writes it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::model::{Error, ErrorKind, Result};

use super::s3::Address;

/// A place that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine; absolute.
    Folder(PathBuf),
    /// A bucket, and a prefix in it.
    S3(Address),
}

impl FromStr for Location {
    type Err = Error;

    /// Reads `file:///abs/path` (percent-encoded), `/abs/path` (as it stands) or `s3://bucket/prefix`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(ErrorKind::Config, "use the repository's place", why)
                .hint("write file:///absolute/path, the absolute path itself, or s3://bucket/prefix")
        };
        if text.starts_with('/') {
            if text.contains('\0') {
                return Err(bad("the path holds a zero byte"));
            }
            return Ok(Self::Folder(PathBuf::from(text)));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("it is neither a URL nor an absolute path"));
        };
        match scheme {
            "file" => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(bad("a file:// URL needs an absolute path, and so three slashes"));
                }
                if path.contains(['?', '#']) {
                    return Err(bad("a file:// URL has no query or fragment")
                        .hint("write ? as %3F and # as %23, or give the absolute path itself"));
                }
                let bytes = percent_decode(path).ok_or_else(|| bad("it has a broken % sequence"))?;
                Ok(Self::Folder(PathBuf::from(OsString::from_vec(bytes))))
            }
            "s3" => Ok(Self::S3(Address::parse(rest)?)),
            _ => Err(bad("its scheme is not known: there are file:// and s3://")),
        }
    }
}

/// The `file://` URL of an absolute path. Reads back as the same path.
pub(super) fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'+' | b'@' | b',' | b'=' | b':' => url.push(*byte as char),
            b if b.is_ascii_alphanumeric() => url.push(*b as char),
            b => url.push_str(&format!("%{b:02X}")),
        }
    }
    url
}

/// `None` where a `%` has no two hexadecimal digits after it, or stands for a zero byte.
fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let decoded = if byte == b'%' {
            let mut digit = || (bytes.next()? as char).to_digit(16);
            (digit()? << 4 | digit()?) as u8
        } else {
            byte
        };
        if decoded == 0 {
            return None;
        }
        out.push(decoded);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folder(text: &str) -> PathBuf {
        match text.parse::<Location>().unwrap() {
            Location::Folder(path) => path,
            Location::S3(_) => panic!("{text} is no folder"),
        }
    }

    #[test]
    fn places_read_as_written() {
        assert_eq!(folder("/srv/a b%20c"), Path::new("/srv/a b%20c"));
        assert_eq!(folder("file:///srv/a%20b"), Path::new("/srv/a b"));
        assert_eq!(folder("file://localhost/srv"), Path::new("/srv"));
        let Location::S3(address) = "s3://bucket/prefix/".parse().unwrap() else { panic!() };
        assert_eq!(address.to_string(), "s3://bucket/prefix");
    }

    #[test]
    fn wrong_places_are_config_errors_with_a_remedy() {
        for bad in [
            "",
            "srv/backup",
            "./backup",
            "file://srv/backup",
            "file:/srv",
            "file:///a%2",
            "file:///a%zz",
            "file:///a%00",
            "file:///a?b",
            "file:///a#b",
            "/a\0b",
            "s3://",
            "s3://user:hunter2@bucket/x",
            "ftp://user:hunter2@host/x",
        ] {
            let error = bad.parse::<Location>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(error.remedy().is_some(), "{bad}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_path_survives_its_url(tail in proptest::collection::vec(1u8.., 0..40)) {
            let mut bytes = b"/".to_vec();
            bytes.extend(tail);
            let path = PathBuf::from(OsString::from_vec(bytes));
            prop_assert_eq!(folder(&file_url(&path)), path);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = text.parse::<Location>();
        }
    }
}
