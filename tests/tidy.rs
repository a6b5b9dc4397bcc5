//! Habits of this code base that a compiler does not check.

use std::path::{Path, PathBuf};

const LINES_MAX: usize = 700;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What is wrong with a file, a line each.
fn complaints(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > LINES_MAX {
        found.push(format!("{name}: {} lines, more than {LINES_MAX}: split it", lines.len()));
    }
    let is_test_file = name.ends_with("tests.rs") || name.ends_with("testing.rs");
    let tests_at = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].contains("mod tests"))
        .unwrap_or(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let place = || format!("{name}:{}", at + 1);
        let code = line.split("//").next().unwrap_or("");
        let before = if at == 0 { "" } else { lines[at - 1] };
        let has_reason = line.contains("//") || before.trim_start().starts_with("//");
        let panics = [".unwrap()", ".expect("].iter().any(|call| code.contains(call));
        if panics && !is_test_file && at < tests_at && !has_reason && !line.trim_start().starts_with("//") {
            found.push(format!("{}: it may panic, and no comment says why it cannot", place()));
        }
        for marker in ["todo!(", "unimplemented!(", "dbg!("] {
            if code.contains(marker) {
                found.push(format!("{}: {marker}…)", place()));
            }
        }
        let is_unsafe = ["unsafe {", "unsafe impl", "unsafe fn"].iter().any(|word| code.contains(word));
        let said = lines[at.saturating_sub(4)..=at].iter().any(|line| line.contains("SAFETY:"));
        if is_unsafe && !said {
            found.push(format!("{}: unsafe, and no `SAFETY:` comment", place()));
        }
    }
    found
}

#[test]
fn the_code_is_tidy() {
    let src = root().join("src");
    let files = rust_files(&src);
    assert!(files.len() > 80, "only {} files were found", files.len());
    let found: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let name = path.strip_prefix(&src).unwrap().display().to_string();
            complaints(&name, &std::fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn untidy_code_is_caught() {
    for bad in [
        "x.unwrap();",
        "x\n    .expect(\"y\");",
        "todo!(\"later\")",
        "dbg!(x);",
        "unsafe { *p }",
        &"\n".repeat(LINES_MAX + 1),
    ] {
        assert_eq!(complaints("a.rs", bad).len(), 1, "{bad}");
    }
    for good in [
        "// It was checked above.\nx.unwrap();",
        "x.unwrap(); // cannot fail: a literal",
        "x.unwrap_or(1);",
        "#[cfg(test)]\nmod tests {\n    x.unwrap();\n}",
        "// SAFETY: the map outlives it\nunsafe { *p }",
        "// todo!() is not allowed",
    ] {
        assert_eq!(complaints("a.rs", good), [""; 0], "{good}");
    }
}

/// Every text file that is part of the project.
fn project_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let skipped = ["target", ".git", ".tools", "node_modules"].contains(&name.as_str())
            || name.ends_with(".proptest-regressions");
        if skipped {
            continue;
        }
        if path.is_dir() {
            project_files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn no_file_names_a_place_of_the_machine_it_was_written_on() {
    let mut files = Vec::new();
    project_files(&root(), &mut files);
    assert!(files.len() > 100);
    // In parts, so that this file does not name them either.
    let places = [
        ["/ro", "ot/"].concat(),
        ["/wo", "rk/"].concat(),
        ["/tmp/", "wt/"].concat(),
        root().display().to_string(),
    ];
    let mut found = Vec::new();
    for path in files {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (at, line) in text.lines().enumerate() {
            if places.iter().any(|place| names_place(line, place)) {
                found.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whether `place` begins a path in `line`, and is not the middle of one.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-*$}".contains(c)))
}

/// `missing_docs` is on, so that whoever turns warnings into errors also catches what is undocumented.
#[test]
fn public_items_are_documented() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(lib.contains("#![warn(missing_docs)]"));
}
