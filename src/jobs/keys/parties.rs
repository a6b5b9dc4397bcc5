//! Who there is, and which one a person means.

use crate::model::{Error, ErrorKind, PartyId, Result};
use crate::repo::format::{Config, EpochKind};
use crate::repo::repository::Repository;
use crate::repo::sign::PublicKey;
use crate::report::outcome::{KeyList, KeyRecipient, KeyWriter};

use super::rights;

/// What a party is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May open everything; no host.
    Recipient,
    /// Backs up.
    Writer,
    /// Restores and signs evidence.
    Drill,
}

impl Role {
    /// For messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Writer => "writer",
            Self::Drill => "drill host",
        }
    }
}

/// One who is in the configuration now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Its id.
    pub id: PartyId,
    /// What it is.
    pub role: Role,
    /// Its name; empty where it has none.
    pub label: String,
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.label.as_str() {
            "" => write!(f, "{} {}", self.role.word(), self.id),
            label => write!(f, "{} {label} ({})", self.role.word(), self.id),
        }
    }
}

/// Everybody who is in the configuration now. A drill host stands once, not as a recipient too.
pub fn parties(repo: &Repository) -> Vec<Party> {
    let config = &repo.trusted().config;
    let is_host = |id: &PartyId| config.drills.iter().any(|d| d.id == *id);
    let recipients =
        config.recipients.iter().map(|r| r.id).filter(|id| !is_host(id)).map(|id| (id, Role::Recipient));
    let writers = config.writers.iter().map(|w| (w.id, Role::Writer));
    let drills = config.drills.iter().map(|d| (d.id, Role::Drill));
    recipients
        .chain(writers)
        .chain(drills)
        .map(|(id, role)| Party { id, role, label: label(repo, &id) })
        .collect()
}

fn label(repo: &Repository, id: &PartyId) -> String {
    repo.label(id).unwrap_or_default().to_owned()
}

/// Who is meant by an id, the beginning of one that only one has, or a name.
pub fn resolve_party(repo: &Repository, text: &str) -> Result<Party> {
    let hex = text.to_ascii_lowercase();
    let is_meant = |p: &Party| {
        (!hex.is_empty() && p.id.to_string().starts_with(&hex)) || (!text.is_empty() && p.label == text)
    };
    let mut found: Vec<Party> = parties(repo).into_iter().filter(is_meant).collect();
    let bad = |kind, why: String| {
        Error::new(kind, "find the key", why)
            .on(format!("{text:?}"))
            .hint("`muster key list` shows ids and names")
    };
    match found.len() {
        1 => Ok(found.remove(0)),
        0 if was_revoked(repo, text, &hex) => {
            Err(bad(ErrorKind::NotFound, "it was revoked already, and nothing is left to do".to_owned()))
        }
        0 => Err(bad(ErrorKind::NotFound, "no recipient and no host has this id or name".to_owned())),
        _ => {
            let all: Vec<String> = found.iter().map(Party::to_string).collect();
            Err(bad(ErrorKind::Usage, format!("it may mean {}", all.join(" or "))))
        }
    }
}

fn was_revoked(repo: &Repository, text: &str, hex: &str) -> bool {
    let revocations = &repo.trusted().config.revocations;
    !text.is_empty()
        && revocations
            .iter()
            .any(|r| r.party.to_string().starts_with(hex) || repo.label(&r.party) == Some(text))
}

/// `muster key list`.
pub fn list(repo: &Repository) -> Result<KeyList> {
    let config = &repo.trusted().config;
    let current = |kind| repo.trusted().current_epoch(kind).map(|epoch| epoch.id.to_string());
    let mut hosts = active_hosts(repo);
    if !config.revocations.is_empty() {
        hosts.extend(revoked_hosts(repo, &repo.config_history()?));
    }
    Ok(KeyList {
        config: config.number,
        root: config.root.to_string(),
        data_epoch: current(EpochKind::Data)?,
        metadata_epoch: current(EpochKind::Meta)?,
        recipients: recipients(repo),
        writers: hosts,
    })
}

fn recipients(repo: &Repository) -> Vec<KeyRecipient> {
    let row = |r: &crate::repo::format::Recipient| KeyRecipient {
        id: r.id.to_string(),
        label: label(repo, &r.id),
        kind: r.kind.clone(),
        recipient: r.recipient.clone().unwrap_or_default(),
    };
    repo.trusted().config.recipients.iter().map(row).collect()
}

fn active_hosts(repo: &Repository) -> Vec<KeyWriter> {
    let config = &repo.trusted().config;
    let host = |id: &PartyId, role: &str, key: &PublicKey| KeyWriter {
        id: id.to_string(),
        label: label(repo, id),
        role: role.to_owned(),
        status: "active".to_owned(),
        rights: Vec::new(),
        shares_with: Vec::new(),
        public_key: key.to_string(),
    };
    let writers = config.writers.iter().map(|w| KeyWriter {
        rights: rights::in_words(w.rights),
        shares_with: w.shares_with.iter().map(PartyId::to_string).collect(),
        ..host(&w.id, "writer", &w.signing_key)
    });
    writers.chain(config.drills.iter().map(|d| host(&d.id, "drill", &d.signing_key))).collect()
}

/// Revoked keys, those that were rotated included; earlier configurations tell their roles.
fn revoked_hosts(repo: &Repository, history: &[Config]) -> Vec<KeyWriter> {
    let was_drill = |id: &PartyId| history.iter().any(|c| c.drills.iter().any(|d| d.id == *id));
    let revocations = &repo.trusted().config.revocations;
    revocations
        .iter()
        .map(|r| KeyWriter {
            id: r.party.to_string(),
            label: label(repo, &r.party),
            role: if was_drill(&r.party) { "drill" } else { "writer" }.to_owned(),
            status: "revoked".to_owned(),
            rights: Vec::new(),
            shares_with: Vec::new(),
            public_key: r.signing_key.to_string(),
        })
        .collect()
}
