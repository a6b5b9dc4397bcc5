//! The store conformance suite, on every store, and what is special to each.

#[path = "support/s3_server.rs"]
mod s3_server;
#[path = "conformance/stores/mod.rs"]
mod stores;
#[path = "support/wrong_server.rs"]
mod wrong_server;
