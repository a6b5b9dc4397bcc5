//! Sizes: written `1.5 GiB`, read `256MiB`, `2g`, `4096`.

use std::fmt;

use super::error::{Error, ErrorKind, Result};

/// A number of bytes that prints in binary units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // 1023.95 would round to "1024.0" of the smaller unit.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        f.pad(&format!("{value:.1} {}", UNITS[unit]))
    }
}

/// Reads a size. Units are binary: `k`, `kb` and `KiB` all mean 1024.
pub fn parse_size(text: &str) -> Result<u64> {
    let bad = |why: &str| {
        Error::new(ErrorKind::Usage, "read the size", format!("{text:?} {why}"))
            .hint("write for example 4096, 64KiB, 256MiB or 1.5GiB")
    };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let number: f64 = trimmed[..split].parse().map_err(|_| bad("has no number"))?;
    let unit = trimmed[split..].trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad("has an unknown unit")),
    };
    let bytes = number * 1024f64.powi(power);
    if !bytes.is_finite() || bytes >= u64::MAX as f64 {
        return Err(bad("is too large"));
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_610_612_736, "1.5 GiB"),
            (1_048_575, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(n).to_string(), text);
        }
        for (text, n) in [
            ("4096", 4096),
            ("64KiB", 65536),
            ("1.5 GiB", 1_610_612_736),
            ("2g", 2 << 30),
            ("3mb", 3 << 20),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text).unwrap(), n, "{text}");
        }
        for bad in ["", "x", "1x", "-1", "1.2.3k", "99999999999p"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
