//! `muster prune`.

use crate::cli::args;
use crate::cli::compose::{Access, Context};
use crate::cli::exit;
use crate::jobs::prune::{PruneRequest, Settings, prune};
use crate::model::Result;
use crate::model::error::Exit;
use crate::sys::{OsEntropy, RealClock};

/// Frees what no point needs.
pub fn run(context: &Context<'_>, args: &args::Prune) -> Result<Exit> {
    let repo = context.open(if args.dry_run { Access::Read } else { Access::Write })?;
    let request = PruneRequest {
        settings: Settings {
            max_repack_bytes: args.max_repack_bytes,
            repack_percent: args.repack_percent,
            delete: !args.mark_only,
        },
        compact: args.compact,
        accept_missing_points: args.accept_missing_points,
        dry_run: args.dry_run,
        threads: context.threads(),
        memory_bytes: context.config.engine.memory_bytes,
        clock: &RealClock,
        entropy: &OsEntropy,
        progress: &context.progress,
        cancel: &context.cancel,
    };
    exit::finish(&prune(&repo, &request)?, context.global.json)
}
