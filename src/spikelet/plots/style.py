"""The one quiet style of all figures, and numbers as text."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, in the order in which runs take the colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
POSITIVE, NEGATIVE, NEUTRAL, INK = "#0072B2", "#D55E00", "#B4B4B4", "#333333"
COLUMN = 3.5  # inches
OFFSET: Any = {"textcoords": "offset points", "fontsize": 7}
PREFIXES = {-5: "f", -4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.0,
    "legend.handleheight": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.0,
    "savefig.dpi": 200,
}


def inked(strength: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3] on white of how strongly each polarity [P, H, W], or the only one, is seen, 0 to 1.

    >>> inked(np.zeros((2, 1, 1))).tolist()
    [[[1.0, 1.0, 1.0]]]
    """
    from matplotlib.colors import to_rgb

    inks = (NEGATIVE, POSITIVE) if len(strength) == 2 else (INK,)
    taken = np.einsum("phw,pc->hwc", strength, 1 - np.array([to_rgb(ink) for ink in inks]))
    return (1 - taken).clip(0, 1)


def colours(number: int) -> Sequence[Any]:
    """A few colours that everyone can tell apart; many from dark to light, the first darkest."""
    if number <= len(COLOURS):
        return COLOURS[:number]
    from matplotlib import colormaps

    return [colormaps["viridis"](place) for place in np.linspace(0, 0.82, number)]


@contextmanager
def drawing(
    path: str | Path | None, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> Iterator[tuple["Figure", list["Axes"]]]:
    """A figure of column width in the common style; written to ``path`` at the end, under its name only when whole."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, height), layout="constrained")
        yield figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)
        if path is not None:
            save(figure, Path(path))


def save(figure: "Figure", path: Path) -> None:
    with whole_file(path) as temporary:
        try:
            figure.savefig(temporary, format=path.suffix[1:] or "png")
        except ValueError as error:
            raise SpikeletError(f"path: cannot write a figure as {path.suffix!r}: {error}") from error


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def count_text(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2g}"


def short_number(value: float, unit: str = "") -> str:
    """Three digits and a prefix.

    >>> short_number(1511000), short_number(6.3e-08, "J"), short_number(999_999, "B"), short_number(7)
    ('1.51 M', '63.0 nJ', '1.00 MB', '7')
    """
    power = math.floor(math.log10(abs(float(f"{value:.3g}"))) / 3) if value else 0
    power = min(max(power, min(PREFIXES)), max(PREFIXES))
    number = value / 1000.0**power
    places = 2 - math.floor(math.log10(abs(number))) if number else 0
    digits = f"{number:.{max(0, min(places, 2))}f}" if power or number != int(number) else f"{number:.0f}"
    return f"{digits} {PREFIXES[power]}{unit}".rstrip()


def tick_text(value: float, unit: str = "") -> str:
    """``short_number`` without zeros at the end, for an axis."""
    digits, _, rest = short_number(value, unit).partition(" ")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{digits} {rest}".rstrip()


def times_text(value: float) -> str:
    return f"{value:.2g} ×" if value < 1 else f"{value:.1f} ×" if value < 10 else f"{value:,.0f} ×"
