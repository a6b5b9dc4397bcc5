//! What every source must do, whatever it protects: capture, change, capture again,
//! restore each, verify, notice tampering.

pub mod command;
pub mod files;

use std::path::Path;

use muster::model::{EntryState, ErrorKind};
use muster::ports::{Cancel, Conflict, RestoreRequest, RestoreTarget, Selection, Source, Verdict};

use crate::memory_engine::{MemoryEngine, MemoryPoint};

/// A thing to protect, of one kind.
pub trait Fixture {
    /// The source.
    fn source(&self) -> Box<dyn Source>;
    /// Makes the first content.
    fn fill(&self);
    /// Changes it.
    fn change(&self);
    /// Spoils something that was restored to `folder`.
    fn tamper(&self, folder: &Path);
}

/// A request to restore everything to `folder`.
pub fn to_folder(folder: &Path) -> RestoreRequest {
    RestoreRequest {
        selection: Selection::default(),
        target: RestoreTarget::Folder(folder.to_owned()),
        conflict: Conflict::Refuse,
        dry_run: false,
        strict_owner: false,
    }
}

/// Restores, and expects that nothing fails.
pub fn restore_all(
    engine: &MemoryEngine,
    source: &dyn Source,
    point: &MemoryPoint,
    request: &RestoreRequest,
) {
    let report = source.restore(&engine.reader(point), request, &Cancel::default()).unwrap();
    assert_eq!(report.failures, [], "{report:?}");
}

/// The verdict on `folder`, with what led to it.
pub fn verdict(
    engine: &MemoryEngine,
    source: &dyn Source,
    point: &MemoryPoint,
    folder: &Path,
) -> (Verdict, String) {
    let target = RestoreTarget::Folder(folder.to_owned());
    let report = source.verify(&engine.reader(point), &target, &Cancel::default()).unwrap();
    (report.verdict(), format!("{:?} {:?}", report.different, report.cannot_tell))
}

/// Expects that `folder` is as captured.
pub fn expect_same(engine: &MemoryEngine, source: &dyn Source, point: &MemoryPoint, folder: &Path) {
    let (verdict, why) = verdict(engine, source, point, folder);
    assert_eq!(verdict, Verdict::Same, "{why}");
}

/// Runs the whole suite.
pub fn run(fixture: &dyn Fixture) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = |name: &str| scratch.path().join(name);
    let mut engine = MemoryEngine::default();
    let source = fixture.source();
    fixture.fill();
    assert!(source.probe().unwrap().iter().all(|finding| !finding.is_problem));
    let first = engine.capture(&*source, None).unwrap();
    fixture.change();
    let second = engine.capture(&*source, Some(&first)).unwrap();
    engine.forgets_content = true;
    let again = engine.capture(&*source, Some(&second)).unwrap();
    assert!([&first, &second].iter().all(|p| p.entries.iter().all(|e| e.state == EntryState::Good)));

    let mut dry = to_folder(&folder("dry"));
    dry.dry_run = true;
    let counted = source.restore(&engine.reader(&first), &dry, &Cancel::default()).unwrap();
    assert!(!folder("dry").exists(), "a dry run wrote something");
    for (name, point) in [("first", &first), ("second", &second), ("again", &again)] {
        restore_all(&engine, &*source, point, &to_folder(&folder(name)));
        expect_same(&engine, &*source, point, &folder(name));
    }
    let report =
        source.restore(&engine.reader(&first), &to_folder(&folder("x")), &Cancel::default()).unwrap();
    assert_eq!((counted.items, counted.bytes), (report.items, report.bytes));
    expect_same(&engine, &*source, &again, &folder("second"));
    assert_eq!(verdict(&engine, &*source, &first, &folder("second")).0, Verdict::Different);

    let refused = source.restore(&engine.reader(&first), &to_folder(&folder("second")), &Cancel::default());
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.remedy().unwrap().contains("--replace"));
    expect_same(&engine, &*source, &second, &folder("second"));

    fixture.tamper(&folder("second"));
    assert_eq!(verdict(&engine, &*source, &second, &folder("second")).0, Verdict::Different);
    let mirror = RestoreRequest { conflict: Conflict::Mirror, ..to_folder(&folder("second")) };
    restore_all(&engine, &*source, &second, &mirror);
    expect_same(&engine, &*source, &second, &folder("second"));
    let still = source.restore(&engine.reader(&second), &mirror, &Cancel::default()).unwrap();
    assert_eq!((still.items, still.removed), (0, 0), "a second mirroring found something to do: {still:?}");

    let cancel = Cancel::default();
    cancel.cancel();
    let stopped = source.restore(&engine.reader(&first), &to_folder(&folder("stopped")), &cancel);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
}
