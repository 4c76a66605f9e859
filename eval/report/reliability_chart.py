"""Reliability diagrams of several classes, and what a report says of those without one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MatplotlibFigure

from eval.report.blocks import Block, Figure, Text
from eval.report.charts import INK, LINES, MUTED, save_chart, style_axes
from eval.report.format import listed
from eval.stats.calibration import Reliability

MIN_IN_BIN = 10
"""Cases. Bins with fewer are not shown, because their shares say little."""

FIFTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)


@dataclass(frozen=True)
class ReliabilityPanel:
    """The diagram of one class: the observed share of positives at each predicted probability, curves by name.

    detail: second line of the title.
    """

    name: str
    curves: Mapping[str, Reliability]
    detail: str = ""

    def is_empty(self) -> bool:
        """Whether no bin is shown."""
        return all((curve.count < MIN_IN_BIN).all() for curve in self.curves.values())


def reliability_block(
    run_dir: Path, title: str, panels: Sequence[ReliabilityPanel], *, of: str, note: str, others: Sequence[str] = ()
) -> Block:
    """The diagrams as ``pictures/reliability.png``, with a note that names the classes without one.

    of: what a bin counts, such as "cases". others: classes that have no panel. Without any diagram the block is a text.
    """
    shown = [panel for panel in panels if not panel.is_empty()]
    without = listed([*(panel.name for panel in panels if panel.is_empty()), *others])
    few = f"Not shown, because no bin has {MIN_IN_BIN} {of}: {without}." * bool(without)
    if not shown:
        return Text(title, few)
    plot_reliability(run_dir / "pictures" / "reliability.png", shown)
    hidden = f"Bins of fewer than {MIN_IN_BIN} {of} are not shown."
    return Figure(title, "pictures/reliability.png", " ".join(filter(None, (note, hidden, few))))


def plot_reliability(path: Path, panels: Sequence[ReliabilityPanel], *, columns: int = 4) -> Path:
    """Plot reliability diagrams side by side; returns the path of the PNG, which is blank without panels.

    A point's area grows with the share of the cases in its bin. The dashed line is perfect calibration.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, figure 1.
    """
    columns = max(1, min(columns, len(panels)))
    num_rows = max(1, -(-len(panels) // columns))
    figure = MatplotlibFigure(figsize=(max(4.2, 2.6 * columns), 2.75 * num_rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    lines: dict[str, Any] = {}
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(num_rows, columns, index + 1)
        lines |= _plot_panel(axes, panel)
    if lines:
        figure.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=3, frameon=False)
    return save_chart(figure, path)


def _plot_panel(axes: Any, panel: ReliabilityPanel) -> dict[str, Any]:
    lines = {"perfect": axes.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1.2)[0]}
    for index, (name, curve) in enumerate(panel.curves.items()):
        known = curve.count >= MIN_IN_BIN
        x, y = curve.mean_predicted[known], curve.observed_share[known]
        colour = LINES[(index + 1) % len(LINES)]
        lines[name] = axes.plot(x, y, "-", color=colour, linewidth=1.2)[0]
        share = curve.count[known] / max(1.0, float(curve.count.sum()))
        axes.scatter(x, y, s=10 + 90 * share, color=colour, alpha=0.85, linewidth=0, zorder=3)
    axes.set_title(
        "\n".join(filter(None, (panel.name, panel.detail))), loc="left", fontsize=9, color=INK, fontweight="bold"
    )
    style_axes(axes, grid="both")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", xticks=FIFTHS, yticks=FIFTHS)
    axes.set_xlabel("predicted", fontsize=8.5)
    axes.set_ylabel("observed", fontsize=8.5)
    axes.tick_params(labelsize=8)
    return lines
