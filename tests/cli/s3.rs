//! A repository in a bucket, with the real program.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::tree::assert_same;
use super::world::{Run, files_below, finish, noise, wait_until};
use crate::s3_server::{KEY_ID, S3Server, SECRET_KEY};
use crate::wrong_server::{Answer, Asked, WrongServer};

/// A host with an empty folder, and a server.
struct Host {
    folder: tempfile::TempDir,
    endpoint: String,
}

impl Host {
    fn new(endpoint: &str) -> Self {
        let host = Self { folder: tempfile::tempdir().unwrap(), endpoint: endpoint.to_owned() };
        std::fs::create_dir(host.path("src")).unwrap();
        host
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.folder.path().join(rest)
    }

    fn read(&self, rest: &str) -> String {
        std::fs::read_to_string(self.path(rest)).unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", "/nonexistent").env("TZ", "UTC").env("COLUMNS", "200");
        command.env("BUCKET_KEY_ID", KEY_ID).env("BUCKET_KEY", SECRET_KEY);
        command.arg("--cache-dir").arg(self.path("cache")).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        finish(self.command(args))
    }

    fn init(&self) -> Run {
        self.run(&[
            "init",
            "--store",
            "s3://bucket/app",
            "--kit",
            "kit.txt",
            "--s3-endpoint",
            &self.endpoint,
            "--s3-region",
            "us-east-1",
            "--s3-access-key-id",
            "env:BUCKET_KEY_ID",
            "--s3-secret-access-key",
            "env:BUCKET_KEY",
        ])
    }

    /// A backup that makes packs of 1 MiB.
    fn small_backup(&self) -> Command {
        self.command(&["backup", "--json", "--memory", "8MiB"])
    }

    /// Everything is proven, and what comes back is what is there.
    fn is_whole(&self, out: &str) {
        let proven = self.run(&["check", "--read-data", "--identity", "file:kit.txt", "--json"]).ok().json();
        assert_eq!(proven["content_proven"], true, "{proven}");
        self.run(&["restore", "latest", "--to", out, "--verify", "--identity", "file:kit.txt"]).ok();
        let src = self.path("src");
        assert_same(&src, &self.path(out).join("docs").join(src.strip_prefix("/").unwrap()));
    }

    fn configure(&self, text: &str) {
        let before = self.read("muster.toml");
        std::fs::write(self.path("muster.toml"), format!("{before}\n{text}\n")).unwrap();
    }

    fn with_docs(self) -> Self {
        self.configure(
            "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [\"src\"]",
        );
        self
    }
}

#[test]
fn a_repository_in_a_bucket_from_init_to_restore() {
    let server = S3Server::start();
    let host = Host::new(server.endpoint());
    host.init().ok();
    let config = host.read("muster.toml");
    assert!(
        config.contains("conditional_put = true") && config.contains("store = \"s3://bucket/app\""),
        "{config}"
    );
    // Nothing of the probe is left, and nothing beside the prefix.
    assert!(files_below(&server.bucket().join("app/probe")).is_empty());
    let host = host.with_docs();
    std::fs::write(host.path("src/a"), noise(1, 3 << 20)).unwrap();
    std::fs::write(host.path("src/b"), "b").unwrap();

    host.run(&["doctor"]).ok().says("good  conditional-put").says("good  clock").says("good  repository");
    let first = host.run(&["backup", "--json"]).ok().json();
    let stored = |run: &serde_json::Value| run["totals"]["bytes_stored"].as_u64().unwrap();
    assert!(stored(&first) > 3 << 20, "{first}");
    std::fs::write(host.path("src/b"), "c").unwrap();
    let second = host.run(&["backup", "--json"]).ok().json();
    assert!(stored(&second) < 100_000, "{second}");

    host.run(&["check", "--read-data", "--identity", "file:kit.txt"]).ok();
    host.run(&["restore", "latest", "--to", "out", "--verify", "--identity", "file:kit.txt"]).ok();
    let restored = host.path("out/docs").join(host.path("src/a").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(restored).unwrap(), noise(1, 3 << 20));
    // Nothing is made twice.
    let again = Host::new(server.endpoint());
    again.init().expect_code(4).says("not empty");
    assert!(!again.path("kit.txt").exists() && !again.path("muster.key").exists());
}

#[test]
fn another_machine_needs_kit_and_four_lines() {
    let server = S3Server::start();
    let host = Host::new(server.endpoint());
    host.init().ok();
    let host = host.with_docs();
    std::fs::write(host.path("src/a"), "A").unwrap();
    host.run(&["backup"]).ok();
    let elsewhere = Host::new(server.endpoint());
    std::fs::copy(host.path("kit.txt"), elsewhere.path("kit.txt")).unwrap();
    let kit = host.read("kit.txt");
    let root = kit.lines().find_map(|line| line.strip_prefix("# root public key: ")).unwrap();
    let config = format!("version = 1\n[repository]\nstore = \"s3://bucket/app\"\nroot = \"{root}\"\n");
    std::fs::write(elsewhere.path("muster.toml"), config).unwrap();
    // What the file does not say the environment may.
    let mut command =
        elsewhere.command(&["restore", "latest", "--to", "out", "--verify", "--identity", "file:kit.txt"]);
    command.env("MUSTER_S3_ENDPOINT", server.endpoint()).env("MUSTER_S3_REGION", "us-east-1");
    command.env("MUSTER_S3_ACCESS_KEY_ID", "env:BUCKET_KEY_ID");
    command.env("MUSTER_S3_SECRET_ACCESS_KEY", "env:BUCKET_KEY");
    finish(command).ok();
    // And so may AWS's own variables.
    let mut command = elsewhere.command(&["points", "--identity", "file:kit.txt"]);
    command.env("MUSTER_S3_ENDPOINT", server.endpoint());
    command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    finish(command).ok();
}

#[test]
fn no_key_of_the_bucket_shows_anywhere() {
    let server = S3Server::start();
    let host = Host::new(server.endpoint());
    let mut shown = vec![("init", host.init().ok().all())];
    // Looks at the arguments of every program that runs.
    std::fs::write(
        host.path("dump.sh"),
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done >> seen 2>/dev/null; echo content",
    )
    .unwrap();
    host.configure(
        "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"sh\", \"dump.sh\"]",
    );
    let loud = |args: &[&str], more: &[(&str, &str)]| {
        let mut command = host.command(args);
        command.env("MUSTER_LOG", "trace");
        command.envs(more.iter().copied());
        finish(command)
    };
    shown.push(("backup", loud(&["backup"], &[]).ok().all()));
    shown.push(("doctor", loud(&["doctor", "--json"], &[]).ok().all()));
    shown.push(("-vv", host.run(&["check", "-vv"]).ok().all()));
    // A wrong key is a secret too; so is a token.
    let wrong =
        loud(&["points"], &[("BUCKET_KEY", "canary/wrong-key")]).expect_code(1).says("secret_access_key");
    shown.push(("a wrong key", wrong.all()));
    let config = host.read("muster.toml");
    let with_token = config.replace("checksums =", "session_token = \"env:BUCKET_TOKEN\"\nchecksums =");
    std::fs::write(host.path("token.toml"), with_token).unwrap();
    let token = loud(&["-c", "token.toml", "points"], &[("BUCKET_TOKEN", "canary-of-token")]);
    shown.push(("a token", token.all()));
    shown.push((
        "no key",
        finish({
            let mut command = host.command(&["points"]);
            command.env_remove("BUCKET_KEY");
            command
        })
        .expect_code(2)
        .says("env:BUCKET_KEY")
        .all(),
    ));
    for plain in [SECRET_KEY, "AKIAcanaryKEYIDplain"] {
        let run = host.run(&[
            "-c",
            "x.toml",
            "init",
            "--store",
            "s3://bucket/x",
            "--kit",
            "k",
            "--s3-access-key-id",
            "env:A",
            "--s3-secret-access-key",
            plain,
        ]);
        shown.push(("plain text on the command line", run.expect_code(2).all()));
    }
    shown.push(("the configuration", config));
    let arguments = std::fs::read(host.path("seen")).unwrap();
    assert!(String::from_utf8_lossy(&arguments).contains("dump.sh"));
    shown.push(("arguments", String::from_utf8_lossy(&arguments).into_owned()));
    for (what, text) in shown {
        for canary in [SECRET_KEY, "canary/wrong-key", "canary-of-token", "AKIAcanaryKEYIDplain"] {
            assert!(!text.contains(canary), "{canary} shows in {what}:\n{text}");
        }
    }
}

#[test]
fn keys_that_end_in_the_middle_of_a_backup_leave_no_half_point() {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let server = WrongServer::start(move |_, asked, good| {
        let is_index = asked.is("PUT") && asked.path.contains("/index/");
        match over.load(Ordering::Relaxed) && (is_index || asked.path.contains("/points/")) {
            true if asked.is("HEAD") => Answer::new(403),
            true => Answer::error(403, "ExpiredToken"),
            false => good,
        }
    });
    let host = Host::new(&server.endpoint);
    host.init().ok();
    let host = host.with_docs();
    std::fs::write(host.path("src/a"), noise(2, 2 << 20)).unwrap();
    is_over.store(true, Ordering::Relaxed);
    host.run(&["backup"]).expect_code(1).says("expired").says("hint");
    assert!(!server.keys().iter().any(|key| key.contains("/points/")), "{:?}", server.keys());
    is_over.store(false, Ordering::Relaxed);
    host.run(&["backup"]).ok();
    host.run(&["check", "--read-data"]).ok();
    assert_eq!(server.keys().iter().filter(|key| key.contains("/points/")).count(), 1);
}

#[test]
fn bad_places_are_refused_before_anything_is_written() {
    let server = S3Server::start();
    let host = Host::new(server.endpoint());
    let with = |more: &[&str]| {
        let mut args = vec!["init", "--kit", "kit.txt"];
        args.extend(more);
        host.run(&args)
    };
    let keys = ["--s3-access-key-id", "env:BUCKET_KEY_ID", "--s3-secret-access-key", "env:BUCKET_KEY"];
    let at = ["--s3-endpoint", server.endpoint()];
    with(&[&["--store", "s3://nowhere/app"], &keys[..], &at].concat())
        .expect_code(1)
        .says("no bucket")
        .says("make the bucket");
    with(&[&["--store", "s3://key:canary@bucket/app"], &keys[..], &at].concat())
        .expect_code(2)
        .says_not("canary");
    with(&[&["--store", "s3://x"], &keys[..], &at].concat()).expect_code(2).says("bucket's name");
    with(&[&["--store", "s3://bucket/app"], &keys[..2], &at].concat()).expect_code(2).says("go together");
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let stranger = WrongServer::start_tls(&signed.cert.pem(), &signed.signing_key.serialize_pem());
    with(&[&["--store", "s3://bucket/app"], &keys[..], &["--s3-endpoint", &stranger.endpoint]].concat())
        .expect_code(1)
        .says("certificate")
        .says("ca_file");
    with(&["--store", "s3://bucket/app", "--s3-endpoint", "s3.example.org"]).expect_code(2).says("https://");
    with(&["--store", "s3://bucket/app", "--s3-ca-file", "none.pem"]).expect_code(2).says("none.pem");
    with(&[&["--store", "file:///tmp/x"], &at[..]].concat()).expect_code(2).says("s3://");
    assert_eq!(files_below(host.folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn the_doctor_tells_what_hurts_and_prints_permissions() {
    let server = S3Server::start_racy();
    let host = Host::new(server.endpoint());
    host.init().ok().says("conditional-put");
    assert!(host.read("muster.toml").contains("conditional_put = false"));
    // As if it had been copied from a host with another provider.
    let config = host.read("muster.toml").replace("conditional_put = false", "conditional_put = true");
    std::fs::write(host.path("muster.toml"), config).unwrap();
    let told = host.run(&["doctor", "--json"]).expect_code(3).json();
    let bad: Vec<&str> = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["judgement"] == "bad")
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    assert_eq!(bad, ["conditional-put"], "{told}");
    host.run(&["doctor"])
        .says("records otherwise (conditional_put = true)")
        .says("`conditional_put = false`");
    host.run(&["doctor", "--read-only"]).ok();
    host.run(&["doctor", "--iam"])
        .ok()
        .says("bucket/app/")
        .says("s3:if-none-match")
        .says("garage bucket allow");
    host.run(&["doctor", "--iam", "b2", "--json"]).ok().says("deleteFiles").says_not("arn:aws");
    // Also where there is no configuration yet.
    Host::new(server.endpoint()).run(&["doctor", "--iam", "aws"]).ok().says("BUCKET/PREFIX/");
}

/// Hosts that joined after `init` have not recorded what it found.
#[test]
fn the_doctor_says_how_to_record_what_it_found() {
    let server = S3Server::start();
    let host = Host::new(server.endpoint());
    host.init().ok();
    let recorded = host.read("muster.toml");
    let told = |config: String| {
        std::fs::write(host.path("muster.toml"), config).unwrap();
        host.run(&["doctor"]).ok()
    };
    told(recorded.clone()).says_not("write the line").says_not("records otherwise");
    told(recorded.replace("conditional_put = true\n", ""))
        .says("does not record it")
        .says("write the line `conditional_put = true` below [repository.s3]");
    told(recorded.replace("conditional_put = true", "conditional_put = false"))
        .says("records otherwise (conditional_put = false)")
        .says("write the line `conditional_put = true` below [repository.s3]");
}

/// Keys that may create and not delete are what a careful operator gives to a host that backs up.
#[test]
fn keys_that_may_not_delete_make_a_repository_and_back_up() {
    let server = WrongServer::start(|_, asked, good| match asked.is("DELETE") {
        true => Answer::error(403, "AccessDenied"),
        false => good,
    });
    let host = Host::new(&server.endpoint);
    host.init().ok().says("may not delete");
    let host = host.with_docs();
    std::fs::write(host.path("src/a"), noise(10, 1 << 20)).unwrap();
    let told = host.run(&["doctor", "--json"]).json();
    let finding = |check: &str| {
        let all = told["findings"].as_array().unwrap();
        all.iter().find(|finding| finding["check"] == check).cloned().unwrap_or_default()
    };
    assert_eq!(finding("delete")["judgement"], "note", "{told}");
    assert_eq!(finding("lists")["judgement"], "good", "{told}");
    assert_eq!(finding("store"), serde_json::Value::Null, "{told}");
    finish(host.small_backup()).ok();
    host.is_whole("out");
}

#[test]
fn programs_do_not_inherit_the_keys_of_the_bucket() {
    let server = S3Server::start();
    let host = Host::new(server.endpoint());
    host.init().ok();
    host.configure(
        "[[job]]\nname = \"app\"\nfreeze = [\"sh\", \"-c\", \"env > hook\"]\n\
         [[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"sh\", \"-c\", \"env > source; echo x\"]\n\
         env = { OF_THE_SOURCE = \"env:BUCKET_KEY_ID\" }",
    );
    let mut command = host.command(&["backup"]);
    command.env("MUSTER_S3_SESSION_TOKEN", "cmd:env > fetched; echo token").env("AWS_OWN", "inherited");
    // The server knows no token: whether it refuses is not the point.
    finish(command);
    let mut command = host.command(&["backup"]);
    command.env("AWS_OWN", "inherited").env("MUSTER_S3_ACCESS_KEY_ID", "env:BUCKET_KEY_ID");
    finish(command).ok();
    for file in ["fetched", "hook", "source"] {
        let seen = host.read(file);
        let names = seen.replace(&format!("OF_THE_SOURCE={KEY_ID}"), "");
        for hidden in ["BUCKET_KEY", SECRET_KEY, KEY_ID, "MUSTER_S3_"] {
            assert!(!names.contains(hidden), "{file} has {hidden}:\n{seen}");
        }
        assert!(seen.contains("AWS_OWN=inherited"), "{file}:\n{seen}");
    }
    assert!(host.read("source").contains(&format!("OF_THE_SOURCE={KEY_ID}")));
}

fn is_pack(asked: &Asked) -> bool {
    asked.path.contains("/packs/")
}

fn points(server: &WrongServer) -> usize {
    server.keys().iter().filter(|key| key.contains("/points/")).count()
}

/// What a backup cannot mend, from the first pack on: it says what to do, and leaves no half point. Once it
/// is mended the backup is run again.
#[test]
fn a_store_that_goes_wrong_in_the_middle_is_a_clear_error() {
    type Fault = (&'static str, fn() -> Answer, &'static str);
    let faults: [Fault; 6] = [
        ("a proxy's page", || Answer::html(200), "HTML"),
        ("a bucket that was removed", || Answer::error(404, "NoSuchBucket"), "make the bucket"),
        ("a permission taken away", || Answer::error(403, "AccessDenied"), "--iam"),
        ("a key that was changed", || Answer::error(403, "SignatureDoesNotMatch"), "secret_access_key"),
        ("another region", || Answer::error(301, "PermanentRedirect"), "region"),
        ("a full store", || Answer::error(507, "InsufficientStorage"), "is full"),
    ];
    for (what, fault, says) in faults {
        let is_wrong = Arc::new(AtomicBool::new(false));
        let wrong = is_wrong.clone();
        let server = WrongServer::start(move |_, asked, good| {
            match wrong.load(Ordering::Relaxed) && is_pack(asked) && asked.is("PUT") {
                true => fault(),
                false => good,
            }
        });
        let host = Host::new(&server.endpoint);
        host.init().ok();
        let host = host.with_docs();
        std::fs::write(host.path("src/a"), noise(3, 1 << 20)).unwrap();
        is_wrong.store(true, Ordering::Relaxed);
        let failed = finish(host.small_backup()).expect_code(1).says(says);
        assert!(failed.json()["error"]["hint"].is_string(), "{what}: {}", failed.all());
        assert_eq!(points(&server), 0, "{what}");
        is_wrong.store(false, Ordering::Relaxed);
        finish(host.small_backup()).ok();
        assert_eq!(points(&server), 1, "{what}");
        host.run(&["check", "--read-data"]).ok();
    }
}

/// What passes: each object is refused, cut or delayed once, and nobody notices but the log.
#[test]
fn a_backup_carries_on_through_what_passes() {
    let seen = std::sync::Mutex::new(std::collections::HashSet::new());
    let storm = AtomicUsize::new(0);
    let server = WrongServer::start(move |_, asked, good| {
        let is_first = seen.lock().unwrap().insert((asked.method.clone(), asked.path.clone()));
        if !is_first || asked.is_list() || asked.path.contains("/probe/") {
            return good;
        }
        match (asked.method.as_str(), storm.fetch_add(1, Ordering::Relaxed) % 4) {
            ("GET", 0 | 1) if is_pack(asked) => good.cut_at(100),
            ("PUT", 0) => Answer::error(503, "SlowDown"),
            ("PUT", 1) => Answer::error(500, "InternalError"),
            ("PUT", 2) => Answer::nothing(),
            ("PUT" | "GET", _) => Answer::html(502),
            _ => good,
        }
    });
    let host = Host::new(&server.endpoint);
    host.init().ok();
    let host = host.with_docs();
    std::fs::write(host.path("src/a"), noise(4, 3 << 20)).unwrap();
    finish(host.small_backup()).ok();
    assert_eq!(points(&server), 1);
    host.is_whole("out");
}

#[test]
fn a_backup_that_was_killed_uploads_nothing_twice() {
    const BYTES: usize = 16 << 20;
    const MIB: usize = 1 << 20;
    let server = WrongServer::start(|_, asked, good| {
        if is_pack(asked) && asked.is("PUT") {
            std::thread::sleep(Duration::from_millis(40));
        }
        good
    });
    let host = Host::new(&server.endpoint);
    host.init().ok();
    let host = host.with_docs();
    std::fs::write(host.path("src/a"), noise(5, BYTES)).unwrap();
    let stored = || server.keys().iter().filter(|key| key.contains("/packs/data/")).count();
    let mut child = host.small_backup().spawn().unwrap();
    wait_until("some packs are there", || stored() >= 6);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(points(&server), 0, "a killed backup leaves no point");
    // Requests that were under way when it died may still be answered.
    std::thread::sleep(Duration::from_millis(300));
    let (before, asked_before) = (stored(), server.asked().len());
    let done = finish(host.small_backup()).ok().json();

    let uploads: Vec<Asked> = server.asked().into_iter().filter(|a| is_pack(a) && a.is("PUT")).collect();
    let paths: std::collections::HashSet<&str> = uploads.iter().map(|asked| asked.path.as_str()).collect();
    assert_eq!(paths.len(), uploads.len(), "no pack was sent twice");
    let again: usize =
        server.asked()[asked_before..].iter().filter(|a| is_pack(a)).map(|a| a.body.len()).sum();
    assert!(
        before >= 6 && again < BYTES - (before - 2) * MIB,
        "{before} were there, {again} bytes sent: {done}"
    );
    // Of what was in the first run's hands and not yet stored, some is stored by both.
    let all: usize = uploads.iter().map(|asked| asked.body.len()).sum();
    assert!(all < BYTES + 4 * MIB, "{all} bytes in all");
    host.is_whole("out");
}

/// As AWS does where the bucket's policy demands `s3:if-none-match`.
#[test]
fn a_bucket_whose_policy_demands_the_condition() {
    let server = WrongServer::start(|_, asked, good| {
        let is_creation = asked.is("PUT") && !asked.query.contains("partNumber");
        match is_creation && asked.header("if-none-match") != "*" {
            true => Answer::error(403, "AccessDenied"),
            false => good,
        }
    });
    let host = Host::new(&server.endpoint);
    host.init().ok();
    assert!(host.read("muster.toml").contains("conditional_put = true"));
    let host = host.with_docs();
    std::fs::write(host.path("src/a"), noise(6, 2 << 20)).unwrap();
    // The server's clock stands still, which the doctor does not like.
    host.run(&["doctor"]).says("good  conditional-put").says("CRC32C");
    finish(host.small_backup()).ok();
    host.is_whole("out");
}

#[test]
fn prune_frees_the_space_in_a_bucket() {
    let server = S3Server::start();
    let host = Host::new(server.endpoint());
    host.init().ok();
    let host = host.with_docs();
    let age = |secs: u64| {
        for file in files_below(&server.bucket().join("app")) {
            let file = std::fs::File::open(file).unwrap();
            let before = file.metadata().unwrap().modified().unwrap();
            file.set_modified(before - Duration::from_secs(secs)).unwrap();
        }
    };
    let packs = || -> u64 {
        let files = files_below(&server.bucket().join("app/packs"));
        files.iter().map(|file| file.metadata().unwrap().len()).sum()
    };
    std::fs::write(host.path("src/same"), noise(7, 3 << 20)).unwrap();
    std::fs::write(host.path("src/turns"), noise(8, 4 << 20)).unwrap();
    finish(host.small_backup()).ok();
    std::fs::write(host.path("src/turns"), noise(9, 4 << 20)).unwrap();
    finish(host.small_backup()).ok();
    host.run(&["retention", "apply", "--keep-last", "1", "--yes"]).ok();
    age(3 * 3600);
    let full = packs();
    assert_eq!(host.run(&["prune", "--json"]).ok().json()["packs_deleted"], 0);
    age(26 * 3600);
    // What is moved is stored anew before what it was moved from is deleted.
    let before = packs();
    let dry = host.run(&["prune", "--dry-run", "--json"]).ok().json();
    assert_eq!(packs(), before);

    let done = host.run(&["prune", "--json"]).ok().json();
    let freed = done["bytes"]["deleted"].as_u64().unwrap();
    assert_eq!(done["bytes"], dry["bytes"]);
    assert!(freed > 3 << 20 && packs() == before - freed && packs() < full - (3 << 20), "{done}");
    host.is_whole("out");
}

/// The operator's guide shows what the command prints.
#[test]
fn the_guide_and_the_command_say_the_same() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATIONS.md")).unwrap();
    let host = Host::new("http://127.0.0.1:1");
    let printed = host.run(&["doctor", "--iam", "aws", "--json"]).ok().json();
    let text = |role: &str| {
        let parts = printed["parts"].as_array().unwrap();
        parts.iter().find(|part| part["role"] == role).unwrap()["text"].as_str().unwrap().to_owned()
    };
    for role in ["writer", "create-only"] {
        assert!(guide.contains(text(role).trim_end()), "{role}: the guide shows another policy");
    }
    let row = guide.lines().find(|line| line.starts_with("| pruner | ")).unwrap();
    let deletes = row.split('|').nth(3).unwrap().split("never").next().unwrap();
    let pruner: serde_json::Value = serde_json::from_str(&text("pruner")).unwrap();
    let statement = |sid: &str| {
        let all = pruner["Statement"].as_array().unwrap();
        all.iter().find(|statement| statement["Sid"] == sid).unwrap().clone()
    };
    for place in statement("Delete")["Resource"].as_array().unwrap() {
        let folder = place.as_str().unwrap().rsplit('/').nth(1).unwrap();
        assert!(folder == "probe" || deletes.contains(&format!("`{folder}/`")), "{folder} is not in {row}");
    }
    for action in statement("SeeLocks")["Action"].as_array().unwrap() {
        assert!(guide.contains(action.as_str().unwrap()), "{action}");
    }
}
