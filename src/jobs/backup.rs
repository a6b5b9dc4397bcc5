//! One run of a job: capture every source, then write the point.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::model::{Error, ErrorKind, Hash, PackId, Result, Time, TreeRef, Ulid};
use crate::ports::{Bell, Cancel, CaptureReport, Clock, Entropy, Process, Source};
use crate::repo::format::{Count, Point, PointSource, Predecessor, SourceStatus};
use crate::repo::index::Index;
use crate::repo::layout;
use crate::repo::pipeline::{self, CaptureStats, Counters, Options, Pipeline, SinkOptions};
use crate::repo::points::PointList;
use crate::repo::reader::Reader;
use crate::repo::repository::{Repository, random};
use crate::repo::seen::{Seen, row};
use crate::repo::session::Condemnation;
use crate::repo::sign::SignKey;
use crate::repo::trust::Trusted;
use crate::report::outcome::{Backup, BackupSource, BackupTotals, Failure};
use crate::report::progress::Progress;
use crate::report::stamp::Stamp;

use super::hooks::{Frozen, Hooks};
use super::session::Session;
use super::{after_interrupt, points, retention, strays, tell};

/// What to back up, and how.
pub struct BackupRequest<'a> {
    /// The job's name.
    pub job: String,
    /// Tags of the point.
    pub tags: Vec<String>,
    /// Its sources, in order.
    pub sources: Vec<Box<dyn Source>>,
    /// Run around the capture.
    pub hooks: Hooks,
    /// This host's name.
    pub host: String,
    /// Store nothing.
    pub dry_run: bool,
    /// Threads.
    pub threads: usize,
    /// Memory to stay near.
    pub memory_bytes: u64,
    /// The host's clock.
    pub clock: &'a dyn Clock,
    /// For names.
    pub entropy: &'a dyn Entropy,
    /// Runs hooks.
    pub process: &'a dyn Process,
    /// Set when somebody asks to stop.
    pub cancel: &'a Cancel,
    /// Shows how far it is.
    pub progress: &'a Progress,
}

/// Opened metadata kept while the previous catalogue is read.
const PREVIOUS_CACHE_BYTES: usize = 24 << 20;
/// Packs stored at once.
const UPLOADS: usize = 2;

/// Runs a backup.
pub fn backup(repo: &Repository, request: &BackupRequest<'_>) -> Result<Backup> {
    let began = Instant::now();
    repo.writer()?;
    // The session stands before the index and the condemned marks are read
    // (docs/FORMAT.md section 9.7).
    let session = Session::begin(repo, &request.job, request.clock, request.entropy, request.dry_run)?;
    let done = backup_in(repo, request, &session);
    // However it went: others need not wait for it any more.
    session.end_quietly();
    let mut outcome =
        done.map_err(|e| after_interrupt(e, "run it again: what is stored already is not sent again"))?;
    outcome.duration_secs = began.elapsed().as_secs_f64();
    Ok(outcome)
}

fn backup_in(repo: &Repository, request: &BackupRequest<'_>, session: &Session<'_>) -> Result<Backup> {
    let (index, synced) = Index::sync(repo)?;
    let mut warnings: Vec<String> =
        synced.refused.iter().map(|(_, e)| format!("{e}; run `muster check`")).collect();
    if !request.dry_run {
        match strays::take_in(repo, &index, session.renewed_at()) {
            Ok(0) => {}
            Ok(packs) => tracing::info!(packs, "packs of an interrupted backup were taken in"),
            // Without them more is sent again, and nothing else.
            Err(error) => tracing::warn!(%error, "packs of an interrupted backup were not taken in"),
        }
    }
    let list = repo.points()?;
    warnings.extend(points::warnings(&list));
    let before = Before::find(repo, &list, &request.job)?;
    let reader = Reader::new(repo, &index, PREVIOUS_CACHE_BYTES).until(request.cancel);
    let counters = Arc::new(Counters::default());
    let options = Options {
        memory_bytes: request.memory_bytes,
        threads: request.threads,
        uploads: UPLOADS,
        dry_run: request.dry_run,
        avoid: HashSet::new(),
        began: session.renewed_at(),
        cancel: request.cancel.clone(),
    };
    let started = request.clock.now();
    // A dry run leaves the application alone.
    let no_hooks = Hooks::default();
    let hooks = if request.dry_run { &no_hooks } else { &request.hooks };
    let frozen = Frozen::freeze(hooks, request.process)?;
    request.progress.stage("backing up", None, before.bytes());
    let written = session.kept_alive(|| {
        showing(request.progress, &counters, || {
            pipeline::run(repo, &index, options, counters.clone(), |pipeline| {
                let captured = capture_all(pipeline, &reader, &before, request, &counters);
                let thawed = frozen.thaw();
                Ok((captured?, thawed.err()))
            })
        })
    });
    request.progress.finish();
    let written = written?;
    let (captured, thaw_error) = written.value;
    // What was captured is good, so it is kept; the operator must know at once all the same.
    // What the hook said may hold content: it goes to the operator, not into the point.
    if let Some(said) = thaw_error.as_ref().and_then(Error::remedy) {
        tracing::error!("the application may still be frozen; {said}");
    }
    let notes: Vec<String> = thaw_error.iter().map(ToString::to_string).collect();
    let mut outcome = outcome(request, &captured, &counters, warnings);
    outcome.thaw_error = notes.first().cloned();
    // What a stranger or a revoked key signed hurts nobody.
    let unusable = list.refused.iter().filter(|(_, error)| error.kind() != ErrorKind::Untrusted).count();
    outcome.alarms = (list.vanished.len() + list.gaps().len() + unusable) as u64;
    if !request.dry_run {
        let point = Draft { repo, request, session, started, notes }.point(captured, &counters)?;
        request.cancel.check()?;
        // Lists are read and a lock is waited for: the session must not lapse over these.
        let Committed { point, doubt } =
            session.kept_alive(|| commit(repo, request, session, point, &written.referenced))?;
        outcome.point = Some(point.to_string());
        outcome.warnings.extend(doubt);
        // The point stands: nothing that goes wrong from here on makes the backup a failed one.
        if let Err(error) = tidy_index(repo, &index, session.renewed_at()) {
            outcome.warnings.push(format!("the index was not merged: {error}"));
        }
    }
    Ok(outcome)
}

/// A point that was stored.
struct Committed {
    point: Ulid,
    /// What could not be found out about it, in words.
    doubt: Option<String>,
}

/// Stores the point. Its number and predecessor are taken now, under a lock of this host, so that two
/// backups of one job that run at once do not take the same.
fn commit(
    repo: &Repository,
    request: &BackupRequest<'_>,
    session: &Session<'_>,
    draft: Point,
    referenced: &HashMap<PackId, u64>,
) -> Result<Committed> {
    let _alone = lock(&repo.cache_dir().join("commit.lock"))?;
    let own = &repo.writer()?.sign;
    let (seq, predecessor) = next_number(repo, &repo.points()?, &request.job)?;
    let now = session.renew()?;
    // A point that no reader would believe is not written.
    let trusted = repo.trusted_now()?;
    if !trusted.is_writers(own) {
        return Err(lost_standing(&trusted, own, "before its point was written, so none was"));
    }
    check_still_there(repo, &trusted, now, referenced)?;
    let point = Point {
        seq,
        predecessor,
        commit_before: session.commit_before()?,
        ended: request.clock.now(),
        ..draft
    };
    // The last moment at which stopping leaves no point.
    request.cancel.check()?;
    let hash = repo.put_point(&point)?;
    if let Err(error) = Seen::gave(repo.cache_dir(), &row(&own.party(), &request.job), seq) {
        tracing::warn!(%error, "the point's number was not remembered");
    }
    let doubt = match prove_stored(repo, &point) {
        Ok(()) => None,
        Err(error) if error.kind() == ErrorKind::Limit => {
            bury(repo, request, &point, hash);
            return Err(error);
        }
        // It tells of the point, or of who wrote it.
        Err(error) if error.is_about_content() => return Err(error),
        // The store did not answer, and the point is there all the same.
        Err(error) => Some(format!(
            "point {} is stored, but could not be read back: {error}; see with `muster points` that it counts",
            point.id
        )),
    };
    Ok(Committed { point: point.id, doubt })
}

/// Removes a point of this host's that came too late, so that nobody has to wonder about it.
fn bury(repo: &Repository, request: &BackupRequest<'_>, point: &Point, hash: Hash) {
    let buried = retention::bury(repo, point, hash, "void: it was stored too late", request.clock.now());
    if let Err(error) = buried {
        tracing::warn!(%error, "the void point was not removed; `muster retention remove` does it");
    }
}

/// Reads a point that was just stored as any reader would.
fn prove_stored(repo: &Repository, point: &Point) -> Result<()> {
    let own = &repo.writer()?.sign;
    let name = layout::point(&point.id);
    let stored = repo.store().stat(&name)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "commit the point", "it is not there right after it was written")
            .on(name.to_string())
    })?;
    if stored.stored_at > point.commit_before {
        return Err(Error::new(ErrorKind::Limit, "commit the point", "it reached the store too late and does not count")
            .on(name.to_string())
            .hint("the machine may have slept, or the store's clock jumped: run the backup again, what is stored already is not sent again"));
    }
    // The key may have been revoked since; whoever did so may have seen the point, or not.
    let trusted = repo.trusted_now()?;
    match repo.read_point_by(&trusted, &stored) {
        Err(error) if error.kind() == ErrorKind::Untrusted && !trusted.is_writers(own) => {
            let when = "at the moment in which its point was written: every reader refuses that point";
            Err(lost_standing(&trusted, own, when).on(name.to_string()))
        }
        read => read.map(drop),
    }
}

/// This host's key lost its rights while the backup ran.
fn lost_standing(now: &Trusted, own: &SignKey, when: &str) -> Error {
    let party = own.party();
    let (what, hint) = match now.writer(&party) {
        Some(_) => (
            "replaced by a new one",
            "put the new key file in the place of the old one, as `key admit` said, and run the backup again",
        ),
        None => (
            "revoked",
            "if this host is to write still, make new keys with `muster key request` and have them admitted with `muster key admit`; then run the backup again",
        ),
    };
    Error::new(ErrorKind::Untrusted, "commit the point", format!("this host's key {party} was {what} {when}"))
        .hint(hint)
}

/// Merges index objects once there are many.
fn tidy_index(repo: &Repository, index: &Index, now: Time) -> Result<()> {
    let there = repo.list_packs()?;
    let condemned = repo.condemned(now)?;
    // A pack that is not listed may be new; only one that was condemned is gone for good.
    let is_gone = |pack: &PackId| !there.contains_key(pack) && condemned.condemns(pack);
    index.drop_packs(repo, &is_gone)?;
    index.compact(repo, &|pack| !is_gone(pack)).map(drop)
}

/// Waits for this host's lock; it is free again when the file is closed.
fn lock(path: &std::path::Path) -> Result<std::fs::File> {
    let failed = |e| Error::io("take the lock", path.display().to_string(), e);
    let file = std::fs::File::create(path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

fn next_number(repo: &Repository, list: &PointList, job: &str) -> Result<(u64, Option<Predecessor>)> {
    let own = repo.writer()?.sign.party();
    let newest = list.newest_of(&own, job);
    let row = row(&own, job);
    let seen = Seen::load(repo.cache_dir());
    // The number of a point that is gone is not given again, nor that of one which no list shows yet.
    let highest = list.highest();
    let known = [&highest, &seen.points, &seen.given].into_iter().filter_map(|of| of.get(&row));
    let seq = known.max().copied().unwrap_or(0) + 1;
    Ok((seq, newest.map(|p| Predecessor { id: p.point.id, hash: p.hash })))
}

/// Feeds the pipeline's figures to the progress display while `work` runs.
fn showing<T>(progress: &Progress, counters: &Counters, work: impl FnOnce() -> T) -> T {
    let done = Bell::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut items, mut bytes) = (0, 0);
            while !done.wait(Duration::from_millis(100)) {
                let now = (counters.items.load(Ordering::Relaxed), counters.bytes.load(Ordering::Relaxed));
                progress.add(now.0.saturating_sub(items), now.1.saturating_sub(bytes));
                (items, bytes) = now;
            }
        });
        let _ring = done.ring_at_end();
        work()
    })
}

/// What the point refers to must not be condemned, and must be there, when it is committed.
///
/// `trusted` is the newest config: whoever was admitted while the backup ran may condemn too.
fn check_still_there(
    repo: &Repository,
    trusted: &Trusted,
    now: Time,
    referenced: &HashMap<PackId, u64>,
) -> Result<()> {
    let condemned = Condemnation::of(&repo.marks_by(trusted)?, repo.spared_before(now));
    let present = repo.list_packs()?;
    let is_lost = |pack: &PackId, size: u64| {
        condemned.shuns(pack) || present.get(pack).is_none_or(|(_, now)| *now != size)
    };
    let lost = referenced.iter().find(|(pack, size)| is_lost(pack, **size)).map(|(pack, _)| pack);
    match lost {
        None => Ok(()),
        Some(pack) => Err(Error::new(
            ErrorKind::Store,
            "commit the point",
            "a pack that it needs was removed or condemned meanwhile",
        )
        .on(pack.to_string())
        .retryable()
        .hint("run the backup again: it stores anew what was removed")),
    }
}

// ---- what was before ----

struct Before {
    sources: Vec<PointSource>,
}

impl Before {
    fn find(repo: &Repository, list: &PointList, job: &str) -> Result<Self> {
        let own = repo.writer()?.sign.party();
        // For each source the newest capture that did not fail.
        let mut sources: Vec<PointSource> = Vec::new();
        let mut own_points: Vec<_> = list
            .points
            .iter()
            .filter(|p| p.point.writer == own && p.point.job == job && !p.is_void)
            .collect();
        own_points.sort_by_key(|p| std::cmp::Reverse(p.point.seq));
        for source in own_points.iter().flat_map(|p| &p.point.sources) {
            let usable = source.catalogue.is_some() && source.status != SourceStatus::Failed;
            if usable && !sources.iter().any(|s| s.name == source.name) {
                sources.push(source.clone());
            }
        }
        Ok(Self { sources })
    }

    fn of(&self, source: &dyn Source) -> Option<&PointSource> {
        self.sources.iter().find(|s| s.name == source.name() && s.kind == source.kind())
    }

    fn tree(&self, source: &dyn Source) -> Option<TreeRef> {
        self.of(source).and_then(|s| s.catalogue.clone())
    }

    /// How much there was last time, as a guess for the progress display.
    fn bytes(&self) -> Option<u64> {
        let sum: u64 = self.sources.iter().map(|s| s.bytes).sum();
        (sum > 0).then_some(sum)
    }
}

// ---- capturing ----

struct Captured {
    source: PointSource,
    stats: CaptureStats,
    bytes_read: u64,
}

fn capture_all(
    pipeline: &Pipeline<'_, '_>,
    reader: &Reader<'_>,
    before: &Before,
    request: &BackupRequest<'_>,
    counters: &Counters,
) -> Result<Vec<Captured>> {
    let mut done = Vec::new();
    for source in &request.sources {
        request.cancel.check()?;
        let read_before = counters.bytes_read.load(Ordering::Relaxed);
        let captured = capture_one(pipeline, reader, before, &**source, request)?;
        let bytes_read = counters.bytes_read.load(Ordering::Relaxed) - read_before;
        done.push(Captured { bytes_read, ..captured });
    }
    Ok(done)
}

fn capture_one(
    pipeline: &Pipeline<'_, '_>,
    reader: &Reader<'_>,
    before: &Before,
    source: &dyn Source,
    request: &BackupRequest<'_>,
) -> Result<Captured> {
    let started = request.clock.now();
    let previous = before.tree(source).map(|tree| (reader, tree));
    let run =
        |previous| pipeline.capture(SinkOptions { previous }, |sink| source.capture(sink, request.cancel));
    let has_previous = previous.is_some();
    let is_about_the_past =
        |e: &Error| has_previous && matches!(e.kind(), ErrorKind::Damaged | ErrorKind::Store);
    let captured = match run(previous) {
        // What is wrong with the past must not keep the present from being saved.
        Err(error) if is_about_the_past(&error) && !pipeline.has_failed() => {
            tracing::warn!(%error, source = source.name(), "the previous capture cannot be read; reading everything");
            run(None)
        }
        other => other,
    };
    let mut entry = PointSource {
        name: source.name().to_owned(),
        kind: source.kind().to_owned(),
        status: SourceStatus::Failed,
        started,
        ended: request.clock.now(),
        catalogue: None,
        items: 0,
        bytes: 0,
        unreadable: 0,
        changed: 0,
        facts: None,
        counts: Vec::new(),
        error: None,
        notes: Vec::new(),
        reused: 0,
    };
    match captured {
        Ok(outcome) => {
            let CaptureReport { counts, facts, notes } = outcome.value;
            let stats = outcome.stats;
            let whole = stats.unreadable == 0 && stats.changed == 0;
            entry.status = if whole { SourceStatus::Complete } else { SourceStatus::Incomplete };
            entry.catalogue = Some(outcome.tree);
            entry.items = stats.items;
            entry.bytes = stats.bytes;
            entry.unreadable = stats.unreadable;
            entry.changed = stats.changed;
            entry.reused = stats.reused;
            entry.facts = if facts.is_empty() { None } else { Some(pipeline.store_data(&facts)?) };
            entry.counts = counts.into_iter().map(|(name, value)| Count { name, value }).collect();
            entry.notes = notes;
            Ok(Captured { source: entry, stats, bytes_read: 0 })
        }
        // The pipeline's own failures, those of the store, and a wish to stop, are no fault of the
        // source: they end the whole backup.
        Err(error)
            if pipeline.has_failed() || matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::Store) =>
        {
            Err(error)
        }
        Err(error) => {
            tell(source.name(), &error);
            entry.error = Some(error.to_string());
            Ok(Captured { source: entry, stats: CaptureStats::default(), bytes_read: 0 })
        }
    }
}

// ---- the point and the outcome ----

struct Draft<'a> {
    repo: &'a Repository,
    request: &'a BackupRequest<'a>,
    session: &'a Session<'a>,
    started: Time,
    notes: Vec<String>,
}

impl Draft<'_> {
    fn point(self, captured: Vec<Captured>, counters: &Counters) -> Result<Point> {
        let now = self.request.clock.now();
        Ok(Point {
            id: Ulid::new(now, random(self.request.entropy)?),
            writer: self.repo.writer()?.sign.party(),
            job: self.request.job.clone(),
            // These three are taken at commit.
            seq: 0,
            predecessor: None,
            config: self.repo.trusted().config.number,
            session: self.session.id(),
            commit_before: now,
            started: self.started,
            ended: now,
            host: self.request.host.clone(),
            tags: self.request.tags.clone(),
            sources: captured.into_iter().map(|c| c.source).collect(),
            totals: counters.totals(),
            muster: env!("CARGO_PKG_VERSION").to_owned(),
            notes: self.notes,
        })
    }
}

fn outcome(
    request: &BackupRequest<'_>,
    captured: &[Captured],
    counters: &Counters,
    warnings: Vec<String>,
) -> Backup {
    let get = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    let worst = captured.iter().map(|c| c.source.status).max().unwrap_or(SourceStatus::Complete);
    Backup {
        point: None,
        job: request.job.clone(),
        dry_run: request.dry_run,
        status: points::status(worst),
        sources: captured.iter().map(source_outcome).collect(),
        totals: BackupTotals {
            items: captured.iter().map(|c| c.source.items).sum(),
            bytes: captured.iter().map(|c| c.source.bytes).sum(),
            bytes_read: get(&counters.bytes_read),
            bytes_new: get(&counters.bytes_new),
            bytes_stored: get(&counters.bytes_stored),
            chunks_new: get(&counters.chunks_new),
            chunks_known: get(&counters.chunks_known),
            packs: get(&counters.packs),
            index_objects: get(&counters.index_objects),
        },
        duration_secs: 0.0,
        warnings,
        alarms: 0,
        thaw_error: None,
    }
}

fn source_outcome(captured: &Captured) -> BackupSource {
    let source = &captured.source;
    BackupSource {
        name: source.name.clone(),
        kind: source.kind.clone(),
        status: points::status(source.status),
        items: source.items,
        items_unchanged: source.reused,
        items_unreadable: source.unreadable,
        items_changed: source.changed,
        bytes: source.bytes,
        bytes_read: captured.bytes_read,
        started: Stamp(source.started),
        ended: Stamp(source.ended),
        notes: source.notes.clone(),
        error: source.error.clone(),
        failures: captured
            .stats
            .failures
            .iter()
            .map(|(path, why)| Failure { path: path.to_string(), why: why.clone() })
            .collect(),
    }
}
