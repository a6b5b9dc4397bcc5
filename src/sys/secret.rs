//! Fetches secrets from where their references point.

use std::io::Read;
use std::os::unix::fs::MetadataExt;

use zeroize::Zeroizing;

use crate::model::{Error, ErrorKind, Result, Secret, SecretRef};
use crate::ports::process::Wiring;
use crate::ports::{CommandSpec, Process};

/// No secret is longer than this.
const SECRET_MAX_BYTES: usize = 64 << 10;
/// How long a `cmd:` may take.
const SECRET_COMMAND_TIMEOUT_SECS: u64 = 60;

/// A secret that was fetched.
#[derive(Debug)]
pub struct Resolved {
    /// The secret.
    pub secret: Secret<String>,
    /// Something its owner should know: that others can read the file it lies in.
    pub note: Option<String>,
}

/// Fetches what `reference` points to. No message holds any part of it, nor the text of
/// a `cmd:`, nor what that printed.
pub fn resolve_secret(reference: &SecretRef, process: &dyn Process) -> Result<Resolved> {
    let (bytes, note) = match reference {
        SecretRef::Env(name) => (from_env(name, reference)?, None),
        SecretRef::File(path) => from_file(path, reference)?,
        SecretRef::Cmd(line) => (from_command(line, reference, process)?, None),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| fail(reference, "it is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(fail(reference, "it is empty"));
    }
    Ok(Resolved { secret: Secret::new(text.to_owned()), note })
}

fn fail(reference: &SecretRef, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "get the secret", why).on(reference.to_string())
}

fn from_env(name: &str, reference: &SecretRef) -> Result<Zeroizing<Vec<u8>>> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os(name).ok_or_else(|| {
        fail(reference, "the variable is not set").hint("set it in the environment of this program")
    })?;
    Ok(Zeroizing::new(value.into_vec()))
}

fn from_file(path: &str, reference: &SecretRef) -> Result<(Zeroizing<Vec<u8>>, Option<String>)> {
    let failed =
        |error| Error::io("get the secret", reference.to_string(), error).with_kind(ErrorKind::Config);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    let bytes = read_bounded(file, reference)?;
    let note = (mode & 0o044 != 0)
        .then(|| format!("{path} can be read by others (mode {:04o}): chmod 600 it", mode & 0o7777));
    Ok((bytes, note))
}

fn from_command(line: &str, reference: &SecretRef, process: &dyn Process) -> Result<Zeroizing<Vec<u8>>> {
    let spec = CommandSpec {
        argv: vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()],
        timeout_secs: Some(SECRET_COMMAND_TIMEOUT_SECS),
        ..CommandSpec::default()
    };
    let mut child = process.spawn(&spec, Wiring::ReadOutput)?;
    let stdout = child
        .take_stdout()
        .ok_or_else(|| Error::internal("get the secret", "the program's output is not connected"))?;
    let bytes = read_bounded(stdout, reference)?;
    let ended = child.wait()?;
    if !ended.is_success() {
        return Err(fail(reference, format!("the command {}", ended.describe()))
            .hint("run the command by hand to see what it says"));
    }
    Ok(bytes)
}

/// Reads into memory that is never moved, so that no copy stays behind.
fn read_bounded(from: impl Read, reference: &SecretRef) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_MAX_BYTES + 1]);
    let mut from = from;
    let mut len = 0;
    while len < bytes.len() {
        match from.read(&mut bytes[len..]) {
            Ok(0) => {
                bytes.truncate(len);
                return Ok(bytes);
            }
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(
                    Error::io("get the secret", reference.to_string(), error).with_kind(ErrorKind::Config)
                );
            }
        }
    }
    Err(fail(reference, format!("it is longer than {SECRET_MAX_BYTES} bytes")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sys::RealProcess;

    fn resolve(reference: &str) -> Result<Resolved> {
        resolve_secret(&reference.parse().unwrap(), &RealProcess)
    }

    #[test]
    fn one_line_end_goes_and_no_more() {
        for (printed, secret) in
            [("a b", "a b"), ("a\\n", "a"), ("a\\r\\n", "a"), ("a\\n\\n", "a\n"), (" a ", " a ")]
        {
            let got = resolve(&format!("cmd:printf '{printed}'")).unwrap();
            assert_eq!(got.secret.expose(), secret);
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pw");
        std::fs::write(&path, "hunter2\n").unwrap();
        let reference = format!("file:{}", path.display());
        for (mode, noted) in [(0o600, false), (0o640, true), (0o604, true)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let got = resolve(&reference).unwrap();
            assert_eq!(got.secret.expose(), "hunter2");
            assert_eq!(got.note.is_some(), noted, "{mode:o}");
        }
    }

    #[test]
    fn variables_are_read() {
        // Cargo sets it for tests.
        let name = "env:CARGO_PKG_NAME";
        assert_eq!(resolve(name).unwrap().secret.expose(), "muster-backup");
        assert!(resolve("env:MUSTER_NO_SUCH_VARIABLE").unwrap_err().remedy().is_some());
    }

    #[test]
    fn failures_are_config_errors_that_show_nothing() {
        for bad in [
            "cmd:echo hunter2; echo hunter2 >&2; exit 3",
            "cmd:printf ''",
            "cmd:printf 'hunter2\\377'",
            "cmd:yes hunter2",
            "file:/nonexistent/hunter2-is-not-here",
            "env:MUSTER_NO_SUCH_VARIABLE",
        ] {
            let error = resolve(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            let shown = format!("{error} {error:?}").replace("/nonexistent/hunter2-is-not-here", "");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
