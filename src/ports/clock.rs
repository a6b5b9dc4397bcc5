//! Time, randomness and the wish to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Error, ErrorKind, Result, Time};

/// The host's clock.
pub trait Clock: Send + Sync {
    /// The host's time now.
    fn now(&self) -> Time;

    /// Sleeps; whether the bell was rung meanwhile. Tests that make time pass override it.
    fn wait(&self, time: Duration, bell: &Bell) -> bool {
        bell.wait(time)
    }
}

/// Wakes a thread that sleeps.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<bool>,
    wake: Condvar,
}

impl Bell {
    /// Sleeps; whether the bell was rung.
    pub fn wait(&self, time: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (rung, _) =
            self.wake.wait_timeout_while(rung, time, |r| !*r).unwrap_or_else(PoisonError::into_inner);
        *rung
    }

    /// Wakes whoever sleeps, and all who would.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    /// Rings when the answer is dropped, so that a panic does not leave the other thread asleep.
    pub fn ring_at_end(&self) -> impl Drop + '_ {
        struct AtEnd<'a>(&'a Bell);
        impl Drop for AtEnd<'_> {
            fn drop(&mut self) {
                self.0.ring();
            }
        }
        AtEnd(self)
    }
}

/// A source of randomness fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills `buffer`.
    fn fill(&self, buffer: &mut [u8]) -> Result<()>;
}

/// What to do after an interruption, where a job has nothing better to say.
pub const RUN_AGAIN: &str = "run it again";

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
            return Err(Error::new(ErrorKind::Interrupted, "go on", "it was interrupted").hint(RUN_AGAIN));
        }
        Ok(())
    }
}
