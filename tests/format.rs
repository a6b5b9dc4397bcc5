//! docs/FORMAT.md, proved: restoring without Muster, vectors, and a repository that must open for
//! ever. See tests/format/README.md.

#[path = "format/by_hand.rs"]
mod by_hand;
#[path = "format/committed.rs"]
mod committed;
#[path = "format/forged.rs"]
mod forged;
#[path = "format/meaning.rs"]
mod meaning;
#[path = "format/reject.rs"]
mod reject;
#[path = "format/support.rs"]
mod support;
#[path = "format/vectors.rs"]
mod vectors;
