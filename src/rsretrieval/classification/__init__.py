"""Zero-shot scene classification: classes by their names, images by the nearest of them, and what to show of it."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy

if TYPE_CHECKING:
    from rsretrieval.classification.report import summary, write_classification
    from rsretrieval.classification.texts import TEMPLATES, class_texts
    from rsretrieval.classification.zero_shot import Classification, classify
    from rsretrieval.metrics.confusion_picture import draw_confusion

__all__ = [
    "TEMPLATES",
    "Classification",
    "class_texts",
    "classify",
    "draw_confusion",
    "summary",
    "write_classification",
]

_PLACES = {
    "report": ["summary", "write_classification"],
    "texts": ["TEMPLATES", "class_texts"],
    "zero_shot": ["Classification", "classify"],
}
__getattr__ = lazy(
    __name__,
    {
        "draw_confusion": "rsretrieval.metrics.confusion_picture",
        **{name: f"rsretrieval.classification.{place}" for place, names in _PLACES.items() for name in names},
    },
)
