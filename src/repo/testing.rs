//! Stand-ins for unit tests of this room.

use crate::model::Result;
use crate::ports::Entropy;

/// The operating system's randomness.
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        getrandom::fill(buffer).expect("the system has randomness");
        Ok(())
    }
}
