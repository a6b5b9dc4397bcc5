//! `muster ls`, `find`, `diff` and `cat`.

use std::io::{BufWriter, Write};

use globset::GlobBuilder;

use crate::cli::args::{self, SourcePath};
use crate::cli::compose::{Access, Context};
use crate::cli::exit::stdout_error;
use crate::jobs::browse::{Below, Browser};
use crate::jobs::points::resolve;
use crate::model::error::Exit;
use crate::model::{Entry, Error, ErrorKind, Result};
use crate::repo::points::StoredPoint;
use crate::report::Human;
use crate::report::json::ListWriter;
use crate::report::outcome::{FindMatch, LsEntry, ls_header};
use crate::report::stamp::Stamp;

use super::restore::wanted;

/// Rows go out through this much memory.
const OUTPUT_BUFFER_BYTES: usize = 64 << 10;

fn stdout() -> BufWriter<std::io::StdoutLock<'static>> {
    BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, std::io::stdout().lock())
}

fn below(path: Option<&SourcePath>) -> Below {
    Below { source: path.map(|p| p.source.clone()), path: path.and_then(|p| p.path.clone()) }
}

#[derive(serde::Serialize)]
struct PointHead<'a> {
    point: String,
    job: &'a str,
    time: Stamp,
}

fn head(point: &StoredPoint) -> PointHead<'_> {
    PointHead { point: point.point.id.to_string(), job: &point.point.job, time: Stamp(point.point.started) }
}

/// Lists a point's entries.
pub fn ls(context: &Context<'_>, args: &args::Ls) -> Result<Exit> {
    let repo = context.open(Access::Read)?;
    let list = repo.points()?;
    let point = resolve(&list, &wanted(&args.point))?;
    let browser = Browser::new(&repo, &context.cancel)?;
    let below = below(args.below.as_ref());
    let (mut out, human) = (stdout(), Human::local());
    if context.global.json {
        let mut rows = ListWriter::begin("ls", &head(point), "entries", &mut out).map_err(stdout_error)?;
        browser.ls(point, &below, args.recursive, &mut |source, entry| {
            rows.push(&LsEntry::new(source, &entry)).map_err(stdout_error)
        })?;
        rows.finish(None::<&()>).map_err(stdout_error)?;
    } else {
        if args.long {
            writeln!(out, "{}", ls_header()).map_err(stdout_error)?;
        }
        browser.ls(point, &below, args.recursive, &mut |source, entry| {
            LsEntry::new(source, &entry).render(&mut out, &human, args.long).map_err(stdout_error)
        })?;
    }
    out.flush().map_err(stdout_error)?;
    Ok(Exit::Done)
}

/// Finds entries by name.
pub fn find(context: &Context<'_>, args: &args::Find) -> Result<Exit> {
    let repo = context.open(Access::Read)?;
    let list = repo.points()?;
    let points: Vec<&StoredPoint> = match &args.point {
        Some(spec) => vec![resolve(&list, &wanted(spec))?],
        None => {
            list.points.iter().rev().filter(|p| args.job.as_ref().is_none_or(|j| p.point.job == *j)).collect()
        }
    };
    let matches = matcher(&args.pattern, args.ignore_case)?;
    let browser = Browser::new(&repo, &context.cancel)?;
    let (mut out, human) = (stdout(), Human::local());
    let mut found = 0u64;
    let row = |point: &StoredPoint, source: &str, entry: Entry| FindMatch {
        point: point.point.id.to_string(),
        job: point.point.job.clone(),
        time: Stamp(point.point.started),
        entry: LsEntry::new(source, &entry),
    };
    if context.global.json {
        let nothing = std::collections::BTreeMap::<String, String>::from([(
            "pattern".to_owned(),
            args.pattern.clone(),
        )]);
        let mut rows = ListWriter::begin("find", &nothing, "matches", &mut out).map_err(stdout_error)?;
        browser.find(&points, &matches, &mut |point, source, entry| {
            found += 1;
            rows.push(&row(point, source, entry)).map_err(stdout_error)
        })?;
        rows.finish(None::<&()>).map_err(stdout_error)?;
    } else {
        browser.find(&points, &matches, &mut |point, source, entry| {
            found += 1;
            row(point, source, entry).render(&mut out, &human).map_err(stdout_error)
        })?;
    }
    out.flush().map_err(stdout_error)?;
    if found == 0 && context.global.json {
        // The document says it already.
        return Ok(Exit::Failed);
    }
    if found == 0 {
        return Err(Error::new(ErrorKind::NotFound, "find", "no entry has such a name").on(args.pattern.clone())
            .hint("a pattern without a slash is matched against names, one with a slash against whole paths; * and ? are wild"));
    }
    Ok(Exit::Done)
}

/// A pattern with a slash matches whole paths, one without matches names.
fn matcher(pattern: &str, ignore_case: bool) -> Result<impl Fn(&Entry) -> bool> {
    let whole = pattern.contains('/');
    let glob = GlobBuilder::new(pattern.trim_start_matches('/'))
        .case_insensitive(ignore_case)
        .literal_separator(whole)
        .build()
        .map_err(|e| Error::new(ErrorKind::Usage, "read the pattern", e.to_string()).on(pattern.to_owned()))?
        .compile_matcher();
    Ok(move |entry: &Entry| {
        use std::os::unix::ffi::OsStrExt;
        let slashed = entry.path.to_slashed();
        let text = if whole { slashed.as_slice() } else { entry.path.leaf() };
        glob.is_match(std::ffi::OsStr::from_bytes(text))
    })
}

/// Compares two points.
pub fn diff(context: &Context<'_>, args: &args::Diff) -> Result<Exit> {
    #[derive(serde::Serialize)]
    struct Head<'a> {
        before: PointHead<'a>,
        after: PointHead<'a>,
    }
    let repo = context.open(Access::Read)?;
    let list = repo.points()?;
    let (before, after) = (resolve(&list, &wanted(&args.before))?, resolve(&list, &wanted(&args.after))?);
    let browser = Browser::new(&repo, &context.cancel)?;
    let below = below(args.below.as_ref());
    let mut out = stdout();
    if context.global.json {
        let head = Head { before: head(before), after: head(after) };
        let mut rows = ListWriter::begin("diff", &head, "changes", &mut out).map_err(stdout_error)?;
        let summary =
            browser.diff(before, after, &below, &mut |change| rows.push(change).map_err(stdout_error))?;
        rows.finish(Some(&summary)).map_err(stdout_error)?;
    } else {
        let summary = browser
            .diff(before, after, &below, &mut |change| change.render(&mut out).map_err(stdout_error))?;
        summary.render(&mut out).map_err(stdout_error)?;
    }
    out.flush().map_err(stdout_error)?;
    Ok(Exit::Done)
}

/// Prints a stream.
pub fn cat(context: &Context<'_>, args: &args::Cat) -> Result<Exit> {
    if context.global.json {
        return Err(Error::new(
            ErrorKind::Usage,
            "print the entry",
            "--json does not go with cat, which prints the bytes themselves",
        ));
    }
    let repo = context.open(Access::Read)?;
    let list = repo.points()?;
    let point = resolve(&list, &wanted(&args.point))?;
    let mut out = stdout();
    let written = Browser::new(&repo, &context.cancel)?.cat(
        point,
        &args.entry.source,
        args.entry.path.as_ref(),
        &mut Stdout(&mut out),
    );
    written.map_err(|e| if e.io_kind().is_some() { e.on("standard output") } else { e })?;
    out.flush().map_err(stdout_error)?;
    Ok(Exit::Done)
}

struct Stdout<'a, W: Write>(&'a mut W);

impl<W: Write> Write for Stdout<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
