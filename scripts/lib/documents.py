"""A folder of real documents, changes to it, and the proof that it is the same again.

    documents.py make DIR           copy files that any machine has, and hard cases
    documents.py change DIR         edit, add and remove some of them
    documents.py manifest DIR       print every entry's content hash and metadata
    documents.py compare A B        compare two manifests; names every difference
"""

import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys

ROOTS = ["/usr/share/common-licenses", "/usr/share/doc", "/usr/lib/python3", "/usr/lib"]
TARGET_BYTES = 150 << 20
ONE_FILE_LIMIT_BYTES = 8 << 20
SPARSE_CHECK_BYTES = 1 << 20
DIFFERENCES_SHOWN = 20
# Names that have broken backup programs: white space, quotes, a glob, a leading
# dash, a newline, other scripts, and bytes that are not UTF-8.
ODD_NAMES = [
    b" leading and trailing ",
    b"quote'\"s and $dollar",
    b"--option-like",
    b"glob *?[x]",
    b"new\nline",
    "Übergrößenträger 文書 🗂".encode(),
    b"not-utf8-\xff\xfe",
    b"back\\slash",
]


def real_files():
    """Readable regular files below ROOTS, in a fixed order, each once."""
    seen = set()
    for root in ROOTS:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                info = os.lstat(path)
                usable = stat.S_ISREG(info.st_mode) and os.access(path, os.R_OK)
                key = (info.st_dev, info.st_ino)
                if usable and key not in seen and info.st_size <= ONE_FILE_LIMIT_BYTES:
                    seen.add(key)
                    yield path, info.st_size


def copy_real_files(target):
    copied_bytes = 0
    for path, size in real_files():
        if copied_bytes + size > TARGET_BYTES:
            break
        copy = os.path.join(target, path.lstrip("/"))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copy2(path, copy)
        copied_bytes += size


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def try_extra(what, action):
    """Not every file system or user can hold these; what is left out is said."""
    try:
        action()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"    left out here: {what} ({error})")


def make_sparse(path):
    with open(path, "wb") as file:
        file.write(b"head")
        file.seek(64 << 20)
        file.write(b"middle")
        file.truncate(256 << 20)


def make_hard_cases(target):
    folder = os.fsencode(os.path.join(target, "hard cases"))
    os.makedirs(folder)

    def path(name):
        return os.path.join(folder, name)

    for name in ODD_NAMES:
        write(path(name), b"content of " + name)
    write(path(b"empty"), b"")
    os.mkdir(path(b"empty folder"))
    os.chmod(path(b"empty folder"), 0o2750)
    make_sparse(path(b"sparse.img"))
    write(path(b"linked-1"), b"one file, three names\n")
    os.link(path(b"linked-1"), path(b"linked-2"))
    os.link(path(b"linked-1"), os.path.join(os.fsencode(target), b"linked-3"))
    os.symlink(b"linked-1", path(b"symlink"))
    os.symlink(b"/does/not/exist", path(b"dangling symlink"))
    os.symlink(b"..", path(b"symlink to a folder"))
    os.mkfifo(path(b"fifo"), 0o640)
    write(path(b"private"), b"mode 0400\n")
    os.chmod(path(b"private"), 0o400)
    write(path(b"setuid"), b"mode 4755\n")
    os.chmod(path(b"setuid"), 0o4755)
    write(path(b"owned"), b"owned by another\n")
    try_extra("another owner", lambda: os.chown(path(b"owned"), 12345, 54321))
    write(path(b"attributes"), b"has extended attributes\n")
    try_extra(
        "an extended attribute",
        lambda: os.setxattr(path(b"attributes"), b"user.muster.demo", b"\x00value\xff"),
    )
    write(path(b"acl"), b"has an access control list\n")
    acl = ["setfacl", "-m", "u:1:rw", path(b"acl")]
    try_extra("an access control list", lambda: subprocess.run(acl, check=True))
    # A time that only nanoseconds tell, and one before 1970.
    os.utime(path(b"owned"), ns=(1, 1_600_000_000_123_456_789))
    os.utime(path(b"empty"), ns=(0, -86_400_000_000_001))


def make(target):
    os.makedirs(target)
    copy_real_files(target)
    make_hard_cases(target)
    entries = manifest(target)
    files = [entry for entry in entries.values() if entry["type"] == "file"]
    size = sum(entry["size"] for entry in files)
    print(f"    {len(files)} files, {size / (1 << 20):.0f} MiB as their sizes say")


def change(target):
    """Every 50th file edited, every 70th removed, and as many added."""
    paths = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(os.path.join(target, "usr"))
        for name in names
    )
    edited, removed = paths[::50], [p for i, p in enumerate(paths) if i % 70 == 7]
    removed = [path for path in removed if path not in set(edited)]
    for path in edited:
        with open(path, "ab") as file:
            file.write(b"\nedited by the demo\n")
    for path in removed:
        os.unlink(path)
    added = os.path.join(target, "added")
    os.makedirs(added)
    for number, path in enumerate(removed):
        write(os.path.join(added, f"{number}.txt"), path.encode() * 20)
    print(f"    documents: {len(edited)} edited, {len(removed)} removed, {len(removed)} added")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def xattrs(path):
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in sorted(names)}


KINDS = [
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "folder"),
    (stat.S_ISLNK, "symlink"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "block device"),
    (stat.S_ISCHR, "character device"),
]


def describe(path, first_names):
    info = os.lstat(path)
    kind = next(name for test, name in KINDS if test(info.st_mode))
    entry = {
        "type": kind,
        "mode": oct(stat.S_IMODE(info.st_mode)),
        "owner": f"{info.st_uid}:{info.st_gid}",
        "mtime_ns": info.st_mtime_ns,
        "xattrs": xattrs(path),
    }
    if kind == "symlink":
        entry["target"] = os.fsencode(os.readlink(path)).hex()
    if kind == "file":
        entry["size"] = info.st_size
        entry["sha256"] = sha256(path)
        entry["links"] = info.st_nlink
        entry["same_file_as"] = first_names.setdefault((info.st_dev, info.st_ino), path)
        if info.st_size >= SPARSE_CHECK_BYTES:
            entry["sparse"] = info.st_blocks * 512 < info.st_size // 2
    return entry


def manifest(root):
    """Relative path -> what the entry is. Undecodable bytes stay distinct as surrogates."""
    paths = [root]
    for folder, folders, names in os.walk(root):
        paths += [os.path.join(folder, name) for name in folders + names]
    entries, first_names = {}, {}
    for path in sorted(paths):
        entry = describe(path, first_names)
        if "same_file_as" in entry:
            entry["same_file_as"] = os.path.relpath(entry["same_file_as"], root)
        entries[os.path.relpath(path, root)] = entry
    return entries


def differences(before, after):
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            yield f"{path!r}: missing"
        elif path not in before:
            yield f"{path!r}: should not be there"
        else:
            for field in sorted(before[path].keys() | after[path].keys()):
                old, new = before[path].get(field), after[path].get(field)
                if old != new:
                    yield f"{path!r}: {field} was {old}, is {new}"


def compare(path_before, path_after):
    with open(path_before) as file:
        before = json.load(file)
    with open(path_after) as file:
        after = json.load(file)
    found = list(differences(before, after))
    for line in found[:DIFFERENCES_SHOWN]:
        print(f"    DIFFERENT {line}")
    if found:
        print(f"    {len(found)} differences in {len(before)} entries")
        return 1
    print(f"    {len(before)} entries equal: content, mode, owner, mtime (ns), links, xattrs, holes")
    return 0


def main(arguments):
    match arguments:
        case ["make", target]:
            make(target)
        case ["change", target]:
            change(target)
        case ["manifest", target]:
            json.dump(manifest(target), sys.stdout, indent=1, sort_keys=True)
        case ["compare", before, after]:
            return compare(before, after)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
