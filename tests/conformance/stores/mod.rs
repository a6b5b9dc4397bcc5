//! One line for every store: all of them pass the one suite in `suite`.

use std::any::Any;
use std::sync::Arc;

use muster::model::ObjectName;
use muster::ports::{Cancel, Store};
use muster::stores::local::Publish;
use muster::stores::wrap::{Fault, FaultPlan, Limit, Limits, Pace, ReadOnly, RealPace, Retry, RetryPolicy};
use muster::stores::{Local, Mem};
use muster::sys::OsEntropy;

mod local;
mod s3;
mod s3_doubts;
mod s3_faults;
mod suite;
mod wrap;

/// A store under test.
pub struct Fixture {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What puts objects there for tests of reading; the same store, unless that only reads.
    pub writer: Arc<dyn Store>,
    _keep: Box<dyn Any>,
}

impl Fixture {
    fn new(store: Arc<dyn Store>, keep: impl Any) -> Self {
        Self { writer: store.clone(), store, _keep: Box::new(keep) }
    }

    fn around(self, wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        let store = wrap(self.store);
        Self { writer: store.clone(), store, _keep: self._keep }
    }
}

pub fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn mem() -> Fixture {
    Fixture::new(Arc::new(Mem::default()), ())
}

fn local_by(publish: Publish) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::create(&dir.path().join("repository")).unwrap().with_publish(publish);
    Fixture::new(Arc::new(store), dir)
}

fn local() -> Fixture {
    local_by(Publish::Rename)
}

fn pace() -> Arc<dyn Pace> {
    Arc::new(RealPace::new(Cancel::default()))
}

fn retry(inner: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(Retry::new(inner, RetryPolicy::default(), Arc::new(OsEntropy), pace()))
}

fn limit(inner: Arc<dyn Store>) -> Arc<dyn Store> {
    let limits = Limits {
        upload_bytes_per_sec: Some(1 << 40),
        download_bytes_per_sec: Some(1 << 40),
        concurrent_requests: Some(2),
    };
    Arc::new(Limit::new(inner, limits, pace()))
}

fn fault(inner: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(Fault::new(inner, FaultPlan::none()))
}

fn everything(inner: Arc<dyn Store>) -> Arc<dyn Store> {
    retry(limit(fault(inner)))
}

fn read_only(fixture: Fixture) -> Fixture {
    Fixture { store: Arc::new(ReadOnly::new(fixture.store.clone())), ..fixture }
}

macro_rules! reading {
    ($make:expr) => {
        crate::stores::tests_of! { $make;
            get_gives_what_was_put, get_over_the_limit_is_limit, missing_objects,
            ranges_are_exact, ranges_beyond_the_end_are_damaged, stat_tells_size_and_store_time,
            list_is_in_byte_order_by_prefix, list_of_nothing_is_empty, list_refuses_half_prefixes,
            list_ends_with_the_visitors_error, list_may_be_used_while_listing,
        }
    };
}

macro_rules! writing {
    ($make:expr) => {
        crate::stores::tests_of! { $make;
            put_creates_once, empty_object, big_object, racing_puts_have_one_winner,
            racing_puts_of_many_names, a_reader_never_sees_half, delete_removes,
            any_history_is_that_of_a_map,
        }
    };
}

macro_rules! tests_of {
    ($make:expr; $($test:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                crate::stores::suite::$test(&|| $make);
            }
        )*
    };
}

macro_rules! conforms {
    ($store:ident, $make:expr) => {
        mod $store {
            #[allow(unused_imports, reason = "each line names what it needs")]
            use super::*;
            crate::stores::reading! { $make }
            crate::stores::writing! { $make }
        }
    };
}

use {reading, tests_of, writing};

conforms!(on_mem, mem());
conforms!(on_local, local());
conforms!(on_local_by_link, local_by(Publish::Link));
conforms!(on_local_by_lock, local_by(Publish::Lock));
conforms!(on_s3s, s3::s3s());
conforms!(on_s3s_in_parts, s3::s3s_in_parts());
conforms!(on_s3s_unprobed, s3::s3s_unprobed());
conforms!(on_s3s_racy, s3::s3s_racy());
conforms!(on_server, s3::server());
conforms!(on_server_in_parts, s3::server_in_parts());
conforms!(on_retry_around_mem, mem().around(retry));
conforms!(on_retry_around_local, local().around(retry));
conforms!(on_limit_around_mem, mem().around(limit));
conforms!(on_limit_around_local, local().around(limit));
conforms!(on_fault_around_mem, mem().around(fault));
conforms!(on_fault_around_local, local().around(fault));
conforms!(on_everything_around_mem, mem().around(everything));
conforms!(on_everything_around_local, local().around(everything));

mod on_read_only {
    use super::*;
    reading! { read_only(mem()) }
}

mod on_read_only_around_local {
    use super::*;
    reading! { read_only(local()) }
}
