//! A small S3 server in memory that does what it is told wrongly: each request goes past a script
//! first. It checks no signatures, but keeps what it was asked.

#![allow(dead_code, reason = "each test program uses what it needs")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn is(&self, method: &str) -> bool {
        self.method == method
    }

    pub fn is_list(&self) -> bool {
        self.is("GET") && self.query.contains("list-type")
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Only so much of the body is sent, and then the connection is closed.
    sent: Option<usize>,
    /// Nothing is sent at all.
    silent: bool,
    /// The body is sent byte by byte, with a pause of so many milliseconds before each.
    pause_ms: u64,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Ends the connection after so many bytes of the body.
    pub fn cut_at(mut self, bytes: usize) -> Self {
        self.sent = Some(bytes);
        self
    }

    /// Sends the body byte by byte, with pauses.
    pub fn trickle(mut self, pause_ms: u64) -> Self {
        self.pause_ms = pause_ms;
        self
    }

    /// Closes the connection without a word.
    pub fn nothing() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// An error as S3 writes it.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>said the server</Message></Error>"
        );
        Self::new(status).header("content-type", "application/xml").body(body)
    }

    /// A page as a proxy sends it.
    pub fn html(status: u16) -> Self {
        Self::new(status)
            .header("content-type", "text/html; charset=utf-8")
            .body("<html><head><title>Sign in</title></head><body>Welcome<br></body></html>")
    }

    /// Whether it says that the object is not there.
    pub fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// What changes on the way from a good answer to the one that is sent.
    pub fn map_body(mut self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        self.body = change(self.body);
        self
    }
}

/// Looks at a request, its number from 0, and what a good server would answer; gives what to answer.
pub type Script = dyn Fn(usize, &Asked, Answer) -> Answer + Send + Sync;

type Objects = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
struct State {
    objects: Objects,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    asked: Vec<Asked>,
}

/// The server. It ends with the test.
pub struct WrongServer {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

/// The bucket that it has.
pub const BUCKET: &str = "bucket";

impl WrongServer {
    pub fn start(script: impl Fn(usize, &Asked, Answer) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve("http", Arc::new(script), |stream| Some(Box::new(stream)))
    }

    /// With TLS, and this certificate.
    pub fn start_tls(certificate_pem: &str, key_pem: &str) -> Self {
        let certificates =
            CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        let config = Arc::new(config);
        Self::serve("https", Arc::new(|_, _: &Asked, good| good), move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).ok()?;
            Some(Box::new(rustls::StreamOwned::new(connection, stream)))
        })
    }

    fn serve(
        scheme: &str,
        script: Arc<Script>,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn ReadWrite>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("{scheme}://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let (wrap, turn) = (Arc::new(wrap), Arc::new(Mutex::new(())));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (state, turn, script, wrap) =
                    (shared.clone(), turn.clone(), script.clone(), wrap.clone());
                thread::spawn(move || {
                    if let Some(stream) = wrap(stream) {
                        // A client that goes away is no failure.
                        let _ = converse(stream, &state, &turn, &*script);
                    }
                });
            }
        });
        Self { endpoint, state }
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// How many requests of this method came.
    pub fn count(&self, method: &str) -> usize {
        self.asked().iter().filter(|asked| asked.is(method)).count()
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    pub fn unfinished_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.len()
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn converse(
    stream: Box<dyn ReadWrite>,
    state: &Mutex<State>,
    turn: &Mutex<()>,
    script: &Script,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read_request(&mut stream)? {
        let number = {
            let mut state = state.lock().unwrap();
            state.asked.push(asked.clone());
            state.asked.len() - 1
        };
        let given = {
            // One after the other: what is undone must not be another's.
            let _turn = turn.lock().unwrap();
            // A script that answers without looking at what a good server would say must not change
            // anything either, so that the good answer is made first and undone if it was not given.
            let before = snapshot(state);
            let good = answer(&mut state.lock().unwrap(), &asked);
            let status = good.status;
            let given = script(number, &asked, good);
            if given.status != status && !given.silent {
                restore(state, before);
            }
            given
        };
        if given.silent {
            return Ok(());
        }
        if !send(stream.get_mut(), &asked, &given)? {
            return Ok(());
        }
    }
    Ok(())
}

type Snapshot = (Objects, BTreeMap<String, BTreeMap<u32, Vec<u8>>>);

fn snapshot(state: &Mutex<State>) -> Snapshot {
    let state = state.lock().unwrap();
    (state.objects.clone(), state.uploads.clone())
}

fn restore(state: &Mutex<State>, (objects, uploads): Snapshot) {
    let mut state = state.lock().unwrap();
    (state.objects, state.uploads) = (objects, uploads);
}

fn read_request(stream: &mut BufReader<Box<dyn ReadWrite>>) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(Asked { method, path, query, headers, body }))
}

/// Whether the connection goes on.
fn send(stream: &mut Box<dyn ReadWrite>, asked: &Asked, answer: &Answer) -> std::io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !answer.headers.iter().any(|(name, _)| name == "content-length") {
        head += &format!("content-length: {}\r\n", answer.body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if !asked.is("HEAD") {
        let sent = answer.sent.unwrap_or(answer.body.len());
        let body = &answer.body[..sent.min(answer.body.len())];
        let at_once = if answer.pause_ms == 0 { body.len().max(1) } else { 1 };
        for piece in body.chunks(at_once) {
            thread::sleep(std::time::Duration::from_millis(answer.pause_ms));
            stream.write_all(piece)?;
            stream.flush()?;
        }
    }
    stream.flush()?;
    Ok(answer.sent.is_none())
}

const DATE: &str = "Sat, 21 Nov 2026 08:00:00 GMT";

/// What a good server does.
fn answer(state: &mut State, asked: &Asked) -> Answer {
    let ok = |status: u16| Answer::new(status).header("etag", "\"e\"").header("last-modified", DATE);
    let root = format!("/{BUCKET}");
    let Some(key) = asked.path.strip_prefix(&root).map(|rest| rest.trim_start_matches('/').to_owned()) else {
        return Answer::error(404, "NoSuchBucket");
    };
    let upload = asked.query.split('&').find_map(|pair| pair.strip_prefix("uploadId=")).map(str::to_owned);
    match (asked.method.as_str(), upload) {
        ("POST", None) if asked.query.contains("uploads") => {
            state.uploads.insert(key.clone(), BTreeMap::new());
            ok(200).header("content-type", "application/xml").body(format!(
                "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            ))
        }
        ("PUT", Some(_)) => {
            let number = asked.query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")).unwrap();
            let parts = state.uploads.get_mut(&key).unwrap();
            parts.insert(number.parse().unwrap(), asked.body.clone());
            ok(200)
        }
        ("POST", Some(_)) => {
            let parts = state.uploads.remove(&key).unwrap();
            state.objects.insert(key.clone(), parts.into_values().flatten().collect());
            ok(200)
                .header("content-type", "application/xml")
                .body("<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>")
        }
        ("DELETE", Some(_)) => {
            state.uploads.remove(&key);
            Answer::new(204)
        }
        ("PUT", None) => {
            if asked.header("if-none-match") == "*" && state.objects.contains_key(&key) {
                return Answer::error(412, "PreconditionFailed");
            }
            state.objects.insert(key, asked.body.clone());
            ok(200)
        }
        ("DELETE", None) => {
            state.objects.remove(&key);
            Answer::new(204)
        }
        ("GET", _) if asked.is_list() => list(&state.objects, &asked.query),
        ("GET" | "HEAD", _) => match state.objects.get(&key) {
            None => Answer::error(404, "NoSuchKey"),
            Some(bytes) => {
                let typed = |answer: Answer| answer.header("content-type", "application/octet-stream");
                match asked.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-')) {
                    None => {
                        typed(ok(200)).header("content-length", &bytes.len().to_string()).body(bytes.clone())
                    }
                    Some((from, to)) => {
                        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                        let to = to.min(bytes.len().saturating_sub(1));
                        typed(ok(206))
                            .header("content-range", &format!("bytes {from}-{to}/{}", bytes.len()))
                            .body(bytes[from..=to].to_vec())
                    }
                }
            }
        },
        _ => Answer::error(405, "MethodNotAllowed"),
    }
}

fn list(objects: &Objects, query: &str) -> Answer {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
    let prefix = prefix.replace("%2F", "/");
    let entries: Vec<String> = objects
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(key, bytes)| {
            let size = bytes.len();
            format!("<Contents><Key>{key}</Key><LastModified>2026-11-21T08:00:00.000Z</LastModified><Size>{size}</Size></Contents>\n")
        })
        .collect();
    Answer::new(200).header("content-type", "application/xml").body(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>{BUCKET}</Name><KeyCount>{}</KeyCount><IsTruncated>false</IsTruncated>\n{}</ListBucketResult>",
        entries.len(),
        entries.concat()
    ))
}
