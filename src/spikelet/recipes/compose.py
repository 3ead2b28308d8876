"""Hydra: a recipe and the words of a command line to configurations, one of them or a sweep."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from spikelet.errors import SpikeletError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def packaged(group: str = "recipe") -> dict[str, str]:
    """The recipes in the box, or what else a ``group`` of settings has: name to YAML text."""
    folder = resources.files("spikelet.recipes") / group
    return {f.name.removesuffix(".yaml"): f.read_text() for f in sorted(folder.iterdir(), key=str) if _is_yaml(f.name)}


def packaged_networks() -> dict[str, Path]:
    """The trained networks in the box, by name."""
    folder = Path(str(resources.files("spikelet"))) / "models"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


# Words of published command lines, and the keys that they mean here.
PUBLISHED = {
    "decay": "model.beta",
    "lens": "model.slope",
    "thresh": "model.v_threshold",
    "T": "model.num_steps",
    "quantizer": "model.weights",
    "temporal_kernel": "model.temporal_kernel",
    "ds": "data.downsample",
    "dt": "model.dt",
}


def translated(word: str) -> str:
    """An override in this project's words: work B's ``decay``, ``thresh``, ``lens``, ``T``, ``ds``, ``dt`` (in ms), and
    ``temporal_kernel``, and ``quantizer``.

    >>> [translated(word) for word in ("decay=0.25", "lens=0.5,0.25", "quantizer=cbp_ternary,none", "seed=2")]
    ['model.beta=0.25', 'model.slope=1,0.5', 'model.weights=cbp_ternary,float', 'seed=2']
    """
    key, equals, value = word.partition("=")
    if key == "lens":
        value = _scaled(value, 2, "lens: expected half the surrogate's width, above 0")
    if key == "dt":
        value = _scaled(value, 1e-3, "dt: expected a step's duration in ms, above 0")
    if key == "model.notation" and re.fullmatch(r"[^'\"]*[\[|][^'\"]*", value):
        value = f"'{value}'"  # Hydra would take the brackets of a residual block for a list
    if key == "quantizer":
        value = ",".join("float" if name == "none" else name for name in value.split(","))
    return f"{PUBLISHED.get(key, key)}{equals}{value}"


def _scaled(text: str, factor: float, expected: str) -> str:
    """Positive numbers, separated by commas, times ``factor``."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [0.0]
    if not all(number > 0 for number in numbers):
        raise SpikeletError(f"{expected}, got {text!r}")
    return ",".join(f"{factor * number:g}" for number in numbers)


def available(config_dir: str | None = None) -> dict[str, str]:
    """The recipes in the box and those under ``config_dir``/recipe, which win: name to YAML text."""
    found = packaged()
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise SpikeletError(f"--config-dir: no such folder: {config_dir}; expected one that holds recipe/NAME.yaml")
        folder = Path(config_dir) / "recipe"
        found |= {f.stem: f.read_text() for f in sorted(folder.glob("*.yaml"))}
    return found


def _is_yaml(name: str) -> bool:
    return name.endswith(".yaml")


def header(text: str) -> dict[str, str]:
    """A recipe's head comment: its first line as ``title``, then what follows ``claim:``, ``measured:`` ...

    >>> header("# @package _global_\\n# A small net.\\n# claim: 98 %\\n#   of ten\\ndata: {}")
    {'title': 'A small net.', 'claim': '98 % of ten'}
    """
    found: dict[str, str] = {}
    last = "title"
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        words = line.lstrip("# ").strip()
        if words.startswith("@package"):
            continue
        named = re.match(r"(claim|measured|time|differs|command): (.*)", words)
        last, words = (named[1], named[2]) if named else (last, words)
        found[last] = f"{found[last]} {words}" if last in found else words
    return found


def sweep_suffix(mode: str, overrides: str) -> str:
    """What sets the run folders of a sweep apart: the overrides, as far as a folder's name can hold them.

    >>> sweep_suffix("RunMode.MULTIRUN", "model.k=1,train.lr=0.1")
    ',model.k=1,train.lr=0.1'
    >>> sweep_suffix("RunMode.RUN", "model.k=1")
    ''
    """
    if not mode.endswith("MULTIRUN") or not overrides:
        return ""
    words = re.sub(r"[^\w.,=-]", "_", overrides.replace("+", ""))
    if len(words) > 120:
        words = words[:100] + "-" + hashlib.sha256(overrides.encode()).hexdigest()[:12]
    return f",{words}"


def register() -> None:
    """Make the schema and the resolver known to Hydra (in every process of a sweep)."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from spikelet.recipes.schema import Config

    ConfigStore.instance().store(name="schema", node=Config)
    if not OmegaConf.has_resolver("sweep_suffix"):
        OmegaConf.register_new_resolver("sweep_suffix", lambda mode, words="": sweep_suffix(str(mode), str(words)))


def run(
    task: Callable[[DictConfig], None], overrides: list[str], flags: list[str], config_dir: str | None = None
) -> None:
    """Compose the configuration that ``overrides`` describe and call ``task`` with it, once or once per sweep point.

    ``flags`` are Hydra's own (--multirun, --cfg job). Raises SpikeletError, naming the key, for what does not fit.
    """
    import hydra
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from spikelet.recipes.schema import explain

    register()
    overrides = [translated(word) for word in overrides]
    check_recipe(overrides, config_dir)
    check_keys(overrides)
    words = [*flags, *(["--config-dir", config_dir] if config_dir else []), *map(_free_trainer, overrides)]
    main = hydra.main(version_base="1.3", config_path="pkg://spikelet.recipes", config_name="config")
    try:
        words.append(f"hydra.job.config.override_dirname.exclude_keys=[{','.join(_not_swept(overrides))}]")
        with _command_line(words) as original:
            main(_one_line(task, original))()
    except SystemExit as error:
        if isinstance(error.code, str):
            raise SpikeletError(error.code) from error
        raise
    except HydraException as error:
        cause = error.__cause__
        raise (explain(cause) if isinstance(cause, OmegaConfBaseException) else _explain_hydra(error)) from error
    except OmegaConfBaseException as error:
        raise explain(error) from error
    except yaml.YAMLError as error:
        raise SpikeletError(f"recipe: a YAML file cannot be read: {' '.join(str(error).split())}") from error


def _one_line(task: Callable[[DictConfig], None], argv: list[str]) -> Callable[[DictConfig], None]:
    """``task`` under the user's own command line (Lightning starts its other processes with it).

    A SpikeletError leaves it as a SystemExit, which Hydra, and a launcher's other processes, pass on without a word.
    """

    @functools.wraps(task)
    def wrapped(config: DictConfig) -> None:
        register()
        hydras, sys.argv = sys.argv, argv
        try:
            task(config)
        except SpikeletError as error:
            raise SystemExit(str(error)) from error
        finally:
            sys.argv = hydras

    return wrapped


def _explain_hydra(error: Exception) -> SpikeletError:
    """Hydra's complaint in one line; for a recipe that does not fit the schema, which recipe and which key."""
    from hydra.errors import OverrideParseException

    from spikelet.recipes.schema import first_line, unknown_key

    message = first_line(error)
    if isinstance(error, OverrideParseException):
        return SpikeletError(f"{error.override}: cannot be read; expected key=value (quote what a shell would eat)")
    if message.startswith("Ambiguous value"):
        return SpikeletError(f"{message}: several values need -m (a sweep); a list is written key=[1,2]")
    if found := re.search(r"Could not find '(variant)/(.*)'", message):
        return SpikeletError(f"variant: expected one of {', '.join(packaged(found[1]))}, got {found[2]!r}")
    recipe = re.match(r"In '(.*)': (\w+) raised while composing config:\n(.*)\n\s*full_key: (.*)", str(error))
    if recipe is None:
        return SpikeletError(message)
    file, kind, reason, key = recipe.groups()
    return SpikeletError(f"{file}: {unknown_key(key) if kind == 'ConfigKeyError' else f'{key}: {reason}'}")


def check_keys(overrides: list[str]) -> None:
    """Raise SpikeletError for a key that the schema does not have, written with or without Hydra's + and ~."""
    from spikelet.recipes.schema import keys, unknown_key

    known = keys()
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        part = any(name == key or name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in known)
        if "=" in word and not part and not key.startswith("hydra"):
            raise unknown_key(key)


def check_recipe(overrides: list[str], config_dir: str | None) -> None:
    """Raise SpikeletError unless exactly one known recipe (or a sweep over known ones) is chosen."""
    known = available(config_dir)
    chosen = [word.partition("=")[2] for word in overrides if word.startswith("recipe=")]
    listed = f"(there are: {', '.join(known)})"
    if not chosen:
        raise SpikeletError(f"recipe: name one, such as recipe=digits-demo {listed}")
    if re.fullmatch(r"[\w,.-]*", chosen[-1]):
        for name in chosen[-1].split(","):
            if name not in known:
                close = get_close_matches(name, known, n=3)
                hint = f" {listed}"
                if close:
                    hint = f"; did you mean {' or '.join(close)}? `spikelet recipes` lists all {len(known)}"
                raise SpikeletError(f"recipe: no recipe {name!r}{hint}")


def _free_trainer(word: str) -> str:
    """Hydra wants ++ before a key that the schema does not list; trainer.* and train.loss_settings are free."""
    return f"++{word}" if word.startswith(("trainer.", "train.loss_settings")) else word


def swept(overrides: list[str]) -> list[str]:
    """The keys with several values. Raises SpikeletError for a word that cannot be read."""
    return [key for key, several in _parsed(overrides) if several]


def _not_swept(overrides: list[str]) -> list[str]:
    """The keys that do not tell the runs of a sweep apart: those with one value, and those named in exp_id anyway."""
    return ["recipe", "seed", "exp_id", *(key for key, several in _parsed(overrides) if not several)]


def _parsed(overrides: list[str]) -> list[tuple[str, bool]]:
    """The key of each override, and whether it has several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        parsed = OverridesParser.create().parse_overrides([_free_trainer(word) for word in overrides])
    except OverrideParseException as error:
        raise _explain_hydra(error) from error
    return [(o.key_or_group, o.is_sweep_override()) for o in parsed]


@contextmanager
def _command_line(words: list[str]) -> Iterator[list[str]]:
    """Hydra reads ``sys.argv``, and shows errors itself unless told that the caller wants them."""
    before, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [sys.argv[0], *words], "1"
    try:
        yield before
    finally:
        sys.argv = before
        os.environ.pop("HYDRA_FULL_ERROR")
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error


def remove_empty(folder: Path) -> None:
    """Take away a run folder in which nothing was written, and the folders above it that are empty then.

    The current folder stays, and so does all above it.
    """
    here = Path.cwd()
    with suppress(OSError):
        for empty in (folder, *folder.parents):
            if here.is_relative_to(empty):
                break
            empty.rmdir()
