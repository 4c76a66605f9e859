"""Charts for reports, drawn by matplotlib without a display and without its global state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from eval.stats.bootstrap import Estimate

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1f2933", "#8a6d3b")
"""Okabe & Ito's colours, which people with colour-blindness can tell apart."""
BAR, MARKED, MUTED, INK, FAINT = "#7fa8c9", "#0072b2", "#b6bec6", "#1f2933", "#dfe4e8"
DIVERGING = "PuOr_r"
"""Violet below 0, white at 0, orange above: apart for people with colour-blindness too."""
DPI = 120


@dataclass(frozen=True)
class Bar:
    """One bar; None and not-a-number mean unknown. kind: "marked" (the chosen one) or "muted" (a prior)."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    kind: str = ""

    @classmethod
    def of(cls, name: str, estimate: Estimate, kind: str = "") -> "Bar":
        """A bar with its 95 % interval."""
        return cls(name, estimate.value, estimate.low, estimate.high, kind)


def plot_curves(
    path: Path,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    labels: tuple[str, str] = ("", ""),
    y_range: tuple[float, float] | None = None,
    x_ticks: Literal["any", "whole"] | Sequence[float] = "any",
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Path:
    """Plot lines by name, each (x values, y values), with gaps where y is not a number; returns the path of the PNG.

    labels: of the x and the y axis. x_ticks: "whole" for ticks at whole numbers only, or the ticks of a logarithmic
    axis. bands: the lowest and highest y values of a line, drawn as an area behind it.
    """
    figure, axes = _axes((8.4, 4.2), labels)
    for index, (name, (x, y)) in enumerate(curves.items()):
        marker = "o" if len(x) < 30 and isinstance(x_ticks, str) else ""
        style = ("-", "--", ":")[index // len(LINES) % 3]
        colour = LINES[index % len(LINES)]
        if bands and name in bands:
            axes.fill_between(x, *bands[name], color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, y, style, label=name, color=colour, marker=marker, markersize=3.5, linewidth=1.8)
    if y_range is not None:
        axes.set_ylim(*y_range)
    if x_ticks == "whole":
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    elif not isinstance(x_ticks, str):
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(x_ticks) / 1.1, max(x_ticks) * 1.1)  # also where no curve has a value
        axes.minorticks_off()
        axes.set_xticks(x_ticks, [str(Fraction(rate).limit_denominator(64)) for rate in x_ticks])
    return save_chart(figure, path, legend=axes if curves else None)


def plot_bars(path: Path, bars: Sequence[Bar], *, label: str = "") -> Path:
    """Plot horizontal bars, the first one on top, with intervals and values; returns the path of the PNG."""
    bars = [_known(bar) for bar in bars]
    figure, axes = _axes((8.4, 0.9 + 0.3 * max(1, len(bars))), (label, ""), grid="x")
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
    axes.set_ylim(max(1, len(bars)) - 0.5, -0.5)
    return save_chart(figure, path)


def plot_steps(
    path: Path,
    places: Sequence[str],
    lines: Mapping[str, Sequence[Bar | None]],
    *,
    levels: Mapping[str, float] | None = None,
    labels: tuple[str, str] = ("", ""),
) -> Path:
    """Plot lines by name over evenly spaced places, with an interval at each point; returns the path of the PNG.

    lines: one point per place, None for no point. levels: dashed horizontal lines by name. labels: of the x and y axis.
    """
    figure, axes = _axes((8.4, 4.2), labels)
    for index, (name, points) in enumerate(lines.items()):
        colour, aside = LINES[index % len(LINES)], 0.06 * (index - (len(lines) - 1) / 2)
        known = [(place, _known(bar)) for place, bar in enumerate(points) if bar is not None]
        shown = [(place + aside, bar) for place, bar in known if bar.value is not None]
        x, y = [place for place, _ in shown], [bar.value for _, bar in shown]
        axes.plot(x, y, label=name, color=colour, marker="o", markersize=4.5, linewidth=1.8)
        for place, bar in shown:
            if bar.low is not None and bar.high is not None:
                axes.vlines(place, bar.low, bar.high, color=colour, linewidth=1.2)
    for index, (name, level) in enumerate((levels or {}).items(), start=len(lines)):
        axes.axhline(level, linestyle="--", linewidth=1.2, color=LINES[index % len(LINES)], label=name)
    axes.set_xticks(range(len(places)), places)
    axes.set_xlim(-0.5, max(1, len(places)) - 0.5)
    return save_chart(figure, path, legend=axes if lines or levels else None)


def _known(bar: Bar) -> Bar:
    value, low, high = (x if x is not None and np.isfinite(x) else None for x in (bar.value, bar.low, bar.high))
    return replace(bar, value=value, low=low, high=high)


@dataclass(frozen=True)
class Histograms:
    """The values of a number in two or more samples, by the names of the samples. is_marked: bold title."""

    title: str
    samples: Mapping[str, npt.NDArray[np.float64]]
    is_marked: bool = False


def plot_histograms(path: Path, panels: Sequence[Histograms], *, columns: int = 3) -> Path:
    """Plot the share of each sample by value, a panel for each number; returns the path of the PNG."""
    columns = max(1, min(columns, len(panels)))
    num_rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(max(4.2, 2.9 * columns), 2.1 * num_rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(num_rows, columns, index + 1)
        style_axes(axes, grid="y")
        edges = np.histogram_bin_edges(np.concatenate(list(panel.samples.values())), bins=20)
        for number, (name, values) in enumerate(panel.samples.items()):
            share = np.histogram(values, edges)[0] / max(1, len(values))
            axes.stairs(
                share, edges, color=LINES[number], fill=number == 0, alpha=0.35 if number == 0 else 1, label=name
            )
        axes.set_title(panel.title, loc="left", fontsize=9, color=INK, fontweight="bold" if panel.is_marked else None)
        axes.tick_params(labelsize=8)
        if index == 0:
            axes.legend(frameon=False, fontsize=8)
    return save_chart(figure, path)


def plot_heat_map(
    path: Path,
    values: npt.NDArray[np.float64],
    names: tuple[Sequence[str], Sequence[str]],
    *,
    limit: float = 1.0,
    centre: float = 0.0,
    has_diagonal: bool = True,
) -> Path:
    """Plot a matrix (R, C) with its numbers; returns the path of the PNG.

    names: of the rows and of the columns. Cells that are not a number are grey and have no text. Colours reach from
    centre - limit to centre + limit; the centre is white. has_diagonal: False leaves the diagonal white.
    """
    num_rows, num_columns = values.shape
    figure, axes = _axes((2.6 + 0.52 * max(7, num_columns), 2.2 + 0.42 * max(1, num_rows)), grid=None)
    axes.set_facecolor(FAINT)
    if values.size:
        ends = {"vmin": centre - limit, "vmax": centre + limit}
        image = axes.imshow(np.ma.masked_invalid(values), cmap=DIVERGING, aspect="auto", **ends)
        figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).ax.tick_params(labelsize=8)
    for place in range(0 if has_diagonal else min(num_rows, num_columns)):
        axes.add_patch(Rectangle((place - 0.5, place - 0.5), 1, 1, color="white", linewidth=0))
    for row, column in np.argwhere(np.isfinite(values)):
        number = float(values[row, column])
        colour = "white" if abs(number - centre) > 0.7 * limit else INK
        axes.text(column, row, f"{number:z.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(num_columns), names[1], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(num_rows), names[0])
    axes.spines[["left", "bottom"]].set_visible(False)
    return save_chart(figure, path)


def plot_histogram(
    path: Path, edges: Sequence[float], counts: Mapping[str, Sequence[int]], *, labels: tuple[str, str] = ("", "")
) -> Path:
    """Plot bars between `edges` (B + 1, rising), stacked for several groups; returns the path of the PNG.

    counts: B numbers per group. labels: of the x and the y axis. A single group has no legend.
    """
    # A bar or two do not fill the whole width.
    figure, axes = _axes((min(6.4, 2 + 0.6 * len(edges)), 3.2), labels, grid="y")
    left, widths = np.asarray(edges[:-1], dtype=np.float64), np.diff(np.asarray(edges, dtype=np.float64))
    base = np.zeros(len(left))
    for index, (name, heights) in enumerate(counts.items()):
        colour = BAR if len(counts) == 1 else LINES[index % len(LINES)]
        axes.bar(left, heights, widths * 0.94, bottom=base, align="edge", color=colour, label=name)
        base = base + np.asarray(heights, dtype=np.float64)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.05 * max(1.0, float(base.max(initial=0))))
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    return save_chart(figure, path, legend=axes if len(counts) > 1 else None)


def _axes(
    size_inch: tuple[float, float], labels: tuple[str, str] = ("", ""), *, grid: str | None = "both"
) -> tuple[Figure, Any]:
    """A figure with one set of axes. grid: lines along "both" axes, "x", "y" or none."""
    figure = Figure(figsize=size_inch, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel=labels[0], ylabel=labels[1])
    style_axes(axes, grid=grid)
    return figure, axes


def style_axes(axes: Any, *, grid: str | None) -> None:
    """The look of all charts. grid: lines along "both" axes, "x", "y" or none."""
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=9.5, length=0)
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.8)


def save_chart(figure: Figure, path: Path, *, legend: Any = None) -> Path:
    """Write the PNG and return its path. legend: axes that get one, on their right side."""
    if legend is not None:
        legend.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor="white")
    return path
