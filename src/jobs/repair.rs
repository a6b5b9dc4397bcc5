//! Repairs. `repair index` writes the index anew from the packs' own directories.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{Error, ErrorKind, Hash, PackId, PartyId, Result};
use crate::ports::{Cancel, Clock};
use crate::repo::format::{EpochKind, IndexPack};
use crate::repo::index::object::NOBODY;
use crate::repo::index::segment::{Segment, merged_rows};
use crate::repo::index::{Index, Location, Row, SignAndSeal, build_object};
use crate::repo::layout::{self, PackKind};
use crate::repo::limits::INDEX_OBJECT_MAX_BYTES;
use crate::repo::pack::OpenedDirectory;
use crate::repo::pipeline::pack_rows;
use crate::repo::reader::read_directory;
use crate::repo::repository::Repository;
use crate::repo::session::Condemnation;
use crate::repo::sign::{Envelope, Kind};
use crate::report::Progress;
use crate::report::human::counted;
use crate::report::outcome::{Problem, RepairIndex};

use super::check::{finding, reason};

/// Most rows of one index object, and most that are held in memory at once (about 100 bytes each).
const ROWS_MAX: usize = 1_000_000;

/// A repair, as asked for.
pub struct RepairIndexRequest<'a> {
    /// Read everything and write nothing.
    pub dry_run: bool,
    /// Told of progress.
    pub progress: &'a Progress,
    /// Asks to stop.
    pub cancel: &'a Cancel,
    /// Measures how long it takes.
    pub clock: &'a dyn Clock,
}

/// Reads the directory of every pack and writes an index that replaces all that this host wrote. Objects
/// whose bytes are not what their name says are deleted: they can never serve anybody again.
///
/// Only blobs whose record this host's key signed become rows that this host deduplicates against.
/// Others' blobs, and those signed by a key that was revoked since, stand in objects of their own that
/// help reading and nothing else. Of a pack whose directory cannot be read, the rows that the old index
/// still knows are kept in the same way: its blobs may be whole. Where the old index says all this
/// already, nothing is written.
pub fn repair_index(repo: &Repository, request: &RepairIndexRequest<'_>) -> Result<RepairIndex> {
    let began = request.clock.now();
    repo.writer()?;
    request.progress.stage("read the old index", None, None);
    let scratch = tempfile::Builder::new()
        .prefix("repair-")
        .tempdir_in(repo.cache_dir())
        .map_err(|e| Error::io("make a folder for the repair", repo.cache_dir().display().to_string(), e))?;
    // The index is listed before the packs: whatever is replaced names only packs that are listed.
    let (old, report) = Index::sync_into(repo, scratch.path().join("index"))?;
    // And the marks too: of what is deleted from here on they say so.
    let condemned = repo.condemned(request.clock.now())?;
    let packs = repo.list_packs()?;
    let mut repair = Repair {
        repo,
        request,
        old,
        condemned,
        packs,
        kept_sizes: HashMap::new(),
        spool: Spool { dir: scratch.path().to_owned(), files: Vec::new() },
        rows: BTreeMap::new(),
        likeness: Likeness::default(),
        held: 0,
        found: 0,
        objects: 0,
        problems: Vec::new(),
    };
    let unread = repair.read_packs()?;
    let (packs_read, packs_unread) = ((repair.packs.len() - unread.len()) as u64, unread.len() as u64);
    let chunks_dropped = repair.dropped()?;
    repair.name_gone_packs();
    let damaged: Vec<Hash> = report.damaged().collect();
    let is_whole = damaged.is_empty() && repair.is_as_the_packs_say(&unread)?;
    if is_whole {
        repair.objects = 0;
    } else {
        repair.flush()?;
        repair.write(report.own)?;
        repair.clear_away(&damaged)?;
    }
    Ok(RepairIndex {
        dry_run: request.dry_run,
        was_whole: is_whole,
        packs_read,
        packs_unread,
        chunks_found: repair.found,
        chunks_dropped: if is_whole { 0 } else { chunks_dropped },
        index_objects: repair.objects,
        problems: repair.problems,
        duration_secs: request.clock.now().secs_since(began),
    })
}

/// A repair under way.
struct Repair<'a> {
    repo: &'a Repository,
    request: &'a RepairIndexRequest<'a>,
    old: Index,
    /// Packs that these condemn may be gone.
    condemned: Condemnation,
    packs: HashMap<PackId, (PackKind, u64)>,
    /// What the old index says is the size of packs whose directory cannot be read: the new one must not
    /// make a truncated pack's size the right one.
    kept_sizes: HashMap<PackId, u64>,
    spool: Spool,
    /// Rows not yet spooled, by whose they are.
    rows: BTreeMap<PartyId, Vec<Row>>,
    likeness: Likeness,
    held: usize,
    found: u64,
    objects: u64,
    problems: Vec<Problem>,
}

/// How the packs' rows compare with those of the old index.
#[derive(Default)]
struct Likeness {
    /// Rows that the old index lacks, or has where they do not help as much.
    missing: u64,
    /// Rows that objects signed by this host have too.
    in_own: u64,
}

/// Objects that wait on disk until everything was read: nothing may be replaced before.
struct Spool {
    dir: PathBuf,
    files: Vec<PathBuf>,
}

impl Repair<'_> {
    /// Reads all directories. Answers with the packs of which that could not be done.
    fn read_packs(&mut self) -> Result<HashSet<PackId>> {
        let mut packs: Vec<_> = self.packs.iter().map(|(id, (kind, size))| (*id, *kind, *size)).collect();
        packs.sort_by_key(|(id, ..)| *id);
        self.request.progress.stage("read pack directories", Some(packs.len() as u64), None);
        let mut unread = HashSet::new();
        for (id, kind, size) in &packs {
            self.request.cancel.check()?;
            match finding(read_directory(self.repo, *id, *kind, *size))? {
                Ok(opened) => self.take_pack(*id, *kind, &opened)?,
                // A pruner deleted it after it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound && self.condemned.condemns(id) => {
                    self.packs.remove(id);
                }
                Err(error) => {
                    unread.insert(*id);
                    self.problem(*id, *kind, format!("its directory is left out: {}", reason(&error)));
                }
            }
            self.request.progress.add(1, 0);
        }
        self.keep_old_rows(&unread)?;
        Ok(unread)
    }

    fn problem(&mut self, id: PackId, kind: PackKind, what: String) {
        let object = layout::pack(kind, &id).to_string();
        self.problems.push(Problem { object, what, points_hurt: Vec::new(), paths_hurt: Vec::new() });
    }

    fn take_pack(&mut self, id: PackId, kind: PackKind, opened: &OpenedDirectory) -> Result<()> {
        let rows = pack_rows(id, kind, &opened.records);
        let mut rest = &rows[..];
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for (signed, record) in opened.directory.blobs.iter().zip(&opened.records) {
            // There is one row for each chunk of each record.
            let (of_blob, after) = rest.split_at(record.chunks.len());
            rest = after;
            match self.owner(signed) {
                Ok(owner) => taken.extend(of_blob.iter().map(|row| (owner, *row))),
                Err(error) => refused.push(error),
            }
        }
        self.compare(&mut taken)?;
        for (owner, row) in taken {
            self.take_rows(owner, &[row])?;
        }
        if let Some(first) = refused.first() {
            let what = format!("{} left out: {}", counted(refused.len() as u64, "blob"), reason(first));
            self.problem(id, kind, what);
        }
        Ok(())
    }

    /// Looks up a pack's rows in the old index.
    fn compare(&mut self, rows: &mut Vec<(PartyId, Row)>) -> Result<()> {
        let own = self.repo.writer()?.sign.party();
        rows.sort_unstable_by_key(|(_, row)| row.key());
        rows.dedup_by_key(|(_, row)| row.key());
        let own_segments = own_segments(&self.old, own);
        for (owner, row) in rows {
            let is_it = |at: &Location| *at == row.at;
            // Only what is this host's own serves its deduplication; anything serves reading.
            let serves = |whose: PartyId, at: &Location| is_it(at) && (*owner != own || whose == own);
            self.likeness.missing += u64::from(self.old.find(&row.id, &serves)?.is_none());
            for segment in &own_segments {
                if segment.find(&row.id, &is_it)?.is_some() {
                    self.likeness.in_own += 1;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether the old index has every row of the packs, and this host's objects have no other.
    /// What others' objects say besides cannot be put right from here; what is said of packs that were condemned
    /// and are gone, `prune` leaves out in its time.
    fn is_as_the_packs_say(&self, unread: &HashSet<PackId>) -> Result<bool> {
        let own = self.repo.writer()?.sign.party();
        let own_segments = own_segments(&self.old, own);
        let is_right = |pack: &IndexPack| {
            self.is_deleted(&pack.id)
                || self.packs.get(&pack.id).is_some_and(|(kind, _)| *kind == pack.kind)
                    && self.size_of(&pack.id) == pack.size
        };
        if self.likeness.missing > 0 || !own_segments.iter().flat_map(|s| s.packs()).all(is_right) {
            return Ok(false);
        }
        let (mut named, mut last) = (0, None);
        let refs: Vec<&Segment> = own_segments.iter().map(|s| &**s).collect();
        merged_rows(&refs, &mut |row| {
            let is_unread = unread.contains(&row.at.pack);
            if !is_unread
                && !self.is_deleted(&row.at.pack)
                && last.replace((row.key(), row.at)) != Some((row.key(), row.at))
            {
                named += 1;
            }
            Ok(())
        })?;
        Ok(named == self.likeness.in_own && !serves_unread(&own_segments, own, unread)?)
    }

    /// Whether the pack was condemned and is gone, as it should be.
    fn is_deleted(&self, pack: &PackId) -> bool {
        !self.packs.contains_key(pack) && self.condemned.condemns(pack)
    }

    /// In whose object a blob's rows stand.
    fn owner(&self, signed: &Envelope) -> Result<PartyId> {
        let own = self.repo.writer()?.sign.party();
        let trusted = self.repo.trusted();
        if trusted.verify_writer(signed, Kind::Blob, None).is_ok() {
            return Ok(signed.signer);
        }
        trusted.verify_writer_past_or_present(signed, Kind::Blob, None)?;
        // A key of our own that was revoked may have been another's hand.
        Ok(if signed.signer == own { NOBODY } else { signed.signer })
    }

    fn take_rows(&mut self, owner: PartyId, rows: &[Row]) -> Result<()> {
        for row in rows {
            self.found += u64::from(self.old.find(&row.id, &|_, _| true)?.is_none());
        }
        self.rows.entry(owner).or_default().extend_from_slice(rows);
        self.held += rows.len();
        if self.held >= ROWS_MAX { self.flush() } else { Ok(()) }
    }

    /// The size that the index is to give a pack.
    fn size_of(&self, pack: &PackId) -> u64 {
        let listed = || self.packs.get(pack).map_or(0, |(_, size)| *size);
        self.kept_sizes.get(pack).copied().unwrap_or_else(listed)
    }

    /// This host's own word about a size stands above others'.
    fn keep_old_sizes(&mut self, unread: &HashSet<PackId>) -> Result<()> {
        let own = self.repo.writer()?.sign.party();
        let (mine, others): (Vec<_>, Vec<_>) =
            self.old.segments().into_iter().partition(|s| s.signer() == Some(own));
        for pack in mine.iter().chain(&others).flat_map(|s| s.packs()).filter(|p| unread.contains(&p.id)) {
            self.kept_sizes.entry(pack.id).or_insert(pack.size);
        }
        Ok(())
    }

    /// What the old index knows of packs whose directory cannot be read, also of what was cut off: so
    /// `check` can say which pack is to blame for what is lost.
    fn keep_old_rows(&mut self, unread: &HashSet<PackId>) -> Result<()> {
        if unread.is_empty() {
            return Ok(());
        }
        self.keep_old_sizes(unread)?;
        for segment in self.old.segments() {
            for i in 0..segment.len() {
                let row = segment.row(i)?;
                let is_of_kind = |(kind, _): &(PackKind, u64)| *kind == row.at.kind;
                if unread.contains(&row.at.pack) && self.packs.get(&row.at.pack).is_some_and(is_of_kind) {
                    self.take_rows(NOBODY, &[row])?;
                }
            }
        }
        Ok(())
    }

    /// Once the index is made anew nobody knows any more which packs there were: say it now.
    fn name_gone_packs(&mut self) {
        let mut gone: Vec<_> = self
            .old
            .segments()
            .iter()
            .flat_map(|segment| segment.packs().to_vec())
            .filter(|pack| !self.packs.contains_key(&pack.id) && !self.is_deleted(&pack.id))
            .map(|pack| (pack.id, pack.kind))
            .collect();
        gone.sort();
        gone.dedup();
        for (id, kind) in gone {
            self.problem(
                id,
                kind,
                "it is gone; put it back from a copy of the repository, or back up again".to_owned(),
            );
        }
    }

    /// Rows of this host's objects whose pack is gone. Those of others stay theirs to drop.
    fn dropped(&self) -> Result<u64> {
        let mut dropped = 0;
        for segment in own_segments(&self.old, self.repo.writer()?.sign.party()) {
            for i in 0..segment.len() {
                dropped += u64::from(!self.packs.contains_key(&segment.row(i)?.at.pack));
            }
        }
        Ok(dropped)
    }

    /// Sorts what is held and lays it on disk as objects to be written.
    fn flush(&mut self) -> Result<()> {
        self.held = 0;
        for (owner, mut rows) in std::mem::take(&mut self.rows) {
            rows.sort_unstable_by_key(Row::key);
            rows.dedup_by_key(|row| row.key());
            for part in rows.chunks(ROWS_MAX) {
                self.objects += 1;
                if !self.request.dry_run {
                    let object = self.build(part, owner, Vec::new())?;
                    self.spool.add(&object)?;
                }
            }
        }
        Ok(())
    }

    fn build(&self, rows: &[Row], owner: PartyId, supersedes: Vec<Hash>) -> Result<Vec<u8>> {
        let key = &self.repo.writer()?.sign;
        let (_, meta) = self.repo.current_epoch(EpochKind::Meta)?;
        let size = |id: &PackId| self.size_of(id);
        let each = rows.iter().map(|row| Ok(*row));
        let by = SignAndSeal { meta, key, repository: self.repo.id() };
        self.repo.with_zstd(|zstd| build_object(each, supersedes, owner, &size, zstd, &by))
    }

    /// Deletes index objects that are damaged beyond use, once what stood in them is written anew. Whose they
    /// were cannot be told any more, so that no object of their writer's would ever put them out of use.
    fn clear_away(&mut self, damaged: &[Hash]) -> Result<()> {
        for hash in damaged {
            let name = layout::index(hash);
            self.request.cancel.check()?;
            let bytes = match self.repo.store().get(&name, INDEX_OBJECT_MAX_BYTES) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                // Longer than any index object.
                Err(error) if error.kind() == ErrorKind::Damaged => Vec::new(),
                read => read?,
            };
            // It was damaged on its way only.
            if blake3::hash(&bytes).as_bytes() == &hash.0 || self.request.dry_run {
                continue;
            }
            match self.repo.store().delete(&name) {
                Err(error) if error.kind() == ErrorKind::Refused => self.problems.push(Problem {
                    object: name.to_string(),
                    what: format!("it is damaged, and the store does not let it go: {}", error.why()),
                    points_hurt: Vec::new(),
                    paths_hurt: Vec::new(),
                }),
                deleted => deleted?,
            }
        }
        Ok(())
    }

    /// Writes the objects, and last of all one without rows that puts the old ones out of use: a
    /// repair that is interrupted has taken nothing away.
    fn write(&mut self, mut old: Vec<Hash>) -> Result<()> {
        let mut written = HashSet::new();
        self.request.progress.stage("write the index", Some(self.objects), None);
        for path in std::mem::take(&mut self.spool.files) {
            self.request.cancel.check()?;
            let object = read_spooled(&path)?;
            written.insert(self.repo.put_index(&object)?);
            self.request.progress.add(1, object.len() as u64);
        }
        old.retain(|hash| !written.contains(hash));
        if old.is_empty() {
            return Ok(());
        }
        self.objects += 1;
        if !self.request.dry_run {
            let own = self.repo.writer()?.sign.party();
            let object = self.build(&[], own, old)?;
            self.repo.put_index(&object)?;
        }
        Ok(())
    }
}

/// Segments of objects that this host signed.
fn own_segments(index: &Index, own: PartyId) -> Vec<Arc<Segment>> {
    index.segments().into_iter().filter(|s| s.signer() == Some(own)).collect()
}

/// Whether the index lets this host refer to what lies in a pack whose directory cannot be read.
fn serves_unread(segments: &[Arc<Segment>], own: PartyId, unread: &HashSet<PackId>) -> Result<bool> {
    for segment in segments.iter().filter(|s| s.owner() == Some(own)) {
        for i in 0..segment.len() {
            if unread.contains(&segment.row(i)?.at.pack) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

impl Spool {
    fn add(&mut self, object: &[u8]) -> Result<()> {
        let path = self.dir.join(format!("object-{}", self.files.len()));
        let failed = |e| Error::io("keep an index object", path.display().to_string(), e);
        std::fs::File::create_new(&path).and_then(|mut file| file.write_all(object)).map_err(failed)?;
        self.files.push(path);
        Ok(())
    }
}

fn read_spooled(path: &std::path::Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io("read a kept index object", path.display().to_string(), e);
    let mut object = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(INDEX_OBJECT_MAX_BYTES).read_to_end(&mut object))
        .map_err(failed)?;
    Ok(object)
}
