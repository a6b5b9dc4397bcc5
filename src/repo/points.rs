//! Reading points and tombstones, whom to believe, and what is wrong with a list of them.

use std::collections::{BTreeMap, HashMap};

use crate::model::{EntryPath, Error, ErrorKind, Hash, ObjectName, PartyId, Result, Time, Ulid};
use crate::ports::ObjectMeta;

use super::cbor;
use super::format::{Point, Predecessor, RIGHT_APPEND_ONLY, RIGHT_REMOVE_OTHERS, Tombstone};
use super::layout;
use super::limits::{POINT_MAX_BYTES, SMALL_OBJECT_MAX_BYTES};
use super::repository::Repository;
use super::seen::{Seen, row};
use super::sign::{Envelope, Kind, PublicKey};
use super::trust::Trusted;

impl Repository {
    /// Reads one point and checks who signed it.
    pub fn read_point(&self, meta: &ObjectMeta) -> Result<StoredPoint> {
        self.read_point_by(self.trusted(), meta)
    }

    /// Reads one point as somebody does for whom `trusted` is the newest config.
    pub fn read_point_by(&self, trusted: &Trusted, meta: &ObjectMeta) -> Result<StoredPoint> {
        let sealed = self.store().get(&meta.name, POINT_MAX_BYTES as u64)?;
        let envelope = self.open_envelope(&meta.name, &sealed, POINT_MAX_BYTES)?;
        let damaged = |e: Error| e.on(meta.name.to_string());
        let point: Point = match cbor::decode(&envelope.payload, "recovery point") {
            Ok(point) => point,
            // An unsigned forgery need not even decode: say first that nobody signed it.
            Err(error) => {
                trusted.verify_writer_past_or_present(&envelope, Kind::Point, Some(&meta.name))?;
                return Err(damaged(error));
            }
        };
        trusted.verify_point(&envelope, &meta.name, &point)?;
        if layout::point(&point.id) != meta.name || point.writer != envelope.signer {
            return Err(damaged(Error::new(
                ErrorKind::Untrusted,
                "trust the recovery point",
                "it does not say what its name and signature say",
            )));
        }
        // The name becomes a folder's when the point is restored.
        if !point.sources.iter().all(|s| EntryPath::from_components([s.name.as_bytes()]).is_some()) {
            return Err(damaged(Error::new(
                ErrorKind::Untrusted,
                "trust the recovery point",
                "a source's name in it is not a plain name",
            )));
        }
        Ok(StoredPoint {
            hash: envelope.payload_hash(),
            stored_at: meta.stored_at,
            is_void: meta.stored_at > point.commit_before,
            point,
        })
    }

    /// Every point, oldest first by the store's time, with what is wrong with it.
    pub fn points(&self) -> Result<PointList> {
        // Before the list: what another run stores and sees meanwhile is not missing from it.
        let seen = Seen::load(self.cache_dir());
        let mut metas = Vec::new();
        self.store().list(layout::POINTS, &mut |meta| {
            metas.push(meta);
            Ok(())
        })?;
        metas.sort_by(|a, b| (a.stored_at, &a.name).cmp(&(b.stored_at, &b.name)));
        let mut list = self.tombstones()?;
        for meta in metas {
            match self.read_point(&meta) {
                Ok(point) => list.add(point),
                // It went away while this looked. One that had no tombstone shows as a gap.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.is_about_content() => list.refused.push((meta.name, error)),
                // A list that lacks what could not be fetched would be a wrong list.
                Err(error) => return Err(error),
            }
        }
        self.forgive_copied_store(&mut list)?;
        let highest = list.highest();
        list.vanished = seen.vanished(&highest);
        list.seen = seen;
        Seen::raise(self.cache_dir(), 0, &highest)?;
        Ok(list)
    }

    /// In a store that is a plain copy the times mean nothing, so nothing is void
    /// (docs/FORMAT.md section 9.1).
    fn forgive_copied_store(&self, list: &mut PointList) -> Result<()> {
        if !list.points.iter().any(|p| p.is_void) {
            return Ok(());
        }
        self.forgive_copied_points(list)?;
        let mut first = None;
        self.store().list(layout::CONFIG, &mut |meta| {
            first.get_or_insert(meta.stored_at);
            Ok(())
        })?;
        let Some(first) = first else { return Ok(()) };
        if list.points.iter().any(|p| p.is_void && first > p.point.commit_before) {
            list.is_copy = true;
            list.points.iter_mut().for_each(|p| p.is_void = false);
        }
        Ok(())
    }

    /// A session is stored before its point may be: where even its first object is later than the
    /// point's limit, both were copied later, one by one.
    fn forgive_copied_points(&self, list: &mut PointList) -> Result<()> {
        let mut began: HashMap<Ulid, Time> = HashMap::new();
        self.store().list(layout::SESSIONS, &mut |meta| {
            if let Some((id, 0)) = layout::parse_session(&meta.name) {
                began.insert(id, meta.stored_at);
            }
            Ok(())
        })?;
        for point in list.points.iter_mut().filter(|p| p.is_void) {
            if began.get(&point.point.session).is_some_and(|at| *at > point.point.commit_before) {
                point.is_void = false;
                list.is_copy = true;
            }
        }
        Ok(())
    }

    /// A list of no points, with the tombstones that count.
    fn tombstones(&self) -> Result<PointList> {
        let mut list = PointList::default();
        for meta in self.list_all(layout::TOMBSTONES)? {
            match self.read_tombstone(&meta.name) {
                Ok(read) => {
                    list.tombstoned_at.insert(read.stone.point, meta.stored_at);
                    list.tombstones.insert(read.stone.point, read.stone);
                }
                Err(error) if error.is_about_content() => tracing::warn!(%error, "a tombstone is not taken"),
                Err(error) => return Err(error),
            }
        }
        Ok(list)
    }

    /// Reads a tombstone; one that does not count is an error.
    fn read_tombstone(&self, name: &ObjectName) -> Result<ReadTombstone> {
        let sealed = self.store().get(name, SMALL_OBJECT_MAX_BYTES as u64)?;
        let envelope = self.open_envelope(name, &sealed, SMALL_OBJECT_MAX_BYTES)?;
        let stored = Hash(*blake3::hash(&sealed).as_bytes());
        let is_kept = self.trusted().is_kept(&envelope, Kind::Tombstone, Some(name), &stored);
        if !is_kept {
            self.trusted().verify_writer(&envelope, Kind::Tombstone, Some(name))?;
        }
        let stone: Tombstone =
            cbor::decode(&envelope.payload, "tombstone").map_err(|e| e.on(name.to_string()))?;
        let is_itself = stone.by == envelope.signer && layout::tombstone(&stone.point) == *name;
        if !is_itself || !(is_kept || self.may_remove(&stone)) {
            return Err(Error::new(
                ErrorKind::Untrusted,
                "trust the tombstone",
                "it was written by somebody who may not remove that point",
            )
            .on(name.to_string()));
        }
        Ok(ReadTombstone { stone, envelope, stored })
    }

    /// Whoever may only add removes nothing, not even what is its own: its keys may be a thief's.
    fn may_remove(&self, stone: &Tombstone) -> bool {
        let rights = self.trusted().writer(&stone.by).map_or(0, |w| w.rights);
        rights & RIGHT_APPEND_ONLY == 0 && (stone.by == stone.writer || rights & RIGHT_REMOVE_OTHERS != 0)
    }

    /// Hashes of the stored index objects, and of the tombstones that count, which `key` of `party`
    /// signed, and of the payloads of its points: what a revocation of that key keeps. Sorted.
    pub fn worth_keeping(&self, party: &PartyId, key: &PublicKey) -> Result<Vec<Hash>> {
        let mut kept = super::index::objects_signed_with(self, party, key)?;
        let mut names = Vec::new();
        self.store().list(layout::TOMBSTONES, &mut |meta| {
            names.push(meta.name);
            Ok(())
        })?;
        for name in names {
            let read = match self.read_tombstone(&name) {
                Ok(read) => read,
                // What is not named here counts for nobody for ever: only what certainly counts for nobody
                // now may be passed over. One that is gone since it was listed is not certain.
                Err(error) if error.is_about_content() && error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(%error, "a tombstone is not kept");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_of_key = read.envelope.verify(key, self.id(), Kind::Tombstone, Some(&name)).is_ok();
            if read.envelope.signer == *party && is_of_key {
                kept.push(read.stored);
            }
        }
        let list = self.points()?;
        let own = list.points.iter().chain(&list.removed).filter(|p| p.point.writer == *party);
        kept.extend(own.map(|p| p.hash));
        kept.sort();
        kept.dedup();
        Ok(kept)
    }

    /// Stores a point. Everything it refers to must be durable before.
    pub fn put_point(&self, point: &Point) -> Result<Hash> {
        self.put_signed(Kind::Point, &layout::point(&point.id), point)
    }
}

/// A tombstone that counts, as it was found.
struct ReadTombstone {
    stone: Tombstone,
    envelope: Envelope,
    stored: Hash,
}

/// A point whose signature was checked.
#[derive(Clone, Debug)]
pub struct StoredPoint {
    /// What it says.
    pub point: Point,
    /// Hash of its payload.
    pub hash: Hash,
    /// When the store received it.
    pub stored_at: Time,
    /// Whether it arrived too late to count.
    pub is_void: bool,
}

/// A point that was there, by what the others say, and is not, and that no tombstone accounts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whose it was.
    pub writer: PartyId,
    /// Of which job.
    pub job: String,
    /// Its number.
    pub seq: u64,
    /// Its id and hash, where the point after it names them.
    pub named: Option<Predecessor>,
}

/// How many missing points of one gap are named: a number may be anything.
const GAPS_NAMED_MAX: usize = 100;

/// All points, and what is wrong.
#[derive(Debug, Default)]
pub struct PointList {
    /// Trusted points, oldest first; void ones are marked.
    pub points: Vec<StoredPoint>,
    /// Points whose tombstone counts.
    pub removed: Vec<StoredPoint>,
    /// Objects that are not taken for points, and why.
    pub refused: Vec<(ObjectName, Error)>,
    /// Tombstones that count.
    pub tombstones: HashMap<Ulid, Tombstone>,
    /// The store's times of them.
    pub tombstoned_at: HashMap<Ulid, Time>,
    /// The store is a plain copy of another: its times mean nothing.
    pub is_copy: bool,
    /// What this host has seen before and is not there now, in words.
    pub vanished: Vec<String>,
    /// What this host had seen before it listed them.
    pub seen: Seen,
}

impl PointList {
    pub(super) fn add(&mut self, point: StoredPoint) {
        // A tombstone counts for the very point that it names, whose writer decides who may sign it.
        let is_of = |t: &Tombstone| {
            let p = &point.point;
            t.hash == point.hash && t.writer == p.writer && t.job == p.job && t.seq == p.seq
        };
        let removed = self.tombstones.get(&point.point.id).is_some_and(is_of);
        if removed { self.removed.push(point) } else { self.points.push(point) }
    }

    /// The highest number in each row, by `<writer> <job>`; that of a removed point counts.
    pub fn highest(&self) -> BTreeMap<String, u64> {
        let mut highest: BTreeMap<String, u64> = BTreeMap::new();
        let mut count = |writer: &PartyId, job: &str, seq: u64| {
            let known = highest.entry(row(writer, job)).or_default();
            *known = seq.max(*known);
        };
        for StoredPoint { point, .. } in self.points.iter().chain(&self.removed) {
            count(&point.writer, &point.job, point.seq);
        }
        for stone in self.tombstones.values() {
            count(&stone.writer, &stone.job, stone.seq);
        }
        highest
    }

    /// The newest point of a job that is not void.
    pub fn newest(&self, job: Option<&str>) -> Option<&StoredPoint> {
        let wanted = |p: &&StoredPoint| !p.is_void && job.is_none_or(|job| p.point.job == job);
        self.points.iter().rev().find(wanted)
    }

    /// The newest point of one writer and job by sequence number.
    pub fn newest_of(&self, writer: &PartyId, job: &str) -> Option<&StoredPoint> {
        let own = |p: &&StoredPoint| p.point.writer == *writer && p.point.job == job;
        self.points.iter().chain(&self.removed).filter(own).max_by_key(|p| p.point.seq)
    }

    /// What is missing from the rows of sequence numbers: points that no tombstone accounts for.
    pub fn missing(&self) -> Vec<Missing> {
        let mut rows: HashMap<(PartyId, &str), Vec<&StoredPoint>> = HashMap::new();
        for point in self.points.iter().chain(&self.removed) {
            rows.entry((point.point.writer, point.point.job.as_str())).or_default().push(point);
        }
        let mut missing = Vec::new();
        for ((writer, job), mut row) in rows {
            row.sort_by_key(|p| p.point.seq);
            let mut expected = 1;
            for point in row {
                let seq = point.point.seq;
                let gap = (expected..seq).filter(|seq| !self.accounts_for(&writer, job, *seq));
                missing.extend(gap.take(GAPS_NAMED_MAX).map(|gone| Missing {
                    writer,
                    job: job.to_owned(),
                    seq: gone,
                    named: point.point.predecessor.clone().filter(|p| gone + 1 == seq && !self.has(&p.id)),
                }));
                expected = seq.saturating_add(1);
            }
        }
        missing
    }

    /// Points that this host has seen, newer than all that are there now.
    pub fn missing_at_the_end(&self) -> Vec<Missing> {
        let highest = self.highest();
        let mut missing = Vec::new();
        for (row, seq) in &self.seen.points {
            let Some((writer, job)) = row.split_once(' ') else { continue };
            let Ok(writer) = writer.parse::<PartyId>() else { continue };
            let now = highest.get(row).copied().unwrap_or(0);
            missing.extend((now + 1..=*seq).take(GAPS_NAMED_MAX).map(|seq| Missing {
                writer,
                job: job.to_owned(),
                seq,
                named: None,
            }));
        }
        missing
    }

    fn accounts_for(&self, writer: &PartyId, job: &str, seq: u64) -> bool {
        self.tombstones.values().any(|t| t.writer == *writer && t.job == job && t.seq == seq)
    }

    fn has(&self, id: &Ulid) -> bool {
        self.points.iter().chain(&self.removed).any(|p| p.point.id == *id) || self.tombstones.contains_key(id)
    }

    /// What is wrong with the rows of sequence numbers, in words: what is missing, and predecessors that are
    /// other than they were.
    pub fn gaps(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .missing()
            .into_iter()
            .map(|Missing { writer, job, seq, named }| {
                let object = named.map(|named| format!(" ({})", layout::point(&named.id))).unwrap_or_default();
                format!("point number {seq} of job {job} by writer {writer}{object} is gone, and nobody with the right to has removed it")
            })
            .collect();
        found.extend(self.points.iter().chain(&self.removed).filter_map(|p| self.wrong_predecessor(p)));
        found.sort();
        found
    }

    fn wrong_predecessor(&self, point: &StoredPoint) -> Option<String> {
        let Predecessor { id, hash } = point.point.predecessor.as_ref()?;
        let before = self.points.iter().chain(&self.removed).find(|p| p.point.id == *id)?;
        (before.hash != *hash).then(|| {
            format!("point {} names a predecessor {id} that was other than the one there now", point.point.id)
        })
    }
}
