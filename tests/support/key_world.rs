//! A repository in memory with its parties, for tests of keys.

use std::sync::Arc;

use age::secrecy::SecretString;
use age::x25519;
use muster::jobs::keys::{self, Authority, HostRole};
use muster::model::{
    ChunkClass, Entry, EntryKind, EntryPath, ObjectName, RepositoryId, Result, Secret, Time, TreeRef, Ulid,
};
use muster::ports::{Selection, Store, StreamContent, StreamWriter};
use muster::repo::format::{EpochKind, Point, PointSource, Predecessor, SessionState, SourceStatus, Totals};
use muster::repo::index::Index;
use muster::repo::keys::{AnyRecipient, HostKeys, Identities, KeyRequest, RecoveryKit, parse_epoch_identity};
use muster::repo::layout::{self, PackKind};
use muster::repo::limits::LOCATOR_BYTES;
use muster::repo::pack::{PACK_MAGIC, open_directory, parse_locator};
use muster::repo::pipeline::{self, Counters, Options, SinkOptions};
use muster::repo::reader::Reader;
use muster::repo::repository::{NewRepository, OpenWith, Repository, create, random};
use muster::repo::seal;
use muster::repo::trust::Pin;
use muster::stores::Mem;
use muster::stores::wrap::{Fault, FaultPlan};
use muster::sys::{ManualClock, OsEntropy};

/// Answers every question with one passphrase, or none.
#[derive(Clone, Default)]
pub struct Ask(pub Option<String>);

impl age::Callbacks for Ask {
    fn display_message(&self, _: &str) {}
    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }
    fn request_public_string(&self, _: &str) -> Option<String> {
        None
    }
    fn request_passphrase(&self, _: &str) -> Option<SecretString> {
        self.0.clone().map(SecretString::from)
    }
}

pub const ENTROPY: &OsEntropy = &OsEntropy;
const FAR_FUTURE: Time = Time { secs: 4_102_444_800, nanos: 0 };

/// Bytes that do not compress; `seed` chooses them.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

pub fn copy_of(keys: &HostKeys) -> HostKeys {
    HostKeys::parse(&keys.to_file("test")).unwrap()
}

pub fn identity_of(keys: &HostKeys) -> Identities {
    let mut identities = Identities::default();
    let file = Secret::new(keys.to_file("test").expose().clone().into_bytes());
    identities.add_file(&file, "host keys", age::NoCallbacks).unwrap();
    identities
}

pub fn identity_text(text: &str) -> Identities {
    let mut identities = Identities::default();
    identities.add_file(&Secret::new(text.as_bytes().to_vec()), "identity", age::NoCallbacks).unwrap();
    identities
}

pub struct World {
    pub store: Arc<dyn Store>,
    pub mem: Arc<Mem>,
    pub kit: RecoveryKit,
    pub writer: HostKeys,
    pub clock: ManualClock,
    id: RepositoryId,
    caches: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::with_recipients(Vec::new())
    }

    pub fn with_recipients(recipients: Vec<AnyRecipient>) -> Self {
        let mem = Arc::new(Mem::default());
        let world = Self {
            store: mem.clone(),
            mem,
            kit: RecoveryKit::generate(ENTROPY).unwrap(),
            writer: HostKeys::generate(ENTROPY).unwrap(),
            clock: ManualClock::new(Time::new(1_767_225_600, 0)),
            id: RepositoryId(random(ENTROPY).unwrap()),
            caches: tempfile::tempdir().unwrap(),
        };
        let new = NewRepository {
            kit: &world.kit,
            id: world.id,
            writer: &world.writer,
            writer_label: "web-1".to_owned(),
            recipients,
        };
        create(&*world.store, &new, Ask::default(), ENTROPY, &world.clock).unwrap();
        world
    }

    /// A copy of the store as it is now, which goes its own way and may fail.
    pub fn fork(&self, plan: FaultPlan) -> (Self, Arc<Fault>) {
        let mem = Arc::new(self.mem.fork());
        let fault = Arc::new(Fault::new(mem.clone(), plan));
        let fork = Self {
            store: fault.clone(),
            mem,
            kit: RecoveryKit { root: self.kit.root.clone(), identity: self.kit.identity.clone() },
            writer: copy_of(&self.writer),
            clock: ManualClock::new(Time::new(1_767_225_600, 0)),
            id: self.id,
            caches: tempfile::tempdir().unwrap(),
        };
        (fork, fault)
    }

    /// The same store without its faults.
    pub fn healed(mut self) -> Self {
        self.store = self.mem.clone();
        self
    }

    /// Opens with a cache of its own for each `cache`.
    pub fn open(&self, cache: &str, host: Option<&HostKeys>, identities: &Identities) -> Result<Repository> {
        let with = OpenWith {
            pin: Pin { root: Some(self.kit.root.public()), lowest: 0 },
            host: host.map(copy_of),
            identities,
            cache_root: self.caches.path().join(cache),
            compression_level: 3,
        };
        Repository::open(self.store.clone(), with)
    }

    pub fn kit_identities(&self) -> Identities {
        let file = self.kit.to_file(&self.id, "mem", "today").expose().clone();
        identity_text(&file)
    }

    pub fn as_kit(&self) -> Repository {
        self.open("kit", None, &self.kit_identities()).unwrap()
    }

    pub fn as_host(&self, keys: &HostKeys) -> Repository {
        self.open(&keys.sign.party().to_string(), Some(keys), &Identities::default()).unwrap()
    }

    pub fn by<'a>(&'a self, ask: &Ask) -> Authority<'a, Ask> {
        Authority { root: &self.kit.root, callbacks: ask.clone(), entropy: ENTROPY, clock: &self.clock }
    }

    pub fn root(&self) -> Authority<'_, Ask> {
        self.by(&Ask::default())
    }

    /// Lets a new host in and answers with its keys.
    pub fn admit(&self, role: HostRole, label: &str) -> HostKeys {
        let (keys, request) = keys::request(role, label, None, ENTROPY).unwrap();
        keys::admit(&self.as_kit(), &self.root(), &request, None).unwrap();
        keys
    }

    /// Gives a host new keys.
    pub fn renew(&self, role: HostRole, keys: &HostKeys) -> (HostKeys, KeyRequest) {
        let (new, request) = keys::request(role, "", Some(keys), ENTROPY).unwrap();
        keys::admit(&self.as_kit(), &self.root(), &request, None).unwrap();
        (new, request)
    }
}

struct Bytes(Vec<u8>);

impl StreamContent for Bytes {
    fn read(&mut self, _: &mut Entry, out: &mut dyn StreamWriter) -> Result<()> {
        out.write(&self.0)
    }
}

/// Backs one file up as `job`, through the pipeline, and answers with the point's name and totals.
pub fn back_up(repo: &Repository, job: &str, content: &[u8]) -> (ObjectName, Totals) {
    let (index, _) = Index::sync(repo).unwrap();
    let session = Ulid::new(Time::new(1_767_225_600, 0), random(ENTROPY).unwrap());
    let announced = repo.session(session, job, 0, SessionState::Running, Time::default()).unwrap();
    repo.put_session(&announced).unwrap();
    let counters = Arc::new(Counters::default());
    let options = Options {
        memory_bytes: 64 << 20,
        threads: 1,
        uploads: 1,
        dry_run: false,
        avoid: Default::default(),
        began: muster::model::Time::new(0, 0),
        cancel: Default::default(),
    };
    let outcome = pipeline::run(repo, &index, options, counters.clone(), |pipeline| {
        pipeline.capture(SinkOptions::default(), |sink| {
            let entry = Entry::new(EntryPath::from_display(b"file").unwrap(), EntryKind::File);
            sink.add_stream(entry, ChunkClass::Bulk, content.len() as u64, Box::new(Bytes(content.to_vec())))
        })
    });
    let source = source(outcome.unwrap().value.tree, content.len() as u64);
    let totals = counters.totals();
    (put_point(repo, job, session, vec![source], totals).unwrap(), totals)
}

fn source(tree: TreeRef, bytes: u64) -> PointSource {
    PointSource {
        name: "files".to_owned(),
        kind: "files".to_owned(),
        status: SourceStatus::Complete,
        started: Time::default(),
        ended: Time::default(),
        catalogue: Some(tree),
        items: 1,
        bytes,
        unreadable: 0,
        changed: 0,
        facts: None,
        counts: Vec::new(),
        error: None,
        notes: Vec::new(),
        reused: 0,
    }
}

/// Signs the next point of a job.
pub fn put_point(
    repo: &Repository,
    job: &str,
    session: Ulid,
    sources: Vec<PointSource>,
    totals: Totals,
) -> Result<ObjectName> {
    let writer = repo.writer()?.sign.party();
    let before = repo.points()?.newest_of(&writer, job).cloned();
    let point = Point {
        id: Ulid::new(Time::new(1_767_225_600, 0), random(ENTROPY)?),
        writer,
        job: job.to_owned(),
        seq: before.as_ref().map_or(1, |p| p.point.seq + 1),
        predecessor: before.map(|p| Predecessor { id: p.point.id, hash: p.hash }),
        config: repo.trusted().config.number,
        session,
        commit_before: FAR_FUTURE,
        started: Time::default(),
        ended: Time::default(),
        host: "test".to_owned(),
        tags: Vec::new(),
        sources,
        totals,
        muster: "test".to_owned(),
        notes: Vec::new(),
    };
    repo.put_point(&point)?;
    Ok(layout::point(&point.id))
}

/// The content of the file in a point.
pub fn read_back(repo: &Repository, point: &ObjectName) -> Result<Vec<u8>> {
    let (index, _) = Index::sync(repo)?;
    let meta = repo.store().stat(point)?.expect("the point is there");
    let stored = repo.read_point(&meta)?;
    let reader = Reader::new(repo, &index, 1 << 20);
    let mut content = Vec::new();
    reader.catalogue(
        stored.point.sources[0].catalogue.as_ref().unwrap(),
        &Selection::default(),
        &mut |entry| {
            content = reader.read_all(entry.content.as_ref().unwrap(), 64 << 20)?;
            Ok(())
        },
    )?;
    Ok(content)
}

/// Epoch identities that somebody can get who has `identities` and can read all of `keys/`.
pub fn obtainable(world: &World, identities: &[&dyn age::Identity]) -> Vec<x25519::Identity> {
    let names = world.mem.names().into_iter().filter(|n| n.as_str().starts_with("keys/"));
    let opened =
        names.filter_map(|name| seal::decrypt(identities, &world.mem.get(&name, 1 << 20).unwrap()).ok());
    opened.map(|plain| parse_epoch_identity(&plain).unwrap()).collect()
}

/// How many blobs of all packs of one kind these identities open, and how many not.
pub fn try_every_blob(world: &World, kind: PackKind, identities: &[&dyn age::Identity]) -> (usize, usize) {
    let repo = world.as_kit();
    let (mut opened, mut closed) = (0, 0);
    for (id, (pack_kind, _)) in repo.list_packs().unwrap() {
        if pack_kind != kind {
            continue;
        }
        for blob in blobs(&repo, &world.mem.get(&layout::pack(kind, &id), 1 << 30).unwrap()) {
            match seal::decrypt(identities, &blob) {
                Ok(_) => opened += 1,
                Err(_) => closed += 1,
            }
        }
    }
    (opened, closed)
}

fn blobs(repo: &Repository, pack: &[u8]) -> Vec<Vec<u8>> {
    let end = pack.len() - LOCATOR_BYTES;
    let body = end - parse_locator(&pack[end..], PACK_MAGIC).unwrap() as usize;
    let directory = repo
        .with_zstd(|zstd| open_directory(zstd, &repo.meta_identities(), &pack[body..end], body as u64))
        .unwrap();
    let mut rest = pack;
    let mut cut = Vec::new();
    for record in directory.records {
        let (blob, after) = rest.split_at(record.sealed_len as usize);
        cut.push(blob.to_vec());
        rest = after;
    }
    cut
}

pub fn refs(identities: &[x25519::Identity]) -> Vec<&dyn age::Identity> {
    identities.iter().map(|i| i as &dyn age::Identity).collect()
}

pub fn current_recipient(repo: &Repository, kind: EpochKind) -> String {
    repo.current_epoch(kind).unwrap().1.to_string()
}
