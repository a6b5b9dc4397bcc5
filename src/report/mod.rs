//! What a person or a program gets to see: outcomes, progress, errors.

pub mod error;
pub mod human;
pub mod json;
pub mod outcome;
pub mod progress;
pub mod stamp;

pub use human::{Align, Human, Table, plain};
pub use outcome::{Format, Outcome, emit};
pub use progress::{Progress, ProgressMode};
pub use stamp::Stamp;
