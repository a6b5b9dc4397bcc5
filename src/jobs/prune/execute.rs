//! Carrying out a plan: marks first, then what was marked long ago is deleted.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::model::{Error, ErrorKind, ObjectName, PackId, Result};
use crate::repo::layout;
use crate::repo::repository::Repository;
use crate::repo::session::{Condemnation, SessionSeen};
use crate::report::outcome::Prune;

use super::super::session::Session;
use super::PruneRequest;
use super::plan::{Fate, Plan};
use super::statements::{By, needless, newly_gone};
use super::view::{View, refuse_newer_config};

/// Between two looks at whether what is to be deleted is still condemned.
const DELETES_BETWEEN_LOOKS: usize = 256;
/// The same in time. A writer may refer to a pack a lapse after it was spared, so this must be well below one.
const TIME_BETWEEN_LOOKS: Duration = Duration::from_secs(120);

/// A plan being carried out.
pub(super) struct Execution<'a> {
    pub repo: &'a Repository,
    pub request: &'a PruneRequest<'a>,
    pub session: &'a Session<'a>,
    pub view: &'a View,
    pub plan: &'a Plan,
}

impl Execution<'_> {
    /// All steps, each of which leaves a sound repository.
    pub fn run(&self, outcome: &mut Prune) -> Result<()> {
        self.mark()?;
        if self.request.settings.delete {
            self.delete_packs(outcome)?;
            self.delete_points(outcome)?;
        }
        self.tidy(outcome)
    }

    fn mark(&self) -> Result<()> {
        let view = self.view;
        let by = By {
            by: self.repo.writer()?.sign.party(),
            oldest_session: view.oldest_session,
            at: self.request.clock.now(),
            put_before: view.began.plus_secs(i64::from(view.times.lapse_secs)),
        };
        let ids = |fate| view.of(self.plan, fate).map(|used| used.id);
        let is_settled = |at| view.is_settled(at);
        let mut marks = by.spared(ids(Fate::Spare));
        marks.extend(by.condemned(ids(Fate::Condemn)));
        marks.extend(by.gone(newly_gone(&view.condemnation, &view.packs, &is_settled)));
        marks.extend(by.sparse(&view.uses, &view.condemnation.sparse));
        self.request.progress.stage("write marks", Some(marks.len() as u64), None);
        for mark in &marks {
            self.request.cancel.check()?;
            self.repo.put_mark(mark)?;
            self.request.progress.add(1, 0);
        }
        Ok(())
    }

    fn delete_packs(&self, outcome: &mut Prune) -> Result<()> {
        // Before anything is deleted: some stores hide what is locked and call that deleting.
        let locked = self.view.locked(self.repo, self.request, self.plan)?;
        for (used, why) in &locked {
            outcome.keep_locked(used.at.size, why);
        }
        let kept: HashSet<PackId> = locked.iter().map(|(used, _)| used.id).collect();
        let all = self.view.of(self.plan, Fate::Delete);
        let doomed: Vec<_> = all.filter(|used| !kept.contains(&used.id)).collect();
        self.request.progress.stage("delete packs", Some(doomed.len() as u64), None);
        let mut look = Look::default();
        for used in doomed {
            self.request.cancel.check()?;
            if look.is_old() {
                look = self.look_again()?;
            }
            look.deletes += 1;
            // Somebody else found out that it is needed after all, or who condemned it lost the right to.
            if !look.condemnation.condemns(&used.id) {
                outcome.keep_waiting(used.at.size);
                continue;
            }
            match self.delete(&layout::pack(used.at.kind, &used.id))? {
                Deleted::Yes => {}
                Deleted::Refused(why) => outcome.keep_locked(used.at.size, &why.to_string()),
            }
            self.request.progress.add(1, used.at.size);
        }
        Ok(())
    }

    /// What the marks say by now. An error where this machine slept so long that what it saw may be out of date,
    /// or where the configuration has changed.
    fn look_again(&self) -> Result<Look> {
        let now = self.session.renew()?;
        refuse_newer_config(self.repo)?;
        let condemnation = self.repo.condemned(now)?;
        Ok(Look { condemnation, at: Some(Instant::now()), deletes: 0 })
    }

    /// Objects of points whose tombstone has stood for the grace period. The tombstones stay.
    fn delete_points(&self, outcome: &mut Prune) -> Result<()> {
        let limit = self.view.began.plus_secs(-i64::from(self.view.times.grace_secs));
        for stored in &self.view.points.removed {
            let id = &stored.point.id;
            if self.view.points.tombstoned_at.get(id).is_some_and(|at| *at <= limit) {
                self.request.cancel.check()?;
                if matches!(self.delete(&layout::point(id))?, Deleted::Yes) {
                    outcome.objects_tidied += 1;
                }
            }
        }
        Ok(())
    }

    /// Deletes what only keeps books. None of it can hurt a point, whenever it happens.
    fn tidy(&self, outcome: &mut Prune) -> Result<()> {
        self.request.progress.stage("tidy up", None, None);
        let gone =
            |pack: &PackId| self.view.condemnation.condemns(pack) && !self.view.packs.contains_key(pack);
        self.view.index.drop_packs(self.repo, &gone)?;
        if !self.request.settings.delete {
            return Ok(());
        }
        let mut needless = self.needless_index(&gone);
        needless.extend(self.needless_marks());
        needless.extend(self.view.sessions.iter().flat_map(|session| self.needless_session(session)));
        for name in needless {
            self.request.cancel.check()?;
            if matches!(self.delete(&name)?, Deleted::Yes) {
                outcome.objects_tidied += 1;
            }
        }
        Ok(())
    }

    /// Index objects that others have put out of use, or that name nothing but packs that are gone.
    fn needless_index(&self, gone: &dyn Fn(&PackId) -> bool) -> Vec<ObjectName> {
        let view = self.view;
        let is_settled =
            |name: &ObjectName| view.index_times.get(name).is_some_and(|at| view.is_settled(*at));
        let mut names: HashSet<ObjectName> = HashSet::new();
        for (hash, by) in &view.synced.superseded_by {
            if by.iter().any(|by| is_settled(&layout::index(by))) {
                names.insert(layout::index(hash));
            }
        }
        for segment in view.index.segments() {
            if !segment.packs().is_empty() && segment.packs().iter().all(|pack| gone(&pack.id)) {
                names.extend(segment.objects().iter().map(layout::index));
            }
        }
        names.retain(is_settled);
        let mut names: Vec<ObjectName> = names.into_iter().collect();
        names.sort();
        names
    }

    fn needless_marks(&self) -> Vec<ObjectName> {
        let view = self.view;
        let named: HashSet<PackId> = view.index.packs();
        needless(&view.marks, &view.packs, &|at| view.is_settled(at), &|pack| named.contains(pack))
    }

    /// A session that is over. Its first object stays while there is a point of it: it tells a copied
    /// store (docs/FORMAT.md section 9.1).
    fn needless_session(&self, session: &SessionSeen) -> Vec<ObjectName> {
        let view = self.view;
        let is_over = session.objects.last().is_none_or(|last| {
            let lapse = i64::from(view.times.lapse_secs) + i64::from(view.times.margin_secs);
            last.stored_at.plus_secs(lapse) < view.oldest_session
        });
        if session.is_alive(view.began) || !is_over {
            return Vec::new();
        }
        let points = view.points.points.iter().chain(&view.points.removed);
        let has_point = points.into_iter().any(|p| p.point.session == session.id);
        let first = layout::session(&session.id, 0);
        let names = session.objects.iter().map(|meta| &meta.name);
        names.filter(|name| !has_point || **name != first).cloned().collect()
    }

    fn delete(&self, name: &ObjectName) -> Result<Deleted> {
        match self.repo.store().delete(name) {
            Ok(()) => Ok(Deleted::Yes),
            // A lock, or a policy: the rest can still be done.
            Err(error) if error.kind() == ErrorKind::Refused => Ok(Deleted::Refused(error)),
            Err(error) => {
                Err(error.hint("what was deleted until then is deleted; run `muster prune` again to go on"))
            }
        }
    }
}

/// A look at the marks, and since when it has served.
#[derive(Default)]
struct Look {
    condemnation: Condemnation,
    at: Option<Instant>,
    deletes: usize,
}

impl Look {
    fn is_old(&self) -> bool {
        self.deletes >= DELETES_BETWEEN_LOOKS || self.at.is_none_or(|at| at.elapsed() >= TIME_BETWEEN_LOOKS)
    }
}

enum Deleted {
    Yes,
    Refused(Error),
}
