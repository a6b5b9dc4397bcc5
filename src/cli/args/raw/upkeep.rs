//! `prune` and `retention`: what removes.

use clap::{Args, Subcommand};

use crate::cli::args::{Prune, Retention};
use crate::model::{Error, ErrorKind, Result, parse_size, parse_span};
use crate::policy::retention::Keep;

/// Longest reason that is recorded.
const REASON_MAX_BYTES: usize = 250;
/// What is recorded where no reason is given.
const REASON_DEFAULT: &str = "removed by hand";

/// Free what no point needs
///
/// Works in two phases, so that it may run beside backups and other prunes. Packs that no point
/// needs are marked; a later run deletes what was marked longer ago than the repository's grace
/// period, 24 hours, if no point needs it and no backup that was under way then still runs. So
/// space comes back a day after points were removed, with the second run. A run that was
/// interrupted is simply run again.
///
/// Packs that are partly dead are repacked: what is live in them is moved as it is, so this
/// host's key is enough. --compact opens blobs too, and needs a key that can.
///
/// It refuses, with exit status 4, where nobody can tell what is needed: if a point cannot be
/// read, if points are missing that nobody has removed, or in a plain copy of a repository.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  muster prune --dry-run
  muster prune --max-repack 10GiB
  muster prune --mark-only                          # on a host that may not delete
  muster prune --compact --identity file:kit.txt")]
pub(super) struct RawPrune {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Move at most so many bytes, such as 10GiB [default: no bound]
    #[arg(long, value_name = "SIZE")]
    max_repack: Option<String>,
    /// Repack packs of which at least this share is dead
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u8).range(1..=100))]
    repack_unused: u8,
    /// Also open blobs that are partly dead, and store what is live in them anew
    #[arg(long)]
    compact: bool,
    /// Mark and move, and leave deleting to another host
    #[arg(long)]
    mark_only: bool,
    /// Go on although points are missing that nobody has removed: what only they needed is lost
    #[arg(long)]
    accept_missing_points: bool,
}

/// Remove points by a rule, or by name
///
/// A rule keeps the newest points (keep_last), those younger than some time (keep_within), or
/// what either of the two keeps. It stands below [job.retention] in muster.toml; one given here
/// takes its place. The newest point of a job in which anything was captured always stays, and
/// without a rule everything does.
///
/// A point that is removed cannot be restored any more. `muster prune` frees what only it needed.
#[derive(Debug, Subcommand)]
pub(super) enum RawRetention {
    /// Show which points stay and which the rule would remove
    ///
    /// Example: muster retention plan app --keep-last 7 --keep-within 30d
    Plan {
        #[command(flatten)]
        rule: RawRule,
    },
    /// Remove what the rule does not keep
    ///
    /// Asks before it removes anything.
    Apply {
        #[command(flatten)]
        rule: RawRule,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove points by name, whatever the rule says
    ///
    /// Asks before it removes anything. Example: muster retention remove 01KAJ --reason 'held a password'
    Remove {
        /// The points
        #[arg(value_name = "POINT", required = true)]
        points: Vec<String>,
        /// Why, for whoever asks later
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Take note of points that are missing and will not come back
    ///
    /// `points`, `check` and `prune` name points that are gone although nobody removed them, until
    /// you say that you know. Look first why they are gone: whoever thinned the store may have
    /// done more. What only they needed is freed by the next `prune`.
    ///
    /// Example: muster retention acknowledge --reason 'disk sdb died, 3 Nov'
    Acknowledge {
        /// Missing points of this job only [default: of every job]
        #[arg(long)]
        job: Option<String>,
        /// Why they are gone, for whoever asks later
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Only say which
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct RawRule {
    /// The job [default: every job of the configuration]
    job: Option<String>,
    /// Keep so many of the newest points that hold something
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_last: Option<u32>,
    /// Keep every point younger than this, such as 12h, 30d or 2w
    #[arg(long, value_name = "TIME")]
    keep_within: Option<String>,
}

impl RawPrune {
    pub(super) fn validate(self) -> Result<Prune> {
        let max_repack = self.max_repack.as_deref().map(parse_size).transpose();
        Ok(Prune {
            dry_run: self.dry_run,
            max_repack_bytes: max_repack.map_err(|error| error.on("given by --max-repack"))?,
            repack_percent: u64::from(self.repack_unused),
            compact: self.compact,
            mark_only: self.mark_only,
            accept_missing_points: self.accept_missing_points,
        })
    }
}

impl RawRetention {
    pub(super) fn validate(self) -> Result<Retention> {
        Ok(match self {
            Self::Plan { rule } => rule.validate(true)?,
            Self::Apply { rule, dry_run } => rule.validate(dry_run)?,
            Self::Remove { points, reason, dry_run } => Retention::Remove {
                points: points.iter().map(|text| text.parse()).collect::<Result<_>>()?,
                reason: reason.map_or_else(|| Ok(REASON_DEFAULT.to_owned()), checked_reason)?,
                dry_run,
            },
            Self::Acknowledge { job, reason, dry_run } => {
                Retention::Acknowledge { job, reason: checked_reason(reason)?, dry_run }
            }
        })
    }
}

impl RawRule {
    fn validate(self, dry_run: bool) -> Result<Retention> {
        let within_secs = self.keep_within.as_deref().map(parse_span).transpose();
        let keep = Keep {
            last: self.keep_last,
            within_secs: within_secs.map_err(|error| error.on("given by --keep-within"))?,
        };
        Ok(Retention::Apply { job: self.job, keep: keep.is_set().then_some(keep), dry_run })
    }
}

fn checked_reason(text: String) -> Result<String> {
    if text.trim().is_empty() || text.len() > REASON_MAX_BYTES || text.chars().any(char::is_control) {
        return Err(Error::new(
            ErrorKind::Usage,
            "use the reason",
            "it is empty, longer than 250 bytes, or has a control character in it",
        )
        .on("given by --reason"));
    }
    Ok(text)
}
