//! Putting: one request for small objects, parts for large ones.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ServerSideEncryption, StorageClass,
};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::model::{ObjectName, Result};
use crate::ports::Put;

use super::error::{Doing, Failure, broken_body, failure};
use super::{Checksums, ConditionalPut, Encryption, Multipart, Putting, S3, within};

const CONTENT_TYPE: &str = "application/octet-stream";
const WHAT: &str = "store the object";
/// How often one part is sent before the whole object is begun anew.
const PART_ATTEMPTS: u32 = 3;
/// How long to wait before the second attempt; doubles.
const PART_DELAY: Duration = Duration::from_millis(500);
/// How long giving up an upload may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(20);

/// What goes with an object beside its bytes.
#[derive(Clone)]
struct With {
    bucket: String,
    key: String,
    condition: bool,
    checksum: Option<ChecksumAlgorithm>,
    storage_class: Option<StorageClass>,
    sse: Option<ServerSideEncryption>,
    kms_key: Option<String>,
}

impl S3 {
    pub(super) fn put_object(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        // Each turn leaves out one thing that the server refused.
        loop {
            if let Some(put) = self.put_once(name, parts)? {
                return Ok(put);
            }
        }
    }

    /// `None` where the server refused something that can be left out from now on.
    fn put_once(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Option<Put>> {
        let is_refused = self.condition_refused.load(Ordering::Relaxed);
        let look_first = is_refused || self.options.conditional_put != ConditionalPut::Works;
        let _one_at_a_time = look_first.then(|| Putting::begin(self, name));
        // By a list: it is one request where HEAD needs a second one to be believed, and a policy that allows
        // lists below the prefix alone may make 403 of what HEAD does not find.
        if look_first && self.is_listed(name)? {
            return Ok(Some(Put::Exists));
        }
        let condition = !is_refused && self.options.conditional_put != ConditionalPut::Ignored;
        let with = self.with(name, condition);
        let tries_checksums = self.options.checksums == Checksums::Auto && with.checksum.is_some();
        let doing = self.doing(WHAT, name.as_str());
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let multipart = self.options.multipart.unwrap_or_default();
        let stored = if size >= multipart.from_bytes {
            self.call(|client| in_parts(client, &doing, &with, multipart, parts, size))
        } else {
            let body = Bytes::from(parts.concat());
            self.call(|client| whole(client, &doing, &with, body.clone()))
        };
        match stored {
            Ok(()) => Ok(Some(Put::Created)),
            Err(failure) if condition && failure.is_precondition() => Ok(Some(Put::Exists)),
            Err(failure) if tries_checksums && failure.may_be_about_checksums() => {
                tracing::debug!(error = %failure.error, "the store takes no checksums: going on without");
                self.checksums_refused.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(failure) if condition && failure.is_not_implemented() => {
                tracing::debug!(error = %failure.error, "the store takes no condition: looking first");
                self.condition_refused.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(failure) => Err(failure.error),
        }
    }

    fn with(&self, name: &ObjectName, condition: bool) -> With {
        let (sse, kms_key) = match &self.options.encryption {
            None => (None, None),
            Some(Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Encryption::Kms { key }) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        };
        let checksum = match self.options.checksums {
            Checksums::Auto if self.checksums_refused.load(Ordering::Relaxed) => None,
            Checksums::Auto | Checksums::Crc32c => Some(ChecksumAlgorithm::Crc32C),
            Checksums::Sha256 => Some(ChecksumAlgorithm::Sha256),
            Checksums::Off => None,
        };
        With {
            bucket: self.address.bucket.clone(),
            key: self.key(name),
            condition,
            checksum,
            storage_class: self.options.storage_class.as_deref().map(StorageClass::from),
            sse,
            kms_key,
        }
    }
}

impl With {
    fn if_none_match(&self) -> Option<String> {
        self.condition.then(|| "*".to_owned())
    }
}

/// What is no answer of an object store must not be taken for a stored object.
fn confirmed(doing: &Doing, etag: Option<&str>) -> Result<(), Failure> {
    match etag {
        Some(_) => Ok(()),
        None => Err(broken_body(doing, "the answer says yes, but names no ETag as every object store does")),
    }
}

async fn whole(client: Client, doing: &Doing, with: &With, body: Bytes) -> Result<(), Failure> {
    let bytes = body.len() as u64;
    let request = client
        .put_object()
        .bucket(&with.bucket)
        .key(&with.key)
        .content_type(CONTENT_TYPE)
        .set_if_none_match(with.if_none_match())
        .set_checksum_algorithm(with.checksum.clone())
        .set_storage_class(with.storage_class.clone())
        .set_server_side_encryption(with.sse.clone())
        .set_ssekms_key_id(with.kms_key.clone())
        .body(ByteStream::from(body))
        .send();
    let output = within(doing, bytes, async { request.await.map_err(|e| failure(doing, e)) }).await?;
    confirmed(doing, output.e_tag())
}

/// Uploads in parts. At most `at_a_time` of them are in memory. An upload that fails is given up
/// at the server too, where it would cost money for ever.
async fn in_parts(
    client: Client,
    doing: &Doing,
    with: &With,
    multipart: Multipart,
    parts: &[&[u8]],
    size: usize,
) -> Result<(), Failure> {
    let request = client
        .create_multipart_upload()
        .bucket(&with.bucket)
        .key(&with.key)
        .content_type(CONTENT_TYPE)
        .set_checksum_algorithm(with.checksum.clone())
        .set_storage_class(with.storage_class.clone())
        .set_server_side_encryption(with.sse.clone())
        .set_ssekms_key_id(with.kms_key.clone())
        .send();
    let begun = within(doing, 0, async { request.await.map_err(|e| failure(doing, e)) }).await?;
    let Some(upload) = begun.upload_id() else {
        return Err(broken_body(doing, "the answer to the begin of an upload names no upload"));
    };
    let done = match send_parts(&client, doing, with, upload, multipart, parts, size).await {
        Ok(sent) => complete(&client, doing, with, upload, sent).await,
        Err(failure) => Err(failure),
    };
    if done.is_err() {
        let abort =
            client.abort_multipart_upload().bucket(&with.bucket).key(&with.key).upload_id(upload).send();
        match tokio::time::timeout(ABORT_TIMEOUT, abort).await {
            Ok(Ok(_)) => {}
            _ => tracing::warn!(
                "{}: an unfinished upload was left in the bucket; a lifecycle rule that ends such uploads removes it",
                doing.on
            ),
        }
    }
    done
}

async fn send_parts(
    client: &Client,
    doing: &Doing,
    with: &With,
    upload: &str,
    multipart: Multipart,
    parts: &[&[u8]],
    size: usize,
) -> Result<Vec<CompletedPart>, Failure> {
    let mut sent = Vec::new();
    // Dropped on the first failure, which ends those under way.
    let mut under_way = JoinSet::new();
    let mut rest = Pieces { parts, at: 0 };
    let count = size.div_ceil(multipart.part_bytes);
    for number in 1..=count as i32 {
        if under_way.len() >= multipart.at_a_time
            && let Some(part) = under_way.join_next().await
        {
            sent.push(joined(doing, part)?);
        }
        let body = Bytes::from(rest.take(multipart.part_bytes));
        under_way.spawn(one_part(
            client.clone(),
            doing.clone(),
            with.clone(),
            upload.to_owned(),
            number,
            body,
        ));
    }
    while let Some(part) = under_way.join_next().await {
        sent.push(joined(doing, part)?);
    }
    sent.sort_by_key(CompletedPart::part_number);
    Ok(sent)
}

fn joined(
    doing: &Doing,
    part: Result<Result<CompletedPart, Failure>, tokio::task::JoinError>,
) -> Result<CompletedPart, Failure> {
    part.unwrap_or_else(|error| {
        let error = crate::model::Error::internal(WHAT, error.to_string()).on(doing.on.clone());
        Err(error.into())
    })
}

async fn one_part(
    client: Client,
    doing: Doing,
    with: With,
    upload: String,
    number: i32,
    body: Bytes,
) -> Result<CompletedPart, Failure> {
    let mut attempt = 1;
    loop {
        let request = client
            .upload_part()
            .bucket(&with.bucket)
            .key(&with.key)
            .upload_id(&upload)
            .part_number(number)
            .set_checksum_algorithm(with.checksum.clone())
            .body(ByteStream::from(body.clone()))
            .send();
        let bytes = body.len() as u64;
        match within(&doing, bytes, async { request.await.map_err(|e| failure(&doing, e)) }).await {
            Ok(output) => {
                confirmed(&doing, output.e_tag())?;
                return Ok(CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(output.e_tag)
                    .set_checksum_crc32_c(output.checksum_crc32_c)
                    .set_checksum_sha256(output.checksum_sha256)
                    .build());
            }
            Err(failure) if failure.error.is_retryable() && attempt < PART_ATTEMPTS => {
                tracing::debug!(error = %failure.error, number, attempt, "sending the part again");
                tokio::time::sleep(PART_DELAY * 2u32.pow(attempt - 1)).await;
                attempt += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
}

async fn complete(
    client: &Client,
    doing: &Doing,
    with: &With,
    upload: &str,
    sent: Vec<CompletedPart>,
) -> Result<(), Failure> {
    let all = CompletedMultipartUpload::builder().set_parts(Some(sent)).build();
    let request = client
        .complete_multipart_upload()
        .bucket(&with.bucket)
        .key(&with.key)
        .upload_id(upload)
        .multipart_upload(all)
        .set_if_none_match(with.if_none_match())
        .send();
    // Laying parts together may take a server minutes.
    let minutes = 16 << 20;
    let output = within(doing, minutes, async { request.await.map_err(|e| failure(doing, e)) }).await?;
    confirmed(doing, output.e_tag())
}

/// Takes bytes off a list of slices, from the front.
struct Pieces<'p> {
    parts: &'p [&'p [u8]],
    /// How much of the first slice is taken.
    at: usize,
}

impl Pieces<'_> {
    /// The next `len` bytes, or what is left.
    fn take(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while let Some((first, others)) = self.parts.split_first() {
            let rest = &first[self.at..];
            let wanted = (len - bytes.len()).min(rest.len());
            bytes.extend_from_slice(&rest[..wanted]);
            if wanted < rest.len() {
                self.at += wanted;
                return bytes;
            }
            (self.parts, self.at) = (others, 0);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_across_slices() {
        let mut pieces = Pieces { parts: &[b"ab", b"", b"cdef", b"g"], at: 0 };
        assert_eq!(pieces.take(1), b"a");
        assert_eq!(pieces.take(3), b"bcd");
        assert_eq!(pieces.take(2), b"ef");
        assert_eq!(pieces.take(9), b"g");
        assert_eq!(pieces.take(9), b"");
    }
}
