//! One file a command. Each composes stores, sources and jobs, and prints an outcome.

pub mod completions;
