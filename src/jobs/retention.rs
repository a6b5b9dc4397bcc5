//! Removing points by rule: a signed tombstone for each. `prune` frees later what only they needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Error, ErrorKind, Hash, PartyId, Result, Time, Ulid};
use crate::policy::retention::{Candidate, Keep, decide};
use crate::ports::{Clock, Entropy};
use crate::repo::format::{Point, RIGHT_APPEND_ONLY, RIGHT_REMOVE_OTHERS, Tombstone};
use crate::repo::layout;
use crate::repo::points::{PointList, StoredPoint};
use crate::repo::repository::{Repository, random};
use crate::repo::sign::Kind;
use crate::report::human::counted;
use crate::report::outcome::{Acknowledged, AcknowledgedPoint, Retention, RetentionRow};
use crate::report::stamp::Stamp;

use super::points::{captured, has_content, warnings};
use super::session::Session;

/// What is to be kept of which job.
pub struct RetentionRequest<'a> {
    /// Rules by job. Points of other jobs are left alone.
    pub keep: BTreeMap<String, Keep>,
    /// Only say what would be removed.
    pub dry_run: bool,
    /// The host's clock.
    pub clock: &'a dyn Clock,
    /// For names.
    pub entropy: &'a dyn Entropy,
}

/// The job's name that the session of a removal bears.
const SESSION_JOB: &str = "retention";

/// Applies rules, or shows what they would do.
pub fn retention(repo: &Repository, request: &RetentionRequest<'_>) -> Result<Retention> {
    retention_after(repo, request, &|_| Ok(()))
}

/// As [`retention`]; `confirm` is asked a question before anything is removed.
pub fn retention_after(
    repo: &Repository,
    request: &RetentionRequest<'_>,
    confirm: &dyn Fn(&str) -> Result<()>,
) -> Result<Retention> {
    let rights = rights(repo)?;
    let session = Session::begin(repo, SESSION_JOB, request.clock, request.entropy, request.dry_run)?;
    let done = session.kept_alive(|| {
        let list = repo.points()?;
        let mut outcome =
            Retention { dry_run: request.dry_run, warnings: warnings(&list), ..Retention::default() };
        refuse_copy(&list)?;
        let doomed = plan(repo, request, &list, rights, session.renewed_at(), &mut outcome)?;
        if !request.dry_run && !doomed.is_empty() {
            confirm(&question(&doomed, outcome.kept))?;
            for (stored, rule) in doomed {
                bury(repo, &stored.point, stored.hash, &rule, request.clock.now())?;
            }
        }
        Ok(outcome)
    });
    session.end_quietly();
    done
}

/// What is to be removed by name.
pub struct Removal<'a> {
    /// Which points.
    pub points: Vec<Ulid>,
    /// Why.
    pub reason: &'a str,
    /// Only say what would be removed.
    pub dry_run: bool,
    /// The host's clock.
    pub clock: &'a dyn Clock,
    /// Asked a question before anything is removed.
    pub confirm: &'a dyn Fn(&str) -> Result<()>,
}

/// Removes the named points, whatever the rules say.
pub fn remove(repo: &Repository, removal: &Removal<'_>) -> Result<Retention> {
    let rights = rights(repo)?;
    let own = repo.writer()?.sign.party();
    let list = repo.points()?;
    refuse_copy(&list)?;
    let wanted: BTreeSet<Ulid> = removal.points.iter().copied().collect();
    let mut outcome =
        Retention { dry_run: removal.dry_run, warnings: warnings(&list), ..Retention::default() };
    let found: Vec<&StoredPoint> = list.points.iter().filter(|p| wanted.contains(&p.point.id)).collect();
    if let Some(missing) = wanted.iter().find(|id| !found.iter().any(|p| p.point.id == **id)) {
        return Err(Error::new(ErrorKind::NotFound, "remove the point", "there is none of this name")
            .on(missing.to_string())
            .hint("see `muster points`"));
    }
    for stored in &found {
        if stored.point.writer != own && rights & RIGHT_REMOVE_OTHERS == 0 {
            return Err(Error::new(
                ErrorKind::Refused,
                "remove the point",
                "another host wrote it, and this host has no right to remove others' points",
            )
            .on(stored.point.id.to_string())
            .hint("run it on that host, or have the holder of the root give this one the right"));
        }
    }
    if !removal.dry_run && !found.is_empty() {
        (removal.confirm)(&question_by_name(&list, &found))?;
    }
    for stored in found {
        outcome.points.push(row(stored, false, removal.reason));
        outcome.removed += 1;
        if !removal.dry_run {
            bury(repo, &stored.point, stored.hash, removal.reason, removal.clock.now())?;
        }
    }
    Ok(outcome)
}

/// What is asked before rules are applied.
fn question(doomed: &[(&StoredPoint, String)], kept: u64) -> String {
    let mut by_job: BTreeMap<&str, u64> = BTreeMap::new();
    for (stored, _) in doomed {
        *by_job.entry(&stored.point.job).or_default() += 1;
    }
    let parts: Vec<String> =
        by_job.iter().map(|(job, n)| format!("{} of job {job}", counted(*n, "point"))).collect();
    format!("Remove {}, and keep {kept}? (`muster retention plan` shows which.)", parts.join(", "))
}

/// What is asked before points are removed by name.
fn question_by_name(list: &PointList, found: &[&StoredPoint]) -> String {
    let names: Vec<String> = found.iter().map(|p| p.point.id.to_string()).collect();
    let mut question = format!("Remove {} for good?", names.join(", "));
    let is_left = |job: &str| {
        let good = list.points.iter().filter(|p| p.point.job == job && !p.is_void && has_content(&p.point));
        good.into_iter().any(|p| !names.contains(&p.point.id.to_string()))
    };
    let jobs: BTreeSet<&str> = found.iter().map(|p| p.point.job.as_str()).collect();
    for job in jobs.into_iter().filter(|job| !is_left(job)) {
        question += &format!(" Nothing of job {job} can be restored then.");
    }
    question
}

fn rights(repo: &Repository) -> Result<u32> {
    let own = repo.writer()?.sign.party();
    let rights = repo.trusted().writer(&own).map_or(0, |writer| writer.rights);
    if rights & RIGHT_APPEND_ONLY != 0 {
        return Err(Error::new(
            ErrorKind::Refused,
            "remove points",
            "this host may only add to the repository",
        )
        .hint("run it on a host that may remove points"));
    }
    Ok(rights)
}

fn refuse_copy(list: &PointList) -> Result<()> {
    if !list.is_copy {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Refused,
        "remove points",
        "this store is a plain copy of another: its times mean nothing",
    )
    .hint("remove points in the store that it was copied from, and copy again"))
}

fn plan<'l>(
    repo: &Repository,
    request: &RetentionRequest<'_>,
    list: &'l PointList,
    rights: u32,
    now: Time,
    outcome: &mut Retention,
) -> Result<Vec<(&'l StoredPoint, String)>> {
    let own = repo.writer()?.sign.party();
    let may_remove = |writer: PartyId| writer == own || rights & RIGHT_REMOVE_OTHERS != 0;
    let mut groups: BTreeMap<(PartyId, &str), Vec<&StoredPoint>> = BTreeMap::new();
    for stored in list.points.iter().filter(|p| !p.is_void) {
        groups.entry((stored.point.writer, &stored.point.job)).or_default().push(stored);
    }
    let mut doomed = Vec::new();
    let mut foreign = 0u64;
    let mut other_jobs: BTreeMap<&str, u64> = BTreeMap::new();
    for job in request.keep.iter().filter(|(_, keep)| !keep.is_set()).map(|(job, _)| job) {
        outcome.notes.push(format!(
            "no rule says which points of job {job} are kept: none of them is removed (a rule is keep_last or \
             keep_within below [job.retention] in muster.toml, or --keep-last or --keep-within)"
        ));
    }
    for ((writer, job), points) in groups {
        let Some(keep) = request.keep.get(job) else {
            *other_jobs.entry(job).or_default() += points.len() as u64;
            continue;
        };
        if !keep.is_set() {
            outcome.kept += points.len() as u64;
            continue;
        }
        if !may_remove(writer) {
            foreign += points.len() as u64;
            continue;
        }
        let candidates: Vec<Candidate> = points
            .iter()
            .map(|p| Candidate { id: p.point.id, stored_at: p.stored_at, holds: captured(&p.point) })
            .collect();
        for (stored, fate) in points.iter().zip(decide(&candidates, keep, now)) {
            outcome.points.push(row(stored, fate.is_kept, &fate.rule));
            *(if fate.is_kept { &mut outcome.kept } else { &mut outcome.removed }) += 1;
            if !fate.is_kept {
                doomed.push((*stored, fate.rule));
            }
        }
    }
    outcome.points.sort_by(|a, b| (a.time.0, &a.point).cmp(&(b.time.0, &b.point)));
    if foreign > 0 {
        outcome.notes.push(format!(
            "{} of other hosts left alone: this host has no right to remove them",
            counted(foreign, "point")
        ));
    }
    if !other_jobs.is_empty() {
        let jobs: Vec<String> =
            other_jobs.iter().map(|(job, n)| format!("{job} ({})", counted(*n, "point"))).collect();
        outcome.notes.push(format!("left alone, as no rule was asked for: {}", jobs.join(", ")));
    }
    Ok(doomed)
}

fn row(stored: &StoredPoint, kept: bool, rule: &str) -> RetentionRow {
    RetentionRow {
        point: stored.point.id.to_string(),
        job: stored.point.job.clone(),
        time: Stamp(stored.stored_at),
        kept,
        rule: rule.to_owned(),
    }
}

/// Stores a point's tombstone. The point's object stays for the grace period.
pub(super) fn bury(repo: &Repository, point: &Point, hash: Hash, rule: &str, at: Time) -> Result<()> {
    let stone = Tombstone {
        point: point.id,
        hash,
        writer: point.writer,
        job: point.job.clone(),
        seq: point.seq,
        by: repo.writer()?.sign.party(),
        rule: rule.to_owned(),
        at,
    };
    put_stone(repo, &stone)
}

fn put_stone(repo: &Repository, stone: &Tombstone) -> Result<()> {
    match repo.put_signed(Kind::Tombstone, &layout::tombstone(&stone.point), stone) {
        Ok(_) => Ok(()),
        // Somebody else removed it at the same moment.
        Err(error) if error.kind() == ErrorKind::Exists => Ok(()),
        Err(error) => Err(error),
    }
}

// ---- points that are gone ----

/// What is to be acknowledged.
pub struct AcknowledgeRequest<'a> {
    /// Points of this job only.
    pub job: Option<String>,
    /// Why they are gone, in a person's words.
    pub reason: &'a str,
    /// Only say what would be acknowledged.
    pub dry_run: bool,
    /// The host's clock.
    pub clock: &'a dyn Clock,
    /// For names.
    pub entropy: &'a dyn Entropy,
}

/// Takes note of points that are gone for good, so that `points` and `check` do not name them for ever: a
/// tombstone for each, as if it had been removed. One whose id the next point names is removed by it, should it
/// turn up again; for any other the tombstone has an id of its own and accounts for the number alone.
///
/// # Errors
/// What `confirm` answers, in a plain copy of a repository, and what storing gives.
pub fn acknowledge(
    repo: &Repository,
    request: &AcknowledgeRequest<'_>,
    confirm: &dyn Fn(&str) -> Result<()>,
) -> Result<Acknowledged> {
    let rights = rights(repo)?;
    let own = repo.writer()?.sign.party();
    let list = repo.points()?;
    refuse_copy(&list)?;
    let mut missing = list.missing();
    missing.extend(list.missing_at_the_end());
    missing.retain(|m| request.job.as_ref().is_none_or(|job| m.job == *job));
    missing.sort_by(|a, b| (&a.job, a.writer, a.seq).cmp(&(&b.job, b.writer, b.seq)));
    let all = missing.len();
    missing.retain(|m| m.writer == own || rights & RIGHT_REMOVE_OTHERS != 0);
    let others = (all - missing.len()) as u64;
    let mut outcome = Acknowledged { dry_run: request.dry_run, others, ..Acknowledged::default() };
    if !request.dry_run && !missing.is_empty() {
        confirm(&format!(
            "Take {} for gone for good? What only they needed may then be freed.",
            counted(missing.len() as u64, "missing point")
        ))?;
    }
    for lost in missing {
        let at = request.clock.now();
        let stone = Tombstone {
            point: match &lost.named {
                Some(named) => named.id,
                None => Ulid::new(at, random(request.entropy)?),
            },
            hash: lost.named.as_ref().map_or(Hash([0; 32]), |named| named.hash),
            writer: lost.writer,
            job: lost.job.clone(),
            seq: lost.seq,
            by: own,
            rule: format!("lost: {}", request.reason),
            at,
        };
        if !request.dry_run {
            put_stone(repo, &stone)?;
        }
        outcome.points.push(AcknowledgedPoint {
            job: lost.job,
            writer: repo.label(&lost.writer).map_or_else(|| lost.writer.to_string(), str::to_owned),
            number: lost.seq,
            point: lost.named.map(|named| named.id.to_string()),
        });
    }
    Ok(outcome)
}
