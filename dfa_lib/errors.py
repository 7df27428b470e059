"""The one error that a user's mistake raises, and the message that names the nearest right thing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DfaLibError(ValueError):
    """Bad input: the message says what was wrong, what was expected, and what to do. The command line prints it as one line."""


SHORT_LIST = 12  #: names that are worth naming beside the nearest one


def unknown(kind: str, name: object, known: Iterable[str]) -> DfaLibError:
    """The error for a name that is not among `known`, with the nearest one that is; a long list only where none is near."""
    known = sorted(known)
    folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    listed = "" if near and len(known) > SHORT_LIST else f" (known: {', '.join(known)})"
    return DfaLibError(f"unknown {kind} {name!r}{hint}{listed}")
