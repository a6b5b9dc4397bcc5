//! `muster check` and `muster repair index`.

use crate::cli::args::{self, Subset};
use crate::cli::compose::{Access, Context};
use crate::cli::exit;
use crate::jobs::check::{CheckRequest, DataSelection, check};
use crate::jobs::repair::{RepairIndexRequest, repair_index};
use crate::model::Result;
use crate::model::error::Exit;
use crate::sys::{OsEntropy, RealClock};

/// Checks the repository.
pub fn run(context: &Context<'_>, args: &args::Check) -> Result<Exit> {
    let repo = context.open(Access::Read)?;
    let data = match args.read_data {
        None => DataSelection::None,
        Some(Subset::All) => DataSelection::All,
        Some(Subset::BasisPoints(points)) => DataSelection::BasisPoints(points),
        Some(Subset::Part { part, of }) => DataSelection::Part { part, of },
    };
    let request = CheckRequest {
        data,
        threads: context.threads(),
        memory_bytes: context.config.engine.memory_bytes,
        identities: &context.identities,
        progress: &context.progress,
        cancel: &context.cancel,
        entropy: &OsEntropy,
        clock: &RealClock,
    };
    exit::finish(&check(&repo, &request)?, context.global.json)
}

/// Makes the index anew from the packs.
pub fn repair(context: &Context<'_>, dry_run: bool) -> Result<Exit> {
    let repo = context.open(if dry_run { Access::Read } else { Access::Write })?;
    let request = RepairIndexRequest {
        dry_run,
        progress: &context.progress,
        cancel: &context.cancel,
        clock: &RealClock,
    };
    exit::finish(&repair_index(&repo, &request)?, context.global.json)
}
