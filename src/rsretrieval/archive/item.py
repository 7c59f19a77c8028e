"""A STAC item beside the embeddings, with the extension for embeddings (prefix ``emb``).

https://github.com/geo-embeddings/embeddings-stac-specification, as far as it was known in 2026.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rsretrieval.embeddings.file import NAME
from rsretrieval.files import write_text

EXTENSION = "https://geo-embeddings.github.io/embeddings-stac-specification/v1.0.0/schema.json"
ITEM = "item.json"


def write_item(folder: Path, about: dict[str, Any]) -> None:
    """Write ``item.json``: STAC 1.1; without a place its geometry is null.

    Where no row has a date, the item's is that of its writing, and ``description`` says so.
    """
    dates = [when for when in pq.read_table(folder / NAME, columns=["datetime"])["datetime"].to_pylist() if when]
    geo = json.loads((pq.read_schema(folder / NAME).metadata or {}).get(b"geo", b"{}"))
    bbox = geo["columns"]["geometry"]["bbox"] if geo else None
    properties: dict[str, Any] = {
        "emb:type": about["type"],
        "emb:dimensions": about["dimensions"],
        "data_type": about["data_type"],
        "emb:chip_layout": about["chip_layout"],
    }
    if about["data_type"] == "int8":
        properties["emb:quantization"] = {"method": "each vector by its largest number to 127; normalise to length 1"}
    properties |= _when(dates)
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [EXTENSION],
        "id": folder.resolve().name,
        "geometry": None if bbox is None else _box(*bbox),
        **({} if bbox is None else {"bbox": bbox}),
        "properties": properties,
        "links": [
            {"rel": "emb:model", "href": about["model"]["name"], "title": f"digest {about['model']['digest']}"},
            {"rel": "emb:source-data", "href": about["root"], "title": "the folder that sources are relative to"},
        ],
        "assets": {
            "embeddings": {
                "href": f"./{NAME}",
                "type": "application/vnd.apache.parquet",
                "roles": ["data", "embeddings"],
                "title": "embeddings of pictures and tiles",
            }
        },
    }
    write_text(folder / ITEM, json.dumps(item, indent=2) + "\n")


def _when(dates: list[datetime]) -> dict[str, Any]:
    if not dates:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"datetime": now, "description": "datetime is when this was written: no image has a date"}
    first, last = (when.isoformat().replace("+00:00", "Z") for when in (min(dates), max(dates)))
    return {"datetime": None, "start_datetime": first, "end_datetime": last}


def _box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
