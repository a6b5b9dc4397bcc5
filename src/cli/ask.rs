//! Questions that age identities, plugins and passphrases ask.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use age::secrecy::SecretString;

use crate::model::{Result, Secret};
use crate::ports::Process;
use crate::report::plain;
use crate::report::progress::above_bars;
use crate::sys;

/// Names a reference to the passphrase, for use without a terminal.
pub const PASSPHRASE_VARIABLE: &str = "MUSTER_PASSPHRASE_FROM";

/// Asks on the terminal. Without one every question stays unanswered, but for a passphrase that
/// [`PASSPHRASE_VARIABLE`] refers to.
#[derive(Clone)]
pub struct Asker {
    given: Option<Arc<Secret<String>>>,
}

impl Asker {
    /// Takes in the variable, where it is set.
    pub fn new(process: &dyn Process) -> Result<Self> {
        let given = match std::env::var(PASSPHRASE_VARIABLE) {
            Ok(reference) if !reference.is_empty() => {
                let reference = reference.parse()?;
                sys::withhold(&reference);
                let resolved = sys::resolve_secret(&reference, process)?;
                Some(Arc::new(resolved.secret))
            }
            _ => None,
        };
        Ok(Self { given })
    }

    /// One that answers every passphrase question with this one.
    pub fn with_passphrase(passphrase: Secret<String>) -> Self {
        Self { given: Some(Arc::new(passphrase)) }
    }

    /// The passphrase that was given without asking.
    pub fn given(&self) -> Option<&Secret<String>> {
        self.given.as_deref()
    }

    /// Asks for a new passphrase, twice.
    pub fn new_passphrase(&self, what: &str) -> Result<Secret<String>> {
        use crate::model::{Error, ErrorKind};
        if let Some(given) = self.given() {
            return Ok(given.clone());
        }
        let nobody = || {
            Error::new(ErrorKind::Refused, "ask for a passphrase", "there is no terminal to ask on")
                .hint(format!("set {PASSPHRASE_VARIABLE} to env:NAME or file:PATH"))
        };
        let first = prompt(&format!("New passphrase for {what}")).ok_or_else(nobody)?;
        let second = prompt("The same again").ok_or_else(nobody)?;
        if first != second || first.is_empty() {
            return Err(Error::new(
                ErrorKind::Usage,
                "take the passphrase",
                "the two are not the same, or empty",
            ));
        }
        Ok(Secret::new(first))
    }
}

fn prompt(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    above_bars(|| rpassword::prompt_password(format!("{}: ", plain(question))).ok())
}

impl age::Callbacks for Asker {
    fn display_message(&self, message: &str) {
        above_bars(|| eprintln!("{}", plain(message)));
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let choices = no.map_or_else(|| yes.to_owned(), |no| format!("{yes}/{no}"));
        let answer = self.request_public_string(&format!("{message} [{choices}]"))?;
        Some(answer.eq_ignore_ascii_case(yes))
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        above_bars(|| {
            let mut err = std::io::stderr().lock();
            write!(err, "{}: ", plain(description)).ok()?;
            err.flush().ok()?;
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer).ok()?;
            Some(answer.trim().to_owned())
        })
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        if let Some(given) = self.given() {
            return Some(SecretString::from(given.expose().clone()));
        }
        prompt(description).map(SecretString::from)
    }
}
