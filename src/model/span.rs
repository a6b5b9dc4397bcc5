//! Lengths of time as people write them: `30d`, `12h`, `2w`, `1d 12h`.

use jiff::{Span, SpanRelativeTo, Unit};

use super::error::{Error, ErrorKind, Result};

/// Longest span that is taken: a hundred years. What is longer is a slip of the pen.
const SPAN_MAX_SECS: u64 = 100 * 366 * 86_400;

/// Reads a length of time, in seconds. A day has 24 hours and a week seven days, whatever a time zone does;
/// months and years have no fixed length and are refused.
pub fn parse_span(text: &str) -> Result<u64> {
    let bad = |why: &str| {
        Error::new(ErrorKind::Usage, "read the length of time", format!("{text:?} {why}"))
            .hint("write for example 12h, 30d or 2w")
    };
    let span: Span = text.trim().parse().map_err(|_| bad("is not a number with a unit"))?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(bad("has months or years, whose lengths differ").hint("write days or weeks: 90d, 52w"));
    }
    let secs = span
        .total((Unit::Second, SpanRelativeTo::days_are_24_hours()))
        .map_err(|_| bad("is out of range"))?;
    if secs < 1.0 {
        return Err(bad("is less than a second"));
    }
    if secs > SPAN_MAX_SECS as f64 {
        return Err(bad("is longer than a hundred years"));
    }
    Ok(secs as u64)
}

/// A length of time as it is written in a configuration: in the largest unit that says it exactly.
pub fn span_text(secs: u64) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    match units.into_iter().find(|(unit, _)| secs > 0 && secs.is_multiple_of(*unit)) {
        Some((unit, letter)) => format!("{}{letter}", secs / unit),
        None => format!("{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_print() {
        for (text, secs, again) in [
            ("30d", 30 * 86_400, "30d"),
            ("12h", 12 * 3600, "12h"),
            ("2w", 14 * 86_400, "14d"),
            ("1 day 12 hours", 36 * 3600, "36h"),
            ("1d12h", 36 * 3600, "36h"),
            ("90m", 5400, "90m"),
            ("90s", 90, "90s"),
            (" 1.5h ", 5400, "90m"),
            ("P30D", 30 * 86_400, "30d"),
        ] {
            assert_eq!(parse_span(text).unwrap(), secs, "{text}");
            assert_eq!(span_text(secs), again);
        }
        for bad in ["", "30", "d", "-1d", "1d ago", "0d", "1mo", "1y", "3 fortnights", "999999w", "0.2s"] {
            let error = parse_span(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{bad}");
            assert!(error.remedy().is_some());
        }
    }
}
