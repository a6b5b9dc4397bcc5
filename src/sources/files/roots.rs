//! The paths that an operator named, made absolute, freed of symbolic links and laid
//! together into one tree, so that overlapping ones are walked once and in order.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};

use crate::model::{EntryPath, Error, ErrorKind, Result};

/// Symbolic links followed on the way to one root (as Linux does).
const LINKS_MAX: usize = 40;

/// What a capture's facts say of its shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Facts {
    /// The roots: what lies below them, and nothing else, was looked at.
    #[n(0)]
    pub roots: Vec<EntryPath>,
    /// Whether `/` itself was a root.
    #[n(1)]
    pub everything: bool,
}

impl Facts {
    /// The stored form.
    pub fn encode(&self) -> Result<Vec<u8>> {
        minicbor::to_vec(self).map_err(|e| Error::internal("encode the facts", e.to_string()))
    }

    /// Reads the stored form; a path that could leave a target is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::new(ErrorKind::Damaged, "read the facts of the files source", why);
        let facts: Self = minicbor::decode(bytes).map_err(|e| bad(e.to_string()))?;
        if !facts.roots.iter().all(EntryPath::is_safe) {
            return Err(bad("a root is no safe path".to_owned()));
        }
        Ok(facts)
    }

    /// Whether `path` is a root or lies below one.
    pub fn covers(&self, path: &EntryPath) -> bool {
        self.everything || self.roots.iter().any(|root| path.is_within(root))
    }
}

/// One name on the way to the roots.
#[derive(Debug, Default)]
pub struct Node {
    /// Whether everything below is wanted.
    pub is_root: bool,
    /// The names below that are roots or lead to some.
    pub children: BTreeMap<Vec<u8>, Node>,
}

impl Node {
    /// The tree of these facts' roots.
    pub fn tree(facts: &Facts) -> Self {
        let mut top = Self { is_root: facts.everything, ..Self::default() };
        for root in &facts.roots {
            let mut node = &mut top;
            for part in root.components() {
                node = node.children.entry(part.to_vec()).or_default();
            }
            node.is_root = true;
        }
        top
    }

    /// Calls `visit` with every root at or below this node, which stands at `path`.
    pub fn roots_below(&self, path: &EntryPath, visit: &mut dyn FnMut(EntryPath)) {
        if self.is_root {
            visit(path.clone());
        }
        for (name, child) in &self.children {
            if let Some(path) = path.child(name) {
                child.roots_below(&path, visit);
            }
        }
    }
}

/// The configured paths, resolved.
#[derive(Debug, Default)]
pub struct Resolved {
    /// The roots, and the symbolic links on the way to them.
    pub facts: Facts,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Resolves the configured paths. A symbolic link on the way is captured as a link,
/// and the walk goes on where it points, so that both come back.
pub fn resolve(paths: &[PathBuf]) -> Result<Resolved> {
    let mut resolved = Resolved::default();
    for path in paths {
        let links = resolved.facts.roots.len();
        let end = resolve_one(path, &mut resolved.facts.roots)
            .map_err(|e| Error::io("resolve the path", path.display().to_string(), e))?;
        if resolved.facts.roots.len() > links {
            let end = end.as_ref().map(ToString::to_string).unwrap_or_default();
            let note = "leads through a symbolic link: the link and what it points to are captured";
            resolved.notes.push(format!("{} {note}, the content as /{end}", path.display()));
        }
        match end {
            Some(end) => resolved.facts.roots.push(end),
            None => resolved.facts.everything = true,
        }
    }
    resolved.facts.roots.sort();
    resolved.facts.roots.dedup();
    Ok(resolved)
}

/// The absolute path without links; `None` is `/`. Links passed are put into `links`.
fn resolve_one(path: &Path, links: &mut Vec<EntryPath>) -> io::Result<Option<EntryPath>> {
    let too_long = || io::Error::from(io::ErrorKind::InvalidFilename);
    let mut todo = parts(std::path::absolute(path)?.as_os_str().as_bytes());
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut hops = 0;
    while let Some(part) = todo.pop_front() {
        if part == b".." {
            done.pop();
            continue;
        }
        done.push(part);
        let here = EntryPath::from_components(done.iter().map(Vec::as_slice)).ok_or_else(too_long)?;
        let Ok(target) = std::fs::read_link(file_path(&here)) else { continue };
        hops += 1;
        if hops > LINKS_MAX {
            return Err(io::Error::other("too many symbolic links on the way"));
        }
        links.push(here);
        let target = target.into_os_string().into_vec();
        if target.starts_with(b"/") {
            done.clear()
        } else {
            drop(done.pop())
        }
        for part in parts(&target).into_iter().rev() {
            todo.push_front(part);
        }
    }
    Ok(EntryPath::from_components(done.iter().map(Vec::as_slice)))
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    let wanted = |part: &&[u8]| !part.is_empty() && *part != b".";
    path.split(|b| *b == b'/').filter(wanted).map(<[u8]>::to_vec).collect()
}

/// The absolute file path of an entry in its original place.
pub fn file_path(path: &EntryPath) -> PathBuf {
    let mut bytes = vec![b'/'];
    bytes.extend_from_slice(&path.to_slashed());
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> EntryPath {
        EntryPath::from_display(text.as_bytes()).unwrap()
    }

    #[test]
    fn links_on_the_way_are_kept_and_followed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("releases/5")).unwrap();
        std::os::unix::fs::symlink("releases/5", top.join("current")).unwrap();
        let resolved = resolve(&[top.join("./x/../current")]).unwrap();
        let at = |rest: &str| p(top.join(rest).to_str().unwrap());
        assert_eq!(resolved.facts.roots, [at("current"), at("releases/5")]);
        assert_eq!(resolved.notes.len(), 1);
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert!(resolve(&[dir.path().join("loop")]).is_err());
    }

    #[test]
    fn facts_round_trip_and_cover_what_lies_below() {
        let facts = Facts { roots: vec![p("srv/docs"), p("etc/app")], everything: false };
        assert_eq!(Facts::decode(&facts.encode().unwrap()).unwrap(), facts);
        assert!(facts.covers(&p("srv/docs/a")));
        assert!(!facts.covers(&p("srv")));
        let mut seen = Vec::new();
        Node::tree(&facts).children["srv"[..].as_bytes()]
            .roots_below(&p("srv"), &mut |path| seen.push(path.to_string()));
        assert_eq!(seen, ["srv/docs"]);
    }
}
