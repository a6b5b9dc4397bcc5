//! A bucket with Object Lock: the server answers a delete of a locked object with yes, hides it, and
//! keeps its bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetention,
    ObjectLockRetentionMode, ObjectLockRule,
};
use muster::jobs::prune::{PruneRequest, Settings, prune};
use muster::jobs::retention::{RetentionRequest, retention};
use muster::model::error::Exit;
use muster::model::{ObjectName, Result};
use muster::policy::retention::Keep;
use muster::ports::{Cancel, Capabilities, ObjectMeta, Put, Store};
use muster::repo::index::Index;
use muster::repo::layout;
use muster::repo::repository::Repository;
use muster::report::outcome::{Outcome, Prune};
use muster::report::progress::{Progress, ProgressMode};
use muster::stores::S3;
use muster::stores::s3::{Address, ConditionalPut, S3Options};
use muster::stores::wrap::{RealPace, Retry, RetryPolicy};
use muster::sys::{OsEntropy, RealClock};

use super::s3_server::{self, outside_kind};
use super::set::{Keys, Set, holds, run_at};

const HOURS: i64 = 3 * 3600;
/// Over the grace period.
const A_DAY: i64 = 26 * 3600;

/// A store whose objects can be made older than the server says.
struct Aged {
    inner: Arc<dyn Store>,
    older_secs: Mutex<HashMap<ObjectName, i64>>,
}

impl Aged {
    /// Makes everything that is there so much older.
    fn pass(&self, secs: i64) {
        let names = self.names("");
        let mut older = self.older_secs.lock().unwrap();
        names.into_iter().for_each(|name| *older.entry(name).or_default() += secs);
    }

    fn names(&self, prefix: &str) -> Vec<ObjectName> {
        let mut names = Vec::new();
        self.inner
            .list(prefix, &mut |meta| {
                names.push(meta.name);
                Ok(())
            })
            .unwrap();
        names
    }

    fn aged(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let older = self.older_secs.lock().unwrap().get(&meta.name).copied().unwrap_or(0);
        meta.stored_at = meta.stored_at.plus_secs(-older);
        meta
    }
}

impl Store for Aged {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<Put> {
        self.inner.put(name, parts)
    }
    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.inner.get(name, limit)
    }
    fn get_range(&self, name: &ObjectName, at: u64, len: u64) -> Result<Vec<u8>> {
        self.inner.get_range(name, at, len)
    }
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectMeta>> {
        Ok(self.inner.stat(name)?.map(|meta| self.aged(meta)))
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, &mut |meta| visit(self.aged(meta)))
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }
    fn lock(&self, name: &ObjectName) -> Result<Option<String>> {
        self.inner.lock(name)
    }
}

/// What an administrator of the bucket does, with the SDK alone.
struct Administrator {
    client: Client,
    runtime: tokio::runtime::Runtime,
    bucket: String,
}

impl Administrator {
    fn new(bucket: &str, options: &S3Options) -> Self {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(options.endpoint.clone().unwrap())
            .force_path_style(true)
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { client: Client::from_conf(config), runtime, bucket: bucket.to_owned() }
    }

    /// Makes the bucket, with every new object locked for a day.
    fn make(&self) {
        let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Compliance).days(1).build();
        let lock = ObjectLockConfiguration::builder()
            .object_lock_enabled(ObjectLockEnabled::Enabled)
            .rule(ObjectLockRule::builder().default_retention(retention).build())
            .build();
        self.runtime.block_on(async {
            let make = self.client.create_bucket().bucket(&self.bucket);
            make.object_lock_enabled_for_bucket(true).send().await.unwrap();
            let set = self.client.put_object_lock_configuration().bucket(&self.bucket);
            set.object_lock_configuration(lock).send().await.unwrap();
        });
    }

    /// As if the time of an object's lock were over.
    fn unlock(&self, name: &ObjectName) {
        let over = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(over.into())
            .build();
        self.runtime.block_on(async {
            let put = self.client.put_object_retention().bucket(&self.bucket).key(format!("app/{name}"));
            put.bypass_governance_retention(true).retention(retention).send().await.unwrap();
        });
    }
}

fn run_prune(repo: &Repository, dry_run: bool) -> Prune {
    let (progress, cancel) = (Progress::new(ProgressMode::Quiet), Cancel::default());
    let request = PruneRequest {
        settings: Settings { max_repack_bytes: None, repack_percent: 25, delete: true },
        compact: false,
        accept_missing_points: false,
        dry_run,
        threads: 1,
        memory_bytes: 1 << 20,
        clock: &RealClock,
        entropy: &OsEntropy,
        progress: &progress,
        cancel: &cancel,
    };
    prune(repo, &request).unwrap()
}

/// The one point that stays is whole, for somebody without a cache.
fn is_whole(keys: &Keys, store: &Arc<Aged>, kept: &Set) {
    let cache = tempfile::tempdir().unwrap();
    let repo = keys.open(store.clone(), cache.path(), true).unwrap();
    let (index, report) = Index::sync(&repo).unwrap();
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    let list = repo.points().unwrap();
    assert_eq!((list.points.len(), list.gaps().len(), list.vanished.len()), (1, 0, 0));
    assert!(holds(&repo, &index, &list.points[0].point, kept).unwrap(), "a point is hurt");
}

#[test]
fn what_object_lock_holds_is_told_and_kept_in_sight() {
    // Garage has no Object Lock, and there is nothing to try.
    if outside_kind() == "garage" {
        return;
    }
    let bucket = format!("locked-{}", std::process::id());
    let options = S3Options { conditional_put: ConditionalPut::Ignored, ..s3_server::outside().1 };
    let administrator = Administrator::new(&bucket, &options);
    administrator.make();
    let s3 = Arc::new(S3::new(Address::parse(&format!("{bucket}/app")).unwrap(), options).unwrap());
    let pace = Arc::new(RealPace::new(Cancel::default()));
    let inner = Arc::new(Retry::new(s3, RetryPolicy::default(), Arc::new(OsEntropy), pace));
    let store = Arc::new(Aged { inner, older_secs: Mutex::default() });

    let (keys, cache) = (Keys::new(), tempfile::tempdir().unwrap());
    keys.create_in(&*store);
    let repo = keys.open(store.clone(), cache.path(), false).unwrap();
    let (removed, kept) = (Set::version(1, 6), Set::version(2, 6));
    for set in [&removed, &kept] {
        run_at(&repo, set, 16 << 20, 2, &RealClock).unwrap();
    }
    let keep = [("app".to_owned(), Keep { last: Some(1), within_secs: None })].into();
    let request = RetentionRequest { keep, dry_run: false, clock: &RealClock, entropy: &OsEntropy };
    assert_eq!(retention(&repo, &request).unwrap().removed, 1);
    store.pass(HOURS);
    let marked = run_prune(&repo, false);
    assert!(marked.packs_condemned > 2 && marked.packs_locked == 0, "{marked:?}");
    store.pass(A_DAY);

    // All are locked, and then all but one of those that are to be deleted.
    let all = run_prune(&repo, true);
    assert_eq!((all.packs_deleted, all.bytes.deleted), (0, 0), "{all:?}");
    assert!(all.packs_locked > 2 && all.warnings.iter().any(|w| w.contains("locked until")), "{all:?}");
    let packs = store.names(layout::PACKS);
    let free = packs.iter().find(|pack| {
        administrator.unlock(pack);
        run_prune(&repo, true).packs_deleted == 1
    });
    let (free, dry) = (free.unwrap(), run_prune(&repo, true));
    let done = run_prune(&repo, false);
    assert_eq!((done.packs_deleted, done.packs_locked), (1, all.packs_locked - 1), "{done:?}");
    assert_eq!((&done.bytes, done.bytes.locked + done.bytes.deleted), (&dry.bytes, all.bytes.locked));
    assert_eq!(done.exit(), Exit::Partial);
    let left: Vec<ObjectName> = packs.iter().filter(|pack| *pack != free).cloned().collect();
    assert_eq!(store.names(layout::PACKS), left, "what is locked is not hidden");
    is_whole(&keys, &store, &kept);

    // Once the locks are over the rest goes.
    left.iter().for_each(|pack| administrator.unlock(pack));
    let done = run_prune(&repo, false);
    assert_eq!((done.packs_deleted, done.packs_locked), (all.packs_locked - 1, 0), "{done:?}");
    assert_eq!(done.exit(), Exit::Done);
    is_whole(&keys, &store, &kept);
}
