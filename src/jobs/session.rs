//! A command's session in the store: what tells pruners that somebody is at work
//! (docs/FORMAT.md section 9.2).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Error, ErrorKind, Result, Time, Ulid};
use crate::ports::{Bell, Clock, Entropy};
use crate::repo::format::SessionState;
use crate::repo::repository::{Repository, random};

/// A session of this host.
pub struct Session<'a> {
    repo: &'a Repository,
    clock: &'a dyn Clock,
    /// The job's name, or the command's.
    job: String,
    id: Ulid,
    /// Nothing is written.
    dry_run: bool,
    state: Mutex<SessionNow>,
}

struct SessionNow {
    renewal: u32,
    renewed_at: Time,
    lapsed: Option<String>,
}

impl<'a> Session<'a> {
    /// Announces it. In a dry run nothing is written, and the host's clock stands for the store's.
    pub fn begin(
        repo: &'a Repository,
        job: &str,
        clock: &'a dyn Clock,
        entropy: &dyn Entropy,
        dry_run: bool,
    ) -> Result<Self> {
        let id = Ulid::new(clock.now(), random(entropy)?);
        let renewed_at = if dry_run {
            clock.now()
        } else {
            repo.put_session(&repo.session(id, job, 0, SessionState::Running, clock.now())?)?
        };
        let state = Mutex::new(SessionNow { renewal: 0, renewed_at, lapsed: None });
        Ok(Self { repo, clock, job: job.to_owned(), id, dry_run, state })
    }

    /// Its id.
    pub fn id(&self) -> Ulid {
        self.id
    }

    /// Renews it, and answers with the store's time now. An error where it had lapsed.
    pub fn renew(&self) -> Result<Time> {
        let mut now = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.dry_run {
            now.renewed_at = self.clock.now();
            return Ok(now.renewed_at);
        }
        now.renewal += 1;
        let next =
            self.repo.session(self.id, &self.job, now.renewal, SessionState::Running, self.clock.now())?;
        let renewed_at = self.repo.put_session(&next)?;
        let gap = renewed_at.secs_since(now.renewed_at);
        if gap > f64::from(self.repo.trusted().config.times.lapse_secs) {
            now.lapsed = Some(format!("{gap:.0} s passed between two renewals of its session"));
        }
        now.renewed_at = renewed_at;
        now.check().map(|()| renewed_at)
    }

    /// Renews the session in the background while `work` runs.
    pub fn kept_alive<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = Bell::default();
        let every = Duration::from_secs(u64::from(self.repo.trusted().config.times.renewal_secs.max(1)));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !self.clock.wait(every, &done) {
                    // A renewal that fails is tried again next time; a lapse shows at commit.
                    if let Err(error) = self.renew() {
                        tracing::warn!(%error, "the session was not renewed");
                    }
                }
            });
            let _ring = done.ring_at_end();
            work()
        })
    }

    /// The store's time of its newest renewal.
    pub fn renewed_at(&self) -> Time {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).renewed_at
    }

    /// Until when the store must have received what rests on this session.
    pub fn commit_before(&self) -> Result<Time> {
        let now = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        now.check()?;
        let times = self.repo.trusted().config.times;
        Ok(now.renewed_at.plus_secs(i64::from(times.lapse_secs) - i64::from(times.margin_secs)))
    }

    /// Says that the session is over. Only a courtesy to others: it lapses by itself.
    pub fn end_quietly(&self) {
        if self.dry_run {
            return;
        }
        let renewal = self.state.lock().unwrap_or_else(PoisonError::into_inner).renewal + 1;
        let ended = self
            .repo
            .session(self.id, &self.job, renewal, SessionState::Ended, self.clock.now())
            .and_then(|session| self.repo.put_session(&session));
        if let Err(error) = ended {
            tracing::warn!(%error, "the session's end was not written");
        }
    }
}

impl SessionNow {
    fn check(&self) -> Result<()> {
        match &self.lapsed {
            None => Ok(()),
            Some(why) => {
                Err(Error::new(ErrorKind::Interrupted, "go on", format!("the session lapsed: {why}"))
                    .hint("run it again: what is stored already is not sent again"))
            }
        }
    }
}
