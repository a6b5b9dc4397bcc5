//! What a bucket is set to, and what the server makes of checksums: for `muster doctor`.

use aws_sdk_s3::types::{BucketVersioningStatus, ChecksumAlgorithm, ObjectLockEnabled};

use crate::model::{ObjectName, Result};

use super::error::{Failure, failure};
use super::{S3, within};

/// What is known of one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// The server told it.
    Known(T),
    /// The server does not have it.
    NotThere,
    /// It could not be found out: why.
    Unknown(String),
}

/// Object Lock of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectLock {
    /// `GOVERNANCE` or `COMPLIANCE` and for how many days, where new objects are locked by default.
    pub default_retention: Option<(String, i32)>,
}

/// What a bucket is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFacts {
    /// Whether old versions are kept.
    pub versioning: Fact<bool>,
    /// Object Lock; `NotThere` where the bucket has it off.
    pub object_lock: Fact<ObjectLock>,
}

/// What the server makes of a checksum that is sent along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumUse {
    /// It refuses a wrong one.
    Verified,
    /// It takes a wrong one too.
    Ignored,
    /// It refuses the header.
    Refused,
}

impl S3 {
    /// Asks what the bucket is set to. No answer is an error: a property that cannot be read is
    /// `Unknown`.
    pub fn bucket_facts(&self) -> BucketFacts {
        let doing = self.doing("read the bucket's settings", "");
        let versioning = self.call(|client| {
            let request = client.get_bucket_versioning().bucket(&self.address.bucket).send();
            let doing = &doing;
            async move { within(doing, 0, async { request.await.map_err(|e| failure(doing, e)) }).await }
        });
        let lock = self.call(|client| {
            let request = client.get_object_lock_configuration().bucket(&self.address.bucket).send();
            let doing = &doing;
            async move { within(doing, 0, async { request.await.map_err(|e| failure(doing, e)) }).await }
        });
        BucketFacts {
            versioning: match versioning {
                Ok(output) => Fact::Known(output.status() == Some(&BucketVersioningStatus::Enabled)),
                Err(failure) => unknown(&failure),
            },
            object_lock: match lock {
                Ok(output) => {
                    let set = output.object_lock_configuration();
                    if set.and_then(|s| s.object_lock_enabled()) == Some(&ObjectLockEnabled::Enabled) {
                        let default = set.and_then(|s| s.rule()).and_then(|rule| rule.default_retention());
                        let default_retention = default.and_then(|default| {
                            let days = default.days().or_else(|| default.years().map(|years| years * 365))?;
                            Some((default.mode()?.as_str().to_owned(), days))
                        });
                        Fact::Known(ObjectLock { default_retention })
                    } else {
                        Fact::NotThere
                    }
                }
                Err(failure) if failure.code.as_deref() == Some("ObjectLockConfigurationNotFoundError") => {
                    Fact::NotThere
                }
                Err(failure) => unknown(&failure),
            },
        }
    }

    /// Puts an object with a wrong CRC32C, which a server that looks at it refuses.
    pub fn checksum_use(&self, name: &ObjectName) -> Result<ChecksumUse> {
        let doing = self.doing("try checksums", name.as_str());
        let put = |wrong: bool| {
            self.call(|client| {
                let mut request = client
                    .put_object()
                    .bucket(&self.address.bucket)
                    .key(self.key(name))
                    .content_type("application/octet-stream")
                    .body(aws_sdk_s3::primitives::ByteStream::from_static(b"checksum"));
                request = match wrong {
                    true => request.checksum_crc32_c("AAAAAA=="),
                    false => request.checksum_algorithm(ChecksumAlgorithm::Crc32C),
                };
                let sent = request.send();
                let doing = &doing;
                async move { within(doing, 0, async { sent.await.map_err(|e| failure(doing, e)) }).await }
            })
        };
        match put(false) {
            Ok(_) => {}
            Err(failure) if failure.may_be_about_checksums() => return Ok(ChecksumUse::Refused),
            Err(failure) => return Err(failure.error),
        }
        match put(true) {
            Ok(_) => Ok(ChecksumUse::Ignored),
            Err(failure) if failure.status.is_some_and(|status| status < 500) => Ok(ChecksumUse::Verified),
            Err(failure) => Err(failure.error),
        }
    }
}

fn unknown<T>(failure: &Failure) -> Fact<T> {
    match failure.is_not_implemented() {
        true => Fact::NotThere,
        false => Fact::Unknown(failure.error.why().to_owned()),
    }
}
