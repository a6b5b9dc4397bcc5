//! Things that are written in one argument.

use std::fmt;
use std::str::FromStr;

use crate::model::{EntryPath, Error, ErrorKind};

fn bad(what: &str, text: &str, why: &str, hint: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("read the {what}"), why).on(format!("{text:?}")).hint(hint)
}

/// Which point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointSpec {
    /// The one whose ULID begins so; capital letters.
    Prefix(String),
    /// The newest usable one.
    Latest {
        /// Of this job; none means the only one.
        job: Option<String>,
    },
}

const POINT_HINT: &str =
    "write `latest`, `latest:JOB`, or the first letters of a point that `muster points` lists";

impl FromStr for PointSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "latest" => return Ok(Self::Latest { job: None }),
            Some(("latest", "")) => return Err(bad("point", text, "the job's name is missing", POINT_HINT)),
            Some(("latest", job)) => return Ok(Self::Latest { job: Some(job.to_owned()) }),
            _ => {}
        }
        let upper = text.to_ascii_uppercase();
        let is_ulid_part = upper.bytes().all(|b| b.is_ascii_alphanumeric() && !b"ILOU".contains(&b));
        if upper.is_empty() || upper.len() > 26 || !is_ulid_part {
            return Err(bad(
                "point",
                text,
                "it is neither `latest` nor the beginning of a point's name",
                POINT_HINT,
            ));
        }
        Ok(Self::Prefix(upper))
    }
}

impl fmt::Display for PointSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::Latest { job: None } => f.write_str("latest"),
            Self::Latest { job: Some(job) } => write!(f, "latest:{job}"),
        }
    }
}

/// `SOURCE` or `SOURCE:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePath {
    /// A source's name.
    pub source: String,
    /// A path in it; none means all of it.
    pub path: Option<EntryPath>,
}

impl SourcePath {
    /// A whole source.
    pub fn whole(source: &str) -> Result<Self, Error> {
        match source.is_empty() || source.contains(['/', ':']) {
            true => Err(bad(
                "source",
                source,
                "it is not a source's name",
                "write the name that `muster points` shows",
            )),
            false => Ok(Self { source: source.to_owned(), path: None }),
        }
    }
}

impl FromStr for SourcePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let hint = "write SOURCE or SOURCE:PATH, for example docs:srv/docs/a.txt";
        let (source, path) = text.split_once(':').unwrap_or((text, ""));
        if source.is_empty() || source.contains('/') {
            return Err(bad("path", text, "it does not begin with a source's name", hint));
        }
        let path = match path.trim_matches('/') {
            "" => None,
            path => Some(
                EntryPath::from_display(path.as_bytes())
                    .ok_or_else(|| bad("path", text, "a path has no `.` or `..` in it", hint))?,
            ),
        };
        Ok(Self { source: source.to_owned(), path })
    }
}

/// How much of the packs a check reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset {
    /// All.
    All,
    /// So many of every 10,000, chosen anew each time.
    BasisPoints(u32),
    /// The `part`-th of `of` equal parts, `part` from 1: over `of` runs everything is read.
    Part {
        /// Which, from 1.
        part: u32,
        /// Of how many.
        of: u32,
    },
}

impl FromStr for Subset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            |why| bad("subset", text, why, "write for example 5%, or 2/7 for the second of seven parts");
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| wrong("it is not a number of percent"))?;
            if !(0.01..=100.0).contains(&percent) {
                return Err(wrong("it is not between 0.01% and 100%"));
            }
            return Ok(Self::BasisPoints((percent * 100.0).round() as u32));
        }
        let (part, of) = text.split_once('/').ok_or_else(|| wrong("it has neither % nor /"))?;
        let number =
            |text: &str| text.trim().parse::<u32>().map_err(|_| wrong("it is not two whole numbers"));
        let (part, of) = (number(part)?, number(of)?);
        if part == 0 || part > of {
            return Err(wrong("the part is not from 1 to the number of parts"));
        }
        Ok(Self::Part { part, of })
    }
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("100%"),
            Self::BasisPoints(points) => write!(f, "{}%", f64::from(*points) / 100.0),
            Self::Part { part, of } => write!(f, "{part}/{of}"),
        }
    }
}

/// Which epochs a rotation begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// The data epoch.
    Data,
    /// The metadata epoch.
    Metadata,
    /// Both.
    All,
}
