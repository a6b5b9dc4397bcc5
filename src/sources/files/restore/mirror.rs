//! Removing what is not in the point: only below the captured roots, only within the
//! selection, never what a rule excludes, and never across a mount point.

use std::iter::Peekable;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::super::roots::{Facts, Node};
use super::super::walk::{WalkOptions, Walker};
use super::super::{FilesSource, beneath::Beneath};
use super::{Restore, shown};
use crate::model::{Entry, EntryPath, EntryState, Error, Result};
use crate::ports::Selection;

/// Something in the target that the point does not have.
struct Extra {
    path: EntryPath,
    is_dir: bool,
}

/// Removes what is too much.
pub fn remove_extras(restore: &Restore<'_>, source: &FilesSource, facts: &Facts) -> Result<()> {
    let Some(world) = &restore.world else { return Ok(()) };
    let tree = Node::tree(facts);
    let options = WalkOptions { skip_xattrs: true, stay_off_mounts: true };
    let walker = Walker::new(world, &tree, &source.config, &source.filter, options)
        .map_err(|e| Error::io("read", "the target", e))?;
    let selection = &restore.request.selection;
    let mut finder = Finder { walker: walker.peekable(), facts, selection, unread: None, extras: Vec::new() };
    restore.from.entries(selection, &mut |entry| {
        restore.cancel.check()?;
        finder.pass(&entry);
        Ok(())
    })?;
    finder.drain();
    // The deepest first, so that a directory is empty when its turn comes.
    for extra in finder.extras.iter().rev() {
        restore.cancel.check()?;
        if restore.request.dry_run {
            restore.note(format!("would remove {}", shown(&extra.path)));
            restore.count_removed();
        } else if remove(restore, world, extra) {
            restore.count_removed();
        }
    }
    Ok(())
}

/// Walks target and point side by side.
struct Finder<'a> {
    walker: Peekable<Walker<'a>>,
    facts: &'a Facts,
    selection: &'a Selection,
    /// Something whose content was not captured: what lies there may be wanted.
    unread: Option<EntryPath>,
    extras: Vec<Extra>,
}

impl Finder<'_> {
    fn pass(&mut self, entry: &Entry) {
        while let Some(item) = self.walker.next_if(|item| item.path < entry.path) {
            self.consider(item.path, item.stat.is_some_and(|stat| stat.is_dir()));
        }
        self.walker.next_if(|item| item.path == entry.path);
        if matches!(entry.state, EntryState::Unreadable(_)) {
            self.unread = Some(entry.path.clone());
        }
    }

    fn drain(&mut self) {
        while let Some(item) = self.walker.next() {
            self.consider(item.path, item.stat.is_some_and(|stat| stat.is_dir()));
        }
    }

    fn consider(&mut self, path: EntryPath, is_dir: bool) {
        let is_unread = self.unread.as_ref().is_some_and(|unread| path.is_within(unread));
        if self.facts.covers(&path) && self.selection.takes(&path) && !is_unread {
            self.extras.push(Extra { path, is_dir });
        }
    }
}

fn remove(restore: &Restore<'_>, world: &Beneath, extra: &Extra) -> bool {
    let flags = if extra.is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    let removed = world.open_parent(&extra.path).and_then(|parent| {
        let dir = parent.as_ref().map_or(world.base(), std::os::fd::AsFd::as_fd);
        Ok(rustix::fs::unlinkat(dir, extra.path.leaf(), flags)?)
    });
    let Err(error) = removed else { return true };
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => {}
        Some(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => {
            let why = "is kept: it holds excluded things, or something is mounted there";
            restore.note(format!("{} {why}", shown(&extra.path)));
        }
        _ => restore.failed(&extra.path, format!("could not be removed: {error}")),
    }
    false
}
