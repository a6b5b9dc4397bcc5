//! The log: lines on standard error.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::model::{Error, ErrorKind, Result, Time};
use crate::report::Human;
use crate::report::progress::above_bars;

use super::args::Verbosity;

/// The variable that overrides the level: `MUSTER_LOG=muster=debug`.
pub const LOG_VARIABLE: &str = "MUSTER_LOG";

/// Libraries that log whole requests, session tokens included: nobody gets to see that, whatever
/// the level.
const LIBRARIES: [&str; 14] = [
    "aws_config",
    "aws_credential_types",
    "aws_runtime",
    "aws_sdk_s3",
    "aws_sdk_sts",
    "aws_sigv4",
    "aws_smithy_http",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "h2",
    "hyper",
    "hyper_util",
    "rustls",
];

/// Starts the log. A second call changes nothing.
pub fn init(verbosity: Verbosity) -> Result<()> {
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| bad_filter(&error))?,
        _ => EnvFilter::new(level(verbosity)),
    };
    let filter = LIBRARIES.iter().try_fold(filter, |filter, library| {
        let cap = format!("{library}=error").parse().map_err(|error| bad_filter(&error))?;
        Ok::<_, Error>(filter.add_directive(cap))
    })?;
    // Fails only where a log was started before, by a test of this same process.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(verbosity == Verbosity::Trace)
        .with_timer(LocalTime(Human::local()))
        .with_writer(Stderr)
        .try_init();
    Ok(())
}

fn level(verbosity: Verbosity) -> &'static str {
    match verbosity {
        Verbosity::Quiet => "error",
        Verbosity::Normal => "info",
        Verbosity::Debug => "info,muster=debug",
        Verbosity::Trace => "debug,muster=trace",
    }
}

fn bad_filter(error: &tracing_subscriber::filter::ParseError) -> Error {
    Error::new(ErrorKind::Config, "use the environment variable", error.to_string())
        .on(LOG_VARIABLE)
        .hint("write a level (error, warn, info, debug, trace) or muster=debug")
}

struct LocalTime(Human);

impl FormatTime for LocalTime {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", self.0.time(Time::from_system(std::time::SystemTime::now())))
    }
}

/// Standard error, without tearing a progress line.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above_bars(|| io::stderr().write_all(bytes)).map(|()| bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        Self
    }
}
