//! Recovery recipients.

use crate::model::{Error, ErrorKind, PartyId, Result};
use crate::repo::format::{Config, Recipient};
use crate::repo::keys::AnyRecipient;
use crate::repo::repository::{Repository, random};
use crate::report::outcome::KeyChange;

use super::epochs::{self, Holder, Round};
use super::{Authority, Change, Role, check_label, pin_hint, require_root, resolve_party};

/// Lets one more recipient open everything, what was backed up before too.
pub fn add_recipient<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    recipient: &AnyRecipient,
    label: &str,
) -> Result<KeyChange> {
    require_root(repo, by.root)?;
    check_label(repo, label, None)?;
    refuse_known(repo, recipient)?;
    let holder = Holder { id: PartyId(random(by.entropy)?), recipient: recipient.clone() };
    epochs::hand_over(repo, by, &holder, Round::All)?;
    let mut change = Change::of(repo);
    change.next.recipients.push(Recipient {
        id: holder.id,
        kind: recipient.kind().to_owned(),
        recipient: recipient.text(),
    });
    change.name(holder.id, label);
    let config = change.commit(repo, by, None)?.config.number;
    Ok(KeyChange {
        action: "add".to_owned(),
        id: Some(holder.id.to_string()),
        file: None,
        config: Some(config),
        done: format!("recipient {label} ({}) can open everything, what was backed up before too", holder.id),
        next: vec!["prove that it works: restore something with this key alone".to_owned(), pin_hint(config)],
    })
}

/// Refuses a recipient that is there, or that a host uses.
fn refuse_known(repo: &Repository, recipient: &AnyRecipient) -> Result<()> {
    let known = match (recipient.text(), recipient) {
        (Some(text), _) => user_of(&repo.trusted().config, &text),
        (None, AnyRecipient::Passphrase(secret)) => {
            let secret = age::secrecy::SecretString::from(secret.expose().clone());
            passphrase_user(repo, &age::scrypt::Identity::new(secret))?
        }
        (None, _) => None,
    };
    match known {
        Some(id) => Err(already_used(repo, &id)),
        None => Ok(()),
    }
}

/// Whose age recipient that is already.
pub(super) fn user_of(config: &Config, text: &str) -> Option<PartyId> {
    let recipients = config.recipients.iter().map(|r| (r.id, r.recipient.as_deref()));
    let writers = config.writers.iter().map(|w| (w.id, Some(w.recipient.as_str())));
    recipients.chain(writers).find(|(_, used)| *used == Some(text)).map(|(id, _)| id)
}

fn passphrase_user(repo: &Repository, identity: &age::scrypt::Identity) -> Result<Option<PartyId>> {
    for entry in repo.trusted().config.recipients.iter().filter(|r| r.recipient.is_none()) {
        if repo.opens_key_of(&entry.id, identity)? {
            return Ok(Some(entry.id));
        }
    }
    Ok(None)
}

pub(super) fn already_used(repo: &Repository, id: &PartyId) -> Error {
    let who = repo.label(id).map_or_else(|| id.to_string(), |label| format!("{label} ({id})"));
    Error::new(ErrorKind::Exists, "take the recipient", format!("{who} has this very key already"))
        .hint("every party has a key of its own; `muster key list` shows them")
}

/// Takes a recipient away: what is backed up from now on it cannot open.
pub fn remove_recipient<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    name: &str,
) -> Result<KeyChange> {
    require_root(repo, by.root)?;
    let party = resolve_party(repo, name)?;
    refuse_removal(&repo.trusted().config, party.role, &party.id).map_err(|e| e.on(party.to_string()))?;
    let mut change = Change::of(repo);
    change.next.recipients.retain(|r| r.id != party.id);
    change.labels.retain(|label| label.party != party.id);
    let config = change.commit(repo, by, Some(Round::All))?.config.number;
    Ok(KeyChange {
        action: "remove".to_owned(),
        id: Some(party.id.to_string()),
        file: None,
        config: Some(config),
        done: format!("{party} cannot open what is new from now on: names and content are sealed to new epochs"),
        next: vec![
            "what it could read it still can: everything stored until now, and chunks of it that later backups refer to, stay sealed to the old epochs, and its old key files stay".to_owned(),
            "if its key is in wrong hands, take away its access to the store, and change what the backups contain that is secret (passwords, tokens)".to_owned(),
            pin_hint(config),
        ],
    })
}

fn refuse_removal(config: &Config, role: Role, id: &PartyId) -> Result<()> {
    let refused = |why: &str, hint: String| Err(Error::new(ErrorKind::Refused, "remove", why).hint(hint));
    let drill = |id: &PartyId| config.drills.iter().find(|d| d.recipient == *id);
    if role == Role::Writer {
        return refused(
            "it is a writer, which opens no data",
            format!("end its rights with `muster key revoke {id}`"),
        );
    }
    if let Some(host) = drill(id).or_else(|| config.drills.iter().find(|d| d.id == *id)) {
        return refused(
            "a drill host uses it",
            format!("revoke that host first: `muster key revoke {}`", host.id),
        );
    }
    if !config.recipients.iter().any(|r| r.id != *id && drill(&r.id).is_none()) {
        return refused(
            "it is the last recovery recipient: nobody but drill hosts could restore",
            "add another first: `muster key add`".to_owned(),
        );
    }
    Ok(())
}
