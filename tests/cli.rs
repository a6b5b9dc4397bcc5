//! The real program, driven as a person or a script drives it.

#[path = "cli/mod.rs"]
mod cli;
