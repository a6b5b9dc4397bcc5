//! Comparing what is in a place with what was captured: point and place are walked
//! side by side, contents are compared on several threads.

use std::collections::HashMap;
use std::fs::File;
use std::iter::Peekable;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use super::attrs::Stat;
use super::beneath::Beneath;
use super::compare;
use super::content::open_to_read;
use super::roots::{Facts, Node};
use super::walk::{Item, WalkOptions, Walker};
use super::{FilesSource, ROOT, is_damage};
use crate::model::count::{count, counted};
use crate::model::{Entry, EntryKind, EntryPath, EntryState, Error, ErrorKind, Result};
use crate::ports::{Cancel, CaptureReader, RestoreTarget, VerifyReport};

/// Differences that are listed one by one; more are counted.
const LISTED_MAX: usize = 1000;

/// Contents that wait for a thread.
const JOBS_WAITING: usize = 256;

/// Compares `target` with the capture.
pub fn verify(
    source: &FilesSource,
    from: &dyn CaptureReader,
    target: &RestoreTarget,
    cancel: &Cancel,
) -> Result<VerifyReport> {
    let facts = Facts::decode(&from.facts()?)?;
    let folder = match target {
        RestoreTarget::Folder(folder) => folder.as_path(),
        RestoreTarget::Original => Path::new(ROOT),
    };
    let failed = |e| Error::io("open the target", folder.display().to_string(), e);
    let world = Beneath::open(folder).map_err(failed)?;
    let tree = Node::tree(&facts);
    let walker =
        Walker::new(&world, &tree, &source.config, &source.filter, WalkOptions::default()).map_err(failed)?;
    let verify = Verify {
        world: &world,
        from,
        facts: &facts,
        is_original: *target == RestoreTarget::Original,
        is_root: rustix::process::geteuid().is_root(),
        found: Mutex::new(Found::default()),
    };
    std::thread::scope(|scope| {
        let (send, receive) = crossbeam_channel::bounded(JOBS_WAITING);
        for _ in 0..from.parallelism().max(1) {
            let (receive, verify) = (receive.clone(), &verify);
            scope.spawn(move || verify.compare_contents(&receive, cancel));
        }
        let mut pass =
            Pass { verify: &verify, walker: walker.peekable(), linked: HashMap::new(), unread: None, send };
        let walked = from.entries(&crate::ports::Selection::default(), &mut |entry| {
            cancel.check()?;
            pass.compare(entry)
        });
        match walked {
            // All that could be read has been compared.
            Err(error) if is_damage(&error) => {
                let line = ("the catalogue".to_owned(), format!("is damaged: {error}"));
                // First, so that no bound leaves it out.
                verify.lock().report.cannot_tell.insert(0, line);
            }
            other => other?,
        }
        pass.drain();
        Ok::<_, Error>(())
    })?;
    cancel.check()?;
    verify.into_report()
}

#[derive(Default)]
struct Found {
    report: VerifyReport,
    different_more: u64,
    cannot_tell_more: u64,
    fatal: Option<Error>,
}

struct Verify<'a> {
    world: &'a Beneath,
    from: &'a dyn CaptureReader,
    facts: &'a Facts,
    is_original: bool,
    is_root: bool,
    found: Mutex<Found>,
}

/// What has been found of one entry.
#[derive(Default)]
struct Remarks {
    different: Vec<String>,
    cannot_tell: Vec<String>,
}

/// A file whose attributes are compared and whose content is to be.
struct Job {
    entry: Entry,
    remarks: Remarks,
}

impl Verify<'_> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, path: &EntryPath, remarks: Remarks, bytes: u64) {
        self.from.progress(1, bytes);
        let mut found = self.lock();
        let found = &mut *found;
        if !remarks.different.is_empty() {
            let line = (path.to_string(), remarks.different.join("; "));
            push_bounded(&mut found.report.different, &mut found.different_more, line);
        } else if !remarks.cannot_tell.is_empty() {
            let line = (path.to_string(), remarks.cannot_tell.join("; "));
            push_bounded(&mut found.report.cannot_tell, &mut found.cannot_tell_more, line);
        } else {
            found.report.same += 1;
        }
    }

    fn compare_contents(&self, jobs: &Receiver<Job>, cancel: &Cancel) {
        for Job { entry, mut remarks } in jobs {
            if cancel.is_cancelled() || self.lock().fatal.is_some() {
                continue;
            }
            match open_to_read(self.world, &entry.path) {
                Err(e) => remarks.cannot_tell.push(format!("cannot be read: {e}")),
                Ok(fd) => match self.from.is_same(&entry, &mut File::from(fd)) {
                    Ok(true) => {}
                    Ok(false) => remarks.different.push("the content differs".to_owned()),
                    Err(e) if e.kind() == ErrorKind::Io || is_damage(&e) => {
                        remarks.cannot_tell.push(e.to_string());
                    }
                    Err(e) => {
                        self.lock().fatal.get_or_insert(e);
                        continue;
                    }
                },
            }
            self.record(&entry.path, remarks, entry.size);
        }
    }

    fn into_report(self) -> Result<VerifyReport> {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = found.fatal {
            return Err(error);
        }
        let mut report = found.report;
        if found.different_more > 0 {
            report.different.push(("…".to_owned(), format!("{} more differ", found.different_more)));
        }
        if found.cannot_tell_more > 0 {
            let line = format!("{} more cannot be told", found.cannot_tell_more);
            report.cannot_tell.push(("…".to_owned(), line));
        }
        Ok(report)
    }
}

fn push_bounded(list: &mut Vec<(String, String)>, more: &mut u64, line: (String, String)) {
    if list.len() < LISTED_MAX { list.push(line) } else { *more += 1 }
}

/// The walk through point and place.
struct Pass<'v, 'a> {
    verify: &'v Verify<'a>,
    walker: Peekable<Walker<'a>>,
    /// Where the files with several names are: path in the point to file in the place.
    linked: HashMap<EntryPath, Stat>,
    /// Something whose content was not captured: what lies there is not too much.
    unread: Option<EntryPath>,
    send: Sender<Job>,
}

impl Pass<'_, '_> {
    fn compare(&mut self, entry: Entry) -> Result<()> {
        while let Some(item) = self.walker.next_if(|item| item.path < entry.path) {
            self.too_much(&item);
        }
        let item = self.walker.next_if(|item| item.path == entry.path);
        if let EntryState::Unreadable(why) = &entry.state {
            let remarks =
                Remarks { cannot_tell: vec![format!("was not captured: {why}")], ..Remarks::default() };
            self.verify.record(&entry.path, remarks, 0);
            self.unread = Some(entry.path);
            return Ok(());
        }
        let mut remarks = Remarks::default();
        let has_content = match &item {
            Some(item) => self.compare_item(&entry, item, &mut remarks),
            None if entry.kind == EntryKind::Socket => {
                remarks.cannot_tell.push("sockets are not put back".to_owned());
                false
            }
            None => {
                remarks.different.push("is missing".to_owned());
                false
            }
        };
        if has_content {
            let gone = |_| Error::internal("verify files", "the comparing threads are gone");
            return self.send.send(Job { entry, remarks }).map_err(gone);
        }
        self.verify.record(&entry.path, remarks, 0);
        Ok(())
    }

    /// Compares all but the content; whether that is left to compare.
    fn compare_item(&mut self, entry: &Entry, item: &Item, remarks: &mut Remarks) -> bool {
        let Some(stat) = &item.stat else {
            let why = item.problem.clone().unwrap_or_default();
            remarks.cannot_tell.push(why);
            return false;
        };
        if !compare::is_same_kind(&entry.kind, stat) {
            remarks.different.push("is of another kind".to_owned());
            return false;
        }
        // Directories above the roots belong to the place, not to the point.
        if self.verify.is_original && !self.verify.facts.covers(&entry.path) {
            return false;
        }
        if let Some(problem) = &item.problem {
            remarks.cannot_tell.push(problem.clone());
        }
        self.compare_attributes(entry, item, stat, remarks);
        match &entry.kind {
            EntryKind::Symlink(target) if item.target.as_ref() != Some(target) => {
                remarks.different.push("points elsewhere".to_owned());
            }
            EntryKind::HardLink(first) if self.linked.get(first).is_none_or(|f| !f.is_same_file(stat)) => {
                remarks.different.push(format!("is no hard link to {first}"));
            }
            EntryKind::File if stat.size != entry.size => {
                remarks.different.push(format!(
                    "{} instead of {}",
                    counted(stat.size, "byte"),
                    count(entry.size)
                ));
            }
            EntryKind::File => return true,
            _ => {}
        }
        false
    }

    fn compare_attributes(&mut self, entry: &Entry, item: &Item, stat: &Stat, remarks: &mut Remarks) {
        let Some(attrs) = &entry.attrs else { return };
        if attrs.nlink > 1 && !stat.is_dir() && !matches!(entry.kind, EntryKind::HardLink(_)) {
            self.linked.insert(entry.path.clone(), *stat);
        }
        if let Some(why) = &item.xattr_problem {
            remarks.cannot_tell.push(format!("its extended attributes: {why}"));
            return;
        }
        let difference = compare::attributes(attrs, stat, &item.xattrs);
        remarks.different.extend(difference.what);
        match difference.owner {
            Some(owner) if self.verify.is_root => remarks.different.push(owner),
            // Only root can have restored it.
            Some(owner) => remarks.cannot_tell.push(format!("{owner}, which needs root")),
            None => {}
        }
    }

    fn drain(&mut self) {
        while let Some(item) = self.walker.next() {
            self.too_much(&item);
        }
    }

    fn too_much(&self, item: &Item) {
        let is_unread = self.unread.as_ref().is_some_and(|unread| item.path.is_within(unread));
        // A root that is missing is an entry that is missing.
        let is_there = item.stat.is_some();
        let is_minded = self.verify.facts.covers(&item.path) && self.verify.from.minds_extra(&item.path);
        if is_minded && !is_unread && is_there {
            let remarks = Remarks { different: vec!["is not in the point".to_owned()], ..Remarks::default() };
            self.verify.record(&item.path, remarks, 0);
        }
    }
}
