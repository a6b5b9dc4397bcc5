//! What findings mean for Muster.

use std::time::Duration;

use crate::policy::S3Config;
use crate::report::outcome::{DoctorFinding, Judgement};
use crate::stores::probe::{Findings, RACERS};
use crate::stores::s3::{BucketFacts, ChecksumUse, Fact, ObjectLock};

use super::Examined;
use Judgement::{Bad, Good, Note};

/// A list that lags by more than this is unlike every store that is known.
const LAG_NOTED: Duration = Duration::from_secs(2);
/// Clocks that differ by more are said to.
const CLOCK_NOTED_SECS: f64 = 10.0;
/// S3 refuses requests that are signed so far from its own time.
const CLOCK_REFUSED_SECS: f64 = 900.0;

/// How a finding is recorded: `init` does so, and hosts that came later have to.
const RECORD_TRUE: &str = "write the line `conditional_put = true` below [repository.s3] in muster.toml";
const RECORD_FALSE: &str = "write the line `conditional_put = false` below [repository.s3] in muster.toml";

/// Everything that was found, in words.
pub(super) fn examined(examined: &Examined, s3: &S3Config, out: &mut Vec<DoctorFinding>) {
    let found = &examined.findings;
    out.push(conditional_put(examined, s3));
    out.push(lists(found));
    out.push(clock(found.clock_ahead_secs));
    out.push(match found.ranges {
        true => DoctorFinding::new(
            "ranges",
            Good,
            "a part of an object is read as it was put",
            "restoring single files fetches only what they need",
        ),
        false => DoctorFinding::new(
            "ranges",
            Bad,
            "a part of an object is not what was put there",
            "restores would fail: something between changes answers",
        )
        .next("look for a proxy or a cache between this machine and the store"),
    });
    if let Some((facts, checksums)) = &examined.bucket {
        out.push(checksum(*checksums));
        bucket(facts, out);
    }
    clean_up(found, out);
}

/// What stayed of the probe itself.
fn clean_up(found: &Findings, out: &mut Vec<DoctorFinding>) {
    let next = "allow deleting below probe/ (`muster doctor --iam`), or remove them by hand";
    match (&found.delete_refused, &found.left_behind) {
        (Some(why), _) => out.push(
            DoctorFinding::new(
                "delete",
                Note,
                format!("these keys may not delete, so that the probe's objects stayed in probe/: {why}"),
                "backups delete nothing and go on; prune needs the right on the one host that runs it",
            )
            .next(next),
        ),
        (None, Some(why)) => out.push(
            DoctorFinding::new(
                "clean-up",
                Bad,
                format!("objects of this probe stayed in probe/: {why}"),
                "they are small and harmless",
            )
            .next(next),
        ),
        (None, None) => {}
    }
}

fn conditional_put(examined: &Examined, s3: &S3Config) -> DoctorFinding {
    let found = &examined.findings;
    let works = found.conditional_put();
    let told = match (found.refuses_second_put, found.race_winners) {
        (true, 1) => format!("a second put of a name is refused, and of {RACERS} at once one wins"),
        (true, winners) => format!(
            "a second put of a name is refused, but of {RACERS} at once {winners} are told that they won"
        ),
        (false, _) => "a second put of a name is accepted and overwrites the first".to_owned(),
    };
    let is_bucket = examined.bucket.is_some();
    match (works, s3.conditional_put) {
        _ if !is_bucket => {
            let judgement = if works { Good } else { Note };
            DoctorFinding::new(
                "conditional-put",
                judgement,
                told,
                "names are unique in any case, so that nothing rests on it",
            )
        }
        (true, Some(true)) => DoctorFinding::new(
            "conditional-put",
            Good,
            told,
            "an object is created in one request and can never be overwritten by Muster",
        ),
        (true, None) => DoctorFinding::new(
            "conditional-put",
            Note,
            told,
            "muster.toml does not record it: each put is preceded by a look, which is slower",
        )
        .next(RECORD_TRUE),
        (true, Some(false)) => DoctorFinding::new(
            "conditional-put",
            Note,
            told,
            "muster.toml records otherwise (conditional_put = false): each put is preceded by a look, which is \
             slower, and a policy that demands the condition would refuse it",
        )
        .next(RECORD_TRUE),
        (false, Some(true)) => DoctorFinding::new(
            "conditional-put",
            Bad,
            told,
            "muster.toml records otherwise (conditional_put = true), so that Muster does not look before it puts",
        )
        .next(RECORD_FALSE),
        (false, None) => DoctorFinding::new(
            "conditional-put",
            Note,
            told,
            "Muster looks before it puts; names are unique by construction, so that no promise rests on it",
        )
        .next(format!("{RECORD_FALSE}, which saves the server a useless condition")),
        (false, Some(false)) => DoctorFinding::new(
            "conditional-put",
            Note,
            told,
            "Muster looks before it puts; names are unique by construction, so that no promise rests on it. But no \
             policy can keep a thief of this host's keys from overwriting: use versioning or Object Lock where there is one",
        ),
    }
}

fn lists(found: &Findings) -> DoctorFinding {
    // Where nothing may be deleted a list shows rightly what is there.
    let was_deleted = found.delete_refused.is_none();
    let delete = if was_deleted { found.list_lag_after_delete } else { Some(Duration::ZERO) };
    let (Some(put), Some(delete)) = (found.list_lag_after_put, delete) else {
        return DoctorFinding::new(
            "lists",
            Bad,
            "after 30 s a list did not show what was put, or still showed what was deleted",
            "backups may not see one another's packs, and prune could not be trusted: this store does not suit",
        )
        .next("use another store, or take the cache between away");
    };
    let lag = put.max(delete);
    match lag > LAG_NOTED {
        true => DoctorFinding::new(
            "lists",
            Note,
            format!("a list lagged by up to {:.1} s", lag.as_secs_f64()),
            "Muster allows for it by a margin of time",
        ),
        false => DoctorFinding::new(
            "lists",
            Good,
            match was_deleted {
                true => "a list shows at once what was put, and not any more what was deleted",
                false => "a list shows at once what was put",
            },
            "hosts see one another's work",
        ),
    }
}

fn clock(ahead: f64) -> DoctorFinding {
    let means = "Muster goes by the store's time everywhere";
    let which = if ahead > 0.0 { "behind" } else { "ahead of" };
    let found = format!("this machine's clock is {:.0} s {which} the store's", ahead.abs());
    match ahead.abs() {
        near if near < CLOCK_NOTED_SECS => {
            DoctorFinding::new("clock", Good, "this machine's clock agrees with the store's", means)
        }
        far if far > CLOCK_REFUSED_SECS => {
            DoctorFinding::new("clock", Bad, found, "stores refuse requests signed so far from their time")
                .next("set this machine's clock, for instance by NTP")
        }
        _ => DoctorFinding::new("clock", Note, found, means)
            .next("set this machine's clock, for instance by NTP"),
    }
}

fn checksum(used: ChecksumUse) -> DoctorFinding {
    match used {
        ChecksumUse::Verified => DoctorFinding::new(
            "checksums",
            Good,
            "a wrong CRC32C is refused",
            "bytes that change on the way to the store are noticed at once",
        ),
        ChecksumUse::Ignored => DoctorFinding::new(
            "checksums",
            Note,
            "a wrong CRC32C is accepted",
            "bytes that change on the way are noticed only when they are read: Muster proves every byte then",
        ),
        ChecksumUse::Refused => DoctorFinding::new(
            "checksums",
            Note,
            "the server does not take CRC32C",
            "Muster goes on without; bytes that change on the way are noticed when they are read",
        )
        .next("set checksums = \"off\" in [repository.s3], which saves a request now and then"),
    }
}

fn bucket(facts: &BucketFacts, out: &mut Vec<DoctorFinding>) {
    out.push(match &facts.versioning {
        Fact::Known(true) => DoctorFinding::new(
            "versioning",
            Note,
            "the bucket keeps old versions",
            "what is overwritten or deleted can be brought back; what prune deletes goes on costing money",
        )
        .next(
            "add a lifecycle rule that removes old versions after the time you want to be able to look back",
        ),
        Fact::Known(false) => DoctorFinding::new(
            "versioning",
            Note,
            "the bucket keeps no old versions",
            "what a thief of a pruner's keys deletes is gone",
        ),
        Fact::NotThere => DoctorFinding::new(
            "versioning",
            Note,
            "the server has no versioning",
            "what a thief of a pruner's keys deletes is gone",
        ),
        Fact::Unknown(why) => not_told("versioning", why, "s3:GetBucketVersioning"),
    });
    out.push(match &facts.object_lock {
        Fact::Known(ObjectLock { default_retention: Some((mode, days)) }) => DoctorFinding::new(
            "object-lock",
            Good,
            format!("on, and new objects are locked for {days} days ({mode})"),
            "nobody can destroy them before; prune's deletions only hide them until then",
        ),
        Fact::Known(ObjectLock { default_retention: None }) => DoctorFinding::new(
            "object-lock",
            Note,
            "on, but new objects are not locked by default",
            "it protects nothing as it is",
        )
        .next("set a default retention on the bucket, longer than you need to notice a break-in"),
        Fact::NotThere => DoctorFinding::new(
            "object-lock",
            Note,
            "off, or not there",
            "whoever may delete can destroy backups: give that right to one host only",
        ),
        Fact::Unknown(why) => not_told("object-lock", why, "s3:GetBucketObjectLockConfiguration"),
    });
}

fn not_told(check: &str, why: &str, permission: &str) -> DoctorFinding {
    DoctorFinding::new(check, Note, format!("could not be found out: {why}"), "only this finding is missing")
        .next(format!("allow {permission}, if you want to see it here"))
}
