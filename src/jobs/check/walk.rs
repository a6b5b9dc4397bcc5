//! Walks every trusted point: each entry's chunks must lie in packs that are there and are not
//! known to be damaged. Pages are remembered, so that a thousand nearly equal points cost little more
//! than one.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::model::{ChunkId, Content, Entry, EntryPath, Extent, Result, TreeRef};
use crate::ports::Cancel;
use crate::repo::format::PointSource;
use crate::repo::index::{Index, Location};
use crate::repo::layout::{self, PackKind};
use crate::repo::limits::TREE_LEVELS_MAX;
use crate::repo::points::PointList;
use crate::repo::reader::Reader;
use crate::repo::repository::Repository;
use crate::repo::tree::{self, Node, Record};
use crate::report::human::{all_of, counted};

use super::damage::{Cause, Damage, PATHS_MAX};
use super::{CheckRequest, Findings, finding};

/// What a remembered page takes, about.
const PAGE_MEMORY_BYTES: u64 = 512;

/// What is known of a page and all that lies below it.
#[derive(Default)]
struct Subtree {
    records: u64,
    bytes: u64,
    first: Option<EntryPath>,
    last: Option<EntryPath>,
    /// What is hurt below, by path; of recipes without paths, once a cause.
    hurts: Vec<(String, Cause)>,
    /// How much more is hurt.
    more: BTreeMap<Cause, u64>,
    /// The page itself cannot be read.
    lost: Option<Cause>,
}

impl Subtree {
    fn lost(cause: Cause) -> Self {
        Self { lost: Some(cause), ..Self::default() }
    }

    fn hurt(&mut self, path: String, cause: Cause) {
        if path.is_empty() && self.hurts.iter().any(|(_, known)| *known == cause) {
            return;
        }
        if self.hurts.len() < PATHS_MAX {
            self.hurts.push((path, cause));
        } else {
            *self.more.entry(cause).or_default() += 1;
        }
    }

    fn take_in(&mut self, child: &Self) {
        for (path, cause) in &child.hurts {
            self.hurt(path.clone(), *cause);
        }
        for (cause, n) in &child.more {
            *self.more.entry(*cause).or_default() += n;
        }
    }
}

/// A record whose chunks can be checked.
trait Checked: Record {
    /// Tells catalogues from recipes.
    const HAS_PATHS: bool;
    /// What hurts it; an inner text says what is wrong with the record itself.
    fn causes(&self, walker: &mut Walker<'_>) -> Result<Result2<Vec<Cause>>>;
}

type Result2<T> = std::result::Result<T, String>;

impl Checked for Extent {
    const HAS_PATHS: bool = false;

    fn causes(&self, walker: &mut Walker<'_>) -> Result<Result2<Vec<Cause>>> {
        let Self::Chunk { id, start, len } = self else {
            return Ok(if self.is_empty() { Err("an empty hole".to_owned()) } else { Ok(Vec::new()) });
        };
        Ok(match walker.place(id)? {
            Err(cause) => Ok(vec![cause]),
            Ok(at) if at.kind != PackKind::Data => {
                Err(format!("chunk {id} of content lies in a metadata pack"))
            }
            Ok(at) if *len == 0 || u64::from(*start) + u64::from(*len) > u64::from(at.len) => {
                Err(format!("an extent lies outside its chunk {id}"))
            }
            Ok(_) => Ok(Vec::new()),
        })
    }
}

impl Checked for Entry {
    const HAS_PATHS: bool = true;

    fn causes(&self, walker: &mut Walker<'_>) -> Result<Result2<Vec<Cause>>> {
        if !self.path.is_safe() {
            return Ok(Err(format!("entry {} has a path that could leave a target", self.path)));
        }
        let Some(content) = &self.content else { return Ok(Ok(Vec::new())) };
        if content.len() != self.size {
            return Ok(Err(format!("entry {} has a recipe of another length than its size", self.path)));
        }
        walker.content(content)
    }
}

struct Walker<'a> {
    index: &'a Index,
    reader: &'a Reader<'a>,
    damage: &'a mut Damage,
    cancel: &'a Cancel,
    known: HashMap<(ChunkId, u8, bool), Rc<Subtree>>,
    known_max: usize,
}

/// Walks all points that can be restored from.
pub(super) fn points(
    repo: &Repository,
    index: &Index,
    points: &PointList,
    damage: &mut Damage,
    found: &mut Findings,
    request: &CheckRequest<'_>,
) -> Result<()> {
    let good: Vec<_> = points.points.iter().filter(|p| !p.is_void).collect();
    request.progress.stage("check points", Some(good.len() as u64), None);
    let reader = Reader::new(repo, index, (request.memory_bytes / 4) as usize).until(request.cancel);
    let known_max = (request.memory_bytes / 4 / PAGE_MEMORY_BYTES) as usize;
    let mut walker =
        Walker { index, reader: &reader, damage, cancel: request.cancel, known: HashMap::new(), known_max };
    for stored in good {
        let id = stored.point.id.to_string();
        for source in &stored.point.sources {
            if let Some(wrong) = walker.source(&id, source)? {
                found.problem(
                    layout::point(&stored.point.id).to_string(),
                    format!("source {}: {wrong}", source.name),
                );
                if let Some(problem) = found.problems.last_mut() {
                    problem.points_hurt.push(id.clone());
                }
            }
        }
        request.progress.add(1, 0);
    }
    found.read(reader.bytes_read());
    Ok(())
}

impl Walker<'_> {
    /// Walks one source; answers with what contradicts its manifest.
    fn source(&mut self, point: &str, source: &PointSource) -> Result<Option<String>> {
        let at = |path: &str| format!("{point} {}:{path}", source.name);
        if let Some(catalogue) = &source.catalogue {
            let top = match self.tree::<Entry>(catalogue)? {
                Ok(top) => top,
                Err(wrong) => return Ok(Some(wrong)),
            };
            for (path, cause) in &top.hurts {
                self.damage.hurts(*cause, point, Some(at(path)));
            }
            for (cause, more) in &top.more {
                self.damage.hurts(*cause, point, None);
                self.damage.hurts_more(*cause, *more);
            }
            if let Some(cause) = top.lost {
                self.damage.hurts(
                    cause,
                    point,
                    Some(at(&format!(" {}", all_of(catalogue.records, "entry")))),
                );
            }
        }
        if let Some(facts) = &source.facts {
            match self.content(facts)? {
                Ok(causes) => causes
                    .into_iter()
                    .for_each(|c| self.damage.hurts(c, point, Some(at(" what verification needs")))),
                Err(wrong) => return Ok(Some(format!("its facts: {wrong}"))),
            }
        }
        Ok(None)
    }

    /// What hurts a recipe.
    fn content(&mut self, content: &Content) -> Result<Result2<Vec<Cause>>> {
        let mut causes = Vec::new();
        match content {
            Content::Inline(extents) => {
                for extent in extents {
                    match extent.causes(self)? {
                        Ok(more) => causes.extend(more),
                        Err(wrong) => return Ok(Err(wrong)),
                    }
                }
            }
            Content::Tree(tree) => match self.tree::<Extent>(tree)? {
                Ok(top) => causes.extend(top.hurts.iter().map(|(_, cause)| *cause).chain(top.lost)),
                Err(wrong) => return Ok(Err(wrong)),
            },
        }
        causes.sort();
        causes.dedup();
        Ok(Ok(causes))
    }

    /// A tree from its reference, whose sums must be those of its pages.
    fn tree<R: Checked>(&mut self, tree: &TreeRef) -> Result<Result2<Rc<Subtree>>> {
        if tree.level > TREE_LEVELS_MAX {
            return Ok(Err("a tree has too many levels".to_owned()));
        }
        let top = self.subtree::<R>(&tree.root, tree.level)?;
        let agrees = top.lost.is_some() || (top.records, top.bytes) == (tree.records, tree.bytes);
        Ok(if agrees {
            Ok(top)
        } else {
            Err(format!("the tree at {} has other sums than its reference says", tree.root))
        })
    }

    fn subtree<R: Checked>(&mut self, id: &ChunkId, level: u8) -> Result<Rc<Subtree>> {
        let key = (*id, level, R::HAS_PATHS);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        self.cancel.check()?;
        let subtree = match self.load::<R>(id, level)? {
            Err(cause) => Subtree::lost(cause),
            Ok((Node::Leaf(records), at)) => self.leaf(id, &at, &records)?,
            Ok((Node::Inner(branches), at)) => self.inner::<R>(id, &at, level, &branches)?,
        };
        let subtree = Rc::new(subtree);
        if self.known.len() < self.known_max {
            self.known.insert(key, subtree.clone());
        }
        Ok(subtree)
    }

    fn leaf<R: Checked>(&mut self, id: &ChunkId, at: &Location, records: &[R]) -> Result<Subtree> {
        let mut subtree =
            Subtree { first: records.first().and_then(|r| r.path().cloned()), ..Subtree::default() };
        for record in records {
            if record.path().is_some()
                && subtree.last.as_ref().is_some_and(|last| Some(last) >= record.path())
            {
                return Ok(self.wrong_page(id, at, "its paths do not ascend"));
            }
            subtree.last = record.path().cloned();
            subtree.records += 1;
            subtree.bytes = subtree.bytes.saturating_add(record.bytes());
            let path = record.path().map(ToString::to_string).unwrap_or_default();
            match record.causes(self)? {
                Ok(causes) => causes.into_iter().for_each(|cause| subtree.hurt(path.clone(), cause)),
                Err(wrong) => {
                    self.damage.note(at.pack, at.kind, format!("page {id}: {wrong}"));
                    subtree.hurt(path, Cause::Pack(at.pack));
                }
            }
        }
        Ok(subtree)
    }

    fn inner<R: Checked>(
        &mut self,
        id: &ChunkId,
        at: &Location,
        level: u8,
        branches: &[tree::Branch],
    ) -> Result<Subtree> {
        let mut subtree =
            Subtree { first: branches.first().and_then(|b| b.first.clone()), ..Subtree::default() };
        for branch in branches {
            let child = self.subtree::<R>(&branch.child, level - 1)?;
            let is_after =
                !R::HAS_PATHS || subtree.last.as_ref().is_none_or(|last| branch.first.as_ref() > Some(last));
            let agrees =
                (child.records, child.bytes) == (branch.records, branch.bytes) && child.first == branch.first;
            if !is_after || !(agrees || child.lost.is_some()) {
                return Ok(self.wrong_page(id, at, "it does not agree with the pages below it"));
            }
            subtree.records = subtree.records.saturating_add(branch.records);
            subtree.bytes = subtree.bytes.saturating_add(branch.bytes);
            if let Some(cause) = child.lost {
                let first = branch
                    .first
                    .as_ref()
                    .map(|f| format!("{f} and what follows, {}", counted(branch.records, "entry")));
                subtree.hurt(first.unwrap_or_default(), cause);
            }
            subtree.take_in(&child);
            subtree.last = child.last.clone().or_else(|| branch.first.clone());
        }
        Ok(subtree)
    }

    fn wrong_page(&mut self, id: &ChunkId, at: &Location, why: &str) -> Subtree {
        self.damage.note(at.pack, at.kind, format!("page {id}: {why}"));
        Subtree::lost(Cause::Pack(at.pack))
    }

    /// Reads a page; the inner error says why it is lost.
    fn load<R: Checked>(
        &mut self,
        id: &ChunkId,
        level: u8,
    ) -> Result<std::result::Result<(Node<R>, Location), Cause>> {
        let at = match self.place(id)? {
            Ok(at) => at,
            Err(cause) => return Ok(Err(cause)),
        };
        Ok(match finding(tree::load::<R>(self.reader, id, level))? {
            Ok(node) => Ok((node, at)),
            Err(error) => {
                self.damage.note(at.pack, at.kind, format!("page {id} at {}: {}", at.offset, error.why()));
                Err(Cause::Pack(at.pack))
            }
        })
    }

    /// A place of a chunk that can be used, or why there is none.
    fn place(&mut self, id: &ChunkId) -> Result<std::result::Result<Location, Cause>> {
        if let Some(at) = self.index.find(id, &|_, at| self.damage.is_whole(at))? {
            return Ok(Ok(at));
        }
        Ok(Err(self.index.find(id, &|_, _| true)?.map_or(Cause::Index, |at| Cause::Pack(at.pack))))
    }
}
