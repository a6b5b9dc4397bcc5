//! A repository in a temporary folder, and the program run on it with a clean environment.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster::model::Secret;
use muster::ports::Store;
use muster::repo::keys::{HostKeys, Identities};
use muster::repo::repository::{OpenWith, Repository};
use muster::repo::trust::Pin;
use muster::stores::Local;
use serde_json::Value;

/// No command of these tests may take longer.
const TIME_MAX: Duration = Duration::from_secs(120);

/// What a run of the program left.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Run {
    /// Both streams.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Fails unless the status is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// Fails unless `words` stand in the output.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.all().contains(words), "{words:?} is not in\n{}", self.all());
        self
    }

    #[track_caller]
    pub fn says_not(self, words: &str) -> Self {
        assert!(!self.all().contains(words), "{words:?} is in\n{}", self.all());
        self
    }

    /// The one document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str::<Value>(&self.stdout) {
            Ok(value) => {
                assert!(value["schema"].as_str().is_some_and(|s| s.starts_with("muster.")), "{value}");
                value
            }
            Err(error) => panic!("{error}: {}\n{}", self.stdout, self.stderr),
        }
    }
}

/// Who opens the repository through the library.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The backup host alone.
    Writer,
    /// The host with the recovery kit.
    Both,
}

/// A temporary folder with a repository and its keys.
pub struct World {
    pub dir: tempfile::TempDir,
    pub root: String,
    pub repository: String,
    pub writer: String,
}

impl World {
    /// A fresh repository below a temporary folder.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        Self::at(dir, &repo)
    }

    /// A fresh repository at `repo`; the keys and the configuration are in `dir`.
    pub fn at(dir: tempfile::TempDir, repo: &Path) -> Self {
        let mut world = Self { dir, root: String::new(), repository: String::new(), writer: String::new() };
        let store = format!("file://{}", repo.display());
        let made = world.run(["init", "--store", &store, "--kit", "kit.txt", "--json"]).ok().json();
        assert_eq!(made["schema"], "muster.init/1");
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        (world.root, world.repository, world.writer) = (text("root"), text("repository"), text("writer"));
        world
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn join(&self, rest: &str) -> PathBuf {
        self.path().join(rest)
    }

    pub fn repo(&self) -> PathBuf {
        self.join("repo")
    }

    /// `--identity` of the kit.
    pub fn kit(&self) -> String {
        format!("file:{}", self.join("kit.txt").display())
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, rest: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(rest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Adds jobs to the configuration.
    pub fn configure(&self, text: &str) {
        let path = self.join("muster.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{before}\n{text}\n")).unwrap();
    }

    /// A job `app` of one `files` source `docs` over the folder `src`.
    pub fn with_docs(self) -> Self {
        self.configure(
            "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [\"src\"]",
        );
        std::fs::create_dir_all(self.join("src")).unwrap();
        self
    }

    /// The program, not yet started: an empty environment but for what it needs.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", "/nonexistent").env("TZ", "UTC").env("COLUMNS", "200");
        command.arg("--cache-dir").arg(self.join("cache")).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        finish(self.command(args))
    }

    /// As [`run`](Self::run), with the recovery kit.
    pub fn with_kit<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Run {
        let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        args.extend(["--identity".to_owned(), self.kit()]);
        self.run(args)
    }

    /// A backup that must succeed; the point's name.
    #[track_caller]
    pub fn backup(&self) -> String {
        self.backup_json()["point"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn backup_json(&self) -> Value {
        self.run(["backup", "--json"]).ok().json()
    }

    /// Where `original` stands after a restore of `source` to `out`.
    pub fn restored(&self, out: &str, source: &str, original: &Path) -> PathBuf {
        self.join(out).join(source).join(original.strip_prefix("/").unwrap())
    }

    /// A file of the source `docs` as commands take it and print it.
    pub fn entry(&self, rest: &str) -> String {
        format!("docs:{}", self.join(rest).display().to_string().trim_start_matches('/'))
    }

    /// Names of all objects below `prefix`, and their files.
    pub fn objects(&self, prefix: &str) -> Vec<PathBuf> {
        let mut found = files_below(&self.repo().join(prefix));
        found.sort();
        found
    }

    pub fn host_keys(&self) -> HostKeys {
        HostKeys::parse(&Secret::new(std::fs::read_to_string(self.join("muster.key")).unwrap())).unwrap()
    }

    pub fn identities(&self) -> Identities {
        let mut identities = Identities::default();
        let kit = Secret::new(std::fs::read(self.join("kit.txt")).unwrap());
        identities.add_file(&kit, "kit", age::NoCallbacks).unwrap();
        identities
    }

    /// The repository through the library, with a cache of its own.
    pub fn open(&self, who: Who) -> Repository {
        let store: Arc<dyn Store> = Arc::new(Local::open(&self.repo()).unwrap());
        let identities = if who == Who::Writer { Identities::default() } else { self.identities() };
        let with = OpenWith {
            pin: Pin { root: Some(self.root.parse().unwrap()), lowest: 0 },
            host: Some(self.host_keys()),
            identities: &identities,
            cache_root: self.join("library-cache"),
            compression_level: 3,
        };
        Repository::open(store, with).unwrap()
    }
}

/// Every file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Copies a folder with everything in it, times included (they are the store's times).
pub fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Starts, waits, and collects.
pub fn finish(mut command: Command) -> Run {
    let began = Instant::now();
    let child = command.spawn().unwrap();
    wait(child, began)
}

/// Collects what a started program says until it ends; kills it when it takes too long.
pub fn wait(mut child: Child, began: Instant) -> Run {
    fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut all);
            }
            all
        })
    }
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if began.elapsed() > TIME_MAX {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap()).into_owned()
    };
    let (stdout, stderr) = (text(out), text(err));
    assert!(status.is_some(), "it took too long\nstdout:\n{stdout}\nstderr:\n{stderr}");
    assert!(!stderr.contains("panicked at"), "{stderr}");
    Run { code: status.and_then(|s| s.code()), stdout, stderr, took: began.elapsed() }
}

/// Waits until `what` holds.
#[track_caller]
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
