"""A network making up its mind: the output's spikes, and the bars that they add up to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelet.errors import SpikeletError
from spikelet.files import whole_file
from spikelet.plots.axes import bar_rows
from spikelet.plots.rasters import draw_spikes, spike_array, time_axis
from spikelet.plots.style import INK, NEGATIVE, NEUTRAL, POSITIVE, STYLE, drawing, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

FRAMES = 100  # most frames of an animation; of a longer recording, steps are left out
ROWS = 20  # most classes of an animation
_TINT, _DIM, _FUTURE = "#E4EFF7", "0.45", "0.84"


def spike_bar_animation(
    spikes: Any,
    label: int,
    path: str | Path | None = None,
    dt_ms: float | None = None,
    classes: Sequence[str] | None = None,
) -> "Figure":
    """One sample's output spikes over time, beside bars that grow with the spikes of each class so far.

    A line moves over the raster, a frame per step; the true class is tinted, its bar blue, and a wrong class that leads
    is orange. The answer is the class with most spikes, the lowest of equals. ``path`` ends in .gif; the last frame is
    written beside it as .png. Returns the last frame. Of more than 100 steps, evenly spaced ones are shown; of more
    than 20 classes, the true one and those with most spikes at the end.

    spikes   [T, C], whole numbers (array or tensor)
    label    the true class, 0 .. C - 1
    dt_ms    length of a step in milliseconds, for the time axis; None counts steps
    classes  C names; by default the numbers
    """
    train = spike_array(spikes, "spikes", "[T, C]")
    names = _names(train.shape[1], label, classes)
    gif = Path(path) if path is not None else None
    if gif is not None and gif.suffix != ".gif":
        raise SpikeletError(f"path: expected a name that ends in .gif, got {gif.name!r}")
    sample = _Sample(train, int(label), names, _rows(train.sum(0), label), dt_ms)
    height, widths = 0.75 + 0.19 * len(sample.rows), (1.1 if sample.wordy else 1.5, 1)
    with drawing(None, height, columns=2, sharey=True, width_ratios=widths) as (figure, both):
        scene = _scene(both, sample)
        if gif is not None:
            _write_gif(gif, _frames(figure, scene))
        scene.show(len(train) - 1)
        if gif is not None:
            save(figure, gif.with_suffix(".png"))
    return figure


def _names(num_classes: int, label: int, classes: Sequence[str] | None) -> list[str]:
    if not 0 <= label < num_classes:
        raise SpikeletError(f"label: expected a class from 0 to {num_classes - 1}, got {label}")
    names = [str(name) for name in classes] if classes is not None else [str(c) for c in range(num_classes)]
    if len(names) != num_classes:
        raise SpikeletError(f"classes: expected one name per output ({num_classes}), got {len(names)}")
    return names


def _rows(totals: np.ndarray, label: int) -> list[int]:
    """The classes that are shown, in their order."""
    ranked = [c for c in np.argsort(-totals, kind="stable").tolist() if c != label]
    return sorted([label, *ranked[: ROWS - 1]])


@dataclass(frozen=True)
class _Sample:
    """What is shown: spikes [T, C], the true class, all C names, the classes that have a row."""

    train: np.ndarray
    label: int
    names: list[str]
    rows: list[int]
    dt_ms: float | None

    @property
    def wordy(self) -> bool:
        """Names so long that the titles need two lines."""
        return max(map(len, self.names)) > 9

    def said(self, what: str, name: str) -> str:
        return f"{what}:\n{name}" if self.wordy else f"{what}: {name}"

    def time(self, step: int) -> str:
        time = f"t = {step}" if self.dt_ms is None else f"t = {step * self.dt_ms:g} ms"
        return f"{time}\n " if self.wordy else time


@dataclass(frozen=True)
class _Scene:
    """What moves, and where to."""

    sample: _Sample
    past: list[tuple[Any, np.ndarray]]  # lines, and where in [T, rows] their spikes are
    now: Any
    clock: Any
    answer: Any
    bars: list[tuple[Any, Any]]  # of every row, the bar and the number at its end

    def moving(self) -> list[Any]:
        grown = [artist for pair in self.bars for artist in pair]
        return [*(line for line, _ in self.past), self.now, self.clock, self.answer, *grown]

    def show(self, step: int) -> None:
        """Set everything to how it stands after ``step``."""
        sample = self.sample
        sums = sample.train[: step + 1].sum(0)
        leader = int(sums.argmax()) if sums.any() else None
        for line, spikes in self.past:
            line.set_data(*np.nonzero(spikes[: step + 1]))
        self.now.set_xdata([step, step])
        self.clock.set_text(sample.time(step))
        for c, (bar, count) in zip(sample.rows, self.bars, strict=True):
            bar.set_width(sums[c])
            bar.set_facecolor(POSITIVE if c == sample.label else NEGATIVE if c == leader else NEUTRAL)
            count.set_x(max(sums[c], 0))
            count.set_text(f"{sums[c]:,.0f}")
            count.set_color(INK if c in (sample.label, leader) else _DIM)
        self.answer.set_text(sample.said("Answer", sample.names[leader] if leader is not None else "none yet"))
        self.answer.set_color(POSITIVE if leader == sample.label else _DIM if leader is None else NEGATIVE)


def _scene(panels: Sequence["Axes"], sample: _Sample) -> _Scene:
    from matplotlib.transforms import offset_copy

    times, bars = panels
    train, place = sample.train[:, sample.rows], sample.rows.index(sample.label)
    for axes in panels:
        axes.axhspan(place - 0.5, place + 0.5, color=_TINT, linewidth=0, zorder=0)
    draw_spikes(times, train, 7, _FUTURE, _FUTURE)
    past = _past(times, train, place)
    now = times.axvline(0, color=INK, linewidth=0.8)
    time_axis(times, len(train), sample.dt_ms)
    sums = train.cumsum(0)
    drawn = bars.barh(range(len(sample.rows)), sums[-1], 0.62, linewidth=0)
    figure: Any = bars.get_figure()
    beside = offset_copy(bars.transData, figure, x=3, units="points")
    style: Any = {"transform": beside, "va": "center", "fontsize": 7}
    counts = [bars.text(0, row, "", **style) for row in range(len(sample.rows))]
    bars.set_xlim(min(0, 1.1 * sums.min()), max(1, sums.max()) * (1.12 + 0.06 * len(f"{sums.max():.0f}")))
    bars.set_xlabel("Spikes so far")
    bars.locator_params(axis="x", integer=True, nbins=4)
    _name_rows(panels, [sample.names[c] for c in sample.rows], place, len(sample.names))
    true = sample.said("True class", sample.names[sample.label])
    times.set_title(true, loc="left", color=POSITIVE, fontweight="bold")
    clock = times.set_title("", loc="right", color=_DIM)
    answer = bars.set_title("", loc="left", fontweight="bold")
    return _Scene(sample, past, now, clock, answer, [*zip(drawn, counts, strict=True)])


def _past(axes: "Axes", train: np.ndarray, place: int) -> list[tuple[Any, np.ndarray]]:
    own = np.zeros_like(train)
    own[:, place] = train[:, place]
    parts = ((train - own, _DIM), (own, POSITIVE))
    lines = [line for part, colour in parts for line in draw_spikes(axes, part, 7, colour)]
    return [*zip(lines, (sign * part > 0 for part, _ in parts for sign in (1, -1)), strict=True)]


def _name_rows(panels: Sequence["Axes"], names: list[str], place: int, num_classes: int) -> None:
    times, bars = panels
    bar_rows(bars, names)
    bar_rows(times, names)
    bars.tick_params(axis="y", labelleft=False)
    bars.spines["left"].set(visible=True, color="0.8")
    times.get_yticklabels()[place].set(color=POSITIVE, fontweight="bold")
    if len(names) < num_classes:
        times.set_ylabel(f"{len(names)} of {num_classes} classes")


def _frames(figure: "Figure", scene: _Scene) -> list["Image"]:
    """A picture per step. What stands still is drawn once; the moving parts are drawn over a copy of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    last = len(scene.sample.train) - 1
    figure.set_dpi(STYLE["savefig.dpi"])
    canvas, palette, frames = FigureCanvasAgg(figure), _palette(), []
    scene.show(last)
    canvas.draw()  # finds every place, with the longest numbers there
    figure.set_layout_engine("none")
    for artist in scene.moving():
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for step in np.unique(np.linspace(0, last, min(last + 1, FRAMES)).round().astype(int)):
        canvas.restore_region(still)
        scene.show(int(step))
        for artist in scene.moving():
            figure.draw_artist(artist)
        frame = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        frames.append(frame.quantize(palette=palette, dither=Image.Dither.NONE))
    for artist in scene.moving():
        artist.set_animated(False)
    return frames


def _write_gif(path: Path, frames: list["Image"]) -> None:
    """About four seconds, and a rest at the end. All frames have one palette, so that only what changes is stored."""
    each = min(max(4000 // len(frames), 20), 200) // 10 * 10  # GIF counts hundredths of a second
    durations = [each] * (len(frames) - 1) + [each + 1500]
    with whole_file(path) as temporary:
        frames[0].save(temporary, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _palette() -> "Image":
    """Every colour of the scene exactly, and shades from each to both backgrounds for the smooth edges."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    inks = [to_rgb(colour) for colour in (INK, POSITIVE, NEGATIVE, NEUTRAL, _DIM, _FUTURE)]
    ramps = [_shades(np.array(ink), np.array(to_rgb(ground))) for ground in ("white", _TINT) for ink in inks]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.round(255 * np.concatenate(ramps)).astype(np.uint8).tobytes())
    return palette


def _shades(ink: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Wide apart, because pillow finds the nearest colour only roughly and would take a near-white for white."""
    return np.linspace(ink, ground, 2 + int(8 * np.abs(ground - ink).max()))
