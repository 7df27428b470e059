"""Draw README.md's figure from the committed records: python tools/readme_figure.py."""

from pathlib import Path

from dfa_lib import figures, style, sweep

if __name__ == "__main__":
    style.use()
    panels = {network: [f"{network} {rule}" for rule in ("BP", "FA", "DFA")] for network in ("7x240", "2x800")}
    figure = figures.error_curves(sweep.load("bp-fa-dfa"), panels)
    figure.savefig(Path(__file__).parents[1] / "_static" / "bp_fa_dfa.svg", metadata={"Date": None})
