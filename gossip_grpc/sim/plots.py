"""Pictures of simulations: how they look, and that the same data makes the same file.

Knows nothing of epidemics. Colours are those of Okabe and Ito, which people who see fewer colours tell apart too; each
series has a marker of its own besides. matplotlib is imported where a picture is drawn, and only its figures are used:
no window, no global state, and no setting of the user's but the library's defaults.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Any, as the names are text to the types of old versions of matplotlib, and literals to those of new ones.
_STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.xmargin": 0.06,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    # matplotlib brings the first along; letters of the second are as wide.
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "savefig.dpi": 150,
    # The same data, the same bytes: names of elements must not be random.
    "svg.hashsalt": "gossip-grpc",
    # Text as text: smaller, and it can be read aloud, searched and copied.
    "svg.fonttype": "none",
}
_WIDTH, _HEIGHT = 6.0, 3.9
_DASHES = (0, (4, 2))
_STEPS = [1, 2, 5, 10]
"""Between ticks, times a power of ten."""
_NEAR = 15
"""Pixels within which two equal notes are one."""
_FEW = 40
"""Points up to which each has a marker."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together.

    Attributes:
        label: in the legend; empty for none. Formulae may share one.
        x: where.
        y: what.
        errors: standard errors of y, or empty.
        notes: words beside the points, or empty.
        colour: which of the colours, and markers, counted from 0 and around.
        theory: whether it is a formula, drawn dashed, thin and without markers.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    errors: Sequence[float] = ()
    notes: Sequence[str] = ()
    colour: int = 0
    theory: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes with series in it.

    Attributes:
        x: what the horizontal axis is, with its unit.
        y: what the vertical one is.
        series: what is drawn.
        x_log: whether the axis is logarithmic; points at 0 and below are left out then.
        y_log: likewise.
        percent: whether y is a share, shown as a percentage.
        y_min: where the vertical axis begins, if not where the data does.
    """

    x: str
    y: str
    series: list[Series] = field(default_factory=list)
    x_log: bool = False
    y_log: bool = False
    percent: bool = False
    y_min: float | None = None


def digest(title: str, panels: Sequence[Panel]) -> str:
    """A short name of what is drawn, the same for every version of matplotlib; numbers count to six digits."""
    plain = json.loads(
        json.dumps([title, [asdict(panel) for panel in panels]], default=list), parse_float=lambda x: f"{float(x):.6g}"
    )
    return sha256(json.dumps(plain).encode()).hexdigest()[:16]


def draw(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Draws panels side by side into a file; its suffix says whether it is a .png or a .svg.

    Raises:
        OSError: the file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and only for whoever wants a picture
    from matplotlib.figure import Figure  # noqa: PLC0415

    kind = path.suffix.lower().lstrip(".")
    metadata = {"svg": {"Date": None, "Description": f"data {digest(title, panels)}"}, "png": {"Software": None}}[kind]
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(_WIDTH + (len(panels) - 1) * 3.2, _HEIGHT), layout="constrained")
        figure.suptitle(title, fontsize=10.5)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _panel(axes, panel)
        figure.savefig(path, format=kind, metadata=metadata)


def _panel(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415

    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    if panel.x_log:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(
            MaxNLocator(10, steps=_STEPS, integer=all(float(x).is_integer() for x in _all_x(panel)))
        )
    if panel.y_log:
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(8, steps=_STEPS))
    for series in panel.series:
        _series(axes, panel, series)
    _notes(axes, panel)
    if panel.y_min is not None:
        axes.set_ylim(bottom=panel.y_min)
    if panel.percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g} %"))
    _legend(axes, panel)


def _legend(axes: Axes, panel: Panel) -> None:
    """Names the series in their order; what several have in common stands there once, in grey."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [series.label for series in panel.series if series.label]
    for name in names:
        if names.count(name) > 1:
            found[name] = Line2D([], [], color="#777777", linestyle=_DASHES, linewidth=1)
    if found:
        shown = sorted(found, key=lambda name: (names.count(name) > 1, names.index(name)))
        axes.legend([found[name] for name in shown], shown, fontsize=8)


def _all_x(panel: Panel) -> list[float]:
    return [x for series in panel.series for x in series.x]


def _series(axes: Axes, panel: Panel, series: Series) -> None:
    errors = series.errors or [0.0] * len(series.x)
    points = [
        (x, y, error)
        for x, y, error in zip(series.x, series.y, errors, strict=True)
        if (x > 0 or not panel.x_log) and (y > 0 or not panel.y_log)
    ]
    if not points:
        return
    xs, ys, spread = zip(*points, strict=True)
    colour = _COLOURS[series.colour % len(_COLOURS)]
    label = series.label or None
    if series.theory:
        axes.plot(xs, ys, color=colour, linestyle=_DASHES, linewidth=1, label=label, zorder=1.5)
        return
    marker = _MARKERS[series.colour % len(_MARKERS)] if len(xs) <= _FEW else None
    if any(spread):
        # Not below the axis, where a logarithm has no place.
        low = [min(error, 0.9 * y) if panel.y_log else error for y, error in zip(ys, spread, strict=True)]
        axes.errorbar(xs, ys, yerr=[low, spread], color=colour, marker=marker, capsize=2, elinewidth=1, label=label)
    else:
        axes.plot(xs, ys, color=colour, marker=marker, label=label)


def _notes(axes: Axes, panel: Panel) -> None:
    """Writes the notes: the first series' above their points, the others' below, and the same word once in a place."""
    written: list[tuple[str, float, float]] = []
    for series in panel.series:
        for x, y, note in zip(series.x, series.y, series.notes, strict=False):
            if panel.y_log and y <= 0:
                continue
            right, up = axes.transData.transform((x, y))
            if any(note == word and abs(right - x0) + abs(up - y0) < _NEAR for word, x0, y0 in written):
                continue
            written.append((note, right, up))
            axes.annotate(
                note,
                (x, y),
                textcoords="offset points",
                xytext=(5, 3) if series.colour < 2 else (-5, -3),
                horizontalalignment="left" if series.colour < 2 else "right",
                verticalalignment="bottom" if series.colour < 2 else "top",
                fontsize=7,
                color=_COLOURS[series.colour % len(_COLOURS)],
            )
