//! The stores that S3 servers give. What a server's conditional put is worth is probed once.

use std::sync::{Arc, OnceLock};

use muster::ports::Store;
use muster::stores::probe::{Findings, probe};
use muster::stores::s3::{Checksums, ConditionalPut, Multipart, S3, S3Options};
use muster::sys::{OsEntropy, RealClock};

use super::Fixture;
use crate::s3_server::{self, BUCKET, S3Server, fresh};

/// A server of this process, its bucket, and what the probe found.
pub struct Site {
    pub bucket: &'static str,
    pub options: S3Options,
    pub findings: Findings,
}

/// Probes as `muster init` does.
pub fn probed(bucket: &'static str, options: S3Options) -> Site {
    let raw = S3Options { conditional_put: ConditionalPut::Works, ..options.clone() };
    let store = S3::new(fresh(bucket), raw).unwrap();
    let findings = probe(&store, &RealClock, &OsEntropy).unwrap();
    let conditional_put = match findings.conditional_put() && store.capabilities().conditional_put {
        true => ConditionalPut::Works,
        false => ConditionalPut::Ignored,
    };
    Site { bucket, options: S3Options { conditional_put, ..options }, findings }
}

/// A bucket is never used without retries: servers close connections that are about to be used, and
/// answer 500 or 503 now and then.
fn fixture(site: &Site, change: impl FnOnce(&mut S3Options)) -> Fixture {
    let mut options = site.options.clone();
    change(&mut options);
    Fixture::new(Arc::new(S3::new(fresh(site.bucket), options).unwrap()), ()).around(super::retry)
}

fn racy() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        static SERVER: OnceLock<S3Server> = OnceLock::new();
        probed(BUCKET, SERVER.get_or_init(S3Server::start_racy).options())
    })
}

/// A server in this process whose conditional puts are not atomic.
pub fn s3s_racy() -> Fixture {
    fixture(racy(), |_| {})
}

fn in_process() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        static SERVER: OnceLock<S3Server> = OnceLock::new();
        probed(BUCKET, SERVER.get_or_init(S3Server::start).options())
    })
}

/// The server in this process.
pub fn s3s() -> Fixture {
    fixture(in_process(), |_| {})
}

/// The same with objects of more than 5 MiB in parts, and SHA-256.
pub fn s3s_in_parts() -> Fixture {
    fixture(in_process(), |options| {
        options.multipart = Some(Multipart { from_bytes: 5 << 20, part_bytes: 5 << 20, at_a_time: 3 });
        options.checksums = Checksums::Sha256;
    })
}

/// The same, of which nothing was probed: it looks first and sends the condition too.
pub fn s3s_unprobed() -> Fixture {
    fixture(in_process(), |options| options.conditional_put = ConditionalPut::Unknown)
}

/// A real server outside, which `scripts/with-services` starts and names: moto, or Garage.
fn outside() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let (bucket, options) = s3_server::outside();
        let mut site = probed(bucket, options);
        if s3_server::outside_kind() == "moto" {
            // It looks, then writes, and is mostly lucky: what a probe finds changes from run to run.
            site.options.conditional_put = ConditionalPut::Ignored;
        }
        site
    })
}

/// The server outside.
pub fn server() -> Fixture {
    fixture(outside(), |_| {})
}

/// The same, with parts.
pub fn server_in_parts() -> Fixture {
    fixture(outside(), |options| {
        options.multipart = Some(Multipart { from_bytes: 5 << 20, part_bytes: 5 << 20, at_a_time: 3 });
    })
}

/// What the services are known to do, measured: a probe that finds something else is wrong.
#[test]
fn the_probe_finds_what_the_servers_are_known_to_do() {
    let (s3s, racy, outside) = (&in_process().findings, &racy().findings, &outside().findings);
    assert!(s3s.conditional_put(), "{s3s:?}");
    assert!(racy.refuses_second_put && racy.race_winners > 1, "{racy:?}");
    match s3_server::outside_kind().as_str() {
        // Of many who race one wins as a rule, and now and then more do.
        "moto" => assert!(outside.refuses_second_put && outside.race_winners >= 1, "{outside:?}"),
        "garage" => assert!(!outside.refuses_second_put && outside.race_winners > 1, "{outside:?}"),
        other => panic!("nothing is known of {other}"),
    }
    for findings in [s3s, racy, outside] {
        assert!(findings.ranges && findings.left_behind.is_none(), "{findings:?}");
        assert!(findings.clock_ahead_secs.abs() < 2.0, "{findings:?}");
        assert!(findings.list_lag_after_put.is_some() && findings.list_lag_after_delete.is_some());
    }
}
