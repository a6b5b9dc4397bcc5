//! `muster completions`.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::args::RawCli;
use crate::cli::exit::stdout_error;
use crate::model::Result;
use crate::model::error::Exit;

/// Prints the completion script of a shell.
pub fn run(shell: Shell) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut RawCli::command(), "muster", &mut script);
    std::io::stdout().write_all(&script).map_err(stdout_error)?;
    Ok(Exit::Done)
}
