//! No room of the library uses what the design does not let it use.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each room may use beside itself. docs/ARCHITECTURE.md has the same table with reasons.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("ports", &["model"]),
    ("repo", &["model", "ports"]),
    ("clients", &["model", "ports"]),
    ("sys", &["model", "ports"]),
    ("stores", &["model", "ports"]),
    ("sources", &["model", "ports"]),
    ("policy", &["model"]),
    ("report", &["model", "ports"]),
    ("jobs", &["model", "ports", "repo", "policy", "report"]),
    (
        "cli",
        &[
            "model", "ports", "repo", "clients", "sys", "stores", "sources", "policy", "report", "jobs",
            "daemon",
        ],
    ),
];

/// Rooms that `text` names after `crate::`.
fn rooms_used(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("crate::") {
        let starts_a_path = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        rest = &rest[at + "crate::".len()..];
        if !starts_a_path {
            continue;
        }
        match rest.strip_prefix('{') {
            None => used.extend(first_word(rest)),
            Some(list) => used.extend(top_of_list(list)),
        }
    }
    used
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// First words of the items of `a::{b, c}, d::e}…`.
fn top_of_list(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut item = String::new();
    let mut items = Vec::new();
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => item.push(c),
        }
    }
    items.push(item);
    items.iter().filter_map(|item| first_word(item)).collect()
}

/// A file without the modules that only tests have: those are the last thing in a file.
fn without_tests(text: &str) -> &str {
    let inline =
        text.find("#[cfg(test)]\nmod tests {").or_else(|| text.find("#[cfg(test)]\npub(crate) mod tests {"));
    inline.map_or(text, |at| &text[..at])
}

/// Edges that are not allowed: file, room, used room.
fn forbidden(files: &[(PathBuf, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        let room = path
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == room) else {
            found.push(format!("{}: a room that the table does not have", path.display()));
            continue;
        };
        for used in rooms_used(without_tests(text)) {
            if used != room && !allowed.contains(&used.as_str()) {
                found.push(format!("{}: {room} may not use {used}", path.display()));
            }
        }
    }
    found
}

fn sources(folder: &Path, root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test_module = path.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs");
        if path.is_dir() {
            found.extend(sources(&path, root));
        } else if path.extension().is_some_and(|e| e == "rs") && !is_test_module {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root).unwrap().to_owned(), text));
        }
    }
    found
}

#[test]
fn rooms_use_only_what_they_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root, &root);
    assert!(files.len() > 80, "only {} files were found", files.len());
    let bad = forbidden(&files);
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn planted_edges_are_caught() {
    let caught = |path: &str, text: &str| forbidden(&[(PathBuf::from(path), text.to_owned())]).len();
    for (path, text) in [
        ("model/id.rs", "use crate::ports::Store;"),
        ("stores/local.rs", "use crate::repo::layout;"),
        ("sources/files/mod.rs", "use crate::{model::Error, repo::tree::{walk, Page}};"),
        ("repo/reader.rs", "fn f() { crate::stores::open(\"x\"); }"),
        ("policy/mod.rs", "use crate::{\n    model::Time,\n    sys::RealClock,\n};"),
        ("report/json.rs", "pub(crate) use crate::jobs::x;"),
        ("jobs/backup.rs", "use crate::stores::Mem;"),
        ("jobs/backup.rs", "use crate::cli;"),
        ("unheard_of/mod.rs", ""),
        ("sys.rs", "use crate::repo::x;"),
    ] {
        assert_eq!(caught(path, text), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("cli/compose.rs", "use crate::{stores, sys};"),
        ("jobs/backup.rs", "use crate::repo::index::Index;"),
        ("stores/local.rs", "// as crate::repo does\nuse crate::model::Result;"),
        (
            "stores/local.rs",
            "use crate::model::Result;\n#[cfg(test)]\nmod tests {\n    use crate::sys::RealClock;\n}",
        ),
        ("ports/store.rs", "macro_rules! x { () => { $crate::repo::x } }"),
    ] {
        assert_eq!(caught(path, text), 0, "{path}: {text}");
    }
}
