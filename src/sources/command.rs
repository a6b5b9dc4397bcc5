//! A program whose standard output is the thing to protect, and another that takes it
//! back on its standard input.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::count::counted;
use crate::model::{ChunkClass, Entry, EntryKind, EntryPath, Error, ErrorKind, Result, Secret};
use crate::ports::process::Wiring;
use crate::ports::{
    Cancel, CaptureReader, CaptureReport, CaptureSink, CommandSpec, Conflict, Ended, Finding, Process,
    RestoreReport, RestoreRequest, RestoreTarget, Source, StreamContent, StreamSink, StreamWriter,
    VerifyReport,
};

/// How much of a program's standard error is shown when it fails.
const STDERR_SHOWN_BYTES: usize = 2 << 10;

/// The entry's name where the configuration gives none.
const DEFAULT_FILE_NAME: &str = "stdout";

/// Tells the restore program what to do about things in the way: `refuse`, `replace` or
/// `mirror`, as the operator asked.
const CONFLICT_VARIABLE: &str = "MUSTER_CONFLICT";

/// Which programs, and how they are run.
#[derive(Clone, Debug)]
pub struct CommandConfig {
    /// Program and arguments whose standard output is captured. No shell is involved.
    pub backup: Vec<String>,
    /// Program and arguments that take it back on standard input.
    pub restore: Option<Vec<String>>,
    /// Variables for both.
    pub env: Vec<(String, Secret<String>)>,
    /// Working directory of both.
    pub dir: Option<PathBuf>,
    /// Kill a program after this many seconds.
    pub timeout_secs: Option<u64>,
    /// Name of the captured stream, also as a file; `stdout` where not given.
    pub file_name: Option<String>,
    /// How finely the stream is cut.
    pub class: ChunkClass,
    /// A capture shorter than this is a failure: a dump of nothing looks like a success.
    pub min_bytes: Option<u64>,
}

impl Default for CommandConfig {
    fn default() -> Self {
        Self {
            backup: Vec::new(),
            restore: None,
            env: Vec::new(),
            dir: None,
            timeout_secs: None,
            file_name: None,
            class: ChunkClass::Bulk,
            min_bytes: None,
        }
    }
}

/// What a capture's facts say; sealed as data, for standard error may hold some.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    exit_status: Option<i32>,
    stderr: String,
    bytes: u64,
}

/// The `command` source.
pub struct CommandSource {
    name: String,
    config: CommandConfig,
    path: EntryPath,
    process: Arc<dyn Process>,
}

impl CommandSource {
    /// A source called `name`. An empty command or a file name that is none is an error.
    pub fn new(name: impl Into<String>, config: CommandConfig, process: Arc<dyn Process>) -> Result<Self> {
        let empty = |argv: &Vec<String>| argv.first().is_none_or(String::is_empty);
        if empty(&config.backup) || config.restore.as_ref().is_some_and(empty) {
            return Err(Error::new(ErrorKind::Config, "use the command", "it is empty"));
        }
        let file_name = config.file_name.as_deref().unwrap_or(DEFAULT_FILE_NAME);
        let path = EntryPath::from_components([file_name.as_bytes()]).ok_or_else(|| {
            Error::new(ErrorKind::Config, "use the file name", "it is no plain name of a file")
                .on(format!("{file_name:?}"))
        })?;
        Ok(Self { name: name.into(), config, path, process })
    }

    fn spec(&self, argv: &[String], cancel: &Cancel) -> CommandSpec {
        CommandSpec {
            argv: argv.to_vec(),
            env: self.config.env.clone(),
            dir: self.config.dir.clone(),
            timeout_secs: self.config.timeout_secs,
            cancel: Some(cancel.clone()),
        }
    }

    fn captured(&self, from: &dyn CaptureReader) -> Result<Entry> {
        let mut found = None;
        from.entries(&crate::ports::Selection::default(), &mut |entry| {
            if found.replace(entry).is_some() {
                return Err(damaged("it has more than one stream"));
            }
            Ok(())
        })?;
        let entry = found.ok_or_else(|| damaged("it has no stream"))?;
        if entry.kind != EntryKind::File || !entry.path.is_safe() || entry.path.parent().is_some() {
            return Err(damaged("its entry is no plain stream"));
        }
        Ok(entry)
    }

    fn restore_by_command(
        &self,
        from: &dyn CaptureReader,
        entry: &Entry,
        request: &RestoreRequest,
        cancel: &Cancel,
    ) -> Result<()> {
        let argv = self.config.restore.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Refused,
                "restore to the original place",
                "no restore command is configured",
            )
            .on(self.name.clone())
            .hint("set `restore` for this source, or restore to a folder")
        })?;
        if request.dry_run {
            return Ok(());
        }
        let mut spec = self.spec(argv, cancel);
        let conflict = match request.conflict {
            Conflict::Refuse => "refuse",
            Conflict::Replace => "replace",
            Conflict::Mirror => "mirror",
        };
        spec.env.push((CONFLICT_VARIABLE.to_owned(), Secret::new(conflict.to_owned())));
        let mut child = self.process.spawn(&spec, Wiring::WriteInput)?;
        let stdin = child.take_stdin().ok_or_else(|| no_pipe("input"))?;
        let mut out = PipeSink { pipe: stdin, cancel, failed: None };
        let read = from.read(entry, 0, entry.size, &mut out).and_then(|()| out.flush());
        let failed = out.failed.take();
        if let (Err(error), None) = (read, &failed) {
            // The point could not be read: the program must not take half for the whole,
            // so it is killed before its input ends.
            drop(child);
            return Err(error);
        }
        drop(out);
        let ended = child.wait()?;
        cancel.check()?;
        if !ended.is_success() {
            return Err(program_failed("run the restore command", argv, &ended));
        }
        match failed {
            Some(e) => Err(Error::new(ErrorKind::Source, "run the restore command", {
                format!("it ended with exit status 0 before it had taken everything ({e})")
            })
            .on(argv[0].clone())),
            None => Ok(()),
        }
    }
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Damaged, "read the capture of the command source", why)
}

fn no_pipe(which: &str) -> Error {
    Error::internal("talk to the program", format!("it has no standard {which}"))
}

/// A program that failed. The status is the reason, which may stand in metadata; what
/// the program said goes into the hint, to the operator alone.
fn program_failed(what: &str, argv: &[String], ended: &Ended) -> Error {
    let error = Error::new(ErrorKind::Source, what, format!("it {}", ended.describe())).on(argv[0].clone());
    let tail = &ended.stderr[ended.stderr.len().saturating_sub(STDERR_SHOWN_BYTES)..];
    let said = String::from_utf8_lossy(tail);
    match said.trim() {
        "" => error.hint("it said nothing on standard error; run it by hand to see why"),
        said => error.hint(format!("it said: {said}")),
    }
}

/// A program's standard output as a stream.
struct Output<'a> {
    pipe: Box<dyn Read + Send>,
    cancel: &'a Cancel,
    bytes: u64,
}

impl Read for Output<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        let n = self.pipe.read(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

impl StreamContent for Output<'_> {
    fn read(&mut self, _entry: &mut Entry, out: &mut dyn StreamWriter) -> Result<()> {
        let ended = out.write_from(self, u64::MAX)?;
        self.cancel.check()?;
        ended.map(drop).map_err(|e| {
            Error::io("read the output of", "the backup command", e).with_kind(ErrorKind::Source)
        })
    }
}

/// A program's standard input as a place to restore to.
struct PipeSink<'a> {
    pipe: Box<dyn Write + Send>,
    cancel: &'a Cancel,
    failed: Option<io::Error>,
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl PipeSink<'_> {
    fn keep(&mut self, written: io::Result<()>) -> Result<()> {
        let Err(error) = written else { return Ok(()) };
        let kind = error.kind();
        self.failed = Some(error);
        Err(Error::io("write to", "the restore command", kind.into()))
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = self.pipe.flush();
        self.keep(flushed)
    }
}

impl StreamSink for PipeSink<'_> {
    fn data(&mut self, _offset: u64, bytes: &[u8]) -> Result<()> {
        self.cancel.check()?;
        let written = self.pipe.write_all(bytes);
        self.keep(written)
    }

    fn hole(&mut self, offset: u64, len: u64) -> Result<()> {
        let mut left = len;
        while left > 0 {
            let n = left.min(ZEROS.len() as u64);
            self.data(offset, &ZEROS[..n as usize])?;
            left -= n;
        }
        Ok(())
    }
}

impl Source for CommandSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "command"
    }

    fn probe(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for argv in [Some(&self.config.backup), self.config.restore.as_ref()].into_iter().flatten() {
            if !is_on_path(&argv[0], self.config.dir.as_deref()) {
                findings.push(Finding {
                    is_problem: true,
                    what: format!("the program {:?} is not found, or may not be run", argv[0]),
                    remedy: Some("install it, or give its full path".to_owned()),
                });
            }
        }
        if self.config.restore.is_none() {
            findings.push(Finding {
                is_problem: false,
                what: "no restore command is configured: it can be restored to a folder only".to_owned(),
                remedy: Some("set `restore`".to_owned()),
            });
        }
        Ok(findings)
    }

    fn capture(&self, sink: &mut dyn CaptureSink, cancel: &Cancel) -> Result<CaptureReport> {
        let argv = &self.config.backup;
        let mut child = self.process.spawn(&self.spec(argv, cancel), Wiring::ReadOutput)?;
        let pipe = child.take_stdout().ok_or_else(|| no_pipe("output"))?;
        let mut output = Output { pipe, cancel, bytes: 0 };
        let entry = Entry::new(self.path.clone(), EntryKind::File);
        sink.add_stream_now(entry, self.config.class, &mut output)?;
        let bytes = output.bytes;
        drop(output);
        let ended = child.wait()?;
        cancel.check()?;
        if !ended.is_success() {
            return Err(program_failed("capture the output of", argv, &ended));
        }
        if let Some(least) = self.config.min_bytes.filter(|least| bytes < *least) {
            let why =
                format!("it gave {}, and less than {least} is taken for a failure", counted(bytes, "byte"));
            return Err(Error::new(ErrorKind::Source, "capture the output of", why)
                .on(argv[0].clone())
                .hint("see what the program does, or lower `min_bytes`"));
        }
        let facts = Facts {
            exit_status: ended.code,
            stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
            bytes,
        };
        let facts = serde_json::to_vec(&facts).map_err(|e| Error::internal("write facts", e.to_string()))?;
        Ok(CaptureReport { counts: [("bytes".to_owned(), bytes)].into(), facts, notes: Vec::new() })
    }

    fn restore(
        &self,
        from: &dyn CaptureReader,
        request: &RestoreRequest,
        cancel: &Cancel,
    ) -> Result<RestoreReport> {
        let entry = self.captured(from)?;
        if !request.selection.takes(&entry.path) {
            let missing = |wanted: &EntryPath| (wanted.to_string(), "is not in the point".to_owned());
            let failures = request.selection.paths.iter().map(missing).collect();
            return Ok(RestoreReport { failures, ..RestoreReport::default() });
        }
        let restored = RestoreReport { items: 1, bytes: entry.size, ..RestoreReport::default() };
        match &request.target {
            RestoreTarget::Original => self.restore_by_command(from, &entry, request, cancel)?,
            RestoreTarget::Folder(folder) => {
                if restore_to_folder(from, &entry, folder, request, cancel)? == Written::AsItWas {
                    return Ok(RestoreReport { unchanged: 1, ..RestoreReport::default() });
                }
            }
        }
        from.progress(1, entry.size);
        Ok(restored)
    }

    fn verify(
        &self,
        from: &dyn CaptureReader,
        target: &RestoreTarget,
        _cancel: &Cancel,
    ) -> Result<VerifyReport> {
        let entry = self.captured(from)?;
        let shown = entry.path.to_string();
        let mut report = VerifyReport::default();
        let facts: Facts =
            serde_json::from_slice(&from.facts()?).map_err(|e| damaged(&format!("its facts: {e}")))?;
        if facts.bytes != entry.size {
            let captured = counted(facts.bytes, "byte");
            let why = format!("the capture gave {captured}, and the point has {}", entry.size);
            report.different.push((shown, why));
            return Ok(report);
        }
        match target {
            RestoreTarget::Original => {
                let why = "what the restore command made of it is not known here; check it with the program";
                report.cannot_tell.push((shown, why.to_owned()));
            }
            RestoreTarget::Folder(folder) => match compare(from, &entry, folder)? {
                None => report.same = 1,
                Some(why) => report.different.push((shown, why)),
            },
        }
        Ok(report)
    }
}

#[derive(PartialEq, Eq)]
enum Written {
    Anew,
    AsItWas,
}

fn file_in(folder: &Path, entry: &Entry) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    folder.join(std::ffi::OsStr::from_bytes(entry.path.leaf()))
}

fn open_nofollow(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

fn compare(from: &dyn CaptureReader, entry: &Entry, folder: &Path) -> Result<Option<String>> {
    let path = file_in(folder, entry);
    let failed = |e| Error::io("read", path.display().to_string(), e);
    let mut file = match open_nofollow(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some("is missing".to_owned())),
        Err(e) => return Err(failed(e)),
    };
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Ok(Some("is of another kind".to_owned()));
    }
    if found.len() != entry.size {
        return Ok(Some(format!("{} instead of {}", counted(found.len(), "byte"), entry.size)));
    }
    Ok((!from.is_same(entry, &mut file)?).then(|| "the content differs".to_owned()))
}

fn restore_to_folder(
    from: &dyn CaptureReader,
    entry: &Entry,
    folder: &Path,
    request: &RestoreRequest,
    cancel: &Cancel,
) -> Result<Written> {
    let failed = |e| Error::io("write to", folder.display().to_string(), e);
    let path = file_in(folder, entry);
    let is_in_use = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(failed(e)),
    };
    if is_in_use && request.conflict == Conflict::Refuse {
        return Err(Error::new(ErrorKind::Refused, "restore into", "there is something already")
            .on(folder.display().to_string())
            .hint("name an empty folder, or give --replace to replace what has the same name"));
    }
    if is_in_use && compare(from, entry, folder)?.is_none() {
        return Ok(Written::AsItWas);
    }
    if request.dry_run {
        return Ok(Written::Anew);
    }
    std::fs::create_dir_all(folder).map_err(failed)?;
    // A file of its own until it is whole, then the name: a restore that fails leaves
    // what was there.
    let draft = tempfile::Builder::new().prefix(".muster-restore-").tempfile_in(folder).map_err(failed)?;
    let mut out = FileSink { file: draft.as_file(), cancel };
    from.read(entry, 0, entry.size, &mut out)?;
    draft.as_file().set_len(entry.size).map_err(failed)?;
    draft.persist(&path).map_err(|e| failed(e.error))?;
    Ok(Written::Anew)
}

struct FileSink<'a> {
    file: &'a File,
    cancel: &'a Cancel,
}

impl StreamSink for FileSink<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.cancel.check()?;
        self.file.write_all_at(bytes, offset).map_err(|e| Error::io("write to", "the restored file", e))
    }

    fn hole(&mut self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }
}

/// Whether a program of that name can be run.
fn is_on_path(program: &str, dir: Option<&Path>) -> bool {
    let runs = |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return runs(&dir.unwrap_or(Path::new(".")).join(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| runs(&folder.join(program)))
}
