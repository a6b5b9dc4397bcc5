"""Measures backup tools side by side on the same data, in one run.

Each round gives every tool a fresh repository and a fresh cache, then goes stage
by stage, the tools in turn and their order rotated from round to round, so that
a slow minute of the machine hits them alike. The figures are medians. A time is
never asserted; a command that fails, or a restored tree that differs, is an error.

Restored files are emptied at once and deleted only at the very end: ext4 passes
over inodes that were freed in the last minutes, one by one, whenever a file is
made. Where 90,000 files had just been deleted, `cp -a` of set B took 38 to 77 s,
and 6 to 9 s where none had been. The next tool would pay for the one before.
"""

import argparse
import glob
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

import datasets
from bench_report import MIB, STAGES, print_set, summarize
from bench_tools import KINDS, Failure

QUICK_DIVISOR = 20
TOOL_ORDER = ["muster", "rustic", "restic", "borg"]
PRIMITIVES = ["cargo", "bench", "--locked", "--bench", "primitives"]
# RECENTCY_DIRTY in ext4: so long are freed inodes passed over.
QUIET_AFTER_DELETING_SECS = 300


def rotated(items, count):
    count %= len(items)
    return items[count:] + items[:count]


def same_tree(expected, found):
    done = subprocess.run(
        ["diff", "-r", "--no-dereference", expected, found],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise Failure(f"{found} differs from {expected}:\n" + "\n".join(done.stdout.split("\n")[:10]))


def empty_files(root):
    """Gives the room back without freeing an inode."""
    for path in datasets.regular_files(root):
        if os.stat(path).st_size > 0:
            os.chmod(path, 0o600)
            os.truncate(path, 0)


class Run:
    """All rounds of all tools on one set."""

    def __init__(self, tools, dataset, work, rounds):
        self.tools = tools
        self.dataset = dataset
        self.work = work
        self.rounds = rounds
        self.measured = {tool.name: {stage: [] for stage in STAGES} for tool in tools}
        self.sizes = {tool.name: {"first": [], "change": []} for tool in tools}
        self.change = datasets.Change(dataset)

    def execute(self):
        datasets.warm(self.dataset)
        for number in range(self.rounds):
            say(f"set {self.dataset.name}, round {number + 1} of {self.rounds}")
            self.round(number, rotated(self.tools, number))

    def round(self, number, tools):
        for tool in tools:
            tool.fresh(os.path.join(self.work, tool.name), self.dataset.path)
        for tool in tools:
            self.note(tool, "first", tool.backup())
            self.sizes[tool.name]["first"].append(tool.repository_bytes())
        for tool in tools:
            self.note(tool, "second", tool.backup())
        for tool in tools:
            target = os.path.join(self.work, f"restored-{number + 1}-{tool.name}")
            self.restore(tool, target)
        self.change.apply()
        try:
            for tool in tools:
                self.note(tool, "change", tool.backup())
                self.sizes[tool.name]["change"].append(tool.repository_bytes())
        finally:
            self.change.undo()

    def restore(self, tool, target):
        self.note(tool, "restore", tool.restore(tool.first_point(), target))
        same_tree(self.dataset.path, tool.restored_tree(target))
        empty_files(target)

    def note(self, tool, stage, figures):
        self.measured[tool.name][stage].append(figures)
        say(
            f"  {stage:8} {tool.name:7} {figures['wall_secs']:8.2f} s wall "
            f"{figures['cpu_secs']:8.2f} s CPU {figures['peak_memory_mib']:7.0f} MiB"
        )


def touch_free_memory(size):
    """A virtual machine pays its host for each page that it uses for the first time, which would
    fall on whichever tool comes first. Twice the data: what is read, and what is written."""
    with open("/proc/meminfo") as file:
        free = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}["MemFree"]
    memory = bytearray(min(2 * size, free * 3 // 4))
    for at in range(0, len(memory), 4096):
        memory[at] = 1


def build_primitives(repo_root):
    """Before anything is measured, so that a failure costs nothing."""
    if subprocess.run([*PRIMITIVES, "--no-run"], cwd=repo_root).returncode != 0:
        raise Failure("benches/primitives does not build")


def measure_primitives(repo_root, dataset, rounds):
    """CPU seconds of chunking, hashing, zstd and age standing alone, the median run by total."""
    command = [*PRIMITIVES, "--quiet", "--", "--dir", dataset.path, "--json"]
    runs = []
    for _ in range(rounds):
        done = subprocess.run(command, cwd=repo_root, stdout=subprocess.PIPE)
        try:
            if done.returncode != 0:
                raise ValueError(f"status {done.returncode}")
            runs.append(json.loads(done.stdout))
        except ValueError as error:
            raise Failure(f"{' '.join(command)}: {error}") from error
    runs.sort(key=lambda run: run["cpu_seconds"]["total"])
    return runs[(len(runs) - 1) // 2]


def say(line):
    print(line, file=sys.stderr, flush=True)


def machine():
    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB,
        "system": platform.platform(),
    }


def chosen_tools(arguments):
    names = arguments.tools.split(",")
    unknown = sorted(set(names) - set(KINDS))
    if unknown:
        raise SystemExit(f"unknown tools: {', '.join(unknown)}")
    binaries = dict(item.split("=", 1) for item in arguments.bin)
    return [KINDS[name](name, binaries[name], arguments.time) for name in TOOL_ORDER if name in names]


def chosen_specs(arguments):
    specs = [datasets.SPECS[name] for name in arguments.sets.split(",")]
    return [spec.scaled(QUICK_DIVISOR) for spec in specs] if arguments.quick else specs


def check_room(folder, dataset, tools):
    """A repository for each tool, one restored tree, and some to spare."""
    needed = dataset.bytes * (len(tools) + 2)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"{folder} has {free // MIB} MiB free and the benchmark may need {needed // MIB}; "
            "set MUSTER_BENCH_DIR to a folder with more room"
        )


def wait_until_quiet(stamp):
    """Deleting after an earlier run must not slow this one down."""
    try:
        left = os.stat(stamp).st_mtime + QUIET_AFTER_DELETING_SECS - time.time()
    except FileNotFoundError:
        return
    if left > 0:
        say(f"an earlier run deleted its files just now: waiting {left:.0f} s")
        time.sleep(left)


def delete_work(folders, stamp):
    say("deleting what the run left")
    for folder in folders:
        shutil.rmtree(folder)
    os.makedirs(os.path.dirname(stamp), exist_ok=True)
    with open(stamp, "w"):
        pass


def bench_files(arguments, scratch):
    tools = chosen_tools(arguments)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        versions = {}
        for tool in tools:
            tool.folder = folder
            tool.log = os.path.join(folder, "log")
            tool.env = {"PATH": os.environ["PATH"], "HOME": folder, "LC_ALL": "C.UTF-8"}
            versions[tool.name] = tool.version()
    report = {"machine": machine(), "versions": versions, "rounds": arguments.rounds, "sets": {}}
    if "muster" in versions:
        build_primitives(arguments.repo_root)
    work = tempfile.mkdtemp(prefix="work.", dir=scratch)
    for spec in chosen_specs(arguments):
        say(f"preparing set {spec.name}")
        dataset = datasets.prepare(spec, os.path.join(scratch, "data"))
        check_room(scratch, dataset, tools)
        touch_free_memory(dataset.bytes)
        run = Run(tools, dataset, os.path.join(work, spec.name), arguments.rounds)
        run.execute()
        primitives = None
        if "muster" in versions:
            primitives = measure_primitives(arguments.repo_root, dataset, arguments.rounds)
        report["sets"][spec.name] = summarize(run, primitives)
    print(f"{report['machine']['cpu']}, {report['machine']['cores']} cores; "
          + ", ".join(versions.values()))
    for summary in report["sets"].values():
        print_set(summary, arguments.rounds)
    return report


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("what", choices=["files"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sets", default="A,B")
    parser.add_argument("--tools", default=",".join(TOOL_ORDER))
    parser.add_argument("--quick", action="store_true", help="sets of a twentieth of the size")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder in place")
    parser.add_argument("--json", help="where the figures go (default: target/bench/files.json)")
    parser.add_argument("--repo-root", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--time", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--bin", action="append", default=[], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    given = os.environ.get("MUSTER_BENCH_DIR")
    scratch = os.path.realpath(given or tempfile.mkdtemp(prefix="muster-bench."))
    os.makedirs(os.path.join(scratch, "data"), exist_ok=True)
    stamp = os.path.join(arguments.repo_root, "target/bench/deleted-at")
    wait_until_quiet(stamp)
    try:
        report = bench_files(arguments, scratch)
    except Failure as failure:
        say(f"error: {failure}\n(everything is in {scratch})")
        return 1
    if not arguments.keep:
        # The data sets of a folder that was given are used again.
        delete_work(glob.glob(os.path.join(scratch, "work.*")) if given else [scratch], stamp)
    output = arguments.json or os.path.join(arguments.repo_root, "target/bench/files.json")
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    with open(output, "w") as file:
        json.dump(report, file, indent=1)
    print(f"\nAll figures: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
