"""What a call of ``rsretrieval embed`` has to do, and what it has done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rsretrieval.archive.inputs import Input
from rsretrieval.archive.options import Options
from rsretrieval.archive.state import InputState, State
from rsretrieval.embeddings import ArchiveError
from rsretrieval.embeddings.file import NAME
from rsretrieval.files import write_csv


class Report(NamedTuple):
    """What an archive holds after :func:`embed`.

    Attributes:
        folder: of it.
        rows: of it.
        added: rows that were embedded by this call.
        done: inputs that were not read again.
        changed: inputs whose files had changed, and whose rows were replaced.
        vanished: inputs whose files are no longer there.
        empty: tiles of nothing but no data, of all inputs.
        skipped: pieces that could not be read, of all inputs; skipped.csv says why.
    """

    folder: Path
    rows: int
    added: int
    done: int
    changed: list[str]
    vanished: list[str]
    empty: int
    skipped: int

    def __str__(self) -> str:
        told = (
            (self.rows, f"{self.rows} rows ({self.added} new): {self.folder / NAME}"),
            (self.done, f"files done before and not read again: {self.done}"),
            (self.changed, f"files that had changed, embedded again: {len(self.changed)}, such as {self.changed[:5]}"),
            (self.vanished, f"files that are gone (vanished.csv): {len(self.vanished)}, such as {self.vanished[:5]}"),
            (self.empty, f"tiles of no data alone, left out: {self.empty}"),
            (self.skipped, f"pictures that could not be read (skipped.csv says why): {self.skipped}"),
        )
        return "\n".join(text for count, text in told if count)


class Work(NamedTuple):
    """What a call has to do.

    Attributes:
        state: what was there.
        now: every input as it is now.
        to_do: those that are not embedded yet, or not to their end.
        ids: of rows of these that are there.
    """

    state: State
    now: dict[str, InputState]
    to_do: list[tuple[Input, InputState]]
    ids: set[str]

    @classmethod
    def of(cls, state: State, inputs: Sequence[Input], options: Options) -> Work:
        """Compare what is there with what is wanted."""
        text = json.dumps(asdict(options), sort_keys=True)
        now, to_do = {}, []
        for item in inputs:
            try:
                now[item.name] = state.now(item, text)
            except OSError:  # a link to nowhere: the reason is told when it is read
                now[item.name] = InputState(item.name, -1, 0, text)
            if not state.is_done(now[item.name]):
                to_do.append((item, now[item.name]))
        ids = state.ids_of({item.name: of for item, of in to_do})
        return cls(state, now, to_do, ids)


def report(folder: Path, end: State, work: Work, added: int, gone: list[str]) -> Report:
    """Write vanished.csv; what was done.

    Raises:
        ArchiveError: if no picture could be read.
    """
    rows = 0 if end.old is None else len(end.old)
    skipped = [piece for state in end.sources.values() for piece in state.skipped]
    if rows == 0:
        reason = f"the first of {len(skipped)}: {skipped[0][0]}: {skipped[0][1]}" if skipped else "all is no data"
        raise ArchiveError(f"no picture of {len(work.now)} files could be embedded; {reason}")
    gone = [name for name in gone if name in end.sources]
    if gone:
        write_csv(folder / "vanished.csv", [("source",), *((name,) for name in gone)])
    else:
        (folder / "vanished.csv").unlink(missing_ok=True)
    changed = [name for name, now in work.now.items() if work.state.has_changed(now)]
    empty = sum(state.empty for state in end.sources.values())
    return Report(folder, rows, added, len(work.now) - len(work.to_do), changed, gone, empty, len(skipped))
