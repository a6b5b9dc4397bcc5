//! One file for each command.

pub mod backup;
pub mod browse;
pub mod check;
pub mod completions;
pub mod doctor;
pub mod init;
pub mod key;
pub mod prune;
pub mod restore;
pub mod retention;
