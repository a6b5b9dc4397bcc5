//! Which points stay: a pure function of the points, the policy and the store's time.

use std::collections::HashMap;

use crate::model::{Time, Ulid, span_text};

/// What is to be kept of one job: what either rule keeps. With neither set, everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest points that hold something.
    pub last: Option<u32>,
    /// Every point younger than so many seconds.
    pub within_secs: Option<u64>,
}

impl Keep {
    /// Whether it removes anything at all.
    pub fn is_set(&self) -> bool {
        self.last.is_some() || self.within_secs.is_some()
    }
}

/// A point as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: Ulid,
    /// The store's time of it.
    pub stored_at: Time,
    /// The sources that were captured in it; those that failed are not among them.
    pub holds: Vec<String>,
}

/// What becomes of a point, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Which.
    pub id: Ulid,
    /// Whether it stays.
    pub is_kept: bool,
    /// By which rule, in words.
    pub rule: String,
}

/// Decides over the points of one writer and job, in the order given. A point in which nothing was
/// captured never counts as one of the last, and of each source the newest point that holds it always stays:
/// while one source fails night after night, its last good capture must not be thinned away.
pub fn decide(points: &[Candidate], keep: &Keep, now: Time) -> Vec<Fate> {
    let mut newest_first: Vec<&Candidate> = points.iter().filter(|p| !p.holds.is_empty()).collect();
    newest_first.sort_by_key(|p| std::cmp::Reverse((p.stored_at, p.id)));
    let rank = |id: Ulid| newest_first.iter().position(|p| p.id == id);
    let mut newest_of: HashMap<&str, Ulid> = HashMap::new();
    for point in &newest_first {
        for source in &point.holds {
            newest_of.entry(source).or_insert(point.id);
        }
    }
    points
        .iter()
        .map(|point| {
            let (mut is_kept, mut rule) = rule(point, rank(point.id), keep, now);
            let last_of = point.holds.iter().find(|source| newest_of.get(source.as_str()) == Some(&point.id));
            if let (false, Some(source)) = (is_kept, last_of) {
                (is_kept, rule) = (true, format!("the newest that holds {source}"));
            }
            Fate { id: point.id, is_kept, rule }
        })
        .collect()
}

fn rule(point: &Candidate, rank: Option<usize>, keep: &Keep, now: Time) -> (bool, String) {
    if !keep.is_set() {
        return (true, "no rule removes any".to_owned());
    }
    if rank == Some(0) {
        return (true, "the newest that holds something".to_owned());
    }
    if let (Some(last), Some(rank)) = (keep.last, rank)
        && rank < last as usize
    {
        return (true, format!("keep-last {last}: number {}", rank + 1));
    }
    if let Some(within) = keep.within_secs {
        let age = now.secs_since(point.stored_at);
        // A store's clock that jumped back makes a point look younger, never older.
        if age < within as f64 {
            return (true, format!("keep-within {}", span_text(within)));
        }
    }
    (false, describe(keep))
}

fn describe(keep: &Keep) -> String {
    let last = keep.last.map(|n| format!("keep-last {n}"));
    let within = keep.within_secs.map(|secs| format!("keep-within {}", span_text(secs)));
    [last, within].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(n: u8, secs: i64, has_content: bool) -> Candidate {
        let holds = has_content.then(|| "db".to_owned()).into_iter().collect();
        Candidate { id: Ulid([n; 16]), stored_at: Time::new(secs, 0), holds }
    }

    fn kept(points: &[Candidate], keep: Keep, now: i64) -> Vec<u8> {
        let fates = decide(points, &keep, Time::new(now, 0));
        fates.iter().filter(|f| f.is_kept).map(|f| f.id.0[0]).collect()
    }

    #[test]
    fn the_last_that_hold_something_are_kept() {
        let points: Vec<_> = (0..6).map(|n| candidate(n, i64::from(n) * 100, n != 5 && n != 2)).collect();
        assert_eq!(kept(&points, Keep { last: Some(2), within_secs: None }, 1000), [3, 4]);
        assert_eq!(kept(&points, Keep { last: Some(9), within_secs: None }, 1000), [0, 1, 3, 4]);
        assert_eq!(kept(&points, Keep::default(), 1000), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_young_are_kept_and_so_is_the_newest_good_one() {
        let points: Vec<_> = (0..6).map(|n| candidate(n, i64::from(n) * 100, n < 4)).collect();
        assert_eq!(kept(&points, Keep { last: None, within_secs: Some(150) }, 600), [3, 5]);
        assert_eq!(kept(&points, Keep { last: None, within_secs: Some(1) }, 1_000_000), [3]);
        assert_eq!(kept(&points, Keep { last: Some(0), within_secs: None }, 1_000_000), [3]);
        // Points from the future are young.
        assert_eq!(kept(&points, Keep { last: None, within_secs: Some(1) }, 0), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_last_good_capture_of_a_source_that_fails_since_is_kept() {
        let of = |n: u8, holds: &[&str]| Candidate {
            holds: holds.iter().map(|s| (*s).to_owned()).collect(),
            ..candidate(n, i64::from(n), false)
        };
        let points =
            [of(0, &["db", "docs"]), of(1, &["db", "docs"]), of(2, &["docs"]), of(3, &["docs"]), of(4, &[])];
        let keep = Keep { last: Some(2), within_secs: None };
        assert_eq!(kept(&points, keep, 1000), [1, 2, 3]);
        assert_eq!(decide(&points, &keep, Time::new(1000, 0))[1].rule, "the newest that holds db");
    }

    proptest! {
        #[test]
        fn more_points_never_cost_more_old_ones_than_there_are_slots(
            times in proptest::collection::vec((0i64..10_000, any::<bool>()), 1..30), last in 0u32..6, within in 0u64..5000,
        ) {
            let points: Vec<_> = times.iter().zip(0u8..).map(|((t, good), n)| candidate(n, *t, *good)).collect();
            let keep = Keep { last: Some(last), within_secs: Some(within) };
            let now = 10_000;
            let all = kept(&points, keep, now);
            let fewer = kept(&points[..points.len() - 1], keep, now);
            let lost = fewer.iter().filter(|n| !all.contains(n)).count();
            prop_assert!(lost <= 1);
            let mut turned = points.clone();
            turned.reverse();
            let mut again = kept(&turned, keep, now);
            again.reverse();
            prop_assert_eq!(&again, &all);
            // What is left is kept again.
            let left: Vec<_> = points.iter().filter(|p| all.contains(&p.id.0[0])).cloned().collect();
            prop_assert_eq!(kept(&left, keep, now), all);
        }
    }
}
