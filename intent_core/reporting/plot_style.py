"""Colours, axes, fonts and PNG output of the figures.

matplotlib is imported only when drawing, and without pyplot, which keeps global state.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PointT = TypeVar("PointT")

MOST_POINTS = 2000
"""Maximum number of points of a curve; more would not be visible."""
_DOTS_PER_INCH = 150
# Common fonts with Chinese glyphs on Linux, macOS and Windows, after matplotlib's default.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti TC",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Arial Unicode MS",
)


@dataclass(frozen=True)
class Palette:
    """Colours of a figure, the same as on the page."""

    paper: str
    ink: str
    muted: str
    line: str
    accent: str
    bad: str


LIGHT = Palette("#fcfcfb", "#1b1d21", "#63676f", "#dcdcd7", "#2f5fb3", "#b3372f")
DARK = Palette("#15171a", "#e6e6e3", "#9a9ea6", "#34373d", "#86aef0", "#ee8a80")


def start_figure(width: float, height: float, palette: Palette) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor(palette.paper)
    axes = figure.subplots()
    axes.set_facecolor(palette.paper)
    axes.tick_params(colors=palette.muted, labelsize=8, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(palette.line)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=palette.muted, fontsize=8)
    return figure, axes


def add_legend(axes: Axes, palette: Palette) -> None:
    axes.legend(frameon=False, fontsize=8, labelcolor=palette.ink)


def thin(points: Sequence[PointT]) -> Sequence[PointT]:
    """Return at most `MOST_POINTS` points, evenly spaced, including the last one."""
    if len(points) <= MOST_POINTS:
        return points
    chosen = np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)
    return [points[i] for i in chosen]


def find_font(text: str) -> str | None:
    """Return the first font family that has every glyph; matplotlib would draw boxes otherwise."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    paths = {entry.name: entry.fname for entry in fontManager.ttflist}
    needed = {ord(character) for character in text}
    for family in FONTS:
        if family in paths and needed <= FT2Font(paths[family]).get_charmap().keys():
            return family
    return None


def to_png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()
