//! The committed repository opens, lists and restores with this build and with restore.py.
//! `MUSTER_WRITE_REPOSITORY=1` makes it anew; see tests/format/README.md.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster::model::{Secret, Time};
use muster::ports::Store;
use muster::repo::format::Tombstone;
use muster::repo::keys::{HostKeys, Identities};
use muster::repo::layout;
use muster::repo::repository::{OpenWith, Repository};
use muster::repo::sign::Kind;
use muster::repo::trust::Pin;
use muster::stores::local::Local;

use crate::support::{
    assert_same, copy_folder, folder, listing, muster, muster_ok, noise, script_ok, sha256, writes,
};

/// Where the committed repository's files stood when they were backed up.
const ROOT: &str = "/tmp/muster-repository-v1";

/// SHA-256 over the lines `NAME SHA256` of all its files, sorted.
const FROZEN: &str = "ba83677da3e823a8dd9a0fe0076da9acbb1b54c06f4838ac64d1daf2875f3c80";

fn committed() -> PathBuf {
    folder().join("repository-v1")
}

/// A copy of the repository, as after a clone or a plain copy: with times of today, and a
/// configuration that pins the root.
pub fn copy() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().canonicalize().unwrap();
    copy_folder(&committed().join("repository"), &path.join("repo"));
    for name in ["kit.txt", "writer.key"] {
        fs::copy(committed().join(name), path.join(name)).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let root = fs::read_to_string(committed().join("root.txt")).unwrap();
    let text = format!(
        "version = 1\n[repository]\nstore = \"file://{}/repo\"\nroot = \"{}\"\nlowest_config = 0\nkeys = \"file:writer.key\"\n",
        path.display(),
        root.trim()
    );
    fs::write(path.join("muster.toml"), text).unwrap();
    (home, path)
}

fn set_times(folder: &Path, time: SystemTime) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            set_times(&path, time)
        } else {
            fs::File::open(&path).unwrap().set_modified(time).unwrap()
        }
    }
}

/// A day at which every point of the committed repository is late.
fn late() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(4_102_444_800)
}

/// `expected.txt`: for each point its name and what it restores to.
fn expected() -> Vec<(String, String)> {
    let text = fs::read_to_string(committed().join("expected.txt")).unwrap();
    let parts = text.split("point ").skip(1).map(|part| part.split_once('\n').unwrap());
    parts.map(|(point, listing)| (point.to_owned(), listing.to_owned())).collect()
}

const KIT: &[&str] = &["--identity", "file:kit.txt"];

#[test]
fn a_repository_of_version_1_opens_and_restores() {
    if writes("REPOSITORY") {
        make();
    }
    let (_guard, home) = copy();
    let expected = expected();
    assert!(expected.len() >= 2);
    let list = muster_ok(&home, &["points"]);
    for (point, wanted) in &expected {
        assert!(list.contains(point.as_str()), "{list}");
        muster_ok(&home, &[&["restore", point, "--to", &format!("out-{point}"), "--yes"], KIT].concat());
        assert_same(&restored(&home.join(format!("out-{point}"))), wanted, point);
        for options in [&[][..], &["--no-index"]] {
            let out = home.join(format!("script-{point}-{}", options.len()));
            let (repo, kit) = (home.join("repo"), home.join("kit.txt"));
            let fixed =
                [repo.to_str().unwrap(), kit.to_str().unwrap(), out.to_str().unwrap(), "--point", point];
            script_ok(&[&fixed, options].concat());
            assert_same(&restored(&out), wanted, &format!("{point} {options:?}"));
        }
    }
    muster_ok(&home, &[&["check", "--read-data"], KIT].concat());
    // The writer alone sees names, and no content.
    let ls = muster_ok(&home, &["ls", "latest:app", "--recursive"]);
    assert!(ls.contains("names/"), "{ls}");
    assert!(!muster(&home, &["restore", "latest", "--to", "nothing"]).status.success());
}

/// What a restore made: the source's own entries, and of the program's output, which has no attributes,
/// only the content.
fn restored(out: &Path) -> String {
    let root = out.join("docs").join(ROOT.trim_start_matches('/'));
    format!("{}dump {}\n", listing(&root), sha256(&fs::read(out.join("dump/dump")).unwrap()))
}

#[test]
fn in_a_copy_whose_times_are_late_nothing_is_void() {
    let (_guard, home) = copy();
    set_times(&home.join("repo"), late());
    let said = muster_ok(&home, &["points"]);
    assert!(said.contains("warning: this store is a plain copy of another"), "{said}");
    assert!(!said.contains("void"), "{said}");
    let expected = expected();
    assert!(expected.iter().all(|(point, _)| said.contains(point.as_str())), "{said}");
    let said = muster_ok(&home, &[&["restore", "latest", "--to", "out"], KIT].concat());
    assert!(said.contains("warning: this store is a plain copy of another"), "{said}");
    let newest = &expected.last().unwrap().1;
    assert_same(&restored(&home.join("out")), newest, "restored");
    let (repo, kit, out) = (home.join("repo"), home.join("kit.txt"), home.join("script"));
    script_ok(&[repo.to_str().unwrap(), kit.to_str().unwrap(), out.to_str().unwrap()]);
    assert_same(&restored(&out), newest, "the script");
}

#[test]
fn late_points_beside_an_old_configuration_are_void() {
    let (_guard, home) = copy();
    set_times(&home.join("repo"), UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    set_times(&home.join("repo/points"), late());
    let said = String::from_utf8(muster(&home, &["points"]).stdout).unwrap();
    assert!(said.contains("void") && !said.contains("plain copy"), "{said}");
    assert!(!muster(&home, &[&["restore", "latest", "--to", "out"], KIT].concat()).status.success());
    let (repo, kit, out) = (home.join("repo"), home.join("kit.txt"), home.join("script"));
    let refused =
        crate::support::script(&[repo.to_str().unwrap(), kit.to_str().unwrap(), out.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no such point"));
}

#[test]
fn points_that_were_copied_with_their_sessions_are_not_void() {
    let (_guard, home) = copy();
    set_times(&home.join("repo"), UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    set_times(&home.join("repo/points"), late());
    set_times(&home.join("repo/sessions"), late());
    let said = muster_ok(&home, &["points"]);
    assert!(
        said.contains("warning: this store is a plain copy of another") && !said.contains("void"),
        "{said}"
    );
    let (repo, kit, out) = (home.join("repo"), home.join("kit.txt"), home.join("script"));
    script_ok(&[repo.to_str().unwrap(), kit.to_str().unwrap(), out.to_str().unwrap()]);
    assert_same(&restored(&out), &expected().last().unwrap().1, "the script");
}

#[test]
fn a_removed_point_is_not_offered() {
    let (_guard, home) = copy();
    let removed = fs::read_dir(home.join("repo/tombstones")).unwrap().next().unwrap().unwrap().file_name();
    let removed = removed.to_str().unwrap();
    assert!(home.join("repo/points").join(removed).is_file(), "the point is still there");
    assert!(expected().iter().all(|(point, _)| point != removed));
    let said = muster_ok(&home, &["points"]);
    assert!(!said.contains(removed) && !said.contains("unusable"), "{said}");
    let refused = muster(&home, &[&["restore", removed, "--to", "out"], KIT].concat());
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("removed by the rule"), "{refused:?}");
}

#[test]
fn another_root_is_not_trusted() {
    let (_guard, home) = copy();
    let path = home.join("muster.toml");
    let root = fs::read_to_string(committed().join("root.txt")).unwrap();
    let other = sha256(b"another");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace(root.trim(), &other)).unwrap();
    let refused = muster(&home, &["points"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("pinned"), "{refused:?}");
}

/// Version 1 is frozen, and with it this repository: it opens for ever, so it never changes.
#[test]
fn it_is_the_one_that_was_frozen() {
    fn lines(root: &Path, folder: &Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                lines(root, &path, all);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                all.push(format!("{name} {}\n", sha256(&fs::read(&path).unwrap())));
            }
        }
    }
    let mut all = Vec::new();
    lines(&committed(), &committed(), &mut all);
    all.sort();
    assert_eq!(sha256(all.concat().as_bytes()), FROZEN);
}

#[test]
fn it_is_small() {
    fn size(folder: &Path) -> u64 {
        let size_of =
            |path: PathBuf| if path.is_dir() { size(&path) } else { fs::metadata(path).unwrap().len() };
        fs::read_dir(folder).unwrap().map(|entry| size_of(entry.unwrap().path())).sum()
    }
    assert!(size(&committed()) < 300 << 10);
}

// ---- making it ----

fn set_mtime(path: &Path, secs: u64) {
    fs::File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::new(secs, 123_456_789)).unwrap();
}

fn fill(root: &Path) {
    fs::create_dir_all(root.join("names/empty folder")).unwrap();
    fs::write(root.join("readme.txt"), "A test repository.\n").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("noise.bin"), noise(3, 60_000)).unwrap();
    for i in 0..40 {
        fs::write(root.join(format!("names/{i:03} \u{fc}")), format!("{i}\n").repeat(i)).unwrap();
    }
    // Data and holes in turn: more extents than may stand in place.
    let sparse = fs::File::create(root.join("sparse.bin")).unwrap();
    for i in 0..20u64 {
        sparse.write_all_at(&noise(4, 4096), i * (1 << 20)).unwrap();
    }
    sparse.set_len(20 << 20).unwrap();
    fs::hard_link(root.join("readme.txt"), root.join("second name")).unwrap();
    symlink("readme.txt", root.join("link")).unwrap();
    for (name, mode) in [("readme.txt", 0o640), ("noise.bin", 0o755), ("names", 0o1777), ("empty", 0o600)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    set_mtime(&root.join("readme.txt"), 1_000_000_000);
    set_mtime(&root.join("names"), 1_100_000_000);
}

/// Makes the repository with this build's binary; the tombstone through the library.
fn make() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let root = Path::new(ROOT);
    let _ = fs::remove_dir_all(root);
    fs::create_dir(root).unwrap();
    fill(root);
    let store = format!("file://{}/repo", home.display());
    let init = ["init", "--store", &store, "--kit", "kit.txt", "--writer-label", "test-writer", "--yes"];
    muster_ok(home, &init);
    let config = fs::read_to_string(home.join("muster.toml")).unwrap();
    let pin =
        config.lines().find_map(|l| l.strip_prefix("root = \"")).unwrap().trim_end_matches('"').to_owned();
    let jobs = format!(
        "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [{ROOT:?}]\n\
         [[job.source]]\nname = \"dump\"\nkind = \"command\"\nbackup = [\"seq\", \"5000\"]\nrestore = [\"cat\"]\n"
    );
    fs::write(home.join("muster.toml"), format!("{config}{jobs}")).unwrap();
    muster_ok(home, &["backup", "--tag", "removed"]);
    muster_ok(home, &["backup", "--tag", "first"]);
    fs::write(root.join("readme.txt"), "A test repository, changed.\n").unwrap();
    fs::remove_file(root.join("names/007 \u{fc}")).unwrap();
    set_mtime(&root.join("readme.txt"), 1_200_000_000);
    muster_ok(home, &["backup", "--tag", "second"]);
    bury(home, &pin);

    let target = committed();
    let _ = fs::remove_dir_all(&target);
    fs::create_dir(&target).unwrap();
    let mut lines = String::new();
    for point in fs::read_dir(home.join("repo/points"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect::<std::collections::BTreeSet<_>>()
    {
        let point = point.to_str().unwrap();
        if home.join("repo/tombstones").join(point).exists() {
            continue;
        }
        muster_ok(home, &[&["restore", point, "--to", point, "--yes"], KIT].concat());
        lines += &format!("point {point}\n{}", restored(&home.join(point)));
    }
    for part in fs::read_dir(home.join("repo")).unwrap().map(|e| e.unwrap().path()) {
        let name = part.file_name().unwrap().to_owned();
        if !name.to_string_lossy().starts_with('.') {
            copy_folder(&part, &target.join("repository").join(name));
        }
    }
    let warned = |name: &str| {
        let text = fs::read_to_string(home.join(name))
            .unwrap()
            .replace(&home.display().to_string(), "/srv/muster-test");
        format!("# THROW-AWAY KEYS of a test repository. Never use them.\n{text}")
    };
    fs::write(target.join("kit.txt"), warned("kit.txt")).unwrap();
    fs::write(target.join("writer.key"), warned("muster.key")).unwrap();
    fs::write(target.join("root.txt"), format!("{pin}\n")).unwrap();
    fs::write(target.join("expected.txt"), lines).unwrap();
    fs::remove_dir_all(root).unwrap();
}

/// Removes the point with the tag `removed`, as a writer does; its object stays, as after a crash.
fn bury(home: &Path, pin: &str) {
    let store: Arc<dyn Store> = Arc::new(Local::open(&home.join("repo")).unwrap());
    let host = HostKeys::parse(&Secret::new(fs::read_to_string(home.join("muster.key")).unwrap())).unwrap();
    let with = OpenWith {
        pin: Pin { root: Some(pin.parse().unwrap()), lowest: 0 },
        host: Some(host),
        identities: &Identities::default(),
        cache_root: home.join("bury"),
        compression_level: 3,
    };
    let repo = Repository::open(store, with).unwrap();
    let list = repo.points().unwrap();
    let gone = list.points.iter().find(|p| p.point.tags == ["removed"]).unwrap();
    let stone = Tombstone {
        point: gone.point.id,
        hash: gone.hash,
        writer: gone.point.writer,
        job: gone.point.job.clone(),
        seq: gone.point.seq,
        by: gone.point.writer,
        rule: "keep-last 2".to_owned(),
        at: Time::from_system(SystemTime::now()),
    };
    repo.put_signed(Kind::Tombstone, &layout::tombstone(&stone.point), &stone).unwrap();
}
