//! Trees of metadata chunks: catalogues and long recipes (docs/FORMAT.md section 8).
//!
//! Page cuts depend on content alone, so a small change rewrites one page a level.

use minicbor::{Decode, Encode};

use crate::model::{ChunkId, Entry, EntryPath, Error, ErrorKind, Extent, Result, TreeRef};

use super::cbor;
use super::limits::TREE_LEVELS_MAX;

/// A page may be cut once it has this many bytes.
const PAGE_MIN_BYTES: usize = 8 << 10;
/// A page is cut at the latest when it has this many bytes.
const PAGE_MAX_BYTES: usize = 256 << 10;
/// Most bytes of an opened page; one huge record may stand alone in a page.
pub const PAGE_LIMIT_BYTES: usize = super::limits::CHUNK_MAX_BYTES;

/// Something a tree lists.
pub trait Record: Clone + Encode<()> + for<'b> Decode<'b, ()> {
    /// Whether it means the same without those before it: entries name themselves, while
    /// an extent's place is the sum of the earlier ones.
    const STANDS_ALONE: bool;
    /// Bytes that it stands for.
    fn bytes(&self) -> u64;
    /// What decides whether a page is cut after it; empty: never.
    fn cut_material(&self) -> &[u8];
    /// Its path, in catalogues.
    fn path(&self) -> Option<&EntryPath>;
}

impl Record for Entry {
    const STANDS_ALONE: bool = true;
    fn bytes(&self) -> u64 {
        self.size
    }
    fn cut_material(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn path(&self) -> Option<&EntryPath> {
        Some(&self.path)
    }
}

impl Record for Extent {
    const STANDS_ALONE: bool = false;
    fn bytes(&self) -> u64 {
        self.len()
    }
    fn cut_material(&self) -> &[u8] {
        match self {
            Self::Chunk { id, .. } => id.as_bytes(),
            Self::Hole { .. } => &[],
        }
    }
    fn path(&self) -> Option<&EntryPath> {
        None
    }
}

/// A reference to a page one level down.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Branch {
    /// The page.
    #[n(0)]
    pub child: ChunkId,
    /// Records in all leaves below.
    #[n(1)]
    pub records: u64,
    /// Bytes those stand for.
    #[n(2)]
    pub bytes: u64,
    /// First path below, in catalogues.
    #[n(3)]
    pub first: Option<EntryPath>,
}

impl Record for Branch {
    const STANDS_ALONE: bool = false;
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn cut_material(&self) -> &[u8] {
        self.child.as_bytes()
    }
    fn path(&self) -> Option<&EntryPath> {
        self.first.as_ref()
    }
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Page<R: Record> {
    /// 0 for leaves.
    #[n(0)]
    pub level: u8,
    /// Records or branches.
    #[n(1)]
    pub records: Vec<R>,
}

/// Where finished pages go; answers with the page's id.
pub trait PageSink {
    /// Stores a page.
    fn store(&mut self, page: Vec<u8>) -> Result<ChunkId>;
    /// Whether a page may end after a record with this cut material.
    fn cuts_after(&self, material: &[u8]) -> bool;
}

/// A page being filled, its records encoded already.
#[derive(Default)]
struct Level {
    encoded: Vec<u8>,
    pending: u64,
    records: u64,
    bytes: u64,
    first: Option<EntryPath>,
    first_child: Option<ChunkId>,
}

/// Builds a tree from records in order, holding one page a level.
pub struct TreeWriter<R: Record> {
    leaves: Level,
    branches: Vec<Level>,
    records: u64,
    bytes: u64,
    of: std::marker::PhantomData<fn(R)>,
}

impl<R: Record> Default for TreeWriter<R> {
    fn default() -> Self {
        Self {
            leaves: Level::default(),
            branches: Vec::new(),
            records: 0,
            bytes: 0,
            of: std::marker::PhantomData,
        }
    }
}

impl<R: Record> TreeWriter<R> {
    /// Adds the next record.
    pub fn push(&mut self, record: R, sink: &mut dyn PageSink) -> Result<()> {
        self.records += 1;
        self.bytes += record.bytes();
        if let Some(branch) = add(&mut self.leaves, 0, &record, 1, None, sink)? {
            self.push_branch(0, branch, sink)?;
        }
        Ok(())
    }

    fn push_branch(&mut self, at: usize, branch: Branch, sink: &mut dyn PageSink) -> Result<()> {
        if at >= usize::from(TREE_LEVELS_MAX) {
            return Err(Error::new(ErrorKind::Limit, "write the tree", "it has too many levels"));
        }
        if self.branches.len() <= at {
            self.branches.push(Level::default());
        }
        // `at` is below TREE_LEVELS_MAX.
        let level = &mut self.branches[at];
        if let Some(up) = add(level, at as u8 + 1, &branch, branch.records, Some(branch.child), sink)? {
            self.push_branch(at + 1, up, sink)?;
        }
        Ok(())
    }

    /// Stores what is left; the tree's root. A tree without records has one empty leaf.
    pub fn finish(mut self, sink: &mut dyn PageSink) -> Result<TreeRef> {
        if let Some(branch) = flush(&mut self.leaves, 0, sink)? {
            self.push_branch(0, branch, sink)?;
        }
        let mut at = 0;
        let root = loop {
            let is_top = at + 1 == self.branches.len();
            let Some(level) = self.branches.get_mut(at) else {
                let page = Page::<R> { level: 0, records: Vec::new() };
                break (sink.store(cbor::encode(&page))?, 0);
            };
            // A lone branch at the top is the root itself.
            if let Some(only) = level.first_child.filter(|_| is_top && level.pending == 1) {
                break (only, at as u8);
            }
            if let Some(branch) = flush(level, at as u8 + 1, sink)? {
                self.push_branch(at + 1, branch, sink)?;
            }
            at += 1;
        };
        Ok(TreeRef { root: root.0, level: root.1, records: self.records, bytes: self.bytes })
    }
}

fn add<R: Record>(
    level: &mut Level,
    number: u8,
    record: &R,
    below: u64,
    child: Option<ChunkId>,
    sink: &mut dyn PageSink,
) -> Result<Option<Branch>> {
    let encoded = cbor::encode(record);
    let mut cut = None;
    // A huge record must not push a page that is already large over the limit.
    if level.encoded.len() + encoded.len() > PAGE_MAX_BYTES && level.pending >= 2 {
        cut = flush(level, number, sink)?;
    }
    let ends = !record.cut_material().is_empty() && sink.cuts_after(record.cut_material());
    if level.pending == 0 {
        level.first = record.path().cloned();
        level.first_child = child;
    }
    level.encoded.extend_from_slice(&encoded);
    level.pending += 1;
    level.records += below;
    level.bytes += record.bytes();
    let size = level.encoded.len();
    let full = size >= PAGE_MAX_BYTES || (ends && size >= PAGE_MIN_BYTES);
    if cut.is_none() && full && (number == 0 || level.pending >= 2) {
        cut = flush(level, number, sink)?;
    }
    Ok(cut)
}

fn flush(level: &mut Level, number: u8, sink: &mut dyn PageSink) -> Result<Option<Branch>> {
    if level.pending == 0 {
        return Ok(None);
    }
    let full = std::mem::take(level);
    let mut page = Vec::with_capacity(full.encoded.len() + 16);
    let mut encoder = minicbor::Encoder::new(&mut page);
    encoder
        .array(2)
        .and_then(|e| e.u8(number))
        .and_then(|e| e.array(full.pending))
        .map_err(|e| Error::internal("write the tree", e.to_string()))?;
    page.extend_from_slice(&full.encoded);
    if page.len() > PAGE_LIMIT_BYTES {
        return Err(Error::new(ErrorKind::Limit, "write the tree", "one record is over 4 MiB"));
    }
    Ok(Some(Branch { child: sink.store(page)?, records: full.records, bytes: full.bytes, first: full.first }))
}

/// Where pages come from, verified.
pub trait PageSource {
    /// The page's bytes.
    fn page(&self, id: &ChunkId) -> Result<std::sync::Arc<Vec<u8>>>;
}

/// A page, decoded and of the level that its parent says.
pub enum Node<R: Record> {
    /// Records.
    Leaf(Vec<R>),
    /// References to pages one level down.
    Inner(Vec<Branch>),
}

/// Reads a page.
pub fn load<R: Record>(source: &dyn PageSource, id: &ChunkId, level: u8) -> Result<Node<R>> {
    let bytes = source.page(id)?;
    let wrong = || {
        Error::new(ErrorKind::Damaged, "read the tree", "a page is not of the level that its parent says")
            .on(id.to_string())
    };
    if level == 0 {
        let page: Page<R> = cbor::decode(&bytes, "tree page")?;
        return if page.level == 0 { Ok(Node::Leaf(page.records)) } else { Err(wrong()) };
    }
    let page: Page<Branch> = cbor::decode(&bytes, "tree page")?;
    if page.level == level { Ok(Node::Inner(page.records)) } else { Err(wrong()) }
}

/// Calls `visit` for every record that may lie in the wanted range, in order. `enter` is asked
/// with the first path of a subtree and the first path after it (absent at the end)
/// whether it can hold anything wanted. Every page must match what its parent says.
///
/// Where records stand alone, a page that is damaged or missing costs only what lies below
/// it: the walk visits all the rest and then fails with what was wrong. An error of `visit`
/// ends it at once.
pub fn walk<R: Record>(
    source: &dyn PageSource,
    tree: &TreeRef,
    enter: &dyn Fn(Option<&EntryPath>, Option<&EntryPath>) -> bool,
    visit: &mut dyn FnMut(R) -> Result<()>,
) -> Result<()> {
    if tree.level > TREE_LEVELS_MAX {
        return Err(Error::new(ErrorKind::Damaged, "read the tree", "it has too many levels"));
    }
    let mut state = Walk { enter, visit, last: None, lost: None };
    state.node(source, &tree.root, tree.level, (tree.records, tree.bytes), None)?;
    match state.lost {
        None => Ok(()),
        Some((error, 1)) => Err(error),
        Some((first, parts)) => {
            let why = format!("{parts} parts of it cannot be read; the first: {first}");
            let error = Error::new(first.kind(), "read the tree", why);
            Err(match first.remedy() {
                Some(hint) => error.hint(hint),
                None => error,
            })
        }
    }
}

struct Walk<'a, R: Record> {
    enter: &'a dyn Fn(Option<&EntryPath>, Option<&EntryPath>) -> bool,
    visit: &'a mut dyn FnMut(R) -> Result<()>,
    last: Option<EntryPath>,
    /// The first page that could not be read, and how many could not.
    lost: Option<(Error, u64)>,
}

impl<R: Record> Walk<'_, R> {
    fn node(
        &mut self,
        source: &dyn PageSource,
        id: &ChunkId,
        level: u8,
        says: (u64, u64),
        after: Option<&EntryPath>,
    ) -> Result<()> {
        let node = match load_checked::<R>(source, id, level, says) {
            Ok(node) => node,
            Err(error) => return self.lose(error),
        };
        match node {
            Node::Leaf(records) => {
                for record in records {
                    if let Err(error) = self.in_order(id, record.path()) {
                        return self.lose(error);
                    }
                    (self.visit)(record)?;
                }
            }
            Node::Inner(branches) => {
                for (i, branch) in branches.iter().enumerate() {
                    let next = branches.get(i + 1).map_or(after, |b| b.first.as_ref());
                    if (self.enter)(branch.first.as_ref(), next) {
                        self.node(source, &branch.child, level - 1, (branch.records, branch.bytes), next)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes on without the page where the others are of use without it.
    fn lose(&mut self, error: Error) -> Result<()> {
        let is_damage =
            matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Untrusted);
        if !R::STANDS_ALONE || !is_damage {
            return Err(error);
        }
        self.lost.get_or_insert((error, 0)).1 += 1;
        Ok(())
    }

    fn in_order(&mut self, id: &ChunkId, path: Option<&EntryPath>) -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        if self.last.as_ref().is_some_and(|last| last >= path) {
            return Err(
                Error::new(ErrorKind::Damaged, "read the tree", "its paths do not ascend").on(id.to_string())
            );
        }
        self.last = Some(path.clone());
        Ok(())
    }
}

/// A page whose sums are what its parent says.
fn load_checked<R: Record>(
    source: &dyn PageSource,
    id: &ChunkId,
    level: u8,
    says: (u64, u64),
) -> Result<Node<R>> {
    let node = load::<R>(source, id, level)?;
    match &node {
        Node::Leaf(records) => check_sums(id, says, records.iter().map(|r| (1, r.bytes())))?,
        Node::Inner(branches) => check_sums(id, says, branches.iter().map(|b| (b.records, b.bytes)))?,
    }
    Ok(node)
}

fn check_sums(id: &ChunkId, says: (u64, u64), parts: impl Iterator<Item = (u64, u64)>) -> Result<()> {
    let sum =
        parts.fold((0u64, 0u64), |sum, part| (sum.0.saturating_add(part.0), sum.1.saturating_add(part.1)));
    if sum != says {
        return Err(Error::new(
            ErrorKind::Damaged,
            "read the tree",
            "a page's sums are not what its parent says",
        )
        .on(id.to_string()));
    }
    Ok(())
}

/// Reads records one after another, holding one page a level.
pub struct Cursor<R: Record> {
    stack: Vec<(u8, std::vec::IntoIter<Branch>)>,
    leaf: std::vec::IntoIter<R>,
}

impl<R: Record> Cursor<R> {
    /// At the tree's beginning.
    pub fn new(source: &dyn PageSource, tree: &TreeRef) -> Result<Self> {
        let mut this = Self { stack: Vec::new(), leaf: Vec::new().into_iter() };
        this.descend(source, &tree.root, tree.level)?;
        Ok(this)
    }

    fn descend(&mut self, source: &dyn PageSource, id: &ChunkId, level: u8) -> Result<()> {
        let (mut id, mut level) = (*id, level.min(TREE_LEVELS_MAX));
        loop {
            match load::<R>(source, &id, level)? {
                Node::Leaf(records) => {
                    self.leaf = records.into_iter();
                    return Ok(());
                }
                Node::Inner(branches) => {
                    let mut rest = branches.into_iter();
                    let Some(first) = rest.next() else { return Ok(()) };
                    self.stack.push((level, rest));
                    id = first.child;
                    level -= 1;
                }
            }
        }
    }

    /// The next record.
    pub fn next(&mut self, source: &dyn PageSource) -> Result<Option<R>> {
        loop {
            if let Some(record) = self.leaf.next() {
                return Ok(Some(record));
            }
            let Some((level, rest)) = self.stack.last_mut() else { return Ok(None) };
            let level = *level;
            match rest.next() {
                Some(branch) => self.descend(source, &branch.child, level - 1)?,
                None => {
                    self.stack.pop();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EntryKind;
    use std::collections::HashMap;
    use std::sync::Arc;

    #[derive(Default)]
    struct Pages(HashMap<ChunkId, Arc<Vec<u8>>>);

    impl PageSink for Pages {
        fn store(&mut self, page: Vec<u8>) -> Result<ChunkId> {
            let id = ChunkId(*blake3::hash(&page).as_bytes());
            self.0.insert(id, Arc::new(page));
            Ok(id)
        }
        fn cuts_after(&self, material: &[u8]) -> bool {
            blake3::hash(material).as_bytes()[0] == 0
        }
    }
    impl PageSource for Pages {
        fn page(&self, id: &ChunkId) -> Result<Arc<Vec<u8>>> {
            self.0.get(id).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "read", "gone"))
        }
    }

    fn entries(n: usize, odd: Option<usize>) -> Vec<Entry> {
        (0..n)
            .map(|i| {
                let path = EntryPath::from_display(format!("dir/{i:08}").as_bytes()).unwrap();
                Entry { size: if odd == Some(i) { 7 } else { 1 }, ..Entry::new(path, EntryKind::File) }
            })
            .collect()
    }

    fn build(pages: &mut Pages, list: &[Entry]) -> TreeRef {
        let mut writer = TreeWriter::default();
        for entry in list {
            writer.push(entry.clone(), pages).unwrap();
        }
        writer.finish(pages).unwrap()
    }

    #[test]
    fn trees_of_any_size_read_back() {
        for n in [0, 1, 2, 100, 50_000] {
            let mut pages = Pages::default();
            let list = entries(n, None);
            let tree = build(&mut pages, &list);
            assert_eq!((tree.records, tree.bytes), (n as u64, n as u64));
            let mut read = Vec::new();
            walk(&pages, &tree, &|_, _| true, &mut |e: Entry| {
                read.push(e);
                Ok(())
            })
            .unwrap();
            assert_eq!(read, list);
            let mut cursor = Cursor::<Entry>::new(&pages, &tree).unwrap();
            let mut again = Vec::new();
            while let Some(entry) = cursor.next(&pages).unwrap() {
                again.push(entry);
            }
            assert_eq!(again, list);
        }
    }

    #[test]
    fn one_change_rewrites_few_pages() {
        let mut pages = Pages::default();
        let one = build(&mut pages, &entries(50_000, None));
        let before = pages.0.len();
        let two = build(&mut pages, &entries(50_000, Some(25_000)));
        assert_ne!(one.root, two.root);
        assert!(before > 50, "{before}");
        assert!(pages.0.len() - before <= usize::from(two.level) + 1);
    }

    /// The ids of all leaves.
    fn leaves<R: Record>(pages: &Pages, id: ChunkId, level: u8, found: &mut Vec<ChunkId>) {
        match load::<R>(pages, &id, level).unwrap() {
            Node::Leaf(_) => found.push(id),
            Node::Inner(branches) => {
                branches.iter().for_each(|b| leaves::<R>(pages, b.child, level - 1, found));
            }
        }
    }

    #[test]
    fn a_catalogue_with_lost_pages_gives_all_others_and_then_fails() {
        let mut pages = Pages::default();
        let list = entries(50_000, None);
        let tree = build(&mut pages, &list);
        let mut found = Vec::new();
        leaves::<Entry>(&pages, tree.root, tree.level, &mut found);
        let Node::Inner(top) = load::<Entry>(&pages, &tree.root, tree.level).unwrap() else { panic!() };
        let mut left = list.len() as u64;
        let mut lose = |pages: &mut Pages, id: &ChunkId, as_garbage: bool| {
            let Ok(Node::Leaf(records)) = load::<Entry>(pages, id, 0) else { panic!() };
            left -= records.len() as u64;
            match as_garbage {
                true => pages.0.insert(*id, Arc::new(vec![0xff])),
                false => pages.0.remove(id),
            };
            left
        };
        let read = |pages: &Pages| {
            let mut read = Vec::new();
            let walked = walk(pages, &tree, &|_, _| true, &mut |e: Entry| {
                read.push(e.path);
                Ok(())
            });
            assert!(read.is_sorted());
            (read.len() as u64, walked.unwrap_err())
        };
        let mut expected = lose(&mut pages, &found[1], false);
        let (seen, error) = read(&pages);
        assert_eq!((seen, error.kind()), (expected, ErrorKind::NotFound));
        expected = lose(&mut pages, &found[found.len() - 2], true);
        let (seen, error) = read(&pages);
        assert_eq!(seen, expected);
        assert!(error.to_string().contains("2 parts"), "{error}");
        if tree.level > 1 {
            pages.0.remove(&top[0].child);
            assert!(read(&pages).0 > 0);
        }
        // What the visitor says ends the walk, whatever it is.
        let mut visited = 0;
        let stopped = walk(&pages, &tree, &|_, _| true, &mut |_: Entry| {
            visited += 1;
            Err(Error::new(ErrorKind::Damaged, "visit", "enough"))
        });
        assert_eq!((visited, stopped.unwrap_err().what()), (1, "visit"));
    }

    #[test]
    fn a_recipe_with_a_lost_page_ends_there() {
        let mut pages = Pages::default();
        let mut writer = TreeWriter::default();
        for i in 0..20_000u32 {
            let id = ChunkId(*blake3::hash(&i.to_le_bytes()).as_bytes());
            writer.push(Extent::Chunk { id, start: 0, len: 1 }, &mut pages).unwrap();
        }
        let tree = writer.finish(&mut pages).unwrap();
        let mut found = Vec::new();
        leaves::<Extent>(&pages, tree.root, tree.level, &mut found);
        let Node::Leaf(first) = load::<Extent>(&pages, &found[0], 0).unwrap() else { panic!() };
        pages.0.remove(&found[1]);
        let mut visited = 0;
        let walked = walk(&pages, &tree, &|_, _| true, &mut |_: Extent| {
            visited += 1;
            Ok(())
        });
        assert_eq!(walked.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(visited, first.len());
    }

    #[test]
    fn a_lying_parent_is_caught() {
        let mut pages = Pages::default();
        let tree = build(&mut pages, &entries(1000, None));
        for lie in [
            TreeRef { records: 999, ..tree.clone() },
            TreeRef { bytes: 1, ..tree.clone() },
            TreeRef { level: tree.level + 1, ..tree.clone() },
        ] {
            assert!(walk(&pages, &lie, &|_, _| true, &mut |_: Entry| Ok(())).is_err());
        }
    }
}
