"""What is asked of an argument: else one clear error, which names it, what was given and what is allowed."""

from collections.abc import Callable
from dataclasses import fields
from math import isfinite
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from spikelet.errors import SpikeletError

_ALSO: dict[Any, Any] = {float: int | float, list: list | tuple}  # what will do for these types
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

    Only Python's own numbers, and finite ones: settings are written to JSON.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Budget:
    ...     num_epochs: int = 3
    >>> check_fields("budget", Budget("3"))
    Traceback (most recent call last):
    spikelet.errors.SpikeletError: budget.num_epochs: expected a whole number, got '3'
    """
    kinds = get_type_hints(type(settings))
    for field in fields(settings):
        value, kind = getattr(settings, field.name), kinds[field.name]
        if not _is_of(value, kind):
            raise SpikeletError(f"{prefix}.{field.name}: expected {_words(kind)}, got {value!r}")


def _is_of(value: Any, kind: Any) -> bool:
    plain = get_origin(kind) or kind
    if plain in (UnionType, Union):
        return any(_is_of(value, one) for one in get_args(kind))
    if not isinstance(value, _ALSO.get(plain, plain)) or (isinstance(value, bool) and plain is not bool):
        return False
    if isinstance(value, float) and not isfinite(value):
        return False
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return all(_is_of(member, get_args(kind)[-1]) for member in members)


def _words(kind: Any) -> str:
    if get_origin(kind) in (UnionType, Union):
        return " or ".join(map(_words, get_args(kind)))
    if get_origin(kind) is dict:
        return f"names, each with {_words(get_args(kind)[1])}"
    if get_origin(kind) is list:
        return f"a list, each of it {_words(get_args(kind)[0])}"
    return _WORDS.get(kind, str(kind))
