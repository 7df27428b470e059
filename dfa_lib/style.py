"""One style for every figure of the book: white, vector, sized for the text column, and one colour and marker per method.

Colours are Okabe and Ito's, which colour-blind readers can tell apart (their yellow, too faint for a line on white, is
replaced); markers say the same again without colour.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

import matplotlib as mpl

from .errors import unknown

BLACK, GREY, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, WINE = (
    "#000000", "#8A8A8A", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#882255",
)  # fmt: skip

TEXT_WIDTH = 7.0  #: width of the text column, in inches: a figure of this width is printed at its own size


@dataclass(frozen=True, slots=True)
class Style:
    """How one method looks in every figure. `label` is its name in a legend."""

    color: str
    marker: str
    label: str


#: By rule name, as in `graph.RULES`. The three sign-concordant rules are one family: one colour, three markers;
#: switching has it, too, since DFA's blue and BP's black are always beside it.
METHODS: dict[str, Style] = {
    "bp": Style(BLACK, "o", "BP"),
    "fa": Style(ORANGE, "s", "FA"),
    "dfa": Style(BLUE, "^", "DFA"),
    "ifa": Style(PURPLE, "D", "IFA"),
    "fp": Style(SKY, "v", "FP"),
    "bdfa": Style(VERMILION, "P", "BDFA"),
    "switching": Style(GREEN, "p", "switching"),
    "drtp": Style(WINE, "X", "DRTP"),
    "usf": Style(GREEN, "<", "uSF"),
    "frsf": Style(GREEN, ">", "frSF"),
    "brsf": Style(GREEN, "h", "brSF"),
    "shallow": Style(GREY, "*", "shallow"),
}


def method(name: str) -> Style:
    """The style of a rule by its name, with or without options: "dfa", "bdfa(block=25)". Raises `DfaLibError` if unknown."""
    rule = name.partition("(")[0]
    if rule not in METHODS:
        raise unknown("method", rule, METHODS)
    return METHODS[rule]


#: What `use` sets. Glyphs are drawn as paths and ids are hashed with a fixed salt, so the same figure is the same file.
PARAMETERS: dict[str, object] = {
    "figure.figsize": (TEXT_WIDTH, 3.2),
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "svg.hashsalt": "dfa-lib",
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "stix",
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.facecolor": "white",
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "axes.prop_cycle": mpl.cycler(color=[BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, WINE, BLACK]),
    "image.cmap": "cividis",
}


def use() -> None:
    """Set the book's style for this process: matplotlib's parameters, and, in a notebook, tables in which a number stays in one piece."""
    mpl.rcParams.update(PARAMETERS)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        import pandas as pd

        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, _whole_numbers)


def _whole_numbers(table) -> str:
    """A table's page, in which neither a mean with its deviation nor an interval is broken over lines."""
    return re.sub(r"[-+\d.]+ ± [\d.]+|\[[-+\d., ]+\]", lambda number: number[0].replace(" ", "\u00a0"), table._repr_html_())
