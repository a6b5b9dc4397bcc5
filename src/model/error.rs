//! The one error type: what failed, on what, why, whether a retry can help, and
//! what to do next.

use std::fmt;

/// What sort of failure this is. Decides the exit status and the retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The command line is wrong.
    Usage,
    /// `muster.toml` or the environment is wrong.
    Config,
    /// Muster declined, to keep data safe.
    Refused,
    /// A named thing does not exist.
    NotFound,
    /// A thing that must not exist does.
    Exists,
    /// Stored bytes are not what they must be.
    Damaged,
    /// Signed by nobody we trust, or not signed.
    Untrusted,
    /// No key at hand opens this.
    WrongKey,
    /// A newer format, or a feature this build does not have.
    Unsupported,
    /// A file or device of this machine failed.
    Io,
    /// The store failed or cannot be reached.
    Store,
    /// A source failed.
    Source,
    /// The person or the system asked us to stop.
    Interrupted,
    /// A bound was reached: time, memory, retries.
    Limit,
    /// A defect in Muster.
    Internal,
}

/// Exit status of a command (DESIGN section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Done, with failed sources or failed checks.
    Partial = 3,
    /// Refused for safety.
    Refused = 4,
}

impl ErrorKind {
    /// The exit status of a command that ends with this kind of error.
    pub fn exit(self) -> Exit {
        match self {
            Self::Usage | Self::Config => Exit::Usage,
            Self::Refused | Self::Exists => Exit::Refused,
            Self::NotFound
            | Self::Damaged
            | Self::Untrusted
            | Self::WrongKey
            | Self::Unsupported
            | Self::Io
            | Self::Store
            | Self::Source
            | Self::Interrupted
            | Self::Limit
            | Self::Internal => Exit::Failed,
        }
    }
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, complete enough to act on.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    what: String,
    on: Option<String>,
    why: String,
    hint: Option<String>,
    retryable: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `what` ("read the pack") because of `why` ("it is 3 bytes short").
    pub fn new(kind: ErrorKind, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            on: None,
            why: why.into(),
            hint: None,
            retryable: false,
            source: None,
        }))
    }

    /// A failed system call: `what` was tried `on` this path.
    pub fn io(what: impl Into<String>, on: impl Into<String>, error: std::io::Error) -> Self {
        let hint = io_hint(&error);
        let mut this = Self::new(ErrorKind::Io, what, error.to_string()).on(on);
        this.0.hint = hint.map(str::to_owned);
        this.0.source = Some(Box::new(error));
        this
    }

    /// A defect of Muster itself.
    pub fn internal(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, what, why).hint("this is a defect in Muster: please report it")
    }

    /// Names the thing it happened to.
    #[must_use]
    pub fn on(mut self, on: impl Into<String>) -> Self {
        self.0.on = Some(on.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Says that the same call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// The same failure seen as another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    /// Whether a retry can help.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
    /// The thing it happened to.
    pub fn subject(&self) -> Option<&str> {
        self.0.on.as_deref()
    }
    /// Why, in words.
    pub fn why(&self) -> &str {
        &self.0.why
    }
    /// What was being done.
    pub fn what(&self) -> &str {
        &self.0.what
    }
    /// What to do next.
    pub fn remedy(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    /// Whether it tells of what is stored. Anything else, a store that cannot be reached above all, must
    /// not be taken for damage.
    pub fn is_about_content(&self) -> bool {
        use ErrorKind::{Damaged, Limit, NotFound, Unsupported, Untrusted, WrongKey};
        let kind = matches!(self.0.kind, Damaged | Untrusted | WrongKey | NotFound | Unsupported | Limit);
        kind && !self.0.retryable
    }
    /// The operating system's error, where there was one.
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        let source = self.0.source.as_ref()?;
        source.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
    }
}

/// One line: what, on what, why. The remedy is printed apart.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.on {
            Some(on) => write!(f, "cannot {} {}: {}", self.0.what, on, self.0.why),
            None => write!(f, "cannot {}: {}", self.0.what, self.0.why),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

fn io_hint(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::StorageFull => {
            Some("free some space, or name another place, and run it again: what is stored already is kept")
        }
        K::QuotaExceeded => Some("raise the quota and run it again: what is stored already is kept"),
        K::PermissionDenied => Some("run as a user that may, or change the permissions"),
        K::ReadOnlyFilesystem => Some("the file system is mounted read-only"),
        _ => None,
    }
}
