"""What is asked of an argument: else one clear error, which names it, what was given and what is allowed."""

from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from types import UnionType
from typing import Any, get_args, get_origin

from spikelet.errors import SpikeletError

_ALSO: dict[Any, Any] = {int: Integral, float: Real, list: list | tuple}  # what will do for these types
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}


def is_number(value: Any) -> bool:
    """Python's and NumPy's numbers; neither words nor truth.

    >>> is_number(0.5), is_number(3), is_number("0.5"), is_number(True), is_number(None)
    (True, True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def check_number(name: str, value: Any, allowed: str, holds: Callable[[float], bool]) -> None:
    """Raise SpikeletError where ``value`` is no number that ``holds``, as ``allowed`` says in words."""
    if not is_number(value) or not holds(value):
        raise SpikeletError(f"{name}: expected {allowed}, got {value!r}")


def check_whole(name: str, value: Any, lowest: int = 1) -> None:
    """Raise SpikeletError where ``value`` is no whole number of at least ``lowest``."""
    if not is_number(value) or not isinstance(value, Integral) or value < lowest:
        raise SpikeletError(f"{name}: expected a whole number of at least {lowest}, got {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Raise SpikeletError where ``value`` is neither True nor False."""
    if not isinstance(value, bool):
        raise SpikeletError(f"{name}: expected True or False, got {value!r}")


def check_fields(prefix: str, settings: Any) -> None:
    """Raise SpikeletError for the first field of a dataclass whose value is not of the kind that its type says.

    >>> from spikelet.training import TrainSettings
    >>> check_fields("train", TrainSettings(num_epochs="3"))
    Traceback (most recent call last):
    spikelet.errors.SpikeletError: train.num_epochs: expected a whole number, got '3'
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if not _is_of(value, field.type):
            raise SpikeletError(f"{prefix}.{field.name}: expected {_words(field.type)}, got {value!r}")


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_is_of(value, one) for one in get_args(kind))
    plain = get_origin(kind) or kind
    if not isinstance(value, _ALSO.get(plain, plain)) or (isinstance(value, bool) and plain is not bool):
        return False
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return all(_is_of(member, get_args(kind)[-1]) for member in members)


def _words(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(map(_words, get_args(kind)))
    if get_origin(kind) is dict:
        return f"names, each with {_words(get_args(kind)[1])}"
    if get_origin(kind) is list:
        return f"a list, each of it {_words(get_args(kind)[0])}"
    return _WORDS[kind]
