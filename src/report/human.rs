//! Text for people: times, durations, counts, tables.

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::tz::TimeZone;

use crate::model::Time;
pub use crate::model::count::{all_of, count, counted, noun_for};

use super::stamp::timestamp;

/// How a person wants to see things: for now, the time zone.
#[derive(Clone, Debug)]
pub struct Human {
    zone: TimeZone,
}

impl Human {
    /// With this machine's time zone.
    pub fn local() -> Self {
        Self { zone: TimeZone::system() }
    }

    /// With a given time zone.
    pub fn in_zone(zone: TimeZone) -> Self {
        Self { zone }
    }

    /// A moment with its zone: `2026-11-21 08:17:53 CET`.
    pub fn time(&self, time: Time) -> String {
        match timestamp(time) {
            Some(stamp) => stamp.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            None => format!("{} s after 1970", time.secs),
        }
    }
}

/// A length of time: `0.4s`, `12s`, `2m 03s`, `1h 02m 03s`.
pub fn duration(secs: f64) -> String {
    let secs = if secs.is_finite() { secs.max(0.0) } else { 0.0 };
    if secs < 9.95 {
        return format!("{secs:.1}s");
    }
    let whole = secs.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds:02}s"),
        _ => format!("{hours}h {minutes:02}m {seconds:02}s"),
    }
}

/// The time that is left, from what is done, what there is, and a rate a second.
/// `None` while it cannot be told.
pub fn eta_secs(done: u64, total: u64, rate_per_sec: f64) -> Option<f64> {
    (rate_per_sec > 0.0 && total > 0).then(|| total.saturating_sub(done) as f64 / rate_per_sec)
}

/// Text on one line that cannot drive a terminal: control characters and those that
/// turn the direction of writing are escaped.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// One word of a command line that can be copied into a shell.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:,@%".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// On which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows in aligned columns.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// A table with these headings.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), indent: 0 }
    }

    /// Moves the table to the right.
    #[must_use]
    pub fn indented(mut self, spaces: usize) -> Self {
        self.indent = spaces;
        self
    }

    /// Adds a row; its cells are made harmless.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        self.rows.push(cells.into_iter().map(|cell| plain(cell.as_ref())).collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes headings and rows.
    pub fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let widths = self.widths(&headings);
        for row in std::iter::once(&headings).chain(&self.rows) {
            writeln!(out, "{}", self.line(row, &widths))?;
        }
        Ok(())
    }

    fn widths(&self, headings: &[String]) -> Vec<usize> {
        let width = |row: &[String], at: usize| row.get(at).map_or(0, |cell| cell.chars().count());
        let widest =
            |at| self.rows.iter().map(|row| width(row, at)).max().unwrap_or(0).max(width(headings, at));
        (0..self.columns.len()).map(widest).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = " ".repeat(self.indent);
        for ((cell, width), (_, align)) in row.iter().zip(widths).zip(&self.columns) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            match align {
                Align::Left => line.extend([cell.as_str(), &padding, "  "]),
                Align::Right => line.extend([&padding, cell.as_str(), "  "]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (secs, text) in [
            (0.0, "0.0s"),
            (0.44, "0.4s"),
            (9.96, "10s"),
            (59.6, "1m 00s"),
            (123.0, "2m 03s"),
            (3723.0, "1h 02m 03s"),
            (360_000.0, "100h 00m 00s"),
            (f64::NAN, "0.0s"),
            (-1.0, "0.0s"),
        ] {
            assert_eq!(duration(secs), text);
        }
    }

    #[test]
    fn times_carry_their_zone() {
        let time = Time::new(1_795_245_473, 0);
        let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
        let text = Human::in_zone(zone.clone()).time(time);
        let expected =
            if zone == TimeZone::UTC { "2026-11-21 07:17:53 UTC" } else { "2026-11-21 08:17:53 CET" };
        assert_eq!(text, expected);
        assert_eq!(
            Human::in_zone(TimeZone::UTC).time(Time::new(i64::MAX, 0)),
            format!("{} s after 1970", i64::MAX)
        );
    }

    #[test]
    fn text_cannot_drive_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\n\u{202e}c ä"), "a\\u{1b}[2Jb\\n\\u{202e}c ä");
    }

    #[test]
    fn words_for_a_shell_are_quoted_where_they_must_be() {
        for (text, word) in [
            ("/etc/a_b-1.toml", "/etc/a_b-1.toml"),
            ("my file", "'my file'"),
            ("a'b", "'a'\\''b'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right)]).indented(2);
        table.row(["ä", "1.0 KiB"]);
        table.row(["long\x07name", "7 B"]);
        let mut out = Vec::new();
        table.render(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "  NAME              SIZE\n  ä              1.0 KiB\n  long\\u{7}name      7 B\n");
    }
}
