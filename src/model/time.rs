//! Moments: seconds and nanoseconds since the Unix epoch, as file systems and
//! stores give them.

use minicbor::{Decode, Encode};

/// A moment. Ordered; may be before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct Time {
    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[n(0)]
    pub secs: i64,
    /// Nanoseconds after `secs`, 0 to 999 999 999.
    #[cbor(n(1), decode_with = "decode_nanos")]
    pub nanos: u32,
}

/// A second has no more nanoseconds; a stored time that says so is refused.
fn decode_nanos<Ctx>(d: &mut minicbor::Decoder<'_>, _: &mut Ctx) -> Result<u32, minicbor::decode::Error> {
    let at = d.position();
    match d.u32()? {
        nanos @ 0..=999_999_999 => Ok(nanos),
        _ => Err(minicbor::decode::Error::message("a time has 1,000,000,000 nanoseconds or more").at(at)),
    }
}

impl Time {
    /// From seconds and nanoseconds.
    pub fn new(secs: i64, nanos: u32) -> Self {
        Self { secs, nanos }
    }
    /// From milliseconds since the epoch.
    pub fn from_unix_millis(millis: i64) -> Self {
        Self { secs: millis.div_euclid(1000), nanos: millis.rem_euclid(1000) as u32 * 1_000_000 }
    }
    /// Milliseconds since the epoch, rounded down.
    pub fn unix_millis(&self) -> i64 {
        self.secs.saturating_mul(1000).saturating_add(i64::from(self.nanos / 1_000_000))
    }
    /// This moment moved by whole seconds.
    #[must_use]
    pub fn plus_secs(self, secs: i64) -> Self {
        Self { secs: self.secs.saturating_add(secs), nanos: self.nanos }
    }
    /// Seconds from `earlier` to this, negative if it is later.
    pub fn secs_since(&self, earlier: Self) -> f64 {
        (self.secs.saturating_sub(earlier.secs)) as f64
            + (f64::from(self.nanos) - f64::from(earlier.nanos)) / 1e9
    }
    /// As the standard library's type.
    pub fn to_system(self) -> std::time::SystemTime {
        use std::time::{Duration, UNIX_EPOCH};
        let whole = Duration::from_secs(self.secs.unsigned_abs());
        let base = if self.secs >= 0 { UNIX_EPOCH + whole } else { UNIX_EPOCH - whole };
        base + Duration::from_nanos(u64::from(self.nanos))
    }
    /// From the standard library's type.
    pub fn from_system(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self::new(after.as_secs() as i64, after.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let nanos = before.subsec_nanos();
                let secs = -(before.as_secs() as i64);
                if nanos == 0 { Self::new(secs, 0) } else { Self::new(secs - 1, 1_000_000_000 - nanos) }
            }
        }
    }
}
