//! Looks at every answer before it is believed: an HTML page is a proxy's, never a store's.

use std::fmt;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

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

/// Refuses HTML. Objects are put as `application/octet-stream`, and come back so. Some servers
/// call an empty answer HTML: that is no page.
#[derive(Debug)]
pub(super) struct Guard;

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
            false => Ok(()),
        }
    }
}
