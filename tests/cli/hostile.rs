//! Points that no honest Muster writes, signed with a writer's real keys, as one who stole a
//! backup host could make them. Every command refuses them by name, soon, within its memory, and
//! writes nothing outside the target.

use std::process::Command;
use std::time::Duration;

use muster::model::{ChunkId, Content, Entry, EntryKind, Extent, TreeRef};
use muster::repo::layout::PackKind;
use muster::repo::tree::Branch;

use super::forge::{Forge, entry, path, raw_path};
use super::world::{Run, World, finish};

const SOON: Duration = Duration::from_secs(30);
/// Address space that a command may take, in KiB.
const ADDRESS_SPACE_KIB: u64 = 3 << 20;

fn world() -> World {
    let world = World::new().with_docs();
    world.write("src/good", "good content");
    world.write("victim", "untouched");
    world.backup();
    world
}

/// Runs with the kit, within bounds.
fn bounded(world: &World, args: &[&str]) -> Run {
    let mut command = Command::new("sh");
    let inner = world.command(args.iter().copied().chain(["--identity", &world.kit(), "--memory", "64MiB"]));
    command.arg("-c").arg(format!("ulimit -v {ADDRESS_SPACE_KIB}; exec \"$0\" \"$@\""));
    command.arg(inner.get_program()).args(inner.get_args()).env_clear().current_dir(world.path());
    inner.get_envs().for_each(|(name, value)| {
        command.env(name, value.unwrap());
    });
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let run = finish(command);
    assert!(run.took < SOON, "{args:?} took {:?}", run.took);
    assert!(matches!(run.code, Some(0..=4)), "{args:?}: {:?}\n{}", run.code, run.all());
    run
}

/// Every command on a hostile point; answers with what the restore did.
fn everything(world: &World, point: &str) -> Run {
    for args in [
        vec!["points"],
        vec!["ls", point, "-R"],
        vec!["ls", point, "-R", "-l", "--json"],
        vec!["find", "*victim*", "--point", point],
        vec!["diff", point, "latest"],
    ] {
        bounded(world, &args);
    }
    let out = world.join("out");
    let before = listing(world);
    let run = bounded(world, &["restore", point, "--to", "out"]);
    if out.exists() {
        std::fs::remove_dir_all(&out).unwrap();
    }
    bounded(world, &["restore", point, "--to", "out", "--replace=mirror", "--yes", "--verify"]);
    bounded(world, &["backup"]);
    if out.exists() {
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert_eq!(std::fs::read_to_string(world.join("victim")).unwrap(), "untouched");
    assert_eq!(listing(world), before, "something was written outside the target");
    run
}

/// What stands beside the target.
fn listing(world: &World) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(world.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "out")
        .collect();
    names.sort();
    names
}

fn file(at: muster::model::EntryPath, size: u64, extents: Vec<Extent>) -> Entry {
    Entry { size, content: Some(Content::Inline(extents)), ..entry(at, EntryKind::File) }
}

fn tmp(world: &World) -> String {
    world.path().display().to_string().trim_start_matches('/').to_owned()
}

#[test]
fn paths_that_lead_outside() {
    let world = world();
    let mut forge = Forge::new(&world);
    let data = forge.chunk(PackKind::Data, b"evil");
    let evil = |at| file(at, 4, vec![Extent::Chunk { id: data, start: 0, len: 4 }]);
    let outside = world.join("victim").display().to_string();
    let hostile: Vec<(&str, Vec<Entry>)> = vec![
        ("dots", vec![evil(raw_path(b"..\0..\0victim"))]),
        ("dots in the middle", vec![evil(raw_path(b"tmp\0..\0..\0..\0victim"))]),
        ("a slash in a part", vec![evil(raw_path(b"../../victim"))]),
        ("absolute", vec![evil(raw_path(outside.as_bytes()))]),
        ("empty", vec![evil(raw_path(b""))]),
        ("a zero at the end", vec![evil(raw_path(b"a\0"))]),
        (
            "through a link",
            vec![
                entry(path("a"), EntryKind::Symlink(world.path().as_os_str().as_encoded_bytes().to_vec())),
                evil(path("a/victim")),
            ],
        ),
        (
            "a hard link to what is outside",
            vec![
                entry(path("a"), EntryKind::Symlink(world.path().as_os_str().as_encoded_bytes().to_vec())),
                entry(path("h"), EntryKind::HardLink(path("a/victim"))),
            ],
        ),
        ("a hard link with dots", vec![entry(path("h"), EntryKind::HardLink(raw_path(b"..\0..\0victim")))]),
        ("a very long path", vec![evil(raw_path(&[b'a'; 9000]))]),
    ];
    for (what, entries) in hostile {
        let catalogue = forge.catalogue(entries);
        let point = forge.point(catalogue);
        let run = everything(&world, &point);
        assert!(matches!(run.code, Some(1 | 3)), "{what}: {:?}\n{}", run.code, run.all());
    }
}

#[test]
fn trees_that_are_none() {
    let world = world();
    let mut forge = Forge::new(&world);
    let honest = forge.honest_entries();
    let good = honest.last().unwrap().clone();
    let one = forge.page(0, vec![good.clone()]);
    let branch =
        |child: ChunkId, records, bytes| Branch { child, records, bytes, first: Some(good.path.clone()) };
    let (two, twice) = (
        forge.page(1, vec![branch(one, 1, good.size), branch(one, 1, good.size)]),
        forge.catalogue(vec![good.clone(), good.clone()]),
    );
    let mut descending = vec![entry(path("z"), EntryKind::Directory), entry(path("a"), EntryKind::Directory)];
    let down = forge.catalogue(std::mem::take(&mut descending));
    let tree = |root, level, records, bytes| TreeRef { root, level, records, bytes };
    // Each level doubles the one below: 2^16 times the same entry from 17 small pages.
    let mut bomb = tree(one, 0, 1, good.size);
    for level in 1..=16u8 {
        let child = branch(bomb.root, bomb.records, bomb.bytes);
        bomb = tree(forge.page(level, vec![child.clone(), child]), level, bomb.records * 2, bomb.bytes * 2);
    }
    let unknown = ChunkId([9; 32]);
    let data = forge.chunk(PackKind::Data, b"\x82\x00\x80");
    let junk = forge.chunk(PackKind::Meta, b"this is no page");
    let hostile = [
        ("the same page twice", tree(two, 1, 2, good.size * 2)),
        ("the same entry twice", twice),
        ("descending paths", down),
        ("a level that lies", tree(one, 3, 1, good.size)),
        ("a level beyond all", tree(one, 200, 1, good.size)),
        ("sums that lie", tree(one, 0, 1_000_000, u64::MAX)),
        ("doubling pages", bomb),
        ("an unknown page", tree(unknown, 0, 1, 1)),
        ("a page of data", tree(data, 0, 0, 0)),
        ("a page that is none", tree(junk, 0, 1, 1)),
    ];
    for (what, catalogue) in hostile {
        let point = forge.point(catalogue);
        let run = everything(&world, &point);
        assert!(matches!(run.code, Some(1 | 3)), "{what}: {:?}\n{}", run.code, run.all());
        assert!(!run.stdout.contains("restored 1 of 1"), "{what}: {}", run.stdout);
    }
}

#[test]
fn sizes_that_are_absurd() {
    let world = world();
    let mut forge = Forge::new(&world);
    let data = forge.chunk(PackKind::Data, b"four");
    let chunk = |start, len| Extent::Chunk { id: data, start, len };
    let hole = |len| Extent::Hole { len };
    let at = || path(&format!("{}/src/f", tmp(&world)));
    let recipe = |forge: &mut Forge<'_>, extents: Vec<Extent>, records, bytes, size| {
        let root = forge.page(0, extents);
        let content = Content::Tree(TreeRef { root, level: 0, records, bytes });
        Entry { size, content: Some(content), ..entry(at(), EntryKind::File) }
    };
    let sums = recipe(&mut forge, vec![hole(u64::MAX), chunk(0, 4), hole(u64::MAX)], 3, u64::MAX, u64::MAX);
    let lies = recipe(&mut forge, vec![chunk(0, 4)], 1, 1 << 50, 1 << 50);
    let hostile = vec![
        ("an extent beyond its chunk", file(at(), 100, vec![chunk(0, 100)])),
        ("an extent far beyond its chunk", file(at(), u64::from(u32::MAX), vec![chunk(0, u32::MAX)])),
        ("a start beyond its chunk", file(at(), 4, vec![chunk(u32::MAX, 4)])),
        ("a size without content", Entry { size: 1 << 60, ..entry(at(), EntryKind::File) }),
        ("a size that is not the content's", file(at(), 1 << 50, vec![chunk(0, 4)])),
        ("holes that overflow", file(at(), 3, vec![hole(u64::MAX), chunk(0, 4), hole(u64::MAX)])),
        ("holes in a tree that overflow", sums),
        ("a tree of another size", lies),
        ("a hole of an exbibyte", file(at(), 1 << 60, vec![hole(1 << 60)])),
        ("a hole of all", file(at(), u64::MAX, vec![hole(u64::MAX)])),
        (
            "content of a directory",
            Entry {
                content: Some(Content::Inline(vec![chunk(0, 4)])),
                size: 4,
                ..entry(at(), EntryKind::Directory)
            },
        ),
    ];
    for (what, bad) in hostile {
        let is_folder = bad.kind == EntryKind::Directory;
        let catalogue = forge.catalogue(vec![bad]);
        let point = forge.point(catalogue);
        let run = everything(&world, &point);
        assert!(is_folder || matches!(run.code, Some(1 | 3)), "{what}: {:?}\n{}", run.code, run.all());
    }
}

#[test]
fn blobs_and_indexes_that_harm() {
    let world = world();
    let mut forge = Forge::new(&world);
    let at = |n: u32| path(&format!("{}/src/f{n}", tmp(&world)));
    let id = |forge: &Forge<'_>, bytes: &[u8]| forge.repo.derived().chunk_id(PackKind::Data, bytes);
    let mut hostile = Vec::new();

    // Says 1 KiB, opens to half a gibibyte.
    let bomb = zstd::bulk::compress(&vec![0; 512 << 20], 3).unwrap();
    let sealed = forge.seal_frame(PackKind::Data, &bomb);
    let name = id(&forge, b"bomb");
    hostile.push(("a zstd bomb", forge.sealed(PackKind::Data, name, 1024, sealed, |_| {})));

    let frame = zstd::bulk::compress(b"many", 3).unwrap();
    let sealed = forge.seal_to_many(PackKind::Data, &frame, 1000);
    let name = id(&forge, b"many");
    hostile.push(("a thousand stanzas", forge.sealed(PackKind::Data, name, 4, sealed, |_| {})));

    let name = id(&forge, b"not this");
    let sealed = forge.seal_frame(PackKind::Data, &frame);
    hostile.push(("another chunk's bytes", forge.sealed(PackKind::Data, name, 4, sealed, |_| {})));

    for (what, name, lie) in [
        (
            "a row beyond its pack",
            b"a".as_slice(),
            (|row| row.at.offset = u32::MAX - 1) as fn(&mut muster::repo::index::Row),
        ),
        ("a blob longer than its pack", b"b", |row| row.at.sealed_len = 1 << 31),
        ("a chunk outside its blob", b"c", |row| row.at.start = 1 << 31),
        ("a blob that opens to four gibibytes", b"d", |row| row.at.opened_len = u32::MAX),
        ("a length of nothing", b"e", |row| row.at.len = 0),
    ] {
        let name = id(&forge, name);
        let sealed = forge.seal_frame(PackKind::Data, &frame);
        hostile.push((what, forge.sealed(PackKind::Data, name, 4, sealed, lie)));
    }
    let entries: Vec<Entry> = hostile
        .iter()
        .enumerate()
        .map(|(n, (_, id))| file(at(n as u32), 4, vec![Extent::Chunk { id: *id, start: 0, len: 4 }]))
        .collect();
    let catalogue = forge.catalogue(entries);
    let point = forge.point(catalogue);
    let run = everything(&world, &point).expect_code(1);
    for (n, (what, _)) in hostile.iter().enumerate() {
        assert!(run.stdout.contains(&format!("src/f{n}:")), "{what} is not named in\n{}", run.stdout);
    }
    // The honest point is as good as before.
    let honest =
        world.run(["points", "--json"]).ok().json()["points"][0]["point"].as_str().unwrap().to_owned();
    bounded(&world, &["restore", &honest, "--to", "out", "--verify"]).ok();
}
