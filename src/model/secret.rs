//! Secrets never print themselves, and stand in configuration only by reference.

use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::error::{Error, ErrorKind, Result};

/// A value that is wiped when dropped and shows `[redacted]` when printed.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a secret.
    pub fn new(value: T) -> Self {
        Self(value)
    }
    /// The secret itself. Every call is a place to review.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where a secret is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// `env:NAME`: an environment variable.
    Env(String),
    /// `file:PATH`: a file's content, less one final line end.
    File(String),
    /// `cmd:LINE`: what a shell command prints, less one final line end.
    Cmd(String),
}

impl FromStr for SecretRef {
    type Err = Error;

    /// A plain-text secret is refused, and not repeated in the message.
    fn from_str(text: &str) -> Result<Self> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", ""));
        match (scheme, rest.is_empty()) {
            ("env", false) => Ok(Self::Env(rest.to_owned())),
            ("file", false) => Ok(Self::File(rest.to_owned())),
            ("cmd", false) => Ok(Self::Cmd(rest.to_owned())),
            _ => Err(Error::new(
                ErrorKind::Config,
                "take the secret",
                "it is not a reference, and secrets may not stand in plain text",
            )
            .hint("write env:NAME, file:PATH or cmd:COMMAND")),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            // The command line may hold what it should not.
            Self::Cmd(_) => f.write_str("cmd:…"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
    }

    #[test]
    fn plain_text_is_refused_without_repeating_it() {
        let error = "hunter2".parse::<SecretRef>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert_eq!("env:PW".parse::<SecretRef>().unwrap(), SecretRef::Env("PW".into()));
        assert!("env:".parse::<SecretRef>().is_err());
    }
}
