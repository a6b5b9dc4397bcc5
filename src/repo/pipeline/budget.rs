//! A bound on the bytes that are under way at once.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::model::{Error, ErrorKind, Result};

struct State {
    free: u64,
    closed: bool,
}

/// Bytes that may be under way.
pub struct Budget {
    total: u64,
    state: Mutex<State>,
    freed: Condvar,
}

/// Bytes taken from a budget; given back when dropped.
pub struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: u64) -> Arc<Self> {
        Arc::new(Self {
            total,
            state: Mutex::new(State { free: total, closed: false }),
            freed: Condvar::new(),
        })
    }

    /// Waits until `bytes` are free and takes them. More than the whole counts as the whole.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Result<Permit> {
        let bytes = bytes.min(self.total);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.free < bytes && !state.closed {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(stopped());
        }
        state.free -= bytes;
        Ok(Permit { budget: self.clone(), bytes })
    }

    /// Wakes everybody who waits, with an error: the pipeline has failed.
    pub fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.freed.notify_all();
    }
}

/// What a stage says when another has failed; the first failure is what is reported.
pub fn stopped() -> Error {
    Error::new(ErrorKind::Interrupted, "go on", "another part of the backup failed")
}

impl Permit {
    /// Gives back what is over `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        self.give_back(back);
    }

    fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            self.budget.state.lock().unwrap_or_else(PoisonError::into_inner).free += bytes;
            self.budget.freed.notify_all();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}
