//! The root-signed configuration chain, and whose signature is worth what
//! (docs/FORMAT.md section 5).

use crate::model::{Error, ErrorKind, Hash, ObjectName, PartyId, RepositoryId, Result};

use super::cbor;
use super::format::{
    Config, Epoch, EpochKind, EpochState, Point, RIGHT_APPEND_ONLY, RIGHT_REMOVE_OTHERS, Revocation, VERSION,
    VersionOnly, Writer,
};
use super::layout;
use super::sign::{Envelope, Kind, PublicKey, ROOT, SignKey};

/// What a host pins in `muster.toml`, and remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The root's public key; `None` only while a repository is first met with its recovery kit.
    pub root: Option<PublicKey>,
    /// Lowest acceptable config number.
    pub lowest: u64,
}

/// The newest config, verified from number 0 on.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// What it says.
    pub config: Config,
    /// Hash of its object.
    pub hash: Hash,
}

/// One stored config object.
pub struct ConfigObject {
    /// Its name.
    pub name: ObjectName,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Signs the next config of a chain. Answers with name and bytes.
pub fn sign_config(config: &Config, root: &SignKey) -> (ObjectName, Vec<u8>) {
    let envelope = Envelope::sign(root, &config.repository, Kind::Config, None, cbor::encode(config));
    let bytes = cbor::encode(&envelope);
    let hash = Hash(*blake3::hash(&bytes).as_bytes());
    (layout::config(config.number, &hash), bytes)
}

fn refuse(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Untrusted, "trust the repository's configuration", why)
        .hint("do not back up to it or restore from it until you know who wrote to the store; a copy of an earlier state shows what changed")
}

/// Verifies the whole chain, and answers with the newest. Takes the objects in any order.
pub fn verify_chain(objects: Vec<ConfigObject>, pin: &Pin) -> Result<Trusted> {
    verify_whole_chain(objects, pin)?.pop().ok_or_else(no_repository)
}

fn no_repository() -> Error {
    Error::new(ErrorKind::NotFound, "open the repository", "there is no repository at this place")
        .hint("check the store's address, or make one with `muster init`")
}

/// Verifies the whole chain, and answers with all of it, from number 0 on.
pub fn verify_whole_chain(objects: Vec<ConfigObject>, pin: &Pin) -> Result<Vec<Trusted>> {
    let mut configs = Vec::with_capacity(objects.len());
    for object in objects {
        configs.push(decode_config(&object)?);
    }
    configs.sort_by_key(|(config, _)| config.number);
    let mut chain: Vec<Trusted> = Vec::with_capacity(configs.len());
    for (config, hash) in configs {
        check_link(chain.last(), &config, pin)?;
        chain.push(Trusted { config, hash });
    }
    let trusted = chain.last().ok_or_else(no_repository)?;
    if trusted.config.number < pin.lowest {
        return Err(refuse(format!(
            "its newest number is {}, but this host knows number {}: it was rolled back",
            trusted.config.number, pin.lowest
        )));
    }
    Ok(chain)
}

/// Reads one config object, and checks what can be checked of it alone: its hash and the root's signature.
pub fn decode_config(object: &ConfigObject) -> Result<(Config, Hash)> {
    let on = || object.name.to_string();
    let hash = Hash(*blake3::hash(&object.bytes).as_bytes());
    let (number, named) = layout::parse_config(&object.name)
        .ok_or_else(|| refuse("an object's name in config/ is not one of ours").on(on()))?;
    if named != hash {
        return Err(Error::new(
            ErrorKind::Damaged,
            "read the configuration",
            "its bytes are not what its name says",
        )
        .on(on()));
    }
    let envelope: Envelope =
        cbor::decode(&object.bytes, "configuration's envelope").map_err(|e| e.on(on()))?;
    let seen: VersionOnly = minicbor::decode(&envelope.payload)
        .map_err(|e| Error::new(ErrorKind::Damaged, "read the configuration", e.to_string()).on(on()))?;
    if seen.version != VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "open the repository",
            format!("it has format version {}, and this Muster knows version {VERSION}", seen.version),
        )
        .hint("use a newer Muster"));
    }
    let config: Config = cbor::decode(&envelope.payload, "configuration").map_err(|e| e.on(on()))?;
    if envelope.signer != ROOT || config.number != number {
        return Err(refuse("a configuration does not say what its name says").on(on()));
    }
    envelope.verify(&config.root, &config.repository, Kind::Config, None).map_err(|e| e.on(on()))?;
    for kind in [EpochKind::Data, EpochKind::Meta] {
        if config.epochs.iter().filter(|e| e.kind == kind && e.state == EpochState::Current).count() > 1 {
            return Err(refuse("it has two current epoch keys of one kind").on(on()));
        }
    }
    if config.writers.iter().any(|w| w.rights & !(RIGHT_REMOVE_OTHERS | RIGHT_APPEND_ONLY) != 0) {
        return Err(refuse("it gives a writer a right that is not known").on(on()));
    }
    if !config.chunker.bulk.is_valid() || !config.chunker.fine.is_valid() {
        return Err(refuse("its chunk sizes are not usable").on(on()));
    }
    Ok((config, hash))
}

fn check_link(before: Option<&Trusted>, config: &Config, pin: &Pin) -> Result<()> {
    let on = || format!("config number {}", config.number);
    if pin.root.is_some_and(|root| root != config.root) {
        return Err(refuse(format!(
            "it is signed by the root {}, not by the one that is pinned here",
            config.root
        ))
        .on(on()));
    }
    let Some(before) = before else {
        return if config.number == 0 && config.parent.is_none() {
            Ok(())
        } else {
            Err(refuse("its chain does not begin at number 0").on(on()))
        };
    };
    if config.number == before.config.number {
        return Err(refuse("two objects have this number: the chain was forked").on(on()).hint(
            "whoever has the recovery kit finds out which one counts, and takes the other away: `muster repair config`",
        ));
    }
    verify_link(before, config)
}

/// Checks that a config may stand after `before`.
pub fn verify_link(before: &Trusted, config: &Config) -> Result<()> {
    let on = || format!("config number {}", config.number);
    let follows = config.number == before.config.number + 1
        && config.parent == Some(before.hash)
        && config.repository == before.config.repository
        && config.root == before.config.root;
    if !follows {
        return Err(refuse("it does not follow the one before").on(on()));
    }
    taken_away(&before.config, config).map_or(Ok(()), |why| Err(refuse(why).on(on())))
}

/// What a config takes away that must stay while a key is good, if anything: a tombstone counts by the rights
/// that its signer has *now*, so one that loses a right would raise points whose packs are gone. Only a
/// revocation ends rights, because it names the tombstones that stood (docs/FORMAT.md section 5.4).
fn taken_away(before: &Config, config: &Config) -> Option<String> {
    before.writers.iter().find_map(|old| writer_lost(old, config)).or_else(|| {
        let is_lost = |old: &&Revocation| !config.revocations.iter().any(|new| keeps_all(old, new));
        let lost = before.revocations.iter().find(is_lost)?;
        Some(format!("it takes a revocation of {} back, or something that it kept", lost.party))
    })
}

fn writer_lost(old: &Writer, config: &Config) -> Option<String> {
    let is_key = |r: &Revocation| r.party == old.id && r.signing_key == old.signing_key;
    if config.revocations.iter().any(is_key) {
        return None;
    }
    let Some(new) = config.writers.iter().find(|w| w.id == old.id && w.signing_key == old.signing_key) else {
        return Some(format!("it takes the key of writer {} away without revoking it", old.id));
    };
    let loses = old.rights & RIGHT_REMOVE_OTHERS & !new.rights != 0;
    let is_bound = new.rights & RIGHT_APPEND_ONLY & !old.rights != 0;
    (loses || is_bound).then(|| format!("it takes a right away from writer {}, whose key stays", old.id))
}

fn keeps_all(old: &Revocation, new: &Revocation) -> bool {
    let is_same = old.party == new.party && old.signing_key == new.signing_key;
    is_same && old.kept.iter().all(|hash| new.kept.binary_search(hash).is_ok())
}

impl Trusted {
    /// The repository's id.
    pub fn repository(&self) -> &RepositoryId {
        &self.config.repository
    }

    /// The writer of that id.
    pub fn writer(&self, id: &PartyId) -> Option<&Writer> {
        self.config.writers.iter().find(|w| w.id == *id)
    }

    /// Whether `key` is that of a writer in good standing.
    pub fn is_writers(&self, key: &SignKey) -> bool {
        let public = key.public();
        self.writer(&key.party()).is_some_and(|writer| writer.signing_key == public)
            && !self.revocations(key.party()).any(|r| r.signing_key == public)
    }

    /// The key of a drill host in good standing.
    pub fn drill_key(&self, id: &PartyId) -> Option<&PublicKey> {
        let key = &self.config.drills.iter().find(|d| d.id == *id)?.signing_key;
        (!self.revocations(*id).any(|r| r.signing_key == *key)).then_some(key)
    }

    /// The epoch to which new bytes are sealed.
    pub fn current_epoch(&self, kind: EpochKind) -> Result<&Epoch> {
        self.config
            .epochs
            .iter()
            .find(|e| e.kind == kind && e.state == EpochState::Current)
            .ok_or_else(|| refuse("it has no current epoch key"))
    }

    fn revocations(&self, id: PartyId) -> impl Iterator<Item = &Revocation> {
        self.config.revocations.iter().filter(move |r| r.party == id)
    }

    /// Checks what only a writer that is in good standing may sign.
    pub fn verify_writer(&self, envelope: &Envelope, kind: Kind, name: Option<&ObjectName>) -> Result<()> {
        if let Some(writer) = self.writer(&envelope.signer)
            && !self.revocations(writer.id).any(|r| r.signing_key == writer.signing_key)
            && envelope.verify(&writer.signing_key, self.repository(), kind, name).is_ok()
        {
            return Ok(());
        }
        Err(self.why_untrusted(envelope, kind, name))
    }

    /// Checks what is proved by other means when it is used (index rows by chunk ids), so
    /// that a revoked writer's signature is good enough.
    pub fn verify_writer_past_or_present(
        &self,
        envelope: &Envelope,
        kind: Kind,
        name: Option<&ObjectName>,
    ) -> Result<()> {
        let revoked = |r: &Revocation| envelope.verify(&r.signing_key, self.repository(), kind, name).is_ok();
        if self.revocations(envelope.signer).any(revoked) {
            return Ok(());
        }
        self.verify_writer(envelope, kind, name)
    }

    /// Whether the root, when it revoked the key that signed this, named these very stored bytes
    /// as trusted still (docs/FORMAT.md section 5.3).
    pub fn is_kept(&self, envelope: &Envelope, kind: Kind, name: Option<&ObjectName>, stored: &Hash) -> bool {
        self.revocations(envelope.signer).any(|revocation| {
            revocation.kept.binary_search(stored).is_ok()
                && envelope.verify(&revocation.signing_key, self.repository(), kind, name).is_ok()
        })
    }

    /// Checks a point's signature, and that a revoked key signed it only while it was trusted.
    pub fn verify_point(&self, envelope: &Envelope, name: &ObjectName, point: &Point) -> Result<()> {
        if self.verify_writer(envelope, Kind::Point, Some(name)).is_ok() {
            return Ok(());
        }
        let hash = envelope.payload_hash();
        for revocation in self.revocations(envelope.signer) {
            if envelope.verify(&revocation.signing_key, self.repository(), Kind::Point, Some(name)).is_err() {
                continue;
            }
            // A thief of the key can sign any number: only what stood when it was revoked counts. Two points may
            // have one number, where a list did not show the first yet.
            let was_there = revocation.kept.binary_search(&hash).is_ok();
            let in_row = revocation.trusted.iter().any(|t| t.job == point.job && point.seq <= t.seq);
            if was_there && in_row {
                return Ok(());
            }
        }
        Err(self.why_untrusted(envelope, Kind::Point, Some(name)))
    }

    fn why_untrusted(&self, envelope: &Envelope, kind: Kind, name: Option<&ObjectName>) -> Error {
        let signer = envelope.signer;
        let why = if self
            .revocations(signer)
            .any(|r| envelope.verify(&r.signing_key, self.repository(), kind, name).is_ok())
        {
            format!("it is signed with a key of writer {signer} that was revoked")
        } else if self.writer(&signer).is_some() {
            format!("it says that writer {signer} signed it, but the signature does not verify")
        } else {
            format!("it is signed by {signer}, who is no writer of this repository")
        };
        let error = Error::new(ErrorKind::Untrusted, format!("trust the {}", kind.word()), why)
            .hint("somebody who may write to the store put it there: find out who, and remove it");
        match name {
            Some(name) => error.on(name.to_string()),
            None => error,
        }
    }
}
