"""Settings of the losses, checked when they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAPER_TEMPERATURE = 0.07
SIGLIP_BIAS = -10.0
FIELDS_OF_LOSSES: Mapping[str, tuple[str, ...]] = {
    "contrastive": ("temperature", "share_captions"),
    "weighted_contrastive": ("temperature", "share_captions"),
    "affiliation": ("temperature", "global_centres", "leave_one_out"),
    "scene_adaptive": ("temperature", "margin", "beta_inter", "beta_intra", "exclude_positives", "truncate_weights"),
    "sigmoid": ("temperature", "bias", "share_captions"),
    "triplet": ("triplet_margin",),
    "triplet_hardest": ("triplet_margin",),
}
"""The losses whose settings are fields of :class:`ObjectiveConfig`, which therefore take no ``options``."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the losses; the defaults are the paper's for RSICD.

    Attributes:
        temperature: start of the two temperatures, divisors of cosines; null for the own one of the pre-trained pair
            that training starts from, or else 0.07.
        bias: start of the bias that the sigmoid loss learns; null for -10 that stays, or with ``temperature: null`` for
            the pair's own, or else -10, which is learned.
        learn_temperature: False fixes them at their start. On a small data set a learned temperature falls until the
            model memorises its training pairs; a fixed one prevents that.
        least_temperature: bound that a learned temperature does not fall below (CLIP's: its scale is at most 100); a
            pair's own temperature that is lower yet (SigLIP's) is the bound itself.
        margin: similarities below it count as 0 in the scene-adaptive loss (0.95 on RSICD, 1.15 on RSITMD).
        beta_inter: growth rate per epoch of the weight of negatives of other scenes.
        beta_intra: growth rate per epoch of the weight of negatives of the same scene.
        triplet_margin: margin of the triplet losses, in cosine.
        share_captions: True counts an image that has the same caption as a positive in the contrastive losses; two
            fifths of RSICD's training captions describe several images, which are negatives of each other otherwise.
        exclude_positives: False searches the hardest negatives among the positives too, as the release does.
        truncate_weights: True truncates the scene weights to integers, as the release does.
        global_centres: False computes the affiliation centres on each device, as the release does.
        leave_one_out: True leaves a pair out of its own centre (:func:`rsretrieval.losses.affiliation_loss`).
        options: settings of other registered losses, by the loss's name.

    Raises:
        ValueError: naming the field, its value and what is allowed.

    Example:
        >>> ObjectiveConfig(temperature=0.0)
        Traceback (most recent call last):
        ValueError: temperature=0.0: give a finite number above 0
    """

    temperature: float | None = PAPER_TEMPERATURE
    bias: float | None = None
    learn_temperature: bool = True
    least_temperature: float = 0.01
    margin: float = 0.95
    beta_inter: float = -0.002
    beta_intra: float = 0.02
    triplet_margin: float = 0.2
    share_captions: bool = False
    exclude_positives: bool = True
    truncate_weights: bool = False
    global_centres: bool = True
    leave_one_out: bool = False
    options: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        start = PAPER_TEMPERATURE if self.temperature is None else self.temperature
        if not (math.isfinite(start) and start > 0):
            raise ValueError(f"temperature={start}: give a finite number above 0")
        if not 0 < self.least_temperature <= start:
            raise ValueError(
                f"least_temperature={self.least_temperature}: give a number above 0, and not above temperature={start}"
            )
        if self.bias is not None and not math.isfinite(self.bias):
            raise ValueError(f"bias={self.bias}: give a finite number, such as -10")
        self._check_rest()

    def _check_rest(self) -> None:
        for name in ("margin", "triplet_margin"):
            margin = getattr(self, name)
            if not (math.isfinite(margin) and margin >= 0):
                raise ValueError(f"{name}={margin}: give a finite number, 0 or more")
        for name in ("beta_inter", "beta_intra"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)}: give a finite number; 0 for weights that stay at 1")
        for name, settings in self.options.items():
            if not isinstance(settings, Mapping):
                raise ValueError(
                    f"options[{name!r}]={settings!r}: give the loss's settings as a mapping of names to values"
                )
            if name in FIELDS_OF_LOSSES:
                raise ValueError(
                    f"options[{name!r}]={settings!r}: this loss takes no options; its settings are the fields "
                    f"{list(FIELDS_OF_LOSSES[name])} of the objective"
                )
