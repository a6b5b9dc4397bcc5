//! `key` and `repair`: what only whoever has the recovery kit does, and what mends.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use crate::cli::args::values::Round;
use crate::cli::args::{Command, HostRole, Key, RecipientKind, RepairConfig, Right};
use crate::model::{Result, SecretRef};

use super::{label, reference};

#[derive(Debug, Subcommand)]
pub(super) enum RawRepair {
    /// Rebuild the index from the packs
    Index {
        /// Only say what would be written
        #[arg(long)]
        dry_run: bool,
    },
    /// Show which object of the configuration is in the way, and take it away
    ///
    /// Where two changes of keys were made at the same moment and one was not taken back, every
    /// command says that the chain was forked. This names both, with what each changes. Find out
    /// which command was told that it succeeded, and remove the other one's object; what that one
    /// was to do is then done again. Needs the recovery kit. Asks before it removes anything.
    ///
    /// Example: muster repair config --remove config/00000007-5f2c… --identity file:kit.txt
    Config {
        /// The object, or the first letters of the hash in its name
        #[arg(long, value_name = "NAME")]
        remove: Option<String>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        root: RawRoot,
    },
}

#[derive(Debug, Args)]
pub(super) struct RawRoot {
    /// The root key [default: the recovery kit given by --identity]
    #[arg(long, value_name = "REF")]
    root: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum RawKey {
    /// List recipients and hosts
    List,
    /// Let one more recipient open data, what is stored already included
    ///
    /// Example: muster key add age1… --label office-safe --identity file:kit.txt
    Add {
        /// As age writes it: age1…, ssh-ed25519 …, age1yubikey1…
        recipient: String,
        /// Its name
        #[arg(long, value_name = "NAME")]
        label: Option<String>,
        /// Refuse it if it is not of this kind
        #[arg(long)]
        kind: Option<RecipientKind>,
        #[command(flatten)]
        root: RawRoot,
    },
    /// Take a recipient away
    ///
    /// It cannot open what is backed up from now on. What it could open before, it still can.
    Remove {
        /// Its id, or the first letters of it
        id: String,
        #[command(flatten)]
        root: RawRoot,
    },
    /// Make this host's keys, and a request to admit them
    ///
    /// Example: muster key request --out web-2.request, then where the kit is:
    /// muster key admit web-2.request --identity file:kit.txt
    Request {
        /// What this host is to be
        #[arg(long, default_value = "writer")]
        role: HostRole,
        /// Its name [default: the machine's name]
        #[arg(long, value_name = "NAME")]
        label: Option<String>,
        /// File that the request is written to; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// File that the keys are written to; it must not exist
        #[arg(long, value_name = "FILE", default_value = "muster.key")]
        keys: PathBuf,
    },
    /// Admit a host that made a request
    ///
    /// New keys of a host that is admitted have the rights of its old ones, unless a right is named.
    Admit {
        /// The request
        #[arg(value_name = "FILE")]
        request: PathBuf,
        /// Let it remove other hosts' points, too
        #[arg(long, conflicts_with = "append_only")]
        may_remove_others: bool,
        /// Let it only add: it removes no points, not even its own. Stays as long as its key
        #[arg(long)]
        append_only: bool,
        #[command(flatten)]
        root: RawRoot,
    },
    /// Give a host that is admitted a right
    ///
    /// A right goes only with the key: `muster key revoke`, and new keys.
    Grant {
        /// Its id, the first letters of it, or its name
        id: String,
        /// Let it remove other hosts' points, too
        #[arg(long, required = true)]
        may_remove_others: bool,
        #[command(flatten)]
        root: RawRoot,
    },
    /// Let a host refer to what other hosts stored, in place of storing it again
    ///
    /// It then relies on what these hosts say about where pieces are: one of them that lies makes
    /// its points unreadable. One way only; what is named replaces what was named before.
    ///
    /// Example: muster key share web-2 --with web-1 --identity file:kit.txt
    #[command(group = ArgGroup::new("whom").required(true).args(["with", "with_nobody"]))]
    Share {
        /// Its id, the first letters of it, or its name
        id: String,
        /// A host on which it relies; may be repeated
        #[arg(long, value_name = "ID")]
        with: Vec<String>,
        /// Refer to nothing but what it stored itself
        #[arg(long)]
        with_nobody: bool,
        #[command(flatten)]
        root: RawRoot,
    },
    /// End a host's rights; the points that it wrote until now stay trusted
    Revoke {
        /// Its id, or the first letters of it
        id: String,
        #[command(flatten)]
        root: RawRoot,
    },
    /// Begin new epoch keys
    #[command(group = ArgGroup::new("epochs").required(true).args(["data", "metadata", "all"]))]
    Rotate {
        /// The data epoch
        #[arg(long)]
        data: bool,
        /// The metadata epoch
        #[arg(long)]
        metadata: bool,
        /// Both
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        root: RawRoot,
    },
}

impl RawRoot {
    pub(super) fn validate(self) -> Result<Option<SecretRef>> {
        self.root.as_deref().map(|text| reference("--root", text)).transpose()
    }
}

impl RawKey {
    pub(super) fn validate(self) -> Result<Key> {
        let named = |text: Option<String>| text.map(|text| label("--label", text)).transpose();
        Ok(match self {
            Self::List => Key::List,
            Self::Add { recipient, label, kind, root } => {
                Key::Add { recipient, label: named(label)?, kind, root: root.validate()? }
            }
            Self::Remove { id, root } => Key::Remove { id, root: root.validate()? },
            Self::Request { role, label, out, keys } => {
                Key::Request { role, label: named(label)?, out, keys }
            }
            Self::Admit { request, may_remove_others, append_only, root } => {
                let right = match (may_remove_others, append_only) {
                    (true, _) => Some(Right::RemoveOthers),
                    (false, true) => Some(Right::AppendOnly),
                    (false, false) => None,
                };
                Key::Admit { request, right, root: root.validate()? }
            }
            // clap lets it through with its flag alone: there is one right that can be given.
            Self::Grant { id, may_remove_others: _, root } => Key::Grant { id, root: root.validate()? },
            Self::Share { id, with, with_nobody: _, root } => Key::Share { id, with, root: root.validate()? },
            Self::Revoke { id, root } => Key::Revoke { id, root: root.validate()? },
            Self::Rotate { data, all, root, .. } => {
                let epochs = match (all, data) {
                    (true, _) => Round::All,
                    (false, true) => Round::Data,
                    (false, false) => Round::Metadata,
                };
                Key::Rotate { epochs, root: root.validate()? }
            }
        })
    }
}

impl RawRepair {
    pub(super) fn validate(self) -> Result<Command> {
        Ok(match self {
            Self::Index { dry_run } => Command::RepairIndex { dry_run },
            Self::Config { remove, dry_run, root } => {
                Command::RepairConfig(RepairConfig { remove, dry_run, root: root.validate()? })
            }
        })
    }
}
