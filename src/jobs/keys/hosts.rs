//! Writers and drill hosts.

use std::collections::BTreeMap;

use crate::model::{Error, ErrorKind, PartyId, Result};
use crate::ports::Entropy;
use crate::repo::format::{Config, DrillHost, KeyRequestBody, Recipient, Revocation, TrustedUpTo, Writer};
use crate::repo::keys::{HostKeys, KeyRequest};
use crate::repo::points::PointList;
use crate::repo::repository::Repository;
use crate::repo::sign::PublicKey;
use crate::report::outcome::KeyChange;

use super::epochs::{self, Holder, Round};
use super::recipients::{already_used, user_of};
use super::{
    Authority, Change, Party, Right, Role, check_label, parties, pin_hint, require_root, resolve_party,
};

/// What a host asks to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRole {
    /// Backs up; opens no data.
    Writer,
    /// Restores and signs evidence; writes no points.
    Drill,
}

impl HostRole {
    fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Drill => "drill",
        }
    }

    fn role(self) -> Role {
        match self {
            Self::Writer => Role::Writer,
            Self::Drill => Role::Drill,
        }
    }

    /// Which epochs such a host opens.
    fn round(self) -> Round {
        match self {
            Self::Writer => Round::Metadata,
            Self::Drill => Round::All,
        }
    }
}

/// Makes a host's keys, and the request to admit them. With `existing` keys the party id stays:
/// admitting the request rotates that host's keys, and an empty `label` leaves it the name that it has.
pub fn request(
    role: HostRole,
    label: &str,
    existing: Option<&HostKeys>,
    entropy: &dyn Entropy,
) -> Result<(HostKeys, KeyRequest)> {
    let keys = match existing {
        Some(keys) => keys.renewed(entropy)?,
        None => HostKeys::generate(entropy)?,
    };
    let request = KeyRequest::new(role.name(), label, &keys);
    Ok((keys, request))
}

/// What admitting a request would do; to be shown, and asked about, before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A new host.
    New(HostRole),
    /// New keys for a host that is there: the old ones are revoked.
    Renewal(HostRole, Party),
    /// These very keys are admitted already.
    Already(Party),
}

/// Checks a request: its signature, and that it takes nobody else's id or key.
pub fn admission(repo: &Repository, request: &KeyRequest) -> Result<(KeyRequestBody, Admission)> {
    let body = request.verify()?;
    let role = if body.role == "drill" { HostRole::Drill } else { HostRole::Writer };
    let config = &repo.trusted().config;
    let known = parties(repo).into_iter().find(|p| p.id == body.party);
    if let Some(party) = &known
        && party.role == role.role()
        && keys_of(config, &body.party) == Some((body.signing_key, body.recipient.as_str()))
    {
        return Ok((body, Admission::Already(party.clone())));
    }
    refuse_used_keys(repo, &body)?;
    match known {
        None if config.revocations.iter().any(|r| r.party == body.party) => Err(refused(
            "its id is of a host that was revoked",
            "make new keys on that host with `muster key request`, without the old ones",
        )),
        None => Ok((body, Admission::New(role))),
        Some(party) if party.role == role.role() => Ok((body, Admission::Renewal(role, party))),
        Some(party) => Err(refused(
            &format!("its id is that of {party}, and it asks to be a {}", role.role().word()),
            "make keys of their own for each role with `muster key request`",
        )),
    }
}

fn refused(why: &str, hint: &str) -> Error {
    Error::new(ErrorKind::Refused, "take the key request", why).hint(hint)
}

/// Signing key and age recipient that a host has now.
fn keys_of<'c>(config: &'c Config, id: &PartyId) -> Option<(PublicKey, &'c str)> {
    if let Some(writer) = config.writers.iter().find(|w| w.id == *id) {
        return Some((writer.signing_key, &writer.recipient));
    }
    let drill = config.drills.iter().find(|d| d.id == *id)?;
    let recipient = config.recipients.iter().find(|r| r.id == drill.recipient)?;
    Some((drill.signing_key, recipient.recipient.as_deref()?))
}

/// A key stands for one party and one time: neither another's, nor an old one again.
fn refuse_used_keys(repo: &Repository, body: &KeyRequestBody) -> Result<()> {
    let config = &repo.trusted().config;
    if let Some(id) = user_of(config, &body.recipient) {
        return Err(already_used(repo, &id));
    }
    let writers = config.writers.iter().map(|w| w.signing_key);
    let drills = config.drills.iter().map(|d| d.signing_key);
    let revoked = config.revocations.iter().map(|r| r.signing_key);
    if writers.chain(drills).chain(revoked).chain([config.root]).any(|key| key == body.signing_key) {
        return Err(refused(
            "its signing key is in use already, or was revoked",
            "make new keys on that host with `muster key request`",
        ));
    }
    Ok(())
}

/// Rights come with a key, and only a writer has any.
fn check_right(
    repo: &Repository,
    body: &KeyRequestBody,
    admission: &Admission,
    right: Option<Right>,
) -> Result<()> {
    let Some(right) = right else { return Ok(()) };
    match admission {
        Admission::New(HostRole::Drill) | Admission::Renewal(HostRole::Drill, _) => Err(refused(
            "a drill host stores and removes no points, so it has no such rights",
            "admit it without --may-remove-others and --append-only",
        )),
        Admission::Already(_)
            if repo.trusted().writer(&body.party).is_none_or(|w| w.rights & right.bit() == 0) =>
        {
            Err(refused(
                "these keys are admitted already, without that right",
                "`muster key grant` lets a writer remove others' points; to make a host append only, make new keys for it with `muster key request`",
            ))
        }
        _ => Ok(()),
    }
}

/// Admits a host, or gives a host that is there its new keys. `label` stands above the name in
/// the request.
pub fn admit<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    request: &KeyRequest,
    label: Option<&str>,
) -> Result<KeyChange> {
    admit_with(repo, by, request, label, None)
}

/// The same with a right. New keys have the rights of the old ones where `right` is none.
pub fn admit_with<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    request: &KeyRequest,
    label: Option<&str>,
    right: Option<Right>,
) -> Result<KeyChange> {
    require_root(repo, by.root)?;
    let (body, admission) = admission(repo, request)?;
    check_right(repo, &body, &admission, right)?;
    match admission {
        Admission::New(role) => admit_new(repo, by, role, &body, label, right),
        Admission::Renewal(role, party) => {
            let wanted = Some(body.label.as_str()).filter(|label| !label.is_empty());
            renew(repo, by, role, &body, &party, label.or(wanted).unwrap_or(&party.label), right)
        }
        Admission::Already(party) => Ok(KeyChange {
            action: "admit".to_owned(),
            id: Some(party.id.to_string()),
            file: None,
            config: None,
            done: format!("{party} is admitted with these keys already: nothing to do"),
            next: Vec::new(),
        }),
    }
}

fn admit_new<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    role: HostRole,
    body: &KeyRequestBody,
    label: Option<&str>,
    right: Option<Right>,
) -> Result<KeyChange> {
    // New keys for a host that was never admitted: its id is its name until it gets a better one.
    let id_text = body.party.to_string();
    let label = label.unwrap_or(if body.label.is_empty() { &id_text } else { &body.label });
    check_label(repo, label, None)?;
    epochs::hand_over(repo, by, &Holder::host(body.party, &body.recipient)?, role.round())?;
    let mut change = Change::of(repo);
    change.name(body.party, label);
    match role {
        HostRole::Writer => change.next.writers.push(Writer {
            id: body.party,
            signing_key: body.signing_key,
            recipient: body.recipient.clone(),
            rights: right.map_or(0, Right::bit),
            shares_with: Vec::new(),
        }),
        HostRole::Drill => {
            change.next.recipients.push(recovery_entry(body));
            change.next.drills.push(DrillHost {
                id: body.party,
                signing_key: body.signing_key,
                recipient: body.party,
            });
        }
    }
    let config = change.commit(repo, by, None)?.config.number;
    let id = body.party;
    Ok(KeyChange {
        action: "admit".to_owned(),
        id: Some(id.to_string()),
        file: None,
        config: Some(config),
        done: format!(
            "admitted {} {label} ({id}), signing key {}{}",
            role.role().word(),
            body.signing_key,
            with_right(right)
        ),
        next: vec![
            "compare the signing key with the one that the host shows".to_owned(),
            needs_of(role).to_owned(),
            pin_hint(config),
        ],
    })
}

fn with_right(right: Option<Right>) -> String {
    right.map_or_else(String::new, |right| format!("; {}", right.sentence()))
}

fn needs_of(role: HostRole) -> &'static str {
    match role {
        HostRole::Writer => {
            "give the host credentials to the store that may list, read and write, and not delete"
        }
        HostRole::Drill => {
            "give the host credentials to the store that may list and read, and write to evidence/ and its own audit/ only: it can open everything"
        }
    }
}

fn recovery_entry(body: &KeyRequestBody) -> Recipient {
    Recipient { id: body.party, kind: "x25519".to_owned(), recipient: Some(body.recipient.clone()) }
}

/// A host's new keys: it opens all that it could, under a new epoch, and the old keys are revoked.
fn renew<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    role: HostRole,
    body: &KeyRequestBody,
    before: &Party,
    label: &str,
    right: Option<Right>,
) -> Result<KeyChange> {
    check_label(repo, label, Some(body.party))?;
    let renamed = if label == before.label {
        String::new()
    } else {
        format!(", was called {} until now", before.label)
    };
    let (revocation, warnings) = revocation(repo, by, &body.party)?;
    let recipient_id = recipient_id(&repo.trusted().config, &body.party);
    epochs::hand_over(repo, by, &Holder::host(recipient_id, &body.recipient)?, role.round())?;
    let mut change = Change::of(repo);
    change.next.revocations.push(revocation);
    replace_keys(&mut change.next, body, recipient_id, right);
    change.name(body.party, label);
    let config = change.commit(repo, by, Some(role.round()))?.config.number;
    let id = body.party;
    let mut next = vec![
        "compare the signing key with the one that the host shows".to_owned(),
        "put the new key file in the place of the old one on that host; until then its backups are refused".to_owned(),
        "what the old key signed until now stays trusted: if that key may be in wrong hands, revoke the host and admit it with keys of a new id".to_owned(),
        pin_hint(config),
    ];
    next.extend(warnings);
    Ok(KeyChange {
        action: "admit".to_owned(),
        id: Some(id.to_string()),
        file: None,
        config: Some(config),
        done: format!(
            "{} {label} ({id}{renamed}) has new keys, signing key {}; the old ones are revoked{}",
            role.role().word(),
            body.signing_key,
            with_right(right)
        ),
        next,
    })
}

/// The id under which a host holds epoch identities.
fn recipient_id(config: &Config, party: &PartyId) -> PartyId {
    config.drills.iter().find(|d| d.id == *party).map_or(*party, |d| d.recipient)
}

fn replace_keys(config: &mut Config, body: &KeyRequestBody, recipient_id: PartyId, right: Option<Right>) {
    for writer in config.writers.iter_mut().filter(|w| w.id == body.party) {
        // A new key may have less than the old one had: its revocation keeps the tombstones that stood.
        writer.rights = right.map_or(writer.rights, Right::bit);
        writer.signing_key = body.signing_key;
        writer.recipient.clone_from(&body.recipient);
    }
    if let Some(drill) = config.drills.iter_mut().find(|d| d.id == body.party) {
        drill.signing_key = body.signing_key;
        for entry in config.recipients.iter_mut().filter(|r| r.id == recipient_id) {
            *entry = Recipient { id: recipient_id, ..recovery_entry(body) };
        }
    }
}

/// What of a host's key stays trusted, and what a person should know about it.
fn revocation<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    party: &PartyId,
) -> Result<(Revocation, Vec<String>)> {
    let (signing_key, _) = keys_of(&repo.trusted().config, party).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "revoke the key", "it is no host's").on(party.to_string())
    })?;
    // A point that cannot be opened here would lose its trust unseen.
    epochs::identities(repo, Round::Metadata)?;
    let list = repo.points()?;
    let revocation = Revocation {
        party: *party,
        signing_key,
        trusted: newest_of_each_job(&list, party),
        at: by.clock.now(),
        kept: repo.worth_keeping(party, &signing_key)?,
    };
    Ok((revocation, unread(&list)))
}

fn newest_of_each_job(list: &PointList, party: &PartyId) -> Vec<TrustedUpTo> {
    let own = list.points.iter().chain(&list.removed).filter(|p| p.point.writer == *party);
    let mut newest: BTreeMap<&str, TrustedUpTo> = BTreeMap::new();
    for p in own {
        let up_to = TrustedUpTo { job: p.point.job.clone(), seq: p.point.seq, hash: p.hash };
        let known = newest.entry(&p.point.job).or_insert_with(|| up_to.clone());
        if known.seq < up_to.seq {
            *known = up_to;
        }
    }
    newest.into_values().collect()
}

/// Points that are there and say nothing now: were one the newest, it would not be trusted.
fn unread(list: &PointList) -> Vec<String> {
    let untold = list.refused.iter().filter(|(_, error)| error.kind() != ErrorKind::Untrusted);
    untold
        .map(|(name, error)| {
            format!("{name} could not be read ({}), so it was not counted: if it was this host's newest, it is refused even when it is mended", error.why())
        })
        .collect()
}

/// Ends a host's rights. Its points until now stay trusted.
pub fn revoke<C: age::Callbacks>(repo: &Repository, by: &Authority<'_, C>, name: &str) -> Result<KeyChange> {
    require_root(repo, by.root)?;
    let party = resolve_party(repo, name)?;
    let role = match party.role {
        Role::Writer => HostRole::Writer,
        Role::Drill => HostRole::Drill,
        Role::Recipient => {
            return Err(Error::new(ErrorKind::Usage, "revoke", "it is a recipient, no host")
                .on(party.to_string())
                .hint(format!("take it away with `muster key remove {}`", party.id)));
        }
    };
    let (revocation, warnings) = revocation(repo, by, &party.id)?;
    let mut change = Change::of(repo);
    remove_host(&mut change.next, &party.id)?;
    change.next.revocations.push(revocation);
    let config = change.commit(repo, by, Some(role.round()))?.config;
    let mut next = after_revoking(role, &config);
    next.extend(warnings);
    Ok(KeyChange {
        action: "revoke".to_owned(),
        id: Some(party.id.to_string()),
        file: None,
        config: Some(config.number),
        done: format!(
            "{party} is revoked: what it signs from now on is refused, and what is new it cannot open"
        ),
        next,
    })
}

fn remove_host(config: &mut Config, id: &PartyId) -> Result<()> {
    let recipient = config.drills.iter().find(|d| d.id == *id).map(|d| d.recipient);
    config.recipients.retain(|r| Some(r.id) != recipient);
    config.drills.retain(|d| d.id != *id);
    config.writers.retain(|w| w.id != *id);
    config.writers.iter_mut().for_each(|w| w.shares_with.retain(|other| other != id));
    if config.recipients.is_empty() {
        return Err(Error::new(
            ErrorKind::Refused,
            "revoke the key",
            "nobody could open the backups any more",
        )
        .hint("add a recovery recipient first: `muster key add`"));
    }
    Ok(())
}

fn after_revoking(role: HostRole, config: &Config) -> Vec<String> {
    let mut next = vec![
        "take away the host's credentials to the store NOW: a revoked key cannot sign, but credentials can still delete".to_owned(),
    ];
    match role {
        HostRole::Writer => {
            next.push("it can still read the names, sizes and times of everything backed up until now".to_owned());
            next.push("look through its newest points and removals: everything that it signed until now stays trusted".to_owned());
            if config.writers.is_empty() {
                next.push("no writer is left: nothing is backed up until one is admitted (`muster key request`, `muster key admit`)".to_owned());
            }
        }
        HostRole::Drill => next.push(
            "it can still open everything backed up until now: change what is secret in there (passwords, tokens)".to_owned(),
        ),
    }
    next.push(pin_hint(config.number));
    next
}
