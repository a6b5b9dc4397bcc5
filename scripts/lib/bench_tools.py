"""The backup programs that the benchmark drives, behind one interface.

A new peer is one class: how it is initialised, backs up, names its first point
and restores it. Everything it writes lies below one folder that is made fresh.
"""

import json
import os
import shutil
import subprocess
import time

PASSWORD = "benchmark"


class Failure(Exception):
    """A command failed, or gave back something else than it was given."""


class Tool:
    """One backup program with a repository of its own."""

    def __init__(self, name, binary, time_binary):
        self.name = name
        self.binary = binary
        self.time_binary = time_binary

    def fresh(self, folder, data):
        """Forgets everything, and makes an empty repository in `folder`."""
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(os.path.join(folder, "home"))
        self.folder, self.data = folder, data
        self.repository = os.path.join(folder, "repository")
        self.cache = os.path.join(folder, "cache")
        self.log = os.path.join(folder, "log")
        self.env = {
            "PATH": os.environ["PATH"],
            # No configuration or cache of the person who runs this.
            "HOME": os.path.join(folder, "home"),
            "LC_ALL": "C.UTF-8",
        } | self.settings()
        self.init()

    def settings(self):
        return {}

    def run(self, *arguments, cwd=None):
        """Runs the tool outside the measured part; gives back its standard output."""
        return self.checked([self.binary, *arguments], cwd)

    def measure(self, arguments, cwd=None):
        """Runs the tool; gives back wall and CPU seconds and the peak of resident memory.

        GNU time stands between: a child of this process would be charged with
        this process's own memory as its peak.
        """
        report = os.path.join(self.folder, "time")
        command = [self.time_binary, "-f", "%U %S %M", "-o", report, self.binary, *arguments]
        os.sync()  # what was written before is not this stage's to wait for
        started = time.perf_counter()
        self.checked(command, cwd)
        wall = time.perf_counter() - started
        with open(report) as file:
            user, system, peak_kib = file.read().split("\n")[-2].split()
        return {
            "wall_secs": wall,
            "cpu_secs": float(user) + float(system),
            "peak_memory_mib": int(peak_kib) / 1024,
        }

    def checked(self, command, cwd=None):
        with open(self.log, "ab") as log:
            done = subprocess.run(
                command,
                cwd=cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            log.write(done.stdout)
        if done.returncode != 0:
            with open(self.log, errors="replace") as log:
                tail = "".join(log.readlines()[-15:])
            raise Failure(f"status {done.returncode}: {' '.join(command)}\n{tail}")
        return done.stdout

    def repository_bytes(self):
        return sum(
            os.lstat(os.path.join(folder, name)).st_size
            for folder, _, names in os.walk(self.repository)
            for name in names
        )


class Restic(Tool):
    def settings(self):
        return {
            "RESTIC_REPOSITORY": self.repository,
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": self.cache,
        }

    def version(self):
        return " ".join(self.run("version").decode().split()[:2])

    def init(self):
        self.run("init")

    def backup(self):
        return self.measure(["backup", self.data])

    def first_point(self):
        return min(json.loads(self.run("snapshots", "--json")), key=lambda s: s["time"])["id"]

    def restore(self, point, target):
        return self.measure(["restore", point, "--target", target])

    def restored_tree(self, target):
        return target + self.data


class Rustic(Restic):
    def settings(self):
        return {
            "RUSTIC_REPOSITORY": self.repository,
            "RUSTIC_PASSWORD": PASSWORD,
            "RUSTIC_CACHE_DIR": self.cache,
            "RUSTIC_NO_PROGRESS": "true",
        }

    def version(self):
        return self.run("--version").decode().strip()

    def first_point(self):
        groups = json.loads(self.run("snapshots", "--json"))
        found = [point for group in groups for point in group["snapshots"]]
        return min(found, key=lambda s: s["time"])["id"]

    def restore(self, point, target):
        return self.measure(["restore", point, target])


class Borg(Tool):
    def settings(self):
        return {
            "BORG_REPO": self.repository,
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": self.cache,
        }

    def version(self):
        return self.run("--version").decode().strip()

    def init(self):
        self.taken = 0
        os.makedirs(self.cache)
        self.run("init", "--encryption", "repokey-blake2")

    def backup(self):
        # Its default, lz4, would compare speed with speed at another size.
        self.taken += 1
        return self.measure(["create", "--compression", "zstd,3", f"::{self.taken}", self.data])

    def first_point(self):
        return "1"

    def restore(self, point, target):
        os.makedirs(target)
        return self.measure(["extract", f"::{point}"], cwd=target)

    def restored_tree(self, target):
        return target + self.data


class Muster(Tool):
    def version(self):
        return self.run("--version").decode().strip()

    def init(self):
        self.config = os.path.join(self.folder, "muster.toml")
        self.kit = os.path.join(self.folder, "recovery-kit.txt")
        self.run(*self.common(), "init", "--store", f"file://{self.repository}", "--kit", self.kit)
        with open(self.config, "a") as file:
            file.write('\n[[job]]\nname = "bench"\n[[job.source]]\nname = "files"\nkind = "files"\n')
            file.write(f"paths = [{json.dumps(self.data)}]\n")

    def common(self):
        return ["-c", self.config, "--cache-dir", self.cache]

    def backup(self):
        return self.measure([*self.common(), "backup", "bench"])

    def first_point(self):
        points = json.loads(self.run(*self.common(), "points", "--json"))["points"]
        # ULIDs sort by the time they were made.
        return min(point["point"] for point in points)

    def restore(self, point, target):
        identity = ["--identity", f"file:{self.kit}"]
        return self.measure([*self.common(), *identity, "restore", point, "--to", target])

    def restored_tree(self, target):
        return f"{target}/files{self.data}"


KINDS = {"muster": Muster, "rustic": Rustic, "restic": Restic, "borg": Borg}
