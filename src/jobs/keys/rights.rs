//! What a writer may do beyond backing up, and whose index entries it relies on.
//!
//! Rights of a key are only ever added to: docs/FORMAT.md section 5.4 says why.

use crate::model::{Error, ErrorKind, PartyId, Result};
use crate::repo::format::{RIGHT_APPEND_ONLY, RIGHT_REMOVE_OTHERS, Writer};
use crate::repo::repository::Repository;
use crate::report::outcome::KeyChange;

use super::{Authority, Change, Party, Role, pin_hint, require_root, resolve_party};

/// A right as a person grants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// May remove others' points.
    RemoveOthers,
    /// May only add: removes nothing, not even its own. Given when a key is admitted, and never later.
    AppendOnly,
}

impl Right {
    /// The bit in the configuration.
    pub fn bit(self) -> u32 {
        match self {
            Self::RemoveOthers => RIGHT_REMOVE_OTHERS,
            Self::AppendOnly => RIGHT_APPEND_ONLY,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::RemoveOthers => "may-remove-others",
            Self::AppendOnly => "append-only",
        }
    }

    /// For messages: that a host has it.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::RemoveOthers => "it may remove other hosts' points",
            Self::AppendOnly => "it may only add: it removes nothing, not even its own points",
        }
    }
}

/// Words of all rights in a bit set.
pub(super) fn in_words(rights: u32) -> Vec<String> {
    let all = [Right::RemoveOthers, Right::AppendOnly];
    all.into_iter().filter(|r| rights & r.bit() != 0).map(|r| r.word().to_owned()).collect()
}

/// A party that must be a writer, and its entry.
fn writer<'r>(repo: &'r Repository, what: &str, name: &str) -> Result<(Party, &'r Writer)> {
    let party = resolve_party(repo, name)?;
    match repo.trusted().writer(&party.id).filter(|_| party.role == Role::Writer) {
        Some(writer) => Ok((party, writer)),
        None => Err(Error::new(ErrorKind::Usage, what, "only a writer stores and removes points")
            .on(party.to_string())
            .hint("`muster key list` shows which hosts are writers")),
    }
}

fn nothing_to_do(action: &str, party: &Party, done: String) -> KeyChange {
    KeyChange {
        action: action.to_owned(),
        id: Some(party.id.to_string()),
        file: None,
        config: None,
        done,
        next: Vec::new(),
    }
}

/// Changes one writer's entry and nothing else.
fn change_entry<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    id: &PartyId,
    edit: impl FnOnce(&mut Writer),
) -> Result<u64> {
    let mut change = Change::of(repo);
    change.next.writers.iter_mut().find(|w| w.id == *id).map(edit);
    Ok(change.commit(repo, by, None)?.config.number)
}

/// Lets a writer remove other hosts' points.
pub fn grant_removing<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    name: &str,
) -> Result<KeyChange> {
    require_root(repo, by.root)?;
    let (party, entry) = writer(repo, "give the right", name)?;
    if entry.rights & RIGHT_APPEND_ONLY != 0 {
        return Err(Error::new(ErrorKind::Refused, "give the right", "it is append only, and stays so")
            .on(party.to_string())
            .hint("make new keys on that host with `muster key request`, and admit these with --may-remove-others"));
    }
    if entry.rights & RIGHT_REMOVE_OTHERS != 0 {
        return Ok(nothing_to_do("grant", &party, format!("{party} may remove other hosts' points already")));
    }
    let config = change_entry(repo, by, &party.id, |w| w.rights |= RIGHT_REMOVE_OTHERS)?;
    Ok(KeyChange {
        action: "grant".to_owned(),
        id: Some(party.id.to_string()),
        file: None,
        config: Some(config),
        done: format!("{party} may remove other hosts' points from now on"),
        next: vec![
            "removals of others' points that its key signed before count now too: `muster points --all` shows them"
                .to_owned(),
            "the right goes only with the key: `muster key revoke` it, and admit the host with new keys".to_owned(),
            pin_hint(config),
        ],
    })
}

/// Says on whose index entries a writer relies when it looks for what is stored already: on those of `with`
/// alone, beside its own.
pub fn share<C: age::Callbacks>(
    repo: &Repository,
    by: &Authority<'_, C>,
    name: &str,
    with: &[String],
) -> Result<KeyChange> {
    require_root(repo, by.root)?;
    let (party, entry) = writer(repo, "share", name)?;
    let others = sharers(repo, &party, with)?;
    let mut ids: Vec<PartyId> = others.iter().map(|other| other.id).collect();
    ids.sort();
    ids.dedup();
    let all: Vec<String> = others.iter().map(Party::to_string).collect();
    let relies = match all.is_empty() {
        true => format!("{party} shares with nobody: it refers to what it stored itself alone"),
        false => format!("{party} refers to what {} stored, too", all.join(" and ")),
    };
    let mut known = entry.shares_with.clone();
    known.sort();
    if known == ids {
        return Ok(nothing_to_do("share", &party, format!("{relies}: nothing to do")));
    }
    let config = change_entry(repo, by, &party.id, |w| w.shares_with = ids)?;
    let mut next = vec![pin_hint(config)];
    if !all.is_empty() {
        next.insert(0, "it is one way: share the other way too if that is wanted".to_owned());
    }
    Ok(KeyChange {
        action: "share".to_owned(),
        id: Some(party.id.to_string()),
        file: None,
        config: Some(config),
        done: relies,
        next,
    })
}

fn sharers(repo: &Repository, party: &Party, with: &[String]) -> Result<Vec<Party>> {
    with.iter()
        .map(|name| match writer(repo, "share with it", name)?.0 {
            other if other.id == party.id => {
                Err(Error::new(ErrorKind::Usage, "share", "a host shares with itself anyway")
                    .on(party.to_string())
                    .hint("name other writers with --with"))
            }
            other => Ok(other),
        })
        .collect()
}
