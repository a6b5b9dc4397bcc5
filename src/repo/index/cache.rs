//! The set of segments that stands for the index objects of a repository.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use crate::model::{ChunkId, Error, ErrorKind, Hash, ObjectName, PackId, PartyId, Result};
use crate::repo::layout;
use crate::repo::limits::INDEX_OBJECT_MAX_BYTES;
use crate::repo::repository::Repository;
use crate::repo::sign::Kind;

use super::object::{build_object, open_root};
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
}

/// Objects that another one replaces. Only a writer's signature lets an object supersede.
#[derive(Default)]
struct Standing {
    superseded: HashSet<Hash>,
}

impl Index {
    /// Brings this host's cache up to what the store has now.
    pub fn sync(repo: &Repository) -> Result<(Self, SyncReport)> {
        let dir = repo.cache_dir().join("index");
        std::fs::create_dir_all(&dir).map_err(|e| Error::io("make the index cache", dir.display().to_string(), e))?;
        let mut listed = HashSet::new();
        let mut report = SyncReport::default();
        repo.store().list(layout::INDEX, &mut |meta| {
            match layout::parse_index(&meta.name) {
                Some(hash) => {
                    listed.insert(hash);
                }
                None => report.refused.push((meta.name, Error::new(ErrorKind::Damaged, "read the index", "its name is not one of ours"))),
            }
            Ok(())
        })?;
        report.objects = listed.len();
        let mut standing = Standing::default();
        let mut segments = open_segments(&dir, &listed)?;
        standing.load(&dir);
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
                .filter(|h| !covered.contains(h) && !refused.contains(h) && !standing.has(h))
                .copied()
                .collect();
            missing.sort();
            if missing.is_empty() {
                break;
            }
            for hash in missing {
                match fetch(repo, &dir, &hash, &mut standing) {
                    Ok(segment) => segments.push(Arc::new(segment)),
                    Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Untrusted | ErrorKind::WrongKey | ErrorKind::NotFound | ErrorKind::Unsupported) => {
                        refused.insert(hash);
                        report.refused.push((layout::index(&hash), error));
                    }
                    Err(error) => return Err(error),
                }
                report.fetched += 1;
            }
        }
        standing.save(&dir, &listed)?;
        let index = Self { dir, segments: RwLock::new(segments) };
        index.merge_local()?;
        Ok((index, report))
    }

    /// Where a chunk is, by the first segment whose place `accept` takes.
    pub fn find(&self, id: &ChunkId, accept: &dyn Fn(PartyId, &Location) -> bool) -> Result<Option<Location>> {
        for segment in self.segments().iter() {
            let Some(signer) = segment.signer() else { continue };
            if let Some(at) = segment.find(id)?
                && accept(signer, &at)
            {
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
    pub fn add(&self, signer: PartyId, object: Hash, rows: &[Row], pack_size: &dyn Fn(&PackId) -> u64) -> Result<()> {
        let mut writer = SegmentWriter::new(&self.dir, signer, vec![object])?;
        for row in rows {
            writer.push(row, pack_size(&row.at.pack))?;
        }
        let segment = writer.finish(&new_path(&self.dir)?)?;
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
    /// pack `is_there` denies are left out. Answers with the new object's hash.
    pub fn compact(&self, repo: &Repository, is_there: &dyn Fn(&PackId) -> bool) -> Result<Option<Hash>> {
        let key = &repo.writer()?.sign;
        let own = key.party();
        let mut segments = self.segments();
        segments.retain(|s| s.signer() == Some(own));
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

    fn replace(
        &self,
        repo: &Repository,
        segments: &[&Segment],
        mut supersedes: Vec<Hash>,
        is_there: &dyn Fn(&PackId) -> bool,
    ) -> Result<Hash> {
        let key = &repo.writer()?.sign;
        let sizes: HashMap<PackId, u64> = segments.iter().flat_map(|s| s.packs()).map(|p| (p.id, p.size)).collect();
        let size = |id: &PackId| sizes.get(id).copied().unwrap_or(0);
        supersedes.sort();
        supersedes.dedup();
        let mut rows = Vec::new();
        merged_rows(segments, &mut |row| {
            if is_there(&row.at.pack) && rows.last().is_none_or(|last: &Row| last.id != row.id) {
                rows.push(row);
            }
            Ok(())
        })?;
        let (_, meta) = repo.current_epoch(crate::repo::format::EpochKind::Meta)?;
        let each = rows.iter().map(|r| Ok(*r));
        let object = repo.with_zstd(|zstd| build_object(each, supersedes, key.party(), &size, zstd, meta, key, repo.id()))?;
        let hash = repo.put_index(&object)?;
        let gone: HashSet<PathBuf> = segments.iter().map(|s| s.path().to_owned()).collect();
        self.segments.write().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|s| !gone.contains(s.path()));
        for path in gone {
            let _ = std::fs::remove_file(path);
        }
        self.add(key.party(), hash, &rows, &size)?;
        Ok(hash)
    }

    fn merge_local(&self) -> Result<()> {
        let mut segments = self.segments.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut by_signer: HashMap<PartyId, Vec<Arc<Segment>>> = HashMap::new();
        for segment in segments.iter() {
            if let Some(signer) = segment.signer() {
                by_signer.entry(signer).or_default().push(segment.clone());
            }
        }
        for (signer, mut of_signer) in by_signer {
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
            let merged = merge(&refs, &self.dir, &new_path(&self.dir)?, signer, objects)?;
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

fn new_path(dir: &std::path::Path) -> Result<PathBuf> {
    let mut name = [0u8; 8];
    getrandom::fill(&mut name).map_err(|e| Error::internal("name a cache file", e.to_string()))?;
    Ok(dir.join(format!("{}.seg", crate::model::id::to_hex(&name))))
}

fn open_segments(dir: &std::path::Path, listed: &HashSet<Hash>) -> Result<Vec<Arc<Segment>>> {
    let mut segments = Vec::new();
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("read the index cache", dir.display().to_string(), e))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "seg") {
            continue;
        }
        match Segment::open(&path) {
            // An object that is no longer listed may have been pruned: what it said may be gone.
            Ok(segment) if segment.objects().iter().all(|o| listed.contains(o)) => segments.push(Arc::new(segment)),
            _ => {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
    segments.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(segments)
}

fn fetch(repo: &Repository, dir: &std::path::Path, hash: &Hash, standing: &mut Standing) -> Result<Segment> {
    let name = layout::index(hash);
    let bytes = repo.store().get(&name, INDEX_OBJECT_MAX_BYTES)?;
    if blake3::hash(&bytes).as_bytes() != &hash.0 {
        return Err(Error::new(ErrorKind::Damaged, "read the index", "its bytes are not what its name says").on(name.to_string()));
    }
    let identities = repo.meta_identities();
    let named = |e: Error| e.on(name.to_string());
    repo.with_zstd(|zstd| {
        let opened = open_root(zstd, &identities, &bytes).map_err(named)?;
        repo.trusted().verify_writer_past_or_present(&opened.envelope, Kind::Index, None).map_err(named)?;
        let sizes: HashMap<PackId, u64> = opened.root.packs.iter().map(|p| (p.id, p.size)).collect();
        let mut writer = SegmentWriter::new(dir, opened.owner, vec![*hash])?;
        opened
            .rows(zstd, &identities, &mut |row| writer.push(&row, sizes.get(&row.at.pack).copied().unwrap_or(0)))
            .map_err(named)?;
        // A revoked key may help reading, but hides nothing.
        if repo.trusted().verify_writer(&opened.envelope, Kind::Index, None).is_ok() {
            standing.superseded.extend(opened.root.supersedes.iter().copied());
        }
        writer.finish(&new_path(dir)?)
    })
}

impl Standing {
    fn has(&self, hash: &Hash) -> bool {
        self.superseded.contains(hash)
    }

    fn is_stale(&self, segment: &Segment) -> bool {
        segment.objects().iter().any(|o| self.has(o))
    }

    fn path(dir: &std::path::Path) -> PathBuf {
        dir.join("superseded")
    }

    fn load(&mut self, dir: &std::path::Path) {
        let text = std::fs::read_to_string(Self::path(dir)).unwrap_or_default();
        self.superseded.extend(text.lines().filter_map(|line| line.parse::<Hash>().ok()));
    }

    fn save(&self, dir: &std::path::Path, listed: &HashSet<Hash>) -> Result<()> {
        let still = self.superseded.iter().filter(|h| listed.contains(h));
        let text: String = still.map(|hash| format!("{hash}\n")).collect();
        let path = Self::path(dir);
        std::fs::write(&path, text).map_err(|e| Error::io("write the index cache", path.display().to_string(), e))
    }
}
