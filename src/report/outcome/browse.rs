//! Rows of `muster ls` and `muster find`. They are many, so they are printed one by one:
//! for people with `render`, as documents through [`crate::report::json::ListWriter`].

use std::io::{self, Write};

use serde::Serialize;

use super::Human;
use crate::model::{Attrs, Bytes, Entry, EntryKind, EntryState};
use crate::report::human::plain;
use crate::report::stamp::Stamp;

/// One entry of a point.
#[derive(Clone, Debug, Serialize)]
pub struct LsEntry {
    /// Its source.
    pub source: String,
    /// Its path in the source; bytes that are no text are escaped.
    pub path: String,
    /// `file`, `directory`, `symlink`, `hard_link`, `fifo`, `char_device`, `block_device`, `socket`.
    pub kind: &'static str,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner's number.
    pub uid: Option<u32>,
    /// Group's number.
    pub gid: Option<u32>,
    /// Owner's name.
    pub user: Option<String>,
    /// Group's name.
    pub group: Option<String>,
    /// Last change of content.
    pub mtime: Option<Stamp>,
    /// Where a link points.
    pub target: Option<String>,
    /// `good`, `changed` or `unreadable`.
    pub state: &'static str,
    /// Why it is unreadable.
    pub why: Option<String>,
}

impl LsEntry {
    /// The row of a catalogue's entry.
    pub fn new(source: &str, entry: &Entry) -> Self {
        let attrs = entry.attrs.as_ref();
        let (state, why) = state(&entry.state);
        Self {
            source: source.to_owned(),
            path: entry.path.to_string(),
            kind: kind_name(&entry.kind),
            size: entry.size,
            mode: attrs.map(|a| a.mode),
            uid: attrs.map(|a| a.uid),
            gid: attrs.map(|a| a.gid),
            user: attrs.and_then(|a| a.user.clone()),
            group: attrs.and_then(|a| a.group.clone()),
            mtime: attrs.map(|a: &Attrs| a.mtime.into()),
            target: target(&entry.kind),
            state,
            why,
        }
    }

    /// `SOURCE:PATH`, or with `long` a row like that of `ls -l`.
    pub fn render(&self, out: &mut dyn Write, human: &Human, long: bool) -> io::Result<()> {
        let name = format!("{}:{}", plain(&self.source), plain(&self.path));
        let target = self.target.as_ref().map(|to| format!(" -> {}", plain(to))).unwrap_or_default();
        let remark = match (self.state, &self.why) {
            ("good", _) => String::new(),
            (state, None) => format!("  [{state}]"),
            (state, Some(why)) => format!("  [{state}: {}]", plain(why)),
        };
        if !long {
            return writeln!(out, "{name}{remark}");
        }
        writeln!(
            out,
            "{} {:>8} {:>8} {:>10} {:>24} {name}{target}{remark}",
            self.mode_text(),
            plain(&self.owner(self.user.as_ref(), self.uid)),
            plain(&self.owner(self.group.as_ref(), self.gid)),
            Bytes(self.size),
            self.mtime.map(|time| human.time(time.0)).unwrap_or_else(|| "-".to_owned()),
        )
    }

    fn owner(&self, name: Option<&String>, number: Option<u32>) -> String {
        name.cloned().or_else(|| number.map(|n| n.to_string())).unwrap_or_else(|| "-".to_owned())
    }

    fn mode_text(&self) -> String {
        let kind = match self.kind {
            "directory" => 'd',
            "symlink" => 'l',
            "hard_link" => 'h',
            "fifo" => 'p',
            "char_device" => 'c',
            "block_device" => 'b',
            "socket" => 's',
            _ => '-',
        };
        match self.mode {
            Some(mode) => format!("{kind}{}", permissions(mode)),
            None => format!("{kind}?????????"),
        }
    }
}

/// The heading of the long form.
pub fn ls_header() -> String {
    format!("{:<10} {:>8} {:>8} {:>10} {:>24} SOURCE:PATH", "MODE", "USER", "GROUP", "SIZE", "CHANGED")
}

/// `rwxr-sr-t`.
fn permissions(mode: u32) -> String {
    let triple = |shift: u32, special: u32, mark: char| {
        let bits = mode >> shift;
        let execute = match (bits & 1 != 0, mode & special != 0) {
            (true, true) => mark,
            (false, true) => mark.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        };
        [if bits & 4 != 0 { 'r' } else { '-' }, if bits & 2 != 0 { 'w' } else { '-' }, execute]
    };
    [triple(6, 0o4000, 's'), triple(3, 0o2000, 's'), triple(0, 0o1000, 't')].iter().flatten().collect()
}

fn kind_name(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink(_) => "symlink",
        EntryKind::HardLink(_) => "hard_link",
        EntryKind::Fifo => "fifo",
        EntryKind::CharDevice(_) => "char_device",
        EntryKind::BlockDevice(_) => "block_device",
        EntryKind::Socket => "socket",
    }
}

fn target(kind: &EntryKind) -> Option<String> {
    match kind {
        EntryKind::Symlink(to) => Some(String::from_utf8_lossy(to).into_owned()),
        EntryKind::HardLink(path) => Some(path.to_string()),
        _ => None,
    }
}

fn state(state: &EntryState) -> (&'static str, Option<String>) {
    match state {
        EntryState::Good => ("good", None),
        EntryState::Changed => ("changed", None),
        EntryState::Unreadable(why) => ("unreadable", Some(why.clone())),
    }
}

/// An entry that `muster find` found.
#[derive(Clone, Debug, Serialize)]
pub struct FindMatch {
    /// The point it is in.
    pub point: String,
    /// The point's job.
    pub job: String,
    /// The point's time.
    pub time: Stamp,
    /// The entry.
    #[serde(flatten)]
    pub entry: LsEntry,
}

impl FindMatch {
    /// Point, time, size and path.
    pub fn render(&self, out: &mut dyn Write, human: &Human) -> io::Result<()> {
        writeln!(
            out,
            "{} {} {:>10} {}:{}",
            plain(&self.point),
            human.time(self.time.0),
            Bytes(self.entry.size),
            plain(&self.entry.source),
            plain(&self.entry.path)
        )
    }
}
