//! Looking into points: `ls`, `find`, `diff`, `cat`. Names and sizes need no recovery identity.

use std::io::Write;

use crate::model::{Entry, EntryKind, EntryPath, Error, ErrorKind, Result, Time};
use crate::ports::{Cancel, CaptureReader, Selection, StreamSink};
use crate::repo::format::PointSource;
use crate::repo::index::Index;
use crate::repo::points::StoredPoint;
use crate::repo::reader::{Reader, SourceReader};
use crate::repo::repository::Repository;
use crate::repo::tree::Cursor;
use crate::report::outcome::{Change, DiffChange, DiffSummary};

/// Opened metadata kept while browsing.
const CACHE_BYTES: usize = 64 << 20;

/// A repository opened for looking.
pub struct Browser<'r> {
    repo: &'r Repository,
    index: Index,
    cancel: Cancel,
}

/// A source and path as a person writes them.
#[derive(Clone, Debug, Default)]
pub struct Below {
    /// Only this source.
    pub source: Option<String>,
    /// Only this path and what is below it.
    pub path: Option<EntryPath>,
}

impl<'r> Browser<'r> {
    /// Brings the index up to date. `cancel` ends long reads.
    pub fn new(repo: &'r Repository, cancel: &Cancel) -> Result<Self> {
        let (index, report) = Index::sync(repo)?;
        for (_, error) in report.refused {
            tracing::warn!(%error, "an index object is not used");
        }
        Ok(Self { repo, index, cancel: cancel.clone() })
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(self.repo, &self.index, CACHE_BYTES).until(&self.cancel)
    }

    /// `muster ls`: entries at or, with `recursive`, anywhere below a path.
    pub fn ls(
        &self,
        point: &StoredPoint,
        below: &Below,
        recursive: bool,
        visit: &mut dyn FnMut(&str, Entry) -> Result<()>,
    ) -> Result<()> {
        let reader = self.reader();
        let mut found = below.path.is_none();
        for source in sources(point, below)? {
            let from = source_reader(&reader, source);
            let selection = Selection { paths: below.path.iter().cloned().collect() };
            let depth = below.path.as_ref().map_or(0, |p| p.components().count());
            from.entries(&selection, &mut |entry| {
                if !selection.takes(&entry.path) {
                    return Ok(());
                }
                found = true;
                let level = entry.path.components().count();
                let is_directory = entry.kind == EntryKind::Directory;
                // A directory's own row says little when its content was asked for.
                let shown =
                    if recursive { true } else { level == depth + 1 || (level == depth && !is_directory) };
                if shown { visit(&source.name, entry) } else { Ok(()) }
            })?;
        }
        if found { Ok(()) } else { Err(nothing_there(below)) }
    }

    /// `muster find`: entries of points whose name `matches`, newest point first.
    pub fn find(
        &self,
        points: &[&StoredPoint],
        matches: &dyn Fn(&Entry) -> bool,
        visit: &mut dyn FnMut(&StoredPoint, &str, Entry) -> Result<()>,
    ) -> Result<()> {
        let reader = self.reader();
        for point in points {
            for source in &point.point.sources {
                source_reader(&reader, source).entries(&Selection::default(), &mut |entry| {
                    if matches(&entry) { visit(point, &source.name, entry) } else { Ok(()) }
                })?;
            }
        }
        Ok(())
    }

    /// `muster diff`: what changed between two points, in path order for each source.
    pub fn diff(
        &self,
        before: &StoredPoint,
        after: &StoredPoint,
        below: &Below,
        visit: &mut dyn FnMut(&DiffChange) -> Result<()>,
    ) -> Result<DiffSummary> {
        let reader = self.reader();
        let mut summary = DiffSummary::default();
        let mut names: Vec<&str> = Vec::new();
        for source in before.point.sources.iter().chain(&after.point.sources) {
            let wanted = below.source.as_ref().is_none_or(|name| *name == source.name);
            if wanted && !names.contains(&source.name.as_str()) {
                names.push(&source.name);
            }
        }
        if names.is_empty() {
            return Err(nothing_there(below));
        }
        for name in names {
            let of = |point: &'_ StoredPoint| point.point.sources.iter().find(|s| s.name == name).cloned();
            let (old, new) = (of(before), of(after));
            // Equal catalogues have equal roots.
            let tree = |s: &Option<PointSource>| s.as_ref().and_then(|s| s.catalogue.clone());
            if tree(&old).is_some() && tree(&old) == tree(&new) {
                summary.unchanged += old.map_or(0, |s| s.items);
                continue;
            }
            let mut rows = Merge::new(&reader, tree(&old), tree(&new))?;
            while let Some((old, new)) = rows.next(&reader)? {
                let path = &new
                    .as_ref()
                    .or(old.as_ref())
                    .ok_or_else(|| Error::internal("compare", "an empty row"))?
                    .path;
                if below.path.as_ref().is_some_and(|b| !path.is_within(b)) {
                    continue;
                }
                match compare(name, old.as_ref(), new.as_ref()) {
                    Some(change) => {
                        summary.count(&change);
                        visit(&change)?;
                    }
                    None => summary.unchanged += 1,
                }
            }
        }
        Ok(summary)
    }

    /// `muster cat`: a stream's bytes. Follows a hard link to its first name.
    pub fn cat(
        &self,
        point: &StoredPoint,
        source: &str,
        path: Option<&EntryPath>,
        out: &mut dyn Write,
    ) -> Result<u64> {
        let below = Below { source: Some(source.to_owned()), path: path.cloned() };
        let reader = self.reader();
        let found = sources(point, &below)?;
        let from = source_reader(&reader, found.first().ok_or_else(|| nothing_there(&below))?);
        let mut entry = match path {
            Some(path) => from.entry(path)?,
            None => only_stream(&from)?,
        }
        .ok_or_else(|| nothing_there(&below))?;
        if let EntryKind::HardLink(first) = &entry.kind {
            entry = from.entry(first)?.ok_or_else(|| nothing_there(&below))?;
        }
        if entry.kind != EntryKind::File || entry.content.is_none() {
            return Err(Error::new(ErrorKind::Usage, "print the entry", "it is not a file with content")
                .on(format!("{source}:{}", entry.path)));
        }
        let mut sink = WriteSink(out);
        from.read(&entry, 0, entry.size, &mut sink)?;
        Ok(entry.size)
    }
}

fn only_stream(from: &SourceReader<'_>) -> Result<Option<Entry>> {
    let mut streams = Vec::new();
    from.entries(&Selection::default(), &mut |entry| {
        if entry.kind == EntryKind::File && streams.len() < 2 {
            streams.push(entry);
        }
        Ok(())
    })?;
    if streams.len() > 1 {
        return Err(Error::new(ErrorKind::Usage, "print the source", "it has more than one stream")
            .hint("name one: SOURCE:PATH"));
    }
    Ok(streams.pop())
}

fn source_reader<'a>(reader: &'a Reader<'a>, source: &'a PointSource) -> SourceReader<'a> {
    SourceReader { reader, source, threads: 1, on_progress: &|_, _| {} }
}

fn sources<'p>(point: &'p StoredPoint, below: &Below) -> Result<Vec<&'p PointSource>> {
    let wanted = |s: &&PointSource| below.source.as_ref().is_none_or(|name| *name == s.name);
    let found: Vec<_> = point.point.sources.iter().filter(wanted).collect();
    if found.is_empty() {
        let names: Vec<_> = point.point.sources.iter().map(|s| s.name.as_str()).collect();
        return Err(nothing_there(below).hint(format!("the point's sources are: {}", names.join(", "))));
    }
    Ok(found)
}

fn nothing_there(below: &Below) -> Error {
    let path = below.path.as_ref().map(ToString::to_string).unwrap_or_default();
    let source = below.source.clone().unwrap_or_default();
    let named = if path.is_empty() { source } else { format!("{source}:{path}") };
    Error::new(ErrorKind::NotFound, "find the entry", "there is nothing of this name in the point")
        .on(named)
        .hint("see `muster ls POINT` or `muster find NAME`")
}

/// Writes a stream out, holes as zeros.
struct WriteSink<'a>(&'a mut dyn Write);

impl StreamSink for WriteSink<'_> {
    fn data(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).map_err(|e| Error::io("write", "the output", e))
    }
    fn hole(&mut self, _: u64, mut len: u64) -> Result<()> {
        let zeros = [0; 8192];
        while len > 0 {
            let n = len.min(zeros.len() as u64);
            self.0.write_all(&zeros[..n as usize]).map_err(|e| Error::io("write", "the output", e))?;
            len -= n;
        }
        Ok(())
    }
}

/// Two catalogues side by side, in path order.
struct Merge {
    old: Option<Cursor<Entry>>,
    new: Option<Cursor<Entry>>,
    old_head: Option<Entry>,
    new_head: Option<Entry>,
}

impl Merge {
    fn new(
        reader: &Reader<'_>,
        old: Option<crate::model::TreeRef>,
        new: Option<crate::model::TreeRef>,
    ) -> Result<Self> {
        let cursor = |tree: Option<crate::model::TreeRef>| tree.map(|t| Cursor::new(reader, &t)).transpose();
        Ok(Self { old: cursor(old)?, new: cursor(new)?, old_head: None, new_head: None })
    }

    fn next(&mut self, reader: &Reader<'_>) -> Result<Option<(Option<Entry>, Option<Entry>)>> {
        fill(&mut self.old_head, &mut self.old, reader)?;
        fill(&mut self.new_head, &mut self.new, reader)?;
        let order = match (&self.old_head, &self.new_head) {
            (None, None) => return Ok(None),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => old.path.cmp(&new.path),
        };
        Ok(Some(match order {
            std::cmp::Ordering::Less => (self.old_head.take(), None),
            std::cmp::Ordering::Greater => (None, self.new_head.take()),
            std::cmp::Ordering::Equal => (self.old_head.take(), self.new_head.take()),
        }))
    }
}

fn fill(head: &mut Option<Entry>, cursor: &mut Option<Cursor<Entry>>, reader: &Reader<'_>) -> Result<()> {
    if let (None, Some(cursor)) = (&head, cursor) {
        *head = cursor.next(reader)?;
    }
    Ok(())
}

fn compare(source: &str, old: Option<&Entry>, new: Option<&Entry>) -> Option<DiffChange> {
    let (change, differs) = match (old, new) {
        (None, _) => (Change::Added, Vec::new()),
        (_, None) => (Change::Removed, Vec::new()),
        (Some(old), Some(new)) => {
            let differs = differences(old, new);
            if differs.is_empty() {
                return None;
            }
            (Change::Changed, differs)
        }
    };
    let path = &new.or(old)?.path;
    Some(DiffChange {
        change,
        source: source.to_owned(),
        path: path.to_string(),
        size_before: old.map(|e| e.size),
        size_after: new.map(|e| e.size),
        differs,
    })
}

/// In what two entries differ; inode numbers and the like do not count.
fn differences(old: &Entry, new: &Entry) -> Vec<&'static str> {
    let mut differs = Vec::new();
    let mut note = |differ: bool, what: &'static str| {
        if differ {
            differs.push(what);
        }
    };
    note(old.kind != new.kind, "kind");
    note(old.content != new.content || old.size != new.size, "content");
    note(old.state != new.state, "state");
    let none = crate::model::Attrs::default();
    let (a, b) = (old.attrs.as_ref().unwrap_or(&none), new.attrs.as_ref().unwrap_or(&none));
    note(a.mode != b.mode, "mode");
    note((a.uid, a.gid) != (b.uid, b.gid), "owner");
    note(a.mtime != b.mtime && a.mtime != Time::default(), "mtime");
    note(a.xattrs != b.xattrs, "xattrs");
    differs
}
