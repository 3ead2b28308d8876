"""The section of docs/results.md on calibration: an ANN as IF neurons at several T, with and without corrections."""

import re

from results_tables import Report, table_head

CALIBRATED = re.compile(r"(?P<run>cifar10-vgg-s\d+),(?P<level>none|light|advanced),(?P<steps>\d+)")
LEVELS = ("none", "light", "advanced")
HEAD = """
## Calibration

An ANN with plain ReLUs, a small VGG-like network on CIFAR-10 (recipe cifar10-vgg), as IF neurons with soft reset, made
for T steps and corrected on 1,024 training images without labels; 10,000 test images. Made by

    spikelet train recipe=cifar10-vgg seed=S train.precision=32-true
    spikelet calibrate cifar10-vgg-sS level=light num_steps=T                # and level=advanced

"""


def calibrations(everything: dict[str, Report]) -> str:
    groups: dict[tuple[str, int], dict[str, Report]] = {}
    for name, report in everything.items():
        if found := CALIBRATED.fullmatch(name):
            groups.setdefault((found["run"], int(found["steps"])), {})[found["level"]] = report
    if not groups:
        return ""
    text = HEAD + table_head("run", "T", *LEVELS, "ANN", "advanced below the ANN", "spikes, advanced", "SOP, advanced")
    return text + "".join(row(run, steps, groups[run, steps]) for run, steps in sorted(groups))


def row(run: str, steps: int, levels: dict[str, Report]) -> str:
    ann = 100 * next(iter(levels.values()))["ann_accuracy"]
    cells = [f"{100 * levels[level]['accuracy']:.2f} %" if level in levels else "" for level in LEVELS]
    line = f"| `{run}` | {steps} | {' | '.join(cells)} | {ann:.2f} % "
    if "advanced" not in levels:
        return f"{line}| | | |\n"
    best = levels["advanced"]
    spikes, operations = (best[f"{what}_per_sample"]["total"] for what in ("spikes", "synaptic_operations"))
    return f"{line}| {ann - 100 * best['accuracy']:.2f} | {spikes:,.0f} | {operations / 1e6:.1f} M |\n"
