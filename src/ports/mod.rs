//! The traits behind which I/O stands.

pub mod clock;
pub mod process;
pub mod source;
pub mod store;

pub use clock::{Bell, Cancel, Clock, Entropy};
pub use process::{Child, CommandSpec, Ended, Process};
pub use source::{
    CaptureReader, CaptureReport, CaptureSink, Conflict, Finding, Previous, RestoreReport, RestoreRequest,
    RestoreTarget, Selection, Source, StreamContent, StreamSink, StreamWriter, Verdict, VerifyReport,
};
pub use store::{Capabilities, ObjectMeta, Put, Store};
