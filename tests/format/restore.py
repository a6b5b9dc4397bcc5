#!/usr/bin/env python3
"""Restores a Muster repository with the programs `age` and `zstd` alone. Written from docs/FORMAT.md.

    restore.py REPOSITORY KIT OUT [--point ULID] [--job JOB] [--source NAME] [--no-index]

It is meant to be read, and to be enough where Muster is not at hand. It does NOT verify signatures
and BLAKE3 hashes, for which Python has nothing built in: it believes the store. Muster verifies both.
Files go to OUT/<source>/<path>. OUT must be empty or not exist; nothing is written outside of it.
"""
import argparse, errno, os, stat, struct, subprocess, sys, tempfile
from collections import OrderedDict

META, MIB = 1, 1 << 20
CACHE_BYTES = 256 * MIB


class Bad(Exception):
    """The repository is not what docs/FORMAT.md says."""


def need(condition, what):
    if not condition:
        raise Bad(what)


def nanos(time):
    return time[0] * 10**9 + time[1]


def ulid(raw):
    number = int.from_bytes(raw, "big")
    return "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[number >> 5 * i & 31] for i in range(25, -1, -1))


def cbor(data):
    """Decodes deterministic CBOR as far as the format uses it (section 1)."""
    value, end = cbor_item(data, 0)
    need(end == len(data), "bytes after the CBOR value")
    return value


def cbor_item(data, at):
    major, info = data[at] >> 5, data[at] & 31
    need(major < 6 and info < 28, "CBOR that the format does not use")
    size = 0 if info < 24 else 1 << (info - 24)
    n = int.from_bytes(data[at + 1:at + 1 + size], "big") if size else info
    need(size == 0 or n >= (24 if size == 1 else 1 << size * 4), "an integer in CBOR is not the shortest")
    at += 1 + size
    if major < 2:
        return (n if major == 0 else -1 - n), at
    need(at + n <= len(data), "CBOR ends early")
    if major < 4:
        return (data[at:at + n] if major == 2 else data[at:at + n].decode()), at + n
    values = []
    for _ in range(n if major == 4 else 2 * n):
        value, at = cbor_item(data, at)
        values.append(value)
    if major == 4:
        return values, at
    need(values[::2] == sorted(set(values[::2])), "map keys in CBOR do not ascend")
    return dict(zip(values[::2], values[1::2])), at


def run(program, data):
    done = subprocess.run(program, input=data, capture_output=True)
    need(done.returncode == 0, f"{program[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


class Repository:
    def __init__(self, root, kit, scratch, use_index):
        self.root, self.cache, self.cached, self.places = root, OrderedDict(), 0, {}
        self.config = self.read_config()
        self.identities = [os.path.join(scratch, kind) for kind in ("data", "meta")]
        for kind in (0, META):  # all epochs of a kind in one file: age takes the one that fits
            with open(self.identities[kind], "xb") as file:
                file.write(b"".join(self.epoch_identity(e[0].hex(), kit) for e in self.config[8] if e[1] == kind))
        self.read_index() if use_index else self.read_directories()

    def names(self, folder):
        found = []
        for at, folders, files in os.walk(os.path.join(self.root, folder)):
            folders[:] = [f for f in folders if not f.startswith(".")]
            found += [os.path.relpath(os.path.join(at, f), self.root) for f in files if not f.startswith(".")]
        return sorted(found)

    def get(self, name, start=0, length=-1):
        with open(os.path.join(self.root, name), "rb") as file:
            file.seek(start)
            return file.read(length)

    def stored(self, name):
        return os.stat(os.path.join(self.root, name)).st_mtime_ns

    def unseal(self, sealed, kind=META):
        """Section 3.1. `zstd -d` passes over the padding."""
        return run(["zstd", "-dcq"], run(["age", "-d", "-i", self.identities[kind]], sealed))

    def envelope(self, sealed):
        """The payload and signer of a sealed envelope (section 3.2), whose signature is not looked at."""
        payload, signer, _ = cbor(self.unseal(sealed))
        return cbor(payload), signer

    def read_config(self):
        """Section 5.1."""
        config, before = None, None
        for number, name in enumerate(self.names("config")):
            n, digest = os.path.basename(name).split("-")
            config = cbor(cbor(self.get(name))[0])
            need(config[0] == 1, f"format version {config[0]} is not known here")
            need(int(n) == config[2] == number and config.get(3) == before, f"{name} breaks the chain")
            before = bytes.fromhex(digest)
        need(config, "there is no config: this is not a Muster repository")
        return config

    def epoch_identity(self, epoch, kit):
        for name in self.names(f"keys/{epoch}"):
            try:
                return run(["age", "-d", "-i", kit], self.get(name))
            except Bad as bad:
                why = f"{name}: {bad}"
        print(f"epoch {epoch} does not open: {why}", file=sys.stderr)
        return b""

    def pack(self, pack, kind):
        return f"packs/{('data', 'meta')[kind]}/{pack.hex()[:2]}/{pack.hex()}"

    def tail(self, name, magic):
        """What the 16 bytes at the end of a pack or an index object lead to."""
        size = os.path.getsize(os.path.join(self.root, name))
        need(size >= 16, f"{name} is cut off")
        length, zero, found = struct.unpack("<II8s", self.get(name, size - 16))
        need(found == magic and zero == 0 and length <= size - 16, f"{name} has no locator at its end")
        return self.envelope(self.get(name, size - 16 - length, length))

    def read_directories(self):
        """Section 6: what the packs themselves say."""
        for kind, folder in enumerate(("packs/data", "packs/meta")):
            for name in self.names(folder):
                offset, pack = 0, bytes.fromhex(os.path.basename(name))
                for envelope in self.tail(name, b"MUSTPACK")[0][2]:
                    record, start = cbor(envelope[0]), 0
                    for chunk, length in record[3]:
                        self.take(chunk, (pack, offset, record[1], kind, start, length))
                        start += length
                    offset += record[1]

    def read_index(self):
        """Section 7."""
        roots = {os.path.basename(name): self.tail(name, b"MUSTINDX") for name in self.names("index")}
        superseded = {(digest.hex(), signer) for root, signer in roots.values() for digest in root[0]}
        for name, (root, signer) in sorted(roots.items()):
            if (name, signer) in superseded:
                continue
            at, rows = 0, ([], [])
            for table, layout in ((4, "<IIIIHH"), (5, "<32sIII")):
                for page in root[table]:
                    found = list(struct.iter_unpack(layout, self.unseal(self.get(f"index/{name}", at, page[0]))))
                    need(len(found) == page[2], f"a page of index/{name} has other rows than it should")
                    rows[table - 4].extend(found)
                    at += page[0]
            for chunk, blob, start, length in rows[1]:
                pack, offset, sealed = rows[0][blob][:3]
                self.take(chunk, (root[1][pack][0], offset, sealed, root[1][pack][1], start, length))

    def take(self, chunk, place):
        if chunk not in self.places or place < self.places[chunk]:
            if os.path.exists(os.path.join(self.root, self.pack(place[0], place[3]))):
                self.places[chunk] = place

    def chunk(self, chunk):
        need(chunk in self.places, f"chunk {chunk.hex()} is in no pack")
        pack, offset, sealed, kind, start, length = self.places[chunk]
        blob = self.cache.pop((pack, offset), None)
        if blob is None:
            blob = self.unseal(self.get(self.pack(pack, kind), offset, sealed), kind)
            self.cached += len(blob)
        self.cache[pack, offset] = blob
        while self.cached > CACHE_BYTES:
            self.cached -= len(self.cache.popitem(last=False)[1])
        need(start + length <= len(blob), f"chunk {chunk.hex()} is not in its blob")
        return blob[start:start + length]

    def points(self):
        """The points that count, oldest first (section 9)."""
        rights, removed = {writer[0]: writer[3] for writer in self.config[10]}, set()
        for name in self.names("tombstones"):
            stone, _ = self.envelope(self.get(name))
            if stone[5] == stone[2] or rights.get(stone[5], 0) & 1:
                removed.add(stone[0])
        first = self.stored(self.names("config")[0])
        sessions = {name[9:35]: self.stored(name) for name in self.names("sessions") if name.endswith("-000000")}
        points, is_copy = [], False
        for name in self.names("points"):
            stored, (point, _) = self.stored(name), self.envelope(self.get(name))
            before = nanos(point[7])
            is_copy |= stored > before and first > before  # then times mean nothing
            is_void = stored > before and sessions.get(ulid(point[6]), 0) <= before
            points.append((stored, name, point, is_void))
        return [(name, point) for _, name, point, is_void in sorted(points, key=lambda p: p[:2])
                if point[0] not in removed and (is_copy or not is_void)]

    def records(self, page, level):
        """The records of a tree, in order (section 8)."""
        found, records = cbor(self.chunk(page))
        need(found == level <= 16, "a page is of another level than its parent says")
        for record in records:
            if level == 0:
                yield record
            else:
                yield from self.records(record[0], level - 1)


def below(root, path):
    """Where an entry goes. Its folder is made; a path that would leave `root` is refused."""
    parts = path.split(b"\0")
    need(len(path) <= 8192, "a path is too long")
    need(not any(part in (b"", b".", b"..") or b"/" in part for part in parts), f"unsafe path {path!r}")
    for part in parts[:-1]:
        root = os.path.join(root, part)
        if not os.path.lexists(root):
            os.mkdir(root, 0o700)
        need(stat.S_ISDIR(os.lstat(root).st_mode), f"{root!r} is no folder")  # a symlink would lead outside
    return os.path.join(root, parts[-1])


def write_file(repository, path, entry):
    choice, fields = entry.get(5, [0, [[]]])
    extents = fields[0] if choice == 0 else repository.records(*fields[0][:2])
    with open(path, "xb") as file:
        for choice, extent in extents:
            if choice == 1:
                file.seek(extent[0], os.SEEK_CUR)
                continue
            chunk, start, length = extent
            data = repository.chunk(chunk)[start:start + length]
            need(len(data) == length, "an extent goes past its chunk")
            file.write(data)
        need(file.tell() == entry[3], f"{path!r} is not as long as it should be")
        file.truncate(entry[3])


def set_attributes(path, entry):
    if 4 not in entry:
        return
    attributes = entry[4]
    if os.geteuid() == 0:
        os.chown(path, attributes[1], attributes[2], follow_symlinks=False)
    for name, value in attributes.get(6, []):
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as error:
            need(error.errno in (errno.ENOTSUP, errno.EPERM), f"{path!r}: {error}")
    if entry[1][0] != 2:
        os.chmod(path, attributes[0])
    os.utime(path, ns=(nanos(attributes[5]),) * 2, follow_symlinks=False)


def restore(repository, source, root):
    os.mkdir(root, 0o700)
    folders, last = [], b""
    for entry in repository.records(*source[5][:2]):
        need(entry[0] > last, "paths do not ascend")
        last, path, (kind, fields) = entry[0], below(root, entry[0]), entry[1]
        if entry[2][0] == 2:
            print(f"was not readable: {path!r}: {entry[2][1][0]}", file=sys.stderr)
        elif kind == 1:
            os.path.lexists(path) or os.mkdir(path, 0o700)
            folders.append((path, entry))
        elif kind == 3:
            os.link(below(root, fields[0]), path, follow_symlinks=False)
        elif kind > 4:
            print(f"passed over a device or socket: {path!r}", file=sys.stderr)
        else:
            if kind == 0:
                write_file(repository, path, entry)
            elif kind == 2:
                os.symlink(fields[0], path)
            else:
                os.mkfifo(path)
            set_attributes(path, entry)
    for path, entry in reversed(folders):
        set_attributes(path, entry)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("repository", "kit", "out", "--point", "--job", "--source"):
        parser.add_argument(name, **({"default": ""} if name == "--point" else {}))
    parser.add_argument("--no-index", action="store_true", help="read the directories of all packs instead")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:  # only its owner may look into it
        repository = Repository(asked.repository, asked.kit, scratch, not asked.no_index)
        points = [(name, point) for name, point in repository.points()
                  if name.startswith(f"points/{asked.point}") and asked.job in (None, point[2])]
        need(points, "there is no such point")
        name, point = points[-1]
        print(f"{name} of job {point[2]}, number {point[3]}")
        os.makedirs(asked.out, exist_ok=True)
        need(not os.listdir(asked.out), f"{asked.out} is not empty")
        for source in point[12]:
            if 5 in source and asked.source in (None, source[0]):
                need(source[0] not in ("", ".", "..") and not set(source[0]) & {"/", "\0"}, "unsafe source name")
                restore(repository, source, os.path.join(os.fsencode(asked.out), source[0].encode()))


if __name__ == "__main__":
    try:
        main()
    except (Bad, OSError, ValueError, LookupError, TypeError) as error:
        sys.exit(f"restore.py: {error}")
