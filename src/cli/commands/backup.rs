//! `muster backup` and `muster points`.

use crate::cli::args;
use crate::cli::compose::{Access, Context, host_name};
use crate::cli::exit;
use crate::jobs::backup::{BackupRequest, backup};
use crate::jobs::hooks::Hooks;
use crate::jobs::points;
use crate::model::Result;
use crate::model::error::Exit;
use crate::sys;

/// Runs a job.
pub fn run(context: &Context<'_>, args: &args::Backup) -> Result<Exit> {
    let job = context.config.job_named(args.job.as_deref())?;
    let access = if args.dry_run { Access::Read } else { Access::Write };
    let repo = context.open(access)?;
    let mut tags = job.tags.clone();
    tags.extend(args.tags.iter().filter(|t| !job.tags.contains(t)).cloned());
    let request = BackupRequest {
        job: job.name.clone(),
        tags,
        sources: context.sources(job, args.force_read)?,
        hooks: Hooks {
            freeze: job.freeze.clone(),
            thaw: job.thaw.clone(),
            timeout_secs: job.hook_timeout_secs,
        },
        host: host_name(),
        dry_run: args.dry_run,
        threads: context.threads(),
        memory_bytes: context.config.engine.memory_bytes,
        clock: &sys::RealClock,
        entropy: &sys::OsEntropy,
        process: &*context.process,
        cancel: &context.cancel,
        progress: &context.progress,
    };
    exit::finish(&backup(&repo, &request)?, context.global.json)
}

/// Lists points.
pub fn points(context: &Context<'_>, args: &args::Points) -> Result<Exit> {
    let repo = context.open(Access::Read)?;
    exit::finish(&points::list(&repo, args.job.as_deref(), args.all)?, context.global.json)
}
