"""Samples to batches, in the loader's workers: images stacked, captions picked, words deleted, texts tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rsretrieval.data.captions import delete_words
from rsretrieval.data.table import Table
from rsretrieval.images import Pixels, image_keys, stack
from rsretrieval.types import Batch, Tokenizer, text_ids


class Sample(NamedTuple):
    """An image with some of its captions.

    Attributes:
        image: ``(H, W, 3)``, transformed.
        row: in its split.
        caption_numbers: which of the row's captions.
    """

    image: Pixels
    row: int
    caption_numbers: Sequence[int]


@dataclass(frozen=True)
class Collate:
    """Makes a :class:`Batch` of samples.

    Attributes:
        table: the split's text side.
        word_deletion: probability of each word; None to leave captions whole, and draw nothing.
        tokenizer: of the texts as they are in the batch; None leaves ``Batch.tokens`` empty. It is sent to the loader's
            workers, so it must be picklable, and should not hold a model.
        image_keys: whether to give each image its key, so that equal ones can be told.
    """

    table: Table
    word_deletion: float | None = None
    tokenizer: Tokenizer | None = None
    image_keys: bool = False

    def __call__(self, samples: Sequence[Sample], skipped: Sequence[str] = (), buffer: Tensor | None = None) -> Batch:
        """The batch of ``N`` samples with ``M`` captions in all.

        Args:
            samples: at least one.
            skipped: names of rows that belong here and cannot be read.
            buffer: ``(N, H, W, 3)`` uint8 to write the images to; None for new memory.
        """
        table = self.table
        pairs = [(sample.row, number) for sample in samples for number in sample.caption_numbers]
        of_samples = [(table.captions[sample.row], sample.caption_numbers) for sample in samples]
        captions = [of_row[number] for of_row, numbers in of_samples for number in numbers]
        texts = captions
        if self.word_deletion is not None:
            texts = [delete_words(caption, self.word_deletion) for caption in captions]
        return Batch(
            images=stack([sample.image for sample in samples], buffer),
            image_ids=torch.tensor([sample.row for sample in samples]),
            texts=texts,
            text_ids=text_ids(captions),
            owners=torch.tensor([row for row, _ in pairs], dtype=torch.int64),
            scenes=torch.tensor([table.scenes[row] for row, _ in pairs], dtype=torch.int64),
            caption_values=torch.tensor([table.values[row][number] for row, number in pairs]),
            tokens=dict(self.tokenizer(texts)) if self.tokenizer is not None and texts else {},
            skipped=list(skipped),
            image_keys=image_keys(sample.image for sample in samples) if self.image_keys else None,
        )
