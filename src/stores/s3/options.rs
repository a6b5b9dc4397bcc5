//! What a bucket is reached with.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::name::NAME_MAX_BYTES;
use crate::model::{Error, ErrorKind, Result, Secret};

/// Longest key that S3 takes, in bytes.
const KEY_MAX_BYTES: usize = 1024;

/// `s3://bucket/prefix`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The bucket.
    pub bucket: String,
    /// What every object's key begins with: empty, or ending in a slash.
    pub prefix: String,
}

impl Address {
    /// Reads what follows `s3://`. What is wrong with it is said without repeating it:
    /// it may hold what it should not.
    pub fn parse(rest: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(ErrorKind::Config, "use the repository's place", why)
                .hint("write s3://bucket/prefix; endpoint, region and keys stand in [repository.s3]")
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains(['@', ':']) {
            return Err(bad("an s3:// address holds no user, password or port"));
        }
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        if !is_bucket {
            return Err(bad("the bucket's name is not 3 to 63 letters, digits, `.`, `-` and `_`"));
        }
        let prefix = prefix.trim_end_matches('/');
        let part_ok = |part: &str| {
            let is_dots = part == "." || part == "..";
            !part.is_empty()
                && !is_dots
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-=@".contains(&b))
        };
        if !prefix.is_empty() && !prefix.split('/').all(part_ok) {
            return Err(bad(
                "the prefix is not made of letters, digits, `.`, `_`, `-`, `=`, `@` and single slashes",
            ));
        }
        if prefix.len() + 1 + NAME_MAX_BYTES > KEY_MAX_BYTES {
            return Err(bad("the prefix is too long"));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix.trim_end_matches('/'))
    }
}

/// A key pair, and a token where it is a temporary one.
#[derive(Clone, Debug)]
pub struct AccessKeys {
    /// The access key's id.
    pub id: Secret<String>,
    /// The secret access key.
    pub secret: Secret<String>,
    /// The session token of temporary keys.
    pub token: Option<Secret<String>>,
}

/// Fetches the keys. Called again when the store says that they have expired: a file or a
/// program may have newer ones by then.
pub type FetchKeys = Arc<dyn Fn() -> Result<AccessKeys> + Send + Sync>;

/// Where the keys come from.
#[derive(Clone, Default)]
pub enum Credentials {
    /// The default chain: environment, profile, web identity, container, instance.
    #[default]
    Chain,
    /// The default chain, with a profile of this name.
    Profile(String),
    /// From us.
    Given(FetchKeys),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain => f.write_str("Chain"),
            Self::Profile(name) => write!(f, "Profile({name:?})"),
            Self::Given(_) => f.write_str("Given"),
        }
    }
}

/// Which checksum goes with every object, beside Muster's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// CRC32C, until the server refuses it; then none.
    #[default]
    Auto,
    /// CRC32C; a server that refuses it is an error.
    Crc32c,
    /// SHA-256; a server that refuses it is an error.
    Sha256,
    /// None.
    Off,
}

/// Encryption at rest that the server is asked for. What Muster stores is sealed already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of the store: `AES256`.
    Aes256,
    /// With a key of the key management service: `aws:kms`.
    Kms {
        /// Which; none means the bucket's.
        key: Option<String>,
    },
}

/// What is known of conditional puts at this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConditionalPut {
    /// Nothing: look first, put with the condition, and promise nothing.
    #[default]
    Unknown,
    /// A probe found that they work, also when many race.
    Works,
    /// A probe found that they do not: look first, then put.
    Ignored,
}

/// Everything but the address.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// `https://host:port`; none means AWS.
    pub endpoint: Option<String>,
    /// The region; none means that of the environment, else `us-east-1`.
    pub region: Option<String>,
    /// The bucket stands in the path, not in the host's name. By default wherever there is
    /// an endpoint.
    pub path_style: Option<bool>,
    /// Where the keys come from.
    pub credentials: Credentials,
    /// Certificates in PEM form that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The class that objects are stored in; none means the server's default.
    pub storage_class: Option<String>,
    /// Encryption at rest.
    pub encryption: Option<Encryption>,
    /// Checksums on the wire.
    pub checksums: Checksums,
    /// What is known of conditional puts.
    pub conditional_put: ConditionalPut,
    /// How long the store may take to answer, beside what its bytes take; none means a minute.
    pub answer_timeout: Option<Duration>,
    /// When an object goes in parts; none means [`Multipart::default`].
    pub multipart: Option<Multipart>,
}

/// When an object goes in parts, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multipart {
    /// Objects of this size and more.
    pub from_bytes: usize,
    /// A part's size; at least 5 MiB, as S3 asks.
    pub part_bytes: usize,
    /// Parts of one object under way at a time.
    pub at_a_time: usize,
}

/// Packs are 32 MiB, and one put is the fastest for them (docs/BENCHMARKS.md): parts begin
/// beyond, where a part that fails is cheaper to send again than the whole.
impl Default for Multipart {
    fn default() -> Self {
        Self { from_bytes: 96 << 20, part_bytes: 16 << 20, at_a_time: 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, bucket, prefix) in [
            ("bucket", "bucket", ""),
            ("bucket/", "bucket", ""),
            ("bucket/a", "bucket", "a/"),
            ("my.bucket-1/a/b.c_d@e=f//", "my.bucket-1", "a/b.c_d@e=f/"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.bucket.as_str(), address.prefix.as_str()), (bucket, prefix), "{text}");
        }
        assert_eq!(Address::parse("bucket/a/").unwrap().to_string(), "s3://bucket/a");
        assert_eq!(Address::parse("bucket").unwrap().to_string(), "s3://bucket/");
    }

    #[test]
    fn wrong_addresses_are_refused_and_not_repeated() {
        let long = format!("bucket/{}", "a".repeat(800));
        for bad in [
            "",
            "/x",
            "ab",
            "buck et",
            "key:hunter2@bucket/x",
            "hunter2:9000/x",
            "bucket//a",
            "bucket/../hunter2",
            "bucket/a/./hunter2",
            "bucket/hunter2?x",
            "bucket/hunter2#x",
            "bucket/%41hunter2",
            "bucket/ä",
            "bucket/a+b",
            &long,
        ] {
            let error = Address::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(!format!("{error}{:?}", error.remedy()).contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn keys_never_print() {
        let keys = AccessKeys {
            id: Secret::new("AKIAhunter2".into()),
            secret: Secret::new("hunter2".into()),
            token: None,
        };
        let given = Credentials::Given(Arc::new(move || Ok(keys.clone())));
        let options = S3Options { credentials: given, ..S3Options::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
