//! Time, randomness and the wish to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{Error, ErrorKind, Result, Time};

/// The host's clock.
pub trait Clock: Send + Sync {
    /// The host's time now.
    fn now(&self) -> Time;
}

/// A source of randomness fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills `buffer`.
    fn fill(&self, buffer: &mut [u8]) -> Result<()>;
}

/// A flag that is set once, when a person or the system asks us to stop.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks everyone who holds a copy to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Whether someone asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    /// An error once someone asked.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "go on", "it was interrupted")
                .hint("run it again: what is stored already is not sent again"));
        }
        Ok(())
    }
}
