//! Epoch identities: who gets which, and new ones.

use age::x25519;

use crate::model::{EpochId, Error, ErrorKind, PartyId, Result, Secret};
use crate::repo::format::{Config, Epoch, EpochKind, EpochState, Recipient};
use crate::repo::keys::AnyRecipient;
use crate::repo::repository::{Repository, new_epoch};

use super::Authority;

/// Which epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// What content is sealed to.
    Data,
    /// What names, sizes and lists are sealed to.
    Metadata,
    /// Both.
    All,
}

impl Round {
    fn kinds(self) -> &'static [EpochKind] {
        match self {
            Self::Data => &[EpochKind::Data],
            Self::Metadata => &[EpochKind::Meta],
            Self::All => &[EpochKind::Data, EpochKind::Meta],
        }
    }

    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Data => "a new data epoch",
            Self::Metadata => "a new metadata epoch",
            Self::All => "new data and metadata epochs",
        }
    }
}

/// Somebody who is to have epoch identities.
pub(super) struct Holder {
    pub(super) id: PartyId,
    pub(super) recipient: AnyRecipient,
}

impl Holder {
    pub(super) fn host(id: PartyId, recipient: &str) -> Result<Self> {
        Ok(Self { id, recipient: AnyRecipient::parse(recipient)? })
    }
}

/// New epochs whose key files are stored.
#[derive(Default)]
pub(super) struct Begun {
    epochs: Vec<Epoch>,
    meta: Option<x25519::Recipient>,
}

impl Begun {
    /// Makes them the current ones. Answers with the new metadata recipient, where there is one.
    pub(super) fn enter(self, config: &mut Config) -> Option<x25519::Recipient> {
        for new in self.epochs {
            let before =
                config.epochs.iter_mut().filter(|e| e.kind == new.kind && e.state == EpochState::Current);
            before.for_each(|epoch| epoch.state = EpochState::Retired);
            config.epochs.push(new);
        }
        self.meta
    }
}

/// Makes new epochs and stores their identities for everybody in `next`.
pub(super) fn begin<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    next: &Config,
    round: Round,
) -> Result<Begun> {
    let recipients =
        next.recipients.iter().map(|r| recovery_holder(repo, by, r)).collect::<Result<Vec<_>>>()?;
    let writers =
        next.writers.iter().map(|w| Holder::host(w.id, &w.recipient)).collect::<Result<Vec<_>>>()?;
    let mut begun = Begun::default();
    for kind in round.kinds() {
        let (epoch, identity) = new_epoch(*kind, by.entropy)?;
        let hosts: &[Holder] = if *kind == EpochKind::Meta { &writers } else { &[] };
        for holder in recipients.iter().chain(hosts) {
            repo.put_key(
                &epoch.id,
                &identity,
                &holder.id,
                &holder.recipient,
                by.callbacks.clone(),
                by.entropy,
            )?;
        }
        if *kind == EpochKind::Meta {
            begun.meta = Some(identity.to_public());
        }
        begun.epochs.push(epoch);
    }
    Ok(begun)
}

fn recovery_holder<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    entry: &Recipient,
) -> Result<Holder> {
    let recipient = match &entry.recipient {
        Some(text) => AnyRecipient::parse(text)?,
        None => AnyRecipient::Passphrase(ask_passphrase(repo, by, entry)?),
    };
    Ok(Holder { id: entry.id, recipient })
}

/// A passphrase recipient is its passphrase: nothing can be sealed to it without.
fn ask_passphrase<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    entry: &Recipient,
) -> Result<Secret<String>> {
    use age::secrecy::ExposeSecret;
    let who = match repo.label(&entry.id) {
        Some(label) => format!("recipient {label} ({})", entry.id),
        None => format!("recipient {}", entry.id),
    };
    let wrong = |why: &str| {
        Error::new(ErrorKind::WrongKey, "seal the new epochs", why)
            .on(who.clone())
            .hint("give its passphrase, or take the recipient away with `muster key remove`")
    };
    let passphrase = by
        .callbacks
        .request_passphrase(&format!("Passphrase of {who}"))
        .ok_or_else(|| wrong("its passphrase is needed, and there is nobody to ask for it"))?;
    let identity = age::scrypt::Identity::new(passphrase.clone());
    if !repo.opens_key_of(&entry.id, &identity)? {
        return Err(wrong("the passphrase given is not the one that opens its key files"));
    }
    Ok(Secret::new(passphrase.expose_secret().to_owned()))
}

/// Stores the identities of all epochs of `round`, retired ones too, for one more holder.
pub(super) fn hand_over<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    holder: &Holder,
    round: Round,
) -> Result<()> {
    for (epoch, identity) in identities(repo, round)? {
        repo.put_key(&epoch, identity, &holder.id, &holder.recipient, by.callbacks.clone(), by.entropy)?;
    }
    Ok(())
}

/// The identities of all epochs of `round`: all of them, or an error that names the first that is not at hand.
pub(super) fn identities(repo: &Repository, round: Round) -> Result<Vec<(EpochId, &x25519::Identity)>> {
    let wanted = repo.trusted().config.epochs.iter().filter(|e| round.kinds().contains(&e.kind));
    wanted
        .map(|epoch| {
            let kind = if epoch.kind == EpochKind::Data { "data" } else { "metadata" };
            let identity = repo.epoch(&epoch.id)?.identity.as_ref();
            let identity = identity.ok_or_else(|| {
                Error::new(
                    ErrorKind::WrongKey,
                    "hand over the epoch keys",
                    format!("no key at hand opens {kind} epoch {}", epoch.id),
                )
                .hint("give a recovery identity with --identity file:KIT")
            })?;
            Ok((epoch.id, identity))
        })
        .collect()
}
