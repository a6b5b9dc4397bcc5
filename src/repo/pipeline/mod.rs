//! The one write pipeline: streams -> chunks -> ids -> (known? refer) -> blobs -> zstd ->
//! verify -> age -> packs -> store -> index.
//!
//! Four kinds of threads, joined by bounded channels: *readers* run streams and cut chunks,
//! *sealers* compress, verify and encrypt, one *packer* fills packs, *uploaders* store them and the
//! index objects that name them. A budget bounds the bytes under way. The first failure of any
//! thread stops all.

pub mod budget;
mod capture;
mod stages;
mod stream;

pub use capture::{CaptureStats, SinkOptions, SourceCapture};
pub use stages::pack_rows;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::model::{ChunkId, Content, EpochId, Error, PackId, PartyId, Result, Time};
use crate::ports::Cancel;

use super::format::{EpochKind, Totals};
use super::index::{Index, Location};
use super::layout::{BlobAt, PackKind};
use super::limits::{CHUNK_MAX_BYTES, GROUP_MAX_BYTES, PACK_TARGET_BYTES};
use super::reader::Reader;
use super::repository::Repository;
use super::session::Condemnation;
use budget::{Budget, Permit};

/// How a pipeline is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of memory that the whole backup should stay near.
    pub memory_bytes: u64,
    /// Threads for readers and for sealers, each.
    pub threads: usize,
    /// Threads that store packs.
    pub uploads: usize,
    /// Count only: nothing is sealed or stored.
    pub dry_run: bool,
    /// Blobs that new chunks are not deduplicated against, beside those that marks name.
    pub avoid: HashSet<BlobAt>,
    /// The store's time at which the session began.
    pub began: Time,
    /// Set when somebody asks to stop: every stage ends, and what is stored by then is indexed.
    pub cancel: Cancel,
}

/// What a reader thread and a sealer hold beside the budget: a buffer of 8 MiB, a blob compressed and
/// opened again, and zstd's tables.
const THREAD_BYTES: u64 = 16 << 20;

/// How many threads fit: half of the memory is for bytes under way, the other half for what threads
/// hold themselves.
pub fn threads_for(memory_bytes: u64, cores: usize) -> usize {
    let fit = (memory_bytes / 2 / THREAD_BYTES).max(1);
    cores.clamp(1, usize::try_from(fit).unwrap_or(1))
}

/// What one grouper may hold while it waits for more.
const HELD_BY_GROUPER_BYTES: u64 = GROUP_MAX_BYTES as u64;
/// Groupers of one reader: content and recipes.
const GROUPERS_OF_READER: u64 = 2;
/// Groupers beside the readers': a source's catalogue, and content and recipe of its facts.
const GROUPERS_BESIDE: u64 = 3;

impl Options {
    /// A pack is closed when it has this many bytes. Open packs hold part of the budget, and
    /// so must stay well below the whole.
    fn pack_target_bytes(&self) -> u64 {
        PACK_TARGET_BYTES.min(self.memory_bytes / 8)
    }

    /// What can be held for long by those who wait for more, with so many readers, beside room for
    /// the largest chunk: with less than this they could all wait for one another.
    fn least_budget_bytes(&self, threads: u64) -> u64 {
        let open_packs = 2 * (self.pack_target_bytes() + CHUNK_MAX_BYTES as u64);
        let groupers = threads * GROUPERS_OF_READER + GROUPERS_BESIDE;
        open_packs + groupers * HELD_BY_GROUPER_BYTES + CHUNK_MAX_BYTES as u64
    }

    /// No more threads than memory is enough for, but one at least.
    fn fitted(mut self) -> Self {
        let mut threads = threads_for(self.memory_bytes, self.threads);
        while threads > 1 && self.least_budget_bytes(threads as u64) > self.memory_bytes / 2 {
            threads -= 1;
        }
        self.threads = threads;
        self.uploads = self.uploads.max(1);
        self
    }

    /// Bytes that may be under way. Where `memory_bytes` is too little for anything, what one
    /// thread needs.
    fn budget_bytes(&self) -> u64 {
        (self.memory_bytes / 2).max(self.least_budget_bytes(self.threads as u64))
    }
}

/// Figures of a running pipeline, for progress displays.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entries captured.
    pub items: AtomicU64,
    /// Bytes of content gone through, unchanged content included.
    pub bytes: AtomicU64,
    /// Bytes read from sources.
    pub bytes_read: AtomicU64,
    /// Plain bytes of new chunks.
    pub bytes_new: AtomicU64,
    /// Sealed bytes stored.
    pub bytes_stored: AtomicU64,
    /// New chunks.
    pub chunks_new: AtomicU64,
    /// Chunks that were known.
    pub chunks_known: AtomicU64,
    /// Packs stored.
    pub packs: AtomicU64,
    /// Index objects stored.
    pub index_objects: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// As they stand in a manifest.
    pub fn totals(&self) -> Totals {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        Totals {
            bytes_new: get(&self.bytes_new),
            bytes_stored: get(&self.bytes_stored),
            chunks_new: get(&self.chunks_new),
            packs: get(&self.packs),
        }
    }
}

/// New chunks on their way to become one blob.
struct SealJob {
    kind: PackKind,
    chunks: Vec<(ChunkId, u32)>,
    plain: Vec<u8>,
    permit: Permit,
}

/// State that all threads share.
pub(crate) struct Shared<'r> {
    pub(crate) repo: &'r Repository,
    pub(crate) index: &'r Index,
    pub(crate) counters: Arc<Counters>,
    pub(crate) options: Options,
    own: PartyId,
    trusted_sealers: Vec<PartyId>,
    /// Packs that are there whole, with what is known of them.
    present: RwLock<HashMap<PackId, (PackKind, u64)>>,
    condemned: Condemnation,
    claims: Vec<Mutex<HashSet<ChunkId>>>,
    /// Packs that this run refers to, with their sizes.
    referenced: RwLock<HashMap<PackId, u64>>,
    budget: Arc<Budget>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    data_epoch: (EpochId, age::x25519::Recipient),
    meta_epoch: (EpochId, age::x25519::Recipient),
}

const CLAIM_SHARDS: usize = 64;

impl<'r> Shared<'r> {
    fn new(
        repo: &'r Repository,
        index: &'r Index,
        options: Options,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        let own = repo.writer()?.sign.party();
        let mut trusted_sealers = vec![own];
        trusted_sealers
            .extend(repo.trusted().writer(&own).map(|w| w.shares_with.clone()).unwrap_or_default());
        let (data_id, data) = repo.current_epoch(EpochKind::Data)?;
        let (meta_id, meta) = repo.current_epoch(EpochKind::Meta)?;
        // Read after the session was announced: the caller's order.
        let mut condemned = repo.condemned(options.began)?;
        condemned.sparse.extend(&options.avoid);
        let present = RwLock::new(whole_packs(repo.list_packs()?, index, &trusted_sealers));
        Ok(Self {
            own,
            trusted_sealers,
            present,
            condemned,
            claims: (0..CLAIM_SHARDS).map(|_| Mutex::default()).collect(),
            referenced: RwLock::default(),
            budget: Budget::new(options.budget_bytes()),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            data_epoch: (data_id, data.clone()),
            meta_epoch: (meta_id, meta.clone()),
            counters,
            options,
            repo,
            index,
        })
    }

    /// Keeps the first failure and stops everybody.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        // An echo may be heard before the failure itself is recorded.
        if failure.as_ref().is_none_or(is_echo) {
            *failure = Some(error);
        }
        self.failed.store(true, Ordering::Release);
        self.budget.close();
    }

    /// Whether nothing more can succeed: something failed, or somebody asked to stop.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire) || self.options.cancel.is_cancelled()
    }

    /// An error once nothing more can succeed.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.has_failed() { Err(budget::stopped()) } else { Ok(()) }
    }

    fn shard(&self, id: &ChunkId) -> &Mutex<HashSet<ChunkId>> {
        &self.claims[usize::from(id.0[0]) % CLAIM_SHARDS]
    }

    /// A stored place that may be referred to: of a trusted sealer, there, and not condemned. Whoever
    /// has the plaintext passes over mostly dead blobs, so that these do not stay for one chunk's sake.
    fn stored(&self, id: &ChunkId, has_plaintext: bool) -> Result<Option<Location>> {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        self.index.find(id, &|signer, at| {
            self.trusted_sealers.contains(&signer)
                && holds(&present, at)
                && !self.condemned.shuns(&at.pack)
                && !(has_plaintext && self.condemned.sparse.contains(&(at.pack, at.offset)))
        })
    }

    fn size_of(&self, pack: &PackId) -> u64 {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        present.get(pack).map_or(0, |(_, size)| *size)
    }

    fn refer(&self, pack: PackId, size: u64) {
        if !self.referenced.read().unwrap_or_else(PoisonError::into_inner).contains_key(&pack) {
            self.referenced.write().unwrap_or_else(PoisonError::into_inner).insert(pack, size);
        }
    }

    /// Whether the chunk is stored or on its way; if not, the caller has claimed it and must
    /// send it on.
    fn is_known_or_claim(&self, id: &ChunkId) -> Result<bool> {
        if self.shard(id).lock().unwrap_or_else(PoisonError::into_inner).contains(id) {
            return Ok(true);
        }
        if let Some(at) = self.stored(id, true)? {
            self.refer(at.pack, self.size_of(&at.pack));
            return Ok(true);
        }
        Ok(!self.shard(id).lock().unwrap_or_else(PoisonError::into_inner).insert(*id))
    }

    /// Whether the chunk is stored or on its way, without claiming it.
    pub(crate) fn is_known(&self, id: &ChunkId) -> Result<bool> {
        if self.shard(id).lock().unwrap_or_else(PoisonError::into_inner).contains(id) {
            return Ok(true);
        }
        let at = self.stored(id, false)?;
        if let Some(at) = &at {
            self.refer(at.pack, self.size_of(&at.pack));
        }
        Ok(at.is_some())
    }

    /// A pack of this run is in the store.
    fn arrived(&self, pack: PackId, kind: PackKind, size: u64) {
        self.present.write().unwrap_or_else(PoisonError::into_inner).insert(pack, (kind, size));
        self.refer(pack, size);
    }

    /// Forgets claims that the index now answers for.
    fn release_claims(&self, ids: impl Iterator<Item = ChunkId>) {
        for id in ids {
            self.shard(&id).lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }
}

/// Packs of which the listed size is the one that the index knows: a truncated pack must not be
/// deduplicated against.
fn whole_packs(
    mut listed: HashMap<PackId, (PackKind, u64)>,
    index: &Index,
    trusted: &[PartyId],
) -> HashMap<PackId, (PackKind, u64)> {
    // Only what trusted parties say counts: a false size must not make anybody store everything anew.
    let is_trusted = |owner: Option<PartyId>| owner.is_some_and(|owner| trusted.contains(&owner));
    for segment in index.segments().iter().filter(|s| is_trusted(s.owner())) {
        for pack in segment.packs() {
            if listed.get(&pack.id).is_some_and(|there| *there != (pack.kind, pack.size)) {
                tracing::warn!(pack = %pack.id, "a pack has another size than the index says: what it held is stored anew; run `muster check`");
                listed.remove(&pack.id);
            }
        }
    }
    listed
}

/// Whether a place lies in a pack that is there.
fn holds(present: &HashMap<PackId, (PackKind, u64)>, at: &Location) -> bool {
    present.get(&at.pack).is_some_and(|(kind, size)| {
        *kind == at.kind && u64::from(at.offset) + u64::from(at.sealed_len) <= *size
    })
}

/// What a finished pipeline tells.
pub struct Written<T> {
    /// What the closure answered.
    pub value: T,
    /// Packs that the point refers to or that this run stored, with their sizes.
    pub referenced: HashMap<PackId, u64>,
}

/// A running pipeline, as its users see it.
pub struct Pipeline<'p, 'r> {
    pub(crate) shared: &'p Shared<'r>,
    work: Sender<capture::Batch>,
    seal: Sender<SealJob>,
}

/// Runs `body` with a pipeline. When it returns, everything is stored and indexed.
pub fn run<T>(
    repo: &Repository,
    index: &Index,
    options: Options,
    counters: Arc<Counters>,
    body: impl FnOnce(&Pipeline<'_, '_>) -> Result<T>,
) -> Result<Written<T>> {
    let options = options.fitted();
    let (threads, uploads) = (options.threads, options.uploads);
    let shared = Shared::new(repo, index, options, counters)?;
    let result = std::thread::scope(|scope| {
        let shared = &shared;
        let (work_in, work_out): (_, Work) = bounded::<capture::Batch>(threads * 2);
        let (seal_in, seal_out) = bounded::<SealJob>(threads * 2);
        let (pack_in, pack_out) = bounded::<stages::Sealed>(threads * 4);
        let (upload_in, upload_out) = bounded::<stages::Ready>(1);
        let (done_in, done_out) = bounded::<stages::Stored>(uploads * 2);
        for n in 0..threads {
            let (work, seal) = (work_out.clone(), seal_in.clone());
            spawn(scope, shared, format!("read-{n}"), move || capture::reader(shared, &work, &seal));
            let (seal, pack) = (seal_out.clone(), pack_in.clone());
            spawn(scope, shared, format!("seal-{n}"), move || stages::sealer(shared, &seal, &pack));
        }
        spawn(scope, shared, "pack".to_owned(), move || stages::packer(shared, &pack_out, &upload_in));
        for n in 0..uploads {
            let (upload, done) = (upload_out.clone(), done_in.clone());
            spawn(scope, shared, format!("upload-{n}"), move || stages::uploader(shared, &upload, &done));
        }
        let indexer = spawn(scope, shared, "index".to_owned(), move || stages::indexer(shared, &done_out));
        // Only the threads may hold the ends they use, or nobody would ever see the end.
        drop((work_out, seal_out, pack_in, upload_out, done_in));
        let pipeline = Pipeline { shared, work: work_in, seal: seal_in };
        let result = body(&pipeline);
        if result.is_err() {
            shared.fail(budget::stopped());
        }
        drop(pipeline);
        let _ = indexer.map(std::thread::ScopedJoinHandle::join);
        result
    });
    // What really went wrong is the first failure, unless the body has a reason of its own.
    let failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    let error = match (result, failure) {
        (Ok(value), None) => {
            let referenced = shared.referenced.into_inner().unwrap_or_else(PoisonError::into_inner);
            return Ok(Written { value, referenced });
        }
        (Ok(_), Some(failure)) => failure,
        (Err(error), Some(failure)) if is_echo(&error) => failure,
        (Err(error), _) => error,
    };
    // A stage that stops because somebody asked it to says only that it stopped.
    if is_echo(&error) {
        shared.options.cancel.check()?;
    }
    Err(error)
}

fn is_echo(error: &Error) -> bool {
    error.why() == budget::stopped().why()
}

fn spawn<'scope, 'env, 'r: 'scope>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    shared: &'scope Shared<'r>,
    name: String,
    work: impl FnOnce() -> Result<()> + Send + 'scope,
) -> Option<std::thread::ScopedJoinHandle<'scope, ()>> {
    let guarded = move || match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => shared.fail(error),
        Err(_) => shared.fail(Error::internal("run the pipeline", "a thread panicked")),
    };
    match std::thread::Builder::new().name(name).spawn_scoped(scope, guarded) {
        Ok(handle) => Some(handle),
        Err(error) => {
            shared.fail(Error::io("start a thread", "the pipeline", error));
            None
        }
    }
}

impl Pipeline<'_, '_> {
    /// Stores bytes as data and answers with their recipe: for facts.
    pub fn store_data(&self, bytes: &[u8]) -> Result<Content> {
        stream::store_bytes(self.shared, &self.seal, bytes)
    }

    /// Stores chunks anew, as chunks of the same kind, unless they stand in a blob that need not be avoided.
    /// `each` is called before each of them.
    pub fn store_again(
        &self,
        kind: PackKind,
        reader: &Reader<'_>,
        chunks: &[ChunkId],
        each: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        stream::store_again(self.shared, &self.seal, kind, reader, chunks, each)
    }

    /// Whether some thread has failed, so that nothing more can succeed.
    pub fn has_failed(&self) -> bool {
        self.shared.has_failed()
    }
}

type Work = Receiver<capture::Batch>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_memory_nobody_can_wait_for_ever() {
        for memory_mib in [0, 1, 8, 16, 64, 128, 256, 4096] {
            for threads in [0, 1, 2, 8, 64, 1000] {
                let asked = Options {
                    memory_bytes: memory_mib << 20,
                    threads,
                    uploads: 2,
                    dry_run: false,
                    avoid: HashSet::new(),
                    began: Time::new(0, 0),
                    cancel: Cancel::default(),
                };
                let fitted = asked.fitted();
                assert!(fitted.threads >= 1 && fitted.threads <= threads.max(1));
                assert!(fitted.budget_bytes() >= fitted.least_budget_bytes(fitted.threads as u64));
                // The usual setting keeps its threads and its bound.
                if memory_mib >= 256 && threads <= 8 {
                    assert_eq!((fitted.threads, fitted.budget_bytes()), (threads.max(1), memory_mib << 19));
                }
            }
        }
    }
}
