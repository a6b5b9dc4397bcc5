//! How the program ends.

use std::io;
use std::process::ExitCode;

use crate::model::error::Exit;
use crate::model::{Error, Result};
use crate::report;
use crate::report::outcome::{Format, Outcome, emit};
use crate::report::progress::above_bars;

const STDOUT: &str = "standard output";

/// The process's exit status.
pub fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}

/// Prints an error: under `--json` as a document on standard output, else as text on
/// standard error. Returns the status to end with.
pub fn report(error: &Error, json: bool) -> Exit {
    if is_reader_gone(error) {
        return Exit::Done;
    }
    // Where neither stream can be written to, the exit status is all that is left.
    let _ = above_bars(|| match json {
        true => report::json::error(error, &mut io::stdout().lock()),
        false => report::error::render(error, &mut io::stderr().lock()),
    });
    error.kind().exit()
}

/// Prints an outcome on standard output. Returns the status to end with.
pub fn finish(outcome: &impl Outcome, json: bool) -> Result<Exit> {
    let format = if json { Format::Json } else { Format::Human };
    emit(outcome, format, &report::Human::local(), &mut io::BufWriter::new(io::stdout().lock()))?;
    Ok(outcome.exit())
}

/// A failure to write to standard output. If the reader went away (`muster ls … | head`)
/// [`report()`] says nothing about it.
pub fn stdout_error(error: io::Error) -> Error {
    Error::io("write to", STDOUT, error)
}

fn is_reader_gone(error: &Error) -> bool {
    error.subject() == Some(STDOUT) && error.io_kind() == Some(io::ErrorKind::BrokenPipe)
}

/// Ends after clap printed help, a version or a usage error.
pub fn of_clap(error: &clap::Error) -> ExitCode {
    // Help that cannot be printed leaves only the exit status.
    let _ = error.print();
    code(if error.use_stderr() { Exit::Usage } else { Exit::Done })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    #[test]
    fn a_reader_that_went_away_ends_quietly() {
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(report(&stdout_error(gone), false), Exit::Done);
    }

    #[test]
    fn kinds_have_their_status() {
        for (kind, exit) in [
            (ErrorKind::Usage, Exit::Usage),
            (ErrorKind::Config, Exit::Usage),
            (ErrorKind::Refused, Exit::Refused),
            (ErrorKind::Exists, Exit::Refused),
            (ErrorKind::Damaged, Exit::Failed),
        ] {
            assert_eq!(kind.exit(), exit);
        }
        assert_eq!(code(Exit::Partial), ExitCode::from(3));
    }
}
