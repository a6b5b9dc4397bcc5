//! Times in documents.

use serde::{Serialize, Serializer};

use crate::model::Time;

/// A moment that a document holds as RFC 3339 text in UTC, `2026-11-21T07:17:53Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub Time);

impl From<Time> for Stamp {
    fn from(time: Time) -> Self {
        Self(time)
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match timestamp(self.0) {
            Some(stamp) => serializer.collect_str(&stamp),
            None => serializer.serialize_none(),
        }
    }
}

/// The calendar's idea of `time`; `None` beyond the year 9999.
pub(super) fn timestamp(time: Time) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.secs, time.nanos.min(999_999_999) as i32).ok()
}
