"""Figures from reports, histories and spikes: one quiet style, column width, colours that everyone can tell apart.

Every function returns a matplotlib Figure, and where ``path`` is given writes it there (png at 200 dpi, or what the
suffix says). Nothing touches pyplot, so no display is needed and nothing is left open.
"""

from spikelet.plots.animation import spike_bar_animation
from spikelet.plots.calibration import plot_calibration, teacher_of
from spikelet.plots.frames import plot_frames
from spikelet.plots.frontier import OperatingPoint, operating_points, pareto_front, plot_frontier
from spikelet.plots.rasters import raster
from spikelet.plots.recordings import event_rates, recording_animation
from spikelet.plots.reports import (
    Report,
    Reports,
    plot_accuracy,
    plot_cost,
    plot_exit,
    plot_layers,
    plot_memory,
    plot_operations,
    plot_spikes,
    plot_trade_off,
)
from spikelet.plots.style import COLOURS, COLUMN, INK, NEGATIVE, NEUTRAL, POSITIVE, STYLE, short_number
from spikelet.plots.training import firing_rates, plot_constraints, plot_histories, plot_training

__all__ = [
    "COLOURS",
    "COLUMN",
    "INK",
    "NEGATIVE",
    "NEUTRAL",
    "POSITIVE",
    "STYLE",
    "OperatingPoint",
    "Report",
    "Reports",
    "event_rates",
    "firing_rates",
    "operating_points",
    "pareto_front",
    "plot_accuracy",
    "plot_calibration",
    "plot_constraints",
    "plot_cost",
    "plot_exit",
    "plot_frames",
    "plot_frontier",
    "plot_histories",
    "plot_layers",
    "plot_memory",
    "plot_operations",
    "plot_spikes",
    "plot_trade_off",
    "plot_training",
    "raster",
    "recording_animation",
    "short_number",
    "spike_bar_animation",
    "teacher_of",
]
