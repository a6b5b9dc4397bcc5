//! The source conformance suite, and what each source promises beyond it.

#[path = "support/host_process.rs"]
mod host_process;
#[path = "support/memory_engine.rs"]
mod memory_engine;

#[path = "conformance/sources/mod.rs"]
mod conformance;
