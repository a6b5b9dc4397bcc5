//! Bits that flip, packs that are cut short, objects that go: named, and never wrong bytes.

use std::path::{Path, PathBuf};

use super::tree::{assert_same, tree};
use super::world::{Run, World, copy_folder, noise};

fn world() -> World {
    let world = World::new().with_docs();
    world.write("src/a", noise(1, 300 << 10));
    world.write("src/b", "small");
    world.write("src/c", noise(3, 700 << 10));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world.backup();
    world.write("src/d", noise(4, 40_000));
    world.backup();
    world
}

/// The repository and this host's cache as they were.
fn reset(world: &World) {
    for folder in ["repo", "cache"] {
        let _ = std::fs::remove_dir_all(world.join(folder));
        copy_folder(&world.join(&format!("good-{folder}")), &world.join(folder));
    }
    let _ = std::fs::remove_dir_all(world.join("out"));
}

fn keep_good(world: &World) {
    for folder in ["repo", "cache"] {
        copy_folder(&world.join(folder), &world.join(&format!("good-{folder}")));
    }
}

/// Nothing that was restored may differ from what was there.
fn assert_nothing_wrong(world: &World, what: &str) {
    let src = world.join("src");
    let out = world.restored("out", "docs", &src);
    let good = tree(&src);
    if !out.exists() {
        return;
    }
    for (path, thing) in tree(&out) {
        if let (Some(content), Some(original)) = (thing.content, good.get(&path)) {
            assert_eq!(Some(content), original.content, "{what}: {} has wrong bytes", path.display());
        } else {
            assert!(good.contains_key(&path), "{what}: {} was made up", path.display());
        }
    }
}

fn is_whole(world: &World) -> bool {
    let src = world.join("src");
    let out = world.restored("out", "docs", &src);
    out.exists()
        && tree(&src)
            .iter()
            .all(|(path, thing)| tree(&out).get(path).is_some_and(|t| t.content == thing.content))
}

fn flip(path: &Path, bit: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    set(path, &bytes);
}

/// Writes bytes and leaves the time, which is the store's time of the object.
fn set(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(meta.modified().unwrap()).unwrap();
    std::fs::set_permissions(path, meta.permissions()).unwrap();
}

fn name_of(world: &World, path: &Path) -> String {
    path.strip_prefix(world.repo()).unwrap().display().to_string()
}

#[test]
fn a_bit_that_flipped_in_any_object_is_named_and_gives_no_wrong_byte() {
    let world = world();
    keep_good(&world);
    let objects: Vec<PathBuf> = world.objects("");
    let kinds: std::collections::BTreeSet<_> =
        objects.iter().map(|path| name_of(&world, path).split('/').next().unwrap().to_owned()).collect();
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        ["config", "index", "keys", "packs", "points", "sessions"]
    );
    for path in objects {
        let name = name_of(&world, &path);
        let len = std::fs::metadata(&path).unwrap().len() as usize;
        for at in [3, len / 2, len - 1] {
            for with_cache in [true, false] {
                reset(&world);
                if !with_cache {
                    std::fs::remove_dir_all(world.join("cache")).unwrap();
                }
                flip(&path, at * 8 + 2);
                let what = format!("byte {at} of {name}, cache: {with_cache}");
                let run = world.with_kit(["restore", "latest", "--to", "out"]);
                assert_nothing_wrong(&world, &what);
                let leaf = path.file_name().unwrap().to_str().unwrap();
                let names_it =
                    run.all().contains(leaf) || run.all().contains(leaf.split('.').next().unwrap());
                match run.code {
                    // Sessions and the writer's key are of no use to a restore; an index object that the
                    // cache has is not read.
                    Some(0) => {
                        let is_complete = is_whole(&world) || run.all().contains("warning") || names_it;
                        assert!(is_complete, "{what}: {}", run.all());
                    }
                    Some(1 | 3) => assert!(
                        names_it || run.all().contains("muster repair index"),
                        "{what}: {}",
                        run.all()
                    ),
                    other => panic!("{what}: {other:?}\n{}", run.all()),
                }
                // Damage in the past does not keep the present from being saved, where keys and config are whole.
                let backup = world.run(["backup"]);
                assert!(
                    matches!(backup.code, Some(0 | 1 | 3)),
                    "{what}: {:?}\n{}",
                    backup.code,
                    backup.all()
                );
                if !["config", "keys"].iter().any(|kind| name.starts_with(kind)) {
                    // A point that cannot be read is no reason to save nothing, and one to look.
                    assert_eq!(
                        backup.code,
                        Some(if name.starts_with("points") { 3 } else { 0 }),
                        "{}",
                        backup.all()
                    );
                }
            }
        }
    }
}

/// The data pack that is longest, and its name.
fn data_pack(world: &World) -> (PathBuf, String) {
    let path =
        world.objects("packs/data").into_iter().max_by_key(|p| std::fs::metadata(p).unwrap().len()).unwrap();
    let name = name_of(world, &path);
    (path, name)
}

#[test]
fn a_pack_that_was_cut_short_hurts_only_what_it_lost() {
    let world = world();
    let (path, name) = data_pack(&world);
    let bytes = std::fs::read(&path).unwrap();
    set(&path, &bytes[..400 << 10]);
    let run = world.with_kit(["restore", "latest", "--to", "out"]).expect_code(3).says(&name).says("src/c");
    assert_nothing_wrong(&world, "a truncated pack");
    let out = world.restored("out", "docs", &world.join("src"));
    assert_eq!(std::fs::read(out.join("d")).unwrap(), noise(4, 40_000), "{}", run.all());
    assert!(!out.join("c").exists(), "a file that could not be restored must not look restored");
    let entry = world.entry("src/c");
    let cat = world.with_kit(["cat", "latest", &entry]).expect_code(1).says(&name);
    assert!(noise(3, 700 << 10).starts_with(cat.stdout.as_bytes()) || cat.stdout.len() < 700 << 10);
}

/// A few bytes that say where the source's roots are must not be what a whole restore hangs on.
#[test]
fn lost_facts_do_not_keep_files_from_coming_back() {
    use muster::model::{Content, Extent};
    let world = world();
    let repo = world.open(super::world::Who::Both);
    let (index, _) = muster::repo::index::Index::sync(&repo).unwrap();
    let point = repo.points().unwrap().points.pop().unwrap().point;
    let Some(Content::Inline(extents)) = &point.sources[0].facts else { panic!("no facts") };
    let Extent::Chunk { id, .. } = &extents[0] else { panic!("a hole") };
    let at = index.find(id, &|_, _| true).unwrap().unwrap();
    let pack = world.repo().join(muster::repo::layout::pack(at.kind, &at.pack).as_str());
    flip(&pack, (at.offset + at.sealed_len - 3) as usize * 8);

    for (out, more) in [("out", vec![]), ("verified", vec!["--verify"])] {
        let run = world.with_kit(["restore", "latest", "--to", out].into_iter().chain(more)).expect_code(3);
        run.says("the source's facts").says(&at.pack.to_string());
        assert_same(&world.join("src"), &world.restored(out, "docs", &world.join("src")));
    }
    // Where it matters what belongs to the source, nothing is done.
    let before = tree(&world.join("src"));
    let run = world.with_kit(["restore", "latest", "--in-place", "--replace=mirror", "--yes"]);
    assert_eq!(run.code, Some(1), "{}", run.all());
    assert_eq!(tree(&world.join("src")), before);
}

#[test]
fn a_pack_that_is_gone_is_named_and_stored_anew() {
    let world = world();
    let (path, name) = data_pack(&world);
    std::fs::remove_file(path).unwrap();
    world.with_kit(["restore", "latest", "--to", "out"]).expect_code(3).says(&name);
    let _ = std::fs::remove_dir_all(world.join("out"));
    // A backup does not refer to what is gone: it reads and stores it again.
    world.backup();
    world.with_kit(["restore", "latest", "--to", "out", "--verify"]).ok();
    assert_same(&world.join("src"), &world.restored("out", "docs", &world.join("src")));
}

#[test]
fn a_lost_index_is_told_and_does_not_stop_a_backup() {
    let world = world();
    for file in world.objects("index") {
        std::fs::remove_file(file).unwrap();
    }
    let said = |run: Run| assert!(run.all().contains("muster repair index"), "{}", run.all());
    said(world.with_kit(["restore", "latest", "--to", "out"]));
    assert_nothing_wrong(&world, "no index");
    said(world.run(["ls", "latest", "-R"]).expect_code(1));
    let _ = std::fs::remove_dir_all(world.join("out"));
    world.backup();
    world.with_kit(["restore", "latest", "--to", "out", "--verify"]).ok();
    assert_same(&world.join("src"), &world.restored("out", "docs", &world.join("src")));
}

#[test]
fn a_broken_cache_is_made_anew() {
    let world = world();
    for file in super::world::files_below(&world.join("cache")) {
        // One that was damaged before may have taken others with it.
        let Ok(bytes) = std::fs::read(&file) else { continue };
        for damaged in [&bytes[..bytes.len() / 2], &[], b"junk that is no cache at all, whatever it says"] {
            std::fs::write(&file, damaged).unwrap();
            world.with_kit(["restore", "latest", "--to", "out"]).ok();
            assert!(is_whole(&world), "{}", file.display());
            std::fs::remove_dir_all(world.join("out")).unwrap();
        }
    }
}
