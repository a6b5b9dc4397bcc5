//! The way out of a configuration chain that every reader refuses: one object of `config/` is taken away.
//!
//! Nobody but a person can tell which of two root-signed configurations of one number counts, so this names
//! them and what each changes, and removes the one that is named to it.

use crate::model::{Error, ErrorKind, ObjectName, Result};
use crate::ports::Store;
use crate::repo::chain::read_config_objects;
use crate::repo::format::Config;
use crate::repo::layout;
use crate::repo::sign::SignKey;
use crate::repo::trust::{ConfigObject, Pin, decode_config, verify_whole_chain};
use crate::report::outcome::{ConfigInTheWay, RepairConfig};

/// What is to be done.
pub struct RepairConfigRequest<'a> {
    /// Proves that whoever does it may.
    pub root: &'a SignKey,
    /// The pinned root and the lowest acceptable config.
    pub pin: Pin,
    /// The object to take away, by its name or the beginning of its hash.
    pub remove: Option<&'a str>,
    /// Only say what would be removed.
    pub dry_run: bool,
}

const WHAT: &str = "repair the configuration";

/// Names the objects of which one must go, and removes the one that was named.
///
/// # Errors
/// Where no single object is in the way, where the named one is not in the way, what `confirm` answers, and what
/// the store gives.
pub fn repair_config(
    store: &dyn Store,
    request: &RepairConfigRequest<'_>,
    confirm: &dyn Fn(String) -> Result<()>,
) -> Result<RepairConfig> {
    if request.pin.root.is_some_and(|root| root != request.root.public()) {
        return Err(Error::new(ErrorKind::WrongKey, WHAT, "this root key is not this repository's")
            .hint("give the recovery kit of this repository"));
    }
    let objects = read_config_objects(store)?;
    let Err(broken) = verify_whole_chain(copies(&objects), &request.pin) else {
        return whole(objects.len(), request.remove);
    };
    let found = in_the_way(&objects, &request.pin);
    if found.is_empty() {
        return Err(broken);
    }
    let mut outcome = RepairConfig {
        dry_run: request.dry_run,
        was_whole: false,
        why: broken.why().to_owned(),
        removed: None,
        candidates: found.iter().map(|object| describe(object, &objects)).collect(),
    };
    let Some(text) = request.remove else { return Ok(outcome) };
    let chosen = choose(&found, text)?;
    if !request.dry_run {
        confirm(format!("Remove {}? What it changed is undone, for good.", chosen.name))?;
        store.delete(&chosen.name)?;
        verify_whole_chain(read_config_objects(store)?, &request.pin)?;
    }
    outcome.removed = Some(chosen.name.to_string());
    Ok(outcome)
}

fn whole(objects: usize, remove: Option<&str>) -> Result<RepairConfig> {
    match remove {
        None => Ok(RepairConfig {
            dry_run: false,
            was_whole: true,
            why: format!("all {objects} objects in config/ stand in one chain"),
            removed: None,
            candidates: Vec::new(),
        }),
        Some(text) => Err(Error::new(ErrorKind::Refused, WHAT, "the chain is whole, and nothing may go")
            .on(text.to_owned())
            .hint("to change who may do what: `muster key`")),
    }
}

fn copies(objects: &[ConfigObject]) -> Vec<ConfigObject> {
    objects.iter().map(|o| ConfigObject { name: o.name.clone(), bytes: o.bytes.clone() }).collect()
}

/// Objects without each of which alone the rest is a chain.
fn in_the_way<'o>(objects: &'o [ConfigObject], pin: &Pin) -> Vec<&'o ConfigObject> {
    let is_chain_without = |one: &ConfigObject| {
        let rest = copies(objects).into_iter().filter(|o| o.name != one.name).collect();
        verify_whole_chain(rest, pin).is_ok()
    };
    // To try the others would take long, and leave a gap.
    let number = |object: &ConfigObject| layout::parse_config(&object.name).map(|(number, _)| number);
    let highest = objects.iter().filter_map(number).max();
    let may_go = |one: &&ConfigObject| {
        let n = number(one);
        n.is_none() || n == highest || objects.iter().filter(|other| number(other) == n).count() > 1
    };
    objects.iter().filter(may_go).filter(|one| is_chain_without(one)).collect()
}

fn choose<'o>(found: &[&'o ConfigObject], text: &str) -> Result<&'o ConfigObject> {
    let hash = |name: &ObjectName| layout::parse_config(name).map(|(_, hash)| hash.to_string());
    let is_meant = |o: &&&ConfigObject| {
        let begins = hash(&o.name).is_some_and(|hash| !text.is_empty() && hash.starts_with(text));
        begins || o.name.as_str() == text || o.name.leaf() == text
    };
    let mut meant = found.iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(one), None) => Ok(one),
        (first, _) => {
            let why = match first {
                Some(_) => "it may mean more than one object",
                None => "it is not one of those of which one is in the way",
            };
            let names: Vec<&str> = found.iter().map(|o| o.name.as_str()).collect();
            Err(Error::new(ErrorKind::Usage, WHAT, why)
                .on(format!("{text:?}"))
                .hint(format!("name one of {}", names.join(", "))))
        }
    }
}

fn describe(object: &ConfigObject, all: &[ConfigObject]) -> ConfigInTheWay {
    let name = object.name.to_string();
    let Ok((config, _)) = decode_config(object) else {
        let changes = vec!["nothing: the root did not sign it".to_owned()];
        return ConfigInTheWay { name, number: None, made: None, changes };
    };
    let parents = all.iter().filter_map(|o| decode_config(o).ok());
    let parent = parents.into_iter().find(|(_, hash)| config.parent == Some(*hash)).map(|(parent, _)| parent);
    let changes = match parent {
        Some(parent) => changes(&parent, &config),
        None => vec!["the configuration before it is not there any more".to_owned()],
    };
    ConfigInTheWay { name, number: Some(config.number), made: Some(config.made.into()), changes }
}

/// What one configuration changes in another, in words.
fn changes(before: &Config, after: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for revoked in after.revocations.iter().filter(|r| !before.revocations.contains(r)) {
        found.push(format!("revokes a key of {}", revoked.party));
    }
    for new in after.writers.iter().filter(|w| !before.writers.contains(w)) {
        let is_known = before.writers.iter().any(|w| w.id == new.id);
        found.push(format!("{} writer {}", if is_known { "changes" } else { "admits" }, new.id));
    }
    for new in after.drills.iter().filter(|d| !before.drills.contains(d)) {
        found.push(format!("admits or changes drill host {}", new.id));
    }
    for new in after.recipients.iter().filter(|r| !before.recipients.contains(r)) {
        found.push(format!("adds recipient {}", new.id));
    }
    for gone in before.recipients.iter().filter(|r| !after.recipients.iter().any(|a| a.id == r.id)) {
        found.push(format!("takes recipient {} away", gone.id));
    }
    for new in after.epochs.iter().filter(|e| !before.epochs.iter().any(|b| b.id == e.id)) {
        found.push(format!("begins epoch {}", new.id));
    }
    found
}
