//! An open repository: the only place that reads and writes stored objects. It keeps the
//! order of writing (docs/FORMAT.md section 9.7).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use age::x25519;
use minicbor::Encode;
use zeroize::Zeroizing;

use crate::model::{EpochId, Error, ErrorKind, Hash, ObjectName, PartyId, RepositoryId, Result};
use crate::ports::{Clock, Entropy, Put, Store};

use super::cbor;
use super::chain::read_chain;
use super::chunker::Sizes;
use super::format::{
    ChunkerParams, Config, ConfigSecret, Epoch, EpochKind, EpochState, Label, Recipient, Times, VERSION,
    Writer,
};
use super::keys::{AnyRecipient, HostKeys, Identities, RecoveryKit, parse_epoch_identity};
use super::layout;
use super::limits::SMALL_OBJECT_MAX_BYTES;
use super::seal::{self, Zstd};
use super::secrets::Derived;
use super::seen::Seen;
use super::sign::{Envelope, Kind, PublicKey};
use super::trust::{Pin, Trusted, sign_config};

/// An epoch key as far as this host has it.
pub struct OpenEpoch {
    /// What it seals.
    pub kind: EpochKind,
    /// Seals.
    pub recipient: x25519::Recipient,
    /// Opens, where this host may.
    pub identity: Option<x25519::Identity>,
}

/// What opening a repository needs.
pub struct OpenWith<'a> {
    /// The pinned root and the lowest acceptable config.
    pub pin: Pin,
    /// This host's keys; none when only a recovery kit is at hand.
    pub host: Option<HostKeys>,
    /// Identities given for this command.
    pub identities: &'a Identities,
    /// This repository's caches are kept below this folder.
    pub cache_root: PathBuf,
    /// zstd level for what is written.
    pub compression_level: i32,
}

/// An open repository.
pub struct Repository {
    store: Arc<dyn Store>,
    trusted: Trusted,
    derived: Derived,
    labels: Vec<Label>,
    epochs: HashMap<EpochId, OpenEpoch>,
    host: Option<HostKeys>,
    cache_dir: PathBuf,
    level: i32,
    zstd_pool: Mutex<Vec<Zstd>>,
    given_identities: bool,
}

/// What `create` made.
pub struct Created {
    /// The new repository's id.
    pub repository: RepositoryId,
    /// The root's public key, to pin.
    pub root: PublicKey,
}

/// What a new repository is made of.
pub struct NewRepository<'a> {
    /// Root and first recovery identity.
    pub kit: &'a RecoveryKit,
    /// Its id, already in the kit's file.
    pub id: RepositoryId,
    /// The first writer.
    pub writer: &'a HostKeys,
    /// The writer's name for people.
    pub writer_label: String,
    /// More who may recover.
    pub recipients: Vec<AnyRecipient>,
}

/// Random bytes of any length.
pub fn random<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// Makes a repository in an empty place.
pub fn create<C: age::Callbacks>(
    store: &dyn Store,
    new: &NewRepository<'_>,
    callbacks: C,
    entropy: &dyn Entropy,
    clock: &dyn Clock,
) -> Result<Created> {
    refuse_non_empty(store)?;
    let mut recipients =
        vec![(PartyId(random(entropy)?), AnyRecipient::X25519(new.kit.identity.to_public()))];
    for recipient in &new.recipients {
        recipients.push((PartyId(random(entropy)?), recipient.clone()));
    }
    let (data, data_key) = new_epoch(EpochKind::Data, entropy)?;
    let (meta, meta_key) = new_epoch(EpochKind::Meta, entropy)?;
    for (who, recipient) in &recipients {
        put_new(store, &layout::key(&data.id, who), &recipient.seal_identity(&data_key, callbacks.clone())?)?;
        put_new(store, &layout::key(&meta.id, who), &recipient.seal_identity(&meta_key, callbacks.clone())?)?;
    }
    let writer_recipient = AnyRecipient::X25519(new.writer.identity.to_public());
    let writer_id = new.writer.sign.party();
    put_new(
        store,
        &layout::key(&meta.id, &writer_id),
        &writer_recipient.seal_identity(&meta_key, callbacks)?,
    )?;
    let mut labels = vec![
        Label { party: recipients[0].0, text: "recovery kit".to_owned() },
        Label { party: writer_id, text: new.writer_label.clone() },
    ];
    labels.sort_by_key(|l| l.party);
    let secret = ConfigSecret { master: random(entropy)?, labels };
    let sealed = seal_secret(&secret, &meta_key.to_public())?;
    let config = Config {
        version: VERSION,
        repository: new.id,
        number: 0,
        parent: None,
        made: clock.now(),
        root: new.kit.root.public(),
        chunker: ChunkerParams { bulk: Sizes::BULK, fine: Sizes::FINE },
        times: Times::default(),
        epochs: vec![data, meta],
        recipients: recipients
            .iter()
            .map(|(id, r)| Recipient { id: *id, kind: r.kind().to_owned(), recipient: r.text() })
            .collect(),
        writers: vec![Writer {
            id: writer_id,
            signing_key: new.writer.sign.public(),
            recipient: new.writer.identity.to_public().to_string(),
            rights: 0,
            shares_with: Vec::new(),
        }],
        drills: Vec::new(),
        revocations: Vec::new(),
        sealed,
    };
    let (name, bytes) = sign_config(&config, &new.kit.root);
    put_new(store, &name, &bytes)?;
    Ok(Created { repository: config.repository, root: config.root })
}

/// What a probe left is nothing: `init` tries the store out first, and may not be allowed to delete.
fn refuse_non_empty(store: &dyn Store) -> Result<()> {
    store.list("", &mut |meta| match meta.name.is_of_a_probe() {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Refused,
            "make a repository",
            format!("the place is not empty: it holds {}", meta.name),
        )
        .on(store.describe())
        .hint("name an empty folder or prefix; an existing repository is opened, not made")),
    })
}

pub(super) fn put_new(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    match store.put(name, &[bytes])? {
        Put::Created => Ok(()),
        // A put whose answer was lost, and that was tried again, finds itself.
        Put::Exists if store.get(name, bytes.len() as u64).is_ok_and(|there| there == bytes) => Ok(()),
        Put::Exists => {
            Err(Error::new(ErrorKind::Exists, "write the object", "there is one of this name already")
                .on(name.to_string()))
        }
    }
}

/// A fresh epoch and its identity.
pub fn new_epoch(kind: EpochKind, entropy: &dyn Entropy) -> Result<(Epoch, x25519::Identity)> {
    let identity = x25519::Identity::generate();
    let epoch = Epoch {
        id: EpochId(random(entropy)?),
        kind,
        recipient: identity.to_public().to_string(),
        state: EpochState::Current,
    };
    Ok((epoch, identity))
}

pub(super) fn seal_secret(secret: &ConfigSecret, meta: &x25519::Recipient) -> Result<Vec<u8>> {
    let plain = Zeroizing::new(cbor::encode(secret));
    seal::seal(&mut Zstd::new(3)?, meta, &plain)
}

impl Repository {
    /// Opens a repository with whatever keys are at hand.
    pub fn open(store: Arc<dyn Store>, with: OpenWith<'_>) -> Result<Self> {
        let named = |e: Error| if e.subject().is_none() { e.on(store.describe()) } else { e };
        let mut trusted = read_chain(&*store, &with.pin).map_err(named)?;
        let cache_dir = with.cache_root.join(trusted.repository().to_string());
        // Another run on this host may have seen a newer one since this list was made.
        if trusted.config.number < Seen::load(&cache_dir).config {
            trusted = read_chain(&*store, &with.pin).map_err(named)?;
        }
        let mut epochs = HashMap::new();
        for epoch in &trusted.config.epochs {
            let recipient = x25519::Recipient::from_str(&epoch.recipient).map_err(|why| {
                Error::new(
                    ErrorKind::Damaged,
                    "read the configuration",
                    format!("an epoch's recipient is not one: {why}"),
                )
            })?;
            let is_drill = |host: &&HostKeys| trusted.config.drills.iter().any(|d| d.id == host.sign.party());
            let host = with.host.as_ref().filter(|host| epoch.kind == EpochKind::Meta || is_drill(host));
            let identity = open_epoch(&*store, epoch, host, with.identities)?;
            epochs.insert(epoch.id, OpenEpoch { kind: epoch.kind, recipient, identity });
        }
        let current = trusted.current_epoch(EpochKind::Meta)?.id;
        let Some(identity) = epochs[&current].identity.as_ref() else {
            if let Some(error) = with.host.as_ref().and_then(|host| replaced(&trusted, host)) {
                return Err(error.with_kind(ErrorKind::WrongKey).on(store.describe()));
            }
            let party = with.host.as_ref().map(|host| host.sign.party());
            if let Some(party) = party.filter(|party| trusted.writer(party).is_none()) {
                return Err(Error::new(
                    ErrorKind::WrongKey,
                    "open the repository",
                    format!("this host's key {party} is not admitted yet, or was revoked"),
                )
                .on(store.describe())
                .hint("whoever holds the recovery kit admits it: `muster key admit` with this host's `muster key request`"));
            }
            return Err(Error::new(
                ErrorKind::WrongKey,
                "open the repository",
                "no key at hand opens its metadata",
            )
            .on(store.describe())
            .hint("give the recovery kit with --identity file:KIT, or run where this host's keys are"));
        };
        let plain = seal::open(&mut Zstd::new(3)?, identity, &trusted.config.sealed, SMALL_OBJECT_MAX_BYTES)
            .map_err(|e| e.on("config's sealed part"))?;
        let secret: ConfigSecret = cbor::decode(&plain, "config's sealed part")?;
        create_private_dir(&cache_dir)?;
        refuse_rollback(&cache_dir, &trusted)?;
        Ok(Self {
            derived: Derived::new(&Zeroizing::new(secret.master)),
            labels: secret.labels.clone(),
            store,
            trusted,
            epochs,
            host: with.host,
            cache_dir,
            level: with.compression_level,
            zstd_pool: Mutex::new(Vec::new()),
            given_identities: !with.identities.is_empty(),
        })
    }

    /// The store.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }
    /// The newest trusted config.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }
    /// The repository's id.
    pub fn id(&self) -> &RepositoryId {
        self.trusted.repository()
    }
    /// Keys derived from the master secret.
    pub fn derived(&self) -> &Derived {
        &self.derived
    }
    /// This host's cache of this repository.
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }
    /// The name for people of a party.
    pub fn label(&self, party: &PartyId) -> Option<&str> {
        self.labels.iter().find(|l| l.party == *party).map(|l| l.text.as_str())
    }
    /// This host's own keys, admitted or not.
    pub fn host(&self) -> Option<&HostKeys> {
        self.host.as_ref()
    }
    /// All labels.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }
    /// An epoch.
    pub fn epoch(&self, id: &EpochId) -> Result<&OpenEpoch> {
        self.epochs.get(id).ok_or_else(|| {
            Error::new(ErrorKind::Untrusted, "open", format!("epoch {id} is not in the configuration"))
        })
    }
    /// Every epoch.
    pub fn epochs(&self) -> &HashMap<EpochId, OpenEpoch> {
        &self.epochs
    }
    /// The epoch to which new bytes of a kind are sealed.
    pub fn current_epoch(&self, kind: EpochKind) -> Result<(EpochId, &x25519::Recipient)> {
        let id = self.trusted.current_epoch(kind)?.id;
        Ok((id, &self.epoch(&id)?.recipient))
    }
    /// Whether identities were given for this command, fitting ones or not.
    pub fn was_given_identities(&self) -> bool {
        self.given_identities
    }
    /// Whether content can be opened here.
    pub fn can_open_data(&self) -> bool {
        self.epochs.values().any(|e| e.kind == EpochKind::Data && e.identity.is_some())
    }
    /// Why content cannot be opened here, and what to do: for those who wanted to do `what`.
    pub fn no_data_key(&self, what: &str) -> Error {
        if self.given_identities {
            return Error::new(ErrorKind::WrongKey, what, "the identity that was given opens nothing of it")
                .hint(format!(
                    "is it that of another repository? This is repository {}, and its recovery kit names it",
                    self.id()
                ));
        }
        Error::new(ErrorKind::WrongKey, what, "the keys at hand open names and sizes only").hint(
            "give the recovery kit: --identity file:KIT (a backup host cannot read its own backups; that is meant so)",
        )
    }
    /// Identities of all metadata epochs that this host has.
    pub fn meta_identities(&self) -> Vec<&dyn age::Identity> {
        let meta = self.epochs.values().filter(|e| e.kind == EpochKind::Meta);
        meta.filter_map(|e| e.identity.as_ref()).map(|i| i as &dyn age::Identity).collect()
    }
    /// This host's keys as a writer in good standing.
    pub fn writer(&self) -> Result<&HostKeys> {
        let host = self.host.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Config, "write to the repository", "this host's keys are not given")
                .hint("set repository.keys in muster.toml to the file that `muster init` or `muster key request` wrote")
        })?;
        let party = host.sign.party();
        match self.trusted.writer(&party) {
            Some(writer) if writer.signing_key == host.sign.public() => Ok(host),
            Some(_) if let Some(error) = replaced(&self.trusted, host) => Err(error),
            _ => Err(Error::new(ErrorKind::Untrusted, "write to the repository", format!("this host's key {party} is not admitted, or was revoked"))
                .hint("ask the holder of the root key to run `muster key admit` with this host's `muster key request`")),
        }
    }

    /// The newest config that the store has now; it may have grown since this was opened.
    pub fn trusted_now(&self) -> Result<Trusted> {
        // What was seen before the list was made stands in it; what another run sees meanwhile need not.
        let lowest = self.trusted.config.number.max(Seen::load(&self.cache_dir).config);
        let pin = Pin { root: Some(self.trusted.config.root), lowest };
        let now = read_chain(&*self.store, &pin)?;
        Seen::raise(&self.cache_dir, now.config.number, &BTreeMap::new())?;
        Ok(now)
    }

    /// Runs `work` with a zstd context of the pool.
    pub fn with_zstd<T>(&self, work: impl FnOnce(&mut Zstd) -> Result<T>) -> Result<T> {
        let pooled = self.zstd_pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        let mut zstd = match pooled {
            Some(zstd) => zstd,
            None => Zstd::new(self.level)?,
        };
        let result = work(&mut zstd);
        self.zstd_pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(zstd);
        result
    }

    /// A zstd context of this repository's level.
    pub fn new_zstd(&self) -> Result<Zstd> {
        Zstd::new(self.level)
    }

    // ---- small signed objects ----

    /// Signs `value` with this host's key, seals it to the metadata epoch and stores it.
    pub fn put_signed<T: Encode<()>>(&self, kind: Kind, name: &ObjectName, value: &T) -> Result<Hash> {
        let key = &self.writer()?.sign;
        let envelope = Envelope::sign(key, self.id(), kind, Some(name), cbor::encode(value));
        let sealed = self.seal_envelope(&envelope)?;
        put_new(&*self.store, name, &sealed)?;
        Ok(envelope.payload_hash())
    }

    /// Seals an envelope to the current metadata epoch.
    pub fn seal_envelope(&self, envelope: &Envelope) -> Result<Vec<u8>> {
        let (_, recipient) = self.current_epoch(EpochKind::Meta)?;
        self.with_zstd(|zstd| seal::seal(zstd, recipient, &cbor::encode(envelope)))
    }

    /// Opens a sealed envelope, whose signature is still to be checked.
    pub fn open_envelope(&self, name: &ObjectName, sealed: &[u8], limit: usize) -> Result<Envelope> {
        self.with_zstd(|zstd| zstd.decompress(&seal::decrypt(&self.meta_identities(), sealed)?, limit))
            .and_then(|plain| cbor::decode(&plain, "envelope"))
            .map_err(|e| e.on(name.to_string()))
    }
}

/// Where these keys are older ones of a host that has newer ones by now: says so.
fn replaced(trusted: &Trusted, host: &HostKeys) -> Option<Error> {
    let party = host.sign.party();
    let writer = trusted.writer(&party).map(|writer| writer.signing_key);
    let current = writer.or_else(|| trusted.drill_key(&party).copied())?;
    (current != host.sign.public()).then(|| {
        let why = format!("this host's key {party} was replaced by a new one");
        Error::new(ErrorKind::Untrusted, "use the repository", why)
            .hint("put the new key file in the place of the old one, as `key request` said when it was made")
    })
}

/// A config older than one that this host has seen is refused; a newer one is remembered.
fn refuse_rollback(cache_dir: &Path, trusted: &Trusted) -> Result<()> {
    let seen = Seen::load(cache_dir);
    let number = trusted.config.number;
    if number < seen.config {
        return Err(Error::new(
            ErrorKind::Untrusted,
            "trust the repository's configuration",
            format!("its newest number is {number}, but this host has seen number {}: it was rolled back", seen.config),
        )
        .hint("somebody who may write to the store put an older state there; restore the newer objects in config/ from a replica or the bucket's versions"));
    }
    Seen::raise(cache_dir, number, &BTreeMap::new())
}

fn key_files(store: &dyn Store, epoch: &EpochId) -> Result<Vec<ObjectName>> {
    let mut names = Vec::new();
    store.list(&format!("{}{epoch}/", layout::KEYS), &mut |meta| {
        names.push(meta.name);
        Ok(())
    })?;
    Ok(names)
}

/// Opens an epoch by the key files of one party: it has several where its keys rotated.
pub(super) fn open_key_of(
    store: &dyn Store,
    epoch: &Epoch,
    who: &PartyId,
    identity: &dyn age::Identity,
) -> Result<Option<x25519::Identity>> {
    for name in key_files(store, &epoch.id)?.into_iter().filter(|name| layout::is_key_of(name, who)) {
        let sealed = store.get(&name, SMALL_OBJECT_MAX_BYTES as u64)?;
        let opened = seal::decrypt(&[identity], &sealed).ok().and_then(|plain| parse_epoch_identity(&plain));
        if let Some(opened) = opened.filter(|i| i.to_public().to_string() == epoch.recipient) {
            return Ok(Some(opened));
        }
    }
    Ok(None)
}

fn open_epoch(
    store: &dyn Store,
    epoch: &Epoch,
    host: Option<&HostKeys>,
    identities: &Identities,
) -> Result<Option<x25519::Identity>> {
    let is_it = |identity: &x25519::Identity| identity.to_public().to_string() == epoch.recipient;
    if let Some(host) = host {
        let opened = open_key_of(store, epoch, &host.sign.party(), &host.identity)?;
        if opened.is_some() {
            return Ok(opened);
        }
    }
    if identities.is_empty() {
        return Ok(None);
    }
    let refs = identities.as_refs();
    for name in key_files(store, &epoch.id)? {
        let sealed = store.get(&name, SMALL_OBJECT_MAX_BYTES as u64)?;
        match seal::decrypt(&refs, &sealed) {
            Ok(plain) => match parse_epoch_identity(&plain).filter(|i| is_it(i)) {
                Some(identity) => return Ok(Some(identity)),
                None => {
                    tracing::warn!(%name, "a key file opens, but does not hold this epoch's key: somebody may have replaced it")
                }
            },
            Err(error) if error.kind() == ErrorKind::WrongKey => {}
            Err(error) => tracing::warn!(%name, %error, "a key file cannot be read"),
        }
    }
    Ok(None)
}

fn create_private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Error::io("make the cache folder", dir.display().to_string(), e))
}
