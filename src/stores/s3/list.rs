//! Listing: page after page, in byte order, whole or an error.

use std::borrow::Cow;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{EncodingType, Object};

use crate::model::{Error, ErrorKind, ObjectName, Result, Time};
use crate::ports::ObjectMeta;

use super::super::wrap::check_prefix;
use super::{S3, error, within};

const WHAT: &str = "list the objects";

impl S3 {
    pub(super) fn list_objects(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        check_prefix(prefix)?;
        let mut token: Option<String> = None;
        let mut last: Option<String> = None;
        loop {
            let page = self.page(prefix, token.as_deref(), None)?;
            // An answer that was cut short can still be read: nothing else would tell.
            if page.key_count().is_some_and(|count| usize::try_from(count) != Ok(page.contents().len())) {
                return Err(self.odd(prefix, "it has fewer entries than it says").retryable());
            }
            let is_encoded = page.encoding_type() == Some(&EncodingType::Url);
            for object in page.contents() {
                let Some(key) = object.key() else { return Err(self.odd(prefix, "an entry has no key")) };
                // A key that is no text is no object of ours.
                let Some(key) = plain(key, is_encoded) else { continue };
                if last.as_deref().is_some_and(|last| last >= &*key) {
                    return Err(self.odd(prefix, "the keys do not come in byte order"));
                }
                if let Some(meta) = self.meta(prefix, &key, object)? {
                    visit(meta)?;
                }
                last = Some(key.into_owned());
            }
            token = match (page.is_truncated(), page.next_continuation_token()) {
                (Some(true) | None, Some(next)) if Some(next) != token.as_deref() => Some(next.to_owned()),
                (Some(true), _) | (None, Some(_)) => {
                    return Err(self.odd(prefix, "there is more, and it does not say how to go on"));
                }
                _ => return Ok(()),
            };
        }
    }

    /// Whether a list has the object. Of all keys that begin with its own, the server lists it first.
    pub(super) fn is_listed(&self, name: &ObjectName) -> Result<bool> {
        let page = self.page(name.as_str(), None, Some(1))?;
        let is_encoded = page.encoding_type() == Some(&EncodingType::Url);
        let key = self.key(name);
        let mut keys = page.contents().iter().filter_map(|object| plain(object.key()?, is_encoded));
        Ok(keys.any(|listed| listed == key))
    }

    /// One page.
    fn page(&self, prefix: &str, token: Option<&str>, max_keys: Option<i32>) -> Result<ListObjectsV2Output> {
        let doing = self.doing(WHAT, prefix);
        self.ask(|client| {
            let request = client
                .list_objects_v2()
                .bucket(&self.address.bucket)
                .prefix(format!("{}{prefix}", self.address.prefix))
                // Foreign keys may hold what XML cannot.
                .encoding_type(EncodingType::Url)
                .set_max_keys(max_keys)
                .set_continuation_token(token.map(str::to_owned))
                .send();
            let doing = &doing;
            async move {
                within(doing, 0, async { request.await.map_err(|error| error::failure(doing, error)) }).await
            }
        })
    }

    /// What a key stands for; `None` where it is none of ours.
    fn meta(&self, prefix: &str, key: &str, object: &Object) -> Result<Option<ObjectMeta>> {
        let Some(rest) = key.strip_prefix(self.address.prefix.as_str()) else {
            return Err(self.odd(prefix, "it lists keys that were not asked for"));
        };
        let Ok(name) = ObjectName::new(rest) else { return Ok(None) };
        if !rest.starts_with(prefix) {
            return Err(self.odd(prefix, "it lists keys that were not asked for"));
        }
        let size = object.size().and_then(|size| u64::try_from(size).ok());
        let (Some(size), Some(modified)) = (size, object.last_modified()) else {
            return Err(self.odd(prefix, "an entry has no size or no time"));
        };
        Ok(Some(ObjectMeta { name, size, stored_at: whole_secs(modified) }))
    }

    fn odd(&self, prefix: &str, why: &str) -> Error {
        Error::new(ErrorKind::Store, WHAT, format!("the store's list cannot be used: {why}"))
            .on(self.on(prefix))
            .hint("this store does not list as S3 does, and a list that may be short is not believed; `muster doctor` tells more")
    }
}

/// A look at one object gives whole seconds, and some servers list finer ones: both must agree.
pub(super) fn whole_secs(time: &DateTime) -> Time {
    Time::new(time.secs(), 0)
}

/// A key as it is; `None` where it is no text.
fn plain(key: &str, is_encoded: bool) -> Option<Cow<'_, str>> {
    if is_encoded { decode(key).map(Cow::Owned) } else { Some(Cow::Borrowed(key)) }
}

/// Undoes percent-encoding, and `+` for a blank.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || (bytes.next()? as char).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn encoded_keys_are_decoded() {
        assert_eq!(decode("a/b-c.d_e").unwrap(), "a/b-c.d_e");
        assert_eq!(decode("a%2Fb%20c+d%2B").unwrap(), "a/b c d+");
        for bad in ["%", "%2", "%zz", "%FF"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
