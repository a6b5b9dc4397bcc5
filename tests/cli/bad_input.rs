//! What is not as it should be: a clear error, the right status, nothing lost.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use age::x25519;
use muster::model::{Hash, PartyId, Time, Ulid};
use muster::repo::cbor;
use muster::repo::format::{Revocation, TrustedUpTo};
use muster::repo::keys::HostKeys;
use muster::repo::layout;
use muster::repo::seal;
use muster::repo::sign::{Envelope, Kind};
use muster::repo::trust::sign_config;
use muster::sys::OsEntropy;

use super::world::{Who, World, finish, noise};

/// Text whose changing parts are replaced, for comparison.
fn steady(world: &World, text: &str) -> String {
    text.replace(&world.path().display().to_string(), "[DIR]")
        .replace(&world.repository, "[REPOSITORY]")
        .replace(&world.root, "[ROOT]")
        .replace(&world.writer, "[WRITER]")
}

fn with_a_point() -> World {
    let world = World::new().with_docs();
    world.write("src/a", "A");
    world.backup();
    world
}

#[test]
fn the_kit_of_another_repository() {
    let (world, other) = (with_a_point(), World::new());
    let kit = other.kit();
    let run = world.run(["restore", "latest", "--to", "out", "--identity", &kit]).expect_code(1);
    insta::assert_snapshot!(steady(&world, &run.stderr));
    // On a machine that has nothing but the wrong kit.
    std::fs::rename(world.join("muster.key"), world.join("away")).unwrap();
    let run = world.run(["points", "--identity", &kit]).expect_code(1);
    insta::assert_snapshot!("wrong_kit_alone", steady(&world, &run.stderr));
}

#[test]
fn the_kit_alone_is_enough() {
    let world = with_a_point();
    std::fs::rename(world.join("muster.key"), world.join("away")).unwrap();
    world.run(["points"]).expect_code(2).says("restore the file, or give the recovery kit");
    world.with_kit(["restore", "latest", "--to", "out"]).ok();
    world.with_kit(["backup"]).expect_code(2).says("keys");
}

#[test]
fn the_keys_of_another_host() {
    let (world, other) = (with_a_point(), World::new());
    std::fs::copy(other.join("muster.key"), world.join("muster.key")).unwrap();
    let run = world.run(["backup"]).expect_code(1);
    insta::assert_snapshot!(steady(&world, &run.stderr).replace(&other.writer, "[OTHER]"));
    assert_eq!(world.objects("points").len(), 1);
}

#[test]
fn another_root_is_not_believed() {
    let (world, other) = (with_a_point(), World::new());
    let config = std::fs::read_to_string(world.join("muster.toml")).unwrap();
    std::fs::write(world.join("muster.toml"), config.replace(&world.root, &other.root)).unwrap();
    let before = world.objects("");
    world.run(["points"]).expect_code(1).says("pinned");
    world.run(["backup"]).expect_code(1);
    assert_eq!(world.objects(""), before);
}

#[test]
fn places_that_are_no_repository() {
    let world = with_a_point();
    let config = std::fs::read_to_string(world.join("muster.toml")).unwrap();
    std::fs::create_dir(world.join("empty")).unwrap();
    world.write("documents/letter", "dear");
    world.write("file", "x");
    let mut said = String::new();
    for place in ["empty", "documents", "missing", "file"] {
        std::fs::write(
            world.join("muster.toml"),
            config.replace(
                &format!("file://{}", world.repo().display()),
                &format!("file://{}/{place}", world.path().display()),
            ),
        )
        .unwrap();
        for args in [["points", "-q"], ["backup", "-q"]] {
            let run = world.run(args).expect_code(1);
            said += &format!("{place}: {} {}", args[0], steady(&world, &run.stderr));
        }
    }
    insta::assert_snapshot!(said);
    assert_eq!(std::fs::read_dir(world.join("empty")).unwrap().count(), 0, "nothing is made by opening");
    assert!(!world.join("missing").exists());
}

#[test]
fn a_newer_format_is_told_before_anything_else() {
    let world = with_a_point();
    let repo = world.open(Who::Both);
    let root = world.identities().root.unwrap();
    let mut config = repo.trusted().config.clone();
    (config.version, config.number, config.parent) = (2, 1, Some(repo.trusted().hash));
    let (name, bytes) = sign_config(&config, &root);
    repo.store().put(&name, &[&bytes]).unwrap();
    let run = world.run(["points"]).expect_code(1);
    insta::assert_snapshot!(steady(&world, &run.stderr));
    world.run(["backup"]).expect_code(1).says("format version 2");
    world.with_kit(["restore", "latest", "--to", "out"]).expect_code(1).says("format version 2");
}

#[test]
fn a_config_that_was_rolled_back_is_refused() {
    let world = with_a_point();
    let repo = world.open(Who::Both);
    let root = world.identities().root.unwrap();
    let newer = repo.amend_config(&root, Time::from_unix_millis(1), None, |_, _| Ok(())).unwrap();
    world.run(["points"]).ok();
    std::fs::remove_file(world.repo().join(layout::config(1, &newer.hash).as_str())).unwrap();
    let run = world.run(["points"]).expect_code(1);
    insta::assert_snapshot!(steady(&world, &run.stderr));
    world.run(["backup"]).expect_code(1).says("rolled back");
    // A host that has forgotten is held by what its configuration pins.
    std::fs::remove_dir_all(world.join("cache")).unwrap();
    let config = std::fs::read_to_string(world.join("muster.toml")).unwrap();
    std::fs::write(world.join("muster.toml"), config.replace("lowest_config = 0", "lowest_config = 1"))
        .unwrap();
    world.run(["points"]).expect_code(1).says("rolled back");
}

#[test]
fn a_fork_of_the_config_is_refused() {
    let world = with_a_point();
    let repo = world.open(Who::Both);
    let root = world.identities().root.unwrap();
    repo.amend_config(&root, Time::from_unix_millis(1), None, |_, _| Ok(())).unwrap();
    // Two holders of the root key at once, or one of them not honest.
    let mut other = repo.trusted().config.clone();
    (other.number, other.parent, other.made) = (1, Some(repo.trusted().hash), Time::from_unix_millis(2));
    let (name, bytes) = sign_config(&other, &root);
    repo.store().put(&name, &[&bytes]).unwrap();
    world.run(["points"]).expect_code(1).says("forked");
}

#[test]
fn a_config_of_another_root_is_refused() {
    let world = with_a_point();
    let repo = world.open(Who::Both);
    let thief = HostKeys::generate(&OsEntropy).unwrap();
    let root = muster::repo::sign::SignKey::new(PartyId([0; 8]), &thief.sign.seed());
    let mut config = repo.trusted().config.clone();
    (config.number, config.parent, config.root) = (1, Some(repo.trusted().hash), root.public());
    config.recipients[0].recipient = Some(thief.identity.to_public().to_string());
    let (name, bytes) = sign_config(&config, &root);
    repo.store().put(&name, &[&bytes]).unwrap();
    world.run(["backup"]).expect_code(1).says("not by the one that is pinned here");
    assert_eq!(world.objects("points").len(), 1);
}

/// Puts an envelope where points stand.
fn put_point(world: &World, envelope: &Envelope, id: &Ulid) {
    let repo = world.open(Who::Writer);
    let sealed = repo.seal_envelope(envelope).unwrap();
    repo.store().put(&layout::point(id), &[&sealed]).unwrap();
}

#[test]
fn forged_points_are_named_and_not_used() {
    let world = with_a_point();
    let repo = world.open(Who::Both);
    let good = repo.points().unwrap().points.remove(0);
    let stranger = HostKeys::generate(&OsEntropy).unwrap().sign;
    let id = |n: u8| Ulid::new(Time::from_unix_millis(1_800_000_000_000), [n; 10]);
    let forged = |n: u8, signer: PartyId| muster::repo::format::Point {
        id: id(n),
        seq: 9,
        writer: signer,
        commit_before: Time::from_unix_millis(4_000_000_000_000),
        ..good.point.clone()
    };
    let own: PartyId = world.writer.parse().unwrap();
    let payload = |n, signer| cbor::encode(&forged(n, signer));
    // Not signed at all, but for a row of zeros.
    put_point(&world, &Envelope { payload: payload(1, own), signer: own, signature: [0; 64] }, &id(1));
    // Signed by a stranger, under his name and under the writer's.
    let name = layout::point(&id(2));
    let signed = Envelope::sign(&stranger, repo.id(), Kind::Point, Some(&name), payload(2, stranger.party()));
    put_point(&world, &signed, &id(2));
    let name = layout::point(&id(3));
    let signed = Envelope::sign(&stranger, repo.id(), Kind::Point, Some(&name), payload(3, own));
    put_point(&world, &Envelope { signer: own, ..signed }, &id(3));
    // A good point under another name, and one of another repository.
    let bytes = std::fs::read(&world.objects("points")[0]).unwrap();
    repo.store().put(&layout::point(&id(4)), &[&bytes]).unwrap();
    let name = layout::point(&id(5));
    let elsewhere = muster::model::RepositoryId([3; 16]);
    let signed =
        Envelope::sign(&world.host_keys().sign, &elsewhere, Kind::Point, Some(&name), payload(5, own));
    put_point(&world, &signed, &id(5));
    // Not sealed, and not even decodable.
    repo.store().put(&layout::point(&id(6)), &[b"hello"]).unwrap();

    let points = world.run(["points", "--json"]).expect_code(3).json();
    assert_eq!(points["points"].as_array().unwrap().len(), 1);
    assert_eq!(points["unusable"].as_array().unwrap().len(), 6, "{points}");
    let good = good.point.id.to_string();
    assert_eq!(world.run(["ls", "latest", "--json"]).ok().json()["point"], good);
    for n in 1..=6 {
        let name = id(n).to_string();
        assert!(points["unusable"].to_string().contains(&name), "{name} is not named");
        world.with_kit(["restore", &name, "--to", "out"]).expect_code(1).says(&name);
    }
    assert!(!world.join("out").exists());
    world.with_kit(["restore", "latest", "--to", "out"]).ok().says("warning");
    // A forged sequence number leads no backup astray; what cannot even be opened might be a point of ours.
    world.run(["backup"]).expect_code(3).says("cannot decrypt");
    assert_eq!(world.run(["points", "--json"]).expect_code(3).json()["points"].as_array().unwrap().len(), 2);
}

#[test]
fn points_of_a_revoked_writer_count_up_to_the_revocation() {
    let world = with_a_point();
    let first = world.open(Who::Both).points().unwrap().points.remove(0);
    let second = world.backup();
    let repo = world.open(Who::Both);
    let root = world.identities().root.unwrap();
    let writer: PartyId = world.writer.parse().unwrap();
    let trusted = TrustedUpTo { job: "app".to_owned(), seq: 1, hash: first.hash };
    let kept = repo.worth_keeping(&writer, &world.host_keys().sign.public()).unwrap();
    repo.amend_config(&root, Time::from_unix_millis(1), None, |config, _| {
        let at = config.writers.iter().position(|w| w.id == writer).unwrap();
        let key = config.writers.remove(at).signing_key;
        let at = Time::from_unix_millis(1);
        config.revocations.push(Revocation {
            party: writer,
            signing_key: key,
            trusted: vec![trusted],
            at,
            kept,
        });
        Ok(())
    })
    .unwrap();
    let run = world.run(["backup"]).expect_code(1);
    insta::assert_snapshot!(steady(&world, &run.stderr));
    world.with_kit(["restore", "latest", "--to", "out"]).ok().says(&first.point.id.to_string());
    world.with_kit(["restore", &second, "--to", "other"]).expect_code(1).says("revoked");
}

#[test]
fn a_recipient_slipped_in_opens_nothing() {
    let world = with_a_point();
    let thief = x25519::Identity::generate();
    let epochs: Vec<_> = world.open(Who::Both).epochs().keys().copied().collect();
    for epoch in &epochs {
        // What a thief of the bucket can write: a key file for himself that holds a key of his own.
        use age::secrecy::ExposeSecret;
        let his = x25519::Identity::generate().to_string();
        let sealed =
            seal::encrypt(&thief.to_public(), format!("{}\n", his.expose_secret()).as_bytes()).unwrap();
        let repo = world.open(Who::Writer);
        repo.store().put(&layout::key(epoch, &PartyId([0xaa; 8])), &[&sealed]).unwrap();
        // And one for the kit's holder, in the hope that it is taken.
        let kit = std::fs::read_to_string(world.join("kit.txt")).unwrap();
        let public = kit.lines().find_map(|l| l.strip_prefix("# public key: ")).unwrap();
        let recipient: x25519::Recipient = public.parse().unwrap();
        let sealed = seal::encrypt(&recipient, format!("{}\n", his.expose_secret()).as_bytes()).unwrap();
        repo.store().put(&layout::key(epoch, &PartyId([0; 8])), &[&sealed]).unwrap();
    }
    world.write("src/new", "new content");
    world.backup();
    world
        .with_kit(["restore", "latest", "--to", "out", "--verify"])
        .ok()
        .says("somebody may have replaced it");
    for file in world.objects("packs") {
        let bytes = std::fs::read(file).unwrap();
        assert!(seal::decrypt(&[&thief], &bytes).is_err());
    }
    let hash: Hash = world.open(Who::Writer).trusted().hash;
    assert_eq!(layout::parse_config(&layout::config(0, &hash)), Some((0, hash)));
}

#[test]
fn a_folder_that_may_not_be_read() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can become somebody else.
    }
    let world = with_a_point();
    let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_muster"), world.join("muster")).unwrap();
    std::fs::create_dir(world.join("cache-of-nobody")).unwrap();
    for (path, mode) in [
        ("", 0o755),
        ("muster", 0o755),
        ("muster.toml", 0o644),
        ("muster.key", 0o644),
        ("cache-of-nobody", 0o777),
        ("repo", 0o700),
    ] {
        open(&world.join(path), mode);
    }
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new(world.join("muster"));
        command.current_dir(world.path()).env_clear().args(["--cache-dir", "cache-of-nobody"]).args(args);
        command.uid(65534).gid(65534).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        finish(command)
    };
    let run = as_nobody(&["points", "-q"]).expect_code(1);
    insta::assert_snapshot!(steady(&world, &run.stderr));
    // Readable and not writable: reading goes on, a backup says what failed.
    let everything = Command::new("chmod").args(["-R", "a+rX"]).arg(world.repo()).status().unwrap();
    assert!(everything.success());
    as_nobody(&["points"]).ok();
    as_nobody(&["backup"]).expect_code(1).says("ermission denied");
    assert_eq!(world.objects("points").len(), 1);
    // One object alone.
    open(&world.objects("packs/meta")[0], 0o000);
    as_nobody(&["ls", "latest"]).expect_code(1).says("ermission denied");
}

/// A small file system in memory, unmounted when dropped.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "muster-test"])
            .arg(at)
            .output()
            .unwrap();
        let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
        assert!(mounted.status.success(), "this test needs to mount a tmpfs (run it as root): {why}");
        Self(at.to_owned())
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_sent_twice() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("disk");
    let disk = Tmpfs::mount(&at, "24M");
    let world = World::at(dir, &at.join("repo")).with_docs();
    world.write("src/first", "first");
    let backup = |world: &World| world.run(["backup", "--json", "--memory", "16MiB"]);
    backup(&world).ok();
    world.write("src/big", noise(1, 40 << 20));
    let failed = backup(&world).expect_code(1);
    assert_eq!(failed.json()["error"]["kind"], "io", "{}", failed.stdout);
    assert!(failed.stdout.contains("free some space"), "{}", failed.stdout);
    let stored = |world: &World| {
        let files = super::world::files_below(&at.join("repo"));
        let litter =
            |f: &&std::path::PathBuf| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        assert_eq!(files.iter().find(litter), None);
        let _ = world;
        files.len()
    };
    let kept = stored(&world);
    // Earlier points are as they were, even now.
    world.with_kit(["restore", "latest", "--to", "out", "--verify"]).ok();
    std::fs::remove_dir_all(world.join("out")).unwrap();

    disk.grow("200M");
    let done = backup(&world).ok().json();
    let new = done["totals"]["bytes_new"].as_u64().unwrap();
    assert!(new < 34 << 20, "{new} bytes were sent although much was there; {kept} objects");
    world.with_kit(["restore", "latest", "--to", "out", "--verify"]).ok();
    assert!(
        std::fs::read(world.restored("out", "docs", &world.join("src/big"))).unwrap() == noise(1, 40 << 20)
    );

    // A restore that fills its disk says so too, and leaves no half-written file.
    let small = Tmpfs::mount(&world.join("small"), "8M");
    let run = world.with_kit(["restore", "latest", "--to", "small/out"]);
    assert!(matches!(run.code, Some(1 | 3)), "{:?}", run.code);
    run.says("o space left");
    assert!(!world.restored("small/out", "docs", &world.join("src/big")).exists());
    drop(small);
    drop(disk);
}
