//! Identifiers. Each is a newtype, so that a pack is never taken for a chunk.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use super::error::{Error, ErrorKind, Result};
use super::time::Time;

/// Lower-case hexadecimal text of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of canonical (lower-case, even) hexadecimal text of exactly `N` bytes.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $len:literal, $word:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Its bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
            /// From a slice of exactly the right length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), to_hex(&self.0))
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                from_hex(text).map(Self).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Usage,
                        concat!("read the ", $word),
                        format!("{text:?} is not {} lower-case hexadecimal digits", $len * 2),
                    )
                })
            }
        }
    };
}

id!(
    /// A keyed BLAKE3 hash of a chunk's bytes.
    ChunkId, 32, "chunk id"
);
id!(
    /// The BLAKE3 hash of a pack's bytes; also its name.
    PackId, 32, "pack id"
);
id!(
    /// The BLAKE3 hash of a sealed blob's bytes.
    BlobHash, 32, "blob hash"
);
id!(
    /// A BLAKE3 hash of stored bytes.
    Hash, 32, "hash"
);
id!(
    /// A repository, chosen at random by `init`.
    RepositoryId, 16, "repository id"
);
id!(
    /// A writer, a drill host or a recipient.
    PartyId, 8, "key id"
);
id!(
    /// An epoch key.
    EpochId, 8, "epoch id"
);

/// A ULID: 48 bits of milliseconds and 80 of randomness, sorted by time.
/// Source: <https://github.com/ulid/spec>.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Ulid(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// Crockford's base 32.
const ULID_ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Ulid {
    /// A ULID of the host's clock `now` and ten random bytes.
    pub fn new(now: Time, random: [u8; 10]) -> Self {
        let millis = now.unix_millis().clamp(0, (1 << 48) - 1) as u64;
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        Self(bytes)
    }

    /// The host's clock when it was made: advice only.
    pub fn time(&self) -> Time {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&self.0[..6]);
        Time::from_unix_millis(u64::from_be_bytes(millis) as i64)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let text: String =
            (0..26).rev().map(|i| ULID_ALPHABET[(value >> (5 * i) & 31) as usize] as char).collect();
        f.write_str(&text)
    }
}
impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ulid({self})")
    }
}
impl FromStr for Ulid {
    type Err = Error;
    /// Canonical text only: 26 capital characters, the first at most `7`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(ErrorKind::Usage, "read the ULID", format!("{text:?} is not one"));
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return Err(bad());
        }
        let mut value = 0u128;
        for c in text.bytes() {
            let digit = ULID_ALPHABET.iter().position(|a| *a == c).ok_or_else(bad)?;
            value = value << 5 | digit as u128;
        }
        Ok(Self(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulid_text_is_canonical_and_round_trips() {
        let ulid = Ulid::new(Time::from_unix_millis(1_469_918_176_385), [0xff; 10]);
        assert_eq!(&ulid.to_string()[..10], "01ARYZ6S41");
        assert_eq!(ulid.to_string().parse::<Ulid>().unwrap(), ulid);
        assert_eq!(ulid.time().unix_millis(), 1_469_918_176_385);
        for bad in [
            "01aryz6s41zzzzzzzzzzzzzzzz",
            "81ARYZ6S41ZZZZZZZZZZZZZZZZ",
            "01ARYZ6S41",
            "01ARYZ6S41ZZZZZZZZZZZZZZZU",
        ] {
            assert!(bad.parse::<Ulid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hex_is_lower_case_only() {
        assert_eq!(from_hex::<2>("00ff"), Some([0, 255]));
        assert_eq!(from_hex::<2>("00FF"), None);
        assert_eq!(from_hex::<2>("00f"), None);
    }
}
