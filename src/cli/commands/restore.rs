//! `muster restore`.

use crate::cli::args::{self, Destination};
use crate::cli::compose::{Access, Context};
use crate::cli::{confirm, exit};
use crate::jobs::points::{Wanted, resolve};
use crate::jobs::restore::{RestoreRequest, restore};
use crate::model::Result;
use crate::model::error::Exit;

/// A point as the job takes it.
pub fn wanted(spec: &args::PointSpec) -> Wanted {
    match spec {
        args::PointSpec::Prefix(prefix) => Wanted::Prefix(prefix.clone()),
        args::PointSpec::Latest { job } => Wanted::Latest { job: job.clone() },
    }
}

/// Restores.
pub fn run(context: &Context<'_>, args: &args::Restore) -> Result<Exit> {
    let repo = context.open(Access::Read)?;
    let point = wanted(&args.point);
    let job = resolve(&repo.points()?, &point)?.point.job.clone();
    let target = |source: &str| {
        let text = match &args.destination {
            Destination::Folder(folder) => folder.join(source).display().to_string(),
            Destination::InPlace => "its original place".to_owned(),
            Destination::Run => "its restore command".to_owned(),
        };
        (args.destination.of_source(source), text)
    };
    let request = RestoreRequest {
        point,
        selection: args.selection.iter().map(|s| (s.source.clone(), s.path.clone())).collect(),
        target: &target,
        source: &|stored| context.source_of(&job, stored),
        conflict: args.conflict,
        dry_run: args.dry_run,
        strict_owner: args.strict_owner,
        verify: args.verify,
        threads: context.threads(),
        memory_bytes: context.config.engine.memory_bytes,
        cancel: &context.cancel,
        progress: &context.progress,
        confirm: &|question| confirm::confirm(question, context.global.yes),
    };
    exit::finish(&restore(&repo, &request)?, context.global.json)
}
