//! Keys: who can open, write and prove after each change of them.

#[path = "keys/chain.rs"]
mod chain;
#[path = "support/key_world.rs"]
mod key_world;
#[path = "keys/rights.rs"]
mod rights;

use std::sync::{Arc, Mutex};

use age::x25519;
use key_world::*;
use muster::jobs::backup::{BackupRequest, backup};
use muster::jobs::check::{CheckRequest, DataSelection, check};
use muster::jobs::hooks::Hooks;
use muster::jobs::keys::{
    self, Admission, HostRole, Role, Round, add_recipient, admission, admit, list, remove_recipient,
    resolve_party, revoke, rotate,
};
use muster::model::{ChunkId, ErrorKind, Hash, ObjectName, PartyId, Result, Secret, Time, Ulid};
use muster::ports::{Cancel, Capabilities, ObjectMeta, Put, Store};
use muster::repo::cbor;
use muster::repo::format::{EpochKind, Tombstone, Totals};
use muster::repo::index::{Index, Location, Row, build_object};
use muster::repo::keys::{AnyRecipient, HostKeys, Identities, KeyRequest, RecoveryKit};
use muster::repo::layout::{self, PackKind};
use muster::repo::points::StoredPoint;
use muster::repo::repository::{OpenWith, Repository};
use muster::repo::seal;
use muster::repo::sign::{Envelope, Kind, SignKey};
use muster::repo::trust::Pin;
use muster::report::outcome::KeyChange;
use muster::report::progress::Progress;
use muster::sources::command::{CommandConfig, CommandSource};
use muster::stores::Mem;
use muster::stores::wrap::FaultPlan;
use muster::sys::RealProcess;

/// Opens with these identities alone, and reads each point.
fn reads_all(world: &World, cache: &str, identities: &Identities, points: &[(ObjectName, Vec<u8>)]) {
    let repo = world.open(cache, None, identities).unwrap();
    for (point, content) in points {
        assert!(read_back(&repo, point).unwrap() == *content, "{point}");
    }
}

/// Adds a recipient between two backups, begins new epochs, and reads everything with it alone.
fn an_added_one_opens_everything(recipient: &AnyRecipient, identities: &Identities, ask: &Ask) {
    let world = World::new();
    let mut points = Vec::new();
    let mut back_up_more = |seed| {
        let content = noise(seed, 700_000);
        let (point, _) = back_up(&world.as_host(&world.writer), "app", &content);
        points.push((point, content));
    };
    back_up_more(1);
    rotate(&world.as_kit(), &world.root(), Round::All).unwrap();
    assert!(world.open("before", None, identities).is_err());
    let change = add_recipient(&world.as_kit(), &world.by(ask), recipient, "safe").unwrap();
    assert_eq!((change.action.as_str(), change.config), ("add", Some(2)));
    back_up_more(2);
    rotate(&world.as_kit(), &world.by(ask), Round::All).unwrap();
    back_up_more(3);
    reads_all(&world, "added", identities, &points);
    reads_all(&world, "kit", &world.kit_identities(), &points);

    let again = add_recipient(&world.as_kit(), &world.by(ask), recipient, "other").unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Exists);
    let mine = world.kit.identity.to_public();
    let kit =
        add_recipient(&world.as_kit(), &world.by(ask), &AnyRecipient::X25519(mine), "other").unwrap_err();
    assert_eq!(kit.kind(), ErrorKind::Exists);
}

#[test]
fn an_added_age_recipient_opens_old_and_new_data() {
    let identity = x25519::Identity::generate();
    use age::secrecy::ExposeSecret;
    let identities = identity_text(identity.to_string().expose_secret());
    an_added_one_opens_everything(&AnyRecipient::X25519(identity.to_public()), &identities, &Ask::default());
}

#[test]
fn an_added_ssh_recipient_opens_old_and_new_data() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "somebody@somewhere", "-f"])
        .arg(&key)
        .status()
        .expect("this test needs ssh-keygen (package openssh-client)");
    assert!(made.success());
    let recipient =
        AnyRecipient::parse(&std::fs::read_to_string(key.with_extension("pub")).unwrap()).unwrap();
    assert!(!recipient.text().unwrap().contains("somebody"), "a name would stand in the clear");
    let identities = identity_text(&std::fs::read_to_string(&key).unwrap());
    an_added_one_opens_everything(&recipient, &identities, &Ask::default());
}

#[test]
fn an_added_passphrase_opens_old_and_new_data() {
    let passphrase = "correct horse battery staple";
    let recipient = AnyRecipient::Passphrase(Secret::new(passphrase.to_owned()));
    let mut identities = Identities::default();
    identities.add_passphrase(&Secret::new(passphrase.to_owned()));
    an_added_one_opens_everything(&recipient, &identities, &Ask(Some(passphrase.to_owned())));
}

#[test]
fn a_passphrase_that_stays_must_be_given_for_new_epochs() {
    let right = "a long enough passphrase";
    let world = World::with_recipients(vec![AnyRecipient::Passphrase(Secret::new(right.to_owned()))]);
    let before = world.mem.names().len();
    for ask in [Ask(None), Ask(Some("wrong".to_owned()))] {
        let error = rotate(&world.as_kit(), &world.by(&ask), Round::Metadata).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKey);
        assert!(error.subject().unwrap().starts_with("recipient "), "{error}");
        assert!(!format!("{error:?}").contains("wrong\""));
    }
    assert_eq!(world.mem.names().len(), before, "nothing was written");
    rotate(&world.as_kit(), &world.by(&Ask(Some(right.to_owned()))), Round::Metadata).unwrap();
    assert_eq!(world.as_kit().trusted().config.epochs.len(), 3);
}

#[test]
fn a_removed_recipient_opens_what_it_could_and_nothing_new() {
    let gone = x25519::Identity::generate();
    let world = World::with_recipients(vec![AnyRecipient::X25519(gone.to_public())]);
    back_up(&world.as_host(&world.writer), "app", &noise(1, 700_000));
    let gone: &[&dyn age::Identity] = &[&gone];
    let old = obtainable(&world, gone);
    let (opened, closed) = try_every_blob(&world, PackKind::Data, &refs(&old));
    assert!(opened > 0 && closed == 0);

    let repo = world.as_kit();
    let id = repo.trusted().config.recipients[1].id.to_string();
    let change = remove_recipient(&repo, &world.root(), &id[..6]).unwrap();
    assert!(change.next.iter().any(|step| step.contains("it still can")));
    let content = noise(2, 700_000);
    let (point, _) = back_up(&world.as_host(&world.writer), "app", &content);
    assert!(read_back(&world.as_kit(), &point).unwrap() == content);

    let held = obtainable(&world, gone);
    let (still, now_closed) = try_every_blob(&world, PackKind::Data, &refs(&held));
    assert_eq!(still, opened, "old content it can open as before");
    assert!(now_closed > 0, "new content it cannot");
    assert!(try_every_blob(&world, PackKind::Meta, &refs(&held)).1 > 0, "nor new names");
    let sealed = world.mem.get(&point, 1 << 20).unwrap();
    assert!(seal::decrypt(&refs(&held), &sealed).is_err(), "nor the new point");
}

#[test]
fn who_must_stay_is_not_removed() {
    let world = World::new();
    let only = world.as_kit().trusted().config.recipients[0].id;
    let refused = |name: &str| remove_recipient(&world.as_kit(), &world.root(), name).unwrap_err();
    assert_eq!(refused(&only.to_string()).kind(), ErrorKind::Refused);
    let drill = world.admit(HostRole::Drill, "drill-1");
    // A drill host's key is no recovery kit.
    assert_eq!(refused("recovery kit").kind(), ErrorKind::Refused);
    let error = refused("drill-1");
    assert!(error.remedy().unwrap().contains("muster key revoke"), "{error:?}");
    let writer = refused("web-1");
    assert_eq!(writer.kind(), ErrorKind::Refused);
    // The role is said once.
    assert!(writer.to_string().starts_with("cannot remove writer web-1 ("), "{writer}");
    let last = refused("recovery kit").to_string();
    assert!(last.starts_with("cannot remove recipient recovery kit ("), "{last}");
    assert_eq!(refused("nobody").kind(), ErrorKind::NotFound);
    revoke(&world.as_kit(), &world.root(), &drill.sign.party().to_string()).unwrap();
    assert!(refused("drill-1").why().contains("revoked already"));
}

#[test]
fn an_admitted_writer_writes_and_deduplicates_against_itself_alone() {
    let world = World::new();
    let content = noise(1, 2_000_000);
    back_up(&world.as_host(&world.writer), "app", &content);
    rotate(&world.as_kit(), &world.root(), Round::All).unwrap();
    let second = world.admit(HostRole::Writer, "web-2");
    let repo = world.as_host(&second);
    assert_eq!(repo.points().unwrap().points.len(), 1, "it reads the names of what was there before");
    let (point, first) = back_up(&repo, "app", &content);
    assert!(first.bytes_new >= 2_000_000, "nothing of another writer's is taken as known");
    let (_, again) = back_up(&world.as_host(&second), "app", &content);
    assert_eq!((again.chunks_new, again.packs), (0, 0), "its own is");
    assert_eq!(read_back(&world.as_host(&second), &point).unwrap_err().kind(), ErrorKind::WrongKey);
    assert!(read_back(&world.as_kit(), &point).unwrap() == content);
}

#[test]
fn with_the_keys_of_a_writer_no_data_opens() {
    let world = World::new();
    back_up(&world.as_host(&world.writer), "app", &noise(1, 1_500_000));
    rotate(&world.as_kit(), &world.root(), Round::All).unwrap();
    let second = world.admit(HostRole::Writer, "web-2");
    back_up(&world.as_host(&second), "app", &noise(2, 1_500_000));
    for keys in [&world.writer, &second] {
        let mut held = obtainable(&world, &[&keys.identity]);
        assert_eq!(held.len(), 2, "both metadata epochs");
        assert!(try_every_blob(&world, PackKind::Meta, &refs(&held)).0 > 0);
        held.push(keys.identity.clone());
        let (opened, closed) = try_every_blob(&world, PackKind::Data, &refs(&held));
        assert!(opened == 0 && closed > 0);
        assert!(!world.as_host(keys).can_open_data());
        // Nor when it is given as an identity.
        assert!(!world.open("as identity", Some(keys), &identity_of(keys)).unwrap().can_open_data());
    }
}

#[test]
fn a_revoked_writer_keeps_its_past_and_has_no_future() {
    let world = World::new();
    let second = world.admit(HostRole::Writer, "web-2");
    let (old_point, _) = back_up(&world.as_host(&second), "app", &noise(1, 100_000));
    back_up(&world.as_host(&second), "other", &noise(2, 100_000));
    let thief = world.as_host(&second);
    let change = revoke(&world.as_kit(), &world.root(), "web-2").unwrap();
    assert!(change.next.iter().any(|step| step.contains("credentials")));
    let revocation = world.as_kit().trusted().config.revocations[0].clone();
    assert_eq!(revocation.trusted.iter().map(|t| t.job.as_str()).collect::<Vec<_>>(), ["app", "other"]);

    // What it signs from now on, with what it knows, is refused by name.
    let late = put_point(&thief, "app", Ulid([1; 16]), Vec::new(), Totals::default()).unwrap();
    let list = world.as_kit().points().unwrap();
    assert!(list.points.iter().any(|p| layout::point(&p.point.id) == old_point));
    assert_eq!(list.points.len(), 2);
    assert_eq!(list.refused.len(), 1);
    let (name, error) = &list.refused[0];
    assert_eq!((name, error.kind()), (&late, ErrorKind::Untrusted));
    assert!(
        error.why().contains("revoked") && error.why().contains(&second.sign.party().to_string()),
        "{error}"
    );

    let alone = world.open("thief", Some(&second), &Identities::default());
    assert_eq!(
        alone.map(|_| ()).unwrap_err().kind(),
        ErrorKind::WrongKey,
        "the new metadata epoch stays closed"
    );
    let with_kit = world.open("thief", Some(&second), &world.kit_identities()).unwrap();
    assert_eq!(with_kit.writer().map(|_| ()).unwrap_err().kind(), ErrorKind::Untrusted);
    let held = obtainable(&world, &[&second.identity]);
    let current = current_recipient(&world.as_kit(), EpochKind::Meta);
    assert!(held.iter().all(|i| i.to_public().to_string() != current));
    assert!(read_back(&world.as_kit(), &old_point).unwrap() == noise(1, 100_000));
    back_up(&world.as_host(&world.writer), "app", &noise(3, 100_000));

    // The same keys are not let in again, and the name is free for a new host.
    let (_, request) = keys::request(HostRole::Writer, "web-2", Some(&second), ENTROPY).unwrap();
    assert_eq!(admit(&world.as_kit(), &world.root(), &request, None).unwrap_err().kind(), ErrorKind::Refused);
    world.admit(HostRole::Writer, "web-2");
}

/// Does something when the first point is stored: before it is there, or after.
struct AtThePoint {
    inner: Arc<Mem>,
    is_before: bool,
    deed: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Store for AtThePoint {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        let is_point = name.as_str().starts_with(layout::POINTS);
        let deed = is_point.then(|| self.deed.lock().unwrap().take()).flatten();
        match deed {
            Some(deed) if self.is_before => {
                deed();
                self.inner.put(name, parts)
            }
            Some(deed) => {
                let put = self.inner.put(name, parts);
                deed();
                put
            }
            None => self.inner.put(name, parts),
        }
    }
    fn get(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>> {
        self.inner.get(name, limit_bytes)
    }
    fn get_range(&self, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.inner.get_range(name, offset, len)
    }
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        self.inner.stat(name)
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, visit)
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }
}

/// Backs up through the job, and revokes the writer's key when the point is stored.
fn back_up_while_revoked(world: &Arc<World>, is_before: bool) -> Result<Option<String>> {
    let revoker = world.clone();
    let writer = world.writer.sign.party().to_string();
    let deed = Box::new(move || drop(revoke(&revoker.as_kit(), &revoker.root(), &writer).unwrap()));
    let store = AtThePoint { inner: world.mem.clone(), is_before, deed: Mutex::new(Some(deed)) };
    let cache = tempfile::tempdir().unwrap();
    let with = OpenWith {
        pin: Pin { root: Some(world.kit.root.public()), lowest: 0 },
        host: Some(copy_of(&world.writer)),
        identities: &Identities::default(),
        cache_root: cache.path().to_owned(),
        compression_level: 3,
    };
    let repo = Repository::open(Arc::new(store), with).unwrap();
    let command =
        CommandConfig { backup: vec!["echo".to_owned(), "x".to_owned()], ..CommandConfig::default() };
    let source = CommandSource::new("echo", command, Arc::new(RealProcess)).unwrap();
    let request = BackupRequest {
        job: "app".to_owned(),
        tags: Vec::new(),
        sources: vec![Box::new(source)],
        hooks: Hooks::default(),
        host: "test".to_owned(),
        dry_run: false,
        threads: 1,
        memory_bytes: 64 << 20,
        clock: &world.clock,
        entropy: ENTROPY,
        process: &RealProcess,
        cancel: &Cancel::default(),
        progress: &Progress::quiet(),
    };
    backup(&repo, &request).map(|done| done.point)
}

#[test]
fn a_point_that_nobody_would_believe_is_no_success() {
    let world = Arc::new(World::new());
    let error = back_up_while_revoked(&world, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    assert!(error.why().contains("every reader refuses that point"), "{error}");
    assert!(error.remedy().unwrap().contains("key request") && error.subject().is_some());
    let list = world.as_kit().points().unwrap();
    assert_eq!((list.points.len(), list.refused.len()), (0, 1));

    // Revoked a moment later the point was seen, and it stands.
    let world = Arc::new(World::new());
    assert!(back_up_while_revoked(&world, false).unwrap().is_some());
    let list = world.as_kit().points().unwrap();
    assert_eq!((list.points.len(), list.refused.len()), (1, 0));
}

#[test]
fn new_keys_keep_the_writers_id_numbers_and_known_chunks() {
    let world = World::new();
    let content = noise(1, 2_000_000);
    let (first, _) = back_up(&world.as_host(&world.writer), "app", &content);
    let stale = world.as_host(&world.writer);
    let (new, request) = world.renew(HostRole::Writer, &world.writer);
    assert_eq!(new.sign.party(), world.writer.sign.party());
    assert_eq!(world.as_kit().label(&new.sign.party()), Some("web-1"), "the name stays");

    // With the new key alone: all metadata, old and new; on a host with a fresh cache and on this one.
    for cache in ["fresh", &new.sign.party().to_string()] {
        let repo = world.open(cache, Some(&new), &Identities::default()).unwrap();
        assert_eq!(repo.meta_identities().len(), 2);
        assert_eq!(repo.points().unwrap().gaps(), Vec::<String>::new());
    }
    let (second, totals) = back_up(&world.as_host(&new), "app", &content);
    assert_eq!((totals.chunks_new, totals.packs), (0, 0), "what the old key stored is known");
    let list = world.as_kit().points().unwrap();
    assert_eq!(list.points.iter().map(|p| p.point.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(list.gaps(), Vec::<String>::new());
    for point in [first, second] {
        assert!(read_back(&world.as_kit(), &point).unwrap() == content);
    }

    // The old keys are over.
    put_point(&stale, "app", Ulid([1; 16]), Vec::new(), Totals::default()).unwrap();
    assert_eq!(world.as_kit().points().unwrap().refused.len(), 1);
    assert!(world.open("old", Some(&world.writer), &Identities::default()).is_err());
    let old = world.open("old", Some(&world.writer), &world.kit_identities()).unwrap();
    assert!(old.writer().is_err());

    // Once more is nothing to do; a second rotation works as the first.
    let again = admit(&world.as_kit(), &world.root(), &request, None).unwrap();
    assert_eq!((again.config, again.next.len()), (None, 0));
    let (newer, _) = world.renew(HostRole::Writer, &new);
    let (_, totals) = back_up(&world.as_host(&newer), "app", &content);
    assert_eq!(totals.chunks_new, 0);

    // Nothing of this is damage to a check, but for the point that came too late.
    let named = |repo: &Repository, identities: &Identities| -> Vec<String> {
        check_all(repo, identities).problems.into_iter().map(|p| p.object).collect()
    };
    let late = world.as_kit().points().unwrap().refused.remove(0).0.to_string();
    assert_eq!(named(&world.as_kit(), &world.kit_identities()), [late.as_str()]);
    assert_eq!(named(&world.as_host(&newer), &Identities::default()), [late]);
}

fn check_all(repo: &Repository, identities: &Identities) -> muster::report::outcome::Check {
    let request = CheckRequest {
        data: DataSelection::All,
        threads: 1,
        memory_bytes: 64 << 20,
        identities,
        progress: &muster::report::Progress::quiet(),
        cancel: &muster::ports::Cancel::default(),
        entropy: ENTROPY,
        clock: &muster::sys::RealClock,
    };
    check(repo, &request).unwrap()
}

/// Signs, with an old key, an index object that says that `chunk` is where `like` is.
fn false_index(repo: &Repository, key: &SignKey, chunk: ChunkId, like: &Row, supersedes: Vec<Hash>) {
    let row = Row { id: chunk, at: Location { start: 0, len: 1, ..like.at } };
    let (_, meta) = repo.current_epoch(EpochKind::Meta).unwrap();
    let rows = [row].into_iter().map(Ok);
    let by = muster::repo::index::SignAndSeal { meta, key, repository: repo.id() };
    let object =
        repo.with_zstd(|z| build_object(rows, supersedes, key.party(), &|_| 1 << 30, z, &by)).unwrap();
    repo.put_index(&object).unwrap();
}

fn all_rows(index: &Index) -> Vec<Row> {
    let mut rows = Vec::new();
    for segment in index.segments() {
        for n in 0..segment.len() {
            rows.push(segment.row(n).unwrap());
        }
    }
    rows
}

#[test]
fn an_index_signed_with_a_revoked_key_afterwards_harms_nobody() {
    let world = World::new();
    let content = noise(1, 2_000_000);
    let (point, _) = back_up(&world.as_host(&world.writer), "app", &content);
    let stale = world.as_host(&world.writer);
    let (new, _) = world.renew(HostRole::Writer, &world.writer);
    let (index, _) = Index::sync(&stale).unwrap();
    let good: Vec<_> = index.segments().iter().flat_map(|s| s.objects().to_vec()).collect();
    // A chunk that is coming, said to be in a blob that has other bytes; and all that is good, replaced.
    let coming = noise(9, 100_000);
    let chunk = stale.derived().chunk_id(PackKind::Data, &coming);
    false_index(&stale, &world.writer.sign, chunk, &all_rows(&index)[0], good);

    let (_, totals) = back_up(&world.as_host(&new), "app", &content);
    assert_eq!(totals.chunks_new, 0, "what is good is not replaced");
    let (late, totals) = back_up(&world.as_host(&new), "app", &coming);
    assert!(totals.bytes_new >= 100_000, "the false place is not believed");
    assert!(read_back(&world.as_kit(), &late).unwrap() == coming);
    assert!(read_back(&world.as_kit(), &point).unwrap() == content);
}

fn tombstone(repo: &Repository, key: &SignKey, of: &StoredPoint, by: PartyId) {
    let stone = Tombstone {
        point: of.point.id,
        hash: of.hash,
        writer: of.point.writer,
        job: of.point.job.clone(),
        seq: of.point.seq,
        by,
        rule: "test".to_owned(),
        at: Time::default(),
    };
    let name = layout::tombstone(&stone.point);
    let signed = Envelope::sign(key, repo.id(), Kind::Tombstone, Some(&name), cbor::encode(&stone));
    let sealed = repo.seal_envelope(&signed).unwrap();
    assert_eq!(repo.store().put(&name, &[&sealed]).unwrap(), Put::Created);
}

#[test]
fn removals_stay_what_they_were_when_keys_rotate() {
    let world = World::new();
    for seed in 0..3 {
        back_up(&world.as_host(&world.writer), "app", &noise(seed, 10_000));
    }
    let stale = world.as_host(&world.writer);
    let points = stale.points().unwrap().points;
    tombstone(&stale, &world.writer.sign, &points[0], world.writer.sign.party());
    world.renew(HostRole::Writer, &world.writer);
    // Signed with the old key after it was revoked.
    tombstone(&stale, &world.writer.sign, &points[1], world.writer.sign.party());
    // By another writer, in the point's writer's name.
    let second = world.admit(HostRole::Writer, "web-2");
    tombstone(&world.as_host(&second), &second.sign, &points[2], world.writer.sign.party());
    world.mem.delete(&layout::point(&points[0].point.id)).unwrap();
    let list = world.as_kit().points().unwrap();
    assert_eq!(list.points.iter().map(|p| p.point.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(list.gaps(), Vec::<String>::new());
}

#[test]
fn a_drill_host_opens_data_while_it_is_admitted() {
    let world = World::new();
    let content = noise(1, 700_000);
    let (point, _) = back_up(&world.as_host(&world.writer), "app", &content);
    let drill = world.admit(HostRole::Drill, "drill-1");
    let reads = |keys: &HostKeys, point| read_back(&world.as_host(keys), point);
    assert!(reads(&drill, &point).unwrap() == content);
    assert!(world.as_host(&drill).writer().is_err());

    let (new, _) = world.renew(HostRole::Drill, &drill);
    assert_eq!(new.sign.party(), drill.sign.party());
    let (late, _) = back_up(&world.as_host(&world.writer), "app", &noise(2, 700_000));
    assert!(reads(&new, &point).unwrap() == content);
    assert!(reads(&new, &late).unwrap() == noise(2, 700_000));
    assert!(try_every_blob(&world, PackKind::Data, &refs(&obtainable(&world, &[&drill.identity]))).1 > 0);

    revoke(&world.as_kit(), &world.root(), "drill-1").unwrap();
    back_up(&world.as_host(&world.writer), "app", &noise(3, 700_000));
    assert!(world.open("drill", Some(&new), &identity_of(&new)).is_err());
    let (_, closed) = try_every_blob(&world, PackKind::Data, &refs(&obtainable(&world, &[&new.identity])));
    assert!(closed > 0);
    let config = world.as_kit().trusted().config.clone();
    assert_eq!((config.recipients.len(), config.drills.len(), config.revocations.len()), (1, 0, 2));
}

#[test]
fn another_repositorys_root_changes_nothing() {
    let world = World::new();
    let other = RecoveryKit::generate(ENTROPY).unwrap();
    let by = keys::Authority { root: &other.root, ..world.root() };
    let (_, request) = keys::request(HostRole::Writer, "web-2", None, ENTROPY).unwrap();
    let recipient = AnyRecipient::X25519(other.identity.to_public());
    let before = world.mem.names();
    let repo = world.as_kit();
    let errors = [
        add_recipient(&repo, &by, &recipient, "x").unwrap_err(),
        remove_recipient(&repo, &by, "recovery kit").unwrap_err(),
        admit(&repo, &by, &request, None).unwrap_err(),
        revoke(&repo, &by, "web-1").unwrap_err(),
        rotate(&repo, &by, Round::All).unwrap_err(),
    ];
    assert!(errors.iter().all(|e| e.kind() == ErrorKind::WrongKey), "{errors:?}");
    assert_eq!(world.mem.names(), before);
}

#[test]
fn who_cannot_open_an_epoch_cannot_hand_it_over() {
    let world = World::new();
    let repo = world.open("writer with root", Some(&world.writer), &Identities::default()).unwrap();
    let recipient = AnyRecipient::X25519(x25519::Identity::generate().to_public());
    let error = add_recipient(&repo, &world.root(), &recipient, "safe").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    let epoch = repo.current_epoch(EpochKind::Data).unwrap().0;
    assert!(error.why().contains(&epoch.to_string()) && error.remedy().is_some(), "{error}");
    // Metadata is enough to admit a writer.
    let (_, request) = keys::request(HostRole::Writer, "web-2", None, ENTROPY).unwrap();
    admit(&repo, &world.root(), &request, None).unwrap();
}

#[test]
fn bad_requests_are_refused() {
    let world = World::new();
    let refused = |request: &KeyRequest| admit(&world.as_kit(), &world.root(), request, None).unwrap_err();
    let (keys, request) = keys::request(HostRole::Writer, "web-2", None, ENTROPY).unwrap();
    let mut forged = request.clone();
    forged.role = "drill".to_owned();
    assert_eq!(refused(&forged).kind(), ErrorKind::Untrusted);
    let mut other_recipient = request.clone();
    other_recipient.recipient = x25519::Identity::generate().to_public().to_string();
    assert_eq!(refused(&other_recipient).kind(), ErrorKind::Untrusted);

    // A writer's id for a drill host; one key for two hosts; a name that is taken.
    let (_, as_drill) = keys::request(HostRole::Drill, "x", Some(&world.writer), ENTROPY).unwrap();
    assert_eq!(refused(&as_drill).kind(), ErrorKind::Refused);
    let shared =
        HostKeys { sign: HostKeys::generate(ENTROPY).unwrap().sign, identity: world.writer.identity.clone() };
    assert_eq!(refused(&KeyRequest::new("writer", "y", &shared)).kind(), ErrorKind::Exists);
    let seed = world.writer.sign.seed();
    let stolen = HostKeys { sign: SignKey::new(keys.sign.party(), &seed), identity: keys.identity.clone() };
    assert_eq!(refused(&KeyRequest::new("writer", "z", &stolen)).kind(), ErrorKind::Refused);
    let (_, same_name) = keys::request(HostRole::Writer, "web-1", None, ENTROPY).unwrap();
    assert_eq!(refused(&same_name).kind(), ErrorKind::Usage);
    let change = admit(&world.as_kit(), &world.root(), &same_name, Some("web-3")).unwrap();
    assert!(change.done.contains("web-3"));

    // A renewal may bring a new name, and says so.
    let (_, renamed) = keys::request(HostRole::Writer, "web-one", Some(&world.writer), ENTROPY).unwrap();
    let (_, taken) = keys::request(HostRole::Writer, "web-3", Some(&world.writer), ENTROPY).unwrap();
    assert_eq!(refused(&taken).kind(), ErrorKind::Usage);

    // What a request would do is told before it is done.
    let (_, renewal) = keys::request(HostRole::Writer, "web-1", Some(&world.writer), ENTROPY).unwrap();
    match admission(&world.as_kit(), &renewal).unwrap().1 {
        Admission::Renewal(HostRole::Writer, party) => assert_eq!(party.label, "web-1"),
        other => panic!("{other:?}"),
    }
    let change = admit(&world.as_kit(), &world.root(), &renamed, None).unwrap();
    assert!(change.done.contains("web-one") && change.done.contains("was called web-1"), "{}", change.done);
    assert_eq!(world.as_kit().label(&world.writer.sign.party()), Some("web-one"));
}

#[test]
fn parties_are_named_by_id_prefix_or_label() {
    let world = World::new();
    let second = world.admit(HostRole::Writer, "web-2");
    let repo = world.as_kit();
    let id = second.sign.party().to_string();
    for name in [id.as_str(), &id[..8], &id.to_uppercase()[..8], "web-2"] {
        let party = resolve_party(&repo, name).unwrap();
        assert_eq!((party.id, party.role), (second.sign.party(), Role::Writer), "{name}");
    }
    for name in ["", "web", "web-22", "zzzz"] {
        assert_eq!(resolve_party(&repo, name).unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    }
    // An id's beginning that is another's name means two.
    let (_, request) = keys::request(HostRole::Writer, &id[..8], None, ENTROPY).unwrap();
    admit(&repo, &world.root(), &request, None).unwrap();
    let error = resolve_party(&world.as_kit(), &id[..8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.why().contains("web-2"), "{error}");
}

#[test]
fn a_list_shows_who_is_and_who_was() {
    let world = World::new();
    world.admit(HostRole::Writer, "web-2");
    world.admit(HostRole::Drill, "drill-1");
    world.renew(HostRole::Writer, &world.writer);
    revoke(&world.as_kit(), &world.root(), "web-2").unwrap();
    revoke(&world.as_kit(), &world.root(), "drill-1").unwrap();
    let list = list(&world.as_kit()).unwrap();
    let mut rows: Vec<_> =
        list.writers.iter().map(|w| (w.label.as_str(), w.role.as_str(), w.status.as_str())).collect();
    rows.sort_unstable();
    assert_eq!(
        rows,
        [
            ("drill-1", "drill", "revoked"),
            ("web-1", "writer", "active"),
            ("web-1", "writer", "revoked"),
            ("web-2", "writer", "revoked")
        ]
    );
    assert_eq!(list.recipients.iter().map(|r| r.label.as_str()).collect::<Vec<_>>(), ["recovery kit"]);
    assert_eq!(list.config, 5);
}

#[test]
fn two_changes_from_one_state_do_not_fork_the_chain() {
    let world = World::new();
    let (one, two) = (world.as_kit(), world.as_kit());
    rotate(&one, &world.root(), Round::All).unwrap();
    let error = rotate(&two, &world.root(), Round::All).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    rotate(&world.as_kit(), &world.root(), Round::Data).unwrap();
}

type Change<'a> = &'a dyn Fn(&World, &Repository) -> Result<KeyChange>;

/// Every change, interrupted at every write: the repository stays as it was or is as it should
/// be, and the same command run again succeeds.
#[test]
fn an_interrupted_change_is_run_again() {
    let spare = x25519::Identity::generate();
    let world = World::with_recipients(vec![AnyRecipient::X25519(spare.to_public())]);
    let content = noise(1, 100_000);
    let (point, _) = back_up(&world.as_host(&world.writer), "app", &content);
    world.admit(HostRole::Drill, "drill-1");
    let (_, new_writer) = keys::request(HostRole::Writer, "web-2", None, ENTROPY).unwrap();
    let (_, renewal) = keys::request(HostRole::Writer, "web-1", Some(&world.writer), ENTROPY).unwrap();
    let added = AnyRecipient::X25519(x25519::Identity::generate().to_public());
    let spare_id = world.as_kit().trusted().config.recipients[1].id.to_string();

    let changes: [(&str, Change<'_>); 7] = [
        ("add", &|w, r| add_recipient(r, &w.root(), &added, "safe")),
        ("remove", &|w, r| remove_recipient(r, &w.root(), &spare_id)),
        ("admit", &|w, r| admit(r, &w.root(), &new_writer, None)),
        ("renew", &|w, r| admit(r, &w.root(), &renewal, None)),
        ("revoke writer", &|w, r| revoke(r, &w.root(), "web-1")),
        ("revoke drill", &|w, r| revoke(r, &w.root(), "drill-1")),
        ("rotate", &|w, r| rotate(r, &w.root(), Round::All)),
    ];
    for (what, change) in changes {
        let (calm, fault) = world.fork(FaultPlan::none().on_writes());
        let before = calm.as_kit().trusted().config.number;
        change(&calm, &calm.as_kit()).unwrap();
        let writes = fault.ops();
        assert!(writes > 1, "{what}");
        for n in 0..writes {
            // Half a key file is in nobody's way either.
            let torn = FaultPlan::crash_torn(n, 500).on_names("keys/");
            let plans =
                [FaultPlan::fail_before(n), FaultPlan::fail_after(n), FaultPlan::crash_before(n), torn];
            for plan in plans {
                interrupt(&world, what, change, plan.on_writes(), before, (&point, &content));
            }
        }
    }
}

fn interrupt(
    world: &World,
    what: &str,
    change: Change<'_>,
    plan: FaultPlan,
    before: u64,
    (point, content): (&ObjectName, &[u8]),
) {
    let says = format!("{what}: {plan}");
    let (fork, _) = world.fork(plan);
    let first = change(&fork, &fork.as_kit());
    let fork = fork.healed();
    let repo = fork.as_kit();
    assert!(read_back(&repo, point).unwrap() == content, "{says}");
    if repo.trusted().config.number == before {
        assert!(first.is_err(), "{says}");
        change(&fork, &repo).unwrap_or_else(|e| panic!("{says}: {e}"));
    }
    let repo = fork.as_kit();
    assert_eq!(repo.trusted().config.number, before + 1, "{says}");
    assert!(read_back(&repo, point).unwrap() == content, "{says}");
}
