//! The file as it stands. Values keep their place, so that later checks can point at them.

use std::fmt;

use serde::Deserialize as Derive;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use crate::model::{Error, Result};

use super::excerpt::Page;
use super::s3::RawS3;

type S<T> = Spanned<T>;

#[derive(Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub version: S<u64>,
    pub repository: RawRepository,
    #[serde(default)]
    pub engine: RawEngine,
    #[serde(default)]
    pub job: Vec<S<RawJob>>,
}

#[derive(Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRepository {
    pub store: S<String>,
    pub root: S<String>,
    #[serde(default)]
    pub lowest_config: u64,
    pub keys: Option<S<Opaque>>,
    pub s3: Option<S<RawS3>>,
}

#[derive(Default, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEngine {
    pub memory: Option<S<String>>,
    pub compression: Option<S<i32>>,
    pub cache_dir: Option<S<String>>,
    pub upload_limit: Option<S<String>>,
    pub download_limit: Option<S<String>>,
}

#[derive(Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJob {
    pub name: S<String>,
    #[serde(default)]
    pub tags: Vec<S<String>>,
    pub freeze: Option<S<Vec<S<String>>>>,
    pub thaw: Option<S<Vec<S<String>>>>,
    pub hook_timeout_secs: Option<S<u64>>,
    #[serde(default)]
    pub retention: RawRetention,
    #[serde(default)]
    pub source: Vec<S<RawSource>>,
}

#[derive(Default, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRetention {
    pub keep_last: Option<S<u64>>,
    pub keep_within: Option<S<String>>,
}

#[derive(Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    pub name: S<String>,
    pub kind: S<String>,
    // files
    pub paths: Option<S<Vec<S<String>>>>,
    pub include: Option<S<Vec<S<String>>>>,
    pub exclude: Option<S<Vec<S<String>>>>,
    pub ignore_files: Option<S<Vec<S<String>>>>,
    pub one_file_system: Option<S<bool>>,
    pub exclude_caches: Option<S<bool>>,
    // command
    pub backup: Option<S<Vec<S<String>>>>,
    pub restore: Option<S<Vec<S<String>>>>,
    pub env: Option<S<OpaqueTable>>,
    pub env_plain: Option<S<OpaqueTable>>,
    pub timeout_secs: Option<S<u64>>,
    pub dir: Option<S<String>>,
    pub file_name: Option<S<String>>,
    pub min_bytes: Option<S<u64>>,
}

/// Parses the page. Errors point at the place.
pub(super) fn parse(page: &Page<'_>) -> Result<Raw> {
    let document = toml::Deserializer::parse(page.text()).map_err(|error| page.syntax_error(&error))?;
    Raw::deserialize(document)
        .map_err(|error| misspelt_table(page).unwrap_or_else(|| page.type_error(&error)))
}

/// What may stand at the top, whatever is in it.
#[derive(Derive)]
#[serde(deny_unknown_fields)]
struct Top {
    #[serde(rename = "version")]
    _version: Option<IgnoredAny>,
    #[serde(rename = "repository")]
    _repository: Option<IgnoredAny>,
    #[serde(rename = "engine")]
    _engine: Option<IgnoredAny>,
    #[serde(rename = "job")]
    _job: Option<IgnoredAny>,
}

/// A misspelt table is the cause of what seems wrong elsewhere: below `[[jobs]]`, a
/// `[[job.source]]` belongs to no job.
fn misspelt_table(page: &Page<'_>) -> Option<Error> {
    let document = toml::Deserializer::parse(page.text()).ok()?;
    let error = Top::deserialize(document).err()?;
    error.message().starts_with("unknown field ").then(|| page.type_error(&error))
}

/// A value that may be a secret: any type is taken here, so that no message of the
/// parser can repeat it. Has no `Debug`.
pub(super) enum Opaque {
    Text(String),
    Other,
}

impl Opaque {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(OpaqueVisitor)
    }
}

struct OpaqueVisitor;

impl<'de> Visitor<'de> for OpaqueVisitor {
    type Value = Opaque;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reference")
    }
    fn visit_str<E>(self, text: &str) -> std::result::Result<Opaque, E> {
        Ok(Opaque::Text(text.to_owned()))
    }
    fn visit_bool<E>(self, _: bool) -> std::result::Result<Opaque, E> {
        Ok(Opaque::Other)
    }
    fn visit_i64<E>(self, _: i64) -> std::result::Result<Opaque, E> {
        Ok(Opaque::Other)
    }
    fn visit_u64<E>(self, _: u64) -> std::result::Result<Opaque, E> {
        Ok(Opaque::Other)
    }
    fn visit_i128<E>(self, _: i128) -> std::result::Result<Opaque, E> {
        Ok(Opaque::Other)
    }
    fn visit_u128<E>(self, _: u128) -> std::result::Result<Opaque, E> {
        Ok(Opaque::Other)
    }
    fn visit_f64<E>(self, _: f64) -> std::result::Result<Opaque, E> {
        Ok(Opaque::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Opaque, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Opaque::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Opaque, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Opaque::Other)
    }
}

/// A table of values that may be secrets.
pub(super) enum OpaqueTable {
    Table(Vec<(S<String>, S<Opaque>)>),
    Other,
}

impl<'de> Deserialize<'de> for OpaqueTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(OpaqueTableVisitor)
    }
}

struct OpaqueTableVisitor;

impl<'de> Visitor<'de> for OpaqueTableVisitor {
    type Value = OpaqueTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }
    fn visit_str<E>(self, _: &str) -> std::result::Result<OpaqueTable, E> {
        Ok(OpaqueTable::Other)
    }
    fn visit_bool<E>(self, _: bool) -> std::result::Result<OpaqueTable, E> {
        Ok(OpaqueTable::Other)
    }
    fn visit_i64<E>(self, _: i64) -> std::result::Result<OpaqueTable, E> {
        Ok(OpaqueTable::Other)
    }
    fn visit_f64<E>(self, _: f64) -> std::result::Result<OpaqueTable, E> {
        Ok(OpaqueTable::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<OpaqueTable, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(OpaqueTable::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<OpaqueTable, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = map.next_entry()? {
            rows.push(row);
        }
        Ok(OpaqueTable::Table(rows))
    }
}
