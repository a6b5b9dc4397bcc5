//! What a bucket is set to, and what the server makes of checksums: for `muster doctor`.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, ObjectLockConfiguration, ObjectLockEnabled,
    ObjectLockLegalHoldStatus,
};

use crate::model::{ObjectName, Result};
use crate::ports::Store;

use super::error::{Failure, failure};
use super::{S3, within};

const SETTINGS: &str = "read the bucket's settings";

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
        BucketFacts { versioning: self.versioning(), object_lock: self.locks_of_bucket() }
    }

    fn versioning(&self) -> Fact<bool> {
        let doing = self.doing(SETTINGS, "");
        let versioning = self.call(|client| {
            let request = client.get_bucket_versioning().bucket(&self.address.bucket).send();
            let doing = &doing;
            async move { within(doing, 0, async { request.await.map_err(|e| failure(doing, e)) }).await }
        });
        match versioning {
            Ok(output) => Fact::Known(output.status() == Some(&BucketVersioningStatus::Enabled)),
            Err(failure) => unknown(&failure),
        }
    }

    fn locks_of_bucket(&self) -> Fact<ObjectLock> {
        let set = match self.lock_setting() {
            Ok(Some(set)) => set,
            Ok(None) => return Fact::NotThere,
            Err(failure) => return unknown(&failure),
        };
        let default_retention = set.rule().and_then(|rule| rule.default_retention()).and_then(|default| {
            let days = default.days().or_else(|| default.years().map(|years| years * 365))?;
            Some((default.mode()?.as_str().to_owned(), days))
        });
        Fact::Known(ObjectLock { default_retention })
    }

    /// `None` where the bucket has Object Lock off.
    fn lock_setting(&self) -> Result<Option<ObjectLockConfiguration>, Failure> {
        let doing = self.doing(SETTINGS, "");
        let lock = self.call(|client| {
            let request = client.get_object_lock_configuration().bucket(&self.address.bucket).send();
            let doing = &doing;
            async move { within(doing, 0, async { request.await.map_err(|e| failure(doing, e)) }).await }
        });
        let set = match lock {
            Ok(output) => output.object_lock_configuration,
            Err(failure) if failure.code.as_deref() == Some("ObjectLockConfigurationNotFoundError") => None,
            Err(failure) => return Err(failure),
        };
        Ok(set.filter(|set| set.object_lock_enabled() == Some(&ObjectLockEnabled::Enabled)))
    }

    /// Whether objects may be locked. Only what the server said is kept: a failed look must not make a whole
    /// run take locked objects for free ones.
    fn may_have_locks(&self) -> Result<bool> {
        if let Some(known) = self.has_locks.get() {
            return Ok(*known);
        }
        let has_locks = match self.lock_setting() {
            Ok(set) => set.is_some(),
            Err(failure) if failure.is_not_implemented() => false,
            Err(failure) if failure.error.is_retryable() => return Err(failure.error),
            // Who may not read the setting looks at each object.
            Err(_) => return Ok(true),
        };
        Ok(*self.has_locks.get_or_init(|| has_locks))
    }

    /// Why an object's bytes would outlive its deletion. A server hides a locked object when it is deleted
    /// by its name, and says that it is done.
    pub(super) fn object_lock(&self, name: &ObjectName) -> Result<Option<String>> {
        if !self.may_have_locks()? {
            return Ok(None);
        }
        let Some(head) = self.head(name)? else { return Ok(None) };
        if head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On) {
            return Ok(Some("a legal hold is on it".to_owned()));
        }
        // The store decides by its own clock, and not by this machine's. Where it does not tell the time, a
        // lock counts as one that goes on.
        let is_over = |until: &DateTime| self.time.last().is_some_and(|now| until.secs() < now);
        let until = head.object_lock_retain_until_date().filter(|until| !is_over(until));
        let mode = head.object_lock_mode().map_or("", |mode| mode.as_str());
        Ok(until.map(|until| format!("it is locked until {until} ({mode})")))
    }

    /// Puts an object with a wrong CRC32C, which a server that looks at it refuses. Each put is
    /// conditional where the others are, as a bucket's policy may demand, and has a name of its own: some
    /// servers refuse an object only when they have stored it, and these keys may not delete.
    pub fn checksum_use(&self, [one, two]: &[ObjectName; 2]) -> Result<ChecksumUse> {
        let put = |name: &ObjectName, wrong: bool| {
            let doing = self.doing("try checksums", name.as_str());
            self.call(|client| {
                let mut request = client
                    .put_object()
                    .bucket(&self.address.bucket)
                    .key(self.key(name))
                    .content_type("application/octet-stream")
                    .set_if_none_match(self.capabilities().conditional_put.then(|| "*".to_owned()))
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
        match put(one, true) {
            Ok(_) => return Ok(ChecksumUse::Ignored),
            Err(failure) if failure.is_not_implemented() => {}
            Err(failure) if failure.status.is_some_and(|status| status < 500) => {}
            Err(failure) => return Err(failure.error),
        }
        match put(two, false) {
            Ok(_) => Ok(ChecksumUse::Verified),
            Err(failure) if failure.may_be_about_checksums() => Ok(ChecksumUse::Refused),
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
