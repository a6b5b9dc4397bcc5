//! The command line: arguments, the composition of everything else, exit codes.

pub mod args;
pub mod ask;
pub mod commands;
pub mod compose;
pub mod confirm;
pub mod exit;
pub mod logging;
pub mod new_file;
pub mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::model::error::Exit;
use crate::model::{Error, ErrorKind, Result};
use crate::sys;

use args::{Command, Global, RawCli};
use compose::Context;

/// Reads the command line, does what it says, prints what is wrong.
pub fn run() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let wants_json = asks_for_json(&line);
    let outcome = match RawCli::try_parse_from(&line) {
        Err(error) if wants_json && error.use_stderr() => Err(usage(&error)),
        Err(error) => return exit::of_clap(&error),
        Ok(raw) => raw.validate().and_then(|(global, command)| dispatch(&global, &command)),
    };
    exit::code(outcome.unwrap_or_else(|error| exit::report(&error, wants_json)))
}

/// Does one command.
fn dispatch(global: &Global, command: &Command) -> Result<Exit> {
    logging::init(global.verbosity)?;
    match command {
        // These need no configuration.
        Command::Completions(shell) => return commands::completions::run(*shell),
        Command::Init(args) => return commands::init::run(global, args),
        Command::Doctor(args::Doctor { iam: Some(provider), .. }) => {
            return commands::doctor::iam(global, *provider);
        }
        Command::Key(args @ args::Key::Request { .. }) => return commands::key::request(global, args),
        _ => {}
    }
    match command {
        Command::Key(args) => commands::key::withhold_root(args),
        Command::RepairConfig(args) => args.root.iter().for_each(sys::withhold),
        _ => {}
    }
    let context = Context::new(global)?;
    match command {
        Command::Completions(_) | Command::Init(_) => {
            Err(Error::internal("run the command", "it was run already"))
        }
        Command::Backup(args) => commands::backup::run(&context, args),
        Command::Points(args) => commands::backup::points(&context, args),
        Command::Ls(args) => commands::browse::ls(&context, args),
        Command::Find(args) => commands::browse::find(&context, args),
        Command::Diff(args) => commands::browse::diff(&context, args),
        Command::Cat(args) => commands::browse::cat(&context, args),
        Command::Restore(args) => commands::restore::run(&context, args),
        Command::Retention(args) => commands::retention::run(&context, args),
        Command::Prune(args) => commands::prune::run(&context, args),
        Command::Check(args) => commands::check::run(&context, args),
        Command::Doctor(args) => commands::doctor::run(&context, args),
        Command::RepairIndex { dry_run } => commands::check::repair(&context, *dry_run),
        Command::RepairConfig(args) => commands::key::repair_config(&context, args),
        Command::Key(args) => commands::key::run(&context, args),
    }
}

/// Whether errors, those of the command line included, are to be documents.
fn asks_for_json(line: &[OsString]) -> bool {
    line.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

/// clap's message without its `error: ` and its usage lines.
fn usage(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let why = said.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let why = why.strip_prefix("error: ").unwrap_or(&why).to_owned();
    Error::new(ErrorKind::Usage, "read the command line", why).hint("see muster --help")
}
