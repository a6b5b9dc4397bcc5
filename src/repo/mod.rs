//! The repository: its format (docs/FORMAT.md) and the engine that reads and writes it.

mod amend;
pub mod cbor;
pub mod chain;
pub mod chunker;
pub mod evidence;
pub mod format;
pub mod index;
pub mod keys;
pub mod layout;
pub mod limits;
pub mod live;
pub mod pack;
pub mod pipeline;
pub mod points;
pub mod reader;
pub mod repository;
pub mod seal;
pub mod secrets;
pub mod seen;
pub mod session;
pub mod sign;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod trust;
