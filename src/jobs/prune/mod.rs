//! Deleting what no point needs, in two phases (docs/FORMAT.md section 9.8).
//!
//! One run looks, repacks, looks again, marks, and deletes what was marked long ago. It rests on no lease:
//! each step is safe beside any other pruner and any backup, and a run that dies is simply run again.

mod execute;
mod plan;
mod repack;
mod statements;
mod view;

pub use plan::{Facts, Fate, Plan, Settings, Tally, plan};

use crate::model::{Error, ErrorKind, Result};
use crate::ports::{Cancel, Clock, Entropy};
use crate::repo::format::RIGHT_APPEND_ONLY;
use crate::repo::live::Leaving;
use crate::repo::points::PointList;
use crate::repo::repository::Repository;
use crate::report::Progress;
use crate::report::outcome::Prune;

use super::points;
use super::session::Session;
use execute::Execution;
use view::View;

/// The job's name that a pruner's session bears.
pub const SESSION_JOB: &str = "prune";

/// A prune, as asked for.
pub struct PruneRequest<'a> {
    /// What is wanted.
    pub settings: Settings,
    /// Open blobs that are mostly dead and store their live chunks anew; takes a recovery identity.
    pub compact: bool,
    /// Go on although points are missing that nobody with the right to has removed: what only they needed is deleted.
    pub accept_missing_points: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Threads.
    pub threads: usize,
    /// Memory to stay near.
    pub memory_bytes: u64,
    /// The host's clock.
    pub clock: &'a dyn Clock,
    /// For names.
    pub entropy: &'a dyn Entropy,
    /// Told of progress.
    pub progress: &'a Progress,
    /// Asks to stop.
    pub cancel: &'a Cancel,
}

/// Prunes.
pub fn prune(repo: &Repository, request: &PruneRequest<'_>) -> Result<Prune> {
    let began = request.clock.now();
    repo.writer()?;
    check_times(repo)?;
    check_rights(repo, request)?;
    if request.compact && !repo.can_open_data() {
        return Err(repo.no_data_key("compact blobs"));
    }
    // The session stands before anything is read: whoever else prunes leaves what this one stores alone.
    let session = Session::begin(repo, SESSION_JOB, request.clock, request.entropy, request.dry_run)?;
    let done = session.kept_alive(|| run(repo, request, &session));
    session.end_quietly();
    request.progress.finish();
    let mut outcome = done?;
    outcome.duration_secs = request.clock.now().secs_since(began);
    Ok(outcome)
}

fn run(repo: &Repository, request: &PruneRequest<'_>, session: &Session<'_>) -> Result<Prune> {
    let mut leaving = Leaving::default();
    let mut view = View::take(repo, request, session, &leaving)?;
    let mut outcome = Prune { dry_run: request.dry_run, warnings: view.warnings.clone(), ..Prune::default() };
    if request.dry_run {
        let plan = view.plan(&request.settings);
        view.tell(&plan, &mut outcome);
        for (used, why) in view.locked(repo, request, &plan)? {
            outcome.keep_locked(used.at.size, &why);
        }
        outcome.blobs_compacted = repack::compactable(request, &view, &plan).blobs.len() as u64;
        return Ok(outcome);
    }
    if request.compact && repack::compact(repo, request, &view, &mut outcome, &mut leaving)? {
        // What was stored anew is dead where it was, and the rest of those packs is moved now.
        view = View::take(repo, request, session, &leaving)?;
    }
    let moved = outcome.bytes_moved;
    let left = request.settings.max_repack_bytes.map(|most| most.saturating_sub(moved));
    let plan = view.plan(&Settings { max_repack_bytes: left, ..request.settings });
    repack::repack(repo, request, &view, &plan, &mut outcome, &mut leaving)?;
    drop(view);
    // Moving may have taken hours: what follows rests on another look, and moves nothing any more.
    let view = View::take(repo, request, session, &leaving)?;
    let plan = view.plan(&Settings { max_repack_bytes: Some(0), ..request.settings });
    view.tell(&plan, &mut outcome);
    Execution { repo, request, session, view: &view, plan: &plan }.run(&mut outcome)?;
    Ok(outcome)
}

/// A host that may only add may mark and move, and delete nothing.
fn check_rights(repo: &Repository, request: &PruneRequest<'_>) -> Result<()> {
    let own = repo.writer()?.sign.party();
    let rights = repo.trusted().writer(&own).map_or(0, |writer| writer.rights);
    if rights & RIGHT_APPEND_ONLY == 0 || !request.settings.delete || request.dry_run {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, "prune", "this host may only add to the repository")
        .hint("run it with --mark-only here, and without on a host that may delete"))
}

/// Deleting is safe only where the repository's times leave room for lists that lag.
fn check_times(repo: &Repository) -> Result<()> {
    let times = repo.trusted().config.times;
    let least = u64::from(times.lapse_secs) * 2 + u64::from(times.margin_secs) * 4;
    if u64::from(times.grace_secs) < least || times.margin_secs >= times.lapse_secs {
        return Err(Error::new(
            ErrorKind::Refused,
            "prune",
            format!(
                "the repository's grace period of {} s is too short: two lapses and four margins are {least} s",
                times.grace_secs
            ),
        ));
    }
    Ok(())
}

/// What makes the list of points unfit to delete by.
fn refuse_unsafe_list(list: &PointList, accept_missing: bool) -> Result<()> {
    let refuse = |why: String| Error::new(ErrorKind::Refused, "prune", why);
    if list.is_copy {
        return Err(refuse("this store is a plain copy of another: its times mean nothing".to_owned())
            .hint("prune the store that it was copied from, and copy again"));
    }
    // What a stranger signed is nobody's point. One that cannot be read might be.
    let unreadable = list.refused.iter().find(|(_, error)| error.kind() != ErrorKind::Untrusted);
    if let Some((name, error)) = unreadable {
        return Err(refuse(format!("a point cannot be read, so nobody knows what it needs: {error}"))
            .on(name.to_string())
            .hint("put the object back from a copy of the repository; if it is lost for good, delete it and say --accept-missing-points"));
    }
    let missing: Vec<String> = list.vanished.iter().cloned().chain(list.gaps()).collect();
    if !missing.is_empty() && !accept_missing {
        return Err(refuse(format!("points are missing that nobody with the right to has removed: {}", missing.join("; ")))
            .hint("somebody may be thinning your backups, and what the missing points need is still stored: find out, and put their objects back. If they are gone for good, take note of it with `muster retention acknowledge`, or say --accept-missing-points this once"));
    }
    Ok(())
}

/// Warnings of a list that is fit.
fn list_warnings(list: &PointList) -> Vec<String> {
    let mut warnings = points::warnings(list);
    let void = list.points.iter().filter(|p| p.is_void).count() as u64;
    if void > 0 {
        warnings.push(format!(
            "{} void, having reached the store too late: what is there of what it needs is kept until `muster retention remove` removes it",
            crate::report::human::counted(void, "point") + if void == 1 { " is" } else { " are" }
        ));
    }
    warnings
}
