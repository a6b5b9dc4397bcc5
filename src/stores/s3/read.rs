//! Reading: whole objects, ranges, and looks.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;

use crate::model::{Error, ObjectName, Result};
use crate::ports::ObjectMeta;

use super::super::wrap::{missing, over_limit, too_short};
use super::error::{Doing, Failure, broken_body, failure, slow};
use super::list::whole_secs;
use super::{S3, within};

const LOOK: &str = "look at the object";

/// No object of S3 is longer; servers do not like ranges beyond what they can count to.
const RANGE_END_MAX: u64 = 1 << 50;

/// What part of a body is wanted.
#[derive(Clone, Copy)]
struct Wanted {
    /// Bytes to pass over: not 0 only where the server sent more than was asked for.
    skip: u64,
    /// Bytes to take.
    take: u64,
    /// Whether the body has to end there.
    whole: bool,
}

impl S3 {
    pub(super) fn get_object(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        let doing = self.doing("read the object", name.as_str());
        self.ask(|client| {
            let request = self.get_request(&client, name).send();
            let doing = doing.clone();
            on_worker(async move {
                let doing = &doing;
                let output = within(doing, 0, async { request.await.map_err(|e| failure(doing, e)) }).await?;
                let size = length(&output);
                if let Some(size) = size.filter(|size| *size > limit_bytes) {
                    return Err(over_limit(&*doing.on, size, limit_bytes).into());
                }
                // Without a length, one byte more tells that there is too much.
                let take = size.unwrap_or(limit_bytes.saturating_add(1));
                let wanted = Wanted { skip: 0, take, whole: true };
                let bytes = collect(doing, output.body, wanted).await?;
                let got = bytes.len() as u64;
                match size {
                    Some(size) if got != size => Err(short_body(doing, got, size)),
                    None if got > limit_bytes => Err(over_limit(&*doing.on, got, limit_bytes).into()),
                    _ => Ok(bytes),
                }
            })
        })
    }

    pub(super) fn get_object_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        let end = offset.checked_add(len).filter(|end| *end <= RANGE_END_MAX);
        let (Some(end), true) = (end, len > 0) else { return self.empty_range(name, offset, len) };
        let doing = self.doing("read a part of the object", name.as_str());
        let got = self.call(|client| {
            let request = self.get_request(&client, name).range(format!("bytes={offset}-{}", end - 1)).send();
            let doing = doing.clone();
            on_worker(async move {
                let doing = &doing;
                let output = within(doing, 0, async { request.await.map_err(|e| failure(doing, e)) }).await?;
                // Without one it is the whole object: this server has no ranges.
                let is_range = output.content_range().is_some();
                let skip = if is_range { 0 } else { offset };
                if let Some(has) = length(&output)
                    && has < skip.saturating_add(len)
                {
                    return Err(too_short(&*doing.on, has.saturating_add(offset - skip), offset, len).into());
                }
                let wanted = Wanted { skip, take: len, whole: is_range };
                let bytes = collect(doing, output.body, wanted).await?;
                match bytes.len() as u64 {
                    got if got == len => Ok(bytes),
                    got => Err(short_body(doing, got, len)),
                }
            })
        });
        got.or_else(|failure| match (failure.status, failure.code.as_deref()) {
            (Some(416), _) | (_, Some("InvalidRange")) => self.empty_range(name, offset, len),
            _ => Err(failure.error),
        })
    }

    /// A range of nothing, or one that no object can have: the object's size decides.
    fn empty_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        let size = self.head_object(name)?.ok_or_else(|| missing(self.on(name.as_str())))?.size;
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(too_short(self.on(name.as_str()), size, offset, len));
        }
        if len == 0 {
            return Ok(Vec::new());
        }
        // It grew between two requests, or the server cannot count.
        let why = "the store refused a range that the object has";
        Err(Error::new(crate::model::ErrorKind::Store, "read a part of the object", why)
            .on(self.on(name.as_str()))
            .hint("does something between us and the store change requests? `muster doctor` tells more")
            .retryable())
    }

    pub(super) fn head_object(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        let Some(output) = self.head(name)? else { return Ok(None) };
        let size = output.content_length().and_then(|size| u64::try_from(size).ok());
        match (size, output.last_modified()) {
            (Some(size), Some(modified)) => {
                Ok(Some(ObjectMeta { name: name.clone(), size, stored_at: whole_secs(modified) }))
            }
            _ => {
                let doing = self.doing(LOOK, name.as_str());
                Err(broken_body(&doing, "the answer has no size or no time").error)
            }
        }
    }

    /// All that the server says of an object; `None` where it is not there. That a list confirms: the
    /// answer to HEAD does not tell a missing object from a missing bucket, from a proxy whose store is
    /// away, or from one that its caller may not hear of.
    pub(super) fn head(&self, name: &ObjectName) -> Result<Option<HeadObjectOutput>> {
        let doing = self.doing(LOOK, name.as_str());
        let looked = self.call(|client| {
            let request = client.head_object().bucket(&self.address.bucket).key(self.key(name)).send();
            let doing = &doing;
            async move { within(doing, 0, async { request.await.map_err(|e| failure(doing, e)) }).await }
        });
        match looked {
            Ok(output) => Ok(Some(output)),
            Err(failure) if failure.may_be_missing() && !self.is_listed(name)? => Ok(None),
            Err(failure) => Err(failure.error),
        }
    }

    /// No checksum is asked for: everything that is read is proven by Muster's own hashes, and a
    /// server's wrong note of a checksum must not stand in the way of a restore.
    fn get_request(&self, client: &aws_sdk_s3::Client, name: &ObjectName) -> GetObjectFluentBuilder {
        client.get_object().bucket(&self.address.bucket).key(self.key(name))
    }
}

/// Lets a thread of the runtime take a body in, beside the connection that it comes from: on the
/// caller's thread every piece of it would cost two switches between threads.
async fn on_worker<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(Error::internal("ask the store", error.to_string()).into()))
}

fn length(output: &GetObjectOutput) -> Option<u64> {
    output.content_length().and_then(|length| u64::try_from(length).ok())
}

fn short_body(doing: &Doing, got: u64, wanted: u64) -> Failure {
    broken_body(doing, format!("{got} of {wanted} bytes came"))
}

/// Takes what is wanted of a body, unless it comes more slowly than any may. What the operator wants
/// slower is held back between requests, never here (`wrap::Limit`).
async fn collect(doing: &Doing, body: ByteStream, wanted: Wanted) -> Result<Vec<u8>, Failure> {
    let limit = doing.longest(wanted.skip.saturating_add(wanted.take));
    match tokio::time::timeout(limit, pieces(doing, body, wanted)).await {
        Ok(done) => done,
        Err(_) => {
            Err(slow(doing, format!("the object's bytes did not all come within {} s", limit.as_secs())))
        }
    }
}

/// No more memory is held than what is wanted, and none before bytes come that fill it: lengths are
/// only what a server says.
async fn pieces(doing: &Doing, mut body: ByteStream, wanted: Wanted) -> Result<Vec<u8>, Failure> {
    const AT_ONCE_MAX: u64 = 64 << 20;
    let mut bytes = Vec::with_capacity(wanted.take.min(AT_ONCE_MAX) as usize);
    let mut skip = wanted.skip;
    loop {
        let next = tokio::time::timeout(doing.answer_timeout, body.next()).await;
        let next = next.map_err(|_| slow(doing, "the object's bytes stopped coming"))?;
        let Some(piece) = next else { return Ok(bytes) };
        let piece = piece.map_err(|error| {
            let words = super::error::last_words(&error);
            broken_body(doing, format!("the object did not come whole: {words}"))
        })?;
        let passed = skip.min(piece.len() as u64);
        skip -= passed;
        let room = wanted.take - bytes.len() as u64;
        let rest = &piece[passed as usize..];
        bytes.extend_from_slice(&rest[..rest.len().min(room as usize)]);
        if rest.len() as u64 > room && wanted.whole {
            return Err(broken_body(doing, "more bytes came than were announced"));
        }
        // Where the end is reached the connection can be used again.
        if bytes.len() as u64 == wanted.take && !wanted.whole {
            return Ok(bytes);
        }
    }
}
