//! Canonical CBOR: what encodes differently from what was read is refused.

use minicbor::{Decode, Encode};

use crate::model::{Error, ErrorKind, Result};

/// The canonical encoding of `value`.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing to a Vec cannot fail, and no stored type has a failing encoder.
    minicbor::to_vec(value).expect("encoding to memory cannot fail")
}

/// Decodes canonical bytes; `what` names them in the error.
pub fn decode<'b, T: Decode<'b, ()> + Encode<()>>(bytes: &'b [u8], what: &str) -> Result<T> {
    let bad = |why: String| Error::new(ErrorKind::Damaged, format!("decode the {what}"), why);
    let value: T = minicbor::decode(bytes).map_err(|error| bad(error.to_string()))?;
    if encode(&value) != bytes {
        return Err(bad("its encoding is not canonical".to_owned()));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[test]
    fn only_canonical_bytes_are_taken() {
        let good = encode(&Time::new(5, 6));
        assert_eq!(good, [0x82, 5, 6]);
        assert_eq!(decode::<Time>(&good, "time").unwrap(), Time::new(5, 6));
        for bad in
            [&[0x82, 5, 0x18, 6][..], &[0x9f, 5, 6, 0xff], &[0x83, 5, 6, 7], &[0x82, 5, 6, 0], &[0x82, 5]]
        {
            assert!(decode::<Time>(bad, "time").is_err(), "{bad:?}");
        }
    }
}
