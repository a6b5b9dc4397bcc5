//! The real program, driven as a person or a script drives it.

#[path = "support/s3_server.rs"]
mod s3_server;
#[path = "support/wrong_server.rs"]
mod wrong_server;

#[path = "cli/mod.rs"]
mod cli;
