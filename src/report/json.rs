//! Documents for programs: one on standard output, with a versioned schema name.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::{Error, ErrorKind};

/// The schema name of version 1 of a command's document: `muster.backup/1`.
pub fn schema(command: &str) -> String {
    format!("muster.{command}/1")
}

#[derive(Serialize)]
struct Envelope<'a, T: Serialize> {
    schema: String,
    #[serde(flatten)]
    body: &'a T,
}

/// Writes `{"schema":"muster.<command>/1", …}` and a line end.
pub fn document(command: &str, body: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Envelope { schema: schema(command), body })?;
    writeln!(out)
}

/// A document whose list is written row by row, so that it need not fit in memory.
///
/// Dropped without [`ListWriter::finish`], it leaves a document that does not parse: a
/// list that was cut short is never taken for a whole one.
pub struct ListWriter<'a> {
    out: &'a mut dyn Write,
    is_empty: bool,
}

impl<'a> ListWriter<'a> {
    /// Begins `{"schema":…, <head>, "<list>":[`. `head` is a struct or a map.
    pub fn begin(
        command: &str,
        head: &impl Serialize,
        list: &str,
        out: &'a mut dyn Write,
    ) -> io::Result<Self> {
        let head = serde_json::to_string(&Envelope { schema: schema(command), body: head })?;
        let open = head.strip_suffix('}').unwrap_or(&head);
        write!(out, "{open},{}:[", serde_json::to_string(list)?)?;
        Ok(Self { out, is_empty: true })
    }

    /// The next row.
    pub fn push(&mut self, row: &impl Serialize) -> io::Result<()> {
        if !self.is_empty {
            self.out.write_all(b",")?;
        }
        self.is_empty = false;
        serde_json::to_writer(&mut *self.out, row)?;
        Ok(())
    }

    /// Ends the list and adds what is known only now under the key `summary`.
    pub fn finish(self, summary: Option<&impl Serialize>) -> io::Result<()> {
        self.out.write_all(b"]")?;
        if let Some(summary) = summary {
            self.out.write_all(b",\"summary\":")?;
            serde_json::to_writer(&mut *self.out, summary)?;
        }
        self.out.write_all(b"}\n")
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    kind: &'static str,
    what: &'a str,
    on: Option<&'a str>,
    why: &'a str,
    hint: Option<&'a str>,
    retryable: bool,
}

/// Writes an error as `{"schema":"muster.error/1","error":{…}}`.
pub fn error(error: &Error, out: &mut dyn Write) -> io::Result<()> {
    let fields = ErrorFields {
        kind: kind_name(error.kind()),
        what: error.what(),
        on: error.subject(),
        why: error.why(),
        hint: error.remedy(),
        retryable: error.is_retryable(),
    };
    document("error", &ErrorBody { error: fields }, out)
}

/// The kind as documents spell it.
pub fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "usage",
        ErrorKind::Config => "config",
        ErrorKind::Refused => "refused",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Exists => "exists",
        ErrorKind::Damaged => "damaged",
        ErrorKind::Untrusted => "untrusted",
        ErrorKind::WrongKey => "wrong_key",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Io => "io",
        ErrorKind::Store => "store",
        ErrorKind::Source => "source",
        ErrorKind::Interrupted => "interrupted",
        ErrorKind::Limit => "limit",
        ErrorKind::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Head {
        point: &'static str,
        nested: Nested,
    }
    #[derive(Serialize)]
    struct Nested {
        a: u8,
    }

    #[test]
    fn errors_are_documents() {
        let mut out = Vec::new();
        let failure =
            Error::new(ErrorKind::WrongKey, "open", "no key fits").on("x\n").hint("give --identity");
        error(&failure, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"{"schema":"muster.error/1","error":{"kind":"wrong_key","what":"open","on":"x\n","why":"no key fits","hint":"give --identity","retryable":false}}"#);
    }

    #[test]
    fn lists_are_written_row_by_row() {
        let head = Head { point: "P", nested: Nested { a: 1 } };
        for rows in 0..3u32 {
            let mut out = Vec::new();
            let mut list = ListWriter::begin("ls", &head, "entries", &mut out).unwrap();
            (0..rows).for_each(|row| list.push(&row).unwrap());
            list.finish(Some(&rows)).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(value["schema"], "muster.ls/1");
            assert_eq!(value["nested"]["a"], 1);
            assert_eq!(value["entries"].as_array().unwrap().len(), rows as usize);
            assert_eq!(value["summary"], rows);
        }
    }
}
