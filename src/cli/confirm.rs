//! Asking a person before something is lost.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::model::{Error, ErrorKind, Result};
use crate::report::plain;
use crate::report::progress::above_bars;

/// Asks `question` on the terminal and goes on only after `yes`. With `assume_yes` it does
/// not ask; without a terminal it refuses.
pub fn confirm(question: &str, assume_yes: bool) -> Result<()> {
    let is_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    above_bars(|| ask(question, assume_yes, is_terminal, &mut io::stdin().lock(), &mut io::stderr().lock()))
}

fn ask(
    question: &str,
    assume_yes: bool,
    is_terminal: bool,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<()> {
    if assume_yes {
        return Ok(());
    }
    if !is_terminal {
        return Err(Error::new(
            ErrorKind::Refused,
            "go on",
            "this needs a yes, and there is no terminal to ask on",
        )
        .on(format!("({})", plain(question)))
        .hint("if you mean it, add --yes"));
    }
    let answer = question_and_answer(question, input, out)
        .map_err(|error| Error::io("ask on", "the terminal", error))?;
    match answer.trim().eq_ignore_ascii_case("yes") {
        true => Ok(()),
        false => {
            Err(Error::new(ErrorKind::Refused, "go on", "the answer was not `yes`; nothing was changed"))
        }
    }
}

fn question_and_answer(question: &str, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<String> {
    write!(out, "{} Type yes to go on: ", plain(question))?;
    out.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(answer: &str, assume_yes: bool, is_terminal: bool) -> (Result<()>, String) {
        let mut out = Vec::new();
        let result =
            ask("Replace 3 files in /srv\x1b?", assume_yes, is_terminal, &mut answer.as_bytes(), &mut out);
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn only_yes_is_yes() {
        let (result, question) = asked("yes\n", false, true);
        assert!(result.is_ok());
        assert_eq!(question, "Replace 3 files in /srv\\u{1b}? Type yes to go on: ");
        for no in ["y\n", "no\n", "\n", ""] {
            assert_eq!(asked(no, false, true).0.unwrap_err().kind(), ErrorKind::Refused);
        }
    }

    #[test]
    fn without_a_terminal_it_is_refused_unless_yes_was_given() {
        let (result, question) = asked("yes\n", false, false);
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.remedy()), (ErrorKind::Refused, Some("if you mean it, add --yes")));
        assert!(question.is_empty());
        assert!(asked("", true, false).0.is_ok());
    }
}
