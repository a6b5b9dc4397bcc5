//! Reads the configuration chain from a store.

use std::time::Duration;

use crate::model::{Error, ErrorKind, ObjectName, Result};
use crate::ports::Store;

use super::layout;
use super::limits::SMALL_OBJECT_MAX_BYTES;
use super::trust::{ConfigObject, Pin, Trusted, verify_chain};

/// How often a chain that looks forked is looked at again. Of two changes made at the same moment both are there
/// until one or both are taken back (docs/FORMAT.md section 5.1).
const LOOKS_MAX: u32 = 5;
/// How long to wait in between: taking one back is a list and a deletion.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Reads and verifies the config chain.
pub fn read_chain(store: &dyn Store, pin: &Pin) -> Result<Trusted> {
    verify_chain(read_config_objects(store)?, pin)
}

/// Every object in `config/`. Waits for a moment while two of them have one number.
pub fn read_config_objects(store: &dyn Store) -> Result<Vec<ConfigObject>> {
    let mut looks = 1;
    loop {
        let names = config_names(store)?;
        let is_settled = !has_fork(&names);
        match fetch(store, names) {
            Ok(objects) if is_settled || looks == LOOKS_MAX => return Ok(objects),
            // It was taken back after it was listed.
            Err(error) if error.kind() != ErrorKind::NotFound || looks == LOOKS_MAX => return Err(error),
            Ok(_) | Err(_) => {}
        }
        looks += 1;
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

fn config_names(store: &dyn Store) -> Result<Vec<ObjectName>> {
    let mut names = Vec::new();
    store.list(layout::CONFIG, &mut |meta| {
        names.push(meta.name);
        if names.len() > 100_000 {
            return Err(Error::new(
                ErrorKind::Limit,
                "read the configuration",
                "there are over 100,000 objects in config/",
            ));
        }
        Ok(())
    })?;
    if names.is_empty() {
        refuse_foreign_place(store)?;
    }
    Ok(names)
}

/// Whether two names, which come in their order, have one number.
fn has_fork(names: &[ObjectName]) -> bool {
    let number = |name| layout::parse_config(name).map(|(number, _)| number);
    names.windows(2).any(|pair| number(&pair[0]).is_some() && number(&pair[0]) == number(&pair[1]))
}

fn fetch(store: &dyn Store, names: Vec<ObjectName>) -> Result<Vec<ConfigObject>> {
    names
        .into_iter()
        .map(|name| {
            let bytes = store.get(&name, SMALL_OBJECT_MAX_BYTES as u64)?;
            Ok(ConfigObject { name, bytes })
        })
        .collect()
}

/// Tells an empty place from a folder of something else.
fn refuse_foreign_place(store: &dyn Store) -> Result<()> {
    store.list("", &mut |meta| match meta.name.is_of_a_probe() {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::NotFound,
            "open the repository",
            format!("it has no config/, but holds {}", meta.name),
        )
        .on(store.describe())
        .hint("this place holds something else, or its config/ was removed; check the address")),
    })
}
