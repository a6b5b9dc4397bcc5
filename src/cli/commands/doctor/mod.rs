//! `muster doctor`.

mod words;

use std::sync::Arc;

use crate::cli::args::{self, Global, IamProvider};
use crate::cli::compose::{Access, Context, dress, s3_options};
use crate::cli::{exit, settings};
use crate::model::error::Exit;
use crate::model::{Error, ErrorKind, Result};
use crate::policy::{S3Config, iam};
use crate::ports::{Cancel, Process, Store};
use crate::report::outcome::{Doctor, DoctorFinding, Iam, IamPart, Judgement};
use crate::stores::probe::{self, Findings};
use crate::stores::s3::{Address, BucketFacts, ChecksumUse, ConditionalPut};
use crate::stores::wrap::RetryPolicy;
use crate::stores::{self, Location, S3, S3Options};
use crate::sys::{OsEntropy, RealClock};

/// What trying out a store showed.
pub struct Examined {
    /// What every store is asked.
    pub findings: Findings,
    /// Only of a bucket.
    pub bucket: Option<(BucketFacts, ChecksumUse)>,
}

/// Tries a store out, with the address as it was written. Puts are the server's own, with no look
/// before; nothing else of the settings is changed.
pub fn examine(store: &str, s3: &S3Config, process: &Arc<dyn Process>, cancel: &Cancel) -> Result<Examined> {
    let engine = crate::policy::EngineConfig::default();
    let dressed =
        |store: Arc<dyn Store>| dress(store, &engine, cancel, Access::Write, RetryPolicy::default());
    match store.parse::<Location>()? {
        Location::Folder(_) => {
            let opened = dressed(stores::open(store, S3Options::default())?);
            let findings = probe::probe(&*opened, &RealClock, &OsEntropy)?;
            Ok(Examined { findings, bucket: None })
        }
        Location::S3(address) => examine_bucket(address, s3, process, dressed),
    }
}

fn examine_bucket(
    address: Address,
    s3: &S3Config,
    process: &Arc<dyn Process>,
    dressed: impl Fn(Arc<dyn Store>) -> Arc<dyn Store>,
) -> Result<Examined> {
    let options = S3Options { conditional_put: ConditionalPut::Works, ..s3_options(s3, process)? };
    let store = Arc::new(S3::new(address, options)?);
    let mut findings = probe::probe(&*dressed(store.clone()), &RealClock, &OsEntropy)?;
    // It may have refused the condition, and the store looked first instead.
    findings.refuses_second_put &= store.capabilities().conditional_put;
    let (checksums, left) = probe::with_two_objects(&*store, &OsEntropy, |names| store.checksum_use(names))?;
    findings.left_behind = findings.left_behind.or(left);
    Ok(Examined { findings, bucket: Some((store.bucket_facts(), checksums)) })
}

/// Tries the configured store out, and says what it found.
pub fn run(context: &Context<'_>, args: &args::Doctor) -> Result<Exit> {
    let repository = &context.config.repository;
    let mut findings = Vec::new();
    if args.read_only {
        findings.push(listed(context));
    } else {
        match examine(&repository.store, &repository.s3, &context.process, &context.cancel) {
            Ok(examined) => words::examined(&examined, &repository.s3, &mut findings),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => findings.push(failed(
                "store",
                &error,
                "it could not be tried out, and backups may fail so too",
            )),
        }
    }
    findings.push(match context.open(Access::Read) {
        Ok(repo) => DoctorFinding::new(
            "repository",
            Judgement::Good,
            format!("it opens, with configuration number {}", repo.trusted().config.number),
            "the pinned root and this host's keys fit it",
        ),
        Err(error) => failed("repository", &error, "it cannot be opened with these settings and keys"),
    });
    exit::finish(&Doctor { store: repository.store.clone(), findings }, context.global.json)
}

fn listed(context: &Context<'_>) -> DoctorFinding {
    let mut count = 0u64;
    let listing = context.store().and_then(|store| {
        let store =
            dress(store, &context.config.engine, &context.cancel, Access::Read, RetryPolicy::default());
        store.list("config/", &mut |_| {
            count += 1;
            Ok(())
        })
    });
    match listing {
        Ok(()) => DoctorFinding::new(
            "store",
            Judgement::Good,
            format!("it lists, and has {count} objects in config/"),
            "reading works; nothing was written, so that what the store can do was not tried",
        ),
        Err(error) => failed("store", &error, "it cannot be read"),
    }
}

fn failed(check: &str, error: &Error, means: &str) -> DoctorFinding {
    DoctorFinding::new(check, Judgement::Bad, error.to_string(), means)
        .next(error.remedy().unwrap_or_default())
}

/// What `init` says of a store that it tried out: everything but what is as it should be.
pub fn remarks(examined: &Examined, s3: &S3Config) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    words::examined(examined, s3, &mut findings);
    findings.retain(|finding| finding.judgement != Judgement::Good);
    findings
}

/// Prints the permissions that hosts need.
pub fn iam(global: &Global, provider: IamProvider) -> Result<Exit> {
    // It is wanted before there is a configuration, too.
    let address = settings::load(global).ok().and_then(|config| match config.repository.store.parse() {
        Ok(Location::S3(address)) => Some(address),
        _ => None,
    });
    let (bucket, prefix) = match &address {
        Some(address) => (address.bucket.as_str(), address.prefix.as_str()),
        None => ("BUCKET", "PREFIX/"),
    };
    let wanted: &[iam::Provider] = match provider {
        IamProvider::All => &iam::Provider::ALL,
        IamProvider::Aws => &[iam::Provider::Aws],
        IamProvider::R2 => &[iam::Provider::R2],
        IamProvider::B2 => &[iam::Provider::B2],
        IamProvider::Minio => &[iam::Provider::Minio],
        IamProvider::Garage => &[iam::Provider::Garage],
        IamProvider::Ceph => &[iam::Provider::Ceph],
    };
    let parts = wanted.iter().flat_map(|provider| {
        iam::permissions(*provider, bucket, prefix).into_iter().map(|grant| IamPart {
            provider: provider.name().to_owned(),
            role: grant.role.to_owned(),
            about: grant.about,
            text: grant.text,
        })
    });
    exit::finish(&Iam { parts: parts.collect() }, global.json)
}
