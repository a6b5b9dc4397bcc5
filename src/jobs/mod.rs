//! What the commands do: each job plans, then acts, and answers with an outcome.

pub mod backup;
pub mod browse;
pub mod check;
pub mod hooks;
pub mod keys;
pub mod points;
pub mod repair;
pub mod restore;
