//! It fails closed: what a backup host holds opens no content, and nothing leaves in the clear.

use muster::repo::format::{Directory, EpochKind};
use muster::repo::keys::parse_epoch_identity;
use muster::repo::pack::{PACK_MAGIC, parse_locator};
use muster::repo::sign::Envelope;
use muster::repo::{cbor, limits, seal};

use super::world::{Who, World, noise};

const CONTENT: &str = "canary-in-the-content-of-a-file";
const NAME: &str = "canary-in-the-name-of-a-file";
const XATTR: &str = "canary-in-an-attribute";

/// A repository with every kind of source, and content that compresses and that does not.
fn world() -> World {
    let world = World::new().with_docs();
    world.configure(
        "[[job.source]]\nname = \"dump\"\nkind = \"command\"\n\
         backup = [\"sh\", \"-c\", \"cat src/big; echo canary-on-stderr >&2\"]",
    );
    let named = world.write(&format!("src/{NAME}"), format!("{CONTENT}\n").repeat(1000));
    rustix::fs::setxattr(&named, "user.note", XATTR.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
    world.write("src/big", noise(5, 4 << 20));
    std::os::unix::fs::symlink("canary-in-a-link", world.join("src/link")).unwrap();
    world.backup();
    world.write("src/more", format!("{CONTENT} again"));
    world.backup();
    world
}

#[test]
fn the_writers_keys_open_no_data_blob() {
    let world = world();
    let (writer, both) = (world.open(Who::Writer), world.open(Who::Both));
    assert!(!writer.can_open_data() && both.can_open_data());
    // All that the host reaches: its own identity, and everything that this opens in keys/.
    let host = world.host_keys();
    let mut reachable: Vec<age::x25519::Identity> = vec![host.identity.clone()];
    let mut at = 0;
    while at < reachable.len() {
        for file in world.objects("keys") {
            let opened = seal::decrypt(&[&reachable[at]], &std::fs::read(file).unwrap());
            if let Some(identity) = opened.ok().and_then(|plain| parse_epoch_identity(&plain)) {
                let is_new =
                    |i: &age::x25519::Identity| i.to_public().to_string() != identity.to_public().to_string();
                if reachable.iter().all(is_new) {
                    reachable.push(identity);
                }
            }
        }
        at += 1;
    }
    assert_eq!(reachable.len(), 2, "its own identity and one metadata epoch");
    let meta =
        writer.epochs().values().find(|e| e.kind == EpochKind::Meta).unwrap().identity.clone().unwrap();
    let data = both.epochs().values().find(|e| e.kind == EpochKind::Data).unwrap().identity.clone().unwrap();

    let packs = world.objects("packs/data");
    let mut blobs = 0;
    for path in packs {
        let pack = std::fs::read(&path).unwrap();
        let tail_at = pack.len() - limits::LOCATOR_BYTES;
        let len = parse_locator(&pack[tail_at..], PACK_MAGIC).unwrap() as usize;
        let plain = both
            .with_zstd(|zstd| {
                seal::open(zstd, &meta, &pack[tail_at - len..tail_at], limits::DIRECTORY_MAX_BYTES)
            })
            .unwrap();
        let envelope: Envelope = cbor::decode(&plain, "envelope").unwrap();
        let directory: Directory = cbor::decode(&envelope.payload, "directory").unwrap();
        let mut offset = 0;
        for signed in &directory.blobs {
            let record: muster::repo::format::BlobRecord = cbor::decode(&signed.payload, "record").unwrap();
            let sealed = &pack[offset..offset + record.sealed_len as usize];
            offset += record.sealed_len as usize;
            for identity in &reachable {
                assert!(seal::decrypt(&[identity], sealed).is_err(), "{}: opened", path.display());
            }
            assert!(seal::decrypt(&[&data], sealed).is_ok(), "the kit's epoch must open it");
            blobs += 1;
        }
        assert_eq!(offset, tail_at - len, "all bytes of the pack are blobs");
    }
    assert!(blobs >= 4, "{blobs}");
}

#[test]
fn with_the_writers_keys_alone_nothing_is_restored() {
    let world = world();
    let entry = format!("docs:{}", world.join("src/more").display());
    for args in [
        vec!["restore", "latest", "--to", "out"],
        vec!["restore", "latest", "--to", "out", "--dry-run"],
        vec!["restore", "latest", "--in-place", "--replace", "--yes"],
        vec!["restore", "latest", "--source", "dump", "--run"],
        vec!["cat", "latest", &entry],
        vec!["cat", "latest", "dump:dump"],
    ] {
        let run = world.run(&args).expect_code(1).says("--identity file:KIT").says_not(CONTENT);
        assert!(run.stdout.is_empty(), "{args:?}: {}", run.stdout);
    }
    world
        .run(["restore", "latest", "--to", "out", "--identity", "file:muster.key"])
        .expect_code(1)
        .says("opens nothing of it");
    assert!(!world.join("out").exists());
}

#[test]
fn nothing_in_the_store_is_in_the_clear() {
    let world = world();
    let clear = [CONTENT, NAME, XATTR, "canary-on-stderr", "canary-in-a-link", "docs", "dump"];
    let noise = noise(5, 4 << 20);
    for file in world.objects("") {
        let bytes = std::fs::read(&file).unwrap();
        let has = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
        for word in clear {
            // Four bytes come up by chance in megabytes of noise.
            if word.len() > 8 {
                assert!(!has(word.as_bytes()), "{word} stands in {}", file.display());
                assert!(!file.to_string_lossy().contains(word));
            } else if bytes.len() < 4096 {
                assert!(!has(word.as_bytes()), "{word} stands in {}", file.display());
            }
        }
        for at in (0..noise.len() - 32).step_by(256 << 10) {
            assert!(!has(&noise[at..at + 32]), "content stands in {}", file.display());
        }
    }
    // Nor does this host keep content or names where it caches the index.
    for file in super::world::files_below(&world.join("cache")) {
        let bytes = std::fs::read(&file).unwrap();
        for word in [CONTENT, NAME, XATTR] {
            assert!(
                !bytes.windows(word.len()).any(|w| w == word.as_bytes()),
                "{word} stands in {}",
                file.display()
            );
        }
    }
}
