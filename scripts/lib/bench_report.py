"""What the benchmark's samples say: medians, ratios to the faster peer, goals, tables."""

import statistics

MIB = 1 << 20
PEERS = ["rustic", "restic"]  # the goals are measured against these; borg informs
STAGES = ["first", "second", "restore", "change"]
STAGE_TITLES = {
    "first": "first backup",
    "second": "second backup, nothing changed",
    "restore": "restore of the first point",
    "change": "backup after a small change",
}
MEMORY_GOAL_MIB = 350
SIZE_GOAL_RATIO = 1.03
EFFICIENCY_GOAL = 0.8


def median(samples, field):
    return statistics.median(sample[field] for sample in samples)


def summarize(run, primitives):
    """Medians, ratios to the faster peer, and goals, of one set."""
    tools = {}
    for name, stages in run.measured.items():
        fields = ("wall_secs", "cpu_secs", "peak_memory_mib")
        medians = {
            stage: {field: median(samples, field) for field in fields}
            for stage, samples in stages.items()
        }
        tools[name] = {
            "medians": medians,
            "peak_memory_mib": max(
                sample["peak_memory_mib"] for samples in stages.values() for sample in samples
            ),
            "repository_bytes": {
                stage: statistics.median(sizes) for stage, sizes in run.sizes[name].items()
            },
            "samples": stages,
        }
    summary = {
        "dataset": vars(run.dataset),
        "change": run.change.describe(),
        "tools": tools,
        "primitives": primitives,
    }
    if "muster" in tools:
        summary["goals"] = goals(tools, primitives)
    return summary


def goals(tools, primitives):
    """What muster reaches of its goals: (name, figure, limit, met or None if not measured)."""
    found = []
    mine = tools["muster"]
    peers = [tools[name] for name in PEERS if name in tools]
    whole = len(peers) == len(PEERS)

    def judge(name, figure, limit, at_most=True):
        met = None
        if figure is not None and limit is not None:
            met = figure <= limit if at_most else figure >= limit
        found.append({"goal": name, "figure": figure, "limit": limit, "met": met})

    for stage in ("first", "second", "restore"):
        fastest = min((peer["medians"][stage]["wall_secs"] for peer in peers), default=None)
        wall = mine["medians"][stage]["wall_secs"]
        ratio = wall / fastest if whole else None
        judge(f"{STAGE_TITLES[stage]}: wall time, of the faster peer's", ratio, 1.0)
    judge("peak memory of all stages, MiB", mine["peak_memory_mib"], MEMORY_GOAL_MIB)
    smallest = min((peer["repository_bytes"]["first"] for peer in peers), default=None)
    ratio = mine["repository_bytes"]["first"] / smallest if whole else None
    judge("repository after the first backup, of the smaller peer's", ratio, SIZE_GOAL_RATIO)
    efficiency = None
    if primitives:
        total = primitives["cpu_seconds"]["total"]
        efficiency = total / mine["medians"]["first"]["cpu_secs"]
    judge("pipeline efficiency", efficiency, EFFICIENCY_GOAL, at_most=False)
    return found


def print_set(summary, rounds):
    dataset = summary["dataset"]
    print(
        f"\n## Set {dataset['name']}: {dataset['files']} files, {dataset['bytes'] / MIB:.0f} MiB"
        f" ({dataset['altered_copies']} altered copies); median of {rounds}\n"
    )
    print("| stage | tool | wall s | (least to most) | CPU s | peak MiB | wall, of the faster peer's |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for stage in STAGES:
        print_stage(summary["tools"], stage)
    print(f"\nThe small change: {summary['change']}.\n")
    print("| tool | repository after the first backup, MiB | after the change, MiB |")
    print("| --- | ---: | ---: |")
    for name, figures in summary["tools"].items():
        sizes = figures["repository_bytes"]
        print(f"| {name} | {sizes['first'] / MIB:.1f} | {sizes['change'] / MIB:.1f} |")
    if summary["primitives"]:
        parts = summary["primitives"]["cpu_seconds"]
        print("\nPrimitives alone, CPU s: " + ", ".join(f"{k} {v:.2f}" for k, v in parts.items()))
        beside = summary["primitives"]["beside_cpu_seconds"]
        most = parts["total"] / (parts["total"] + sum(beside.values()))
        print(
            "\nBeside them, CPU s: " + ", ".join(f"{k} {v:.2f}" for k, v in beside.items())
            + f"; a backup that reads the files and verifies before it seals can reach {most:.2f} at most"
        )
    if "goals" in summary:
        print_goals(summary["goals"])


def print_stage(tools, stage):
    walls = {name: figures["medians"][stage]["wall_secs"] for name, figures in tools.items()}
    fastest = min((walls[name] for name in PEERS if name in walls), default=None)
    for name, figures in tools.items():
        medians = figures["medians"][stage]
        samples = [sample["wall_secs"] for sample in figures["samples"][stage]]
        ratio = f"{walls[name] / fastest:.2f}" if fastest else "-"
        print(
            f"| {STAGE_TITLES[stage]} | {name} | {medians['wall_secs']:.2f}"
            f" | {min(samples):.2f} to {max(samples):.2f} | {medians['cpu_secs']:.2f}"
            f" | {medians['peak_memory_mib']:.0f} | {ratio} |"
        )


def print_goals(found):
    print("\n| goal | measured | limit | |")
    print("| --- | ---: | ---: | --- |")
    for goal in found:
        figure = "-" if goal["figure"] is None else f"{goal['figure']:.2f}"
        verdict = {True: "met", False: "MISSED", None: "not measured"}[goal["met"]]
        print(f"| {goal['goal']} | {figure} | {goal['limit']} | {verdict} |")
