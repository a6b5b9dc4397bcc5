"""Index open and prune plan of a simulated repository of millions of chunks: scripts/bench scale."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

JOB = '\n[[job]]\nname = "app"\n[[job.source]]\nname = "docs"\nkind = "files"\npaths = ["src"]\n'
MIB = 1 << 20


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench scale")
    parser.add_argument("--bin", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--chunks", type=int, default=10_000_000)
    parser.add_argument("--points", type=int, default=5_000)
    parser.add_argument("--keep", action="store_true", help="leave the repository in place")
    return parser.parse_args()


def grow(args, folder):
    """A repository of one small backup, grown by benches/scale.rs."""
    home = folder / "home"
    (home / "src").mkdir(parents=True)
    (home / "src" / "a").write_text("a")
    run = lambda *command: subprocess.run(command, cwd=home, check=True, stdout=subprocess.DEVNULL)
    run(args.bin, "init", "--store", f"file://{folder}/store", "--kit", "kit.txt", "--yes")
    with open(home / "muster.toml", "a") as config:
        config.write(JOB)
    run(args.bin, "--cache-dir", f"{folder}/cache", "backup")
    numbers = [str(args.chunks), str(args.points)]
    places = [f"{folder}/store", f"{home}/muster.key", f"{folder}/growing"]
    subprocess.run(["cargo", "bench", "-q", "--locked", "--bench", "scale", "--", *places, *numbers], check=True)
    shutil.rmtree(folder / "growing")


def status_of(pid):
    """What the kernel says of a process's memory, in bytes."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines if line.startswith(("VmHWM", "RssAnon", "RssFile")))
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def plan(args, folder):
    """Seconds, and peaks of memory sampled ten times a second."""
    command = [args.bin, "--cache-dir", f"{folder}/cache", "prune", "--dry-run"]
    began = time.monotonic()
    child = subprocess.Popen(command, cwd=folder / "home", stdout=subprocess.DEVNULL)
    peaks = {}
    while child.poll() is None:
        for name, value in status_of(child.pid).items():
            peaks[name] = max(peaks.get(name, 0), value)
        time.sleep(0.1)
    if child.returncode != 0:
        sys.exit(f"muster prune ended with status {child.returncode}")
    return time.monotonic() - began, peaks


def main():
    args = arguments()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="muster-scale.", dir=os.environ.get("MUSTER_BENCH_DIR")))
    try:
        grow(args, folder)
        allowed = 4 * args.chunks + 200 * MIB
        print(f"{args.chunks:,} chunks, {args.points:,} points; goal: 60 s, {allowed / MIB:.0f} MiB")
        print("cache   seconds   own memory MiB   mapped index MiB   peak of both MiB")
        for cache in ("cold", "warm"):
            seconds, peaks = plan(args, folder)
            columns = [peaks[name] / MIB for name in ("RssAnon", "RssFile", "VmHWM")]
            print(f"{cache:6}{seconds:9.1f}{columns[0]:17.0f}{columns[1]:19.0f}{columns[2]:19.0f}", flush=True)
    finally:
        if args.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


main()
