"""Data sets for the benchmarks: real files of this machine, copied once.

Set A is at least 2 GiB of mixed files: programs, libraries, archives, documents,
from folders whose files are 64 KiB and more on average. Set B is 90,000 files
below that size, of distinct content. Whole folders are taken in a shuffled but
fixed order, so that a set is mixed and yet keeps the neighbourhoods of real trees.
"""

import hashlib
import json
import os
import random
import shutil
import stat
from dataclasses import asdict, dataclass

SEED = 20_26
MIB = 1 << 20
SMALL_FILE_LIMIT_BYTES = 64 << 10
# One huge file would be most of the set.
LARGE_FILE_LIMIT_BYTES = 128 * MIB
CHANGED_SHARE = 0.005
COPY_BLOCK_BYTES = 1 << 20
# A marker this often makes an altered copy differ from its original everywhere,
# whatever piece size a tool deduplicates by.
ALTER_EVERY_BYTES = 4096
STATE_VERSION = 3


@dataclass(frozen=True)
class Spec:
    """What a set must hold: at least so many files and so many bytes."""

    name: str
    files: int
    bytes: int
    small: bool

    def scaled(self, divisor):
        return Spec(f"{self.name}-quick", self.files // divisor, self.bytes // divisor, self.small)


SPECS = {
    "A": Spec("A", 0, 2200 * MIB, small=False),
    "B": Spec("B", 90_000, 0, small=True),
}


@dataclass
class Dataset:
    """A set as it lies on disk."""

    name: str
    path: str
    files: int
    bytes: int
    altered_copies: int


def source_roots():
    home = os.path.expanduser("~")
    roots = ["/usr", "/var/lib", "/var/cache"]
    roots += [os.path.join(home, name) for name in (".rustup", ".cargo/registry", ".pyenv")]
    return [root for root in roots if os.path.isdir(root)]


def mean_file_bytes(folder, names):
    sizes = [os.lstat(os.path.join(folder, name)).st_size for name in names]
    return sum(sizes) / len(sizes)


def source_folders(spec, skipped):
    """Folders with the names of their files and symlinks, shuffled by a fixed seed."""
    folders = []
    for root in source_roots():
        for folder, subfolders, names in os.walk(root):
            subfolders.sort()
            subfolders[:] = [
                name for name in subfolders if os.path.join(folder, name) not in skipped
            ]
            if names and (spec.small or mean_file_bytes(folder, names) >= SMALL_FILE_LIMIT_BYTES):
                folders.append((folder, sorted(names)))
    random.Random(SEED).shuffle(folders)
    return folders


class Builder:
    """Copies files into a set until the set holds what its specification says."""

    def __init__(self, spec, target):
        self.spec = spec
        self.target = target
        self.files = 0
        self.bytes = 0
        self.altered_copies = 0
        self.seen = set()

    def full(self):
        return self.files >= self.spec.files and self.bytes >= self.spec.bytes

    def build(self, folders):
        self.take(folders, altered=0)
        # A machine with too little of its own: altered copies fill the set.
        altered = 1
        while not self.full():
            before = self.files
            self.take(folders, altered)
            if self.files == before:
                raise SystemExit(f"set {self.spec.name}: this machine has no files to fill it with")
            altered += 1

    def take(self, folders, altered):
        for folder, names in folders:
            for name in names:
                if self.full():
                    return
                self.take_one(os.path.join(folder, name), altered)

    def take_one(self, path, altered):
        below = f"copy-{altered}" if altered else "files"
        copy = os.path.join(self.target, below, path.lstrip("/"))
        try:
            info = os.lstat(path)
            if stat.S_ISLNK(info.st_mode) and not self.spec.small:
                os.makedirs(os.path.dirname(copy), exist_ok=True)
                os.symlink(os.readlink(path), copy)
            elif stat.S_ISREG(info.st_mode) and self.fits(info.st_size):
                self.take_file(path, copy, altered)
        except (FileNotFoundError, PermissionError):
            pass  # gone meanwhile, or not ours to read: another file takes its place

    def fits(self, size):
        if self.spec.small:
            return 0 < size < SMALL_FILE_LIMIT_BYTES
        return size <= LARGE_FILE_LIMIT_BYTES

    def take_file(self, path, copy, altered):
        if self.spec.small:
            with open(path, "rb") as file:
                content = alter(file.read(), altered)
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest in self.seen:
                return
            self.seen.add(digest)
            write(copy, content)
        else:
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            with open(path, "rb") as file, open(copy, "wb") as target:
                while block := file.read(COPY_BLOCK_BYTES):
                    target.write(alter(block, altered))
        shutil.copystat(path, copy)
        self.files += 1
        self.bytes += os.lstat(copy).st_size
        self.altered_copies += altered > 0


def alter(content, number):
    if number == 0:
        return content
    marker = b"\ncopy %d\n" % number
    pieces = [
        content[start : start + ALTER_EVERY_BYTES]
        for start in range(0, len(content), ALTER_EVERY_BYTES)
    ]
    return marker + marker.join(pieces)


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def prepare(spec, folder):
    """Builds the set, or takes the one that an earlier run left there whole."""
    target = os.path.join(folder, spec.name)
    state_path = f"{target}.json"
    wanted = {"version": STATE_VERSION, "spec": asdict(spec)}
    try:
        with open(state_path) as file:
            state = json.load(file)
        if {key: state[key] for key in wanted} == wanted and not os.path.exists(f"{target}.changed"):
            return Dataset(**state["dataset"])
    except (FileNotFoundError, KeyError, ValueError):
        pass
    for stale in (target, f"{target}.undo"):
        shutil.rmtree(stale, ignore_errors=True)
    for stale in (state_path, f"{target}.changed"):
        if os.path.exists(stale):
            os.unlink(stale)
    os.makedirs(target)
    builder = Builder(spec, target)
    builder.build(source_folders(spec, skipped={os.path.realpath(folder)}))
    made = Dataset(spec.name, target, builder.files, builder.bytes, builder.altered_copies)
    with open(state_path, "w") as file:
        json.dump(wanted | {"dataset": asdict(made)}, file)
    return made


def warm(dataset):
    """Reads everything once, so that no tool pays for a cold page cache."""
    for path in regular_files(dataset.path):
        with open(path, "rb") as file:
            while file.read(COPY_BLOCK_BYTES):
                pass


def regular_files(root):
    return sorted(
        path
        for folder, _, names in os.walk(root)
        for path in (os.path.join(folder, name) for name in names)
        if not os.path.islink(path)
    )


class Change:
    """The same small change every time, and its undoing: content and times included.

    0.5 % of the files: of each four one is touched, one edited in its middle, one
    removed, and one more is added.
    """

    def __init__(self, dataset):
        self.root = dataset.path
        self.undo_folder = f"{dataset.path}.undo"
        # Stands while the set is changed; a set that a killed run left so is rebuilt.
        self.marker = f"{dataset.path}.changed"
        paths = regular_files(self.root)
        count = max(4, int(len(paths) * CHANGED_SHARE))
        chosen = random.Random(SEED).sample(paths, count)
        quarter = count // 4
        self.touched = chosen[:quarter]
        self.edited = chosen[quarter : 2 * quarter]
        self.removed = chosen[2 * quarter : 3 * quarter]
        self.templates = chosen[3 * quarter :]
        self.added = [f"{path}.added" for path in self.templates]

    def describe(self):
        return (
            f"{len(self.touched)} touched, {len(self.edited)} edited, "
            f"{len(self.removed)} removed, {len(self.added)} added"
        )

    def saved(self, path):
        return os.path.join(self.undo_folder, os.path.relpath(path, self.root))

    def apply(self):
        write(self.marker, b"")
        self.folder_times = {
            folder: os.stat(folder).st_mtime_ns
            for folder in {os.path.dirname(path) for path in self.removed + self.added}
        }
        for path in self.touched + self.edited + self.removed:
            os.makedirs(os.path.dirname(self.saved(path)), exist_ok=True)
            shutil.copy2(path, self.saved(path))
        for path in self.touched:
            os.utime(path)
        for path in self.edited:
            edit(path)
        for path in self.removed:
            os.unlink(path)
        for path, template in zip(self.added, self.templates):
            with open(template, "rb") as file:
                write(path, alter(file.read(), 1))

    def undo(self):
        for path in self.added:
            os.unlink(path)
        for path in self.touched + self.edited + self.removed:
            shutil.copy2(self.saved(path), path)
        for folder, mtime_ns in self.folder_times.items():
            os.utime(folder, ns=(mtime_ns, mtime_ns))
        shutil.rmtree(self.undo_folder)
        os.unlink(self.marker)


def edit(path):
    """Inserts a line in the middle, as an editor would: everything after it moves."""
    with open(path, "rb") as file:
        content = file.read()
    os.chmod(path, os.stat(path).st_mode | stat.S_IWUSR)
    middle = len(content) // 2
    with open(path, "wb") as file:
        file.write(content[:middle] + b"\na line put in by the benchmark\n" + content[middle:])
