//! The command line: taken by clap as it stands into raw arguments, then checked into
//! the types below, which the commands work with.

mod raw;
mod s3;
mod values;

use std::path::PathBuf;

use clap_complete::Shell;

use crate::model::SecretRef;
use crate::policy::S3Config;
use crate::policy::retention::Keep;
use crate::ports::{Conflict, RestoreTarget};

pub use raw::RawCli;
pub use values::{PointSpec, Round, SourcePath, Subset};

/// What holds for every command.
#[derive(Clone, Debug)]
pub struct Global {
    /// The configuration file.
    pub config: PathBuf,
    /// Print one document on standard output.
    pub json: bool,
    /// Keys beside this host's own, by reference.
    pub identities: Vec<SecretRef>,
    /// Overrides the configuration's bound.
    pub memory_bytes: Option<u64>,
    /// Overrides the configuration's folder.
    pub cache_dir: Option<PathBuf>,
    /// Answer every question with yes.
    pub yes: bool,
    /// How much to log.
    pub verbosity: Verbosity,
    /// Whether progress may be shown.
    pub progress: bool,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors.
    Quiet,
    /// Errors, warnings and progress.
    Normal,
    /// What Muster does.
    Debug,
    /// Everything.
    Trace,
}

/// A command and what it needs.
#[derive(Clone, Debug)]
pub enum Command {
    /// Makes a repository.
    Init(Box<Init>),
    /// Captures a job.
    Backup(Backup),
    /// Lists points.
    Points(Points),
    /// Lists entries of a point.
    Ls(Ls),
    /// Finds entries by name.
    Find(Find),
    /// Compares two points.
    Diff(Diff),
    /// Writes one entry's content to standard output.
    Cat(Cat),
    /// Puts a point back.
    Restore(Restore),
    /// Removes points.
    Retention(Retention),
    /// Frees what no point needs.
    Prune(Prune),
    /// Looks for damage.
    Check(Check),
    /// Tries the store out.
    Doctor(Doctor),
    /// Rebuilds the index from the packs.
    RepairIndex {
        /// Only say what would be written.
        dry_run: bool,
    },
    /// Takes an object away that makes readers refuse the configuration.
    RepairConfig(RepairConfig),
    /// Keys.
    Key(Key),
    /// Prints a completion script.
    Completions(Shell),
}

impl Command {
    /// The command's name as typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Backup(_) => "backup",
            Self::Points(_) => "points",
            Self::Ls(_) => "ls",
            Self::Find(_) => "find",
            Self::Diff(_) => "diff",
            Self::Cat(_) => "cat",
            Self::Restore(_) => "restore",
            Self::Retention(_) => "retention",
            Self::Prune(_) => "prune",
            Self::Check(_) => "check",
            Self::Doctor(_) => "doctor",
            Self::RepairIndex { .. } => "repair index",
            Self::RepairConfig(_) => "repair config",
            Self::Key(_) => "key",
            Self::Completions(_) => "completions",
        }
    }
}

/// `init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The store's address.
    pub store: String,
    /// Where the recovery kit goes.
    pub kit: PathBuf,
    /// This host's name; by default the machine's.
    pub writer_label: Option<String>,
    /// age recipients that can open data, beside the kit.
    pub recipients: Vec<String>,
    /// A passphrase that protects the kit.
    pub passphrase: Passphrase,
    /// How a bucket is reached, where flags said so.
    pub s3: Option<S3Config>,
}

/// Where a passphrase comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passphrase {
    /// There is none.
    None,
    /// It is asked for, twice.
    Ask,
    /// It stands there.
    From(SecretRef),
}

/// `backup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Which job; none means the only one.
    pub job: Option<String>,
    /// Words for the point, beside the job's.
    pub tags: Vec<String>,
    /// Read everything, store nothing.
    pub dry_run: bool,
    /// Read unchanged files too.
    pub force_read: bool,
}

/// `points`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Points {
    /// Only this job's.
    pub job: Option<String>,
    /// Also failed, void and removed ones.
    pub all: bool,
}

/// `ls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ls {
    /// Which point.
    pub point: PointSpec,
    /// Below what.
    pub below: Option<SourcePath>,
    /// With attributes.
    pub long: bool,
    /// Folders inside folders.
    pub recursive: bool,
}

/// `find`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// A glob.
    pub pattern: String,
    /// Only in this point; none means every point.
    pub point: Option<PointSpec>,
    /// Only in this job's points.
    pub job: Option<String>,
    /// Whether capitals and small letters are the same.
    pub ignore_case: bool,
}

/// `diff`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The first point.
    pub before: PointSpec,
    /// The second.
    pub after: PointSpec,
    /// Below what.
    pub below: Option<SourcePath>,
}

/// `cat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cat {
    /// Which point.
    pub point: PointSpec,
    /// Which entry; its path is given.
    pub entry: SourcePath,
}

/// `restore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// Which point.
    pub point: PointSpec,
    /// What of it: sources and paths, as named by `SOURCE[:PATH]` and `--source`. Empty
    /// means everything.
    pub selection: Vec<SourcePath>,
    /// Where to.
    pub destination: Destination,
    /// What about things in the way.
    pub conflict: Conflict,
    /// Only say what would be done.
    pub dry_run: bool,
    /// An owner that cannot be set is an error.
    pub strict_owner: bool,
    /// Compare with the point afterwards.
    pub verify: bool,
}

/// Where a restore puts things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `--to DIR`: each source in a folder of its name.
    Folder(PathBuf),
    /// `--in-place`: files where they came from.
    InPlace,
    /// `--run`: through each source's restore command.
    Run,
}

impl Destination {
    /// The target of one source of this name.
    pub fn of_source(&self, source: &str) -> RestoreTarget {
        match self {
            Self::Folder(folder) => RestoreTarget::Folder(folder.join(source)),
            Self::InPlace | Self::Run => RestoreTarget::Original,
        }
    }
}

/// `retention …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Removes what a rule does not keep; `plan` is a dry run of it.
    Apply {
        /// Of this job; none means every job of the configuration.
        job: Option<String>,
        /// In place of the configured rule.
        keep: Option<Keep>,
        /// Only say what would be removed.
        dry_run: bool,
    },
    /// Removes points by name.
    Remove {
        /// Which.
        points: Vec<PointSpec>,
        /// Why.
        reason: String,
        /// Only say what would be removed.
        dry_run: bool,
    },
    /// Takes note of points that are gone for good.
    Acknowledge {
        /// Of this job; none means every job.
        job: Option<String>,
        /// Why they are gone.
        reason: String,
        /// Only say which.
        dry_run: bool,
    },
}

/// `prune`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Most live bytes to move.
    pub max_repack_bytes: Option<u64>,
    /// A pack is repacked once this share of it is dead.
    pub repack_percent: u64,
    /// Open blobs too.
    pub compact: bool,
    /// Delete nothing.
    pub mark_only: bool,
    /// Go on although points are missing.
    pub accept_missing_points: bool,
}

/// `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// How much of the packs to read.
    pub read_data: Option<Subset>,
}

/// `doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doctor {
    /// Write nothing.
    pub read_only: bool,
    /// Print permissions instead.
    pub iam: Option<IamProvider>,
}

/// Whose permissions to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IamProvider {
    /// Everybody's.
    All,
    /// Amazon S3.
    Aws,
    /// Cloudflare R2.
    R2,
    /// Backblaze B2.
    B2,
    /// MinIO and RustFS.
    Minio,
    /// Garage.
    Garage,
    /// Ceph's object gateway.
    Ceph,
}

/// `key …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Lists recipients and hosts.
    List,
    /// Lets one more recipient open data.
    Add {
        /// As age writes it: `age1…`, `ssh-ed25519 …`, `age1yubikey1…`.
        recipient: String,
        /// Its name.
        label: Option<String>,
        /// What it must be.
        kind: Option<RecipientKind>,
        /// The root key, where it is not the identity given.
        root: Option<SecretRef>,
    },
    /// Takes a recipient away: what is backed up from now on it cannot open.
    Remove {
        /// Its id, or the beginning of it.
        id: String,
        /// The root key.
        root: Option<SecretRef>,
    },
    /// Makes keys on a new host, and a request to admit them.
    Request {
        /// What the host is to be.
        role: HostRole,
        /// Its name; by default the machine's.
        label: Option<String>,
        /// Where the request goes.
        out: PathBuf,
        /// Where the new keys go.
        keys: PathBuf,
    },
    /// Admits a host.
    Admit {
        /// The request.
        request: PathBuf,
        /// What it may do beyond backing up, or not do.
        right: Option<Right>,
        /// The root key.
        root: Option<SecretRef>,
    },
    /// Lets a writer remove other hosts' points.
    Grant {
        /// Its id, the beginning of it, or its name.
        id: String,
        /// The root key.
        root: Option<SecretRef>,
    },
    /// Says on whose index entries a writer relies.
    Share {
        /// Its id, the beginning of it, or its name.
        id: String,
        /// The writers; none for its own entries alone.
        with: Vec<String>,
        /// The root key.
        root: Option<SecretRef>,
    },
    /// Ends a host's rights.
    Revoke {
        /// Its id, or the beginning of it.
        id: String,
        /// The root key.
        root: Option<SecretRef>,
    },
    /// Begins new epochs.
    Rotate {
        /// Which.
        epochs: Round,
        /// The root key.
        root: Option<SecretRef>,
    },
}

/// `repair config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairConfig {
    /// The object to take away.
    pub remove: Option<String>,
    /// Only say what would be removed.
    pub dry_run: bool,
    /// The root key, where it is not the identity given.
    pub root: Option<SecretRef>,
}

/// A right that comes with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// May remove others' points.
    RemoveOthers,
    /// May only add.
    AppendOnly,
}

/// What a host may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HostRole {
    /// Backs up; opens no data.
    Writer,
    /// Restores and signs evidence; writes no points.
    Drill,
}

/// What sort of age recipient a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RecipientKind {
    /// A native age key.
    X25519,
    /// An SSH key.
    Ssh,
    /// A plugin's, such as a hardware key's.
    Plugin,
}

#[cfg(test)]
mod tests;
