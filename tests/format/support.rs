//! Runs the binary and the script, and tells what a folder holds.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

/// The folder of this test's files.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format")
}

/// Whether the tests are to write their committed files anew.
pub fn writes(what: &str) -> bool {
    std::env::var_os(format!("MUSTER_WRITE_{what}")).is_some_and(|v| v == "1")
}

/// Bytes that do not compress and are the same each time.
pub fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Runs `muster` with its own cache and configuration in `home`, and none of the caller's settings.
pub fn muster(home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"MUSTER_")) {
        command.env_remove(name);
    }
    command.current_dir(home).env("TZ", "UTC").args(args).args([
        "-c",
        "muster.toml",
        "--cache-dir",
        "cache",
        "--no-progress",
    ]);
    command.output().expect("muster runs")
}

/// Runs it, and answers with what it printed; anything but success ends the test.
pub fn muster_ok(home: &Path, args: &[&str]) -> String {
    let output = muster(home, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "muster {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs restore.py; what it printed, and whether it went well.
pub fn script(args: &[&str]) -> Output {
    for program in ["python3", "age", "zstd"] {
        let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
        assert!(found, "this test needs `{program}`: apt-get install python3 age zstd");
    }
    Command::new("python3").arg(folder().join("restore.py")).args(args).output().expect("python3 runs")
}

/// Runs restore.py, which must do well.
pub fn script_ok(args: &[&str]) -> String {
    let output = script(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "restore.py {args:?}: {errors}");
    assert!(errors.is_empty(), "restore.py {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What lies below a folder, one line each: type, mode, mtime, names of the same file, SHA-256 or target, path.
pub fn listing(root: &Path) -> String {
    let mut lines = Vec::new();
    list_into(root, root, &mut lines);
    lines.sort();
    lines.iter().fold(String::new(), |mut text, (_, line)| {
        let _ = writeln!(text, "{line}");
        text
    })
}

fn list_into(root: &Path, at: &Path, lines: &mut Vec<(Vec<u8>, String)>) {
    for entry in fs::read_dir(at).expect("a folder is read") {
        let path = entry.expect("a folder is read").path();
        let meta = fs::symlink_metadata(&path).expect("an entry is looked at");
        let kind = meta.file_type();
        let (word, content) = if kind.is_dir() {
            list_into(root, &path, lines);
            ("dir", "-".to_owned())
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).expect("a link is read");
            ("link", target.as_os_str().as_bytes().escape_ascii().to_string())
        } else if kind.is_fifo() {
            ("fifo", "-".to_owned())
        } else {
            ("file", sha256(&fs::read(&path).expect("a file is read")))
        };
        let links = if kind.is_dir() { 1 } else { meta.nlink() };
        let name = path.strip_prefix(root).expect("it lies below").as_os_str().as_bytes().to_vec();
        let (mode, secs, nanos) = (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec());
        lines.push((
            name.clone(),
            format!("{word} {mode:04o} {secs}.{nanos:09} {links} {content} {}", name.escape_ascii()),
        ));
    }
}

/// Compares listings, and shows the first lines that differ.
pub fn assert_same(found: &str, expected: &str, what: &str) {
    let differing: Vec<_> = found.lines().filter(|l| !expected.lines().any(|e| e == *l)).take(5).collect();
    let missing: Vec<_> = expected.lines().filter(|l| !found.lines().any(|f| f == *l)).take(5).collect();
    assert!(found == expected, "{what}: found {differing:#?}, and missed {missing:#?}");
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    muster::model::id::to_hex(&Sha256::digest(bytes))
}

/// Copies a folder of plain files.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder is made");
    for entry in fs::read_dir(from).expect("a folder is read") {
        let path = entry.expect("a folder is read").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file is copied");
        }
    }
}
