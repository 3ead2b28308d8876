"""A run: its folder, and what is done in it. Train, convert, check, evaluate; every verb leaves its file."""

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from spikelet import doctor
from spikelet.errors import FormatError, SpikeletError
from spikelet.integer import IntegerNetwork
from spikelet.networks import SNN, NetworkSettings, SurfaceNetwork
from spikelet.networks import load as read_network
from spikelet.recipes import build, schema
from spikelet.recipes.compose import packaged_networks
from spikelet.recipes.schema import Config, DataSettings

RUNS = Path("runs")
CONFIG, CHECKPOINT, NETWORK, REPORT = "config.yaml", "checkpoints/last.ckpt", "network.safetensors", "report.json"
OUTPUTS = (
    CONFIG,
    "metrics.csv",
    "progress.txt",
    NETWORK,
    REPORT,
    "checkpoints",
    "figures",
    "logs",
    "evaluate",
    "calibrate",
)
RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")  # torchrun's, Slurm's, Lightning's
Say = Callable[[str], None]


def train(config: Config, run_dir: Path, say: Say = print) -> dict[str, Any]:
    """Train what ``config`` describes into ``run_dir``, convert it, check that nothing was lost, and report.

    Everything that can be refused is refused before the first file is written or an old one is removed.
    """
    doctor.prepare(config.num_threads)
    build.check(config)
    train_loader = build.loader(config, config.data.train_split, shuffle=True)
    val_loader = build.loader(config, "val") if config.data.train_split == "train" else None
    test_loader = build.loader(config, config.evaluate.split)
    network = build.network(config)
    build.check_classes(network, train_loader)
    if config.init_from is not None:
        start_from(config.init_from, network)
    teacher = teacher_of(config, network) if config.teacher is not None else None
    check_trainer(config.trainer)
    build.exit_rule(config.exit, _is_integer(config))
    claim(config, run_dir)
    from spikelet.training import fit

    say = say if _is_first_process() else _nothing
    say(f"training {config.model.notation} on {len(train_loader.dataset)} samples of {config.data.name}")  # type: ignore[arg-type]
    fit(
        network,
        train_loader,
        val_loader,
        config.train,
        augment=build.augment(config.data),
        teacher=teacher,
        seed=config.seed,
        run_dir=run_dir,
        resume=config.resume,
        trainer=config.trainer,
    )
    if not _is_first_process():
        return {}
    return publish(config, network.cpu(), run_dir, test_loader, say)


def start_from(name: str, network: Any) -> None:
    """Give ``network`` the trained weights of the run ``name``, which must have the same layers.

    What becomes of weights and activations may differ: their levels, bounds, neurons. What a quantizer keeps of the
    weight (scales) is taken over from a run with the same quantizer, else begun with the weights.
    """
    from spikelet import quantizers

    source = _trained(name, "init_from")
    same = source.settings.weights == network.settings.weights
    trained = {_unquantized(k): v for k, v in source.state_dict().items() if same or not _is_quantizers(k)}
    ours = network.state_dict()
    for key in [k for k in ours if same or not _is_quantizers(k)]:
        given, value = trained.pop(_unquantized(key), None), ours[key]
        if given is None or given.shape != value.shape:
            what = "none" if given is None else str([*given.shape])
            raise SpikeletError(
                f"init_from: {key} is {[*value.shape]} here and {what} in {name}; expected the same layers"
            )
        ours[key] = given
    if trained:
        raise SpikeletError(f"init_from: {name} has {next(iter(trained))}, which is not here; expected the same layers")
    network.load_state_dict(ours)
    if not same:
        quantizers.begin(network)


def _unquantized(key: str) -> str:
    """The name of a parameter, whether its weight is quantized or not."""
    return key.replace("parametrizations.weight.original", "weight")


def _is_quantizers(key: str) -> bool:
    return ".parametrizations.weight.0." in key


def teacher_of(config: Config, network: Any) -> Any:
    """The trained network of the run ``config.teacher``, which must see the same images and tell the same classes."""
    name = str(config.teacher)
    teacher = _trained(name, "teacher")
    (_, ours), (_, theirs) = ([*net.blocks().items()][-1] for net in (network, teacher))
    seen = [(net.input_shape, block.op.weight.shape[0]) for net, block in ((network, ours), (teacher, theirs))]
    if _steps_of(teacher) != _steps_of(network):
        raise SpikeletError(
            f"teacher: {name} and the network do not take the same input; expected the same model.dt, if any"
        )
    if seen[0] != seen[1]:
        raise SpikeletError(f"teacher: {name} maps images {seen[1][0]} to {seen[1][1]} classes, expected {seen[0]}")
    return teacher


def _steps_of(network: Any) -> float | None:
    """Duration of a step of a network that begins with time surfaces; None for any other."""
    return network.settings.dt if getattr(network, "surface", None) is not None else None


def _trained(name: str, argument: str) -> Any:
    network = find(name, argument=argument).network()
    if network is None:
        raise SpikeletError(f"{argument}: {name} is a network's file without its run; expected a run")
    return network


def publish(config: Config, network: Any, run_dir: Path, test_loader: Any, say: Say) -> dict[str, Any]:
    """From a trained network to the files of a finished run: network, report."""
    from spikelet.evaluate import evaluate, evaluate_ann, save_report

    if config.model.neuron is None and config.model.k is None:
        report = evaluate_ann(network, test_loader)
    elif config.model.neuron is not None and not _is_integer(config):
        how = _how(config, network)
        say(f"evaluating {how['num_steps']} steps on {len(test_loader.dataset)} test samples")
        report = evaluate(network, test_loader, **how, exit=exit_rule(config, network, how["num_steps"], say))
    else:
        say("converting to a spiking network")
        converted = to_spikes(config, network)
        if _is_integer(config):
            converted.save(run_dir / NETWORK)
        say(f"checking every neuron on {len(test_loader.dataset)} test images")
        agreement = check(config, network, converted, test_loader)
        how = _how(config, network)
        how["exit"] = exit_rule(config, converted, how["num_steps"], say)
        say(f"evaluating {how['num_steps']} steps")
        report = evaluate(converted, test_loader, network=network, logs_dir=run_dir / "logs", **how)
        report["agreement"] = agreement
    report = signed(report, config)
    save_report(report, run_dir / REPORT)
    if config.model.neuron is not None and config.evaluate.samples:
        draw_samples(network, test_loader, config.evaluate.samples, run_dir / "figures")
    return report


def draw_samples(network: Any, loader: Any, number: int, folder: Path) -> None:
    """An animation of the answer and a raster of all layers, for the first ``number`` samples."""
    from torch import Tensor

    from spikelet import plots
    from spikelet.networks import answers, record_spikes

    x, labels = next(iter(loader))
    x = x[:number] if not isinstance(x, Tensor) or x.dim() == 4 else x[:, :number]
    with record_spikes(network) as layers:
        out = answers(network, x)
    classes = loader.dataset.classes
    for i, label in enumerate(labels[:number].tolist()):
        movie, still = (folder / f"{kind}_{i}_target{classes[label]}" for kind in ("spike_bar", "raster"))
        trains = {name: train[:, i].flatten(1).float() for name, train in layers.items()}
        plots.raster(trains, still.with_suffix(".png"))
        if network.settings.readout == "spikes" and network.settings.neuron != "trace":  # where spikes give the answer
            plots.spike_bar_animation(out[:, i].float(), label, movie.with_suffix(".gif"), classes=classes)


def to_spikes(config: Config, network: Any) -> Any:
    """The spiking form of a trained network: in integers where all its weights are, else in floating point."""
    from spikelet import convert

    metadata = describe(config, _steps(config, network))
    if config.model.neuron is not None or _is_integer(config):
        frames = build.has_recordings(config) and not build.has_surfaces(config)
        return convert.to_integer(network, config.convert.fraction_bits, metadata, frames)
    if config.convert.fraction_bits is not None:
        raise SpikeletError(
            "convert.fraction_bits: this network has float weights or ends, so it stays in floating point"
        )
    return convert.to_spiking(network, metadata)


def check(config: Config, network: Any, converted: Any, loader: Any) -> dict[str, Any]:
    """What was trained against what it became, over the whole loader: answers, and neuron by neuron."""
    from spikelet.convert import check_equivalence, check_trained

    if config.model.neuron is not None:
        return check_trained(network, converted, loader, config.num_threads)
    return check_equivalence(network, converted, loader, config.evaluate.settle_steps, num_threads=config.num_threads)


def describe(config: Config, num_steps: int) -> dict[str, Any]:
    """What an integer network's file says of itself: enough to evaluate it without its run folder."""
    data = {key: getattr(config.data, key) for key in ("name", "eval_transform", *build.EVENT_KEYS)}
    whence = {"recipe": config.recipe, "seed": config.seed, "num_steps": num_steps}
    made_by = {"model": asdict(config.model), "train": asdict(config.train)}
    return whence | made_by | {"data": data, "init_from": config.init_from, "teacher": config.teacher}


def claim(config: Config, run_dir: Path) -> None:
    """Make ``run_dir`` ours: refuse one that holds another run's work, and leave the configuration in it."""
    if not _is_first_process():
        return
    if (run_dir / CHECKPOINT).exists() and not (config.resume or config.overwrite):
        raise SpikeletError(
            f"exp_id: {shown(run_dir)} already holds a trained network; choose another exp_id, or resume=true to go on "
            "with it, or overwrite=true to start anew"
        )
    if config.overwrite and not config.resume:
        for name in OUTPUTS:
            path = run_dir / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    elif config.resume and (run_dir / CHECKPOINT).exists() and (run_dir / CONFIG).exists():
        _check_same(config, schema.load(run_dir / CONFIG), run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    schema.save(config, run_dir / CONFIG)


def finished(config: Config, run_dir: Path) -> bool:
    """Whether ``run_dir`` has the report of this configuration. Raises SpikeletError where it was trained otherwise."""
    if config.overwrite or not (run_dir / REPORT).is_file() or not (run_dir / CONFIG).is_file():
        return False
    before = schema.load(run_dir / CONFIG)
    _check_same(config, before, run_dir)
    return config.exit == before.exit and config.evaluate == before.evaluate


def _check_same(now: Config, before: Config, run_dir: Path) -> None:
    elsewhere = ("root", "num_workers", "verify", "download")
    new, old = asdict(now), asdict(before)
    for part in ("model", "data", "train"):
        for key, value in new[part].items():
            if key not in elsewhere and value != old[part][key]:
                raise SpikeletError(
                    f"{part}.{key}: {shown(run_dir)} was begun with {old[part][key]!r}, now got {value!r}; "
                    f"exp_id=ANOTHER init_from={run_dir.name} begins a new run with its weights"
                )
    for key in ("seed", "init_from", "teacher"):
        if new[key] != old[key]:
            raise SpikeletError(f"{key}: {shown(run_dir)} was begun with {old[key]!r}, now got {new[key]!r}")


def check_trainer(options: dict[str, Any]) -> None:
    """Raise SpikeletError for options that lightning.Trainer does not take."""
    if not options:
        return
    import inspect

    from spikelet.training import quiet_lightning

    lightning = quiet_lightning()
    known = [*inspect.signature(lightning.Trainer.__init__).parameters][1:]
    for name in options:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean trainer.{close[0]}?" if close else ""
            raise SpikeletError(f"trainer.{name}: lightning.Trainer takes no such option{hint}")
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    try:
        lightning.Trainer(**(options | quiet))
    except Exception as error:  # Lightning raises its own and the plain kinds
        raise SpikeletError(f"trainer: lightning refuses {options}: {schema.first_line(error)}") from error


@dataclass
class Target:
    """What a command works on: a run folder, or a network's file that stands alone."""

    name: str
    config: Config
    folder: Path | None = None
    file: Path | None = None

    def network(self) -> Any:
        """The trained network of a run folder, None for a file that stands alone."""
        from spikelet.training import load_network

        if self.folder is None:
            return None
        if not (self.folder / CHECKPOINT).exists():
            raise SpikeletError(f"RUN: {shown(self.folder)} holds no checkpoint yet; train it with resume=true")
        return load_network(self.folder / CHECKPOINT)


def find(name: str, overrides: list[str] | None = None, argument: str = "RUN") -> Target:
    """The run folder, exp_id under runs/, packaged network, network file or folder with one that ``name`` means."""
    boxed = packaged_networks()
    for folder in (Path(name), RUNS / name):
        if (folder / CONFIG).is_file():
            return Target(name, schema.load(folder / CONFIG, overrides), folder=folder)
    files = boxed.get(name), Path(name), *(folder / NETWORK for folder in (Path(name), RUNS / name))
    if file := next((file for file in files if file is not None and file.is_file()), None):
        return Target(name, _file_config(file, overrides), file=file)
    for folder in (RUNS / name, Path(name)):
        if folder.is_dir():
            raise SpikeletError(f"{argument}: {folder} is no run folder: it holds no {CONFIG} and no {NETWORK}")
    runs = [path.parent.name for path in sorted(RUNS.glob(f"*/{CONFIG}"))]
    close = get_close_matches(name, [*runs, *boxed], n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    there = f"runs here: {', '.join(runs) or 'none'}; packaged networks: {', '.join(boxed) or 'none'}"
    raise SpikeletError(
        f"{argument}: {name} is no run folder, no run under runs/ and no packaged network{hint} ({there})"
    )


def load(name: str | Path) -> IntegerNetwork | SurfaceNetwork | SNN:
    """The integer network that ``name`` means: a packaged one, of a run folder or exp_id under runs/, or of a file.

    One that begins with time surfaces has these in floating point; the file of a calibrated network is an ``SNN``.

    Raises SpikeletError where there is none, FormatError where the file is damaged or foreign.
    """
    file = packaged_networks().get(str(name), Path(name))
    if not file.is_file():
        target = find(str(name), argument="name")
        file = target.file or (target.folder or Path()) / NETWORK
        if not file.is_file():
            raise SpikeletError(f"name: {name} has no integer network; make one with 'spikelet convert {name}'")
    return read_network(file)


def report_folder(name: str) -> Path:
    """The folder of a report: a run folder, an exp_id under runs/, or an evaluation's own folder inside one."""
    folders = [folder for folder in (Path(name), RUNS / name) if folder.is_dir()]
    with_report = [folder for folder in folders if (folder / REPORT).is_file()]
    if not folders:
        find(name)
        raise SpikeletError(f"RUN: {name} is a network without a run folder; see it with: spikelet evaluate {name}")
    return (with_report or folders)[0]


def _file_config(file: Path, overrides: list[str] | None) -> Config:
    network = read_network(file)
    metadata = network.metadata
    try:
        data, steps = DataSettings(**metadata["data"]), int(metadata["num_steps"])
        model = NetworkSettings(**metadata["model"])
        if not isinstance(network, SNN):
            model.arithmetic = "float" if model.neuron is None else "integer"  # whatever it was trained in
        config = Config(recipe=metadata["recipe"], seed=metadata["seed"], data=data, model=model)
        config.evaluate.num_steps = steps
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{file}: this network does not say its data set and num_steps ({error})") from error
    return schema.override(config, overrides or [])


def convert(target: Target, say: Say = print) -> tuple[dict[str, Any], Path | None]:
    """Convert a run's trained network (again) and check it: the agreement, and the file if the network is integer.

    The run's report told of the network before, and goes; ``evaluate`` writes a new one.
    """
    if target.folder is None:
        raise SpikeletError(f"RUN: {target.name} is a network's file without its run; expected a run")
    config = target.config
    doctor.prepare(config.num_threads)
    network = target.network()
    converted = to_spikes(config, network)
    loader = build.loader(config, "test")
    say(f"checking every neuron on {len(loader.dataset)} test images")  # type: ignore[arg-type]
    agreement = check(config, network, converted, loader)
    if not isinstance(converted, IntegerNetwork | SurfaceNetwork):
        return agreement, None
    converted.save(target.folder / NETWORK)
    if config.model.neuron is None:
        if (target.folder / REPORT).is_file():
            say(f"{REPORT} told of the network that was here before, and is gone: `spikelet evaluate` makes a new one")
            (target.folder / REPORT).unlink()
    else:
        _add_to_report(target.folder, {"agreement": agreement})
    schema.save(config, target.folder / CONFIG)
    return agreement, target.folder / NETWORK


def _add_to_report(folder: Path, found: dict[str, Any]) -> None:
    """Put what was found out about a trained network into its report, where it has one."""
    from spikelet.evaluate import save_report
    from spikelet.report import read_report

    if (folder / REPORT).is_file():
        save_report(read_report(folder) | found, folder / REPORT)


def evaluate(
    target: Target, changed: list[str], output: Path | None = None, say: Say = print
) -> tuple[dict, Path | None]:
    """The report of a target, and the folder it was written to.

    A run's own settings give its report.json; with ``changed`` ones the report goes to evaluate/<those> inside the run
    folder. A network file is only reported on, unless ``output`` names a folder.
    """
    from spikelet.evaluate import evaluate as measure
    from spikelet.evaluate import evaluate_ann, save_report

    config = target.config
    steps = config.evaluate.num_steps if any(word.startswith("num_steps=") for word in changed) else None
    doctor.prepare(config.num_threads)
    loader = build.loader(config, config.evaluate.split)
    network = target.network()
    say(f"evaluating {target.name} on {len(loader.dataset)} {config.evaluate.split} samples of {config.data.name}")  # type: ignore[arg-type]
    if target.folder is not None:
        output = output or (target.folder / "evaluate" / ",".join(changed) if changed else target.folder)
    how = _how(config, network) | ({"num_steps": steps} if steps else {})
    trained = network is not None and config.model.neuron is not None and not _is_integer(config)
    _check_device(config, trained)
    if trained:
        network.to(config.evaluate.device)
        report = measure(network, loader, **how, exit=exit_rule(config, network, how["num_steps"], say))
    elif network is not None and config.model.k is None:
        report = evaluate_ann(network, loader)
    else:
        stored = target.file or (target.folder / NETWORK if target.folder else None)
        fresh = network is not None and not (_is_integer(config) and stored is not None and stored.is_file())
        converted = to_spikes(config, network) if fresh else read_network(stored)  # type: ignore[arg-type]
        logs = output / "logs" if output is not None else None
        how["exit"] = exit_rule(config, converted, how["num_steps"], say)
        report = measure(converted, loader, network=network, logs_dir=logs, **how)
        if network is not None:
            say("checking every neuron")
            report["agreement"] = check(config, network, converted, loader)
    report = signed(report, config)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        save_report(report, output / REPORT)
    return report, output


def _check_device(config: Config, trained: bool) -> None:
    import torch

    if config.evaluate.device != "cpu" and not trained:
        raise SpikeletError("device: converted networks and ANNs are evaluated on the CPU; expected cpu, got cuda")
    if config.evaluate.device == "cuda" and not torch.cuda.is_available():
        raise SpikeletError("device: torch finds no GPU here; expected cpu, got cuda")


def exit_rule(config: Config, converted: Any, num_steps: int, say: Say) -> Any:
    """When a sample stops early, as ``config.exit`` says; what that leaves open is found on the validation samples."""
    from spikelet.evaluate import fit_exit
    from spikelet.exits import Softmax

    settings = config.exit
    rule = build.exit_rule(settings, isinstance(converted, IntegerNetwork | SurfaceNetwork))
    temperature = isinstance(rule, Softmax) and settings.temperature is None
    if rule is None or not (temperature or settings.loss is not None):
        return rule
    loader = build.loader(config, "val")
    number = len(loader.dataset)  # type: ignore[arg-type]
    seen = ", which the network was trained on, too" if config.data.train_split == "train+val" else ""
    say(f"fitting the early exit on {number} validation samples{seen}")
    loss = None if settings.loss is None else settings.loss / 100
    if loss and loss * number < 1:
        say(f"exit.loss: {settings.loss} % of {number} samples is less than one of them, so none may answer otherwise")
    found = fit_exit(
        rule, converted, loader, num_steps, temperature=temperature, loss=loss, num_threads=config.num_threads
    )
    say(f"early exit: {found}")
    return found


def _how(config: Config, network: Any) -> dict[str, Any]:
    settings = config.evaluate
    unary = config.model.first_levels is not None and config.model.k is not None
    logs = {"first_weight": 2**config.model.k if unary else None}  # type: ignore[operator]
    common = {"num_steps": _steps(config, network), "input_noise": settings.input_noise}
    return common | logs | {"seed": config.seed, "num_threads": config.num_threads}


def _steps(config: Config, network: Any) -> int:
    """The time steps that a network is judged with: where it was trained through time, as many as at the end of that.

    The settings that a file names are its own.
    """
    trained = network is not None and config.model.neuron is not None
    return network.num_steps if trained else config.evaluate.num_steps


def signed(report: dict[str, Any], config: Config) -> dict[str, Any]:
    """The report with what is needed to repeat it."""
    from spikelet.evaluate import provenance

    whence = {"recipe": config.recipe, "exp_id": config.exp_id, "seed": config.seed, "data": config.data.name}
    told = asdict(config)
    del told["data"]["root"]
    return report | whence | {"config": told} | provenance()


def _is_integer(config: Config) -> bool:
    """Whether the trained network computes what integers do."""
    model = config.model
    if model.neuron is not None:
        return model.arithmetic == "integer"
    return model.weights != "float" and model.first == model.last == "integer"


def _nothing(words: str) -> None:
    pass


def _is_first_process() -> bool:
    """Whether nobody else writes: of all processes on all machines, whoever started them."""
    return all(int(os.environ.get(name, "0")) == 0 for name in RANKS)


def shown(path: Path) -> str:
    """``path`` as a user would type it from here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
