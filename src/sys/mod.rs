//! The real clock, entropy and processes of this machine.

pub mod clock;
pub mod machine;
pub mod process;
pub mod secret;
pub mod signal;

pub use clock::{ManualClock, OsEntropy, RealClock};
pub use machine::{peak_rss_bytes, rss_bytes, usable_cores};
pub use process::{RealProcess, withhold};
pub use secret::{Resolved, resolve_secret};
pub use signal::cancel_on_signals;
