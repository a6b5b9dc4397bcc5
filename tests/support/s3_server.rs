//! An S3 server inside the test: s3s over a folder, on a port of its own, with signatures checked.

#![allow(dead_code, reason = "each test program uses what it needs")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::Method;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use muster::model::Secret;
use muster::stores::s3::{AccessKeys, Address, Credentials, S3Options};
use s3s::HttpResponse;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::runtime::Runtime;

/// The bucket that every server has.
pub const BUCKET: &str = "bucket";
pub const KEY_ID: &str = "AKIACANARYKEYID00000";
pub const SECRET_KEY: &str = "canary/of+secret-key";

/// A running server. Its port closes when this is dropped.
pub struct S3Server {
    endpoint: String,
    root: tempfile::TempDir,
    _runtime: Runtime,
}

impl S3Server {
    /// One whose conditional puts work, as a real store's do: puts go one after the other.
    pub fn start() -> Self {
        Self::start_with(true)
    }

    /// s3s-fs as it is: it looks, then writes, so that of many who race several win.
    pub fn start_racy() -> Self {
        Self::start_with(false)
    }

    fn start_with(one_put_at_a_time: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET_KEY));
        let service = builder.build();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = root.path().to_owned();
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        runtime.spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { return };
                // Without it the end of an answer waits 40 ms for the client's word, as no good server does.
                let _ = socket.set_nodelay(true);
                let (service, files, turn) = (service.clone(), files.clone(), turn.clone());
                tokio::spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let answer = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
                        let (method, path) = (request.method(), request.uri().path());
                        let early = no_bucket(&files, path)
                            .or_else(|| folder_in_place_of_object(&files, method, path));
                        let (parts, body) = request.into_parts();
                        let request = hyper::Request::from_parts(parts, s3s::Body::from(body));
                        let (service, turn) = (service.clone(), turn.clone());
                        async move {
                            let is_write = [Method::PUT, Method::POST].contains(request.method());
                            let _turn = match one_put_at_a_time && is_write {
                                true => Some(turn.lock().await),
                                false => None,
                            };
                            match early {
                                Some(response) => Ok(response),
                                None => service.call(request).await,
                            }
                        }
                    });
                    // A client that goes away is no failure.
                    let _ = http.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self { endpoint, root, _runtime: runtime }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where the bucket's objects lie as files.
    pub fn bucket(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// What reaches this server.
    pub fn options(&self) -> S3Options {
        options(&self.endpoint, KEY_ID, SECRET_KEY)
    }
}

/// s3s-fs makes a bucket of any name that something is put to; no real server does.
fn no_bucket(files: &Path, path: &str) -> Option<HttpResponse> {
    let bucket = path.trim_start_matches('/').split('/').next()?;
    let is_there = bucket.is_empty() || files.join(bucket).is_dir();
    (!is_there).then(|| xml(404, "<Error><Code>NoSuchBucket</Code><Message>not there</Message></Error>"))
}

/// A folder of files cannot hold `a` beside `a/b`, and s3s-fs then fails with status 500. In S3 there
/// are no folders: `a` is simply not there.
fn folder_in_place_of_object(files: &Path, method: &Method, path: &str) -> Option<HttpResponse> {
    let (_, key) = path.strip_prefix('/')?.split_once('/')?;
    let file = files.join(path.trim_start_matches('/'));
    let below = file.ancestors().skip(1).take_while(|above| *above != files).any(Path::is_file);
    if key.is_empty() || !(file.is_dir() || below) {
        return None;
    }
    let (status, body) = match *method {
        Method::DELETE => (204, ""),
        Method::HEAD => (404, ""),
        Method::GET => (404, "<Error><Code>NoSuchKey</Code><Message>not there</Message></Error>"),
        _ => return None,
    };
    Some(xml(status, body))
}

fn xml(status: u16, body: &str) -> HttpResponse {
    let body = s3s::Body::from(body.to_owned());
    hyper::Response::builder().status(status).header("content-type", "application/xml").body(body).unwrap()
}

/// Options with fixed keys.
pub fn options(endpoint: &str, id: &str, secret: &str) -> S3Options {
    let keys =
        AccessKeys { id: Secret::new(id.to_owned()), secret: Secret::new(secret.to_owned()), token: None };
    S3Options {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        credentials: Credentials::Given(Arc::new(move || Ok(keys.clone()))),
        ..S3Options::default()
    }
}

/// An address in `bucket` that nobody used before in this process.
pub fn fresh(bucket: &str) -> Address {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Address::parse(&format!("{bucket}/t{}-{number}", std::process::id())).unwrap()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run this through scripts/with-services, which starts the server that it needs"
        )
    })
}

/// What kind the server is that runs outside.
pub fn outside_kind() -> String {
    variable("MUSTER_TEST_S3_KIND")
}

/// Bucket and options of the server that runs outside.
pub fn outside() -> (&'static str, S3Options) {
    let mut options = options(
        &variable("MUSTER_TEST_S3_ENDPOINT"),
        &variable("MUSTER_TEST_S3_KEY_ID"),
        &variable("MUSTER_TEST_S3_SECRET"),
    );
    options.region = Some(variable("MUSTER_TEST_S3_REGION"));
    (BUCKET, options)
}
