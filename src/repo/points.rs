//! Points as they were read, and what is wrong with a list of them.

use std::collections::HashMap;

use crate::model::{Error, Hash, ObjectName, PartyId, Time, Ulid};

use super::format::{Point, Predecessor, Tombstone};

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
    /// The store is a plain copy of another: its times mean nothing.
    pub is_copy: bool,
    /// What this host has seen before and is not there now, in words.
    pub vanished: Vec<String>,
}

impl PointList {
    pub(super) fn add(&mut self, point: StoredPoint) {
        let removed = self.tombstones.get(&point.point.id).is_some_and(|t| t.hash == point.hash);
        if removed { self.removed.push(point) } else { self.points.push(point) }
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

    /// What is missing from the rows of sequence numbers, in words: points that no tombstone
    /// accounts for, and predecessors that are other than they were.
    pub fn gaps(&self) -> Vec<String> {
        let mut rows: HashMap<(PartyId, &str), Vec<&StoredPoint>> = HashMap::new();
        for point in self.points.iter().chain(&self.removed) {
            rows.entry((point.point.writer, point.point.job.as_str())).or_default().push(point);
        }
        let mut found = Vec::new();
        for ((writer, job), mut row) in rows {
            row.sort_by_key(|p| p.point.seq);
            let stone = |seq: u64| self.tombstones.values().any(|t| t.writer == writer && t.job == job && t.seq == seq);
            let mut expected = 1;
            for point in row {
                found.extend(
                    (expected..point.point.seq)
                        .filter(|seq| !stone(*seq))
                        .map(|seq| format!("point number {seq} of job {job} by writer {writer} is gone, and nobody with the right to has removed it")),
                );
                expected = point.point.seq + 1;
                found.extend(self.wrong_predecessor(point));
            }
        }
        found.sort();
        found
    }

    fn wrong_predecessor(&self, point: &StoredPoint) -> Option<String> {
        let Predecessor { id, hash } = point.point.predecessor.as_ref()?;
        let before = self.points.iter().chain(&self.removed).find(|p| p.point.id == *id)?;
        (before.hash != *hash).then(|| format!("point {} names a predecessor {id} that was other than the one there now", point.point.id))
    }
}
