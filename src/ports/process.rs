//! Running programs.

use std::io::{Read, Write};
use std::path::PathBuf;

use crate::model::{Result, Secret};

use super::clock::Cancel;

/// A program to run. Arguments never hold secrets; environment values may.
#[derive(Clone, Debug, Default)]
pub struct CommandSpec {
    /// Program and arguments; no shell is involved.
    pub argv: Vec<String>,
    /// Variables set on top of the inherited ones, which do not hold our own keys.
    pub env: Vec<(String, Secret<String>)>,
    /// Working directory.
    pub dir: Option<PathBuf>,
    /// Kill the program's whole process group after this many seconds.
    pub timeout_secs: Option<u64>,
    /// End the program's whole process group when somebody asks to stop, though it neither writes
    /// nor reads meanwhile.
    pub cancel: Option<Cancel>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, where it exited.
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
    /// The last bytes of its standard error, at most [`STDERR_KEPT_BYTES`].
    pub stderr: Vec<u8>,
}

/// How much of a program's standard error is kept.
pub const STDERR_KEPT_BYTES: usize = 64 << 10;

impl Ended {
    /// Whether it exited with status 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }
    /// In words: `exit status 1`, `killed by signal 9`, `timed out`.
    pub fn describe(&self) -> String {
        match (self.timed_out, self.code, self.signal) {
            (true, _, _) => "timed out and was killed".to_owned(),
            (_, Some(code), _) => format!("ended with exit status {code}"),
            (_, _, Some(signal)) => format!("was killed by signal {signal}"),
            _ => "ended in an unknown way".to_owned(),
        }
    }
}

/// A running program. Dropping it kills the process group.
pub trait Child: Send {
    /// Its standard output; can be taken once, where it was asked for.
    fn take_stdout(&mut self) -> Option<Box<dyn Read + Send>>;
    /// Its standard input; can be taken once, where it was asked for.
    fn take_stdin(&mut self) -> Option<Box<dyn Write + Send>>;
    /// Waits until it has ended. Standard error is drained all the while.
    fn wait(&mut self) -> Result<Ended>;
}

/// What is connected to a program's standard input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// No input; output is read by us.
    ReadOutput,
    /// Input is written by us; output goes where our standard error goes.
    WriteInput,
    /// No input; output goes where our standard error goes.
    Neither,
}

/// Runs programs on this machine.
pub trait Process: Send + Sync {
    /// Starts a program in a process group of its own.
    fn spawn(&self, spec: &CommandSpec, wiring: Wiring) -> Result<Box<dyn Child>>;
}
