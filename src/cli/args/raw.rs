//! Arguments as clap takes them. References to secrets are plain text here, so that clap
//! never repeats a secret that was given in place of a reference.

mod key;
mod upkeep;

use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::model::{Error, ErrorKind, Result, SecretRef, parse_size};
use crate::policy::config::check_address;
use crate::ports::Conflict;

use self::key::{RawKey, RawRepair};
use self::upkeep::{RawPrune, RawRetention};
use super::s3::RawS3;
use super::values::{PointSpec, SourcePath, Subset};
use super::{
    Backup, Cat, Check, Command, Destination, Diff, Doctor, Find, Global, IamProvider, Init, Ls, Passphrase,
    Points, Restore, Verbosity,
};

const AFTER: &str = "\
POINT is `latest`, `latest:JOB`, or the first letters of a point that `muster points` lists.
A path inside a point is SOURCE:PATH. REF is where a secret stands: env:NAME, file:PATH or
cmd:COMMAND; secrets are never given in plain text.

Exit status:
  0  done, or nothing to do
  1  failed
  2  the command line or the configuration is wrong
  3  done, but with failed or incomplete sources, or failed checks
  4  refused, to keep data safe";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "muster", version, about, long_about = None, after_help = AFTER, propagate_version = false)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct RawCli {
    #[command(flatten)]
    global: RawGlobal,
    #[command(subcommand)]
    command: RawCommand,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct RawGlobal {
    /// Configuration file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "MUSTER_CONFIG",
        default_value = "muster.toml"
    )]
    config: PathBuf,
    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    json: bool,
    /// A key beside this host's own, such as the recovery kit; may be repeated
    #[arg(long, global = true, value_name = "REF", env = "MUSTER_IDENTITY", hide_env_values = true)]
    identity: Vec<String>,
    /// Most memory to hold, such as 256MiB
    #[arg(long, global = true, value_name = "SIZE")]
    memory: Option<String>,
    /// Where the index is cached
    #[arg(long, global = true, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Answer every question with yes
    #[arg(long, global = true)]
    yes: bool,
    /// Print errors and the outcome only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more; twice: everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Show no progress
    #[arg(long, global = true)]
    no_progress: bool,
}

#[derive(Debug, Subcommand)]
enum RawCommand {
    Init(Box<RawInit>),
    Backup(RawBackup),
    Points(RawPoints),
    Ls(RawLs),
    Find(RawFind),
    Diff(RawDiff),
    Cat(RawCat),
    Restore(RawRestore),
    #[command(subcommand)]
    Retention(RawRetention),
    Prune(RawPrune),
    Check(RawCheck),
    Doctor(RawDoctor),
    /// Repair what can be rebuilt
    #[command(subcommand)]
    Repair(RawRepair),
    /// Keys: who can open data, and which hosts may do what
    #[command(subcommand)]
    Key(RawKey),
    /// Print a shell's completion script
    ///
    /// Example: muster completions bash > /etc/bash_completion.d/muster
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Make a repository
///
/// Makes the root key, a recovery identity and this host's writer keys; writes the recovery
/// kit once, to the file you name, and a commented muster.toml. The place must be empty.
///
/// Move the recovery kit away from this machine afterwards: without it nobody can restore,
/// and whoever has it can read everything. This host cannot open what it backs up.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  muster init --store file:///srv/backup --kit /media/usb/recovery-kit.txt
  muster init --store file:///srv/backup --kit kit.txt --passphrase
  muster init --store file:///srv/backup --kit kit.txt --recipient age1… --writer-label web-1
  muster init --store s3://bucket/app --kit kit.txt --s3-region eu-central-1
  muster init --store s3://bucket/app --kit kit.txt --s3-endpoint https://s3.example.org")]
struct RawInit {
    /// Where the repository is to be: file:///PATH or s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    store: String,
    /// File that the recovery kit is written to; it must not exist
    #[arg(long, value_name = "FILE")]
    kit: PathBuf,
    /// This host's name in the repository [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    writer_label: Option<String>,
    /// One more age recipient that can open data: age1…, ssh-ed25519 …; may be repeated
    #[arg(long, value_name = "AGE_RECIPIENT")]
    recipient: Vec<String>,
    /// Protect the kit by a passphrase, which is asked for
    #[arg(long)]
    passphrase: bool,
    /// Protect the kit by the passphrase that stands there
    #[arg(long, value_name = "REF", conflicts_with = "passphrase")]
    passphrase_from: Option<String>,
    #[command(flatten)]
    s3: RawS3,
}

/// Capture a job's sources into a new recovery point
///
/// A source that fails, or items that cannot be read, make the exit status 3; everything
/// else is kept, and what is missing is named. An interrupted backup is simply run again:
/// what is stored already is not sent again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  muster backup
  muster backup app --tag before-upgrade
  muster backup app --dry-run")]
struct RawBackup {
    /// The job [default: the only one]
    job: Option<String>,
    /// A word for finding the point again; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Read everything and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Read files again although they look unchanged
    #[arg(long)]
    force_read: bool,
}

/// List recovery points
#[derive(Debug, Args)]
struct RawPoints {
    /// Only this job's
    #[arg(long)]
    job: Option<String>,
    /// Also those that are void or removed
    #[arg(long)]
    all: bool,
}

/// List what is in a point
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  muster ls latest
  muster ls latest:app docs:srv/docs -l
  muster ls 01KAJ docs -R")]
struct RawLs {
    /// The point
    point: String,
    /// A source, or a folder in it
    #[arg(value_name = "SOURCE[:PATH]")]
    below: Option<String>,
    /// With mode, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Also what is inside folders
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// Find entries by name
///
/// Looks in every point, newest first, unless --point or --job says otherwise.
#[derive(Debug, Args)]
#[command(after_long_help = "\
PATTERN is a glob. One without a slash is compared with the last part of each path, one
with a slash with the whole path.

Examples:
  muster find '*.pdf' --point latest
  muster find 'srv/**/invoice-*' --job app -i")]
struct RawFind {
    /// A glob
    pattern: String,
    /// Only in this point
    #[arg(long, value_name = "POINT", conflicts_with = "job")]
    point: Option<String>,
    /// Only in this job's points
    #[arg(long)]
    job: Option<String>,
    /// Take capital and small letters as the same
    #[arg(short, long)]
    ignore_case: bool,
}

/// Show what changed between two points
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  muster diff 01KAJ latest docs:srv/docs")]
struct RawDiff {
    /// The earlier point
    point_a: String,
    /// The later point
    point_b: String,
    /// Only this source, or this path in it
    #[arg(value_name = "SOURCE[:PATH]")]
    below: Option<String>,
}

/// Write one entry's content to standard output
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  muster cat latest db:app.dump --identity file:kit.txt | pg_restore --list")]
struct RawCat {
    /// The point
    point: String,
    /// The entry
    #[arg(value_name = "SOURCE:PATH")]
    entry: String,
}

/// Put a point, some of its sources, or some paths back
///
/// Restoring needs a key that can open data: the recovery kit (--identity), or a drill
/// host's. Nothing is overwritten: a target that is not empty needs --replace, and that
/// asks. Nothing is ever written outside the target.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("destination").required(true).args(["to", "in_place", "run"]))]
#[command(after_long_help = "\
With --to, each source goes into a folder of its name below DIR.

Examples:
  muster restore latest --to /tmp/out --identity file:kit.txt
  muster restore latest docs:srv/docs/contract.pdf --to . --identity file:kit.txt
  muster restore latest:app --source db --run --identity cmd:'pass show muster-kit'
  muster restore 01KAJ docs --in-place --replace --verify --identity file:kit.txt")]
struct RawRestore {
    /// The point
    point: String,
    /// Sources, or paths in them [default: everything]
    #[arg(value_name = "SOURCE[:PATH]")]
    paths: Vec<String>,
    /// A whole source; may be repeated
    #[arg(long, value_name = "SOURCE")]
    source: Vec<String>,
    /// Into this folder
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Where it came from
    #[arg(long)]
    in_place: bool,
    /// Through the restore commands of the sources
    #[arg(long)]
    run: bool,
    /// Replace what has the same name; with `mirror`, also remove what is not in the point
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "replace")]
    replace: Option<ReplaceMode>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Fail where an owner cannot be set
    #[arg(long)]
    strict_owner: bool,
    /// Compare everything with the point afterwards
    #[arg(long)]
    verify: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReplaceMode {
    Replace,
    Mirror,
}

/// Look for damage
///
/// Checks signatures, points, indexes and that every pack is there. With --read-data, every
/// pack is read and its bytes proven; with a key that can open data, its content too.
/// Damage makes the exit status 3, and names the points and paths that it hurts.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  muster check
  muster check --read-data-subset 5%
  muster check --read-data-subset 2/7     # the second of seven parts, say on Tuesdays")]
struct RawCheck {
    /// Read every pack
    #[arg(long)]
    read_data: bool,
    /// Read part of the packs: 5%, or n/t for the n-th of t parts
    #[arg(long, value_name = "SUBSET", conflicts_with = "read_data")]
    read_data_subset: Option<String>,
}

/// Find out what the store can do, and whether the settings fit
///
/// Tries the store out with small objects below probe/, and removes them: whether a put
/// creates only where nothing is, also when many race; whether lists show at once what was
/// put and deleted; how far the clocks differ; ranges and checksums; versioning and Object
/// Lock. Says what each finding means. A finding that hurts makes the exit status 3.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  muster doctor
  muster doctor --read-only      # on a drill host, which may not write
  muster doctor --iam aws        # or r2, b2, minio, garage, ceph; without a name all of them")]
struct RawDoctor {
    /// Write nothing: only read and list
    #[arg(long)]
    read_only: bool,
    /// Print the permissions that each kind of host needs, and contact nobody
    #[arg(long, value_name = "PROVIDER", num_args = 0..=1, default_missing_value = "all", conflicts_with = "read_only")]
    iam: Option<IamProvider>,
}

impl RawCli {
    /// Checks the arguments into the types that commands work with.
    pub fn validate(self) -> Result<(Global, Command)> {
        Ok((self.global.validate()?, self.command.validate()?))
    }
}

impl RawGlobal {
    fn validate(self) -> Result<Global> {
        // MUSTER_IDENTITY set to nothing means the same as not set.
        let given = self.identity.iter().filter(|text| !text.is_empty());
        let identities = given.map(|text| reference("--identity", text));
        Ok(Global {
            config: self.config,
            json: self.json,
            identities: identities.collect::<Result<_>>()?,
            memory_bytes: self.memory.as_deref().map(memory).transpose()?,
            cache_dir: self.cache_dir,
            yes: self.yes,
            verbosity: match (self.quiet, self.verbose) {
                (true, _) => Verbosity::Quiet,
                (_, 0) => Verbosity::Normal,
                (_, 1) => Verbosity::Debug,
                _ => Verbosity::Trace,
            },
            progress: !self.no_progress,
        })
    }
}

impl RawCommand {
    fn validate(self) -> Result<Command> {
        Ok(match self {
            Self::Init(raw) => Command::Init(Box::new(raw.validate()?)),
            Self::Backup(raw) => Command::Backup(raw.validate()?),
            Self::Points(raw) => Command::Points(Points { job: raw.job, all: raw.all }),
            Self::Ls(raw) => Command::Ls(raw.validate()?),
            Self::Find(raw) => Command::Find(raw.validate()?),
            Self::Diff(raw) => Command::Diff(raw.validate()?),
            Self::Cat(raw) => Command::Cat(raw.validate()?),
            Self::Restore(raw) => Command::Restore(raw.validate()?),
            Self::Retention(raw) => Command::Retention(raw.validate()?),
            Self::Prune(raw) => Command::Prune(raw.validate()?),
            Self::Check(raw) => Command::Check(raw.validate()?),
            Self::Doctor(raw) => Command::Doctor(Doctor { read_only: raw.read_only, iam: raw.iam }),
            Self::Repair(raw) => raw.validate()?,
            Self::Key(raw) => Command::Key(raw.validate()?),
            Self::Completions { shell } => Command::Completions(shell),
        })
    }
}

/// The address as it is kept: a plain path becomes `file://` with everything from the root.
fn store_address(given: String) -> Result<String, Error> {
    if given.contains("://") || given.is_empty() {
        return Ok(given);
    }
    // `s3:/bucket` or `s3//bucket` would be a folder, and its owner would learn of it on a bad day.
    if !given.starts_with(['/', '.']) {
        return Err(Error::new(ErrorKind::Usage, "use the repository's place", "it is neither a URL nor plainly a path")
            .on(given)
            .hint("write s3://bucket/prefix, file:///absolute/path, an absolute path, or a path that begins with ./"));
    }
    let path = std::path::absolute(&given).map_err(|error| Error::io("find", given, error))?;
    let mut address = "file://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                address.push(char::from(*byte))
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    Ok(address)
}

impl RawInit {
    fn validate(self) -> Result<Init> {
        let passphrase = match (self.passphrase, self.passphrase_from) {
            (true, _) => Passphrase::Ask,
            (false, Some(text)) => Passphrase::From(reference("--passphrase-from", &text)?),
            (false, None) => Passphrase::None,
        };
        let store = store_address(self.store)?;
        check_address(&store).map_err(|error| error.with_kind(ErrorKind::Usage).on("given by --store"))?;
        Ok(Init {
            store,
            kit: self.kit,
            writer_label: self.writer_label.map(|text| label("--writer-label", text)).transpose()?,
            recipients: self.recipient,
            passphrase,
            s3: self.s3.validate()?,
        })
    }
}

impl RawBackup {
    fn validate(self) -> Result<Backup> {
        let tags = self.tag.into_iter().map(|text| label("--tag", text)).collect::<Result<_>>()?;
        Ok(Backup { job: self.job, tags, dry_run: self.dry_run, force_read: self.force_read })
    }
}

impl RawLs {
    fn validate(self) -> Result<Ls> {
        let below = self.below.as_deref().map(str::parse).transpose()?;
        Ok(Ls { point: self.point.parse()?, below, long: self.long, recursive: self.recursive })
    }
}

impl RawFind {
    fn validate(self) -> Result<Find> {
        globset::Glob::new(&self.pattern).map_err(|error| {
            Error::new(ErrorKind::Usage, "read the pattern", error.kind().to_string())
                .on(format!("{:?}", self.pattern))
                .hint("a glob has * ? [a-z] {a,b} **; a backslash takes a character as it is")
        })?;
        let point = self.point.as_deref().map(str::parse::<PointSpec>).transpose()?;
        Ok(Find { pattern: self.pattern, point, job: self.job, ignore_case: self.ignore_case })
    }
}

impl RawDiff {
    fn validate(self) -> Result<Diff> {
        let below = self.below.as_deref().map(str::parse).transpose()?;
        Ok(Diff { before: self.point_a.parse()?, after: self.point_b.parse()?, below })
    }
}

impl RawCat {
    fn validate(self) -> Result<Cat> {
        let entry: SourcePath = self.entry.parse()?;
        if entry.path.is_none() {
            return Err(Error::new(ErrorKind::Usage, "choose an entry", "the path in the source is missing")
                .hint("write SOURCE:PATH; `muster ls` shows them"));
        }
        Ok(Cat { point: self.point.parse()?, entry })
    }
}

impl RawRestore {
    fn validate(self) -> Result<Restore> {
        let sources = self.source.iter().map(|name| SourcePath::whole(name));
        let paths = self.paths.iter().map(|text| text.parse());
        Ok(Restore {
            point: self.point.parse()?,
            selection: sources.chain(paths).collect::<Result<_>>()?,
            destination: match (self.to, self.in_place) {
                (Some(folder), _) => Destination::Folder(folder),
                (None, true) => Destination::InPlace,
                // clap lets exactly one of the three through.
                (None, false) => Destination::Run,
            },
            conflict: match self.replace {
                None => Conflict::Refuse,
                Some(ReplaceMode::Replace) => Conflict::Replace,
                Some(ReplaceMode::Mirror) => Conflict::Mirror,
            },
            dry_run: self.dry_run,
            strict_owner: self.strict_owner,
            verify: self.verify,
        })
    }
}

impl RawCheck {
    fn validate(self) -> Result<Check> {
        let subset = self.read_data_subset.as_deref().map(str::parse).transpose()?;
        Ok(Check { read_data: if self.read_data { Some(Subset::All) } else { subset } })
    }
}

/// A reference on the command line. Plain text is refused and not repeated.
pub(super) fn reference(flag: &str, text: &str) -> Result<SecretRef> {
    text.parse().map_err(|error: Error| {
        let error = error.with_kind(ErrorKind::Usage).on(format!("given by {flag}"));
        // Only the name of a file that is there is repeated: it can be no secret.
        if std::path::Path::new(text).is_file() {
            error.hint(format!("did you mean file:{text}?"))
        } else {
            error
        }
    })
}

fn memory(text: &str) -> Result<u64> {
    match parse_size(text)? {
        0 => Err(Error::new(ErrorKind::Usage, "use the size", "it is zero").on("given by --memory")),
        bytes => Ok(bytes),
    }
}

/// A short word that people see in lists.
pub(super) fn label(flag: &str, text: String) -> Result<String> {
    let is_good = !text.is_empty() && text.len() <= 64 && !text.chars().any(|c| c.is_control() || c == ',');
    match is_good {
        true => Ok(text),
        false => Err(Error::new(
            ErrorKind::Usage,
            "use the word",
            "it is empty, longer than 64 bytes, or has a comma or control character in it",
        )
        .on(format!("given by {flag}"))),
    }
}
