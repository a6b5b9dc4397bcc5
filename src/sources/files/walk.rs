//! A depth-first walk with names sorted bytewise: items come in the order of their
//! entry paths. It holds one open directory a level, at most [`OPEN_DIRS_MAX`].

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ignore::gitignore::Gitignore;
use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

use super::FilesConfig;
use super::attrs::{Stat, XattrReader};
use super::beneath::{Beneath, DIR_READ};
use super::filter::{Filter, IGNORE_FILE_MAX_BYTES, absolute, compile_ignore_file};
use super::roots::Node;
use crate::model::EntryPath;
use crate::model::entry::{PATH_MAX_BYTES, Xattr};

/// Directories held open at once; further up they are closed and opened again.
const OPEN_DIRS_MAX: usize = 64;

/// Room for the names that one call gives.
const NAMES_BUFFER_BYTES: usize = 64 << 10;

/// Why something that was there a moment ago is not captured.
pub const VANISHED: &str = "vanished while the backup ran";

/// Something the walk came by.
#[derive(Debug)]
pub struct Item {
    /// Where.
    pub path: EntryPath,
    /// What the system says of it; `None` where it says nothing.
    pub stat: Option<Stat>,
    /// Where a symbolic link points.
    pub target: Option<Vec<u8>>,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Why extended attributes are missing.
    pub xattr_problem: Option<String>,
    /// Why it, or what lies below it, cannot be captured.
    pub problem: Option<String>,
}

/// What the walk is to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct WalkOptions {
    /// Leave extended attributes unread.
    pub skip_xattrs: bool,
    /// Do not enter what is mounted below the roots, whatever the configuration says.
    pub stay_off_mounts: bool,
}

/// Figures of a walk.
#[derive(Clone, Debug, Default)]
pub struct WalkCounts {
    /// Things left out by a rule.
    pub excluded: u64,
    /// Mount points not entered, and files on other file systems.
    pub other_file_systems: u64,
    /// Directories left out as caches.
    pub caches: u64,
    /// Lines of ignore files that are no patterns, or ignore files that cannot be read.
    pub bad_ignore_rules: u64,
}

/// The walk.
pub struct Walker<'a> {
    world: &'a Beneath,
    config: &'a FilesConfig,
    filter: &'a Filter,
    options: WalkOptions,
    stack: Vec<Frame<'a>>,
    pending: VecDeque<Item>,
    xattrs: XattrReader,
    buffer: Vec<MaybeUninit<u8>>,
    /// Figures so far.
    pub counts: WalkCounts,
}

/// A directory being walked.
struct Frame<'a> {
    path: Option<EntryPath>,
    fd: Option<OwnedFd>,
    stat: Stat,
    names: NameList,
    node: Option<&'a Node>,
    /// Whether everything below is wanted, or only the way to further roots.
    is_whole: bool,
    /// Whether an include pattern has named this directory or one above.
    is_included: bool,
    rules: Option<Gitignore>,
    root_dev: u64,
}

/// How the walk goes on below a directory.
struct Descent<'a> {
    node: Option<&'a Node>,
    is_whole: bool,
    is_included: bool,
    root_dev: u64,
}

impl<'a> Walker<'a> {
    /// A walk below `top`, whose place is `world`'s base.
    pub fn new(
        world: &'a Beneath,
        top: &'a Node,
        config: &'a FilesConfig,
        filter: &'a Filter,
        options: WalkOptions,
    ) -> io::Result<Self> {
        let mut walker = Self {
            world,
            config,
            filter,
            options,
            stack: Vec::new(),
            pending: VecDeque::new(),
            xattrs: XattrReader::default(),
            buffer: vec![MaybeUninit::uninit(); NAMES_BUFFER_BYTES],
            counts: WalkCounts::default(),
        };
        let fd = openat(world.base(), ".", DIR_READ, Mode::empty())?;
        let stat = Stat::of(&fd)?;
        let down = Descent { node: Some(top), is_whole: top.is_root, is_included: false, root_dev: stat.dev };
        if let Some(problem) = walker.enter(None, fd, stat, down) {
            return Err(io::Error::other(problem));
        }
        Ok(walker)
    }

    fn visit(&mut self, at: usize) -> Option<Item> {
        self.reopen_top();
        let frame = self.stack.last()?;
        let name = frame.names.get(at);
        let node = frame.node.and_then(|node| node.children.get(name.to_bytes()));
        let is_named = node.is_some_and(|node| node.is_root);
        // A directory with a name too long below it has been marked when it was entered.
        let path = child_path(frame.path.as_ref(), name.to_bytes())?;
        let looked = match &frame.fd {
            Some(fd) => Stat::at_c(fd.as_fd(), name),
            None => Err(io::Error::other("its directory was replaced while the backup ran")),
        };
        let stat = match looked {
            Ok(stat) => stat,
            Err(e) => return self.lost(path, node, &e),
        };
        let is_included = frame.is_included || self.filter.includes(&path, stat.is_dir());
        let is_foreign = (self.config.one_file_system || self.options.stay_off_mounts)
            && stat.dev != frame.root_dev
            || self.options.stay_off_mounts && stat.is_mount;
        let mut down = Descent {
            node,
            is_whole: frame.is_whole || is_named,
            is_included,
            root_dev: if is_named { stat.dev } else { frame.root_dev },
        };
        let leads_on = node.is_some_and(|node| !node.children.is_empty());
        if frame.is_whole && !is_named {
            if self.is_left_out(&path, &stat, is_included) {
                self.counts.excluded += 1;
                down.is_whole = false;
            } else if is_foreign {
                self.counts.other_file_systems += 1;
                if stat.is_dir() && !leads_on {
                    return Some(self.item(path, stat, at));
                }
                down.is_whole = false;
            }
            if !down.is_whole && !leads_on {
                return None;
            }
        }
        if stat.is_dir() {
            Some(self.visit_dir(path, stat, at, down))
        } else {
            self.visit_leaf(path, stat, at, node)
        }
    }

    /// Whether a rule leaves this out.
    fn is_left_out(&self, path: &EntryPath, stat: &Stat, is_included: bool) -> bool {
        if !stat.is_dir() && !is_included {
            return true;
        }
        let has_rules = self.stack.iter().any(|frame| frame.rules.is_some());
        if !self.filter.has_excludes() && !has_rules {
            return false;
        }
        let rules = self.stack.iter().filter_map(|frame| frame.rules.as_ref());
        self.filter.excludes(&absolute(path), stat.is_dir(), rules)
    }

    fn visit_leaf(&mut self, path: EntryPath, stat: Stat, at: usize, node: Option<&'a Node>) -> Option<Item> {
        for (name, below) in node.iter().flat_map(|node| &node.children) {
            if let Some(path) = path.child(name) {
                self.lose_roots(&path, below, "what should be a directory on the way is none");
            }
        }
        Some(self.item(path, stat, at))
    }

    /// The item of something that is not entered.
    fn item(&mut self, path: EntryPath, stat: Stat, at: usize) -> Item {
        let mut item = Item { stat: Some(stat), ..Item::bare(path) };
        let Some(frame) = self.stack.last() else { return item };
        let Some(fd) = &frame.fd else { return item };
        let name = frame.names.get(at);
        if stat.kind == FileType::Symlink {
            match rustix::fs::readlinkat(fd, name, Vec::new()) {
                Ok(target) => item.target = Some(target.into_bytes()),
                Err(e) => {
                    item.stat = None;
                    item.problem = Some(describe(&e.into()));
                }
            }
        }
        if !self.options.skip_xattrs {
            match self.xattrs.read_at(fd.as_fd(), name.to_bytes()) {
                Ok(xattrs) => item.xattrs = xattrs,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => item.xattr_problem = Some(describe(&e)),
            }
        }
        item
    }

    fn visit_dir(&mut self, path: EntryPath, stat: Stat, at: usize, down: Descent<'a>) -> Item {
        let parent_dev = self.stack.last().map_or(stat.dev, |frame| frame.stat.dev);
        let opened = match self.stack.last() {
            Some(Frame { fd: Some(fd), names, .. }) => open_dir(fd.as_fd(), names.get(at)),
            _ => Err(Errno::NOENT.into()),
        };
        let opened = opened.and_then(|fd| Ok((Stat::of(&fd)?, fd)));
        let (stat, fd) = match opened {
            Ok(found) => found,
            Err(e) => {
                let mut item = self.item(path.clone(), stat, at);
                item.problem = Some(describe(&e));
                if let Some(node) = down.node {
                    for (name, below) in &node.children {
                        if let Some(path) = path.child(name) {
                            self.lose_roots(&path, below, &describe(&e));
                        }
                    }
                }
                return item;
            }
        };
        let mut item = Item { stat: Some(stat), ..Item::bare(path.clone()) };
        if !self.options.skip_xattrs {
            match self.xattrs.read_fd(fd.as_fd()) {
                Ok(xattrs) => item.xattrs = xattrs,
                Err(e) => item.xattr_problem = Some(describe(&e)),
            }
        }
        let is_named = down.node.is_some_and(|node| node.is_root);
        if stat.dev != parent_dev && !is_named && down.is_whole && is_made_by_kernel(fd.as_fd()) {
            self.counts.other_file_systems += 1;
            return item;
        }
        item.problem = self.enter(Some(path), fd, stat, down);
        item
    }

    /// Reads a directory's names and goes down into it. Says what of it cannot be captured.
    fn enter(
        &mut self,
        path: Option<EntryPath>,
        fd: OwnedFd,
        stat: Stat,
        down: Descent<'a>,
    ) -> Option<String> {
        let mut problem = None;
        let mut names = NameList::default();
        if down.is_whole
            && let Err(e) = names.read(fd.as_fd(), &mut self.buffer)
        {
            problem = Some(describe(&e));
        }
        for name in down.node.iter().flat_map(|node| node.children.keys()) {
            names.push_new(name);
        }
        names.sort();
        // A path may be as long as it can be and leave no room even for the separator.
        let taken = path.as_ref().map_or(0, |path| path.as_bytes().len() + 1);
        let room = PATH_MAX_BYTES.saturating_sub(taken);
        if names.longest() > room {
            problem = Some(format!("holds a path longer than {PATH_MAX_BYTES} bytes"));
        }
        if down.is_whole && self.config.exclude_caches && is_cache(fd.as_fd(), &names) {
            self.counts.caches += 1;
            names.keep_only(CACHE_TAG);
        }
        let rules = if down.is_whole { self.ignore_rules(path.as_ref(), fd.as_fd(), &names) } else { None };
        self.stack.push(Frame {
            path,
            fd: Some(fd),
            stat,
            names,
            node: down.node,
            is_whole: down.is_whole,
            is_included: down.is_included,
            rules,
            root_dev: down.root_dev,
        });
        if let Some(far) = self.stack.len().checked_sub(OPEN_DIRS_MAX + 1) {
            self.stack[far].fd = None;
        }
        problem
    }

    /// Opens the current directory again where it was closed for being far up.
    fn reopen_top(&mut self) {
        let Some(frame) = self.stack.last_mut() else { return };
        if frame.fd.is_some() {
            return;
        }
        let opened = match &frame.path {
            Some(path) => self.world.open_at(path, DIR_READ),
            None => openat(self.world.base(), ".", DIR_READ, Mode::empty()).map_err(Into::into),
        };
        frame.fd = opened.ok().filter(|fd| Stat::of(fd).is_ok_and(|now| now.is_same_file(&frame.stat)));
    }

    fn ignore_rules(
        &mut self,
        path: Option<&EntryPath>,
        fd: BorrowedFd<'_>,
        names: &NameList,
    ) -> Option<Gitignore> {
        let mut text = Vec::new();
        for name in &self.config.ignore_files {
            if names.contains(name.as_bytes()) {
                match read_small(fd, name.as_bytes(), IGNORE_FILE_MAX_BYTES) {
                    Ok(more) => text.extend_from_slice(&more),
                    Err(_) => self.counts.bad_ignore_rules += 1,
                }
                text.push(b'\n');
            }
        }
        if text.is_empty() {
            return None;
        }
        let dir = path.map_or_else(|| b"/".to_vec(), absolute);
        let (rules, bad) = compile_ignore_file(&dir, &text);
        self.counts.bad_ignore_rules += bad as u64;
        Some(rules)
    }

    /// Something that could not even be looked at.
    fn lost(&mut self, path: EntryPath, node: Option<&'a Node>, error: &io::Error) -> Option<Item> {
        let is_gone = error.kind() == io::ErrorKind::NotFound;
        match node {
            Some(node) => {
                let why = if is_gone { "does not exist".to_owned() } else { describe(error) };
                self.lose_roots(&path, node, &why);
                self.pending.pop_front()
            }
            None => Some(Item { problem: Some(describe(error)), ..Item::bare(path) }),
        }
    }

    fn lose_roots(&mut self, path: &EntryPath, node: &Node, why: &str) {
        node.roots_below(path, &mut |root| {
            self.pending.push_back(Item { problem: Some(why.to_owned()), ..Item::bare(root) });
        });
    }
}

/// In path order.
impl Iterator for Walker<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Some(item);
            }
            let frame = self.stack.last_mut()?;
            match frame.names.advance() {
                Some(at) => {
                    if let Some(item) = self.visit(at) {
                        return Some(item);
                    }
                }
                None => drop(self.stack.pop()),
            }
        }
    }
}

impl Item {
    fn bare(path: EntryPath) -> Self {
        Self { path, stat: None, target: None, xattrs: Vec::new(), xattr_problem: None, problem: None }
    }
}

/// A failed system call, in words that may stand in metadata.
pub fn describe(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound { VANISHED.to_owned() } else { error.to_string() }
}

fn child_path(parent: Option<&EntryPath>, name: &[u8]) -> Option<EntryPath> {
    match parent {
        Some(parent) => parent.child(name),
        None => EntryPath::from_components([name]),
    }
}

fn open_dir(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    match openat(parent, name, DIR_READ | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may leave the access time alone.
        Err(Errno::PERM) => Ok(openat(parent, name, DIR_READ, Mode::empty())?),
        other => Ok(other?),
    }
}

fn read_small(dir: BorrowedFd<'_>, name: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    if !Stat::of(&fd)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The mark of a cache directory. Source: <https://bford.info/cachedir/>.
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

fn is_cache(dir: BorrowedFd<'_>, names: &NameList) -> bool {
    let wanted = CACHE_SIGNATURE.len() as u64;
    names.contains(CACHE_TAG) && read_small(dir, CACHE_TAG, wanted).is_ok_and(|tag| tag == CACHE_SIGNATURE)
}

/// Whether the directory is of a file system that the kernel makes up (`/proc`, `/sys`,
/// control groups …): its files are no data. Source: linux/magic.h.
fn is_made_by_kernel(dir: BorrowedFd<'_>) -> bool {
    const MAGICS: [u64; 13] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0x6265_6570, // configfs
        0xcafe_4a11, // bpf
        0x1cd1,      // devpts
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0x1980_0202, // mqueue
    ];
    rustix::fs::fstatfs(dir).is_ok_and(|fs| MAGICS.contains(&(fs.f_type as u64 & 0xffff_ffff)))
}

/// A directory's names in one piece of memory, each ended by a zero byte.
#[derive(Default)]
struct NameList {
    bytes: Vec<u8>,
    starts: Vec<(u32, u32)>,
    next: usize,
}

impl NameList {
    fn read(&mut self, fd: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<()> {
        let mut dir = RawDir::new(fd, buffer);
        while let Some(entry) = dir.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.push(name)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, name: &[u8]) -> io::Result<()> {
        let too_many = |_| io::Error::other("holds more than 4 GiB of names");
        let start = u32::try_from(self.bytes.len()).map_err(too_many)?;
        let len = u32::try_from(name.len()).map_err(too_many)?;
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.starts.push((start, len));
        Ok(())
    }

    /// Adds a name (without zero bytes) unless it stands there; before sorting.
    fn push_new(&mut self, name: &[u8]) {
        if !self.starts.iter().any(|at| self.slice(*at) == name) {
            // Names of roots are few: the list cannot overflow by them.
            let _ = self.push(name);
        }
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let name = |at: &(u32, u32)| &bytes[at.0 as usize..(at.0 + at.1) as usize];
        self.starts.sort_unstable_by(|a, b| name(a).cmp(name(b)));
    }

    fn slice(&self, (start, len): (u32, u32)) -> &[u8] {
        &self.bytes[start as usize..(start + len) as usize]
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.starts.binary_search_by(|at| self.slice(*at).cmp(name)).is_ok()
    }

    fn keep_only(&mut self, name: &[u8]) {
        let bytes = std::mem::take(&mut self.bytes);
        self.starts.retain(|at| &bytes[at.0 as usize..(at.0 + at.1) as usize] == name);
        self.bytes = bytes;
    }

    fn longest(&self) -> usize {
        self.starts.iter().map(|at| at.1 as usize).max().unwrap_or(0)
    }

    fn advance(&mut self) -> Option<usize> {
        let at = self.next;
        self.next += 1;
        (at < self.starts.len()).then_some(at)
    }

    fn get(&self, at: usize) -> &CStr {
        let (start, len) = self.starts[at];
        let bytes = &self.bytes[start as usize..(start + len) as usize + 1];
        CStr::from_bytes_until_nul(bytes).unwrap_or_default()
    }
}
