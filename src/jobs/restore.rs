//! Putting a point back.

use std::time::Instant;

use crate::model::{Entry, EntryPath, Error, ErrorKind, Result};
use crate::ports::{
    Cancel, CaptureReader, Conflict, RestoreRequest as SourceRequest, RestoreTarget, Selection, Source,
    StreamSink, VerifyReport,
};
use crate::repo::format::{PointSource, SourceStatus};
use crate::repo::index::Index;
use crate::repo::points::{PointList, StoredPoint};
use crate::repo::reader::{Reader, SourceReader};
use crate::repo::repository::Repository;
use crate::report::human::{count, counted};
use crate::report::outcome::{FAILURES_KEPT, Failure, Restore, RestoreSource};
use crate::report::progress::Progress;

use super::points::{self, Wanted};
use super::{after_interrupt, tell};

/// What to do after an interruption.
const GO_ON: &str = "run it again with --replace: what is back already is left alone";

/// A restore as it was asked for.
pub struct RestoreRequest<'a> {
    /// From which point.
    pub point: Wanted,
    /// Only these sources and paths; all where empty.
    pub selection: Vec<(String, Option<EntryPath>)>,
    /// Where a source goes.
    pub target: &'a dyn Fn(&str) -> (RestoreTarget, String),
    /// Makes the source that puts a capture back.
    pub source: &'a dyn Fn(&PointSource) -> Result<Box<dyn Source>>,
    /// What about things in the way.
    pub conflict: Conflict,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Owners must be restored.
    pub strict_owner: bool,
    /// Compare afterwards.
    pub verify: bool,
    /// Threads.
    pub threads: usize,
    /// Memory to stay near.
    pub memory_bytes: u64,
    /// Set when somebody asks to stop.
    pub cancel: &'a Cancel,
    /// Shows how far it is.
    pub progress: &'a Progress,
    /// Asked before anything is overwritten.
    pub confirm: &'a dyn Fn(&str) -> Result<()>,
}

/// Which sources of which point will be put back.
pub struct Plan<'l> {
    /// The point.
    pub point: &'l StoredPoint,
    /// Its sources, with what is wanted of each.
    pub sources: Vec<(&'l PointSource, Selection)>,
    /// Sources that cannot be put back, and why.
    pub skipped: Vec<(&'l PointSource, String)>,
}

/// Finds out what will be put back.
pub fn plan<'l>(list: &'l PointList, request: &RestoreRequest<'_>) -> Result<Plan<'l>> {
    let point = points::resolve(list, &request.point)?;
    let mut plan = Plan { point, sources: Vec::new(), skipped: Vec::new() };
    for (name, _) in &request.selection {
        if !point.point.sources.iter().any(|s| s.name == *name) {
            let names: Vec<_> = point.point.sources.iter().map(|s| s.name.as_str()).collect();
            return Err(Error::new(
                ErrorKind::NotFound,
                "restore",
                format!("the point has no source {name:?}"),
            )
            .on(point.point.id.to_string())
            .hint(format!("it has: {}", names.join(", "))));
        }
    }
    for source in &point.point.sources {
        let wanted: Vec<_> = request.selection.iter().filter(|(name, _)| *name == source.name).collect();
        if wanted.is_empty() && !request.selection.is_empty() {
            continue;
        }
        if source.status == SourceStatus::Failed || source.catalogue.is_none() {
            plan.skipped.push((source, failed_source(list, point, source)));
            continue;
        }
        let paths: Vec<EntryPath> = wanted.iter().filter_map(|(_, path)| path.clone()).collect();
        if let (Some(path), true) = (paths.first(), paths.len() < wanted.len()) {
            return Err(Error::new(
                ErrorKind::Usage,
                "restore",
                "both all of this source and a path in it are named",
            )
            .on(&source.name)
            .hint(format!(
                "for {}:{path} alone leave out the bare {} (or --source {})",
                source.name, source.name, source.name
            )));
        }
        plan.sources.push((source, Selection { paths }));
    }
    Ok(plan)
}

fn failed_source(list: &PointList, point: &StoredPoint, source: &PointSource) -> String {
    let why = source.error.as_deref().unwrap_or("there is nothing of it in this point");
    let earlier = list.points.iter().rev().find(|p| {
        let has_it = |s: &&PointSource| {
            s.name == source.name && s.status != SourceStatus::Failed && s.catalogue.is_some()
        };
        p.point.job == point.point.job
            && !p.is_void
            && p.stored_at <= point.stored_at
            && p.point.sources.iter().any(|s| has_it(&s))
    });
    match earlier {
        Some(p) => format!("its capture failed ({why}); the newest point that has it is {}", p.point.id),
        None => format!("its capture failed ({why})"),
    }
}

/// Restores.
pub fn restore(repo: &Repository, request: &RestoreRequest<'_>) -> Result<Restore> {
    let began = Instant::now();
    if !repo.can_open_data() {
        return Err(repo.no_data_key("restore"));
    }
    let list = repo.points()?;
    let (index, synced) = Index::sync(repo)?;
    let plan = plan(&list, request)?;
    let mut outcome = Restore {
        point: plan.point.point.id.to_string(),
        job: plan.point.point.job.clone(),
        dry_run: request.dry_run,
        sources: Vec::new(),
        duration_secs: 0.0,
        warnings: warnings(&list, &plan, &request.point, synced.refused.len()),
    };
    let bytes: u64 = plan.sources.iter().map(|(s, _)| s.bytes).sum();
    let items: u64 = plan.sources.iter().map(|(s, _)| s.items).sum();
    let selected_all = plan.sources.iter().all(|(_, selection)| selection.paths.is_empty());
    request.progress.stage("restoring", selected_all.then_some(items), selected_all.then_some(bytes));
    if request.conflict != Conflict::Refuse && !request.dry_run {
        let targets = plan.sources.iter().map(|(s, _)| (request.target)(&s.name));
        // Where there is nothing, nothing is in the way.
        let is_there = |target: &RestoreTarget| match target {
            RestoreTarget::Folder(folder) => folder.symlink_metadata().is_ok(),
            RestoreTarget::Original => true,
        };
        let targets: Vec<_> = targets.filter(|(target, _)| is_there(target)).map(|(_, text)| text).collect();
        let more = match request.conflict {
            Conflict::Mirror => ", and what is not in the point will be REMOVED",
            _ => "",
        };
        let question = format!("What is in the way at {} will be replaced{more}. Go on?", targets.join(", "));
        if !targets.is_empty() {
            (request.confirm)(&question)?;
        }
    }
    let reader = Reader::new(repo, &index, (request.memory_bytes / 4) as usize).until(request.cancel);
    for (source, selection) in &plan.sources {
        let restored = request.cancel.check().and_then(|()| restore_one(&reader, source, selection, request));
        outcome.sources.push(restored.map_err(|e| after_interrupt(e, GO_ON))?);
    }
    for (source, why) in &plan.skipped {
        outcome.sources.push(RestoreSource {
            name: source.name.clone(),
            kind: source.kind.clone(),
            error: Some(why.clone()),
            ..RestoreSource::default()
        });
    }
    request.progress.finish();
    outcome.duration_secs = began.elapsed().as_secs_f64();
    Ok(outcome)
}

fn warnings(list: &PointList, plan: &Plan<'_>, wanted: &Wanted, index_refused: usize) -> Vec<String> {
    let mut warnings = points::warnings(list);
    let point = &plan.point.point;
    for source in point.sources.iter().filter(|s| s.status == SourceStatus::Incomplete) {
        warnings.push(format!(
            "source {} is incomplete in this point: {} could not be read and {} changed while being read",
            source.name,
            counted(source.unreadable, "item"),
            count(source.changed)
        ));
    }
    warnings.extend(points::passed_over(list, wanted, plan.point));
    if matches!(wanted, Wanted::Latest { .. }) {
        warnings.extend(points::several_writers(list));
    }
    if plan.point.is_void {
        warnings
            .push("this point is void: it reached the store late, and parts of it may be gone".to_owned());
    }
    if index_refused > 0 {
        let objects = counted(index_refused as u64, "index object");
        warnings.push(format!("{objects} cannot be used: run `muster check`"));
    }
    warnings
}

fn restore_one(
    reader: &Reader<'_>,
    stored: &PointSource,
    selection: &Selection,
    request: &RestoreRequest<'_>,
) -> Result<RestoreSource> {
    let source = (request.source)(stored)?;
    let (target, target_text) = (request.target)(&stored.name);
    let mut outcome = RestoreSource {
        name: stored.name.clone(),
        kind: stored.kind.clone(),
        target: target_text,
        ..RestoreSource::default()
    };
    let on_progress = |items: u64, bytes: u64| request.progress.add(items, bytes);
    let from = SourceReader { reader, source: stored, threads: request.threads, on_progress: &on_progress };
    refuse_unknown_paths(&from, selection, &stored.name)?;
    refuse_linked_target(&target)?;
    let asked = SourceRequest {
        selection: selection.clone(),
        target: target.clone(),
        conflict: request.conflict,
        dry_run: request.dry_run,
        strict_owner: request.strict_owner,
    };
    let report = match source.restore(&from, &asked, request.cancel) {
        Ok(report) => report,
        // Nothing was touched, or somebody asked to stop: that ends the command.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Refused
                    | ErrorKind::Exists
                    | ErrorKind::Interrupted
                    | ErrorKind::WrongKey
                    | ErrorKind::Usage
            ) =>
        {
            return Err(error);
        }
        Err(error) => {
            tell(&stored.name, &error);
            outcome.error = Some(error.to_string());
            return Ok(outcome);
        }
    };
    outcome.items = report.items;
    outcome.bytes = report.bytes;
    outcome.unchanged = report.unchanged;
    outcome.folders_beside = report.folders_beside;
    outcome.removed = report.removed;
    outcome.notes = report.notes;
    let mut failures = report.failures;
    if request.verify && !request.dry_run {
        let restored =
            Restored { from: &from, selection, keeps_extra: request.conflict == Conflict::Replace };
        let verified = verify(&*source, &restored, &target, request, &mut outcome, &mut failures);
        match verified {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                tell(&stored.name, &error);
                outcome.error = Some(error.to_string());
            }
            other => other?,
        }
    }
    outcome.failed = failures.len() as u64;
    outcome.failures =
        failures.into_iter().take(FAILURES_KEPT).map(|(path, why)| Failure { path, why }).collect();
    Ok(outcome)
}

/// What of a capture was put back: the part of it that a comparison may expect in the target.
struct Restored<'a> {
    from: &'a SourceReader<'a>,
    selection: &'a Selection,
    keeps_extra: bool,
}

impl CaptureReader for Restored<'_> {
    fn entries(&self, wanted: &Selection, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        // Folders that only lead to what was selected keep the attributes that they have.
        let is_in = |entry: &Entry| self.selection.takes(&entry.path) && wanted.takes(&entry.path);
        self.from.entries(self.selection, &mut |entry| if is_in(&entry) { visit(entry) } else { Ok(()) })
    }

    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>> {
        self.from.entry(path)
    }

    fn read(&self, entry: &Entry, offset: u64, len: u64, out: &mut dyn StreamSink) -> Result<()> {
        self.from.read(entry, offset, len, out)
    }

    fn is_same(&self, entry: &Entry, content: &mut dyn std::io::Read) -> Result<bool> {
        self.from.is_same(entry, content)
    }

    fn minds_extra(&self, path: &EntryPath) -> bool {
        !self.keeps_extra && self.selection.takes(path)
    }

    fn facts(&self) -> Result<Vec<u8>> {
        self.from.facts()
    }

    fn parallelism(&self) -> usize {
        self.from.parallelism()
    }

    fn progress(&self, items: u64, bytes: u64) {
        self.from.progress(items, bytes);
    }
}

fn verify(
    source: &dyn Source,
    restored: &Restored<'_>,
    target: &RestoreTarget,
    request: &RestoreRequest<'_>,
    outcome: &mut RestoreSource,
    failures: &mut Vec<(String, String)>,
) -> Result<()> {
    let stored = restored.from.source;
    let is_whole = restored.selection.paths.is_empty();
    request.progress.stage("verifying", is_whole.then_some(stored.items), is_whole.then_some(stored.bytes));
    let compared = match source.verify(restored, target, request.cancel) {
        Ok(report) => report,
        // What was put back stays, and what is known of it is told.
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {
            failures.push((stored.name.clone(), format!("could not be compared with the point: {error}")));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let VerifyReport { same, different, cannot_tell } = compared;
    outcome.verified = Some(same);
    failures
        .extend(different.into_iter().map(|(path, why)| (path, format!("differs from the point: {why}"))));
    outcome.notes.extend(
        cannot_tell.into_iter().take(FAILURES_KEPT).map(|(path, why)| format!("cannot tell: {path}: {why}")),
    );
    Ok(())
}

/// The folder of a source inside the one that was named must not lead elsewhere.
fn refuse_linked_target(target: &RestoreTarget) -> Result<()> {
    match target {
        RestoreTarget::Folder(folder) if folder.is_symlink() => Err(Error::new(
            ErrorKind::Refused,
            "restore",
            "the target is a symbolic link, and nothing is written outside the target",
        )
        .on(folder.display().to_string())
        .hint("remove the link, or name the folder that it leads to")),
        _ => Ok(()),
    }
}

/// A path that matches nothing is a mistake worth saying before anything is written.
fn refuse_unknown_paths(from: &SourceReader<'_>, selection: &Selection, name: &str) -> Result<()> {
    for path in &selection.paths {
        if from.entry(path)?.is_none() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "restore",
                "there is nothing of this name in the point",
            )
            .on(format!("{name}:{path}"))
            .hint("see `muster ls POINT` or `muster find NAME`"));
        }
    }
    Ok(())
}
