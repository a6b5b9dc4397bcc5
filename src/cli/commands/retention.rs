//! `muster retention plan`, `apply`, `remove` and `acknowledge`.

use std::collections::BTreeMap;

use crate::cli::args;
use crate::cli::compose::{Access, Context};
use crate::cli::{confirm, exit};
use crate::jobs::points::resolve;
use crate::jobs::retention::{
    AcknowledgeRequest, Removal, RetentionRequest, acknowledge, remove, retention_after,
};
use crate::model::error::Exit;
use crate::model::{Error, ErrorKind, Result};
use crate::policy::retention::Keep;
use crate::repo::repository::Repository;
use crate::sys::{OsEntropy, RealClock};

use super::restore::wanted;

/// Applies rules, or removes what is named.
pub fn run(context: &Context<'_>, args: &args::Retention) -> Result<Exit> {
    let ask = |question: &str| confirm::confirm(question, context.global.yes);
    let open = |dry_run: bool| context.open(if dry_run { Access::Read } else { Access::Write });
    let outcome = match args {
        args::Retention::Apply { job, keep, dry_run } => {
            // What is wrong with the name of a job shows before anything is read.
            let configured = configured_rules(context, job.as_deref(), keep.is_some())?;
            let repo = open(*dry_run)?;
            let rules = match (configured, job) {
                (Some(rules), _) => rules,
                (None, Some(job)) => {
                    has_points(&repo, job)?;
                    BTreeMap::from([(job.clone(), Keep::default())])
                }
                (None, None) => BTreeMap::new(),
            };
            let given = |rule: Keep| keep.unwrap_or(rule);
            let request = RetentionRequest {
                keep: rules.into_iter().map(|(job, rule)| (job, given(rule))).collect(),
                dry_run: *dry_run,
                clock: &RealClock,
                entropy: &OsEntropy,
            };
            retention_after(&repo, &request, &ask)?
        }
        args::Retention::Remove { points, reason, dry_run } => {
            let repo = open(*dry_run)?;
            let list = repo.points()?;
            let find = |spec| resolve(&list, &wanted(spec)).map(|found| found.point.id);
            let removal = Removal {
                points: points.iter().map(find).collect::<Result<_>>()?,
                reason,
                dry_run: *dry_run,
                clock: &RealClock,
                confirm: &ask,
            };
            remove(&repo, &removal)?
        }
        args::Retention::Acknowledge { job, reason, dry_run } => {
            let request = AcknowledgeRequest {
                job: job.clone(),
                reason,
                dry_run: *dry_run,
                clock: &RealClock,
                entropy: &OsEntropy,
            };
            return exit::finish(&acknowledge(&open(*dry_run)?, &request, &ask)?, context.global.json);
        }
    };
    exit::finish(&outcome, context.global.json)
}

/// Rules by job as the configuration has them: of one job, or of all. `None`: it does not have that job, but
/// points may, and flags give the rule.
fn configured_rules(
    context: &Context<'_>,
    job: Option<&str>,
    has_flags: bool,
) -> Result<Option<BTreeMap<String, Keep>>> {
    let jobs = &context.config.jobs;
    let Some(name) = job else {
        if jobs.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "choose a job", "the configuration has none")
                .hint("name one, with --keep-last or --keep-within; `muster points` shows of which there are points"));
        }
        return Ok(Some(jobs.iter().map(|job| (job.name.clone(), job.retention)).collect()));
    };
    let is_known = jobs.iter().any(|job| job.name == name);
    if !is_known && has_flags {
        return Ok(None);
    }
    let job = context.config.job_named(Some(name))?;
    Ok(Some(BTreeMap::from([(name.to_owned(), job.retention)])))
}

/// A job that only points know of; a name that nothing knows is misspelt.
fn has_points(repo: &Repository, job: &str) -> Result<()> {
    let list = repo.points()?;
    match list.points.iter().any(|p| p.point.job == job) {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::NotFound,
            "find the job",
            "neither the configuration nor any point has it",
        )
        .on(job.to_owned())
        .hint("see `muster points`")),
    }
}
