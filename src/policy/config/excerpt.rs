//! Shows a line of the configuration with a caret below what is wrong.
//!
//! A line may hold a secret that someone wrote in plain text, so values are shown only
//! where the line's key is known to take none; else the line ends at its `=`.

use std::ops::Range;

use crate::model::{Error, ErrorKind};
use crate::policy::suggest::nearest;

/// Keys whose values can be shown: none takes a secret, a command line or an address.
const HARMLESS_KEYS: [&str; 30] = [
    "version",
    "lowest_config",
    "memory",
    "compression",
    "cache_dir",
    "upload_limit",
    "download_limit",
    "name",
    "tags",
    "hook_timeout_secs",
    "keep_last",
    "keep_within",
    "kind",
    "paths",
    "include",
    "exclude",
    "ignore_files",
    "one_file_system",
    "exclude_caches",
    "timeout_secs",
    "dir",
    "file_name",
    "min_bytes",
    "root",
    "region",
    "path_style",
    "storage_class",
    "sse",
    "checksums",
    "conditional_put",
];

/// For who wrote `[job]`, or a source that belongs to no job.
const LISTED_TABLES: &str = "a job begins with [[job]], and below it each of its sources with [[job.source]]";

/// A configuration file's name and text.
pub(super) struct Page<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Page<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text }
    }

    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The text is not TOML.
    pub fn syntax_error(&self, error: &toml::de::Error) -> Error {
        self.error(error.span().unwrap_or(0..0), error.message())
            .hint("text stands in quotes, lists in [ ], tables in { } or below a [header]")
    }

    /// The text is TOML, but not a configuration.
    pub fn type_error(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        if let Some(rest) = message.strip_prefix("unknown field ") {
            return self.unknown_key(span, rest);
        }
        if let Some(field) = message.strip_prefix("missing field ") {
            // What is missing at the top has no line to show.
            if span.start == 0 && !self.line_of(0).is_header() {
                let missing = Error::new(ErrorKind::Config, "use", format!("the key {field} is missing"));
                let is_version = field.contains("version");
                let hint = if is_version {
                    "begin the file with version = 1"
                } else {
                    "see the file that `muster init` writes"
                };
                return missing.on(self.file).hint(hint);
            }
            return self.error(span, &format!("the key {field} is missing"));
        }
        let expected = message.rsplit_once("expected ").map_or("something else", |(_, what)| what);
        let is_header = expected == "a sequence" && self.line_of(span.start).is_header();
        let shown = self.error(span, &format!("expected {}", in_words(expected)));
        if is_header { shown.hint(LISTED_TABLES) } else { shown }
    }

    /// `rest` is serde's "`exlude`, expected one of `include`, `exclude`".
    fn unknown_key(&self, span: Range<usize>, rest: &str) -> Error {
        let mut quoted = rest.split('`').skip(1).step_by(2);
        let key = quoted.next().unwrap_or_default().to_owned();
        let known: Vec<&str> = quoted.collect();
        let hint = match nearest(&key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("keys known here: {}", known.join(", ")),
        };
        let line = self.line_of(span.start);
        let shown = self.up_to_key(&line, &span);
        self.render(&line, &shown, &format!("unknown key `{key}`")).hint(hint)
    }

    /// Something is wrong with the value at `span`.
    pub fn error(&self, span: Range<usize>, why: &str) -> Error {
        let line = self.line_of(span.start);
        let shown =
            if self.is_harmless(&line) { whole_line(&line, &span) } else { up_to_equals(&line, &span) };
        self.render(&line, &shown, why)
    }

    fn render(&self, line: &Line<'_>, shown: &Shown, why: &str) -> Error {
        let number = line.number.to_string();
        let margin = " ".repeat(number.len());
        let why = format!(
            "line {number}: {why}\n{margin} |\n{number} | {}\n{margin} | {}{}",
            shown.text,
            " ".repeat(shown.column),
            "^".repeat(shown.width.max(1))
        );
        Error::new(ErrorKind::Config, "use", why).on(self.file)
    }

    fn line_of(&self, at: usize) -> Line<'a> {
        let at = self.text.floor_char_boundary(at.min(self.text.len()));
        let start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |len| at + len);
        let number = self.text[..start].matches('\n').count() + 1;
        Line { number, start, text: self.text[start..end].trim_end() }
    }

    /// Whether the value on this line belongs to a key that takes no secret.
    fn is_harmless(&self, line: &Line<'_>) -> bool {
        let above = &self.text[..line.start];
        let in_env_table =
            above.lines().rfind(|l| l.trim_start().starts_with('[')).is_some_and(|l| l.contains("env"));
        // A list over many lines: the key stands above.
        let with_key = std::iter::once(line.text).chain(above.lines().rev()).find(|l| l.contains('='));
        let key = with_key.and_then(|l| l.split_once('=')).map(|(key, _)| key.trim());
        let is_known = key.is_some_and(|key| HARMLESS_KEYS.contains(&key));
        line.is_header() || (is_known && !in_env_table && !line.text.contains("env"))
    }

    /// The line up to an unknown key, which may stand inside `{ }` behind other values.
    fn up_to_key(&self, line: &Line<'_>, span: &Range<usize>) -> Shown {
        if line.is_header() {
            return whole_line(line, span);
        }
        let range = line.clip(span);
        let before = &line.text[..range.start];
        let lead = if before.trim().is_empty() || before.trim().starts_with("[") {
            before.replace('\t', " ")
        } else {
            "… ".to_owned()
        };
        let key = &line.text[range.clone()];
        let tail = match line.text[range.end..].trim_start().chars().next() {
            None => "",
            Some(']') => &line.text[range.end..],
            Some(_) => " = …",
        };
        let column = lead.chars().count();
        Shown { text: format!("{lead}{key}{tail}"), column, width: key.chars().count() }
    }
}

struct Line<'a> {
    number: usize,
    start: usize,
    text: &'a str,
}

impl Line<'_> {
    fn is_header(&self) -> bool {
        self.text.trim_start().starts_with('[') && !self.text.contains('=')
    }

    /// The part of `span` that lies on this line, as offsets into it.
    fn clip(&self, span: &Range<usize>) -> Range<usize> {
        let inside =
            |at: usize| self.text.floor_char_boundary(at.saturating_sub(self.start).min(self.text.len()));
        inside(span.start)..inside(span.end)
    }
}

/// What is printed of a line and where the caret goes, in characters.
struct Shown {
    text: String,
    column: usize,
    width: usize,
}

fn whole_line(line: &Line<'_>, span: &Range<usize>) -> Shown {
    let range = line.clip(span);
    Shown {
        text: line.text.replace('\t', " "),
        column: line.text[..range.start].chars().count(),
        width: line.text[range].chars().count(),
    }
}

fn up_to_equals(line: &Line<'_>, span: &Range<usize>) -> Shown {
    let range = line.clip(span);
    match line.text.find('=') {
        // The key itself is meant.
        Some(equals) if range.end <= equals => {
            let shown = whole_line(line, span);
            Shown { text: format!("{}= …", line.text[..equals].replace('\t', " ")), ..shown }
        }
        Some(equals) => {
            let text = format!("{}= …", line.text[..equals].replace('\t', " "));
            let column = text.chars().count() - 1;
            Shown { text, column, width: 1 }
        }
        None => Shown { text: "…".to_owned(), column: 0, width: 1 },
    }
}

/// What serde expects, as a person would say it.
fn in_words(expected: &str) -> &str {
    match expected {
        "a string" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list in [ ]",
        "a map" => "a table",
        "u64" | "u32" | "i64" | "i32" => "a whole number",
        text if text.starts_with("struct ") => "a table",
        text => text,
    }
}
