//! Which point is meant, and lists of them.

use std::time::Instant;

use crate::model::{Error, ErrorKind, PartyId, Result, Time, Ulid};
use crate::repo::format::{Point, SourceStatus, Tombstone};
use crate::repo::points::{PointList, StoredPoint};
use crate::repo::repository::Repository;
use crate::report::human::counted;
use crate::report::outcome::{Failure, PointRow, PointSource, Points, RemovedPoint, Status};
use crate::report::stamp::Stamp;

const COPY: &str = "this store is a plain copy of another: its times mean nothing, so late points cannot be told; do not prune it";

/// How a person names a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first letters of its name, in capitals.
    Prefix(String),
    /// The newest one that has anything in it.
    Latest {
        /// Of this job; of any otherwise.
        job: Option<String>,
    },
}

/// A point's status as reports say it.
pub fn status(status: SourceStatus) -> Status {
    match status {
        SourceStatus::Complete => Status::Complete,
        SourceStatus::Incomplete => Status::Incomplete,
        SourceStatus::Failed => Status::Failed,
    }
}

/// Whether at least one source of the point was captured.
pub fn has_content(point: &Point) -> bool {
    point.sources.iter().any(|s| s.status != SourceStatus::Failed)
}

/// The names of the sources that were captured.
pub fn captured(point: &Point) -> Vec<String> {
    let captured = point.sources.iter().filter(|s| s.status != SourceStatus::Failed);
    captured.map(|s| s.name.clone()).collect()
}

/// Finds the point that is meant.
pub fn resolve<'l>(list: &'l PointList, wanted: &Wanted) -> Result<&'l StoredPoint> {
    match wanted {
        Wanted::Latest { job } => list
            .points
            .iter()
            .rev()
            .find(|p| !p.is_void && has_content(&p.point) && job.as_ref().is_none_or(|j| p.point.job == *j))
            .ok_or_else(|| no_latest(list, job.as_deref())),
        Wanted::Prefix(prefix) => {
            let mut found = list.points.iter().filter(|p| p.point.id.to_string().starts_with(prefix));
            let missing = || not_there(list, prefix);
            let first = found.next().ok_or_else(missing)?;
            if found.next().is_some() {
                return Err(Error::new(
                    ErrorKind::Usage,
                    "find the point",
                    format!("more than one begins with {prefix}"),
                )
                .hint("write more letters of its name"));
            }
            Ok(first)
        }
    }
}

/// Why no point serves as the latest: there is none, or none that counts has anything in it.
fn no_latest(list: &PointList, job: Option<&str>) -> Error {
    let of = job.map(|job| format!(" of job {job}")).unwrap_or_default();
    let (void, empty): (Vec<_>, Vec<_>) =
        list.points.iter().filter(|p| job.is_none_or(|job| p.point.job == job)).partition(|p| p.is_void);
    let (why, hint) = match (empty.len() as u64, void.len() as u64) {
        (0, 0) => (format!("there is none{of}"), "see `muster points`".to_owned()),
        (0, n) => (
            format!("void, and so not counted: {}{of}", counted(n, "point")),
            "run the backup again; `muster points --all` shows void points, which can be named by their ids"
                .to_owned(),
        ),
        (n, _) => (
            format!("every source failed in {}{of}, so nothing is in there", counted(n, "point")),
            format!(
                "run `muster backup{}` and see why its sources fail",
                job.map_or(String::new(), |j| format!(" {j}"))
            ),
        ),
    };
    Error::new(ErrorKind::NotFound, "find the latest point", why).hint(hint)
}

fn not_there(list: &PointList, prefix: &str) -> Error {
    let hint = "see `muster points`";
    if let Some((name, why)) = list.refused.iter().find(|(name, _)| name.leaf().starts_with(prefix)) {
        return Error::new(why.kind(), "use the point", why.why().to_owned()).on(name.to_string()).hint(hint);
    }
    if let Some(gone) = list.removed.iter().find(|p| p.point.id.to_string().starts_with(prefix)) {
        let rule = list.tombstones.get(&gone.point.id).map(|t| t.rule.clone()).unwrap_or_default();
        return Error::new(
            ErrorKind::NotFound,
            "use the point",
            format!("it was removed by the rule {rule:?}"),
        )
        .on(gone.point.id.to_string());
    }
    Error::new(ErrorKind::NotFound, "find the point", format!("none begins with {prefix}")).hint(hint)
}

/// What is wrong with the list as a whole, in words, for every command that reads it.
pub fn warnings(list: &PointList) -> Vec<String> {
    let mut warnings: Vec<String> = list.vanished.clone();
    warnings.extend(list.gaps());
    warnings.extend(list.refused.iter().map(|(_, error)| error.to_string()));
    if list.is_copy {
        warnings.push(COPY.to_owned());
    }
    warnings
}

/// Points newer than the one that `latest` came to, which it passed over.
pub fn passed_over(list: &PointList, wanted: &Wanted, found: &StoredPoint) -> Vec<String> {
    let Wanted::Latest { job } = wanted else { return Vec::new() };
    let is_newer = |p: &&StoredPoint| {
        job.as_ref().is_none_or(|job| p.point.job == *job)
            && (p.stored_at, p.point.id) > (found.stored_at, found.point.id)
    };
    let why = |p: &StoredPoint| match p.is_void {
        true => "it is void: it reached the store after its session may have lapsed",
        false => "every source failed in it",
    };
    let newer = list.points.iter().filter(is_newer);
    newer.map(|p| format!("`latest` passed over the newer point {}: {}", p.point.id, why(p))).collect()
}

/// Jobs of one name by several writers: `latest:JOB` takes the newest of them all.
pub fn several_writers(list: &PointList) -> Vec<String> {
    let mut writers: std::collections::BTreeMap<&str, std::collections::BTreeSet<String>> =
        Default::default();
    for point in &list.points {
        writers.entry(&point.point.job).or_default().insert(point.point.writer.to_string());
    }
    writers
        .into_iter()
        .filter(|(_, who)| who.len() > 1)
        .map(|(job, who)| {
            let who: Vec<_> = who.into_iter().collect();
            format!(
                "points of job {job} are written by several writers ({}): `latest` takes the newest of all",
                who.join(", ")
            )
        })
        .collect()
}

/// `muster points`.
pub fn list(repo: &Repository, job: Option<&str>, all: bool) -> Result<Points> {
    let began = Instant::now();
    let list = repo.points()?;
    let wanted = |p: &&StoredPoint| job.is_none_or(|job| p.point.job == job) && (all || !p.is_void);
    let points = list.points.iter().filter(wanted).map(|p| row(repo, p)).collect();
    let mut unusable: Vec<Failure> = list
        .refused
        .iter()
        .map(|(name, error)| Failure { path: name.to_string(), why: error.why().to_owned() })
        .collect();
    for point in list.points.iter().filter(|p| p.is_void) {
        unusable.push(Failure {
            path: point.point.id.to_string(),
            why: "void: it reached the store after its session may have lapsed".to_owned(),
        });
    }
    let words = list.vanished.iter().cloned().chain(list.gaps());
    unusable.extend(words.map(|why| Failure { path: "points/".to_owned(), why }));
    let warnings = several_writers(&list).into_iter().chain(list.is_copy.then(|| COPY.to_owned())).collect();
    let removed = if all { removed(repo, &list, job) } else { Vec::new() };
    tracing::debug!(elapsed = ?began.elapsed(), "listed the points");
    Ok(Points { points, unusable, removed, warnings })
}

/// Every removal that counts, also of points whose object was deleted since.
fn removed(repo: &Repository, list: &PointList, job: Option<&str>) -> Vec<RemovedPoint> {
    let grace = i64::from(repo.trusted().config.times.grace_secs);
    let named = |party: &PartyId| repo.label(party).map_or_else(|| party.to_string(), str::to_owned);
    // A tombstone that another point's is not counts for no point that is there.
    let is_there = |id: &Ulid| list.points.iter().any(|p| p.point.id == *id);
    let mut found: Vec<_> = list
        .tombstones
        .values()
        .filter(|stone| job.is_none_or(|job| stone.job == job) && !is_there(&stone.point))
        .map(|stone| (list.tombstoned_at.get(&stone.point).copied().unwrap_or(stone.at), stone))
        .collect();
    found.sort_by_key(|(at, stone)| (*at, stone.point));
    let row = |(at, stone): (Time, &Tombstone)| RemovedPoint {
        point: stone.point.to_string(),
        job: stone.job.clone(),
        writer: named(&stone.writer),
        removed: Stamp(at),
        by: named(&stone.by),
        rule: stone.rule.clone(),
        due: list.removed.iter().any(|p| p.point.id == stone.point).then(|| Stamp(at.plus_secs(grace))),
    };
    found.into_iter().map(row).collect()
}

fn row(repo: &Repository, stored: &StoredPoint) -> PointRow {
    let point = &stored.point;
    PointRow {
        point: point.id.to_string(),
        job: point.job.clone(),
        time: Stamp(point.started),
        status: status(point.status()),
        void: stored.is_void,
        writer: repo.label(&point.writer).map_or_else(|| point.writer.to_string(), str::to_owned),
        tags: point.tags.clone(),
        items: point.sources.iter().map(|s| s.items).sum(),
        bytes: point.sources.iter().map(|s| s.bytes).sum(),
        bytes_stored: point.totals.bytes_stored,
        sources: point
            .sources
            .iter()
            .map(|s| PointSource {
                name: s.name.clone(),
                kind: s.kind.clone(),
                status: status(s.status),
                items: s.items,
                bytes: s.bytes,
            })
            .collect(),
    }
}
