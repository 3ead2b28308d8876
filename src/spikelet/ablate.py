"""The four variants of a recipe, each with several seeds and the same budget: trained, and put in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikelet import runs
from spikelet.errors import SpikeletError
from spikelet.recipes import compose
from spikelet.recipes.schema import Config, to_config
from spikelet.training import COSTS

if TYPE_CHECKING:
    from omegaconf import DictConfig

COSTLY = "train.*_cost or train.min_steps"
NEEDS = {
    "coding": ("model.coding",),
    "correction": ("model.coding", "model.correction"),
    "co-optimization": ("model.coding", COSTLY),
    "all": ("model.coding", "model.correction", COSTLY),
}
VARIANTS = tuple(NEEDS)
VARIED = ("model.correction", "train.loss", "train.min_steps", "train.cost_ramp", *(f"train.{cost}" for cost in COSTS))
SEEDS = (1, 2, 3)


def plan(words: list[str]) -> tuple[list[str], list[Path]]:
    """Hydra's overrides of the sweep, and the run folders that it makes, variant after variant.

    ``words`` are key=value; ``seed`` and ``variant`` may have several values, separated by commas. ``exp_id`` is what
    the folders begin with, instead of the recipe.

    >>> overrides, folders = plan(["recipe=mnist-eval", "seed=1,2", "variant=coding,all"])
    >>> overrides
    ['recipe=mnist-eval', 'variant=all,coding', 'seed=1,2']
    >>> folders[:2] == [Path("runs/mnist-eval-s1,variant=coding"), Path("runs/mnist-eval-s2,variant=coding")]
    True
    """
    given = _given(words)
    if "recipe" not in given:
        raise SpikeletError(
            "recipe: name one with all parts, such as recipe=mnist-eval; the others are called *-eval, too"
        )
    if "resume" in given:
        raise SpikeletError("resume: an ablation goes on by itself; leave it out")
    for key in given:
        if key in VARIED or key.startswith("exit."):
            raise SpikeletError(f"{key}: this is what the variants differ in; change it in a recipe of your own")
    seeds = given.get("seed", ",".join(map(str, SEEDS))).split(",")
    variants = given.get("variant", ",".join(VARIANTS)).split(",")
    for kind, values in (("seed", seeds), ("variant", variants)):
        if len({*values}) < len(values):
            raise SpikeletError(f"{kind}: expected each value once, got {given[kind]}")
    for variant in variants:
        if variant not in VARIANTS:
            raise SpikeletError(f"variant: expected some of {', '.join(VARIANTS)}, got {variant!r}")
    others = [word for word in words if word.lstrip("+").partition("=")[0] not in ("seed", "variant", "exp_id")]
    if swept := compose.swept(others):
        raise SpikeletError(f"{swept[0]}: an ablation sweeps over seed and variant only; a list is written key=[1,2]")
    first = sorted(variants, key=lambda kind: kind != "all")  # what the recipe lacks shows before anything is trained
    sweep = [f"variant={','.join(first)}", f"seed={','.join(seeds)}"]
    several = len(variants) > 1
    if given.get("exp_id"):
        sweep.append(f"exp_id='{given['exp_id']}-s${{seed}}{',variant=${variant}' if several else ''}'")
    suffix = {variant: f",variant={variant}" if several else "" for variant in variants}
    start = name(words)
    return [*others, *sweep], [runs.RUNS / f"{start}-s{seed}{suffix[v]}" for v in variants for seed in seeds]


def name(words: list[str]) -> str:
    """What the folders of an ablation begin with: its exp_id, or its recipe."""
    given = _given(words)
    return given.get("exp_id") or given["recipe"]


def _given(words: list[str]) -> dict[str, str]:
    return dict(word.lstrip("+").partition("=")[::2] for word in words)


def try_out(overrides: list[str], config_dir: str | None = None) -> None:
    """Raise SpikeletError for what makes no configuration, or none that can be ablated, before anything is written."""
    first = [word.partition(",")[0] if word.startswith(("variant=", "seed=")) else word for word in overrides]
    compose.run(_read, first, [], config_dir)


def _read(node: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    try:
        check(to_config(node))
    finally:
        compose.remove_empty(Path(HydraConfig.get().runtime.output_dir))


def job(node: DictConfig) -> None:
    """One run of an ablation, in the folder that Hydra made for it: begun, gone on with, or done already."""
    from hydra.core.hydra_config import HydraConfig

    from spikelet.report import write_figures

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        config = to_config(node)
        if runs.finished(config, folder):
            print(f"{runs.shown(folder)}: done already")
            return
        config.resume = not config.overwrite
        if runs.train(config, folder):
            write_figures(folder)
    except (SpikeletError, OSError):
        compose.remove_empty(folder)
        raise


def check(config: Config) -> None:
    """Raise SpikeletError where the recipe has not what the variant is named for."""
    saved = config.train.min_steps is not None or any(getattr(config.train, cost) for cost in COSTS)
    parts = {"model.coding": config.model.coding, "model.correction": config.model.correction, COSTLY: saved}
    for key in NEEDS[config.variant]:
        if not parts[key]:
            needed = f"which the variant {config.variant} needs; the recipes called *-eval have it"
            raise SpikeletError(f"recipe: {config.recipe} has no {key}, {needed}")
