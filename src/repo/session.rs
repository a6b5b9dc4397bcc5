//! What a running backup and a pruner tell each other: sessions, condemned marks; and which packs
//! there are.

use std::collections::HashMap;

use crate::model::{Error, ErrorKind, Hash, PackId, Result, Time, Ulid};

use super::cbor;
use super::format::{Session, SessionState};
use super::layout;
use super::limits::SMALL_OBJECT_MAX_BYTES;
use super::repository::Repository;
use super::sign::Kind;

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

    /// Packs that a mark condemns. Marks that nobody trusted signed do not count.
    pub fn condemned(&self) -> Result<std::collections::HashSet<PackId>> {
        let mut names = Vec::new();
        self.store().list(layout::CONDEMNED, &mut |meta| {
            names.push(meta.name);
            Ok(())
        })?;
        let mut packs = std::collections::HashSet::new();
        for name in names {
            let sealed = self.store().get(&name, SMALL_OBJECT_MAX_BYTES as u64)?;
            let checked = self.open_envelope(&name, &sealed, SMALL_OBJECT_MAX_BYTES).and_then(|envelope| {
                self.trusted().verify_writer(&envelope, Kind::Condemned, None)?;
                let mark: super::format::Condemned = cbor::decode(&envelope.payload, "condemned mark")?;
                if mark.by != envelope.signer
                    || layout::condemned(&Hash(*blake3::hash(&sealed).as_bytes())) != name
                {
                    return Err(Error::new(
                        ErrorKind::Untrusted,
                        "trust the condemned mark",
                        "it does not say what its name and signature say",
                    )
                    .on(name.to_string()));
                }
                Ok(mark)
            });
            match checked {
                Ok(mark) => packs.extend(mark.packs),
                Err(error) => tracing::warn!(%error, "a condemned mark is not taken"),
            }
        }
        Ok(packs)
    }

    /// Every pack in the store, with its size.
    pub fn list_packs(&self) -> Result<HashMap<PackId, (layout::PackKind, u64)>> {
        let mut packs = HashMap::new();
        self.store().list(layout::PACKS, &mut |meta| {
            if let Some((kind, id)) = layout::parse_pack(&meta.name) {
                packs.insert(id, (kind, meta.size));
            }
            Ok(())
        })?;
        Ok(packs)
    }

    /// Stores an index object and answers with its hash.
    pub fn put_index(&self, object: &[u8]) -> Result<Hash> {
        let hash = Hash(*blake3::hash(object).as_bytes());
        self.store().put(&layout::index(&hash), &[object])?;
        Ok(hash)
    }
}
