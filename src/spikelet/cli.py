"""The command line. Every error of a user is one line on stderr and exit code 2; Ctrl-C is 130."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from spikelet.errors import DataError, SpikeletError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console
    from rich.table import Table

    from spikelet.datasets import Findings

USAGE = """\
spikelet: pixels in, class out, not one float.

  spikelet demo                              the whole path on a tiny data set, in a minute or two
  spikelet recipes [NAME]                    the experiments in the box
  spikelet train recipe=NAME [key=value ...] train, convert, check, report: one folder under runs/
  spikelet ablate recipe=NAME [key=value]    the same with parts left out, several seeds, one table
  spikelet evaluate RUN [key=value ...]      accuracy, spikes, operations, energy, memory of a run or packaged network
  spikelet convert RUN [fraction_bits=N]     convert a run's network again, and check it
  spikelet calibrate RUN level=light         correct a trained network for fewer steps, from unlabelled training images
  spikelet report RUN [RUN ...]              table and figures of one run, or of several together
  spikelet datasets [NAME] [download=true]   which data are there, and how to get the others
  spikelet datasets check NAME               read every file of a data set, count, and draw a few samples
  spikelet doctor                            cores, vector units, GPU, threads, allocator, data, versions

RUN is a run folder, the name of one under runs/, a packaged network such as mnist-lenet, a network's file or folder.
`spikelet COMMAND --help` has examples; `spikelet --version` the version."""

HELP = {
    "demo": """\
spikelet demo [key=value ...]
Trains a small ternary network on 8x8 digits, converts it to integers, checks that the two agree in every neuron, and
shows what it costs. Needs no data. Writes runs/demo (and overwrites it).

  spikelet demo
  spikelet demo train.num_epochs=10 model.k=1""",
    "recipes": """\
spikelet recipes [NAME] [--config-dir FOLDER]
Lists the recipes, or shows one. A FOLDER of your own holds recipe/NAME.yaml files; each begins with the line
"# @package _global_" and says only what differs from the defaults (or from "defaults: [another-recipe]").

  spikelet recipes
  spikelet recipes mnist-lenet-k0""",
    "train": """\
spikelet train recipe=NAME [key=value ...] [-m] [--config-dir FOLDER] [--cfg job]
Trains, converts, checks and evaluates into runs/EXP_ID. Keys: exp_id seed resume overwrite num_threads data.* model.*
train.* convert.* evaluate.*; trainer.* goes to lightning.Trainer. -m sweeps over comma-separated values;
--config-dir adds your own recipes; --cfg job shows the configuration and stops.

  spikelet train recipe=mnist-lenet-k0
  spikelet train recipe=mnist-lenet-k0 train.num_epochs=3 trainer.devices=2 exp_id=short
  spikelet train recipe=mnist-lenet-k0 resume=true                      after an interruption
  spikelet train -m recipe=mnist-lenet-k0 train.operation_cost=0.05,0.1,0.2""",
    "ablate": """\
spikelet ablate recipe=NAME [seed=1,2,3] [variant=coding,correction,co-optimization,all] [key=value ...]
        [--config-dir FOLDER]
Trains the recipe as it is (all), and with parts of it left out, each with every seed and the same budget; then a table
and figures of all, in runs/NAME-ablation; exp_id=... is another NAME. What is done already is not done again; the same
command goes on where an interrupted one was. hydra/launcher=joblib trains several at once (hydra-joblib-launcher).

The variants: docs/conventions.md, "Ablation". Recipes that have all parts: those called *-eval.

  spikelet ablate recipe=mnist-eval
  spikelet ablate recipe=nmnist-eval data.protocol=first-1000 exp_id=nmnist-first1000-eval""",
    "evaluate": """\
spikelet evaluate RUN [RUN ...] [key=value ...]
Keys: num_steps input_noise split batch_size device=cpu|cuda num_threads seed data.root data.verify data.download
output. Several RUNs end in one table.
A run's own settings renew its report.json; others go to RUN/evaluate/... or to output=FOLDER.
Early exit, by one of exit.confidence exit.entropy exit.margin (integers), or by exit.loss: the percentage points of
validation samples that may answer otherwise, for which the threshold is found.

  spikelet evaluate mnist-lenet data.root=~/data
  spikelet evaluate mnist-lenet-k0-s1 num_steps=2 input_noise=0.5
  spikelet evaluate mnist-lenet-k0-s1 exit.confidence=0.9
  spikelet evaluate mnist-lenet exit.loss=0.02""",
    "convert": """\
spikelet convert RUN [fraction_bits=N] [settle_steps=N] [num_threads=N] [data.root=FOLDER]
Converts the trained network of a run again, checks every neuron on the test set, and writes network.safetensors.

  spikelet convert mnist-lenet-k0-s1
  spikelet convert mnist-lenet-k0-s1 fraction_bits=8""",
    "calibrate": """\
spikelet calibrate RUN level=light|advanced [num_steps=T] [samples=1024] [seed=N] [key=value ...]
Corrects a network after training, from training images without labels, and shows what that gained at each T: an ANN
with plain ReLUs (model.k=null) becomes IF neurons, a spiking network learns to do with fewer steps. Keys besides:
thresholds=layer|channel shift=start|spread split batch_size num_threads data.root data.verify data.download.
Writes RUN/calibrate/LEVEL,T/, and RUN/calibrate/accuracy,T.png with all levels that are there.

  spikelet calibrate cifar10-vgg-s1 level=light num_steps=16
  spikelet calibrate cifar10-vgg-s1 level=advanced num_steps=16 samples=512""",
    "report": """\
spikelet report RUN [RUN ...] [output=FOLDER]
One run: its table, and figures/ in its folder. Several: a table that has runs which differ only in their seed as one,
and one set of figures with all of them, in runs/compare or FOLDER.

  spikelet report mnist-lenet-k0-s1
  spikelet report mnist-lenet-d-k0-s1 mnist-lenet-d-k1-s1 mnist-lenet-d-k2-s1 output=figures""",
    "datasets": """\
spikelet datasets [NAME] [download=true] [data.root=FOLDER]
spikelet datasets check NAME [data.root=FOLDER] [data.verify=false] [output=FILE.png]
Lists the data sets, or shows one: where its files are, their state, license, addresses, what to cite. "check" reads
every file, compares numbers and published checksums (not with data.verify=false), and draws a sample of each class,
into runs/datasets/NAME.png or FILE.png.

  spikelet datasets
  spikelet datasets mnist download=true
  spikelet datasets check dvs-gesture data.root=~/data""",
    "doctor": """\
spikelet doctor [data.root=FOLDER]
What this machine offers and what spikelet found on it.

  spikelet doctor""",
}

EXIT_KEYS = ("confidence", "entropy", "margin", "loss", "temperature")
# Short words of evaluate, convert and calibrate, and the keys they stand for.
EVALUATE_KEYS = {
    "num_steps": "evaluate.num_steps",
    "input_noise": "evaluate.input_noise",
    "split": "evaluate.split",
    "batch_size": "evaluate.batch_size",
    "device": "evaluate.device",
    "num_threads": "num_threads",
    "seed": "seed",
    "data.root": "data.root",
    "data.verify": "data.verify",
    "data.download": "data.download",
} | {f"exit.{name}": f"exit.{name}" for name in EXIT_KEYS}
CONVERT_KEYS = {key: EVALUATE_KEYS[key] for key in ("num_threads", "data.root", "data.verify", "data.download")} | {
    "fraction_bits": "convert.fraction_bits",
    "settle_steps": "evaluate.settle_steps",
}
CALIBRATE_KEYS = {key: f"calibrate.{key}" for key in ("level", "num_steps", "samples", "thresholds", "shift")} | {
    key: EVALUATE_KEYS[key]
    for key in ("split", "batch_size", "num_threads", "seed", "data.root", "data.verify", "data.download")
}
RESULT_KEYS = ("num_steps", "input_noise", "split", "seed", *(f"exit.{name}" for name in EXIT_KEYS))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except SpikeletError as error:
        return _complain(" ".join(str(error).split()))
    except BrokenPipeError:  # such as `| head`; nothing may be written any more, nor at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _complain(f"{error.filename or 'file'}: {error.strerror or error}")
    except KeyboardInterrupt as error:
        print(f"\nspikelet: interrupted{f'; {error}' if str(error) else ''}", file=sys.stderr)
        return 130


def _complain(message: str) -> int:
    print(f"spikelet: error: {message}", file=sys.stderr)
    return 2


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"spikelet {version('spikelet')}")
        return 0
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SpikeletError(f"command: there is no {name!r}{hint} (there are: {', '.join(COMMANDS)})")
    if "-h" in rest or "--help" in rest:
        print(HELP[name])
        return 0
    COMMANDS[name](rest)
    return 0


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _split(words: list[str], flags: Sequence[str] = ()) -> tuple[list[str], list[str], list[str], str | None]:
    """Plain words, key=value words, Hydra's flags, and the folder of --config-dir. Raises on any other flag."""
    plain: list[str] = []
    pairs: list[str] = []
    found: list[str] = []
    config_dir = None
    key = r"[^=]+=" if "--config-dir" in flags else r"[A-Za-z_][\w.]*="  # a run folder of a sweep has = in its name
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            (pairs if re.match(key, word) else plain).append(word)
        elif name not in flags:
            raise SpikeletError(f"{name}: no such option here (there are: {', '.join([*flags, '--help'])})")
        elif name in ("--config-dir", "--cfg"):
            value = value if equals else next(rest, "")
            if not value:
                raise SpikeletError(f"{name}: expected a value, such as {name} {'mine' if name != '--cfg' else 'job'}")
            config_dir = value if name == "--config-dir" else config_dir
            found += ["--cfg", value] if name == "--cfg" else []
        else:
            found.append(word)
    return plain, pairs, found, config_dir


def _keys(pairs: list[str], allowed: Sequence[str], command: str) -> dict[str, str]:
    """key=value words as a dictionary; raises SpikeletError for a key that the command does not take."""
    found = {}
    for word in pairs:
        key, _, value = word.partition("=")
        if key not in allowed:
            close = get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            keys = ", ".join(allowed) or "none"
            raise SpikeletError(f"{key}: spikelet {command} takes no such key{hint} (allowed: {keys})")
        found[key] = value
    return found


def _one(plain: list[str], command: str, what: str = "RUN") -> str:
    if len(plain) != 1:
        raise SpikeletError(
            f"{what}: spikelet {command} takes exactly one, got {len(plain)}: {' '.join(plain) or 'none'}"
        )
    return plain[0]


def _train(words: list[str]) -> None:
    plain, pairs, flags, config_dir = _split(words, ("-m", "--multirun", "--config-dir", "--cfg", "--resolve"))
    if plain:
        raise SpikeletError(f"{plain[0]}: cannot be read; expected key=value, such as recipe={plain[0]}")
    again = ["spikelet", "train", *(w for w in words if not w.startswith(("resume=", "overwrite="))), "resume=true"]
    from spikelet.recipes import compose

    try:
        compose.run(train_job, pairs, flags, config_dir)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on from the last whole epoch with: {shlex.join(again)}") from None


def train_job(node: DictConfig) -> None:
    """One training run, in the folder that Hydra made for it."""
    from hydra.core.hydra_config import HydraConfig

    from spikelet import runs
    from spikelet.recipes import compose
    from spikelet.recipes.schema import to_config

    folder = Path(HydraConfig.get().runtime.output_dir)
    console = _console()
    try:
        config = to_config(node)
        report = runs.train(config, folder, say=console.print)
    except (SpikeletError, OSError):
        compose.remove_empty(folder)
        raise
    if report:
        _show(console, report, folder)


def _ablate(words: list[str]) -> None:
    from spikelet import ablate, report
    from spikelet.recipes import compose
    from spikelet.runs import RUNS, shown

    plain, pairs, _, config_dir = _split(words, ("--config-dir",))
    if plain:
        raise SpikeletError(f"{plain[0]}: cannot be read; expected key=value, such as recipe={plain[0]}")
    overrides, folders = ablate.plan(pairs)
    ablate.try_out(overrides, config_dir)
    try:
        compose.run(ablate.job, overrides, ["-m"], config_dir)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with: {shlex.join(['spikelet', 'ablate', *words])}") from None
    console = _console()
    if len(folders) == 1:
        _show(console, report.read_report(folders[0]), folders[0])
    else:
        console.print(report.ablation_table(folders))
        for path in report.compare(folders, RUNS / f"{ablate.name(pairs)}-ablation"):
            console.print(f"figure: {shown(path)}")


def _show(console: Console, report: dict[str, Any], folder: Path | None) -> None:
    """The table of a report, whether nothing was lost, and where everything is."""
    from spikelet.report import summary_table, write_figures
    from spikelet.runs import shown

    console.print()
    console.print(summary_table(report, *_columns(report)))
    if "agreement" in report:
        _show_agreement(console, report["agreement"])
    if folder is not None:
        figures = write_figures(folder)
        console.print(f"run folder: {shown(folder)}")
        for path in figures:
            console.print(f"figure: {shown(path)}")
    else:
        console.print("nothing is kept of this; output=FOLDER keeps the report and its figures")


def _columns(report: dict[str, Any]) -> tuple[str, str]:
    """What the columns of a report's table are called: its spiking network, and the ANN beside it."""
    model = report.get("config", {}).get("model", {})
    if model.get("neuron") is not None:
        return ("integer SNN" if model.get("arithmetic") == "integer" else "SNN"), "dense ANN"
    if model and model.get("k", 0) is None:
        return "SNN", "ANN"
    integer = model.get("weights") != "float" and model.get("first") == model.get("last") == "integer"
    return ("integer SNN" if integer else "SNN"), "quantized ANN"


def _show_agreement(console: Console, agreement: dict[str, Any]) -> None:
    if "accuracy_trained" in agreement:
        _show_trained_agreement(console, agreement)
        return
    same, answers = agreement["snn_vs_integer_ann"], agreement["answers"]
    if same == answers == 1:
        console.print(
            "agreement: run until it rests, every neuron and every answer of the spiking network equals its ANN's"
        )
    else:
        console.print(
            f"agreement: {100 * same:.4f} % of neurons and {100 * answers:.2f} % of answers equal the ANN's: "
            "not settled; raise evaluate.settle_steps"
        )
    console.print(f"           {100 * agreement['integer_vs_float_ann']:.4f} % of activations equal the float ANN's")


def _show_trained_agreement(console: Console, agreement: dict[str, Any]) -> None:
    trained, integer = (f"{100 * agreement[f'accuracy_{which}']:.2f} %" for which in ("trained", "integer"))
    if agreement["neurons"] == agreement["answers"] == 1:
        console.print(
            f"agreement: every neuron of the integer network fires as trained, every answer is equal; {integer}"
        )
        return
    console.print(
        f"agreement: {100 * agreement['answers']:.2f} % of answers and {100 * agreement['neurons']:.4f} % of neurons "
        f"equal the trained network's; accuracy {trained} as trained, {integer} in integers"
    )
    console.print("           to lose nothing, train on with init_from=RUN model.arithmetic=integer")


def _demo(words: list[str]) -> None:
    plain, pairs, _, _ = _split(words)
    if plain:
        raise SpikeletError(f"{plain[0]}: cannot be read; expected key=value, such as train.num_epochs=10")
    console = _console()
    console.print("[bold]spikelet demo[/bold]: 1,797 handwritten digits of 8x8 pixels, in five steps.")
    console.print("1. train a quantized network: ternary weights, activations that are small whole numbers")
    console.print("2. convert it: batch norm becomes integer thresholds, activations become signed spikes")
    console.print("3. check that spiking and quantized network agree in every neuron, on every test image")
    console.print("4. run it in integers and count: spikes, operations, energy, memory")
    console.print("5. draw the figures\n")
    _train(["recipe=digits-demo", "exp_id=demo", "overwrite=true", *pairs])


def _evaluate(words: list[str]) -> None:
    from spikelet import report, runs

    plain, pairs, _, _ = _split(words)
    given = _keys(pairs, [*EVALUATE_KEYS, "output"], "evaluate")
    if not plain:
        raise SpikeletError("RUN: spikelet evaluate takes one or more, got none")
    if "output" in given:
        _one(plain, "evaluate with output=FOLDER")
    output = Path(given.pop("output")) if "output" in given else None
    targets = [runs.find(name, [f"{EVALUATE_KEYS[k]}={v}" for k, v in given.items()]) for name in plain]
    changed = [f"{key}={value}" for key, value in given.items() if key in RESULT_KEYS]
    console, found = _console(), []
    for target in targets:
        told, folder = runs.evaluate(target, changed, output, say=console.print)
        found.append(told)
        if len(targets) == 1:
            _show(console, told, folder)
        elif folder is not None:
            console.print(f"run folder: {runs.shown(folder)}")
    if len(targets) > 1:
        console.print(report.evaluations_table(plain, found))


def _convert(words: list[str]) -> None:
    from spikelet import runs

    plain, pairs, _, _ = _split(words)
    name = _one(plain, "convert")
    given = _keys(pairs, [*CONVERT_KEYS], "convert")
    target = runs.find(name, [f"{CONVERT_KEYS[k]}={v}" for k, v in given.items()])
    console = _console()
    agreement, file = runs.convert(target, say=console.print)
    _show_agreement(console, agreement)
    if file is not None:
        console.print(f"integer network: {runs.shown(file)} ({file.stat().st_size:,} bytes)")
        if target.config.model.neuron is not None and target.config.model.arithmetic == "float":
            console.print(f"           its own report: spikelet evaluate {runs.shown(file)}")
    else:
        console.print("this network has float weights or ends: it spikes in floating point and has no integer file")


def _calibrate(words: list[str]) -> None:
    from rich.progress import track

    from spikelet import calibration, report, runs

    plain, pairs, _, _ = _split(words)
    name = _one(plain, "calibrate")
    given = _keys(pairs, [*CALIBRATE_KEYS], "calibrate")
    target = runs.find(name, [f"{CALIBRATE_KEYS[k]}={v}" for k, v in given.items()])
    console = _console()
    folder, steps = calibration.run(
        target, console.print, lambda layers: track(layers, "correcting layers", console=console, transient=True)
    )
    console.print(report.calibration_table(folder, steps))
    console.print(f"networks and reports: {runs.shown(folder)}")
    console.print(f"figure: {runs.shown(report.write_calibration(folder, steps))}")


def _report(words: list[str]) -> None:
    from spikelet import report, runs

    plain, pairs, _, _ = _split(words)
    given = _keys(pairs, ["output"], "report")
    if not plain:
        raise SpikeletError("RUN: spikelet report takes at least one run folder or exp_id")
    folders = [runs.report_folder(name) for name in plain]
    console = _console()
    if len(folders) == 1 and "output" not in given:
        _show(console, report.read_report(folders[0]), folders[0])
        return
    for folder in folders:
        told = report.read_report(folder)
        console.print(report.summary_table(told, *_columns(told)))
    figures = report.compare(folders, Path(given.get("output", runs.RUNS / "compare")))
    console.print(report.comparison_table(folders))
    for path in figures:
        console.print(f"figure: {runs.shown(path)}")


def _recipes(words: list[str]) -> None:
    from spikelet.recipes import compose

    plain, pairs, _, config_dir = _split(words, ("--config-dir",))
    _keys(pairs, [], "recipes")
    known = compose.available(config_dir)
    if plain:
        name = _one(plain, "recipes", "NAME")
        compose.check_recipe([f"recipe={name}"], config_dir)
        print(known[name].rstrip())
        return
    from rich.table import Table

    rows = []
    for name, text in known.items():
        head = compose.header(text)
        accuracy = (re.match(r"[\d.]+ %", head.get(key, "")) for key in ("claim", "measured"))
        time = re.match(r"(?:under |about )?(?:a quarter of )?(?:an?|\d+)(?: to \d+)? \w+", head.get("time", ""))
        what = re.split(r"[;:]", head.get("title", ""))[0]
        rows.append((name, *(found[0] if found else "-" for found in (*accuracy, time)), what))
    titles = ("recipe", "claimed", "here", "time", "what")
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]
    console, beside = _table_console(), sum(widths[:-1]) + 2 * len(widths[:-1])
    room = max(console.width - beside, 20) if console.is_terminal else widths[-1]
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=True, style="bold" if title == "recipe" else "")
    for *found, what in rows:
        table.add_row(*found, shorten(what, room, placeholder=" ..."))
    console.width = beside + room
    console.print(table)
    print("\nall of one: spikelet recipes NAME    run it: spikelet train recipe=NAME")
    print(f"trained already: {', '.join(compose.packaged_networks())}    what it costs: spikelet evaluate NAME")


def _table_console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _datasets(words: list[str]) -> None:
    from spikelet.datasets import DATASETS, default_root
    from spikelet.recipes.build import choose

    plain, pairs, _, _ = _split(words)
    if plain[:1] == ["check"]:
        _check_dataset(plain[1:], pairs)
        return
    given = _keys(pairs, ["download", "data.root"], "datasets")
    root = Path(given["data.root"]).expanduser() if "data.root" in given else default_root()
    download = _flag(given.get("download", "false"), "download")
    if not plain:
        if download:
            raise SpikeletError(
                f"download: say which data set, such as spikelet datasets {next(reversed(DATASETS))} ..."
            )
        _list_datasets(root)
        return
    kind = choose("NAME", _one(plain, "datasets", "NAME"), DATASETS)
    if download:
        kind.fetch(root)
    source, (width, height, channels) = kind.source, kind.sensor_size
    rows = {
        kind.name: f"{width} x {height} x {channels}, {len(kind.classes)} classes",
        "samples": ", ".join(f"{split} {num:,}" for split, num in kind.num.items()),
        "status": kind.status(root),
        "where": kind.where(root),
        "license": source.license,
        "homepage": source.homepage,
        "cite": source.citation,
        "addresses": " ".join(source.addresses) or ("by hand" if source.by_hand else "needs none"),
    }
    _print_rows(rows.items())
    if rows["status"] != "complete" and not download:
        print(f"\nget it {kind.how(root)}")


def _check_dataset(plain: list[str], pairs: list[str]) -> None:
    from spikelet import plots, runs
    from spikelet.datasets import DATASETS, examine
    from spikelet.recipes.build import choose

    given = _keys(pairs, ["data.root", "data.verify", "output"], "datasets check")
    kind = choose("NAME", _one(plain, "datasets check", "NAME"), DATASETS)
    output = Path(given.get("output", runs.RUNS / "datasets" / f"{kind.name}.png"))
    verify = _flag(given.get("data.verify", "true"), "data.verify")
    found = examine(kind, given.get("data.root"), verify)
    if found.counts:
        _table_console().print(_classes_table(kind.classes, found))
    for remark in found.remarks:
        print(f"note: {remark}")
    if found.pictures:
        plots.plot_frames(found.pictures, output)
        print(f"figure: {runs.shown(output)}")
    for error in found.errors if found.counts else ():
        print(f"wrong: {error}")
    if len(found.errors) == 1 or (found.errors and not found.counts):
        raise found.errors[0]
    if found.errors:
        raise DataError(f"{kind.name}: {len(found.errors)} things are wrong, the first: {found.errors[0]}")
    print(
        "all is there, in the published numbers"
        if verify
        else "all could be read; numbers and checksums were not compared"
    )


def _classes_table(classes: Sequence[str], found: Findings) -> Table:
    """Samples of each class by part, and of recordings how many events and milliseconds one has."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    has_events = bool(found.events.any())
    for title in (*found.counts, *(("events each", "ms each") if has_events else ())):
        table.add_column(title, justify="right")
    for name, labels in [*((name, [label]) for label, name in enumerate(classes)), ("all", [*range(len(classes))])]:
        numbers = [int(counts[labels].sum()) for counts in found.counts.values()]
        num = max(sum(numbers), 1)
        means = (found.events[labels].sum() / num, found.micros[labels].sum() / num / 1000) if has_events else ()
        table.add_row(name, *(f"{number:,}" for number in numbers), *(f"{mean:,.0f}" for mean in means))
    return table


def _list_datasets(root: Path) -> None:
    from rich.table import Table

    from spikelet.datasets import DATASETS

    table = Table("data set", "samples", "size", "status", "where", "license", box=None, pad_edge=False)
    for name, kind in DATASETS.items():
        width, height, channels = kind.sensor_size
        number = f"{kind.num['train+val']:,} + {kind.num['test']:,}"
        status = kind.status(root)
        if status.startswith("missing"):
            status = f"missing {status.count(',') + 1} files{'' if kind.source.downloads else ', by hand'}"
        table.add_row(name, number, f"{width}x{height}x{channels}", status, kind.where(root), kind.source.license)
    _table_console().print(table)
    print("\nget one: spikelet datasets NAME download=true    all of one: spikelet datasets NAME")


def _flag(value: str, name: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise SpikeletError(f"{name}: expected true or false, got {value!r}")
    return value.lower() == "true"


def _doctor(words: list[str]) -> None:
    from spikelet import doctor

    plain, pairs, _, _ = _split(words)
    if plain:
        raise SpikeletError(f"{plain[0]}: spikelet doctor takes no such word")
    given = _keys(pairs, ["data.root"], "doctor")
    _print_rows(doctor.examine(Path(given["data.root"]).expanduser() if "data.root" in given else None))


def _print_rows(rows: Any) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    for name, finding in rows:
        table.add_row(name, finding)
    _table_console().print(table)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": _demo,
    "recipes": _recipes,
    "train": _train,
    "ablate": _ablate,
    "evaluate": _evaluate,
    "convert": _convert,
    "calibrate": _calibrate,
    "report": _report,
    "datasets": _datasets,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
