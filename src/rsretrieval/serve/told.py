"""What the files of an archive's rows say of them beside their pixels: captions and scenes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rsretrieval.archive.inputs import HUB
from rsretrieval.archive.tables import NAMES
from rsretrieval.data.datasets.base import Columns, DataError, Record
from rsretrieval.data.datasets.values import Place, record
from rsretrieval.data.scenes import stated_scenes

log = logging.getLogger(__name__)
MEMBER = "::"
"""Between a table and the name of an image in it."""


class Told(NamedTuple):
    """What is said of a source.

    Attributes:
        captions: as they are written; none where nothing says any.
        scene: class, from a table's column or the file's name; None where nothing says one.
    """

    captions: tuple[str, ...] = ()
    scene: str | None = None


def told(sources: Iterable[str], root: Path) -> dict[str, Told]:
    """What is said of sources: by the text columns of parquet tables, else by names such as ``airport_12.jpg``.

    Args:
        sources: of rows.
        root: that they are relative to.
    """
    tables: dict[str, Mapping[str, Record]] = {}
    said = {}
    for source in sources:
        table, _, name = source.partition(MEMBER)
        if name and table.endswith(".parquet") and not table.startswith(HUB) and table not in tables:
            tables[table] = _records(root / table)
        of_table = tables.get(table, {}).get(name)
        own = of_table or Record(name or source, ())
        said[source] = Told(own.captions, stated_scenes([own])[0])
    return said


def _records(file: Path) -> dict[str, Record]:
    """Name of an image to what the rows of its name say; none where the table cannot be read or says nothing."""
    try:
        schema = pq.read_schema(file)
        columns = {field: name for field, name in Columns().text(schema.names).items() if name in schema.names}
        columns.pop("values", None)
        naming = [name for name in NAMES if name in schema.names and pa.types.is_string(schema.field(name).type)]
        if not naming or not columns:
            return {}
        columns["filename"] = naming[0]
        rows = pq.read_table(file, columns=sorted(set(columns.values()))).to_pylist()
        place = [Place(f"'{file}'", number, columns) for number in range(len(rows))]
        found: dict[str, Record] = {}
        for number, row in enumerate(rows):
            one = record({field: row[column] for field, column in columns.items()}, number, place[number])
            earlier = found.get(one.filename, one)
            captions = earlier.captions if earlier is one else earlier.captions + one.captions
            found[one.filename] = Record(one.filename, captions, earlier.scene or one.scene)
        return found
    except (pa.ArrowException, OSError, DataError, ValueError) as error:
        log.warning("captions and scenes of '%s' are left out, since they cannot be read: %s", file, error)
        return {}
