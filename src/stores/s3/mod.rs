//! A repository in an S3 bucket.
//!
//! The SDK is asynchronous, the [`Store`] trait is not: a small runtime lives in here, and
//! each call waits for its own request. Nothing is tried again but what only this store can
//! mend: keys that have expired are fetched once more, and a bucket that says it is in another
//! region is asked there. Everything else is [`wrap::Retry`](super::wrap::Retry)'s business.
//!
//! Where the server's conditional puts are not known to work, an object is looked for before it
//! is put, and two puts of one name by this process go one after the other. Between processes
//! that promises nothing, and [`Capabilities`] says so: names are unique by construction.

mod bucket;
mod client;
mod error;
mod guard;
mod list;
mod options;
mod put;
mod read;

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedHttpClient;
use tokio::runtime::Runtime;

use crate::model::{Error, ErrorKind, ObjectName, Result};
use crate::ports::{Capabilities, ObjectMeta, Put, Store};

pub use bucket::{BucketFacts, ChecksumUse, Fact, ObjectLock};
pub use options::{
    AccessKeys, Address, Checksums, ConditionalPut, Credentials, Encryption, FetchKeys, Multipart, S3Options,
};

use client::{Keys, Parts};
use error::{Cure, Doing, Failure};
use guard::StoreTime;

/// Threads of the runtime: requests are few and large, and hashing is done by callers.
const RUNTIME_THREADS: usize = 2;
/// How long an answer to a small request may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A repository in a bucket.
pub struct S3 {
    address: Address,
    options: S3Options,
    endpoint: String,
    transport: SharedHttpClient,
    time: Arc<StoreTime>,
    connection: RwLock<Option<Connection>>,
    /// The server refused checksums that were only tried.
    checksums_refused: AtomicBool,
    /// The server refused the condition, so that it is not sent any more.
    condition_refused: AtomicBool,
    /// Whether the bucket has Object Lock, once the server said so.
    has_locks: OnceLock<bool>,
    /// Names that are being put, where the server does not see to it that only one wins.
    putting: Mutex<HashSet<ObjectName>>,
    put_ended: Condvar,
    runtime: Runtime,
}

/// A client and what it was made with.
#[derive(Clone)]
struct Connection {
    client: Client,
    region: String,
    /// Where they are fetched by us.
    keys: Option<Keys>,
    /// Counts up with every cure, so that many who fail at once make one new client.
    number: u64,
}

impl S3 {
    /// A store for this address. Nothing is sent yet.
    pub fn new(address: Address, options: S3Options) -> Result<Self> {
        let endpoint = options.endpoint.clone();
        if let Some(url) = &endpoint {
            check_endpoint(url)?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("muster-s3")
            .enable_all()
            .build()
            .map_err(|error| Error::io("start the threads of", address.to_string(), error))?;
        Ok(Self {
            transport: client::transport(&options)?,
            endpoint: endpoint.unwrap_or_else(|| "AWS".to_owned()),
            address,
            options,
            time: Arc::default(),
            connection: RwLock::default(),
            checksums_refused: AtomicBool::new(false),
            condition_refused: AtomicBool::new(false),
            has_locks: OnceLock::new(),
            putting: Mutex::default(),
            put_ended: Condvar::new(),
            runtime,
        })
    }

    /// The region that requests go to now.
    pub fn region(&self) -> String {
        self.connection().region
    }

    fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.address.prefix)
    }

    fn on(&self, name: &str) -> String {
        format!("s3://{}/{}{name}", self.address.bucket, self.address.prefix)
    }

    fn doing(&self, what: &'static str, name: &str) -> Doing {
        Doing {
            what,
            on: self.on(name),
            bucket: self.address.bucket.clone(),
            endpoint: self.endpoint.clone(),
            answer_timeout: self.options.answer_timeout.unwrap_or(ANSWER_TIMEOUT),
        }
    }

    fn connection(&self) -> Connection {
        let known = self.connection.read().unwrap_or_else(PoisonError::into_inner).clone();
        known.unwrap_or_else(|| self.reconnect(0, None))
    }

    /// A new client in place of number `stale`, unless somebody made one already.
    fn reconnect(&self, stale: u64, region: Option<&str>) -> Connection {
        let mut slot = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = slot.as_ref().filter(|connection| connection.number > stale) {
            return newer.clone();
        }
        let kept = slot.as_ref().map(|connection| connection.region.clone());
        let region = region.map(str::to_owned).or(kept);
        let parts = Parts { transport: &self.transport, time: &self.time, region: region.as_deref() };
        let (client, region, keys) = self.runtime.block_on(client::connect(&self.options, parts));
        let connection = Connection { client, region, keys, number: stale + 1 };
        *slot = Some(connection.clone());
        connection
    }

    /// Does `request`, and once more after a cure where there is one.
    fn call<T, F>(&self, request: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let connection = self.connection();
        let failed = match self.with_keys(&connection, &request) {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        let renewed = match &failed.cure {
            None => return Err(failed),
            Some(Cure::Region(region)) if *region == connection.region => return Err(failed),
            Some(Cure::Region(region)) => {
                tracing::warn!(
                    "the bucket is in the region {region}, not {}: set region = {region:?} in [repository.s3]",
                    connection.region
                );
                self.reconnect(connection.number, Some(region))
            }
            Some(Cure::NewKeys) => {
                tracing::debug!(error = %failed.error, "fetching the keys again");
                self.reconnect(connection.number, None)
            }
        };
        self.with_keys(&renewed, &request)
    }

    /// Does `request` once the keys are there: they may take a program a minute, and that is no answer
    /// that the store owes.
    fn with_keys<T, F>(&self, connection: &Connection, request: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.runtime.block_on(async {
            if let Some(keys) = &connection.keys {
                keys.fetched().await.map_err(error::not_fetched)?;
            }
            request(connection.client.clone()).await
        })
    }

    /// As [`call`](Self::call), for callers that want no more than the error.
    fn ask<T, F>(&self, request: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.call(request).map_err(|failure| failure.error)
    }
}

/// Ends a request that takes longer than a body of `bytes` may.
async fn within<T>(
    doing: &Doing,
    bytes: u64,
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let limit = doing.longest(bytes);
    match tokio::time::timeout(limit, request).await {
        Ok(done) => done,
        Err(_) => Err(error::slow(doing, format!("the store did not answer within {} s", limit.as_secs()))),
    }
}

fn check_endpoint(url: &str) -> Result<()> {
    let bad = |why: &str| {
        Error::new(ErrorKind::Config, "use the endpoint", why).hint("write https://host or http://host:port")
    };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return Err(bad("it begins with neither https:// nor http://")) };
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err(bad("it holds a user or a password"));
    }
    if host.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic()) || rest.contains(['?', '#']) {
        return Err(bad("it is no address of a server"));
    }
    Ok(())
}

impl Store for S3 {
    fn describe(&self) -> String {
        self.address.to_string()
    }

    fn capabilities(&self) -> Capabilities {
        let works = self.options.conditional_put == ConditionalPut::Works;
        Capabilities { conditional_put: works && !self.condition_refused.load(Ordering::Relaxed) }
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        self.put_object(name, parts)
    }

    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        self.get_object(name, limit_bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.get_object_range(name, offset, len)
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        self.head_object(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.list_objects(prefix, visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let doing = self.doing("delete the object", name.as_str());
        let deleted = self.call(|client| {
            let request = client.delete_object().bucket(&self.address.bucket).key(self.key(name)).send();
            let doing = &doing;
            async move {
                within(doing, 0, async { request.await.map_err(|error| error::failure(doing, error)) }).await
            }
        });
        match deleted {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_missing_object() => Ok(()),
            Err(failure) if failure.is_denied() => Err(failure.error.with_kind(ErrorKind::Refused)),
            Err(failure) => Err(failure.error),
        }
    }

    fn lock(&self, name: &ObjectName) -> Result<Option<String>> {
        self.object_lock(name)
    }
}

/// Keeps the names that are being put apart.
struct Putting<'a> {
    store: &'a S3,
    name: &'a ObjectName,
}

impl<'a> Putting<'a> {
    fn begin(store: &'a S3, name: &'a ObjectName) -> Self {
        let names = store.putting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = store
            .put_ended
            .wait_while(names, |names| names.contains(name))
            .unwrap_or_else(PoisonError::into_inner);
        names.insert(name.clone());
        Self { store, name }
    }
}

impl Drop for Putting<'_> {
    fn drop(&mut self) {
        self.store.putting.lock().unwrap_or_else(PoisonError::into_inner).remove(self.name);
        self.store.put_ended.notify_all();
    }
}
