//! Which of the things below the roots are wanted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::FilesConfig;
use crate::model::{EntryPath, Error, ErrorKind, Result};

/// Longest ignore file that is read.
pub const IGNORE_FILE_MAX_BYTES: u64 = 1 << 20;

/// The rules of the configuration, compiled.
pub struct Filter {
    include: Option<Gitignore>,
    exclude: Option<Gitignore>,
}

impl Filter {
    /// Compiles the patterns; a bad one is an error that names it.
    pub fn new(config: &FilesConfig) -> Result<Self> {
        Ok(Self {
            include: compile("include", &config.include)?,
            exclude: compile("exclude", &config.exclude)?,
        })
    }

    /// Whether the configuration excludes anything.
    pub fn has_excludes(&self) -> bool {
        self.exclude.is_some()
    }

    /// Whether the thing at the absolute `path` is excluded by the configuration.
    /// `rules` are those of the ignore files in force, the nearest directory's last.
    pub fn excludes<'a>(
        &'a self,
        path: &[u8],
        is_dir: bool,
        rules: impl DoubleEndedIterator<Item = &'a Gitignore>,
    ) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        // What the operator wrote goes before what lies in the tree.
        for rules in rules.chain(&self.exclude).rev() {
            match rules.matched(path, is_dir) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }

    /// Whether the thing at `path` is named by an include pattern, or there is none;
    /// what lies below an included directory is included with it.
    pub fn includes(&self, path: &EntryPath, is_dir: bool) -> bool {
        let Some(include) = &self.include else { return true };
        include.matched(Path::new(OsStr::from_bytes(&absolute(path))), is_dir).is_ignore()
    }
}

/// The absolute path that patterns are matched with.
pub fn absolute(path: &EntryPath) -> Vec<u8> {
    let mut slashed = vec![b'/'];
    slashed.extend_from_slice(&path.to_slashed());
    slashed
}

fn compile(what: &str, patterns: &[String]) -> Result<Option<Gitignore>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let bad = |pattern: &str, why: String| {
        Error::new(ErrorKind::Config, format!("use the {what} pattern"), why)
            .on(format!("{pattern:?}"))
            .hint("patterns are those of .gitignore: *.tmp, cache/, /srv/docs/old, !keep.tmp")
    };
    let mut builder = GitignoreBuilder::new("/");
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|e| bad(pattern, e.to_string()))?;
    }
    builder.build().map(Some).map_err(|e| bad(&patterns.join(" "), e.to_string()))
}

/// The rules of an ignore file found in the directory at the absolute path `dir`.
/// Lines that are no patterns are counted and passed over, as git does.
pub fn compile_ignore_file(dir: &[u8], text: &[u8]) -> (Gitignore, usize) {
    let mut builder = GitignoreBuilder::new(OsStr::from_bytes(dir));
    let text = String::from_utf8_lossy(text);
    let bad = text.lines().filter(|line| builder.add_line(None, line).is_err()).count();
    match builder.build() {
        Ok(rules) => (rules, bad),
        Err(_) => (Gitignore::empty(), text.lines().count()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let config = FilesConfig { include: own(include), exclude: own(exclude), ..FilesConfig::default() };
        Filter::new(&config).unwrap()
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        let f = filter(&[], &["*.tmp", "/srv/old", "cache/", "!keep.tmp"]);
        let out = |path: &str, dir| f.excludes(path.as_bytes(), dir, std::iter::empty());
        assert!(out("/srv/a/x.tmp", false));
        assert!(!out("/srv/a/keep.tmp", false));
        assert!(out("/srv/old", true));
        assert!(!out("/home/srv/old", true));
        assert!(out("/x/cache", true));
        assert!(!out("/x/cache", false));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let config = FilesConfig { exclude: vec!["a{b".into()], ..FilesConfig::default() };
        let error = Filter::new(&config).err().unwrap();
        assert!(error.to_string().contains("a{b"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[test]
    fn the_nearest_ignore_file_decides_after_the_configuration() {
        let f = filter(&[], &["*.log"]);
        let (outer, _) = compile_ignore_file(b"/srv", b"*.bin\n*.x\n");
        let (inner, _) = compile_ignore_file(b"/srv/a", b"!keep.bin\n!wanted.log\n");
        let out = |path: &str| f.excludes(path.as_bytes(), false, [&outer, &inner].into_iter());
        assert!(out("/srv/a/y.bin"));
        assert!(!out("/srv/a/keep.bin"));
        assert!(out("/srv/a/wanted.log"));
        assert!(out("/srv/a/b/z.x"));
    }
}
