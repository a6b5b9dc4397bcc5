//! Everything but the packs' bytes and the trees: keys, points, small signed objects, the index,
//! and whether the packs it names are there.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::model::{EpochId, ErrorKind, ObjectName, PackId, PartyId, Result, Time};
use crate::ports::ObjectMeta;
use crate::repo::cbor;
use crate::repo::format::{Condemned, Epoch, EpochKind, EpochState, Session, Tombstone};
use crate::repo::index::Index;
use crate::repo::keys::{HostKeys, parse_epoch_identity};
use crate::repo::layout;
use crate::repo::limits::SMALL_OBJECT_MAX_BYTES;
use crate::repo::points::PointList;
use crate::repo::repository::Repository;
use crate::repo::seal;
use crate::repo::session::Condemnation;
use crate::repo::sign::{Envelope, Kind};
use crate::report::human::{count, counted};

use super::damage::Damage;
use super::{CheckRequest, Findings, finding, reason};

/// Most names of odd objects that are told one by one.
const NAMES_TOLD: usize = 5;

fn list(repo: &Repository, prefix: &str) -> Result<Vec<ObjectMeta>> {
    let mut metas = Vec::new();
    repo.store().list(prefix, &mut |meta| {
        metas.push(meta);
        Ok(())
    })?;
    Ok(metas)
}

/// The chain was verified when the repository was opened; here it is only counted.
pub(super) fn config(repo: &Repository, found: &mut Findings) -> Result<()> {
    let metas = list(repo, layout::CONFIG)?;
    found.count(layout::CONFIG, metas.len() as u64);
    found.read(metas.iter().map(|m| m.size).sum());
    for folder in ["evidence/", "audit/", "receipts/", "leases/"] {
        found.count(folder, list(repo, folder)?.len() as u64);
    }
    Ok(())
}

/// Who may have a key file of an epoch, with the age recipient where it has a text.
fn holders(repo: &Repository, epoch: &Epoch) -> HashMap<PartyId, Option<String>> {
    let config = &repo.trusted().config;
    let mut holders: HashMap<_, _> = config.recipients.iter().map(|r| (r.id, r.recipient.clone())).collect();
    if epoch.kind == EpochKind::Meta {
        holders.extend(config.writers.iter().map(|w| (w.id, Some(w.recipient.clone()))));
    }
    holders
}

/// Every epoch in use has a key file for each who may open it, and for nobody else.
pub(super) fn keys(repo: &Repository, request: &CheckRequest<'_>, found: &mut Findings) -> Result<()> {
    let metas = list(repo, layout::KEYS)?;
    found.count(layout::KEYS, metas.len() as u64);
    let mut there: HashSet<ObjectName> = metas.into_iter().map(|m| m.name).collect();
    for epoch in &repo.trusted().config.epochs {
        let holders = holders(repo, epoch);
        for (who, recipient) in &holders {
            let folder = format!("{}{}/", layout::KEYS, epoch.id);
            let is_theirs =
                |name: &ObjectName| name.as_str().starts_with(&folder) && layout::is_key_of(name, who);
            let theirs: Vec<_> = there.extract_if(is_theirs).collect();
            if !theirs.is_empty() {
                prove_keys(repo, request, epoch, (who, recipient.as_deref()), theirs, found)?;
            } else if epoch.state != EpochState::Retired {
                let name = layout::key(&epoch.id, who);
                let label = repo.label(who).map(|l| format!(" ({l})")).unwrap_or_default();
                found.problem(
                    name.to_string(),
                    format!(
                        "{who}{label} has no key file for this epoch and cannot open what is sealed to it"
                    ),
                );
            }
        }
        if epoch.state == EpochState::Retired {
            // Those who were recipients then may have theirs still.
            there.retain(|name| !name.as_str().starts_with(&format!("{}{}/", layout::KEYS, epoch.id)));
        }
    }
    let mut strange: Vec<_> = there.into_iter().collect();
    strange.sort();
    for name in strange {
        found.warn(format!(
            "{name}: somebody added a key file for a party that the configuration does not name; nothing is sealed to it, but find out who wrote it"
        ));
    }
    Ok(())
}

/// One of a party's key files must be good; others may be of earlier keys of it.
fn prove_keys(
    repo: &Repository,
    request: &CheckRequest<'_>,
    epoch: &Epoch,
    holder: (&PartyId, Option<&str>),
    mut names: Vec<ObjectName>,
    found: &mut Findings,
) -> Result<()> {
    names.sort();
    let mut problems = Vec::new();
    for name in &names {
        if let Some(problem) = key_problem(repo, request, epoch, holder, name, found)? {
            problems.push((name.to_string(), problem));
        }
    }
    if problems.len() == names.len() {
        problems.into_iter().for_each(|(name, problem)| found.problem(name, problem));
    }
    Ok(())
}

/// A key file for which the key is at hand must hold the epoch's identity.
fn key_problem(
    repo: &Repository,
    request: &CheckRequest<'_>,
    epoch: &Epoch,
    (who, recipient): (&PartyId, Option<&str>),
    name: &ObjectName,
    found: &mut Findings,
) -> Result<Option<String>> {
    let sealed = match finding(repo.store().get(name, SMALL_OBJECT_MAX_BYTES as u64))? {
        Ok(sealed) => sealed,
        Err(error) => return Ok(Some(reason(&error))),
    };
    found.read(sealed.len() as u64);
    // Keys that were replaced open nothing of their party any more, and prove nothing.
    let is_current = |host: &&HostKeys| {
        let trusted = repo.trusted();
        trusted.is_writers(&host.sign) || trusted.drill_key(who) == Some(&host.sign.public())
    };
    let own = repo.host().filter(|host| host.sign.party() == *who).filter(is_current);
    let opened = match own {
        Some(host) => seal::decrypt(&[&host.identity], &sealed),
        None if recipient.is_some_and(|text| request.identities.has(text)) => {
            seal::decrypt(&request.identities.as_refs(), &sealed)
        }
        None => {
            let is_age = sealed.starts_with(b"age-encryption.org/v1\n");
            return Ok((!is_age).then(|| "it is not an age file".to_owned()));
        }
    };
    let problem = match opened {
        Ok(plain) => match parse_epoch_identity(&plain) {
            Some(identity) if identity.to_public().to_string() == epoch.recipient => return Ok(None),
            _ => "it opens, but does not hold this epoch's key: somebody replaced it",
        },
        Err(_) => "the key of its holder does not open it: it is damaged, or somebody replaced it",
    };
    Ok(Some(problem.to_owned()))
}

/// Which points there are and can be trusted.
pub(super) fn points(repo: &Repository, found: &mut Findings) -> Result<PointList> {
    let sizes = list(repo, layout::POINTS)?;
    found.count(layout::POINTS, sizes.len() as u64);
    found.read(sizes.iter().map(|m| m.size).sum());
    let mut points = repo.points()?;
    for (name, error) in std::mem::take(&mut points.refused) {
        if !error.is_about_content() {
            return Err(error);
        }
        found.problem(name.to_string(), format!("it is not taken for a recovery point: {}", reason(&error)));
        if let (Some(id), Some(problem)) = (layout::parse_point(&name), found.problems.last_mut())
            && error.kind() != ErrorKind::Untrusted
        {
            problem.points_hurt.push(id.to_string());
        }
    }
    for gap in points.gaps().into_iter().chain(points.vanished.iter().cloned()) {
        found.problem(layout::POINTS, gap);
    }
    let none_good = points.points.iter().all(|p| p.is_void);
    for point in points.points.iter().filter(|p| p.is_void) {
        if none_good {
            found.problem(
                layout::point(&point.point.id).to_string(),
                "it is void, as is every other point: there is nothing that counts as a backup here"
                    .to_owned(),
            );
            continue;
        }
        found.warn(format!(
            "{}: it is void: it reached the store after its session could have lapsed, so nothing of it is kept alive",
            layout::point(&point.point.id)
        ));
    }
    if points.is_copy {
        found.warn(
            "this store is a plain copy of another, so its times mean nothing: nothing may be pruned here",
        );
    }
    Ok(points)
}

fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_TOLD).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_TOLD) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Sessions, tombstones and condemned marks can be read and were signed by a writer. In a plain copy no
/// mark came in time, and none is needed.
pub(super) fn small_objects(
    repo: &Repository,
    request: &CheckRequest<'_>,
    is_copy: bool,
    found: &mut Findings,
) -> Result<()> {
    for (folder, kind) in [
        (layout::SESSIONS, Kind::Session),
        (layout::TOMBSTONES, Kind::Tombstone),
        (layout::CONDEMNED, Kind::Condemned),
    ] {
        let metas = list(repo, folder)?;
        found.count(folder, metas.len() as u64);
        for meta in metas {
            request.cancel.check()?;
            request.progress.add(1, meta.size);
            found.read(meta.size);
            match finding(small_object(repo, kind, &meta))? {
                Ok(Some(Note::Late)) if is_copy => {}
                Ok(None) => {}
                Ok(Some(note)) => found.warn(format!("{}: {}", meta.name, note.text())),
                // A pruner at work tidies these up.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => found.problem(meta.name.to_string(), reason(&error)),
            }
        }
    }
    Ok(())
}

/// What is odd about a small object, so that it does not count.
enum Note {
    /// It says that it is another one.
    Misnamed(ObjectName),
    /// A mark that came after the time that it gives itself.
    Late,
    /// Its key was revoked since.
    Stale,
}

impl Note {
    fn text(&self) -> String {
        match self {
            Self::Misnamed(says) => {
                format!("it does not say what its name says (it says {says}), and is not counted")
            }
            Self::Late => {
                "it reached the store later than it allows itself, as its writer slept or the store was \
                           slow, and is not counted: the next prune marks anew what need be"
                    .to_owned()
            }
            Self::Stale => "it is signed with a key that was revoked since, and is not counted".to_owned(),
        }
    }
}

fn small_object(repo: &Repository, kind: Kind, meta: &ObjectMeta) -> Result<Option<Note>> {
    let name = &meta.name;
    let sealed = repo.store().get(name, SMALL_OBJECT_MAX_BYTES as u64)?;
    let envelope = repo.open_envelope(name, &sealed, SMALL_OBJECT_MAX_BYTES)?;
    let signed_name = (kind != Kind::Condemned).then_some(name);
    repo.trusted().verify_writer_past_or_present(&envelope, kind, signed_name)?;
    let (says, put_before) = what_it_says(kind, &envelope, &sealed)?;
    if says != *name {
        return Ok(Some(Note::Misnamed(says)));
    }
    let stored = crate::model::Hash(*blake3::hash(&sealed).as_bytes());
    let is_stale = repo.trusted().verify_writer(&envelope, kind, signed_name).is_err()
        && !repo.trusted().is_kept(&envelope, kind, signed_name, &stored);
    // A revoked or rotated key's sessions are over; its other marks no longer count.
    if is_stale && kind != Kind::Session {
        return Ok(Some(Note::Stale));
    }
    Ok(put_before.is_some_and(|limit| meta.stored_at > limit).then_some(Note::Late))
}

/// The name that an object's payload belongs to, and until when the store must have received it.
fn what_it_says(kind: Kind, envelope: &Envelope, sealed: &[u8]) -> Result<(ObjectName, Option<Time>)> {
    Ok(match kind {
        Kind::Session => {
            let session: Session = cbor::decode(&envelope.payload, kind.word())?;
            (layout::session(&session.id, session.renewal), None)
        }
        Kind::Tombstone => {
            let stone: Tombstone = cbor::decode(&envelope.payload, kind.word())?;
            (layout::tombstone(&stone.point), None)
        }
        _ => {
            let mark: Condemned = cbor::decode(&envelope.payload, kind.word())?;
            (layout::condemned(&crate::model::Hash(*blake3::hash(sealed).as_bytes())), Some(mark.put_before))
        }
    })
}

/// Reads every index object anew. Answers with the index and the names of those refused.
pub(super) fn index(
    repo: &Repository,
    scratch: &Path,
    found: &mut Findings,
) -> Result<(Index, Vec<ObjectName>)> {
    let sizes = list(repo, layout::INDEX)?;
    found.read(sizes.iter().map(|m| m.size).sum());
    let (index, report) = Index::sync_into(repo, scratch.join("index"))?;
    found.count(layout::INDEX, report.objects as u64);
    let mut refused = Vec::new();
    for (name, error) in report.refused {
        if layout::parse_index(&name).is_some_and(|hash| report.superseded_by.contains_key(&hash)) {
            found.warn(format!(
                "{name}: it is damaged, but another index object has replaced it: {}",
                error.why()
            ));
            continue;
        }
        found.problem(name.to_string(), format!("{}; run `muster repair index`", reason(&error)));
        refused.push(name);
    }
    Ok((index, refused))
}

/// Packs that may be gone: those that marks condemn. In a plain copy the times of marks mean nothing, and what a
/// pruner did is not undone when its key is revoked, so there whatever they name counts. This hides no damage:
/// a missing pack that a point needs is named as what hurts it.
pub(super) fn given_up(repo: &Repository, is_copy: bool) -> Result<HashSet<PackId>> {
    let marks = repo.marks()?;
    let condemnation = Condemnation::of(&marks, Time::new(i64::MAX, 0));
    let said = marks.iter().filter(|mark| is_copy || !mark.is_trusted);
    let said = said.flat_map(|mark| mark.says.packs.iter().chain(&mark.says.gone)).copied();
    let condemned = condemnation.verdicts.keys().filter(|pack| condemnation.condemns(pack)).copied();
    Ok(condemned.chain(said).collect())
}

/// Compares the packs that are there with those that the index names. Those of `given_up` may be missing.
pub(super) fn packs(
    repo: &Repository,
    index: &Index,
    given_up: HashSet<PackId>,
    found: &mut Findings,
) -> Result<Damage> {
    let mut sizes = HashMap::new();
    let mut foreign = Vec::new();
    repo.store().list(layout::PACKS, &mut |meta| {
        match layout::parse_pack(&meta.name) {
            Some((kind, id)) => {
                sizes.insert(id, (kind, meta.size));
            }
            None => foreign.push(meta.name.to_string()),
        }
        Ok(())
    })?;
    found.count(layout::PACKS, (sizes.len() + foreign.len()) as u64);
    if !foreign.is_empty() {
        found.warn(format!("not packs of Muster, and not touched: {}", some_of(&foreign)));
    }
    let mut damage = Damage::new(sizes, given_up);
    let mut unknown: HashSet<_> =
        damage.sizes.keys().filter(|pack| !damage.given_up.contains(pack)).copied().collect();
    for segment in index.segments() {
        for pack in segment.packs() {
            unknown.remove(&pack.id);
            match damage.sizes.get(&pack.id).copied() {
                None if damage.given_up.contains(&pack.id) => {
                    damage.gone.insert(pack.id, pack.kind);
                }
                None => damage.note(pack.id, pack.kind, "the index names it, and it is not there"),
                Some((kind, _)) if kind != pack.kind => {
                    damage.note(pack.id, kind, "the index takes it for the other kind of pack");
                }
                Some((kind, size)) if size != pack.size => {
                    damage.note(
                        pack.id,
                        kind,
                        format!(
                            "it has {}, and the index says {}: it was truncated or changed",
                            counted(size, "byte"),
                            count(pack.size)
                        ),
                    );
                }
                Some(_) => {}
            }
        }
    }
    damage.unknown = unknown.len();
    if !unknown.is_empty() {
        let mut names: Vec<String> = unknown.iter().map(ToString::to_string).collect();
        names.sort();
        found.warn(format!(
            "{} in the store that the index does not know, left by a backup that was interrupted or is running, or because the index was lost (`muster repair index` takes them in): {}",
            counted(unknown.len() as u64, "pack"),
            some_of(&names)
        ));
    }
    Ok(damage)
}

/// In words, which epoch a blob is sealed to and why that is wrong; nothing where it is right.
pub(super) fn wrong_epoch(repo: &Repository, epoch: &EpochId, kind: layout::PackKind) -> Option<String> {
    let wanted = match kind {
        layout::PackKind::Data => EpochKind::Data,
        layout::PackKind::Meta => EpochKind::Meta,
    };
    match repo.epochs().get(epoch) {
        Some(open) if open.kind == wanted => None,
        Some(_) => Some(format!("it is sealed to epoch {epoch}, which is of the other kind")),
        None => Some(format!("it is sealed to epoch {epoch}, which the configuration does not name")),
    }
}
