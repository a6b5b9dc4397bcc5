//! The set of segments that stands for the index objects of a repository.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use crate::model::{ChunkId, Error, ErrorKind, Hash, ObjectName, PackId, PartyId, Result};
use crate::repo::layout;
use crate::repo::limits::INDEX_OBJECT_MAX_BYTES;
use crate::repo::repository::Repository;
use crate::repo::sign::{Kind, PublicKey};

use super::object::{NOBODY, SignAndSeal, build_object, open_root};
use super::segment::{Segment, SegmentWriter, merge, merged_rows};
use super::{Location, Row};

/// More segments of one signer than this are merged into one on this host.
const SEGMENTS_MAX: usize = 8;
/// More index objects of one writer than this are merged in the store.
const OBJECTS_MAX: usize = 16;
/// Most rows that are merged into one index object; bounds its size and the memory to write it.
const COMPACT_ROWS_MAX: usize = 1_000_000;

/// The index as this host has it.
pub struct Index {
    dir: PathBuf,
    segments: RwLock<Vec<Arc<Segment>>>,
}

/// What a sync found.
#[derive(Debug, Default)]
pub struct SyncReport {
    /// Index objects in the store.
    pub objects: usize,
    /// Objects that were fetched.
    pub fetched: usize,
    /// Objects that were passed over, and why. Their chunks are unknown until `repair index`.
    pub refused: Vec<(ObjectName, Error)>,
    /// Every object that is listed, sorted.
    pub listed: Vec<Hash>,
    /// Those of them that this host signed, replaced ones among them; sorted.
    pub own: Vec<Hash>,
    /// Listed objects that others of the same signer replace, and those others.
    pub superseded_by: HashMap<Hash, HashSet<Hash>>,
}

impl SyncReport {
    /// Objects whose bytes are not what their names say.
    pub fn damaged(&self) -> impl Iterator<Item = Hash> {
        let damaged = self.refused.iter().filter(|(_, error)| error.kind() == ErrorKind::Damaged);
        damaged.filter_map(|(name, _)| layout::parse_index(name))
    }
}

/// What replaces what. An object can only replace objects of its own signer: otherwise one bad
/// host could make the others' chunks unfindable.
#[derive(Default)]
struct Standing {
    /// `(signer, hash)` to the objects in which this signer says that the object is replaced.
    claims: HashMap<(PartyId, Hash), HashSet<Hash>>,
    /// Objects of which that is so, because the party here signed them too.
    replaced: HashMap<Hash, PartyId>,
}

impl Index {
    /// Brings this host's cache up to what the store has now.
    pub fn sync(repo: &Repository) -> Result<(Self, SyncReport)> {
        Self::sync_into(repo, repo.cache_dir().join("index"))
    }

    /// The same with a cache of its own in `dir`; in an empty folder every object is read and
    /// verified anew.
    pub fn sync_into(repo: &Repository, dir: PathBuf) -> Result<(Self, SyncReport)> {
        prepare_dir(&dir, repo.trusted().config.revocations.len())?;
        let mut listed = HashSet::new();
        let mut report = SyncReport::default();
        repo.store().list(layout::INDEX, &mut |meta| {
            match layout::parse_index(&meta.name) {
                Some(hash) => {
                    listed.insert(hash);
                }
                None => report.refused.push((
                    meta.name,
                    Error::new(ErrorKind::Damaged, "read the index", "its name is not one of ours"),
                )),
            }
            Ok(())
        })?;
        report.objects = listed.len();
        let mut standing = Standing::default();
        let mut segments = open_segments(&dir, &listed)?;
        standing.load(&dir, &listed);
        let mut refused: HashSet<Hash> = HashSet::new();
        loop {
            segments.retain(|segment| {
                let stale = standing.is_stale(segment);
                if stale {
                    let _ = std::fs::remove_file(segment.path());
                }
                !stale
            });
            let covered: HashSet<Hash> = segments.iter().flat_map(|s| s.objects().iter().copied()).collect();
            let mut missing: Vec<Hash> = listed
                .iter()
                .filter(|h| {
                    !covered.contains(h) && !refused.contains(h) && !standing.replaced.contains_key(h)
                })
                .copied()
                .collect();
            missing.sort();
            if missing.is_empty() {
                break;
            }
            for hash in missing {
                match fetch(repo, &dir, &hash, &mut standing) {
                    Ok(Some(segment)) => segments.push(Arc::new(segment)),
                    Ok(None) => {}
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::Damaged
                                | ErrorKind::Untrusted
                                | ErrorKind::WrongKey
                                | ErrorKind::NotFound
                                | ErrorKind::Unsupported
                        ) =>
                    {
                        refused.insert(hash);
                        report.refused.push((layout::index(&hash), error));
                    }
                    Err(error) => return Err(error),
                }
                report.fetched += 1;
            }
        }
        standing.save(&dir, &listed)?;
        report.superseded_by = standing.by_object(&listed);
        if let Ok(keys) = repo.writer() {
            let own = keys.sign.party();
            let current = segments.iter().filter(|s| s.signer() == Some(own)).flat_map(|s| s.objects());
            let replaced = standing.replaced.iter().filter(|(h, by)| **by == own && listed.contains(h));
            report.own = current.chain(replaced.map(|(hash, _)| hash)).copied().collect();
            report.own.sort();
        }
        report.listed = listed.into_iter().collect();
        report.listed.sort();
        let index = Self { dir, segments: RwLock::new(segments) };
        index.merge_local()?;
        Ok((index, report))
    }

    /// Where a chunk is, by the first segment whose owner and place `accept` takes.
    pub fn find(
        &self,
        id: &ChunkId,
        accept: &dyn Fn(PartyId, &Location) -> bool,
    ) -> Result<Option<Location>> {
        for segment in self.segments().iter() {
            let Some(owner) = segment.owner() else { continue };
            if let Some(at) = segment.find(id, &|at| accept(owner, at))? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The mapped segments.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Adds rows of an index object that this host has just stored.
    pub fn add(
        &self,
        own: PartyId,
        object: Hash,
        rows: &[Row],
        pack_size: &dyn Fn(&PackId) -> u64,
    ) -> Result<()> {
        let segment = new_segment(&self.dir, own, object, rows, pack_size)?;
        self.segments.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(Arc::new(segment));
        self.merge_local()
    }

    /// Packs that the index speaks of.
    pub fn packs(&self) -> HashSet<PackId> {
        self.segments().iter().flat_map(|s| s.packs().iter().map(|p| p.id).collect::<Vec<_>>()).collect()
    }

    /// Chunks in all segments, repeats included.
    pub fn len(&self) -> usize {
        self.segments().iter().map(|s| s.len()).sum()
    }

    /// Whether no chunk is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Merges this writer's many small index objects into one that supersedes them. Rows whose
    /// pack `is_there` denies are left out; a condemned pack is still there, and may be spared. Answers with the new object's hash.
    pub fn compact(&self, repo: &Repository, is_there: &dyn Fn(&PackId) -> bool) -> Result<Option<Hash>> {
        let key = &repo.writer()?.sign;
        let own = key.party();
        let mut segments = self.segments();
        segments.retain(|s| s.signer() == Some(own) && s.owner() == Some(own));
        if segments.iter().map(|s| s.objects().len()).sum::<usize>() <= OBJECTS_MAX {
            return Ok(None);
        }
        segments.sort_by_key(|s| s.len());
        let mut rows = 0;
        segments.retain(|s| {
            rows += s.len();
            rows <= COMPACT_ROWS_MAX
        });
        let objects: Vec<Hash> = segments.iter().flat_map(|s| s.objects().iter().copied()).collect();
        if objects.len() < 2 {
            return Ok(None);
        }
        let refs: Vec<&Segment> = segments.iter().map(|s| &**s).collect();
        let hash = self.replace(repo, &refs, objects, is_there)?;
        Ok(Some(hash))
    }

    /// Writes this writer's index objects that name packs that are gone anew, without these.
    pub fn drop_packs(&self, repo: &Repository, is_gone: &dyn Fn(&PackId) -> bool) -> Result<()> {
        let own = repo.writer()?.sign.party();
        for segment in self.segments() {
            let is_own = segment.signer() == Some(own) && segment.owner() == Some(own);
            if is_own && segment.packs().iter().any(|pack| is_gone(&pack.id)) {
                let objects = segment.objects().to_vec();
                self.replace(repo, &[&segment], objects, &|pack| !is_gone(pack))?;
            }
        }
        Ok(())
    }

    /// Puts objects in the place of these segments'; the last of them supersedes the old ones, so that an
    /// interruption takes nothing away. Answers with the last one's hash.
    fn replace(
        &self,
        repo: &Repository,
        segments: &[&Segment],
        mut supersedes: Vec<Hash>,
        is_there: &dyn Fn(&PackId) -> bool,
    ) -> Result<Hash> {
        let own = repo.writer()?.sign.party();
        let sizes: HashMap<PackId, u64> =
            segments.iter().flat_map(|s| s.packs()).map(|p| (p.id, p.size)).collect();
        let size = |id: &PackId| sizes.get(id).copied().unwrap_or(0);
        supersedes.sort();
        supersedes.dedup();
        let mut rows: Vec<Row> = Vec::new();
        let mut written = Vec::new();
        merged_rows(segments, &mut |row| {
            if !is_there(&row.at.pack) || rows.last().is_some_and(|last| last.key() == row.key()) {
                return Ok(());
            }
            if rows.len() >= COMPACT_ROWS_MAX {
                let hash = put_rows(repo, &rows, Vec::new(), &size)?;
                written.push(new_segment(&self.dir, own, hash, &rows, &size)?);
                rows.clear();
            }
            rows.push(row);
            Ok(())
        })?;
        let hash = put_rows(repo, &rows, supersedes, &size)?;
        written.push(new_segment(&self.dir, own, hash, &rows, &size)?);
        let gone: HashSet<PathBuf> = segments.iter().map(|s| s.path().to_owned()).collect();
        {
            let mut all = self.segments.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            all.retain(|s| !gone.contains(s.path()));
            all.extend(written.into_iter().map(Arc::new));
        }
        for path in gone {
            let _ = std::fs::remove_file(path);
        }
        self.merge_local()?;
        Ok(hash)
    }

    fn merge_local(&self) -> Result<()> {
        let mut segments = self.segments.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut by_signer: HashMap<(PartyId, PartyId), Vec<Arc<Segment>>> = HashMap::new();
        for segment in segments.iter() {
            if let (Some(signer), Some(owner)) = (segment.signer(), segment.owner()) {
                by_signer.entry((signer, owner)).or_default().push(segment.clone());
            }
        }
        for (whose, mut of_signer) in by_signer {
            if of_signer.len() <= SEGMENTS_MAX {
                continue;
            }
            // The smaller ones, so that a large segment is seldom copied.
            of_signer.sort_by_key(|s| s.len());
            let largest = of_signer.pop();
            let small: usize = of_signer.iter().map(|s| s.len()).sum();
            if let Some(largest) = largest.filter(|l| l.len() <= small * 2) {
                of_signer.push(largest);
            }
            let refs: Vec<&Segment> = of_signer.iter().map(|s| &**s).collect();
            let objects = refs.iter().flat_map(|s| s.objects().iter().copied()).collect();
            let merged = merge(&refs, &self.dir, &new_path(&self.dir)?, whose, objects)?;
            let gone: HashSet<PathBuf> = of_signer.iter().map(|s| s.path().to_owned()).collect();
            segments.retain(|s| !gone.contains(s.path()));
            segments.push(Arc::new(merged));
            for path in gone {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }
}

/// Stores an index object of this writer's own rows.
fn put_rows(
    repo: &Repository,
    rows: &[Row],
    supersedes: Vec<Hash>,
    size: &dyn Fn(&PackId) -> u64,
) -> Result<Hash> {
    let key = &repo.writer()?.sign;
    let (_, meta) = repo.current_epoch(crate::repo::format::EpochKind::Meta)?;
    let by = SignAndSeal { meta, key, repository: repo.id() };
    let each = rows.iter().map(|row| Ok(*row));
    let object = repo.with_zstd(|zstd| build_object(each, supersedes, key.party(), size, zstd, &by))?;
    repo.put_index(&object)
}

fn new_segment(
    dir: &std::path::Path,
    own: PartyId,
    object: Hash,
    rows: &[Row],
    size: &dyn Fn(&PackId) -> u64,
) -> Result<Segment> {
    let mut writer = SegmentWriter::new(dir, own, own, vec![object])?;
    for row in rows {
        writer.push(row, size(&row.at.pack))?;
    }
    writer.finish(&new_path(dir)?)
}

/// Makes the cache's folder. What was cached before a key was revoked is forgotten, since a
/// segment does not tell with which key of a party it was signed.
fn prepare_dir(dir: &std::path::Path, revocations: usize) -> Result<()> {
    let failed = |e| Error::io("make the index cache", dir.display().to_string(), e);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mark = dir.join("revocations");
    let now = revocations.to_string();
    if std::fs::read_to_string(&mark).is_ok_and(|known| known == now) {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).map_err(failed)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "seg") || path == Standing::path(dir) {
            std::fs::remove_file(&path).map_err(failed)?;
        }
    }
    std::fs::write(&mark, now).map_err(failed)
}

fn new_path(dir: &std::path::Path) -> Result<PathBuf> {
    let mut name = [0u8; 8];
    getrandom::fill(&mut name).map_err(|e| Error::internal("name a cache file", e.to_string()))?;
    Ok(dir.join(format!("{}.seg", crate::model::id::to_hex(&name))))
}

fn open_segments(dir: &std::path::Path, listed: &HashSet<Hash>) -> Result<Vec<Arc<Segment>>> {
    let mut segments = Vec::new();
    let entries = std::fs::read_dir(dir)
        .map_err(|e| Error::io("read the index cache", dir.display().to_string(), e))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "seg") {
            continue;
        }
        match Segment::open(&path) {
            // An object that is no longer listed may have been pruned: what it said may be gone.
            Ok(segment) if segment.objects().iter().all(|o| listed.contains(o)) => {
                segments.push(Arc::new(segment))
            }
            _ => {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
    segments.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(segments)
}

/// Index objects that `key` of `party` signed: what a revocation of it may keep.
pub fn objects_signed_with(repo: &Repository, party: &PartyId, key: &PublicKey) -> Result<Vec<Hash>> {
    let mut hashes = Vec::new();
    repo.store().list(layout::INDEX, &mut |meta| {
        hashes.extend(layout::parse_index(&meta.name));
        Ok(())
    })?;
    let mut signed = Vec::new();
    for hash in hashes {
        let bytes = whole_object(repo, &hash)?;
        match repo.with_zstd(|zstd| Ok(open_root(zstd, &repo.meta_identities(), &bytes)?.envelope)) {
            Ok(envelope) if envelope.signer == *party => {
                if envelope.verify(key, repo.id(), Kind::Index, None).is_ok() {
                    signed.push(hash);
                }
            }
            Ok(_) => {}
            // Its bytes are what they were when it was stored, so nobody can use it, now or later.
            Err(error) if error.is_about_content() => {
                tracing::warn!(%hash, %error, "an index object is not taken")
            }
            Err(error) => return Err(error),
        }
    }
    Ok(signed)
}

/// The bytes of an index object, which are what its name says: fetched twice where they are not.
fn whole_object(repo: &Repository, hash: &Hash) -> Result<Vec<u8>> {
    let name = layout::index(hash);
    for _ in 0..2 {
        let bytes = repo.store().get(&name, INDEX_OBJECT_MAX_BYTES)?;
        if blake3::hash(&bytes).as_bytes() == &hash.0 {
            return Ok(bytes);
        }
    }
    Err(Error::new(ErrorKind::Damaged, "read the index", "its bytes are not what its name says")
        .on(name.to_string())
        .hint("what stands in it would lose its trust for ever: put the object back from a copy and run it again; or remove it, then `muster repair index`"))
}

/// Fetches an object into a segment of its own; none where it turns out to be replaced.
fn fetch(
    repo: &Repository,
    dir: &std::path::Path,
    hash: &Hash,
    standing: &mut Standing,
) -> Result<Option<Segment>> {
    let name = layout::index(hash);
    let bytes = repo.store().get(&name, INDEX_OBJECT_MAX_BYTES)?;
    if blake3::hash(&bytes).as_bytes() != &hash.0 {
        return Err(Error::new(ErrorKind::Damaged, "read the index", "its bytes are not what its name says")
            .on(name.to_string()));
    }
    let identities = repo.meta_identities();
    let named = |e: Error| e.on(name.to_string());
    repo.with_zstd(|zstd| {
        let opened = open_root(zstd, &identities, &bytes).map_err(named)?;
        let has_full_worth = repo.trusted().verify_writer(&opened.envelope, Kind::Index, None).is_ok()
            || repo.trusted().is_kept(&opened.envelope, Kind::Index, None, hash);
        if !has_full_worth {
            repo.trusted()
                .verify_writer_past_or_present(&opened.envelope, Kind::Index, None)
                .map_err(named)?;
        }
        let signer = opened.envelope.signer;
        if standing.claims.contains_key(&(signer, *hash)) {
            standing.replaced.insert(*hash, signer);
            return Ok(None);
        }
        let sizes: HashMap<PackId, u64> = opened.root.packs.iter().map(|p| (p.id, p.size)).collect();
        // What a revoked key signed is good for reading, where chunk ids prove it, and no more.
        let owner = if has_full_worth { opened.owner } else { NOBODY };
        let mut writer = SegmentWriter::new(dir, signer, owner, vec![*hash])?;
        opened
            .rows(zstd, &identities, &mut |row| {
                writer.push(&row, sizes.get(&row.at.pack).copied().unwrap_or(0))
            })
            .map_err(named)?;
        if has_full_worth {
            for replaced in &opened.root.supersedes {
                standing.claims.entry((signer, *replaced)).or_default().insert(*hash);
            }
        }
        writer.finish(&new_path(dir)?).map(Some)
    })
}

impl Standing {
    /// What replaces each of the listed objects. A claim about another party's object, or about one
    /// whose signer is not known, is worth nothing: what is replaced is deleted one day.
    fn by_object(&self, listed: &HashSet<Hash>) -> HashMap<Hash, HashSet<Hash>> {
        let replaced = self.replaced.iter().filter(|(hash, _)| listed.contains(hash));
        let claims = replaced.filter_map(|(hash, signer)| Some((*hash, self.claims.get(&(*signer, *hash))?)));
        claims.map(|(hash, by)| (hash, by.clone())).collect()
    }

    fn is_stale(&self, segment: &Segment) -> bool {
        let claimed = |signer, object: &Hash| self.claims.contains_key(&(signer, *object));
        segment.signer().is_none_or(|signer| segment.objects().iter().any(|o| claimed(signer, o)))
    }

    fn path(dir: &std::path::Path) -> PathBuf {
        dir.join("superseded")
    }

    /// What earlier syncs found out: lines of `<by> <signer> <hash>`, and of `<signer> <hash>` for what is replaced. What an
    /// object that is no longer there has said does not count.
    fn load(&mut self, dir: &std::path::Path, listed: &HashSet<Hash>) {
        let text = std::fs::read_to_string(Self::path(dir)).unwrap_or_default();
        let mut replaced = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                [by, signer, hash] => {
                    if let (Ok(by), Ok(signer), Ok(hash)) = (by.parse(), signer.parse(), hash.parse())
                        && listed.contains(&by)
                    {
                        self.claims.entry((signer, hash)).or_default().insert(by);
                    }
                }
                [signer, hash] => {
                    if let (Ok(signer), Ok(hash)) = (signer.parse::<PartyId>(), hash.parse::<Hash>()) {
                        replaced.push((hash, signer));
                    }
                }
                _ => {}
            }
        }
        replaced.retain(|(hash, signer)| self.claims.contains_key(&(*signer, *hash)));
        self.replaced.extend(replaced);
    }

    fn save(&self, dir: &std::path::Path, listed: &HashSet<Hash>) -> Result<()> {
        let mut text = String::new();
        for ((signer, hash), by) in self.claims.iter().filter(|((_, h), _)| listed.contains(h)) {
            text.extend(by.iter().map(|by| format!("{by} {signer} {hash}\n")));
        }
        let replaced = self.replaced.iter().filter(|(hash, _)| listed.contains(hash));
        text.extend(replaced.map(|(hash, signer)| format!("{signer} {hash}\n")));
        let path = Self::path(dir);
        std::fs::write(&path, text)
            .map_err(|e| Error::io("write the index cache", path.display().to_string(), e))
    }
}
