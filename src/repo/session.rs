//! What a running backup and a pruner tell each other: sessions, condemned marks; and which packs
//! there are.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::{Error, ErrorKind, Hash, ObjectName, PackId, Result, Time, Ulid};
use crate::ports::ObjectMeta;

use super::cbor;
use super::format::{Condemned, Session, SessionState};
use super::layout::{self, BlobAt, PackAt};
use super::limits::SMALL_OBJECT_MAX_BYTES;
use super::repository::Repository;
use super::sign::{Envelope, Kind};
use super::trust::Trusted;

/// A condemned mark that a writer signed.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Its object.
    pub name: ObjectName,
    /// The store's time of it.
    pub stored_at: Time,
    /// Whether its writer is in good standing. One that a revoked key signed says nothing any more.
    pub is_trusted: bool,
    /// What it says.
    pub says: Condemned,
}

/// What the newest valid mark says of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody may refer to it any more; since when, by the store's time.
    Condemned(Time),
    /// It was condemned, and is needed after all.
    Spared,
    /// It was condemned, and was seen to be gone; since when.
    Gone(Time),
}

/// What all marks together say.
#[derive(Clone, Debug, Default)]
pub struct Condemnation {
    /// The newest word on each pack of which there is any.
    pub verdicts: HashMap<PackId, Verdict>,
    /// Packs that nobody may refer to: condemned ones, and those of which a new reference could meet somebody
    /// who deletes them still.
    pub shunned: HashSet<PackId>,
    /// Packs of which a key that has been replaced or revoked since has the newest word: it condemns them, for
    /// whoever refers to packs and for nobody else.
    pub condemned_by_past: HashSet<PackId>,
    /// Blobs that are mostly dead: whoever has a chunk's plaintext in hand stores it anew.
    pub sparse: HashSet<BlobAt>,
}

impl Condemnation {
    /// What these marks say. Of two on one pack the one stored later counts; of two stored at once, the one
    /// with the higher name. Nobody refers to a pack that was spared after `spared_before`: somebody who looked
    /// earlier may be about to delete it.
    pub fn of(marks: &[Mark], spared_before: Time) -> Self {
        let mut in_time: Vec<&Mark> = marks.iter().filter(|mark| mark.is_in_time()).collect();
        in_time.sort_by(|a, b| (a.stored_at, &a.name).cmp(&(b.stored_at, &b.name)));
        let mut all = Self::default();
        for mark in in_time {
            let at = mark.stored_at;
            all.shunned.extend(mark.says.packs.iter().chain(&mark.says.gone));
            if !mark.is_trusted {
                all.condemned_by_past.extend(mark.says.packs.iter().chain(&mark.says.gone));
                continue;
            }
            for pack in mark.packs() {
                all.condemned_by_past.remove(pack);
            }
            if at <= spared_before {
                for pack in &mark.says.spared {
                    all.shunned.remove(pack);
                }
            }
            for pack in &mark.says.packs {
                // Whoever says it again does not begin the time anew.
                let since = match all.verdicts.get(pack) {
                    Some(Verdict::Condemned(since)) => *since,
                    _ => at,
                };
                all.verdicts.insert(*pack, Verdict::Condemned(since));
            }
            all.verdicts.extend(mark.says.spared.iter().map(|pack| (*pack, Verdict::Spared)));
            all.verdicts.extend(mark.says.gone.iter().map(|pack| (*pack, Verdict::Gone(at))));
            // Each such list is the whole list.
            if let Some(sparse) = &mark.says.sparse {
                let blobs = sparse.iter().flat_map(|b| b.offsets.iter().map(|offset| (b.pack, *offset)));
                all.sparse = blobs.collect();
            }
        }
        all
    }

    /// Whether the pack is condemned.
    pub fn condemns(&self, pack: &PackId) -> bool {
        matches!(self.verdicts.get(pack), Some(Verdict::Condemned(_) | Verdict::Gone(_)))
    }

    /// Whether nobody may refer to the pack.
    pub fn shuns(&self, pack: &PackId) -> bool {
        self.shunned.contains(pack)
    }

    /// Since when the pack is condemned.
    pub fn since(&self, pack: &PackId) -> Option<Time> {
        match self.verdicts.get(pack)? {
            Verdict::Condemned(since) | Verdict::Gone(since) => Some(*since),
            Verdict::Spared => None,
        }
    }
}

impl Mark {
    /// Whether it counts. One that reached the store too late was written by somebody who slept, and
    /// what it rests on may have changed.
    pub fn is_valid(&self) -> bool {
        self.is_trusted && self.is_in_time()
    }

    /// Whether it reached the store in time, whoever signed it.
    pub fn is_in_time(&self) -> bool {
        self.stored_at <= self.says.put_before
    }

    /// Every pack that it speaks of.
    pub fn packs(&self) -> impl Iterator<Item = &PackId> {
        self.says.packs.iter().chain(&self.says.spared).chain(&self.says.gone)
    }
}

/// A session, as its objects show it.
#[derive(Clone, Debug)]
pub struct SessionSeen {
    /// Its id.
    pub id: Ulid,
    /// Its job, where it may be alive.
    pub job: String,
    /// The store's time of its first object.
    pub began: Time,
    /// Until when, by the store's time, it counts as alive; `None`: nobody trusted signed any of it.
    pub until: Option<Time>,
    /// Its objects, in order.
    pub objects: Vec<ObjectMeta>,
}

impl SessionSeen {
    /// Whether somebody may be at work in it.
    pub fn is_alive(&self, now: Time) -> bool {
        self.until.is_some_and(|until| now <= until)
    }
}

impl Repository {
    /// Stores renewal `renewal` of a session, and answers with the store's time of it.
    pub fn put_session(&self, session: &Session) -> Result<Time> {
        let name = layout::session(&session.id, session.renewal);
        self.put_signed(Kind::Session, &name, session)?;
        let meta = self.store().stat(&name)?.ok_or_else(|| {
            Error::new(
                ErrorKind::Store,
                "renew the session",
                "the object is not there right after it was written",
            )
            .on(name.to_string())
        })?;
        Ok(meta.stored_at)
    }

    /// A session's next state.
    pub fn session(
        &self,
        id: Ulid,
        job: &str,
        renewal: u32,
        state: SessionState,
        now: Time,
    ) -> Result<Session> {
        Ok(Session {
            id,
            writer: self.writer()?.sign.party(),
            job: job.to_owned(),
            renewal,
            state,
            config: self.trusted().config.number,
            at: now,
        })
    }

    /// What the marks say, together, to somebody who looks at `now`. Those that no writer signed do not count.
    pub fn condemned(&self, now: Time) -> Result<Condemnation> {
        Ok(Condemnation::of(&self.marks()?, self.spared_before(now)))
    }

    /// Whoever deletes looks at the marks again before a session of his could lapse: what was spared before
    /// this nobody is about to delete.
    pub fn spared_before(&self, now: Time) -> Time {
        let times = self.trusted().config.times;
        now.plus_secs(-i64::from(times.lapse_secs) - i64::from(times.margin_secs))
    }

    /// The condemned marks that writers signed, past ones among them.
    pub fn marks(&self) -> Result<Vec<Mark>> {
        self.marks_by(self.trusted())
    }

    /// The same as somebody reads them for whom `trusted` is the newest config.
    pub fn marks_by(&self, trusted: &Trusted) -> Result<Vec<Mark>> {
        let mut marks = Vec::new();
        for meta in self.list_all(layout::CONDEMNED)? {
            match self.read_mark(trusted, &meta) {
                Ok(mark) => marks.push(mark),
                // A mark that went away while this looked is none: its packs were spared, or are long gone.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.is_about_content() => {
                    tracing::warn!(%error, "a condemned mark is not taken");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(marks)
    }

    fn read_mark(&self, trusted: &Trusted, meta: &ObjectMeta) -> Result<Mark> {
        let name = &meta.name;
        let sealed = self.store().get(name, SMALL_OBJECT_MAX_BYTES as u64)?;
        let envelope = self.open_envelope(name, &sealed, SMALL_OBJECT_MAX_BYTES)?;
        let is_trusted = trusted.verify_writer(&envelope, Kind::Condemned, None).is_ok();
        if !is_trusted {
            trusted.verify_writer_past_or_present(&envelope, Kind::Condemned, None)?;
        }
        let says: Condemned = cbor::decode(&envelope.payload, "condemned mark")?;
        let hash = Hash(*blake3::hash(&sealed).as_bytes());
        if says.by != envelope.signer || layout::condemned(&hash) != *name {
            return Err(Error::new(
                ErrorKind::Untrusted,
                "trust the condemned mark",
                "it does not say what its name and signature say",
            )
            .on(name.to_string()));
        }
        Ok(Mark { name: name.clone(), stored_at: meta.stored_at, is_trusted, says })
    }

    /// Stores a mark, and answers with its name.
    pub fn put_mark(&self, mark: &Condemned) -> Result<ObjectName> {
        let key = &self.writer()?.sign;
        let envelope = Envelope::sign(key, self.id(), Kind::Condemned, None, cbor::encode(mark));
        let sealed = self.seal_envelope(&envelope)?;
        let name = layout::condemned(&Hash(*blake3::hash(&sealed).as_bytes()));
        self.store().put(&name, &[&sealed])?;
        Ok(name)
    }

    /// Every session of which something is stored, by its objects' names and times; those that may
    /// still be alive at `now` are read. One that nobody trusted signed does not count.
    pub fn sessions(&self, now: Time) -> Result<Vec<SessionSeen>> {
        let mut found: BTreeMap<Ulid, Vec<(u32, ObjectMeta)>> = BTreeMap::new();
        for meta in self.list_all(layout::SESSIONS)? {
            if let Some((id, renewal)) = layout::parse_session(&meta.name) {
                found.entry(id).or_default().push((renewal, meta));
            }
        }
        found.into_iter().map(|(id, objects)| self.session_seen(id, objects, now)).collect()
    }

    fn session_seen(&self, id: Ulid, mut objects: Vec<(u32, ObjectMeta)>, now: Time) -> Result<SessionSeen> {
        objects.sort_by_key(|(renewal, _)| *renewal);
        let times = self.trusted().config.times;
        let mut seen = SessionSeen { id, job: String::new(), began: now, until: None, objects: Vec::new() };
        seen.objects = objects.iter().map(|(_, meta)| meta.clone()).collect();
        if let Some((_, first)) = objects.first() {
            seen.began = first.stored_at;
        }
        for (_, meta) in objects.iter().rev() {
            // A newer renewal, and what rests on it, may not be listed yet.
            let lapses = meta.stored_at.plus_secs(i64::from(times.lapse_secs) + i64::from(times.margin_secs));
            // What lapsed long ago need not be opened, whatever it says.
            if lapses < now {
                seen.until = seen.until.max(Some(lapses));
                break;
            }
            match self.read_session(&meta.name) {
                Ok(session) => {
                    seen.job = session.job;
                    // What was put just before the end may not be listed yet.
                    let ended = meta.stored_at.plus_secs(i64::from(times.margin_secs));
                    seen.until = Some(if session.state == SessionState::Ended { ended } else { lapses });
                    break;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.is_about_content() => {
                    tracing::warn!(%error, "a session's object is not taken");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(seen)
    }

    fn read_session(&self, name: &ObjectName) -> Result<Session> {
        let sealed = self.store().get(name, SMALL_OBJECT_MAX_BYTES as u64)?;
        let envelope = self.open_envelope(name, &sealed, SMALL_OBJECT_MAX_BYTES)?;
        // What a key that was revoked meanwhile stores is refused, so nobody need wait for it; and a thief of
        // the key could hold up all deleting for ever.
        self.trusted().verify_writer(&envelope, Kind::Session, Some(name))?;
        let session: Session =
            cbor::decode(&envelope.payload, "session").map_err(|e| e.on(name.to_string()))?;
        if session.writer != envelope.signer || layout::session(&session.id, session.renewal) != *name {
            return Err(Error::new(
                ErrorKind::Untrusted,
                "trust the session",
                "it does not say what its name and signature say",
            )
            .on(name.to_string()));
        }
        Ok(session)
    }

    /// Everything in a folder of the store.
    pub fn list_all(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        let mut all = Vec::new();
        self.store().list(prefix, &mut |meta| {
            all.push(meta);
            Ok(())
        })?;
        Ok(all)
    }

    /// Every pack in the store.
    pub fn list_packs_at(&self) -> Result<HashMap<PackId, PackAt>> {
        let mut packs = HashMap::new();
        self.store().list(layout::PACKS, &mut |meta| {
            if let Some((kind, id)) = layout::parse_pack(&meta.name) {
                packs.insert(id, PackAt { kind, size: meta.size, stored_at: meta.stored_at });
            }
            Ok(())
        })?;
        Ok(packs)
    }

    /// Every pack in the store, with its size.
    pub fn list_packs(&self) -> Result<HashMap<PackId, (layout::PackKind, u64)>> {
        Ok(self.list_packs_at()?.into_iter().map(|(id, at)| (id, (at.kind, at.size))).collect())
    }

    /// Stores an index object and answers with its hash.
    pub fn put_index(&self, object: &[u8]) -> Result<Hash> {
        let hash = Hash(*blake3::hash(object).as_bytes());
        self.store().put(&layout::index(&hash), &[object])?;
        Ok(hash)
    }
}
