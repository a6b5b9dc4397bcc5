//! `check` names every kind of damage and what it hurts; `repair index` brings a lost index back.

#[path = "support/mem_store.rs"]
mod mem_store;

use std::sync::Arc;

use mem_store::MemStore;
use muster::jobs::check::{CheckRequest, DataSelection, check};
use muster::jobs::repair::{RepairIndexRequest, repair_index};
use muster::jobs::retention::{self, AcknowledgeRequest};
use muster::model::{
    ChunkClass, Content, Entry, EntryKind, EntryPath, Error, ErrorKind, Extent, ObjectName, PartyId,
    RepositoryId, Result, Secret, Time, Ulid,
};
use muster::ports::{Cancel, Clock, Entropy, Selection, Store, StreamContent, StreamWriter};
use muster::repo::format::{
    Condemned, EpochKind, Point, PointSource, Predecessor, Revocation, Session, SessionState, SourceStatus,
    Tombstone, Totals,
};
use muster::repo::index::{Index, Location, Row, SignAndSeal, build_object};
use muster::repo::keys::{HostKeys, Identities, RecoveryKit};
use muster::repo::layout;
use muster::repo::pipeline::{self, Options, SinkOptions};
use muster::repo::reader::Reader;
use muster::repo::repository::{NewRepository, OpenWith, Repository, create};
use muster::repo::sign::{Envelope, Kind, SignKey};
use muster::repo::trust::Pin;
use muster::repo::{cbor, seal};
use muster::report::Progress;
use muster::report::outcome::{Check, DataCheck, Problem};

struct Os;

impl Entropy for Os {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        getrandom::fill(buffer).unwrap();
        Ok(())
    }
}
impl Clock for Os {
    fn now(&self) -> Time {
        Time::new(1_500, 0)
    }
}

/// A repository in memory, with all its keys.
struct World {
    store: Arc<MemStore>,
    dir: tempfile::TempDir,
    id: RepositoryId,
    kit: RecoveryKit,
    host: HostKeys,
}

#[derive(Clone, Copy, PartialEq)]
enum Keys {
    WriterOnly,
    WithKit,
}

/// Pseudo-random bytes: they do not compress and have no equal chunks.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

struct Bytes(Vec<u8>);

impl StreamContent for Bytes {
    fn read(&mut self, _: &mut Entry, out: &mut dyn StreamWriter) -> Result<()> {
        out.write(&self.0)
    }
}

fn path(text: &str) -> EntryPath {
    EntryPath::from_display(text.as_bytes()).unwrap()
}

fn copy_host(host: &HostKeys) -> HostKeys {
    HostKeys { sign: host.sign.clone(), identity: host.identity.clone() }
}

impl World {
    fn new() -> Self {
        let world = Self {
            store: Arc::new(MemStore::default()),
            dir: tempfile::tempdir().unwrap(),
            id: RepositoryId([9; 16]),
            kit: RecoveryKit::generate(&Os).unwrap(),
            host: HostKeys::generate(&Os).unwrap(),
        };
        let new = NewRepository {
            kit: &world.kit,
            id: world.id,
            writer: &world.host,
            writer_label: "web-1".to_owned(),
            recipients: Vec::new(),
        };
        create(&*world.store, &new, age::NoCallbacks, &Os, &Os).unwrap();
        world
    }

    /// With two points: `same` and `only-N` in each, and a file long enough for a recipe tree.
    fn with_points() -> Self {
        let world = Self::new();
        for n in 1..=2 {
            world.backup(n);
        }
        world
    }

    /// A removed point of another job, and an empty condemned mark.
    fn add_marks(&self) {
        let (repo, by) = (self.open(), self.host.sign.party());
        let hash = muster::model::Hash([1; 32]);
        let point = Ulid([77; 16]);
        let (job, rule) = ("old".to_owned(), "keep-last 1".to_owned());
        let stone = Tombstone { point, hash, writer: by, job, seq: 1, by, rule, at: Os.now() };
        repo.put_signed(Kind::Tombstone, &layout::tombstone(&point), &stone).unwrap();
        let mark = Condemned {
            packs: Vec::new(),
            by,
            oldest_session: Os.now(),
            at: Os.now(),
            reason: String::new(),
            put_before: Os.now().plus_secs(3600),
            spared: Vec::new(),
            gone: Vec::new(),
            sparse: None,
        };
        let signed = Envelope::sign(&self.host.sign, &self.id, Kind::Condemned, None, cbor::encode(&mark));
        let sealed = repo.seal_envelope(&signed).unwrap();
        let name = layout::condemned(&muster::model::Hash(*blake3::hash(&sealed).as_bytes()));
        self.store.put(&name, &[&sealed]).unwrap();
    }

    fn identities(&self, keys: Keys) -> Identities {
        let mut identities = Identities::default();
        if keys == Keys::WithKit {
            let text = self.kit.to_file(&self.id, "mem:", "today").expose().clone().into_bytes();
            identities.add_file(&Secret::new(text), "kit", age::NoCallbacks).unwrap();
        }
        identities
    }

    fn open_at(&self, cache: &str, identities: &Identities) -> Result<Repository> {
        let store: Arc<dyn Store> = self.store.clone();
        let with = OpenWith {
            pin: Pin { root: Some(self.kit.root.public()), lowest: 0 },
            host: Some(copy_host(&self.host)),
            identities,
            cache_root: self.dir.path().join(cache),
            compression_level: 3,
        };
        Repository::open(store, with)
    }

    fn open(&self) -> Repository {
        self.open_at("cache", &Identities::default()).unwrap()
    }

    fn backup(&self, n: u64) -> Point {
        let repo = self.open();
        let (index, _) = Index::sync(&repo).unwrap();
        let options = Options {
            memory_bytes: 64 << 20,
            threads: 2,
            uploads: 2,
            dry_run: false,
            avoid: Default::default(),
            began: muster::model::Time::new(0, 0),
            cancel: Default::default(),
        };
        let written = pipeline::run(&repo, &index, options, Arc::default(), |pipeline| {
            let facts = pipeline.store_data(b"facts")?;
            let captured = pipeline.capture(SinkOptions::default(), |sink| {
                sink.add(Entry::new(path("docs"), EntryKind::Directory))?;
                let mut file = |name: &str, bytes: Vec<u8>, class| {
                    sink.add_stream(Entry::new(path(name), EntryKind::File), class, 0, Box::new(Bytes(bytes)))
                };
                file("docs/long", noise(7, 3 << 20), ChunkClass::Fine)?;
                file(&format!("docs/only-{n}"), noise(100 + n as u32, 700 << 10), ChunkClass::Bulk)?;
                file("docs/same", noise(3, 30 << 10), ChunkClass::Bulk)
            })?;
            Ok((captured, facts))
        })
        .unwrap();
        let (captured, facts) = written.value;
        let source = PointSource {
            name: "docs".to_owned(),
            kind: "files".to_owned(),
            status: SourceStatus::Complete,
            started: Os.now(),
            ended: Os.now(),
            catalogue: Some(captured.tree),
            items: captured.stats.items,
            bytes: captured.stats.bytes,
            unreadable: 0,
            changed: 0,
            facts: Some(facts),
            counts: Vec::new(),
            error: None,
            notes: Vec::new(),
            reused: 0,
        };
        let session = Session {
            id: Ulid([n as u8; 16]),
            writer: self.host.sign.party(),
            job: "app".to_owned(),
            renewal: 0,
            state: SessionState::Running,
            config: 0,
            at: Os.now(),
        };
        repo.put_session(&session).unwrap();
        let list = repo.points().unwrap();
        let before = list.newest_of(&self.host.sign.party(), "app");
        let point = Point {
            seq: before.map_or(1, |p| p.point.seq + 1),
            predecessor: before.map(|p| Predecessor { id: p.point.id, hash: p.hash }),
            ..self.point(n, vec![source])
        };
        repo.put_point(&point).unwrap();
        point
    }

    fn point(&self, n: u64, sources: Vec<PointSource>) -> Point {
        Point {
            id: Ulid([n as u8; 16]),
            writer: self.host.sign.party(),
            job: "app".to_owned(),
            seq: n,
            predecessor: None,
            config: 0,
            session: Ulid([n as u8; 16]),
            commit_before: Time::new(9_000, 0),
            started: Os.now(),
            ended: Os.now(),
            host: "web-1".to_owned(),
            tags: Vec::new(),
            sources,
            totals: Totals::default(),
            muster: "test".to_owned(),
            notes: Vec::new(),
        }
    }

    /// Opens anew, with a cache of its own, and checks.
    fn check(&self, keys: Keys, data: DataSelection) -> Result<Check> {
        let identities = self.identities(keys);
        let fresh = tempfile::tempdir_in(self.dir.path()).unwrap();
        let repo = self.open_at(fresh.path().file_name().unwrap().to_str().unwrap(), &identities)?;
        check_with(&repo, &identities, data)
    }

    fn repair(&self, dry_run: bool) -> muster::report::outcome::RepairIndex {
        let repo = self.open();
        let request = RepairIndexRequest {
            dry_run,
            progress: &Progress::quiet(),
            cancel: &Cancel::default(),
            clock: &Os,
        };
        repair_index(&repo, &request).unwrap()
    }

    /// Where the only chunk of an entry is.
    fn locate(&self, n: u64, wanted: &str) -> Location {
        let repo = self.open();
        let (index, _) = Index::sync(&repo).unwrap();
        let reader = Reader::new(&repo, &index, 0);
        let list = repo.points().unwrap();
        let stored = list.points.iter().find(|p| p.point.seq == n).unwrap();
        let mut found = None;
        let tree = stored.point.sources[0].catalogue.as_ref().unwrap();
        reader
            .catalogue(tree, &Selection::default(), &mut |entry| {
                if entry.path == path(wanted)
                    && let Some(Content::Inline(extents)) = &entry.content
                    && let Some(Extent::Chunk { id, .. }) = extents.first()
                {
                    found = Some(reader.locate(muster::repo::layout::PackKind::Data, id)?);
                }
                Ok(())
            })
            .unwrap();
        found.unwrap()
    }

    /// Seals and stores something as a point.
    fn forge(&self, name: &ObjectName, bytes: &[u8]) {
        let repo = self.open();
        let (_, meta) = repo.current_epoch(EpochKind::Meta).unwrap();
        let sealed = repo.with_zstd(|zstd| seal::seal(zstd, meta, bytes)).unwrap();
        self.store.put(name, &[&sealed]).unwrap();
    }
}

fn check_with(repo: &Repository, identities: &Identities, data: DataSelection) -> Result<Check> {
    let request = CheckRequest {
        data,
        threads: 2,
        memory_bytes: 64 << 20,
        identities,
        progress: &Progress::quiet(),
        cancel: &Cancel::default(),
        entropy: &Os,
        clock: &Os,
    };
    check(repo, &request)
}

fn label(n: u64) -> String {
    Ulid([n as u8; 16]).to_string()
}

#[track_caller]
fn named<'a>(outcome: &'a Check, object: &str) -> &'a Problem {
    match outcome.problems.iter().find(|p| p.object == object) {
        Some(problem) => problem,
        None => panic!("no problem names {object}: {:#?}", outcome.problems),
    }
}

#[track_caller]
fn assert_clean(outcome: &Check) {
    assert!(outcome.problems.is_empty() && outcome.warnings.is_empty(), "{outcome:#?}");
}

#[test]
fn a_whole_repository_is_clean() {
    let world = World::with_points();
    let structure = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
    assert_clean(&structure);
    assert!(structure.verdict.contains("stored bytes were not read"), "{}", structure.verdict);
    assert_eq!((structure.objects["points"], structure.objects["sessions"]), (2, 2));

    let sealed = world.check(Keys::WriterOnly, DataSelection::All).unwrap();
    assert_clean(&sealed);
    assert!(!sealed.content_proven);
    assert!(sealed.verdict.contains("sealed bytes intact, content not proven"), "{}", sealed.verdict);

    let proven = world.check(Keys::WithKit, DataSelection::All).unwrap();
    assert_clean(&proven);
    assert!(proven.content_proven);
    assert!(proven.verdict.contains("every chunk opened and proven"), "{}", proven.verdict);
}

#[test]
fn subsets_cover_everything_or_their_share() {
    let world = World::with_points();
    let packs = world.store.names("packs/").len() as u64;
    assert!(packs >= 3, "{packs}");
    let mut bytes = 0;
    for part in 1..=2 {
        let outcome = world.check(Keys::WithKit, DataSelection::Part { part, of: 2 }).unwrap();
        assert_clean(&outcome);
        assert_eq!(outcome.data, DataCheck::Subset(format!("{part}/2")));
        bytes += outcome.bytes_read;
    }
    let stored: u64 = world.store.names("packs/").iter().map(|n| world.store.bytes(n).len() as u64).sum();
    assert!(bytes >= stored);
    let outcome = world.check(Keys::WithKit, DataSelection::BasisPoints(50)).unwrap();
    assert_eq!(outcome.data, DataCheck::Subset("0.5%".to_owned()));
    assert!(outcome.verdict.contains(&format!("1 pack of {packs} read")), "{}", outcome.verdict);
}

#[test]
fn one_flipped_bit_in_any_object_is_never_clean() {
    let world = World::with_points();
    world.add_marks();
    let names = world.store.names("");
    for name in names {
        let good = world.store.bytes(&name);
        // Beginning, middle, near the end (a pack's directory), the last byte.
        for at in [0, good.len() / 2, good.len().saturating_sub(100), good.len() - 1] {
            world.store.flip(&name, at);
            for keys in [Keys::WithKit, Keys::WriterOnly] {
                let others_key =
                    name.starts_with("keys/") && !name.contains(&world.host.sign.party().to_string());
                if others_key && keys == Keys::WriterOnly {
                    continue; // Sealed to the recovery kit alone: only the kit can prove it.
                }
                match world.check(keys, DataSelection::All) {
                    Ok(outcome) => {
                        assert!(!outcome.problems.is_empty(), "{name} at {at}: {}", outcome.verdict);
                        let is_named = outcome.problems.iter().any(|p| p.object == name);
                        assert!(is_named, "{name} at {at} is not named: {:#?}", outcome.problems);
                        assert!(!outcome.content_proven);
                    }
                    Err(error) => {
                        let is_early = name.starts_with("config/") || name.starts_with("keys/");
                        assert!(is_early, "{name} at {at}: {error}");
                    }
                }
            }
            world.store.edit(&name, |bytes| bytes.clone_from(&good));
        }
    }
    assert_clean(&world.check(Keys::WithKit, DataSelection::All).unwrap());
}

#[test]
fn a_damaged_blob_names_the_points_and_paths_that_it_hurts() {
    let world = World::with_points();
    let at = world.locate(2, "docs/only-2");
    let pack = layout::pack(at.kind, &at.pack).to_string();
    world.store.flip(&pack, at.offset as usize + 500);
    for keys in [Keys::WriterOnly, Keys::WithKit] {
        let outcome = world.check(keys, DataSelection::All).unwrap();
        let problem = named(&outcome, &pack);
        assert_eq!(problem.points_hurt, [label(2)]);
        assert_eq!(problem.paths_hurt, [format!("{} docs:docs/only-2", label(2))]);
        assert!(problem.what.contains(&format!("the blob at {}", at.offset)), "{}", problem.what);
        assert_eq!(outcome.problems.len(), 1);
    }
    // A blob of both points hurts both.
    world.store.flip(&pack, at.offset as usize + 500);
    let at = world.locate(1, "docs/same");
    let pack = layout::pack(at.kind, &at.pack).to_string();
    world.store.flip(&pack, at.offset as usize + 500);
    let outcome = world.check(Keys::WriterOnly, DataSelection::All).unwrap();
    let problem = named(&outcome, &pack);
    assert_eq!(problem.points_hurt, [label(1), label(2)]);
    for n in 1..=2 {
        assert!(problem.paths_hurt.contains(&format!("{} docs:docs/same", label(n))), "{problem:?}");
    }
}

#[test]
fn a_damaged_metadata_blob_is_found_without_reading_data() {
    let world = World::with_points();
    for pack in world.store.names("packs/meta/") {
        // Somewhere in the first blob.
        world.store.flip(&pack, 300);
        let outcome = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
        let problem = named(&outcome, &pack);
        assert!(!problem.points_hurt.is_empty() && !problem.paths_hurt.is_empty(), "{problem:?}");
        world.store.flip(&pack, 300);
    }
}

#[test]
fn packs_that_are_gone_or_truncated_are_named_with_what_they_hurt() {
    let world = World::with_points();
    let at = world.locate(2, "docs/only-2");
    let pack = layout::pack(at.kind, &at.pack).to_string();
    let good = world.store.remove(&pack);
    let outcome = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
    let problem = named(&outcome, &pack);
    assert!(problem.what.contains("not there"), "{}", problem.what);
    assert_eq!(problem.points_hurt, [label(2)]);
    assert!(problem.paths_hurt.contains(&format!("{} docs:docs/only-2", label(2))));

    world.store.insert(&pack, good[..at.offset as usize + 100].to_vec());
    for data in [DataSelection::None, DataSelection::All] {
        let outcome = world.check(Keys::WithKit, data).unwrap();
        let problem = named(&outcome, &pack);
        assert!(problem.what.contains("truncated"), "{}", problem.what);
        assert!(problem.paths_hurt.contains(&format!("{} docs:docs/only-2", label(2))), "{problem:?}");
    }
    // Only the directory is cut off: every blob is proven whole, and nothing is hurt.
    world.store.insert(&pack, good[..good.len() - 5].to_vec());
    let outcome = world.check(Keys::WithKit, DataSelection::All).unwrap();
    assert!(named(&outcome, &pack).points_hurt.is_empty(), "{outcome:#?}");
}

#[test]
fn a_store_that_cannot_be_reached_is_not_damage() {
    let world = World::with_points();
    world.store.cut_line(true);
    for data in [DataSelection::None, DataSelection::All] {
        let error = world.check(Keys::WithKit, data).unwrap_err();
        assert!(error.kind() == ErrorKind::Store && error.is_retryable(), "{error}");
    }
    world.store.cut_line(false);
    assert_clean(&world.check(Keys::WithKit, DataSelection::All).unwrap());
}

#[test]
fn a_lost_index_is_rebuilt_from_the_packs() {
    let world = World::with_points();
    for name in world.store.names("index/") {
        world.store.remove(&name);
    }
    let outcome = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
    assert_eq!(named(&outcome, "index/").points_hurt, [label(1), label(2)]);
    assert!(outcome.warnings.iter().any(|w| w.contains("index does not know")), "{outcome:#?}");

    let planned = world.repair(true);
    assert!(planned.dry_run && planned.index_objects == 1 && planned.chunks_found > 0);
    assert!(world.store.names("index/").is_empty());
    let repaired = world.repair(false);
    assert!(repaired.problems.is_empty());
    assert_eq!((repaired.index_objects, repaired.chunks_found), (1, planned.chunks_found));
    let outcome = world.check(Keys::WithKit, DataSelection::All).unwrap();
    assert_clean(&outcome);
    assert!(outcome.content_proven);
    assert_reads_back(&world);
    // The rows are this host's own again: the same files are known and not stored anew.
    let packs = world.store.names("packs/data/").len();
    world.backup(3);
    assert_eq!(world.store.names("packs/data/").len(), packs + 1, "only the one new file");
}

fn assert_reads_back(world: &World) {
    let identities = world.identities(Keys::WithKit);
    let repo = world.open_at("cache", &identities).unwrap();
    let (index, _) = Index::sync(&repo).unwrap();
    let reader = Reader::new(&repo, &index, 0);
    for stored in repo.points().unwrap().points {
        let mut files = 0;
        let tree = stored.point.sources[0].catalogue.clone().unwrap();
        reader
            .catalogue(&tree, &Selection::default(), &mut |entry| {
                if let Some(content) = &entry.content {
                    let bytes = reader.read_all(content, 1 << 30)?;
                    let seed = match entry.path.leaf() {
                        b"long" => 7,
                        b"same" => 3,
                        _ => 100 + u32::from(stored.point.id.0[0]),
                    };
                    assert!(bytes == noise(seed, bytes.len()), "{}", entry.path);
                    files += 1;
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(files, 3);
    }
}

#[test]
fn a_damaged_index_object_is_named_and_replaced() {
    let world = World::with_points();
    let name = world.store.names("index/").remove(0);
    world.store.flip(&name, 300);
    let outcome = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
    let problem = named(&outcome, &name);
    assert!(problem.what.contains("repair index") && !problem.points_hurt.is_empty(), "{problem:?}");
    // The cache of a host that read it while it was whole does not hide the damage.
    let identities = Identities::default();
    let warm = check_with(&world.open(), &identities, DataSelection::None).unwrap();
    named(&warm, &name);

    assert!(world.repair(false).problems.is_empty());
    let outcome = world.check(Keys::WithKit, DataSelection::All).unwrap();
    assert!(outcome.problems.is_empty(), "{outcome:#?}");
    assert!(outcome.warnings.iter().all(|w| w.contains("has replaced it")), "{outcome:#?}");
    assert_reads_back(&world);
}

#[test]
fn rows_of_packs_that_are_gone_are_dropped() {
    let world = World::with_points();
    let at = world.locate(2, "docs/only-2");
    world.store.remove(layout::pack(at.kind, &at.pack).as_str());
    let repaired = world.repair(false);
    assert!(repaired.chunks_dropped > 0 && repaired.chunks_found == 0);
    let outcome = world.check(Keys::WithKit, DataSelection::None).unwrap();
    let problem = named(&outcome, "index/");
    assert_eq!(problem.points_hurt, [label(2)]);
    // Now the content is stored anew by the next backup that has it, and the point is whole again.
    let stored = world.store.names("packs/data/").len();
    let repo = world.open();
    let (index, _) = Index::sync(&repo).unwrap();
    let options = Options {
        memory_bytes: 64 << 20,
        threads: 1,
        uploads: 1,
        dry_run: false,
        avoid: Default::default(),
        began: muster::model::Time::new(0, 0),
        cancel: Default::default(),
    };
    pipeline::run(&repo, &index, options, Arc::default(), |p| {
        p.store_data(&noise(102, 700 << 10))?;
        p.store_data(b"facts")
    })
    .unwrap();
    assert!(world.store.names("packs/data/").len() > stored);
    assert!(world.check(Keys::WithKit, DataSelection::All).unwrap().problems.is_empty());
}

#[test]
fn a_pack_whose_directory_is_damaged_keeps_its_old_rows() {
    let world = World::with_points();
    let at = world.locate(2, "docs/only-2");
    let pack = layout::pack(at.kind, &at.pack).to_string();
    let len = world.store.bytes(&pack).len();
    world.store.flip(&pack, len - 100);
    let repaired = world.repair(false);
    assert_eq!(repaired.problems.len(), 1);
    assert_eq!(repaired.problems[0].object, pack);
    assert_reads_back(&world);
    let outcome = world.check(Keys::WithKit, DataSelection::All).unwrap();
    assert!(named(&outcome, &pack).points_hurt.is_empty(), "its blobs are whole: {outcome:#?}");
}

#[test]
fn a_whole_index_is_left_alone() {
    let mut world = World::with_points();
    let is_left_alone = |world: &World| {
        let before = world.store.names("");
        for dry_run in [true, false] {
            let outcome = world.repair(dry_run);
            assert!(outcome.was_whole && outcome.index_objects == 0, "{outcome:#?}");
            assert!(outcome.packs_read > 0 && outcome.chunks_dropped == 0);
        }
        assert_eq!(world.store.names(""), before);
    };
    is_left_alone(&world);
    // One object less, and it is not whole; once repaired it is.
    world.store.remove(&world.store.names("index/")[0]);
    assert!(!world.repair(true).was_whole);
    assert!(!world.repair(false).was_whole);
    is_left_alone(&world);
    // So it is beside another writer's objects, whom this one's repair serves too.
    admit_second_writer(&mut world);
    world.backup(3);
    is_left_alone(&world);
}

#[test]
fn what_repair_mended_it_does_not_mend_again() {
    let again = |world: &World| {
        assert!(!world.repair(false).was_whole);
        let outcome = world.repair(false);
        assert!(outcome.was_whole, "{outcome:#?}");
    };
    let world = World::with_points();
    world.store.flip(&world.store.names("index/").remove(0), 300);
    again(&world);
    let world = World::with_points();
    let at = world.locate(2, "docs/only-2");
    world.store.remove(layout::pack(at.kind, &at.pack).as_str());
    again(&world);
    // What held the chunk is gone for good: that is said, and nobody is sent back to the repair.
    let outcome = world.check(Keys::WithKit, DataSelection::None).unwrap();
    let problem = named(&outcome, "index/");
    assert!(problem.what.contains("gone for good"), "{}", problem.what);
    assert!(!problem.what.contains("run `muster repair index`"), "{}", problem.what);

    let unreadable = |damage: &dyn Fn(&World, &str)| {
        let world = World::with_points();
        let at = world.locate(2, "docs/only-2");
        let pack = layout::pack(at.kind, &at.pack).to_string();
        damage(&world, &pack);
        again(&world);
        let outcome = world.repair(false);
        assert_eq!((outcome.packs_unread, outcome.problems.len()), (1, 1), "{outcome:#?}");
        (world, pack)
    };
    // A directory that cannot be read hurts nothing, and only reading shows it.
    let (world, pack) =
        unreadable(&|world, pack| world.store.flip(pack, world.store.bytes(pack).len() - 100));
    assert!(world.check(Keys::WithKit, DataSelection::None).unwrap().problems.is_empty());
    let outcome = world.check(Keys::WithKit, DataSelection::All).unwrap();
    assert!(named(&outcome, &pack).points_hurt.is_empty(), "{outcome:#?}");
    // The repair does not make a truncated pack's size the right one.
    for left in [0, 1000] {
        let (world, pack) = unreadable(&|world, pack| {
            let whole = world.store.remove(pack);
            world.store.insert(pack, whole[..left].to_vec());
        });
        let outcome = world.check(Keys::WithKit, DataSelection::None).unwrap();
        let problem = named(&outcome, &pack);
        assert!(problem.what.contains("truncated"), "{}", problem.what);
        assert_eq!(problem.points_hurt, [label(2)]);
    }
}

#[test]
fn a_repair_keeps_other_sealers_apart() {
    let mut world = World::with_points();
    let first = copy_host(&world.host);
    admit_second_writer(&mut world);
    world.backup(3);
    for name in world.store.names("index/") {
        world.store.remove(&name);
    }
    assert_eq!(world.repair(false).index_objects, 2);
    let repo = world.open();
    let (index, _) = Index::sync(&repo).unwrap();
    let mut owners: Vec<PartyId> = index.segments().iter().filter_map(|s| s.owner()).collect();
    owners.sort();
    let mut wanted = vec![PartyId([0; 8]), world.host.sign.party()];
    wanted.sort();
    assert_eq!(owners, wanted);
    assert!(!owners.contains(&first.sign.party()));
    assert!(world.check(Keys::WithKit, DataSelection::All).unwrap().problems.is_empty());
}

/// A second writer is admitted, and the world is that host's from now on.
fn admit_second_writer(world: &mut World) {
    let identities = world.identities(Keys::WithKit);
    let repo = world.open_at("cache", &identities).unwrap();
    let second = HostKeys::generate(&Os).unwrap();
    let (meta, _) = repo.current_epoch(EpochKind::Meta).unwrap();
    let identity = repo.epoch(&meta).unwrap().identity.clone().unwrap();
    let recipient = muster::repo::keys::AnyRecipient::X25519(second.identity.to_public());
    repo.put_key(&meta, &identity, &second.sign.party(), &recipient, age::NoCallbacks, &Os).unwrap();
    repo.amend_config(&world.kit.root, Os.now(), None, |config, _| {
        config.writers.push(muster::repo::format::Writer {
            id: second.sign.party(),
            signing_key: second.sign.public(),
            recipient: second.identity.to_public().to_string(),
            rights: 0,
            shares_with: Vec::new(),
        });
        Ok(())
    })
    .unwrap();
    world.host = second;
}

#[test]
fn forged_points_are_named_and_not_used() {
    let world = World::with_points();
    let good = world.store.names("points/");
    let forged = |n: u8| layout::point(&Ulid([n; 16]));
    // Not an envelope at all; signed by a stranger; by a stranger in the writer's name.
    world.forge(&forged(101), b"unsigned");
    let stranger = HostKeys::generate(&Os).unwrap().sign;
    let body = |n: u8, signer: &SignKey| {
        let point = Point { id: Ulid([n; 16]), writer: signer.party(), ..world.point(3, Vec::new()) };
        cbor::encode(&Envelope::sign(signer, &world.id, Kind::Point, Some(&forged(n)), cbor::encode(&point)))
    };
    world.forge(&forged(102), &body(102, &stranger));
    let imposter = SignKey::new(world.host.sign.party(), &stranger.seed());
    world.forge(&forged(103), &body(103, &imposter));
    // Another point's bytes under a new name.
    let copied = world.store.bytes(&good[0]);
    world.store.insert(forged(104).as_str(), copied);
    let outcome = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
    for n in 101..=104 {
        let problem = named(&outcome, forged(n).as_str());
        assert!(problem.what.contains("not taken for a recovery point"), "{problem:?}");
    }
    assert!(named(&outcome, forged(102).as_str()).what.contains("no writer of this repository"));
    assert_eq!(outcome.problems.len(), 4);
    assert_eq!(world.open().points().unwrap().points.len(), 2);
}

#[test]
fn a_revoked_writers_later_point_is_named() {
    let world = World::with_points();
    let identities = world.identities(Keys::WithKit);
    let repo = world.open_at("cache", &identities).unwrap();
    let list = repo.points().unwrap();
    let last = list.points[1].clone();
    let mut kept: Vec<_> = list.points.iter().map(|p| p.hash).collect();
    kept.sort();
    let mut second = World { host: copy_host(&world.host), ..world };
    admit_second_writer(&mut second);
    let old = copy_host(repo.host().unwrap());
    let repo = second.open_at("cache", &identities).unwrap();
    repo.amend_config(&second.kit.root, Os.now(), None, |config, _| {
        config.writers.retain(|w| w.id != old.sign.party());
        config.revocations.push(Revocation {
            party: old.sign.party(),
            signing_key: old.sign.public(),
            trusted: vec![muster::repo::format::TrustedUpTo {
                job: "app".to_owned(),
                seq: 2,
                hash: last.hash,
            }],
            at: Os.now(),
            kept,
        });
        Ok(())
    })
    .unwrap();
    let name = layout::point(&Ulid([55; 16]));
    let point = Point { id: Ulid([55; 16]), writer: old.sign.party(), ..second.point(3, Vec::new()) };
    let signed = Envelope::sign(&old.sign, &second.id, Kind::Point, Some(&name), cbor::encode(&point));
    second.forge(&name, &cbor::encode(&signed));
    let outcome = second.check(Keys::WriterOnly, DataSelection::All).unwrap();
    assert!(named(&outcome, name.as_str()).what.contains("revoked"), "{outcome:#?}");
    assert_eq!(outcome.problems.len(), 1, "{outcome:#?}");
}

#[test]
fn a_config_rolled_back_is_refused() {
    let mut world = World::with_points();
    admit_second_writer(&mut world);
    drop(world.open());
    let newest = world.store.names("config/").pop().unwrap();
    world.store.remove(&newest);
    let error = world.open_at("cache", &world.identities(Keys::WithKit)).err().unwrap();
    assert!(error.kind() == ErrorKind::Untrusted && error.why().contains("rolled back"), "{error}");
}

#[test]
fn key_files_that_are_missing_or_slipped_in_are_named() {
    let world = World::with_points();
    let names = world.store.names("keys/");
    let epoch = names[0].split('/').nth(1).unwrap().to_owned();
    let slipped = format!("keys/{epoch}/{}.age", PartyId([0xee; 8]));
    world.store.insert(&slipped, world.store.bytes(&names[0]));
    let outcome = world.check(Keys::WithKit, DataSelection::None).unwrap();
    assert!(outcome.problems.is_empty());
    assert!(
        outcome.warnings.iter().any(|w| w.contains(&slipped) && w.contains("somebody added")),
        "{outcome:#?}"
    );
    world.store.remove(&slipped);

    // Replaced by a key of the thief's own.
    let mine = names.iter().find(|n| !n.contains(&world.host.sign.party().to_string())).unwrap();
    let good = world.store.bytes(mine);
    let thief = age::x25519::Identity::generate();
    let recipient = muster::repo::keys::AnyRecipient::X25519(world.kit.identity.to_public());
    world.store.insert(mine, recipient.seal_identity(&thief, age::NoCallbacks).unwrap());
    let outcome = world.check(Keys::WithKit, DataSelection::None).unwrap();
    assert!(named(&outcome, mine).what.contains("somebody replaced it"));
    world.store.insert(mine, good);

    let missing = names.iter().find(|n| !n.contains(&world.host.sign.party().to_string())).unwrap();
    world.store.remove(missing);
    let outcome = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
    assert!(named(&outcome, missing).what.contains("has no key file"));
}

#[test]
fn odd_things_among_the_packs_are_told() {
    let world = World::with_points();
    world.store.insert("packs/data/zz/not-a-pack", b"x".to_vec());
    let outcome = world.check(Keys::WithKit, DataSelection::All).unwrap();
    assert!(outcome.problems.is_empty());
    assert!(outcome.warnings.iter().any(|w| w.contains("packs/data/zz/not-a-pack")), "{outcome:#?}");
}

#[test]
fn an_index_that_lies_is_named_and_replaced() {
    let world = World::with_points();
    let mut at = world.locate(2, "docs/only-2");
    let pack = layout::pack(at.kind, &at.pack).to_string();
    let size = world.store.bytes(&pack).len() as u64;
    at.start += 1;
    at.len -= 1;
    let repo = world.open();
    let (_, meta) = repo.current_epoch(EpochKind::Meta).unwrap();
    let rows = [Ok(Row { id: muster::model::ChunkId([5; 32]), at })].into_iter();
    let key = &world.host.sign;
    let object = repo
        .with_zstd(|zstd| {
            build_object(
                rows,
                Vec::new(),
                key.party(),
                &|_| size,
                zstd,
                &SignAndSeal { meta, key, repository: repo.id() },
            )
        })
        .unwrap();
    repo.put_index(&object).unwrap();
    let outcome = world.check(Keys::WriterOnly, DataSelection::All).unwrap();
    assert!(named(&outcome, &pack).what.contains("its directory has others"), "{outcome:#?}");
    world.repair(false);
    assert_clean(&world.check(Keys::WithKit, DataSelection::All).unwrap());
}

#[test]
fn many_points_of_the_same_pages_cost_as_one() {
    let world = World::with_points();
    let few = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
    let repo = world.open();
    let mut last = repo.points().unwrap().points.pop().unwrap();
    for n in 3..=150 {
        let next = Point {
            id: Ulid([n as u8; 16]),
            seq: n,
            predecessor: Some(Predecessor { id: last.point.id, hash: last.hash }),
            ..last.point.clone()
        };
        last.hash = repo.put_point(&next).unwrap();
        last.point = next;
    }
    let many = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
    assert_clean(&many);
    let of_points = |names: Vec<String>| names.iter().map(|n| world.store.bytes(n).len() as u64).sum::<u64>();
    let added = of_points(world.store.names("points/").split_off(2));
    assert_eq!(many.bytes_read, few.bytes_read + added, "only the points themselves are read");

    // Damage names every point it hurts, and not more paths than a person can use.
    let pack = world.locate(1, "docs/same");
    world.store.flip(layout::pack(pack.kind, &pack.pack).as_str(), pack.offset as usize + 400);
    let hurt = world.check(Keys::WriterOnly, DataSelection::All).unwrap();
    assert_eq!(hurt.problems[0].points_hurt.len(), 150);
    assert!(hurt.problems[0].paths_hurt.len() <= 1_001);
}

#[test]
fn a_point_that_came_too_late_is_told_and_not_walked() {
    let world = World::with_points();
    let last = world.open().points().unwrap().points.pop().unwrap();
    let late = Point {
        id: Ulid([9; 16]),
        seq: 3,
        predecessor: Some(Predecessor { id: last.point.id, hash: last.hash }),
        // Between the first configuration's store time and the point's own.
        commit_before: Time::new(1_100, 0),
        ..last.point.clone()
    };
    world.open().put_point(&late).unwrap();
    let name = layout::point(&late.id).to_string();
    let bytes = world.store.remove(&name);
    world.store.insert(&name, bytes);
    let outcome = world.check(Keys::WriterOnly, DataSelection::None).unwrap();
    assert!(outcome.problems.is_empty());
    assert!(outcome.warnings.iter().any(|w| w.contains(&name) && w.contains("void")), "{outcome:#?}");
}

#[test]
fn a_repair_needs_a_writers_key() {
    let world = World::with_points();
    let identities = world.identities(Keys::WithKit);
    let store: Arc<dyn Store> = world.store.clone();
    let with = OpenWith {
        pin: Pin { root: None, lowest: 0 },
        host: None,
        identities: &identities,
        cache_root: world.dir.path().join("other"),
        compression_level: 3,
    };
    let repo = Repository::open(store, with).unwrap();
    let request = RepairIndexRequest {
        dry_run: false,
        progress: &Progress::quiet(),
        cancel: &Cancel::default(),
        clock: &Os,
    };
    let error: Error = repair_index(&repo, &request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    // Without any host key the check still works.
    assert_clean(&check_with(&repo, &identities, DataSelection::All).unwrap());
}

#[test]
fn points_that_are_gone_for_good_can_be_acknowledged() {
    let world = World::new();
    for n in 1..=4 {
        world.backup(n);
    }
    let all = |world: &World| {
        let list = world.open().points().unwrap();
        (list.gaps().len(), list.vanished.len(), list.points.len())
    };
    assert_eq!(all(&world), (0, 0, 4));
    // One in the middle, and the newest: only of the first does another point know the name.
    let lost = world.store.remove(layout::point(&Ulid([2; 16])).as_str());
    world.store.remove(layout::point(&Ulid([4; 16])).as_str());
    assert_eq!(all(&world), (1, 1, 2));
    let acknowledge = |dry_run, job: Option<&str>| {
        let job = job.map(str::to_owned);
        let request = AcknowledgeRequest { job, reason: "the disk broke", dry_run, clock: &Os, entropy: &Os };
        retention::acknowledge(&world.open(), &request, &|_| Ok(())).unwrap()
    };
    assert_eq!(acknowledge(false, Some("other")).points.len(), 0);
    assert_eq!(acknowledge(true, None).points.len(), 2);
    assert_eq!(all(&world), (1, 1, 2));
    let done = acknowledge(false, Some("app"));
    let known: Vec<_> = done.points.iter().map(|p| (p.number, p.point.clone())).collect();
    assert_eq!(known, [(2, Some(label(2))), (4, None)]);
    assert_eq!(all(&world), (0, 0, 2));
    assert_eq!(acknowledge(false, None).points.len(), 0);
    assert_clean(&world.check(Keys::WithKit, DataSelection::None).unwrap());
    // The one that was named is removed, also when it turns up again.
    world.store.insert(layout::point(&Ulid([2; 16])).as_str(), lost);
    assert_eq!(all(&world), (0, 0, 2));
}
