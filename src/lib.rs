//! Muster: backup and disaster recovery for a whole application stack, proved by
//! restore drills. docs/ARCHITECTURE.md has the rooms and the flow, docs/FORMAT.md the
//! repository's format.

#![warn(missing_docs)]

pub mod cli;
pub mod jobs;
pub mod model;
pub mod policy;
pub mod ports;
pub mod repo;
pub mod report;
pub mod sources;
pub mod stores;
pub mod sys;
