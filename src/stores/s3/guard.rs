//! Looks at every answer before it is believed: an HTML page is a proxy's, never a store's. And
//! keeps the time that it was given at.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

/// Something answered that is no object store.
#[derive(Debug)]
pub(super) struct NotAStore {
    /// The status it answered with.
    pub status: u16,
}

impl fmt::Display for NotAStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an HTML page came back with status {}", self.status)
    }
}

impl std::error::Error for NotAStore {}

/// The store's time: the `Date` of its last answer.
#[derive(Debug)]
pub(super) struct StoreTime(AtomicI64);

impl Default for StoreTime {
    fn default() -> Self {
        Self(AtomicI64::new(Self::UNKNOWN))
    }
}

impl StoreTime {
    const UNKNOWN: i64 = i64::MIN;

    /// Seconds since 1970; `None` where no answer told it.
    pub fn last(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|secs| *secs != Self::UNKNOWN)
    }

    fn told(&self, date: &str) {
        if let Ok(date) = DateTime::from_str(date, DateTimeFormat::HttpDate) {
            self.0.store(date.secs(), Ordering::Relaxed);
        }
    }
}

/// Refuses HTML. Objects are put as `application/octet-stream`, and come back so. Some servers
/// call an empty answer HTML: that is no page.
#[derive(Debug)]
pub(super) struct Guard(pub Arc<StoreTime>);

impl Intercept for Guard {
    fn name(&self) -> &'static str {
        "Guard"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let content_type = response.headers().get("content-type").unwrap_or_default();
        let status = response.status().as_u16();
        let is_empty = status == 204 || response.headers().get("content-length") == Some("0");
        match !is_empty && content_type.trim_start().to_ascii_lowercase().starts_with("text/html") {
            true => Err(Box::new(NotAStore { status })),
            false => {
                response.headers().get("date").inspect(|date| self.0.told(date));
                Ok(())
            }
        }
    }
}
