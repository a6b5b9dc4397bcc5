//! Who may open, write and prove: recipients, writers, drill hosts and epochs.
//!
//! Every change is made in one order: key files first, the root-signed configuration last. An
//! interrupted change leaves at worst key files that nothing refers to, and is simply run again.

mod epochs;
mod hosts;
mod parties;
mod recipients;
mod rights;

pub use epochs::Round;
pub use hosts::{Admission, HostRole, admission, admit, admit_with, request, revoke};
pub use parties::{Party, Role, list, parties, resolve_party};
pub use recipients::{add_recipient, remove_recipient};
pub use rights::{Right, grant_removing, share};

use age::x25519;

use crate::model::{Error, ErrorKind, PartyId, Result};
use crate::ports::{Clock, Entropy};
use crate::repo::format::{Config, Label};
use crate::repo::repository::Repository;
use crate::repo::sign::SignKey;
use crate::repo::trust::Trusted;
use crate::report::outcome::KeyChange;

/// What a change of keys needs beside the open repository.
pub struct Authority<'a, C: age::Callbacks> {
    /// Signs the next configuration.
    pub root: &'a SignKey,
    /// Asked for passphrases, and by plugins.
    pub callbacks: C,
    /// Makes ids.
    pub entropy: &'a dyn Entropy,
    /// Says when.
    pub clock: &'a dyn Clock,
}

/// Begins new epochs for everybody who is in the configuration now.
pub fn rotate<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    round: Round,
) -> Result<KeyChange> {
    require_root(repo, by.root)?;
    let config = Change::of(repo).commit(repo, by, Some(round))?.config.number;
    Ok(KeyChange {
        action: "rotate".to_owned(),
        id: None,
        file: None,
        config: Some(config),
        done: format!("what is backed up from now on is sealed to {}", round.in_words()),
        next: vec![
            "nothing that is stored was sealed anew: the old epochs stay, for reading".to_owned(),
            pin_hint(config),
        ],
    })
}

/// Refuses a root key that is not this repository's, before anything is written.
fn require_root(repo: &Repository, root: &SignKey) -> Result<()> {
    let wanted = repo.trusted().config.root;
    if root.public() == wanted {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::WrongKey,
        "change the keys",
        format!("the root key given is {}, and this repository's is {wanted}", root.public()),
    )
    .hint("give the recovery kit of this repository"))
}

/// The configuration as it is to become.
struct Change {
    next: Config,
    labels: Vec<Label>,
}

impl Change {
    fn of(repo: &Repository) -> Self {
        Self { next: repo.trusted().config.clone(), labels: repo.labels().to_vec() }
    }

    fn name(&mut self, party: PartyId, text: &str) {
        self.labels.retain(|label| label.party != party);
        self.labels.push(Label { party, text: text.to_owned() });
    }

    /// Begins the epochs of `round` for those who are in it now, then writes the configuration.
    fn commit<C: age::Callbacks>(
        mut self,
        repo: &Repository,
        by: &Authority<'_, C>,
        round: Option<Round>,
    ) -> Result<Trusted> {
        let begun = match round {
            Some(round) => epochs::begin(repo, by, &self.next, round)?,
            None => epochs::Begun::default(),
        };
        let meta: Option<x25519::Recipient> = begun.enter(&mut self.next);
        let Self { next, labels } = self;
        repo.amend_config(by.root, by.clock.now(), meta.as_ref(), move |config, all| {
            config.epochs = next.epochs;
            config.recipients = next.recipients;
            config.writers = next.writers;
            config.drills = next.drills;
            config.revocations = next.revocations;
            *all = labels;
            Ok(())
        })
    }
}

fn pin_hint(config: u64) -> String {
    format!(
        "set lowest_config = {config} in muster.toml on every host, so that none takes the state before for the newest"
    )
}

/// Names are for people: one line, not empty, not too long, and no two alike.
fn check_label(repo: &Repository, label: &str, but: Option<PartyId>) -> Result<()> {
    let bad =
        |why: String| Error::new(ErrorKind::Usage, "name the key", why).hint("give another with --label");
    if label.trim().is_empty() || label.len() > LABEL_MAX_BYTES || label.chars().any(char::is_control) {
        return Err(bad(format!("a name has 1 to {LABEL_MAX_BYTES} bytes in one line")));
    }
    match parties(repo).into_iter().find(|p| p.label == label && Some(p.id) != but) {
        Some(other) => Err(bad(format!("{} {} is called {label:?} already", other.role.word(), other.id))),
        None => Ok(()),
    }
}

const LABEL_MAX_BYTES: usize = 100;
