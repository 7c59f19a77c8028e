"""A row of the table: what is timed, against what, and the ratio of the two, measured by turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Row:
    """One ratio.

    Attributes:
        what: is timed.
        against: what a user would write instead, or what it cannot do without.
        ours: seconds (or bytes), the median of the rounds.
        reference: the same of ``against``.
        ratio: the median of the rounds' own ratios, so that a machine that slows down slows both.
        must: the bound, such as ``>= 30`` or ``<= 1.3``; empty where there is none.
        note: what a reader should know of it.
    """

    what: str
    against: str
    ours: float
    reference: float
    ratio: float
    must: str = ""
    note: str = ""
    unit: str = "s"

    @property
    def met(self) -> bool:
        """Whether the ratio keeps the bound."""
        if not self.must:
            return True
        sign, bound = self.must.split()
        return self.ratio >= float(bound) if sign == ">=" else self.ratio <= float(bound)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


def seconds(function: Callable[[], Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def timed(function: Callable[[], Any], rounds: int = 3) -> float:
    """Seconds, the median of calls after one that does not count."""
    function()
    return median(seconds(function) for _ in range(rounds))


def growth(function: Callable[[], Any]) -> int:
    """Bytes by which a call raised the most memory that this process held (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the most held becomes what is held now
    before = _most_held()
    function()
    return _most_held() - before


def _most_held() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def compare(
    what: str,
    against: str,
    ours: Callable[[], Any],
    reference: Callable[[], Any],
    *,
    must: str = "",
    rounds: int = 7,
    faster: bool = False,
    note: str = "",
) -> Row:
    """Time both by turns, after one call of each that does not count; the result is described at :class:`Row`.

    Args:
        what: is timed.
        against: what it is compared with.
        ours: called once a round.
        reference: called after it.
        must: the bound of the ratio.
        rounds: how many.
        note: of the row.
        faster: True for reference / ours (how many times faster), False for ours / reference (how many times as long).
    """
    ours(), reference()
    pairs = [(seconds(ours), seconds(reference)) for _ in range(rounds)]
    ratios = [b / a if faster else a / b for a, b in pairs]
    return Row(what, against, median(a for a, _ in pairs), median(b for _, b in pairs), median(ratios), must, note)
