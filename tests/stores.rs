//! The store conformance suite, on every store, and what is special to each.

#[path = "conformance/stores/mod.rs"]
mod stores;
