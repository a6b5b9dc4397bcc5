"""Measures a backup and a restore through an S3 server beside what bounds them: the same requests with
nothing behind, and the same work with a store in memory. `scripts/bench s3` runs it with the server of
its environment running; each way is a process of its own."""

import argparse
import json
import os
import statistics
import subprocess
import sys

GOAL_RATIO, GOAL_PEAK_MIB = 0.85, 350
WAYS = ("memory", "raw", "store")


def run(args, *words):
    command = [args.program, *words]
    if args.cpu is not None:
        command = ["taskset", "-c", args.cpu, *command]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def one_round(args, number):
    """The ways in turn, beginning with another one each round. The record of requests comes from the first
    run in memory."""
    record = os.path.join(args.scratch, "requests")
    words = {"memory": ("memory", args.data, record), "raw": ("raw", record), "store": ("store", args.data)}
    if number == 0:
        run(args, *words["memory"])
    order = WAYS[number % 3:] + WAYS[:number % 3]
    return {way: run(args, *words[way]) for way in order}


def report(args, rounds):
    sizes = rounds[-1]["raw"]
    middle = {way: {key: statistics.median(r[way][key] for r in rounds) for key in rounds[0][way]} for way in WAYS}
    print(f"\n### {args.kind}, {args.where}; median of {len(rounds)}\n")
    print(f"{sizes['stored_mib']:.0f} MiB in {sizes['puts']} packs; the restore reads {sizes['read_mib']:.0f} MiB "
          f"in {sizes['gets']} ranges, the raw gets beside it too.\n")
    print("| | upload, MiB/s | of the slower | CPU s | restore, MiB/s | of the slower | CPU s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    speeds = {way: (sizes["stored_mib"] / middle[way]["put_secs"], sizes["read_mib"] / middle[way]["get_secs"])
              for way in WAYS}
    slower = [min(speeds["memory"][at], speeds["raw"][at]) for at in (0, 1)]
    names = {"memory": "muster, a store in memory", "raw": "the same requests, nothing behind",
             "store": "muster, through the server"}
    for way in WAYS:
        up, down = speeds[way]
        cpu = [middle[way][key] for key in ("put_cpu", "get_cpu")]
        print(f"| {names[way]} | {up:.0f} | {up / slower[0]:.2f} | {cpu[0]:.2f} | {down:.0f} | {down / slower[1]:.2f} | {cpu[1]:.2f} |")
    whole = sizes["stored_mib"] / middle["raw"]["whole_secs"]
    print(f"\nWhole packs come at {whole:.0f} MiB/s.\n")
    ratios = [speeds["store"][at] / slower[at] for at in (0, 1)]
    peak = max(r["store"]["peak_mib"] for r in rounds)
    print("| goal | measured | limit | |\n| --- | ---: | ---: | --- |")
    for what, ratio in zip(("upload", "restore"), ratios):
        met = "met" if ratio >= GOAL_RATIO else "MISSED"
        print(f"| {what}, of the slower of the two | {ratio:.2f} | {GOAL_RATIO} | {met} |")
    print(f"| peak memory through the server, MiB | {peak} | {GOAL_PEAK_MIB} | {'met' if peak <= GOAL_PEAK_MIB else 'MISSED'} |")
    return {"kind": args.kind, "where": args.where, "rounds": rounds}


def main():
    parser = argparse.ArgumentParser()
    for name in ("--program", "--data", "--scratch", "--kind", "--where"):
        parser.add_argument(name, required=True)
    parser.add_argument("--cpu", help="the core that the client is kept on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="append the figures to this file")
    args = parser.parse_args()
    result = report(args, [one_round(args, number) for number in range(args.rounds)])
    if args.json:
        with open(args.json, "a") as file:
            print(json.dumps(result), file=file)
    return 0


sys.exit(main())
