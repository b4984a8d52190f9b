"""Charts as inline SVG in the page's text color, light or dark."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.config.upper_bound import display_name
from pipeline.report.inputs import History

#: Placeholder for the page's text color; replaced when the SVG is written.
INK = "#010203"
#: Okabe and Ito's colors: distinguishable with any color vision, legible on white and black.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c")
#: Number of lines up to which the legend fits inside the chart.
MAX_INSIDE_LEGEND = 6
#: Height of the legend of a training curve, as a share of the range of the curves.
LEGEND = 0.45
#: Maximum number of characters of a class name on an axis.
MAX_NAME_LENGTH = 20

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "wsss",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.prop_cycle": cycler(linestyle=("-", "--", ":")) * cycler(color=COLORS),
}


def threshold_chart(
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    value: str,
    xlabel: str,
    ylabel: str,
    rules: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Draw a share over a threshold: one line per method, with a dot at its maximum.

    Parameters
    ----------
    curves : mapping
        Points by method, each with ``threshold`` and the value, in [0, 1].
    value : str
        Key of the points' values.
    xlabel, ylabel : str
        Titles of the axes; values are drawn in %.
    rules : mapping of str to mapping, optional
        By method, the threshold that a rule chose (key ``value``) and the share there (under
        the name given as ``value``). Drawn as a hollow dot.
    """
    rules = rules or {}
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(9 if len(curves) > MAX_INSIDE_LEGEND else 7, 3.2), layout="constrained"
        )
        axes = figure.subplots()
        for method, points in curves.items():
            thresholds = [point["threshold"] for point in points]
            values = [100 * point[value] for point in points]
            (line,) = axes.plot(thresholds, values, label=method)
            best = int(np.argmax(values))
            color = line.get_color()
            axes.plot(thresholds[best], values[best], "o", color=color)
            if method in rules:
                place = rules[method]["value"], 100 * rules[method][value]
                axes.plot(*place, "o", color=color, markerfacecolor="none", markersize=8)
        axes.set(xlabel=xlabel, ylabel=f"{ylabel} in %", xlim=(0, 1), ylim=(0, None))
        if len(curves) > MAX_INSIDE_LEGEND:
            figure.legend(loc="outside right upper", fontsize=8)
        else:
            axes.legend()
        return _svg(figure, f"{ylabel} over the {xlabel}")


def history_chart(history: History) -> str:
    """Plot losses, learning rate and validation mAP over the epochs."""
    columns = history.columns
    losses = [name for name in columns if name.startswith("loss")]
    panels = [losses, ["learning_rate"], *([["val_map"]] if "val_map" in columns else [])]
    titles = ["loss", "learning rate", "mAP of val labels"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 2.4), layout="constrained")
        grid: Sequence[Axes] = figure.subplots(1, 3, sharex=True)
        for axes, names, title in zip(grid, panels, titles, strict=False):
            for name in names:
                # Epochs without validation are left out, so that the line connects the others.
                known = np.isfinite(columns[name])
                epochs, values = np.array(columns["epoch"])[known], np.array(columns[name])[known]
                axes.plot(epochs, values, ".-", label=name)
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if len(names) > 1:
                low, high = axes.get_ylim()
                axes.set_ylim(low, high + LEGEND * (high - low))  # room for the legend
                axes.legend(fontsize=7, ncols=2, loc="upper center")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        return _svg(figure, f"training curves of {display_name(history.method)}")


def confusion_chart(confusion: Sequence[Sequence[int]], names: Sequence[str], title: str) -> str:
    """Draw a confusion matrix, each row divided by its sum.

    Parameters
    ----------
    confusion : sequence of C sequences of C int
        Pixel counts; rows are the ground truth.
    names : sequence of C str
    title : str
        Name of the scored result, for the label.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.26 * len(names)
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        mesh = axes.pcolormesh(100 * shares, cmap="viridis", vmin=0, vmax=100)
        ticks = np.arange(len(names)) + 0.5
        shown = [
            name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"
            for name in names
        ]
        axes.set_xticks(ticks, shown, rotation=90, fontsize=8)
        axes.set_yticks(ticks, shown, fontsize=8)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.set(xlabel="predicted", ylabel="true")
        figure.colorbar(mesh, ax=axes, label="% of the true class", shrink=0.8)
        return _svg(figure, f"confusion matrix of {title}")


def _svg(figure: Figure, label: str) -> str:
    """Return a figure as an SVG element whose dark strokes take the text's color."""
    buffer = StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    element = text[text.index("<svg") :].replace(INK, "currentColor")
    # Escaped: the names of methods and classes come from the user.
    named = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return element.replace("<svg", f'<svg role="img" aria-label="{named}"', 1)
