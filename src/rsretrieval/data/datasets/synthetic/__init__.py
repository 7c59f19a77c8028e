"""Synthetic aerial scenes with captions, drawn on demand from a seed: a data set that needs no file."""

from rsretrieval.data.datasets.synthetic.scenes import SCENES, Scene, render, sample_scene
from rsretrieval.data.datasets.synthetic.source import SyntheticSource

__all__ = ["SCENES", "Scene", "SyntheticSource", "render", "sample_scene"]
