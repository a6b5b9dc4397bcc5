//! Clocks and randomness.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::model::{Error, ErrorKind, Result, Time};
use crate::ports::{Clock, Entropy};

/// This machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Time {
        Time::from_system(SystemTime::now())
    }
}

/// A clock that stands until it is moved, for tests and rehearsals.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Time>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: Time) -> Self {
        Self(Mutex::new(now))
    }

    /// Sets it.
    pub fn set(&self, now: Time) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = Time::from_system(now.to_system() + by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operating system's randomness, fit for keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        getrandom::fill(buffer).map_err(|error| {
            Error::new(ErrorKind::Io, "get randomness from the operating system", error.to_string())
                .because(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_clock_is_after_this_was_written_and_does_not_stand() {
        let first = RealClock.now();
        assert!(first.secs > 1_767_225_600);
        std::thread::sleep(Duration::from_millis(2));
        assert!(RealClock.now() > first);
    }

    #[test]
    fn a_manual_clock_moves_when_told() {
        let clock = ManualClock::new(Time::new(10, 999_000_000));
        clock.advance(Duration::from_millis(2));
        assert_eq!(clock.now(), Time::new(11, 1_000_000));
        clock.set(Time::new(5, 0));
        assert_eq!(clock.now(), Time::new(5, 0));
    }

    #[test]
    fn randomness_differs() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        OsEntropy.fill(&mut a).unwrap();
        OsEntropy.fill(&mut b).unwrap();
        assert_ne!(a, b);
    }
}
