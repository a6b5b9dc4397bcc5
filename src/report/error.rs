//! An error on the terminal: what failed, on what, why; and what to do.

use std::io::{self, Write};

use crate::model::Error;

use super::human::plain;

/// Writes the error, its causes and its remedy.
///
/// Nothing in it, a hostile file name least of all, can drive the terminal or pass for
/// another message: lines after the first are indented.
pub fn render(error: &Error, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "error: {}", indented(&chain(error)))?;
    match error.remedy().filter(|hint| !hint.is_empty()) {
        Some(hint) => writeln!(out, "hint: {}", indented(hint)),
        None => Ok(()),
    }
}

/// The message and its causes on one line; a cause that the message repeats is left out.
pub fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let message = inner.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = inner.source();
    }
    text
}

/// Keeps the line ends of an excerpt, and nothing else that is not text.
fn indented(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    fn rendered(error: &Error) -> String {
        let mut out = Vec::new();
        render(error, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_error_says_what_on_what_why_and_what_to_do() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        insta::assert_snapshot!(rendered(&Error::io("write", "/srv/backup/packs", full)), @r"
        error: cannot write /srv/backup/packs: no storage space
        hint: free some space, or name another place, and run it again: what is stored already is kept
        ");
    }

    #[test]
    fn causes_follow_once() {
        let inner = Error::new(ErrorKind::Io, "open", "it is locked").on("/x");
        let outer = Error::new(ErrorKind::Store, "reach the store", "it does not answer").because(inner);
        insta::assert_snapshot!(rendered(&outer), @"error: cannot reach the store: it does not answer: cannot open /x: it is locked");
    }

    #[test]
    fn a_hostile_name_stays_text() {
        let error =
            Error::new(ErrorKind::Source, "read", "denied").on("a\x1b]0;x\x07\nerror: all is lost\rhint: rm");
        insta::assert_snapshot!(rendered(&error), @r"
        error: cannot read a\u{1b}]0;x\u{7}
          error: all is lost\rhint: rm: denied
        ");
    }
}
