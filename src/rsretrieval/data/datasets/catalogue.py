"""The field's data sets: where they are, what they hold, how to cite them.

Each name is a ``--data.source``: by itself it is read from the hub, with ``--data.path`` from its authors' files.
"""

from __future__ import annotations

from dataclasses import dataclass

from rsretrieval.data.datasets.base import DataError


@dataclass(frozen=True)
class Dataset:
    """One data set; figures are those that its authors or the hub publish.

    Attributes:
        title: its name in papers.
        images: how many; each has five captions.
        splits: images of train, valid and test; valid is 0 where the authors leave it to the user (``--data.holdout``).
        classes: scene classes; 0 where sets of several are together.
        pixels: side of an image; 0 where it differs.
        hub: ``OWNER/NAME`` of parquet files or ``OWNER/NAME/FILE.zip`` on the hub; None where none is known.
        checked: what is known of the hub's copy. Nothing was fetched from the hub itself while this was written.
        size: of the download.
        columns: of the hub's table, or the authors' file layout.
        licence: as far as the authors state one.
        citation: of the paper to cite.
        sets: of the common archives of RET-3 (:mod:`rsretrieval.data.datasets.ret3`), which of the sets it is; none
            for all other data.
        notes: what else to know.
    """

    title: str
    images: int
    splits: tuple[int, int, int]
    classes: int
    pixels: int
    hub: str | None
    checked: str
    size: str
    columns: str
    licence: str
    citation: str
    sets: tuple[str, ...] = ()
    notes: str = ""

    def hub_path(self) -> str:
        """The hub's copy.

        Raises:
            DataError: if none is known.
        """
        if self.hub is None:
            raise DataError(
                f"no copy of {self.title} on the hub is known: get it from its authors ({self.citation}) and give its "
                f"folder, with {self.columns}, as --data.path"
            )
        return self.hub


KARPATHY = "one JSON (images[].filename, split, sentences[].raw) and the images"
UNSTATED = "none stated; research use"
RET3 = "gzqy1026/RemoteCLIP"
RET3_CHECKED = "layout by programs that read it, not fetched"
RET3_SIZE = "138 MB to test, 1.08 GB to train, one download for rsitmd, ucm and ret3"
RET3_NOTES = (
    "the hub's training part is de-duplicated against the tests of the three sets, so it has fewer images; no "
    "validation split there (--data.holdout)"
)

DATASETS: dict[str, Dataset] = {
    "rsicd": Dataset(
        "RSICD",
        10_921,
        (8_734, 1_094, 1_093),
        31,
        224,
        "arampacha/rsicd",
        "layout known",
        "526 MB",
        "filename, captions, image",
        UNSTATED,
        "Lu et al., Exploring Models and Data for Remote Sensing Image Caption Generation, IEEE TGRS 56(4), 2018",
    ),
    "rsitmd": Dataset(
        "RSITMD",
        4_743,
        (4_291, 0, 452),
        32,
        256,
        RET3,
        RET3_CHECKED,
        RET3_SIZE,
        KARPATHY,
        UNSTATED,
        "Yuan et al., Exploring a Fine-Grained Multiscale Method for Cross-Modal Remote Sensing Image Retrieval, "
        "IEEE TGRS 60, 2022",
        ("rsitmd",),
        RET3_NOTES,
    ),
    "ucm": Dataset(
        "UCM-Captions",
        2_100,
        (1_680, 210, 210),
        21,
        256,
        RET3,
        RET3_CHECKED,
        RET3_SIZE,
        KARPATHY,
        UNSTATED,
        "Qu et al., Deep Semantic Understanding of High Resolution Remote Sensing Image, CITS 2016",
        ("ucm",),
        RET3_NOTES,
    ),
    "ret3": Dataset(
        "RET-3",
        17_764,
        (16_009, 0, 1_755),
        0,
        0,
        RET3,
        RET3_CHECKED,
        RET3_SIZE,
        "csv_file/train/Ret-3_train.csv, csv_file/test/{rsicd,rsitmd,ucm}_test.csv (title, filename) and the images",
        UNSTATED,
        "Liu et al., RemoteCLIP: A Vision Language Foundation Model for Remote Sensing, IEEE TGRS 62, 2024",
        ("rsicd", "rsitmd", "ucm"),
        f"all of RSICD, RSITMD and UCM-Captions (figures before de-duplication); test is their tests together; "
        f"{RET3_NOTES}",
    ),
    "sydney": Dataset(
        "Sydney-Captions",
        613,
        (497, 58, 58),
        7,
        500,
        "isaaccorley/Sydney-Captions/Sydney_captions.zip",
        "inner layout not checked",
        "355 MB",
        KARPATHY,
        UNSTATED,
        "Qu et al., Deep Semantic Understanding of High Resolution Remote Sensing Image, CITS 2016",
    ),
    "nwpu": Dataset(
        "NWPU-Captions",
        31_500,
        (25_200, 3_150, 3_150),
        45,
        256,
        None,
        "no copy known",
        "unknown",
        "one JSON (class: [filename, split, raw, raw_1, ...]) and the images",
        UNSTATED,
        "Cheng et al., NWPU-Captions Dataset and MLCA-Net for Remote Sensing Image Captioning, IEEE TGRS 60, 2022",
    ),
}


def describe_datasets() -> str:
    """The catalogue as text: some lines for each data set that is known by name."""
    entries = []
    for name, data in DATASETS.items():
        train, valid, test = data.splits
        scenes = f" in {data.classes} scenes" if data.classes else ""
        pixels = f" of {data.pixels} px" if data.pixels else ""
        notes = f"        note: {data.notes}\n" if data.notes else ""
        entries.append(
            f"{name:7} {data.title}: {data.images} images{pixels}{scenes}; "
            f"train/valid/test {train}/{valid}/{test}\n"
            f"        hub: {data.hub or '-'} ({data.checked}; {data.size}); licence: {data.licence}\n"
            f"        layout: {data.columns}\n"
            f"{notes}        cite: {data.citation}"
        )
    return "\n".join(entries)
