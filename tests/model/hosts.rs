//! Hosts that back up, remove, prune and lose their keys, and what must hold all the while.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use muster::jobs::backup::{BackupRequest, backup};
use muster::jobs::hooks::Hooks;
use muster::jobs::keys::{self, Authority, HostRole};
use muster::jobs::prune::{PruneRequest, Settings, prune};
use muster::jobs::retention::{RetentionRequest, retention};
use muster::model::{
    ChunkId, Content, Entry, ErrorKind, Extent, ObjectName, RepositoryId, Result, Secret, TreeRef, Ulid,
};
use muster::policy::retention::Keep;
use muster::ports::{Cancel, Source, Store};
use muster::repo::index::Index;
use muster::repo::keys::{HostKeys, Identities, RecoveryKit};
use muster::repo::layout::{self, PackKind};
use muster::repo::points::PointList;
use muster::repo::reader::{Reader, read_directory};
use muster::repo::repository::{NewRepository, OpenWith, Repository, create};
use muster::repo::tree::{Node, Record, load};
use muster::repo::trust::Pin;
use muster::report::progress::{Progress, ProgressMode};
use muster::stores::Mem;
use muster::sys::{OsEntropy, RealProcess};

use crate::set::{Files, Fixed, read_back};
use crate::sim::{Happening, HostClock, Meanwhile, Process, Rng, Roughness, SimStore, SimTime};

const HOSTS: usize = 3;
const DEPTH_MAX: usize = 2;
const POINTS_WANTED: usize = 6;
const ID: RepositoryId = RepositoryId([7; 16]);

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub operations: u64,
    pub store_operations: u64,
    pub backups: u64,
    pub backups_failed: u64,
    pub prunes: u64,
    pub prunes_failed: u64,
    pub prunes_refused: u64,
    pub points_removed: u64,
    pub packs_condemned: u64,
    pub packs_spared: u64,
    pub packs_repacked: u64,
    pub packs_deleted: u64,
    pub revocations: u64,
    pub crashes: u64,
    pub failures: u64,
    pub sleeps: u64,
    pub interludes: u64,
    pub lagging_lists: u64,
    pub points_read: u64,
}

impl Figures {
    fn fields(&mut self) -> [&mut u64; 19] {
        [
            &mut self.operations,
            &mut self.store_operations,
            &mut self.backups,
            &mut self.backups_failed,
            &mut self.prunes,
            &mut self.prunes_failed,
            &mut self.prunes_refused,
            &mut self.points_removed,
            &mut self.packs_condemned,
            &mut self.packs_spared,
            &mut self.packs_repacked,
            &mut self.packs_deleted,
            &mut self.revocations,
            &mut self.crashes,
            &mut self.failures,
            &mut self.sleeps,
            &mut self.interludes,
            &mut self.lagging_lists,
            &mut self.points_read,
        ]
    }

    pub fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        for (mine, theirs) in self.fields().into_iter().zip(other.fields()) {
            *mine += *theirs;
        }
    }

    /// Whether each kind of thing happened often enough to tell something.
    pub fn is_worth_something(&self) -> bool {
        let share = |n: u64, of: u64, percent: u64| n * 100 >= of * percent;
        share(self.backups - self.backups_failed, self.operations, 7)
            && share(self.prunes - self.prunes_failed, self.operations, 5)
            && share(self.packs_deleted, self.operations, 5)
            && share(self.packs_condemned, self.operations, 5)
            && self.packs_repacked > 0
            && share(self.points_removed, self.operations, 2)
            && share(self.crashes, self.operations, 1)
            && share(self.interludes, self.operations, 5)
            && share(self.lagging_lists, self.operations, 5)
    }
}

struct Host {
    keys: HostKeys,
    cache: tempfile::TempDir,
    skew: i64,
    files: Files,
    /// What it held once; it comes back now and then, after the points that had it are gone.
    past: Vec<Files>,
}

pub struct World {
    me: Weak<World>,
    seed: u64,
    mem: Arc<Mem>,
    time: Arc<SimTime>,
    kit: RecoveryKit,
    hosts: Vec<Mutex<Host>>,
    busy: Mutex<BTreeSet<usize>>,
    deleted: Arc<Mutex<Vec<(muster::ports::ObjectMeta, muster::model::Time)>>>,
    /// What each backup was given, by its tag.
    given: Mutex<HashMap<String, Files>>,
    /// Points of backups that said that they had succeeded.
    promised: Mutex<BTreeSet<Ulid>>,
    next_tag: AtomicU64,
    observer_cache: tempfile::TempDir,
    figures: Mutex<Figures>,
    violation: Mutex<Option<String>>,
    log: Mutex<Vec<String>>,
}

impl World {
    pub fn new(seed: u64) -> Arc<Self> {
        let mut rng = Rng(seed);
        // Some stores tell whole seconds only, and much happens in one of them.
        let time = Arc::new(SimTime::new(seed / 4 % 2 == 1));
        let mem = Arc::new(Mem::new(time.clone()));
        let kit = RecoveryKit::generate(&OsEntropy).unwrap();
        let first = HostKeys::generate(&OsEntropy).unwrap();
        let new = NewRepository {
            kit: &kit,
            id: ID,
            writer: &first,
            writer_label: "host-0".to_owned(),
            recipients: Vec::new(),
        };
        create(&*mem, &new, age::NoCallbacks, &OsEntropy, &*time).unwrap();
        let host = |keys: HostKeys, rng: &mut Rng| {
            Mutex::new(Host {
                keys,
                cache: tempfile::tempdir().unwrap(),
                skew: rng.below(200_000) as i64 - 100_000,
                files: Files::new(),
                past: Vec::new(),
            })
        };
        let mut hosts = vec![host(first, &mut rng)];
        let world = Arc::new_cyclic(|me| {
            for _ in 1..HOSTS {
                // Replaced below, once there is a repository that admits them.
                hosts.push(host(HostKeys::generate(&OsEntropy).unwrap(), &mut rng));
            }
            Self {
                me: me.clone(),
                seed,
                mem,
                time,
                kit,
                hosts,
                busy: Mutex::default(),
                deleted: Arc::default(),
                given: Mutex::default(),
                promised: Mutex::default(),
                next_tag: AtomicU64::new(1),
                observer_cache: tempfile::tempdir().unwrap(),
                figures: Mutex::default(),
                violation: Mutex::default(),
                log: Mutex::default(),
            }
        });
        for number in 1..HOSTS {
            world.admit(number);
        }
        // Every list shows the configuration.
        world.time.pass(2_000);
        world
    }

    /// Whole operations until there were enough, then rest.
    pub fn live(self: &Arc<Self>, operations: u64) -> Figures {
        let mut rng = Rng(self.seed ^ 0xabcd);
        while self.figures.lock().unwrap().operations < operations {
            self.one(&mut rng, 0);
            if rng.chance(300) {
                self.time.pass(rng.below(40_000) as i64);
            }
            self.fail_on_violation();
        }
        self.rest();
        self.fail_on_violation();
        self.figures.lock().unwrap().clone()
    }

    fn fail_on_violation(&self) {
        if let Some(violation) = self.violation.lock().unwrap().take() {
            let log = self.log.lock().unwrap();
            let tail: Vec<&String> = log.iter().rev().take(60).collect();
            for line in tail.into_iter().rev() {
                eprintln!("{line}");
            }
            panic!("seed {}: {violation}", self.seed);
        }
    }

    fn note(&self, depth: usize, what: &str) {
        let now = muster::ports::Clock::now(&*self.time);
        self.log.lock().unwrap().push(format!("{} {}{what}", now.secs - 1_767_225_600, "  ".repeat(depth)));
    }

    /// One operation of a host that does nothing else just now; then all live points are read.
    fn one(self: &Arc<Self>, rng: &mut Rng, depth: usize) {
        let Some(host) = self.occupy(rng) else { return };
        self.figures.lock().unwrap().operations += 1;
        let rough = roughness(self.seed);
        match rng.below(100) {
            0..48 => self.back_up(host, rng, depth, rough),
            48..80 => self.prune(host, rng, depth, rough),
            80..98 => self.remove(host, rng, depth, rough),
            _ => self.revoke(host, depth),
        }
        self.release(host);
    }

    /// A host that does nothing else just now; none once something is wrong.
    fn occupy(&self, rng: &mut Rng) -> Option<usize> {
        let mut busy = self.busy.lock().unwrap();
        let free: Vec<usize> = (0..HOSTS).filter(|host| !busy.contains(host)).collect();
        if free.is_empty() || self.violation.lock().unwrap().is_some() {
            return None;
        }
        let host = free[rng.below(free.len() as u64) as usize];
        busy.insert(host);
        Some(host)
    }

    /// What it did is done; all live points are read.
    fn release(&self, host: usize) {
        self.busy.lock().unwrap().remove(&host);
        if let Err(why) = self.all_points_restore() {
            self.violation.lock().unwrap().get_or_insert(why);
        }
    }

    /// The worst that may happen during a long backup: another host marks what nobody needs, the grace period
    /// passes, and it deletes.
    fn hunt(self: &Arc<Self>, rng: &mut Rng, depth: usize) {
        let Some(host) = self.occupy(rng) else { return };
        let rough = Roughness { lag: roughness(self.seed).lag, ..CALM };
        self.prune(host, rng, depth, rough);
        self.time.pass(86_400 + rng.below(4_000) as i64);
        self.prune(host, rng, depth, rough);
        self.figures.lock().unwrap().operations += 2;
        self.release(host);
    }

    fn process(&self, host: usize, rng: &mut Rng) -> Arc<Process> {
        let skew = self.hosts[host].lock().unwrap().skew;
        Process::new(host, skew, rng.next())
    }

    fn open(&self, process: &Arc<Process>, roughness: Roughness, depth: usize) -> Result<Repository> {
        self.open_with(process, roughness, Arc::new(Level { world: self.me.clone(), depth }))
    }

    fn open_with(
        &self,
        process: &Arc<Process>,
        roughness: Roughness,
        meanwhile: Arc<dyn Meanwhile>,
    ) -> Result<Repository> {
        let host = self.hosts[process.host].lock().unwrap();
        let store = SimStore {
            mem: self.mem.clone(),
            time: self.time.clone(),
            process: process.clone(),
            meanwhile,
            deleted: self.deleted.clone(),
            roughness,
            margin_secs: 900,
            grace_secs: 86_400,
        };
        let with = OpenWith {
            pin: Pin { root: Some(self.kit.root.public()), lowest: 0 },
            host: Some(HostKeys::parse(&host.keys.to_file("model")).unwrap()),
            identities: &Identities::default(),
            cache_root: host.cache.path().to_owned(),
            compression_level: 1,
        };
        drop(host);
        Repository::open(Arc::new(store), with)
    }

    fn clock(&self, process: &Arc<Process>) -> HostClock {
        HostClock { time: self.time.clone(), process: process.clone() }
    }

    fn back_up(&self, host: usize, rng: &mut Rng, depth: usize, roughness: Roughness) {
        let process = self.process(host, rng);
        let files = {
            let mut host = self.hosts[host].lock().unwrap();
            change(&mut host.files, rng);
            if !host.past.is_empty() && rng.chance(250) {
                host.files = host.past[rng.below(host.past.len() as u64) as usize].clone();
            }
            let files = host.files.clone();
            host.past.push(files.clone());
            files
        };
        if rng.chance(250) {
            self.remove(host, rng, depth, CALM);
        }
        let repo = self.open(&process, roughness, depth);
        self.back_up_files(&process, repo, files, depth);
    }

    fn back_up_files(&self, process: &Arc<Process>, repo: Result<Repository>, files: Files, depth: usize) {
        let host = process.host;
        let tag = self.next_tag.fetch_add(1, Ordering::SeqCst).to_string();
        self.given.lock().unwrap().insert(tag.clone(), files.clone());
        let clock = self.clock(process);
        self.note(depth, &format!("backup {tag} on host {host}"));
        let done = repo.and_then(|repo| {
            let sources: Vec<Box<dyn Source>> = vec![Box::new(Fixed { name: "data", files })];
            backup(
                &repo,
                &BackupRequest {
                    job: "app".to_owned(),
                    tags: vec![tag.clone()],
                    sources,
                    hooks: Hooks::default(),
                    host: "model".to_owned(),
                    dry_run: false,
                    threads: 1,
                    memory_bytes: 16 << 20,
                    clock: &clock,
                    entropy: &OsEntropy,
                    process: &RealProcess,
                    cancel: &Cancel::default(),
                    progress: &Progress::new(ProgressMode::Quiet),
                },
            )
        });
        if let Ok(done) = &done {
            self.promised.lock().unwrap().extend(done.point.iter().map(|id| id.parse::<Ulid>().unwrap()));
        }
        let mut figures = self.figures.lock().unwrap();
        figures.backups += 1;
        figures.backups_failed += u64::from(done.is_err());
        drop(figures);
        if let (Err(error), Some(_)) = (&done, std::env::var_os("MUSTER_MODEL_SAY")) {
            eprintln!("{} backup failed: {error}", if process.has_crashed() { "crashed" } else { "" });
        }
        self.note(depth, &format!("backup {tag}: {}", outcome(&done.map(|d| d.point.unwrap_or_default()))));
    }

    fn prune(&self, host: usize, rng: &mut Rng, depth: usize, roughness: Roughness) {
        let process = self.process(host, rng);
        let clock = self.clock(&process);
        let settings = Settings {
            max_repack_bytes: rng.chance(300).then(|| rng.below(2 << 20)),
            repack_percent: 1 + rng.below(60),
            delete: !rng.chance(150),
        };
        self.note(depth, &format!("prune on host {host}"));
        let done = self.open(&process, roughness, depth).and_then(|repo| {
            prune(
                &repo,
                &PruneRequest {
                    settings,
                    compact: false,
                    accept_missing_points: false,
                    dry_run: false,
                    threads: 1,
                    memory_bytes: 8 << 20,
                    clock: &clock,
                    entropy: &OsEntropy,
                    progress: &Progress::new(ProgressMode::Quiet),
                    cancel: &Cancel::default(),
                },
            )
        });
        let mut figures = self.figures.lock().unwrap();
        figures.prunes += 1;
        match &done {
            Ok(done) => {
                figures.packs_condemned += done.packs_condemned;
                figures.packs_spared += done.packs_spared;
                figures.packs_repacked += done.packs_repacked;
                figures.packs_deleted += done.packs_deleted;
            }
            Err(error) => {
                figures.prunes_failed += 1;
                figures.prunes_refused += u64::from(error.kind() == ErrorKind::Refused);
            }
        }
        drop(figures);
        let said = done.map(|d| {
            format!(
                "{} condemned, {} spared, {} moved, {} deleted, {} tidied",
                d.packs_condemned, d.packs_spared, d.packs_repacked, d.packs_deleted, d.objects_tidied
            )
        });
        self.note(depth, &format!("prune on host {host}: {}", outcome(&said)));
    }

    fn remove(&self, host: usize, rng: &mut Rng, depth: usize, roughness: Roughness) {
        let process = self.process(host, rng);
        let clock = self.clock(&process);
        let last = 1 + rng.below((POINTS_WANTED / HOSTS) as u64 + 1) as u32;
        let keep = BTreeMap::from([("app".to_owned(), Keep { last: Some(last), within_secs: None })]);
        self.note(depth, &format!("retention on host {host}"));
        let done = self.open(&process, roughness, depth).and_then(|repo| {
            retention(&repo, &RetentionRequest { keep, dry_run: false, clock: &clock, entropy: &OsEntropy })
        });
        if let Ok(done) = &done {
            self.figures.lock().unwrap().points_removed += done.removed;
        }
        self.note(
            depth,
            &format!("retention on host {host}: {}", outcome(&done.map(|d| d.removed.to_string()))),
        );
    }

    /// A host loses its keys, and is let in anew with others.
    fn revoke(&self, host: usize, depth: usize) {
        self.note(depth, &format!("host {host} is revoked and admitted anew"));
        let party = self.hosts[host].lock().unwrap().keys.sign.party().to_string();
        keys::revoke(&self.as_kit(), &self.authority(), &party).unwrap();
        self.admit(host);
        self.figures.lock().unwrap().revocations += 1;
    }

    fn admit(&self, number: usize) {
        let (keys, request) =
            keys::request(HostRole::Writer, &format!("host-{number}"), None, &OsEntropy).unwrap();
        keys::admit(&self.as_kit(), &self.authority(), &request, None).unwrap();
        let mut host = self.hosts[number].lock().unwrap();
        host.keys = keys;
        host.cache = tempfile::tempdir().unwrap();
    }

    fn authority(&self) -> Authority<'_, age::NoCallbacks> {
        Authority {
            root: &self.kit.root,
            callbacks: age::NoCallbacks,
            entropy: &OsEntropy,
            clock: &*self.time,
        }
    }

    /// Who restores: with the kit, and no host's keys.
    fn as_kit(&self) -> Repository {
        let text = self.kit.to_file(&ID, "sim:", "now").expose().clone().into_bytes();
        let mut identities = Identities::default();
        identities.add_file(&Secret::new(text), "kit", age::NoCallbacks).unwrap();
        let with = OpenWith {
            pin: Pin { root: Some(self.kit.root.public()), lowest: 0 },
            host: None,
            identities: &identities,
            cache_root: self.observer_cache.path().to_owned(),
            compression_level: 1,
        };
        Repository::open(self.mem.clone(), with).unwrap()
    }

    fn all_points_restore(&self) -> std::result::Result<PointList, String> {
        let repo = self.as_kit();
        let (index, synced) = Index::sync(&repo).map_err(|e| format!("the index cannot be read: {e}"))?;
        if let Some((name, error)) = synced.refused.first() {
            return Err(format!("index object {name} is refused: {error}"));
        }
        let list = repo.points().map_err(|e| format!("points cannot be listed: {e}"))?;
        // A point of a key that was revoked while it was written is refused rightly.
        if let Some((name, error)) = list.refused.iter().find(|(_, e)| e.kind() != ErrorKind::Untrusted) {
            return Err(format!("{name} is refused: {error}"));
        }
        let counts: HashSet<Ulid> = list.points.iter().filter(|p| !p.is_void).map(|p| p.point.id).collect();
        let promised = self.promised.lock().unwrap();
        let broken = promised.iter().find(|id| !counts.contains(id) && !list.tombstones.contains_key(id));
        if let Some(id) = broken {
            return Err(format!("point {id} was said to be good, and does not count"));
        }
        let given = self.given.lock().unwrap();
        for stored in list.points.iter().filter(|p| !p.is_void) {
            let point = &stored.point;
            let files = &given[&point.tags[0]];
            let back = read_back(&repo, &index, point)
                .map_err(|e| format!("point {} (backup {}) is lost: {e}", point.id, point.tags[0]))?;
            let back = &back["data"];
            if back.len() != files.len()
                || !files.iter().all(|(path, bytes)| back.get(path) == Some(&**bytes))
            {
                return Err(format!(
                    "point {} (backup {}) is not what was backed up",
                    point.id, point.tags[0]
                ));
            }
            self.figures.lock().unwrap().points_read += 1;
        }
        Ok(list)
    }

    /// Nobody crashes any more and lists are true: after a while nothing may be left that nobody needs.
    fn rest(self: &Arc<Self>) {
        let mut rng = Rng(self.seed ^ 0x1234);
        for _ in 0..5 {
            self.time.pass(2 * 86_400);
            for host in 0..HOSTS {
                // A host's own index is tidied by its backups and its prunes.
                let settings = &mut Rng(7);
                self.prune(host, settings, 0, CALM);
            }
        }
        let _ = rng.next();
        let list = match self.all_points_restore() {
            Ok(list) => list,
            Err(why) => {
                self.violation.lock().unwrap().get_or_insert(format!("at rest: {why}"));
                return;
            }
        };
        let waste = self.waste(&list);
        if !waste.is_empty() {
            self.violation
                .lock()
                .unwrap()
                .get_or_insert(format!("at rest there is left: {}", waste.join(", ")));
        }
    }

    /// What is stored and nobody needs, found without the code that prunes.
    fn waste(&self, list: &PointList) -> Vec<String> {
        let repo = self.as_kit();
        let (index, _) = Index::sync(&repo).unwrap();
        let reader = Reader::new(&repo, &index, 8 << 20);
        let mut needed = Needed::default();
        // What is there of void points stays with them.
        for stored in &list.points {
            for source in &stored.point.sources {
                needed.tree::<Entry>(&reader, source.catalogue.as_ref().unwrap());
                needed.content(&reader, source.facts.as_ref().unwrap());
            }
        }
        let mut waste = Vec::new();
        for (id, at) in repo.list_packs_at().unwrap() {
            let opened = read_directory(&repo, id, at.kind, at.size).unwrap();
            let is_used =
                opened.records.iter().flat_map(|r| &r.chunks).any(|c| needed.0.contains(&(at.kind, c.id)));
            if !is_used {
                waste.push(layout::pack(at.kind, &id).to_string());
            }
        }
        let sessions: HashSet<_> =
            list.points.iter().chain(&list.removed).map(|p| layout::session(&p.point.session, 0)).collect();
        // While an index object of somebody who is gone names a pack that is gone, its mark explains that.
        let named = index.packs();
        let marks = repo.marks().unwrap();
        let is_bound: HashSet<_> =
            marks.iter().filter(|m| m.packs().any(|p| named.contains(p))).map(|m| m.name.clone()).collect();
        let of_sparse = |name: &ObjectName| marks.iter().any(|m| m.name == *name && m.says.sparse.is_some());
        let mut sparse_left = 1;
        for name in self.mem.names() {
            let is_waste = match name.as_str().split('/').next() {
                Some("sessions") => !sessions.contains(&name) && !self.is_recent(&name),
                // The newest list of blobs that are mostly dead.
                Some("condemned") if of_sparse(&name) && sparse_left > 0 => {
                    sparse_left -= 1;
                    false
                }
                Some("condemned") => !is_bound.contains(&name) && !self.is_recent(&name),
                Some("points") => list.removed.iter().any(|p| layout::point(&p.point.id) == name),
                _ => false,
            };
            if is_waste {
                waste.push(name.to_string());
                for mark in marks.iter().filter(|m| m.name == name) {
                    waste.push(format!("(which says {:?})", mark.says));
                }
            }
        }
        waste
    }

    /// Stored by one of the last prunes.
    fn is_recent(&self, name: &ObjectName) -> bool {
        let now = muster::ports::Clock::now(&*self.time);
        let stored = self.mem.stat(name).unwrap().unwrap().stored_at;
        now.secs_since(stored) < 3.0 * 86_400.0
    }
}

/// Chunks that points name.
#[derive(Default)]
struct Needed(HashSet<(PackKind, ChunkId)>);

trait Names: Record {
    fn names(&self, needed: &mut Needed, reader: &Reader<'_>);
}

impl Names for Entry {
    fn names(&self, needed: &mut Needed, reader: &Reader<'_>) {
        if let Some(content) = &self.content {
            needed.content(reader, content);
        }
    }
}

impl Names for Extent {
    fn names(&self, needed: &mut Needed, _: &Reader<'_>) {
        if let Extent::Chunk { id, .. } = self {
            needed.0.insert((PackKind::Data, *id));
        }
    }
}

impl Needed {
    fn content(&mut self, reader: &Reader<'_>, content: &Content) {
        match content {
            Content::Inline(extents) => extents.iter().for_each(|extent| extent.names(self, reader)),
            Content::Tree(tree) => self.tree::<Extent>(reader, tree),
        }
    }

    fn tree<R: Names>(&mut self, reader: &Reader<'_>, tree: &TreeRef) {
        self.page::<R>(reader, &tree.root, tree.level);
    }

    fn page<R: Names>(&mut self, reader: &Reader<'_>, id: &ChunkId, level: u8) {
        self.0.insert((PackKind::Meta, *id));
        match load::<R>(reader, id, level).unwrap() {
            Node::Leaf(records) => records.iter().for_each(|record| record.names(self, reader)),
            Node::Inner(below) => below.iter().for_each(|b| self.page::<R>(reader, &b.child, level - 1)),
        }
    }
}

/// What is between the operations of a process.
struct Level {
    world: Weak<World>,
    depth: usize,
}

impl Meanwhile for Level {
    fn others(&self, rng: &mut Rng) {
        let Some(world) = self.world.upgrade() else { return };
        if self.depth >= DEPTH_MAX {
            return;
        }
        match rng.chance(300) {
            true => world.hunt(rng, self.depth + 1),
            false => world.one(rng, self.depth + 1),
        }
    }

    fn count(&self, what: Happening) {
        let Some(world) = self.world.upgrade() else { return };
        let mut figures = world.figures.lock().unwrap();
        let of = match what {
            Happening::Operation => &mut figures.store_operations,
            Happening::Crash => &mut figures.crashes,
            Happening::Failure => &mut figures.failures,
            Happening::Sleep => &mut figures.sleeps,
            Happening::Interlude => &mut figures.interludes,
            Happening::LaggingList => &mut figures.lagging_lists,
        };
        *of += 1;
    }
}

/// Waits for one operation, and hunts then.
struct HuntAt {
    world: Weak<World>,
    operation: u64,
    seen: AtomicU64,
}

impl Meanwhile for HuntAt {
    fn others(&self, rng: &mut Rng) {
        if self.seen.fetch_add(1, Ordering::SeqCst) == self.operation {
            self.world.upgrade().unwrap().hunt(rng, 1);
        }
    }
    fn count(&self, _: Happening) {}
}

/// What had gone from all points comes back in a backup, in whose operation number `operation` another host marks,
/// waits for the grace period to pass, and deletes. Answers with whether there were so many operations.
pub fn meets_a_pruner_in(operation: u64) -> bool {
    let world = World::new(0);
    let set = |seeds: std::ops::Range<u64>| -> Files {
        seeds.map(|n| (format!("file-{n}"), noise(n, 40_000))).collect()
    };
    let process = || Process::new(0, 0, 1);
    // What all of them share is stored with the first, so that nothing of the second's is needed for long.
    for files in [set(20..21), set(0..4), set(10..14)] {
        let process = process();
        let repo = world.open(&process, CALM, 0);
        world.back_up_files(&process, repo, files, 0);
        world.time.pass(10_000);
    }
    let keep = BTreeMap::from([("app".to_owned(), Keep { last: Some(1), within_secs: None })]);
    let remover = process();
    let repo = world.open(&remover, CALM, 0).unwrap();
    let request =
        RetentionRequest { keep, dry_run: false, clock: &world.clock(&remover), entropy: &OsEntropy };
    assert_eq!(retention(&repo, &request).unwrap().removed, 2);
    // Of a point removed lately nothing is deleted.
    world.time.pass(2 * 86_400);
    world.busy.lock().unwrap().insert(0);
    let hunter = Arc::new(HuntAt { world: world.me.clone(), operation, seen: AtomicU64::new(0) });
    let process = process();
    let always = Roughness { interlude: 1000, ..CALM };
    let repo = world.open_with(&process, always, hunter.clone());
    world.back_up_files(&process, repo, set(2..6), 0);
    world.release(0);
    world.fail_on_violation();
    hunter.seen.load(Ordering::SeqCst) > operation
}

/// Worlds differ in what goes wrong in them.
fn roughness(seed: u64) -> Roughness {
    let even = Roughness { crash: 1, failure: 1, sleep: 7, interlude: 15, lag: 200 };
    match seed % 4 {
        0 => even,
        // Much happens in the middle of things, and nothing fails.
        1 => Roughness { crash: 0, failure: 0, sleep: 20, interlude: 40, lag: 100 },
        // Lists are mostly late.
        2 => Roughness { lag: 700, ..even },
        _ => Roughness { crash: 5, failure: 3, ..even },
    }
}

const CALM: Roughness = Roughness { crash: 0, failure: 0, sleep: 0, interlude: 0, lag: 0 };

/// Some files come, some go, some change. Contents come from a small stock, so that they come again.
fn change(files: &mut Files, rng: &mut Rng) {
    for _ in 0..1 + rng.below(6) {
        let path = format!("small/{}", rng.below(16));
        if rng.chance(250) {
            files.remove(&path);
        } else {
            files.insert(path, noise(rng.below(60), 2000));
        }
    }
    if files.len() < 2 || rng.chance(300) {
        let path = format!("large/{}", rng.below(3));
        if rng.chance(300) {
            files.remove(&path);
        } else {
            files.insert(path, noise(1000 + rng.below(6), 520 << 10));
        }
    }
}

fn noise(seed: u64, len: usize) -> Arc<Vec<u8>> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    Arc::new(bytes)
}

fn outcome(done: &Result<String>) -> String {
    match done {
        Ok(said) => said.clone(),
        Err(error) => format!("failed: {error}"),
    }
}
