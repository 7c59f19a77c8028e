"""COCO's layout of captions: images in one list, captions in another that names their ids."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rsretrieval.data.datasets.base import DataError

log = logging.getLogger(__name__)


def with_annotations(images: list[Any], annotations: object, own: Collection[str], file: Path) -> list[Any]:
    """The images, each with the captions that name its id under ``captions``; as they are without annotations.

    Args:
        images: objects with an ``id``.
        annotations: objects with ``image_id`` and ``caption``; others are passed over.
        own: keys under which an image has captions itself, which are then taken.
        file: for messages.

    Raises:
        DataError: if two images have one id, or no caption is of any of the images.
    """
    if not isinstance(annotations, list) or any(isinstance(i, dict) and set(own) & i.keys() for i in images):
        return images
    ids = Counter(_id(image.get("id")) for image in images if isinstance(image, dict))
    captions: dict[str, list[object]] = {}
    for annotation in annotations:
        if isinstance(annotation, dict) and {"image_id", "caption"} <= annotation.keys():
            captions.setdefault(_id(annotation["image_id"]), []).append(annotation["caption"])
    twice = [identity for identity, count in ids.items() if count > 1]
    if twice and captions:
        raise DataError(
            f"'{file}' has several images of one id, such as '{twice[0]}', so that it is not told whose captions are "
            "whose: number them anew, or give each file of a merged one alone"
        )
    strangers = [identity for identity in captions if identity not in ids]
    if strangers:
        what = f"'{file}': captions of {len(strangers)} image_id, such as '{strangers[0]}', are of no image"
        if len(strangers) == len(captions):
            raise DataError(f"{what}; ids of images are such as '{next(iter(ids), None)}': write the same ones in both")
        log.warning("%s and are left out", what)
    return [
        {**image, "captions": captions.get(_id(image.get("id")), [])} if isinstance(image, dict) else image
        for image in images
    ]


def _id(value: object) -> str:
    """An id as it is compared: a whole number is one in every spelling, such as 3, 3.0 and 000003."""
    text = str(value).strip()
    return str(int(float(text))) if re.fullmatch(r"\d{1,15}(\.0+)?", text) else text
