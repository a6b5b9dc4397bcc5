//! A repository that the binary made, restored with `age`, `zstd` and restore.py alone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::{assert_same, listing, muster_ok, noise, script, script_ok};

fn set_mtime(path: &Path, secs: u64, nanos: u32) {
    let time = UNIX_EPOCH + Duration::new(secs, nanos);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// Files of every sort that the script can restore.
fn fill(root: &Path) {
    fs::create_dir_all(root.join("d/e/empty folder")).unwrap();
    fs::write(root.join("small.txt"), "hello\n").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    // Over 16 chunks: a recipe that stands in a tree.
    fs::write(root.join("big.bin"), noise(1, 40 << 20)).unwrap();
    let sparse = fs::File::create(root.join("sparse.bin")).unwrap();
    sparse.write_all_at(b"head", 0).unwrap();
    sparse.write_all_at(&noise(2, 100_000), 5 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    fs::hard_link(root.join("small.txt"), root.join("d/second name")).unwrap();
    symlink("small.txt", root.join("link")).unwrap();
    symlink("/no/such/\u{e9}", root.join("d/dangling")).unwrap();
    for name in [&b"odd \xff\n name"[..], b"quotes \"'\\", b" blank ", b"...", "\u{fc}".as_bytes()] {
        fs::write(root.join("d").join(OsStr::from_bytes(name)), name).unwrap();
    }
    for i in 0..300 {
        fs::write(root.join(format!("d/e/{i:03}")), i.to_string().repeat(i)).unwrap();
    }
    let fifo = root.join("d/fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o622)).unwrap();
    for (name, mode) in
        [("small.txt", 0o640), ("empty", 0o4755), ("d/e/001", 0o400), ("d", 0o1777), ("d/e", 0o750)]
    {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    set_mtime(&root.join("small.txt"), 1_234_567_890, 123_456_789);
    set_mtime(&root.join("d"), 1, 1);
}

fn config(home: &Path, root: &Path) {
    let mut text = fs::read_to_string(home.join("muster.toml")).unwrap();
    text += &format!(
        "[[job]]\nname = \"app\"\n\
         [[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [{root:?}]\n\
         [[job.source]]\nname = \"dump\"\nkind = \"command\"\nbackup = [\"seq\", \"200000\"]\nrestore = [\"cat\"]\n"
    );
    fs::write(home.join("muster.toml"), text).unwrap();
}

#[test]
fn everything_comes_back_without_muster() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let root = home.join("in");
    fs::create_dir(&root).unwrap();
    fill(&root);
    let store = format!("file://{}/repo", home.display());
    muster_ok(&home, &["init", "--store", &store, "--kit", "kit.txt", "--yes"]);
    config(&home, &root);
    let before = listing(&root);
    muster_ok(&home, &["backup"]);
    fs::write(root.join("small.txt"), "changed, and longer\n").unwrap();
    fs::remove_file(root.join("d/...")).unwrap();
    fs::File::options()
        .write(true)
        .open(root.join("big.bin"))
        .unwrap()
        .write_all_at(b"new", 20 << 20)
        .unwrap();
    let after = listing(&root);
    assert_ne!(before, after);
    muster_ok(&home, &["backup"]);

    let (repo, kit) = (home.join("repo"), home.join("kit.txt"));
    let mut points: Vec<_> =
        fs::read_dir(repo.join("points")).unwrap().map(|e| e.unwrap().file_name()).collect();
    points.sort();
    let first = points[0].to_str().unwrap();
    let dump: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
    for (name, options, expected) in [
        ("newest", &[][..], &after),
        ("newest, from directories", &["--no-index"], &after),
        ("first", &["--point", first, "--job", "app"], &before),
    ] {
        let out = home.join(name);
        let said = script_ok(
            &[&[repo.to_str().unwrap(), kit.to_str().unwrap(), out.to_str().unwrap()], options].concat(),
        );
        assert!(said.contains("of job app"), "{said}");
        let docs = out.join("docs").join(root.strip_prefix("/").unwrap());
        assert_same(&listing(&docs), expected, name);
        assert!(fs::read_to_string(out.join("dump/dump")).unwrap() == dump, "{name}: the dump differs");
        let sparse = fs::metadata(docs.join("sparse.bin")).unwrap();
        assert!(sparse.blocks() * 512 < 8 << 20, "holes are filled: {} blocks", sparse.blocks());
        assert_eq!(
            fs::metadata(docs.join("small.txt")).unwrap().ino(),
            fs::metadata(docs.join("d/second name")).unwrap().ino()
        );
    }

    // A target that is not empty is left alone; so is one without the key.
    let again =
        script(&[repo.to_str().unwrap(), kit.to_str().unwrap(), home.join("first").to_str().unwrap()]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
    let writers = home.join("muster.key");
    let out = home.join("without the kit");
    let no_key = script(&[repo.to_str().unwrap(), writers.to_str().unwrap(), out.to_str().unwrap()]);
    assert!(!no_key.status.success(), "a writer's key opened data");
}
