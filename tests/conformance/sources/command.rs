//! The command source, with real programs.

use std::path::Path;
use std::sync::Arc;

use muster::model::{ErrorKind, Secret};
use muster::ports::{Cancel, Conflict, RestoreRequest, RestoreTarget, Source, Verdict};
use muster::sources::{CommandConfig, CommandSource};
use tempfile::TempDir;

use super::{Fixture, run, to_folder};
use crate::host_process::HostProcess;
use crate::memory_engine::MemoryEngine;

fn argv(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

fn sh(script: &str) -> Vec<String> {
    argv(&["sh", "-c", script])
}

fn source(config: CommandConfig) -> CommandSource {
    CommandSource::new("db", config, Arc::new(HostProcess)).unwrap()
}

struct CatFile(TempDir);

impl Fixture for CatFile {
    fn source(&self) -> Box<dyn Source> {
        let config = CommandConfig {
            backup: argv(&["cat", "data"]),
            dir: Some(self.0.path().to_owned()),
            file_name: Some("dump.sql".into()),
            ..CommandConfig::default()
        };
        Box::new(source(config))
    }

    fn fill(&self) {
        std::fs::write(self.0.path().join("data"), vec![7; 3 << 20]).unwrap();
    }

    fn change(&self) {
        std::fs::write(self.0.path().join("data"), b"other").unwrap();
    }

    fn tamper(&self, folder: &Path) {
        std::fs::write(folder.join("dump.sql"), b"othfr").unwrap();
    }
}

#[test]
fn command_conforms() {
    run(&CatFile(tempfile::tempdir().unwrap()));
}

#[test]
fn a_program_that_fails_makes_the_source_failed() {
    let engine = MemoryEngine::default();
    for (script, timeout, why) in [
        ("echo half; echo secret-row >&2; exit 3", None, "exit status 3"),
        ("echo half; kill -9 $$", None, "signal 9"),
        ("exec >&-; exec sleep 30", Some(1), "timed out"),
        ("true", None, "less than 4"),
    ] {
        let config = CommandConfig {
            backup: sh(script),
            timeout_secs: timeout,
            min_bytes: Some(4),
            ..CommandConfig::default()
        };
        let error = engine.capture(&source(config), None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(error.why().contains(why), "{error}");
        assert!(!error.to_string().contains("secret-row"), "standard error is for the hint alone");
    }
    let config = CommandConfig { backup: sh("echo why-it-failed >&2; exit 1"), ..CommandConfig::default() };
    let error = engine.capture(&source(config), None).err().unwrap();
    assert!(error.remedy().unwrap().contains("why-it-failed"));
}

#[test]
fn facts_hold_status_length_and_what_was_said() {
    let config = CommandConfig { backup: sh("echo hello; echo careful >&2"), ..CommandConfig::default() };
    let point = MemoryEngine::default().capture(&source(config), None).unwrap();
    let facts: serde_json::Value = serde_json::from_slice(&point.report.facts).unwrap();
    assert_eq!(facts["exit_status"], 0);
    assert_eq!(facts["bytes"], 6);
    assert_eq!(facts["stderr"], "careful\n");
    assert!(point.report.notes.is_empty());
}

#[test]
fn the_restore_command_takes_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = MemoryEngine::default();
    let config = |restore: Option<&str>| CommandConfig {
        backup: sh("head -c 300000 /dev/zero; echo end"),
        restore: restore.map(sh),
        env: vec![("OUT".into(), Secret::new("out".into()))],
        dir: Some(dir.path().to_owned()),
        ..CommandConfig::default()
    };
    let point = engine.capture(&source(config(None)), None).unwrap();
    let request = RestoreRequest {
        target: RestoreTarget::Original,
        conflict: Conflict::Replace,
        ..to_folder(dir.path())
    };
    let restore = |script: Option<&str>| {
        source(config(script)).restore(&engine.reader(&point), &request, &Cancel::default())
    };
    assert_eq!(restore(None).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(restore(Some("cat > $OUT.$MUSTER_CONFLICT")).unwrap().bytes, 300_004);
    assert_eq!(std::fs::read(dir.path().join("out.replace")).unwrap().len(), 300_004);
    assert!(restore(Some("cat > /dev/null; exit 5")).unwrap_err().why().contains("exit status 5"));
    assert!(restore(Some("exec <&-; exit 6")).unwrap_err().why().contains("exit status 6"));
    assert!(restore(Some("exec <&-; exit 0")).unwrap_err().why().contains("before it had taken everything"));

    let report = source(config(None))
        .verify(&engine.reader(&point), &RestoreTarget::Original, &Cancel::default())
        .unwrap();
    assert_eq!(report.verdict(), Verdict::CannotTell);

    // A point that cannot be read whole is never handed over as if it were.
    engine.damage(&point.entries[0]);
    assert_eq!(restore(Some("cat > half")).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn a_missing_program_is_found_beforehand() {
    let config = CommandConfig { backup: argv(&["no-such-program-here"]), ..CommandConfig::default() };
    let source = source(config);
    assert!(source.probe().unwrap().iter().any(|finding| finding.is_problem));
    assert!(MemoryEngine::default().capture(&source, None).is_err());
}

#[test]
fn nonsense_is_refused() {
    let new = |config| CommandSource::new("db", config, Arc::new(HostProcess)).err().unwrap().kind();
    assert_eq!(new(CommandConfig::default()), ErrorKind::Config);
    let away =
        CommandConfig { backup: sh("true"), file_name: Some("../x".into()), ..CommandConfig::default() };
    assert_eq!(new(away), ErrorKind::Config);
}
