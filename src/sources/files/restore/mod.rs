//! Putting files back. One thread goes through the point in order and makes the
//! directories; others fill the files. Hard links, removals and the directories'
//! attributes come last, because each of them would be disturbed by what goes before.

mod meta;
mod mirror;
mod write;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::attrs::Stat;
use super::beneath::{Beneath, DIR_READ, ParentCache};
use super::compare;
use super::roots::{Facts, file_path};
use super::{FilesSource, ROOT, is_damage};
use crate::model::count::counted;
use crate::model::{Attrs, Entry, EntryKind, EntryPath, EntryState, Error, ErrorKind, Result};
use crate::ports::{
    Cancel, CaptureReader, Conflict, RestoreReport, RestoreRequest, RestoreTarget, Selection,
};

use meta::Place;
use write::{Done, Job, Problem, look, parent_problem};

/// Failures that are listed one by one; more are counted.
const FAILURES_LISTED_MAX: usize = 1000;

/// Notes that are kept.
const NOTES_MAX: usize = 100;

/// A file longer than this is written by several threads, in ranges of this length.
const RANGE_BYTES: u64 = 64 << 20;

/// Jobs that wait for a thread.
const JOBS_WAITING: usize = 256;

/// Puts back what is asked for.
pub fn restore(
    source: &FilesSource,
    from: &dyn CaptureReader,
    request: &RestoreRequest,
    cancel: &Cancel,
) -> Result<RestoreReport> {
    let (facts, lost) = facts_as_needed(from, request)?;
    let world = prepare_target(&facts, request)?;
    let restore = Restore {
        world,
        from,
        request,
        cancel,
        facts: &facts,
        found: Mutex::new(Found::default()),
        fatal: Mutex::new(None),
        is_over: AtomicBool::new(false),
        linkable: Mutex::new(HashSet::new()),
        temporaries: AtomicU64::new(0),
    };
    let mut director = Director::new(&restore);
    director.put_everything()?;
    director.put_links()?;
    if request.conflict == Conflict::Mirror {
        // What the lost parts list must not be taken for too much.
        let is_known = lock(&restore.found).lost.is_none();
        match if is_known { mirror::remove_extras(&restore, source, &facts) } else { Ok(()) } {
            Err(error) if is_damage(&error) => restore.lost(&error),
            other => other?,
        }
        if lock(&restore.found).lost.is_some() {
            restore.note("nothing was removed, because the catalogue is damaged".to_owned());
        }
    }
    director.finish_directories()?;
    director.name_missing();
    let mut report = restore.into_report();
    report.failures.extend(lost.map(|why| (FACTS_SHOWN.to_owned(), why)));
    Ok(report)
}

/// How the facts are called among the failures.
const FACTS_SHOWN: &str = "(the source's facts)";

/// What the point says of the source's shape. In the original place, and to remove what is too
/// much, a restore must know it. Into a folder it can do without: damage there must not keep
/// the files from coming back. Answers with why they are lost.
fn facts_as_needed(from: &dyn CaptureReader, request: &RestoreRequest) -> Result<(Facts, Option<String>)> {
    let is_needed = request.target == RestoreTarget::Original || request.conflict == Conflict::Mirror;
    match from.facts() {
        Ok(bytes) => Ok((Facts::decode(&bytes)?, None)),
        Err(error) if !is_needed && matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {
            Ok((Facts::default(), Some(format!("are lost, and everything else was put back: {error}"))))
        }
        Err(error) => Err(error),
    }
}

/// Whether nothing more can be written after this error.
fn is_fatal(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::StorageFull | K::QuotaExceeded | K::ReadOnlyFilesystem)
}

/// Opens the target, after refusing one that is in use. `None`: a dry run whose target
/// is not there.
fn prepare_target(facts: &Facts, request: &RestoreRequest) -> Result<Option<Beneath>> {
    let hint = match request.target {
        RestoreTarget::Folder(_) => {
            "name an empty folder, or give --replace to replace what has the same name"
        }
        RestoreTarget::Original => {
            "give --replace to replace what has the same name, or --to FOLDER to restore elsewhere"
        }
    };
    let refused = |path: &Path| {
        Error::new(ErrorKind::Refused, "restore into", "there is something already")
            .on(path.display().to_string())
            .hint(hint)
    };
    let folder = match &request.target {
        RestoreTarget::Folder(folder) => folder.as_path(),
        RestoreTarget::Original => Path::new(ROOT),
    };
    if request.conflict == Conflict::Refuse {
        match &request.target {
            RestoreTarget::Folder(folder) if is_in_use(folder)? => return Err(refused(folder)),
            RestoreTarget::Folder(_) => {}
            RestoreTarget::Original => {
                for path in wanted_tops(facts, request) {
                    let path = file_path(path);
                    if is_in_use(&path)? {
                        return Err(refused(&path));
                    }
                }
            }
        }
    }
    let failed = |e| Error::io("open the target", folder.display().to_string(), e);
    if request.dry_run && !folder.exists() {
        return Ok(None);
    }
    if !request.dry_run {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    Beneath::open(folder).map(Some).map_err(failed)
}

fn wanted_tops<'a>(facts: &'a Facts, request: &'a RestoreRequest) -> &'a [EntryPath] {
    if request.selection.paths.is_empty() { &facts.roots } else { &request.selection.paths }
}

/// Whether something is there that a restore could harm. The `lost+found` of a fresh
/// file system is nothing.
fn is_in_use(path: &Path) -> Result<bool> {
    let failed = |e| Error::io("look at the target", path.display().to_string(), e);
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed(e)),
        Ok(_) => {}
    }
    if !path.is_dir() {
        return Ok(true);
    }
    for entry in std::fs::read_dir(path).map_err(failed)? {
        if entry.map_err(failed)?.file_name() != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A lock whose holder cannot leave things half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(path: &EntryPath) -> String {
    path.to_string()
}

/// What the threads report.
#[derive(Default)]
struct Found {
    report: RestoreReport,
    failures_more: u64,
    /// What is wrong with the catalogue.
    lost: Option<String>,
    owners_refused: u64,
    sockets: u64,
    notes_more: u64,
    /// Directories that are in place, and how many of them only lead to what is wanted.
    directories: u64,
    directories_on_the_way: u64,
    /// Whether anything but directories is wanted.
    wants_more: bool,
}

/// What all threads of one restore share.
struct Restore<'a> {
    world: Option<Beneath>,
    from: &'a dyn CaptureReader,
    request: &'a RestoreRequest,
    cancel: &'a Cancel,
    facts: &'a Facts,
    found: Mutex<Found>,
    /// Why nothing more can be done, until it is returned; `is_over` stays.
    fatal: Mutex<Option<Error>>,
    is_over: AtomicBool,
    /// Files with several names that are in place.
    linkable: Mutex<HashSet<EntryPath>>,
    temporaries: AtomicU64,
}

impl Restore<'_> {
    fn failed(&self, path: &EntryPath, why: impl Into<String>) {
        let mut found = lock(&self.found);
        if found.report.failures.len() < FAILURES_LISTED_MAX {
            found.report.failures.push((shown(path), why.into()));
        } else {
            found.failures_more += 1;
        }
    }

    /// Parts of the catalogue cannot be read, and what they list cannot be put back.
    fn lost(&self, error: &Error) {
        lock(&self.found).lost.get_or_insert_with(|| {
            format!("is damaged, and what its lost parts list was not put back: {error}")
        });
    }

    fn note(&self, note: String) {
        let mut found = lock(&self.found);
        if found.report.notes.len() < NOTES_MAX {
            found.report.notes.push(note)
        } else {
            found.notes_more += 1
        }
    }

    fn owner_refused(&self, entry: &Entry, attrs: &Attrs) {
        if self.request.strict_owner {
            self.failed(&entry.path, format!("owner {}:{} is not permitted", attrs.uid, attrs.gid));
        } else {
            lock(&self.found).owners_refused += 1;
        }
    }

    fn count_removed(&self) {
        lock(&self.found).report.removed += 1;
    }

    /// Takes down what became of a thing.
    fn record(&self, entry: &Entry, done: Result<Done, Problem>) {
        match done {
            Ok(Done::Restored(bytes)) => {
                self.from.progress(1, bytes);
                let mut found = lock(&self.found);
                found.report.items += 1;
                found.report.bytes += bytes;
            }
            Ok(Done::Unchanged(bytes)) => {
                self.from.progress(1, bytes);
                lock(&self.found).report.unchanged += 1;
            }
            Err(Problem::Item(why)) => return self.failed(&entry.path, why),
            Err(Problem::Fatal(error)) => {
                self.is_over.store(true, Ordering::Relaxed);
                lock(&self.fatal).get_or_insert(error);
                return;
            }
        }
        if entry.kind == EntryKind::Directory {
            let mut found = lock(&self.found);
            found.directories += 1;
            found.directories_on_the_way += u64::from(!self.request.selection.takes(&entry.path));
        }
        if entry.attrs.as_ref().is_some_and(|attrs| attrs.nlink > 1) && entry.kind != EntryKind::Directory {
            lock(&self.linkable).insert(entry.path.clone());
        }
    }

    /// An error once nothing more can be done.
    fn check(&self) -> Result<()> {
        self.cancel.check()?;
        lock(&self.fatal).take().map_or(Ok(()), Err)
    }

    fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled() || self.is_over.load(Ordering::Relaxed)
    }

    fn temporary_name(&self) -> Vec<u8> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        format!(".muster-restore-{}-{number}", std::process::id()).into_bytes()
    }

    /// Whether a directory that is there is left as it is: in the original place those
    /// above the roots, and everywhere those that only lead to what is wanted.
    fn leaves_alone(&self, path: &EntryPath) -> bool {
        let is_original = self.request.target == RestoreTarget::Original;
        !self.request.selection.takes(path) || is_original && !self.facts.covers(path)
    }

    fn into_report(self) -> RestoreReport {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut report = found.report;
        // What the lost parts of a catalogue list is taken for more than directories.
        let wants_more = found.wants_more || found.lost.is_some();
        report.folders_beside = if wants_more { found.directories } else { found.directories_on_the_way };
        if let Some(why) = found.lost {
            // First, so that no bound leaves it out.
            report.failures.insert(0, ("the catalogue".to_owned(), why));
        }
        if found.failures_more > 0 {
            report.failures.push(("…".to_owned(), format!("{} more failed", found.failures_more)));
        }
        if found.notes_more > 0 {
            report.notes.push(format!("{} left out", counted(found.notes_more, "more note")));
        }
        if found.owners_refused > 0 {
            let what = "could not be given their owner, which needs root";
            report.notes.push(format!("{} {what}", counted(found.owners_refused, "entry")));
        }
        if found.sockets > 0 {
            report
                .notes
                .push(format!("{} not put back: programs make them", counted(found.sockets, "socket")));
        }
        report
    }
}

fn work(restore: &Restore<'_>, jobs: &Receiver<Job>) {
    let mut cache = ParentCache::default();
    for job in jobs {
        match job {
            // The queue is emptied, so that whoever fills it comes to its own check.
            Job::Whole(_) if restore.is_stopped() => {}
            Job::Whole(entry) => {
                let done = restore.put(&entry, &mut cache);
                restore.record(&entry, done);
            }
            Job::Range(file, range) => restore.put_range(&file, range, &mut cache),
        }
    }
}

/// The thread that goes through the point.
struct Director<'r, 'a> {
    restore: &'r Restore<'a>,
    /// Directories whose attributes are set at the end, parents first.
    directories: Vec<Entry>,
    links: Vec<Entry>,
    /// Directories made without the point saying anything of them.
    bare: Vec<EntryPath>,
    cache: ParentCache,
    /// The last directory known to be there.
    reached: Option<EntryPath>,
    /// Wanted paths of which something was seen.
    seen: Vec<bool>,
}

impl<'r, 'a> Director<'r, 'a> {
    fn new(restore: &'r Restore<'a>) -> Self {
        Self {
            restore,
            directories: Vec::new(),
            links: Vec::new(),
            bare: Vec::new(),
            cache: ParentCache::default(),
            reached: None,
            seen: vec![false; restore.request.selection.paths.len()],
        }
    }

    fn put_everything(&mut self) -> Result<()> {
        let restore = self.restore;
        let threads = restore.from.parallelism().max(1);
        let walked = std::thread::scope(|scope| {
            let (send, receive) = crossbeam_channel::bounded(JOBS_WAITING);
            for _ in 0..threads {
                let receive = receive.clone();
                scope.spawn(move || work(restore, &receive));
            }
            restore.from.entries(&restore.request.selection, &mut |entry| {
                restore.check()?;
                self.take(entry, &send, threads)
            })
        });
        restore.check()?;
        match walked {
            // All that could be read has been seen, and is finished like the rest.
            Err(error) if is_damage(&error) => {
                restore.lost(&error);
                Ok(())
            }
            other => other,
        }
    }

    /// An entry of the point, which damage elsewhere in the catalogue does not hide.
    fn find(&self, path: &EntryPath) -> Result<Option<Entry>> {
        let (mut found, mut is_past) = (None, false);
        let selection = Selection { paths: vec![path.clone()] };
        let walked = self.restore.from.entries(&selection, &mut |entry| {
            if entry.path < *path {
                return Ok(());
            }
            is_past = true;
            found = (entry.path == *path).then_some(entry);
            Err(Error::new(ErrorKind::Interrupted, "look further", "what lies below is not wanted"))
        });
        match walked {
            _ if is_past => Ok(found),
            Err(error) if is_damage(&error) => {
                self.restore.lost(&error);
                Ok(None)
            }
            other => other.map(|()| None),
        }
    }

    fn take(&mut self, entry: Entry, send: &Sender<Job>, threads: usize) -> Result<()> {
        let restore = self.restore;
        if !entry.path.is_safe() {
            restore.failed(&entry.path, "the path could leave the target; it was not put back");
            return Ok(());
        }
        for (seen, wanted) in self.seen.iter_mut().zip(&restore.request.selection.paths) {
            *seen |= entry.path.is_within(wanted);
        }
        if let EntryState::Unreadable(why) = &entry.state {
            restore.failed(&entry.path, format!("was not captured: {why}"));
            if entry.kind != EntryKind::Directory {
                return Ok(());
            }
        }
        if entry.kind != EntryKind::Directory {
            lock(&restore.found).wants_more = true;
            self.reach_parent(&entry)?;
        }
        match &entry.kind {
            EntryKind::Directory => self.take_directory(entry),
            EntryKind::Socket => {
                lock(&restore.found).sockets += 1;
                Ok(())
            }
            EntryKind::HardLink(_) => {
                self.links.push(entry);
                Ok(())
            }
            EntryKind::File if entry.size > RANGE_BYTES && threads > 1 => self.send_large(entry, send),
            _ => self.send(Job::Whole(Box::new(entry)), send),
        }
    }

    fn send(&self, job: Job, send: &Sender<Job>) -> Result<()> {
        send.send(job).map_err(|_| Error::internal("restore files", "the writing threads are gone"))
    }

    fn send_large(&mut self, entry: Entry, send: &Sender<Job>) -> Result<()> {
        match self.restore.begin_large(&entry, &mut self.cache, RANGE_BYTES) {
            Ok(Some(jobs)) => jobs.into_iter().try_for_each(|job| self.send(job, send)),
            Ok(None) => self.send(Job::Whole(Box::new(entry)), send),
            Err(problem) => {
                self.restore.record(&entry, Err(problem));
                Ok(())
            }
        }
    }

    fn take_directory(&mut self, entry: Entry) -> Result<()> {
        self.reach_parent(&entry)?;
        let made = self.make_directory(&entry);
        if made.is_ok() {
            self.reached = Some(entry.path.clone());
        }
        match made {
            Ok(Some(done)) => {
                self.restore.record(&entry, Ok(done));
                self.directories.push(entry);
            }
            Ok(None) => {}
            Err(problem) => self.restore.record(&entry, Err(problem)),
        }
        Ok(())
    }

    /// Makes a directory that only we may enter for now. `None`: it is there and is
    /// left as it is.
    fn make_directory(&mut self, entry: &Entry) -> Result<Option<Done>, Problem> {
        let restore = self.restore;
        let Some(world) = &restore.world else { return Ok(Some(Done::Restored(0))) };
        let dir = match self.cache.parent_of(world, &entry.path) {
            Ok(dir) => dir,
            Err(e) if restore.request.dry_run && e.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Done::Restored(0)));
            }
            Err(e) => return Err(parent_problem(e)),
        };
        let leaf = entry.path.leaf();
        match look(dir, leaf)? {
            Some(stat) if stat.is_dir() => {
                if restore.leaves_alone(&entry.path) {
                    return Ok(None);
                }
                if restore.request.conflict == Conflict::Refuse && restore.facts.covers(&entry.path) {
                    // The root itself may be there, empty; what lies below was not when we looked.
                    let is_top = wanted_tops(restore.facts, restore.request).contains(&entry.path);
                    if !is_top {
                        return Err(Problem::Item("something of that name is there already".to_owned()));
                    }
                }
                let place = Place::Named(dir, leaf);
                let is_same = match &entry.attrs {
                    Some(attrs) => compare::attributes(attrs, &stat, &place.xattrs()?).is_none(),
                    None => true,
                };
                if stat.mode & 0o700 != 0o700 && !restore.request.dry_run {
                    place.chmod(stat.mode | 0o700)?;
                }
                return Ok(Some(if is_same { Done::Unchanged(0) } else { Done::Restored(0) }));
            }
            Some(_) if restore.request.conflict == Conflict::Refuse || restore.leaves_alone(&entry.path) => {
                return Err(Problem::Item("something that is no folder stands in its place".to_owned()));
            }
            Some(_) if !restore.request.dry_run => rustix::fs::unlinkat(dir, leaf, AtFlags::empty())?,
            _ => {}
        }
        if !restore.request.dry_run {
            rustix::fs::mkdirat(dir, leaf, Mode::RWXU)?;
        }
        Ok(Some(Done::Restored(0)))
    }

    /// Makes the directories on the way to an entry where they are missing, as happens
    /// when only a part of the point is wanted.
    fn reach_parent(&mut self, entry: &Entry) -> Result<()> {
        let Some(parent) = entry.path.parent() else { return Ok(()) };
        if self.reached.as_ref().is_some_and(|reached| reached.is_within(&parent)) {
            return Ok(());
        }
        let Some(world) = &self.restore.world else { return Ok(()) };
        match world.open_dir(&parent) {
            Ok(_) => {
                self.reached = Some(parent);
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // The entry itself will fail and say so.
            Err(_) => return Ok(()),
        }
        let captured = self.find(&parent)?.filter(|entry| entry.kind == EntryKind::Directory);
        if captured.is_none() {
            self.bare.push(parent.clone());
        }
        self.take_directory(captured.unwrap_or_else(|| Entry::new(parent, EntryKind::Directory)))
    }

    /// Makes the further names of files that have several.
    fn put_links(&mut self) -> Result<()> {
        // Where the first name is not wanted or was not captured there, the first wanted
        // one takes its place.
        let mut stands_for: HashMap<EntryPath, EntryPath> = HashMap::new();
        for entry in std::mem::take(&mut self.links) {
            self.restore.check()?;
            let EntryKind::HardLink(first) = &entry.kind else { continue };
            let source = stands_for.get(first).unwrap_or(first);
            if lock(&self.restore.linkable).contains(source) {
                let done = self.link(&entry, source);
                self.restore.record(&entry, done);
            } else if !first.is_safe() || self.restore.request.selection.takes(first) {
                self.restore.failed(&entry.path, format!("{first}, whose other name it is, is not there"));
            } else if self.put_first(&entry, first)? {
                stands_for.insert(first.clone(), entry.path.clone());
            }
        }
        self.restore.check()
    }

    /// Puts the content of `first`, which is not wanted itself, under this name.
    fn put_first(&mut self, entry: &Entry, first: &EntryPath) -> Result<bool> {
        let Some(mut found) = self.find(first)? else {
            self.restore.failed(&entry.path, format!("{first}, whose other name it is, is not in the point"));
            return Ok(false);
        };
        if matches!(found.kind, EntryKind::Directory | EntryKind::HardLink(_) | EntryKind::Socket)
            || matches!(found.state, EntryState::Unreadable(_))
        {
            self.restore.failed(&entry.path, format!("{first}, whose other name it is, was not captured"));
            return Ok(false);
        }
        found.path = entry.path.clone();
        let done = self.restore.put(&found, &mut self.cache);
        let is_done = done.is_ok();
        self.restore.record(&found, done);
        Ok(is_done)
    }

    fn link(&mut self, entry: &Entry, source: &EntryPath) -> Result<Done, Problem> {
        let restore = self.restore;
        let Some(world) = &restore.world else { return Ok(Done::Restored(0)) };
        if restore.request.dry_run {
            return Ok(Done::Restored(0));
        }
        let from = world.open_parent(source).map_err(parent_problem)?;
        let from = from.as_ref().map_or(world.base(), AsFd::as_fd);
        let dir = self.cache.parent_of(world, &entry.path).map_err(parent_problem)?;
        let (old, new) = (source.leaf(), entry.path.leaf());
        let Some(existing) = look(dir, new)? else {
            rustix::fs::linkat(from, old, dir, new, AtFlags::empty())?;
            return Ok(Done::Restored(0));
        };
        if existing.is_same_file(&Stat::at(from, old)?) {
            return Ok(Done::Unchanged(0));
        }
        if restore.request.conflict == Conflict::Refuse {
            return Err(Problem::Item("something of that name is there already".to_owned()));
        }
        if existing.is_dir() {
            restore.clear_directory(dir, new, &existing)?;
        }
        let temporary = restore.temporary_name();
        rustix::fs::linkat(from, old, dir, temporary.as_slice(), AtFlags::empty())?;
        if let Err(e) = rustix::fs::renameat(dir, temporary.as_slice(), dir, new) {
            let _ = rustix::fs::unlinkat(dir, temporary.as_slice(), AtFlags::empty());
            return Err(e.into());
        }
        Ok(Done::Restored(0))
    }

    /// Sets the directories' attributes, the deepest first: a parent may close itself to
    /// us, and its times change with what happens in it.
    fn finish_directories(&mut self) -> Result<()> {
        let restore = self.restore;
        let Some(world) = &restore.world else { return Ok(()) };
        if restore.request.dry_run {
            return Ok(());
        }
        for entry in std::mem::take(&mut self.directories).iter().rev() {
            let opened = world.open_at(&entry.path, DIR_READ);
            let applied = match &opened {
                Ok(fd) => restore.apply(entry, Place::Open(fd.as_fd())),
                Err(e) if e.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => self
                    .cache
                    .parent_of(world, &entry.path)
                    .map_err(Problem::from)
                    .and_then(|dir| restore.apply(entry, Place::Named(dir, entry.path.leaf()))),
                Err(e) => Err(Problem::Item(format!("its attributes could not be set: {e}"))),
            };
            match applied {
                Ok(()) => {}
                Err(Problem::Item(why)) => restore.failed(&entry.path, why),
                Err(Problem::Fatal(error)) => return Err(error),
            }
        }
        restore.check()
    }

    /// Wanted paths that the point does not have, and what was made in their stead.
    fn name_missing(&self) {
        let is_known = lock(&self.restore.found).lost.is_none();
        let why = if is_known { "is not in the point" } else { "is not in what is left of the catalogue" };
        for (wanted, _) in
            self.restore.request.selection.paths.iter().zip(&self.seen).filter(|(_, seen)| !**seen)
        {
            self.restore.failed(wanted, why);
        }
        for path in self.bare.iter().filter(|_| !is_known) {
            self.restore.failed(path, "was made without its attributes, which are in a lost part");
        }
    }
}
