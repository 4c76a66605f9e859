"""Charts for reports, drawn by matplotlib without a display and without its global state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1f2933", "#8a6d3b")
"""Okabe & Ito's colours, which people with colour-blindness can tell apart."""
BAR, MARKED, MUTED, INK, FAINT = "#7fa8c9", "#0072b2", "#b6bec6", "#1f2933", "#dfe4e8"
DPI = 120


@dataclass(frozen=True)
class Bar:
    """One bar; None stands for no value. kind: "marked" (the chosen one) and "muted" (a prior) look different."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    kind: str = ""


def plot_curves(
    path: Path,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "",
    labels: tuple[str, str] = ("", ""),
    y_range: tuple[float, float] | None = None,
) -> Path:
    """Lines by name, each (x values, y values) of equal length; gaps where y is not a number.

    labels: of the x and the y axis. Returns the path of the PNG.
    """
    figure, axes = _axes((8.4, 4.2), title)
    for index, (name, (x, y)) in enumerate(curves.items()):
        marker = "o" if len(x) < 30 else ""
        style = ("-", "--", ":")[index // len(LINES) % 3]
        colour = LINES[index % len(LINES)]
        axes.plot(x, y, style, label=name, color=colour, marker=marker, markersize=3.5, linewidth=1.8)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(color=FAINT, linewidth=0.8)
    if y_range is not None:
        axes.set_ylim(*y_range)
    if curves:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return _save(figure, path)


def plot_bars(path: Path, bars: Sequence[Bar], *, title: str = "", label: str = "") -> Path:
    """Horizontal bars, first one on top, with their intervals and values; returns the path of the PNG."""
    figure, axes = _axes((8.4, 0.9 + 0.3 * max(1, len(bars))), title)
    places = np.arange(len(bars))
    values = [0.0 if bar.value is None else bar.value for bar in bars]
    colours = [{"marked": MARKED, "muted": MUTED}.get(bar.kind, BAR) for bar in bars]
    axes.barh(places, values, color=colours, height=0.68)
    reach = max([bar.high or bar.value or 0.0 for bar in bars], default=0.0) or 1.0
    for place, bar in zip(places, bars, strict=True):
        end = bar.value or 0.0
        if bar.value is not None and bar.low is not None and bar.high is not None:
            span = [[max(0.0, bar.value - bar.low)], [max(0.0, bar.high - bar.value)]]
            axes.errorbar(bar.value, place, xerr=span, color=INK, linewidth=1.2, capsize=3)
            end = max(end, bar.high)
        text = "–" if bar.value is None else f"{bar.value:.3f}"
        axes.text(end + 0.015 * reach, place, text, va="center", fontsize=9, color=INK)
    axes.set_yticks(places, [bar.name for bar in bars])
    axes.set_xlim(0, reach * 1.12)
    axes.set_xlabel(label)
    axes.set_ylim(max(1, len(bars)) - 0.5, -0.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    return _save(figure, path)


def _axes(size_inch: tuple[float, float], title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=size_inch, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=9.5, length=0)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor="white")
    return path
