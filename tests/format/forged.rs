//! What an admitted writer may not do to another's points.

use std::path::Path;
use std::sync::Arc;

use muster::model::{PartyId, Result, Secret, Time};
use muster::ports::Store;
use muster::repo::format::{RIGHT_APPEND_ONLY, RIGHT_REMOVE_OTHERS, Tombstone, Writer};
use muster::repo::keys::{HostKeys, Identities};
use muster::repo::layout;
use muster::repo::points::{PointList, StoredPoint};
use muster::repo::repository::{OpenWith, Repository};
use muster::repo::sign::Kind;
use muster::repo::trust::Pin;
use muster::stores::local::Local;
use muster::sys::OsEntropy;

use crate::committed::copy;

struct Home {
    path: std::path::PathBuf,
    other: Secret<String>,
}

impl Home {
    /// The repository as its second writer has it, with the kit at hand.
    fn open(&self) -> Result<(Repository, Identities)> {
        let mut identities = Identities::default();
        let kit = Secret::new(std::fs::read(self.path.join("kit.txt")).unwrap());
        identities.add_file(&kit, "kit", age::NoCallbacks)?;
        let store: Arc<dyn Store> = Arc::new(Local::open(&self.path.join("repo"))?);
        let with = OpenWith {
            pin: Pin { root: identities.root.as_ref().map(|r| r.public()), lowest: 0 },
            host: Some(HostKeys::parse(&self.other)?),
            identities: &identities,
            cache_root: self.path.join("cache"),
            compression_level: 3,
        };
        Ok((Repository::open(store, with)?, identities))
    }

    /// Admits the second writer, or changes its rights.
    fn admit(&self, rights: u32) {
        let (repo, identities) = self.open().unwrap();
        let keys = HostKeys::parse(&self.other).unwrap();
        let entry = Writer {
            id: keys.sign.party(),
            signing_key: keys.sign.public(),
            recipient: keys.identity.to_public().to_string(),
            rights,
            shares_with: Vec::new(),
        };
        repo.amend_config(identities.root.as_ref().unwrap(), Time::new(0, 0), None, |config, _| {
            config.writers.retain(|w| w.id != entry.id);
            config.writers.push(entry);
            Ok(())
        })
        .unwrap();
    }

    fn points(&self) -> PointList {
        self.open().unwrap().0.points().unwrap()
    }

    /// Puts a tombstone that the second writer signed.
    fn bury(&self, stone: &Tombstone) {
        let name = layout::tombstone(&stone.point);
        let _ = std::fs::remove_file(self.path.join("repo").join(name.as_str()));
        self.open().unwrap().0.put_signed(Kind::Tombstone, &name, stone).unwrap();
    }
}

fn stone(of: &StoredPoint, by: PartyId) -> Tombstone {
    let point = &of.point;
    Tombstone {
        point: point.id,
        hash: of.hash,
        writer: point.writer,
        job: point.job.clone(),
        seq: point.seq,
        by,
        rule: "forged".to_owned(),
        at: Time::new(0, 0),
    }
}

#[test]
fn a_writer_removes_no_other_writers_points_without_the_right() {
    let (_guard, path) = copy();
    let keys = HostKeys::generate(&OsEntropy).unwrap();
    let own = keys.sign.party();
    let home = Home { path, other: keys.to_file("a second writer") };
    home.admit(0);
    let before = home.points();
    let victim = before.points.last().unwrap();
    let still_there = |what: &str| {
        let list = home.points();
        assert!(list.points.iter().any(|p| p.hash == victim.hash), "removed by a tombstone {what}");
    };
    home.bury(&stone(victim, own));
    still_there("of a writer without the right");
    home.bury(&stone(victim, victim.point.writer));
    still_there("that says the point's writer signed it");
    home.bury(&Tombstone { writer: own, ..stone(victim, own) });
    still_there("that says the point is the signer's own");
    home.bury(&Tombstone { writer: own, seq: 9, ..stone(victim, own) });
    still_there("of another number");
    home.admit(RIGHT_REMOVE_OTHERS);
    home.bury(&stone(victim, own));
    let list = home.points();
    assert!(list.removed.iter().any(|p| p.hash == victim.hash), "the right to remove does not count");
    assert!(Path::new(&home.path).join("repo/points").join(victim.point.id.to_string()).is_file());
}

#[test]
fn a_writer_that_may_only_add_removes_nothing() {
    let (_guard, path) = copy();
    let keys = HostKeys::generate(&OsEntropy).unwrap();
    let home = Home { path, other: keys.to_file("a second writer") };
    home.admit(RIGHT_REMOVE_OTHERS | RIGHT_APPEND_ONLY);
    let before = home.points();
    let victim = before.points.last().unwrap();
    home.bury(&stone(victim, keys.sign.party()));
    assert!(home.points().points.iter().any(|p| p.hash == victim.hash));
}
