//! From the raw file to a configuration that can be worked with.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use crate::model::{Error, Result, SecretRef, parse_size, parse_span};
use crate::policy::retention::Keep;
use crate::policy::suggest::nearest;

use super::excerpt::Page;
use super::raw::{Opaque, OpaqueTable, Raw, RawEngine, RawJob, RawRepository, RawRetention, RawSource};
use super::secrets;
use super::{
    COMPRESSION_DEFAULT, CommandConfig, Config, EngineConfig, FilesConfig, HOOK_TIMEOUT_DEFAULT_SECS,
    JobConfig, KINDS, MEMORY_DEFAULT_BYTES, RepositoryConfig, SourceConfig, SourceKind,
};

type S<T> = Spanned<T>;

/// Longest name of a job or a source, in bytes.
const NAME_MAX_BYTES: usize = 64;
/// How to write a secret.
const REFERENCE_HINT: &str = "secrets stand elsewhere and are referred to: write \"env:NAME\", \"file:PATH\" or \
                              \"cmd:COMMAND\"";

pub(super) struct Check<'a> {
    page: &'a Page<'a>,
    base: &'a Path,
}

impl<'a> Check<'a> {
    pub fn new(page: &'a Page<'a>, base: &'a Path) -> Self {
        Self { page, base }
    }

    pub fn config(&self, raw: &Raw) -> Result<Config> {
        if *raw.version.get_ref() != 1 {
            return Err(self
                .error(&raw.version, "this version of the file's form is unknown")
                .hint("write version = 1, or use a newer Muster"));
        }
        let jobs = raw.job.iter().map(|job| self.job(job)).collect::<Result<Vec<_>>>()?;
        self.unique(raw.job.iter().map(|job| &job.get_ref().name), "another job has this name")?;
        Ok(Config { repository: self.repository(&raw.repository)?, engine: self.engine(&raw.engine)?, jobs })
    }

    fn repository(&self, raw: &RawRepository) -> Result<RepositoryConfig> {
        check_store(raw.store.get_ref()).map_err(|(why, hint)| self.error(&raw.store, why).hint(hint))?;
        if raw.root.get_ref().trim().is_empty() {
            return Err(self
                .error(&raw.root, "the pinned root key is empty")
                .hint("`muster init` printed it and wrote it into the muster.toml that it made"));
        }
        Ok(RepositoryConfig {
            store: raw.store.get_ref().clone(),
            root: raw.root.get_ref().clone(),
            lowest_config: raw.lowest_config,
            keys: raw.keys.as_ref().map(|keys| self.reference("keys", keys)).transpose()?,
            s3: raw.s3.as_ref().map(|s3| self.s3(s3)).transpose()?.unwrap_or_default(),
        })
    }

    fn engine(&self, raw: &RawEngine) -> Result<EngineConfig> {
        let size = |value: &Option<S<String>>| value.as_ref().map(|text| self.size(text)).transpose();
        let compression = raw.compression.as_ref().map_or(COMPRESSION_DEFAULT, |level| *level.get_ref());
        if let (Some(level), false) = (&raw.compression, (1..=22).contains(&compression)) {
            return Err(self.error(level, "the compression level is not from 1 to 22"));
        }
        Ok(EngineConfig {
            memory_bytes: size(&raw.memory)?.unwrap_or(MEMORY_DEFAULT_BYTES),
            compression,
            cache_dir: raw.cache_dir.as_ref().map(|dir| self.base.join(dir.get_ref())),
            upload_limit_bytes_per_sec: size(&raw.upload_limit)?,
            download_limit_bytes_per_sec: size(&raw.download_limit)?,
        })
    }

    fn job(&self, raw: &S<RawJob>) -> Result<JobConfig> {
        let job = raw.get_ref();
        self.safe_name(&job.name)?;
        if job.source.is_empty() {
            return Err(self
                .error(&job.name, "the job has no sources")
                .hint("add a [[job.source]] below it, with name, kind and what that kind needs"));
        }
        let sources = job.source.iter().map(|source| self.source(source)).collect::<Result<Vec<_>>>()?;
        self.unique(
            job.source.iter().map(|source| &source.get_ref().name),
            "another source of the job has this name",
        )?;
        Ok(JobConfig {
            name: job.name.get_ref().clone(),
            tags: job.tags.iter().map(|tag| self.tag(tag)).collect::<Result<_>>()?,
            freeze: self.argv(job.freeze.as_ref())?,
            thaw: self.argv(job.thaw.as_ref())?,
            hook_timeout_secs: self
                .at_least_one(job.hook_timeout_secs.as_ref())?
                .unwrap_or(HOOK_TIMEOUT_DEFAULT_SECS),
            retention: self.retention(&job.retention)?,
            sources,
        })
    }

    fn retention(&self, raw: &RawRetention) -> Result<Keep> {
        let last = self.at_least_one(raw.keep_last.as_ref())?;
        let span = |text: &S<String>| {
            parse_span(text.get_ref()).map_err(|e| {
                self.error(text, "this is not a length of time").hint(e.remedy().unwrap_or_default())
            })
        };
        Ok(Keep {
            // More points than that never are: it keeps all.
            last: last.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            within_secs: raw.keep_within.as_ref().map(span).transpose()?,
        })
    }

    fn source(&self, raw: &S<RawSource>) -> Result<SourceConfig> {
        let source = raw.get_ref();
        self.safe_name(&source.name)?;
        let kind = match source.kind.get_ref().as_str() {
            "files" => SourceKind::Files(self.files(source)?),
            "command" => SourceKind::Command(self.command(source)?),
            unknown => return Err(self.unknown_kind(&source.kind, unknown)),
        };
        Ok(SourceConfig { name: source.name.get_ref().clone(), kind })
    }

    fn unknown_kind(&self, at: &S<String>, unknown: &str) -> Error {
        let error = self.error(at, "the source's kind is unknown");
        match nearest(unknown, KINDS) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("kinds known: {}", KINDS.join(", "))),
        }
    }

    fn files(&self, raw: &RawSource) -> Result<FilesConfig> {
        self.none_of_kind("command", "files", &command_keys(raw))?;
        let list = |value: &Option<S<Vec<S<String>>>>| value.as_ref().map(texts).unwrap_or_default();
        let paths = match &raw.paths {
            None => return Err(self.error(&raw.name, "the source has no `paths`")),
            Some(paths) if paths.get_ref().is_empty() => {
                return Err(self.error(paths, "name at least one path"));
            }
            Some(paths) => paths.get_ref(),
        };
        if let Some(empty) = paths.iter().find(|path| path.get_ref().is_empty()) {
            return Err(self.error(empty, "the path is empty"));
        }
        for glob in [&raw.include, &raw.exclude].into_iter().flatten().flat_map(|list| list.get_ref()) {
            self.glob(glob)?;
        }
        Ok(FilesConfig {
            paths: paths.iter().map(|path| self.base.join(path.get_ref())).collect(),
            include: list(&raw.include),
            exclude: list(&raw.exclude),
            ignore_files: self.plain_names(raw.ignore_files.as_ref())?,
            one_file_system: raw.one_file_system.as_ref().is_some_and(|on| *on.get_ref()),
            exclude_caches: raw.exclude_caches.as_ref().is_some_and(|on| *on.get_ref()),
        })
    }

    fn command(&self, raw: &RawSource) -> Result<CommandConfig> {
        self.none_of_kind("files", "command", &files_keys(raw))?;
        let Some(backup) = self.argv(raw.backup.as_ref())? else {
            return Err(self
                .error(&raw.name, "the source has no `backup` command")
                .hint("write backup = [\"program\", \"argument\"]; its standard output is what is kept"));
        };
        if let Some(name) = &raw.file_name {
            self.file_name(name)?;
        }
        Ok(CommandConfig {
            backup,
            restore: self.argv(raw.restore.as_ref())?,
            env: self.secret_env(raw.env.as_ref())?,
            env_plain: self.plain_env(raw.env_plain.as_ref())?,
            timeout_secs: self.at_least_one(raw.timeout_secs.as_ref())?,
            dir: raw.dir.as_ref().map(|dir| self.base.join(dir.get_ref())),
            file_name: raw
                .file_name
                .as_ref()
                .map_or_else(|| raw.name.get_ref().clone(), |n| n.get_ref().clone()),
            min_bytes: raw.min_bytes.as_ref().map_or(1, |bytes| *bytes.get_ref()),
        })
    }

    /// Refuses a key that is known, but to another kind of source.
    fn none_of_kind(&self, theirs: &str, ours: &str, keys: &[(&str, Option<Range<usize>>)]) -> Result<()> {
        match keys.iter().find_map(|(key, span)| span.clone().map(|span| (key, span))) {
            None => Ok(()),
            Some((key, span)) => Err(self
                .page
                .error(span, &format!("`{key}` is for sources of kind `{theirs}`; this one is `{ours}`"))),
        }
    }

    /// A secret's place; a relative `file:` starts at the configuration's folder.
    pub(super) fn reference(&self, name: &str, value: &S<Opaque>) -> Result<SecretRef> {
        let reference = value.get_ref().text().and_then(|text| text.parse::<SecretRef>().ok());
        match reference {
            Some(SecretRef::File(path)) => Ok(SecretRef::File(join_text(self.base, &path))),
            Some(other) => Ok(other),
            None => Err(self
                .error(value, &format!("`{name}` must be a reference; a secret may not stand in plain text"))
                .hint(REFERENCE_HINT)),
        }
    }

    fn secret_env(&self, table: Option<&S<OpaqueTable>>) -> Result<BTreeMap<String, SecretRef>> {
        let mut env = BTreeMap::new();
        for (name, value) in self.rows(table)? {
            self.variable(name)?;
            let reference = self.reference(name.get_ref(), value).map_err(|error| {
                error.hint(format!("{REFERENCE_HINT}; what is no secret goes under env_plain"))
            })?;
            env.insert(name.get_ref().clone(), reference);
        }
        Ok(env)
    }

    fn plain_env(&self, table: Option<&S<OpaqueTable>>) -> Result<BTreeMap<String, String>> {
        let mut env = BTreeMap::new();
        for (name, value) in self.rows(table)? {
            self.variable(name)?;
            let Some(text) = value.get_ref().text() else {
                return Err(self.error(value, "expected text in quotes"));
            };
            if secrets::is_variable(name.get_ref()) || secrets::has_url_password(text) {
                return Err(self
                    .error(
                        name,
                        &format!(
                            "`{}` looks like a secret, and env_plain is for what is none",
                            name.get_ref()
                        ),
                    )
                    .hint(format!("move it to env; {REFERENCE_HINT}")));
            }
            env.insert(name.get_ref().clone(), text.to_owned());
        }
        Ok(env)
    }

    fn rows<'t>(&self, table: Option<&'t S<OpaqueTable>>) -> Result<&'t [(S<String>, S<Opaque>)]> {
        match table.map(|table| (table, table.get_ref())) {
            None => Ok(&[]),
            Some((_, OpaqueTable::Table(rows))) => Ok(rows),
            Some((table, OpaqueTable::Other)) => {
                Err(self.error(table, "expected a table").hint("write env = { NAME = \"env:OTHER_NAME\" }"))
            }
        }
    }

    fn variable(&self, name: &S<String>) -> Result<()> {
        let text = name.get_ref();
        if text.is_empty() || text.contains(['=', '\0']) {
            return Err(self.error(name, "this cannot be the name of an environment variable"));
        }
        Ok(())
    }

    /// Program and arguments. Whoever lists processes sees them, so no secrets.
    fn argv(&self, list: Option<&S<Vec<S<String>>>>) -> Result<Option<Vec<String>>> {
        let Some(list) = list else { return Ok(None) };
        if list.get_ref().first().is_none_or(|program| program.get_ref().is_empty()) {
            return Err(self.error(list, "the command is empty").hint("write [\"program\", \"argument\"]"));
        }
        let words: Vec<&str> = list.get_ref().iter().map(|arg| arg.get_ref().as_str()).collect();
        match secrets::in_arguments(&words).and_then(|at| list.get_ref().get(at)) {
            Some(arg) => Err(self
                .error(arg, "an argument holds a password; everyone on the machine can read arguments")
                .hint("give it to the program by env = { NAME = \"env:…\" }, or by a file that it reads")),
            None => Ok(Some(texts(list))),
        }
    }

    fn safe_name(&self, name: &S<String>) -> Result<()> {
        let text = name.get_ref();
        let ok = !text.is_empty()
            && text.len() <= NAME_MAX_BYTES
            && !text.starts_with(['.', '-'])
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if ok {
            return Ok(());
        }
        Err(self.error(
            name,
            "a name is made of letters, digits, `.`, `_` and `-`, and begins with no `.` or `-`",
        ))
    }

    fn tag(&self, tag: &S<String>) -> Result<String> {
        let text = tag.get_ref();
        if text.is_empty() || text.chars().any(|c| c.is_control() || c == ',') {
            return Err(self.error(tag, "a tag is not empty and has no comma or control character"));
        }
        Ok(text.clone())
    }

    fn file_name(&self, name: &S<String>) -> Result<()> {
        match is_file_name(name.get_ref()) {
            true => Ok(()),
            false => Err(self.error(name, "this cannot be a file's name")),
        }
    }

    fn plain_names(&self, list: Option<&S<Vec<S<String>>>>) -> Result<Vec<String>> {
        let Some(list) = list else { return Ok(Vec::new()) };
        list.get_ref().iter().try_for_each(|name| self.file_name(name))?;
        Ok(texts(list))
    }

    fn glob(&self, glob: &S<String>) -> Result<()> {
        match globset::Glob::new(glob.get_ref()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(glob, &format!("the pattern is wrong: {}", error.kind()))),
        }
    }

    fn size(&self, text: &S<String>) -> Result<u64> {
        let bytes = parse_size(text.get_ref()).map_err(|error| {
            self.error(text, "this is not a size").hint(error.remedy().unwrap_or_default())
        })?;
        if bytes == 0 {
            return Err(self.error(text, "the size is zero").hint("leave the key out for its default"));
        }
        Ok(bytes)
    }

    fn at_least_one(&self, value: Option<&S<u64>>) -> Result<Option<u64>> {
        match value {
            Some(zero) if *zero.get_ref() == 0 => Err(self.error(zero, "this must be at least 1")),
            other => Ok(other.map(|value| *value.get_ref())),
        }
    }

    fn unique<'n>(&self, names: impl Iterator<Item = &'n S<String>>, why: &str) -> Result<()> {
        let mut seen = BTreeSet::new();
        for name in names {
            // On a file system that folds case, `App` and `app` are one folder.
            if !seen.insert(name.get_ref().to_ascii_lowercase()) {
                return Err(self.error(name, why));
            }
        }
        Ok(())
    }

    /// A path that begins at the file's folder.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    pub(super) fn error<T>(&self, at: &S<T>, why: &str) -> Error {
        self.page.error(at.span(), why)
    }
}

fn texts(list: &S<Vec<S<String>>>) -> Vec<String> {
    list.get_ref().iter().map(|text| text.get_ref().clone()).collect()
}

/// A relative path begins at `base`; both are text, as a reference is.
pub(super) fn join_text(base: &Path, path: &str) -> String {
    let joined: PathBuf = base.join(path);
    // `base` is what the person typed; where it is not UTF-8 the path stays as written.
    joined.into_os_string().into_string().unwrap_or_else(|_| path.to_owned())
}

/// Whether `store` is an address, and one that holds no password.
pub(super) fn check_store(store: &str) -> std::result::Result<(), (&'static str, &'static str)> {
    // A folder of this machine, by its path alone.
    if store.starts_with('/') {
        return Ok(());
    }
    let Some((scheme, rest)) = store.split_once("://") else {
        return Err(("this is not a store's address", "write file:///path or s3://bucket/prefix"));
    };
    if scheme.is_empty() || rest.is_empty() {
        return Err(("this is not a store's address", "write file:///path or s3://bucket/prefix"));
    }
    if scheme != "file" && rest.split('/').next().is_some_and(|host| host.contains('@')) {
        return Err(("a store's address may not hold a user or a password", REFERENCE_HINT));
    }
    Ok(())
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && name.len() <= 255 && !name.contains(['/', '\0'])
}

fn files_keys(raw: &RawSource) -> [(&'static str, Option<Range<usize>>); 6] {
    [
        ("paths", raw.paths.as_ref().map(S::span)),
        ("include", raw.include.as_ref().map(S::span)),
        ("exclude", raw.exclude.as_ref().map(S::span)),
        ("ignore_files", raw.ignore_files.as_ref().map(S::span)),
        ("one_file_system", raw.one_file_system.as_ref().map(S::span)),
        ("exclude_caches", raw.exclude_caches.as_ref().map(S::span)),
    ]
}

fn command_keys(raw: &RawSource) -> [(&'static str, Option<Range<usize>>); 8] {
    [
        ("backup", raw.backup.as_ref().map(S::span)),
        ("restore", raw.restore.as_ref().map(S::span)),
        ("env", raw.env.as_ref().map(S::span)),
        ("env_plain", raw.env_plain.as_ref().map(S::span)),
        ("timeout_secs", raw.timeout_secs.as_ref().map(S::span)),
        ("dir", raw.dir.as_ref().map(S::span)),
        ("file_name", raw.file_name.as_ref().map(S::span)),
        ("min_bytes", raw.min_bytes.as_ref().map(S::span)),
    ]
}
