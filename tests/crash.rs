//! The crash matrix: a backup fails at every operation of its store in turn, in every way that a
//! store can fail. Whatever happened, earlier points restore, the list of points is well-formed,
//! and running the backup again ends in a good point without sending again what was kept. A prune dies likewise: what
//! stays is whole, and running it again finishes the work.
//!
//! `MUSTER_TEST_FULL=1` runs a larger one. A failure prints the plan that reproduces it.

#[path = "crash/lock.rs"]
mod lock;
#[path = "crash/matrix.rs"]
mod matrix;
#[path = "crash/prune.rs"]
mod prune;
#[path = "support/s3_server.rs"]
mod s3_server;
#[path = "crash/set.rs"]
mod set;
