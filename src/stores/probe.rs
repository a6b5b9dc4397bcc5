//! Tries out what a store can do, on objects that are thrown away.
//!
//! They lie under [`PROBE_FOLDER`], a name that no object of a repository has, and are removed
//! whatever happens; those that a killed probe left are removed by the next one.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::model::id::to_hex;
use crate::model::{ErrorKind, ObjectName, PROBE_FOLDER, Result, Time};
use crate::ports::{Clock, Entropy, Put, Store};

/// Where the probe's objects lie.
const FOLDER: &str = PROBE_FOLDER;

/// How many put one name at once.
pub const RACERS: usize = 8;
/// How often they do: a server that does not look atomically is lucky now and then.
const RACES: usize = 5;
/// How long a list may lag before it counts as one that never shows the change.
const LAG_MAX: Duration = Duration::from_secs(30);
/// Older objects of a probe were left by one that was killed.
const STALE_SECS: f64 = 3600.0;
const OBJECT_BYTES: usize = 4096;

/// What a probe found.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// A put of a name that is taken says so and changes nothing.
    pub refuses_second_put: bool,
    /// The most that "won" a race for one name; 1 is right.
    pub race_winners: usize,
    /// How long until a list showed what was put; `None`: not within 30 s.
    pub list_lag_after_put: Option<Duration>,
    /// How long until a list did not show any more what was deleted; `None` also where nothing was.
    pub list_lag_after_delete: Option<Duration>,
    /// Why these keys may not delete: no harm for a host that only backs up.
    pub delete_refused: Option<String>,
    /// Whether a part of an object is read as it was put.
    pub ranges: bool,
    /// By how much the store's clock is ahead of this machine's, at least; 0 where they may agree.
    pub clock_ahead_secs: f64,
    /// Names that could not be removed, and why.
    pub left_behind: Option<String>,
}

impl Findings {
    /// Whether a put creates only where nothing is, also when many race.
    pub fn conditional_put(&self) -> bool {
        self.refuses_second_put && self.race_winners == 1
    }
}

/// Tries `store` out. It must do its puts as the server does them, with no look before.
pub fn probe(store: &dyn Store, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<Findings> {
    let mut run = [0; 8];
    entropy.fill(&mut run)?;
    let folder = format!("{FOLDER}{}/", to_hex(&run));
    let tried = Probe { store, clock, folder: &folder }.run();
    // Also after a failure: nothing stays behind.
    let swept = sweep(store, &folder);
    let mut findings = tried?;
    findings.left_behind = swept.err().map(|error| error.to_string());
    Ok(findings)
}

/// Lets `try_it` use two names of the probe's folder, and removes what it left there; or says, beside what
/// `try_it` found, why something stayed.
pub fn with_two_objects<T>(
    store: &dyn Store,
    entropy: &dyn Entropy,
    try_it: impl FnOnce(&[ObjectName; 2]) -> Result<T>,
) -> Result<(T, Option<String>)> {
    let mut run = [0; 8];
    entropy.fill(&mut run)?;
    let name = |leaf: &str| ObjectName::new(format!("{FOLDER}{}/{leaf}", to_hex(&run)));
    let names = [name("one")?, name("two")?];
    let tried = try_it(&names);
    let removed = names.iter().try_for_each(|name| store.delete(name));
    tried.map(|done| (done, removed.err().map(|error| error.to_string())))
}

struct Probe<'a> {
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    folder: &'a str,
}

impl Probe<'_> {
    fn run(&self) -> Result<Findings> {
        let (first, clock_ahead_secs) = self.put_and_compare_clocks()?;
        sweep_stale(self.store, &first)?;
        // Before a second put, which may overwrite.
        let ranges = self.store.get_range(&first, 1000, 24)? == content(0)[1000..1024];
        let refuses_second_put = self.put_again(&first)?;
        let list_lag_after_put = self.until_listed(&first, true)?;
        let mut race_winners = 0;
        for race in 0..RACES {
            race_winners = race_winners.max(self.race(race)?);
        }
        let delete_refused = self.delete(&first)?;
        let list_lag_after_delete = match delete_refused {
            None => self.until_listed(&first, false)?,
            Some(_) => None,
        };
        Ok(Findings {
            refuses_second_put,
            race_winners,
            list_lag_after_put,
            list_lag_after_delete,
            delete_refused,
            ranges,
            clock_ahead_secs,
            left_behind: None,
        })
    }

    fn name(&self, leaf: &str) -> Result<ObjectName> {
        ObjectName::new(format!("{}{leaf}", self.folder))
    }

    fn put_and_compare_clocks(&self) -> Result<(ObjectName, f64)> {
        let name = self.name("first")?;
        let before = self.clock.now();
        self.store.put(&name, &[&content(0)])?;
        let after = self.clock.now();
        let stored_at = self.store.stat(&name)?.map_or(after, |meta| meta.stored_at);
        Ok((name, ahead(before, after, stored_at)))
    }

    fn put_again(&self, name: &ObjectName) -> Result<bool> {
        let put = self.store.put(name, &[&content(1)])?;
        let is_kept = self.store.get(name, OBJECT_BYTES as u64)? == content(0);
        Ok(put == Put::Exists && is_kept)
    }

    /// Deletes; or says why these keys may not. Who may create and nothing else can back up all the same.
    fn delete(&self, name: &ObjectName) -> Result<Option<String>> {
        match self.store.delete(name) {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Refused => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn until_listed(&self, name: &ObjectName, wanted: bool) -> Result<Option<Duration>> {
        let began = Instant::now();
        loop {
            let mut is_there = false;
            self.store.list(self.folder, &mut |meta| {
                is_there |= meta.name == *name;
                Ok(())
            })?;
            if is_there == wanted {
                return Ok(Some(began.elapsed()));
            }
            if began.elapsed() > LAG_MAX {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// How many of those who put one name at once are told that they made it.
    fn race(&self, number: usize) -> Result<usize> {
        let name = self.name(&format!("race-{number}"))?;
        let barrier = Barrier::new(RACERS);
        let puts: Vec<Result<Put>> = thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|racer| {
                    let (name, barrier) = (&name, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        self.store.put(name, &[&content(racer as u8)])
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap_or(Ok(Put::Exists))).collect()
        });
        let mut winners = 0;
        for put in puts {
            match put {
                Ok(Put::Created) => winners += 1,
                Ok(Put::Exists) => {}
                // Two came at once and one is told to try again: it did not win.
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(winners)
    }
}

/// The store's time minus ours, as near to 0 as what is known allows: the store's is cut to
/// whole seconds, and taken at some moment between `before` and `after`.
fn ahead(before: Time, after: Time, stored_at: Time) -> f64 {
    let (least, most) = (stored_at.secs_since(after), stored_at.secs_since(before) + 1.0);
    if least > 0.0 {
        least
    } else if most < 0.0 {
        most
    } else {
        0.0
    }
}

fn content(seed: u8) -> Vec<u8> {
    (0..OBJECT_BYTES).map(|at| (at / 7) as u8 ^ seed).collect()
}

/// Removes everything of a folder.
fn sweep(store: &dyn Store, folder: &str) -> Result<()> {
    let mut names = Vec::new();
    store.list(folder, &mut |meta| {
        names.push(meta.name);
        Ok(())
    })?;
    names.iter().try_for_each(|name| store.delete(name))
}

/// Removes what a probe left that was killed over an hour ago, by the store's own time.
fn sweep_stale(store: &dyn Store, newest: &ObjectName) -> Result<()> {
    let Some(now) = store.stat(newest)?.map(|meta| meta.stored_at) else { return Ok(()) };
    let mut stale = Vec::new();
    store.list(FOLDER, &mut |meta| {
        if now.secs_since(meta.stored_at) > STALE_SECS {
            stale.push(meta.name);
        }
        Ok(())
    })?;
    for name in &stale {
        match store.delete(name) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            // Somebody else's leftovers: not being allowed to remove them is no finding of ours.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::stores::Mem;
    use crate::stores::wrap::{Fault, FaultPlan, OpKind};

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) -> Result<()> {
            buffer.fill(7);
            Ok(())
        }
    }

    struct Late(AtomicI64);

    impl Clock for Late {
        fn now(&self) -> Time {
            Time::new(self.0.load(Ordering::Relaxed), 0)
        }
    }

    fn clock(secs: i64) -> Arc<Late> {
        Arc::new(Late(AtomicI64::new(secs)))
    }

    #[test]
    fn a_good_store_is_found_good_and_left_empty() {
        let store = Mem::new(clock(1000));
        let found = probe(&store, &*clock(1000), &Counting).unwrap();
        assert!(found.conditional_put() && found.ranges, "{found:?}");
        assert!(found.list_lag_after_put.is_some() && found.list_lag_after_delete.is_some());
        assert_eq!((found.clock_ahead_secs, found.left_behind), (0.0, None));
        assert!(store.names().is_empty());
    }

    #[test]
    fn clocks_are_compared() {
        let store = Mem::new(clock(1000));
        assert_eq!(probe(&store, &*clock(400), &Counting).unwrap().clock_ahead_secs, 600.0);
        assert_eq!(probe(&store, &*clock(1600), &Counting).unwrap().clock_ahead_secs, -599.0);
    }

    #[test]
    fn old_leftovers_are_removed_and_new_ones_kept() {
        let time = clock(0);
        let store = Mem::new(time.clone());
        let (old, new) = ("probe/aa/first", "probe/bb/first");
        store.put(&ObjectName::new(old).unwrap(), &[b"x"]).unwrap();
        time.0.store(5000, Ordering::Relaxed);
        store.put(&ObjectName::new(new).unwrap(), &[b"x"]).unwrap();
        probe(&store, &*clock(5000), &Counting).unwrap();
        assert_eq!(store.names().iter().map(ObjectName::as_str).collect::<Vec<_>>(), [new]);
    }

    /// At whatever operation it fails, it says so and leaves nothing.
    #[test]
    fn after_a_failure_nothing_stays() {
        let mem = Arc::new(Mem::new(clock(1000)));
        let mut failures = 0;
        for at in 0..12 {
            // Sweeping lists and deletes, and must go on.
            let plan = FaultPlan::fail_before(at).on_kinds(&[
                OpKind::Put,
                OpKind::Get,
                OpKind::GetRange,
                OpKind::Stat,
            ]);
            let store = Fault::new(mem.clone(), plan);
            failures += usize::from(probe(&store, &*clock(1000), &Counting).is_err());
            assert!(mem.names().is_empty(), "operation {at}");
        }
        assert!(failures > 5);
    }
}
