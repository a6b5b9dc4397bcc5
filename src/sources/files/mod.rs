//! Files and folders: everything below some paths, with all that the file system keeps
//! of them.
//!
//! Entry paths are the absolute paths without the first slash. Directories above a root
//! are recorded with their attributes, but nothing else in them is looked at, and a
//! restore to the original place leaves those that exist as they are.

mod attrs;
mod beneath;
mod capture;
mod compare;
mod content;
mod filter;
mod restore;
mod roots;
mod verify;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{EntryPath, Error, ErrorKind, Result, Time};
use crate::ports::{
    Cancel, CaptureReader, CaptureReport, CaptureSink, Clock, Finding, RestoreReport, RestoreRequest,
    RestoreTarget, Source, VerifyReport,
};

use attrs::Stat;
use beneath::Beneath;
use filter::Filter;

/// The original place of everything.
const ROOT: &str = "/";

/// Whether the error says that a part of the point is lost, and nothing of the rest.
fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Untrusted)
}

/// Which files, by which rules. Patterns are those of `.gitignore`, from `/`.
#[derive(Clone, Debug, Default)]
pub struct FilesConfig {
    /// What to capture. Relative ones are taken from the working directory.
    pub paths: Vec<PathBuf>,
    /// Where not empty: only files that one of these names, or that lie below a
    /// directory that one names.
    pub include: Vec<String>,
    /// What to leave out; `!` brings back.
    pub exclude: Vec<String>,
    /// Names of files whose patterns hold for their directory, such as `.musterignore`.
    pub ignore_files: Vec<String>,
    /// Do not enter what is mounted below a path.
    pub one_file_system: bool,
    /// Leave out what lies beside a valid `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Read every file, also those that look unchanged.
    pub force_read: bool,
}

/// The `files` source.
pub struct FilesSource {
    name: String,
    config: FilesConfig,
    filter: Filter,
    clock: Arc<dyn Clock>,
}

impl FilesSource {
    /// A source called `name`. A pattern that is none is an error.
    pub fn new(name: impl Into<String>, config: FilesConfig) -> Result<Self> {
        let filter = Filter::new(&config)?;
        Ok(Self { name: name.into(), config, filter, clock: Arc::new(HostClock) })
    }

    /// The same with another clock than the host's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// The clock that file systems of this host use too.
struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> Time {
        Time::from_system(std::time::SystemTime::now())
    }
}

impl Source for FilesSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "files"
    }

    fn probe(&self) -> Result<Vec<Finding>> {
        probe(self)
    }

    fn capture(&self, sink: &mut dyn CaptureSink, cancel: &Cancel) -> Result<CaptureReport> {
        capture::capture(self, sink, cancel)
    }

    fn restore(
        &self,
        from: &dyn CaptureReader,
        request: &RestoreRequest,
        cancel: &Cancel,
    ) -> Result<RestoreReport> {
        require_proc()?;
        restore::restore(self, from, request, cancel)
    }

    fn verify(
        &self,
        from: &dyn CaptureReader,
        target: &RestoreTarget,
        cancel: &Cancel,
    ) -> Result<VerifyReport> {
        require_proc()?;
        verify::verify(self, from, target, cancel)
    }
}

/// Extended attributes are reached through `/proc/self/fd`: without it they would be
/// lost without a word.
fn require_proc() -> Result<()> {
    if std::path::Path::new("/proc/self/fd").is_dir() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Source, "work with files", "/proc is not mounted")
        .hint("mount it: mount -t proc proc /proc"))
}

/// Looks at a root; an error is why it cannot be captured.
fn look_at_root(world: &Beneath, root: &EntryPath) -> Result<Stat, String> {
    let missing = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be looked at: {e}"),
    };
    let parent = world.open_parent(root).map_err(missing)?;
    let dir = parent.as_ref().map_or(world.base(), std::os::fd::AsFd::as_fd);
    let stat = Stat::at(dir, root.leaf()).map_err(missing)?;
    if stat.is_dir() {
        world.open_at(root, beneath::DIR_READ).map_err(|e| format!("cannot be read: {e}"))?;
    } else if stat.is_file() {
        content::open_to_read(world, root).map_err(|e| format!("cannot be read: {e}"))?;
    }
    Ok(stat)
}

fn probe(source: &FilesSource) -> Result<Vec<Finding>> {
    require_proc()?;
    let resolved = roots::resolve(&source.config.paths)?;
    let world = Beneath::open(ROOT.as_ref()).map_err(|e| Error::io("open", ROOT, e))?;
    let mut findings: Vec<Finding> = resolved.notes.into_iter().map(|what| remark(what, None)).collect();
    if source.config.paths.is_empty() {
        findings.push(problem("no paths are configured".to_owned(), "set `paths`"));
    }
    for root in &resolved.facts.roots {
        match look_at_root(&world, root) {
            Err(why) => {
                let remedy = "mount it, let this user read it, or take it out of `paths`";
                findings.push(problem(format!("/{root} {why}"), remedy));
            }
            Ok(stat) if stat.is_dir() => findings.extend(mounts_below(root, source)),
            Ok(_) => {}
        }
    }
    if !rustix::process::geteuid().is_root() {
        let what = "not running as root: files of other users may be unreadable".to_owned();
        findings.push(remark(what, Some("run as root, or grant CAP_DAC_READ_SEARCH")));
    }
    Ok(findings)
}

/// What is mounted below a root, as the kernel lists it.
fn mounts_below(root: &EntryPath, source: &FilesSource) -> Vec<Finding> {
    let table = std::fs::read("/proc/self/mounts").unwrap_or_default();
    let mounts = table.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(1));
    let (verb, remedy) = if source.config.one_file_system {
        ("is not entered", "name it in `paths` too where it is wanted")
    } else {
        ("is entered", "set one_file_system = true where it is not wanted")
    };
    mounts
        .filter_map(|mount| EntryPath::from_display(&unescape_octal(mount)))
        .filter(|mount| mount != root && mount.is_within(root))
        .map(|mount| remark(format!("/{mount} is mounted below /{root} and {verb}"), Some(remedy)))
        .collect()
}

/// `\040` and the like, as the kernel writes spaces in its table of mounts.
fn unescape_octal(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|d| *first == b'\\' && d.iter().all(|b| (b'0'..b'8').contains(b)));
        match digits {
            Some(d) => {
                out.push(d.iter().fold(0u8, |n, b| n.wrapping_mul(8).wrapping_add(b - b'0')));
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn remark(what: String, remedy: Option<&str>) -> Finding {
    Finding { is_problem: false, what, remedy: remedy.map(str::to_owned) }
}

fn problem(what: String, remedy: &str) -> Finding {
    Finding { is_problem: true, what, remedy: Some(remedy.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_spaces_are_read() {
        assert_eq!(unescape_octal(br"/mnt/a\040b\\c"), br"/mnt/a b\\c");
    }
}
