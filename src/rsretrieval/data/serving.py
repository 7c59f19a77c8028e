"""What a data module takes from the model that it feeds: tokens, squares and texts as that model wants them."""

from __future__ import annotations

from rsretrieval.data.table import Table
from rsretrieval.images import Square
from rsretrieval.types import Preprocessing, Tokenizer


class ServesModel:
    """For a data module; it keeps the tables of its splits in ``_tables``.

    Attributes:
        tokenizer: of the model; None leaves the tokenising to it.
    """

    tokenizer: Tokenizer | None = None
    _tables: dict[tuple[str, bool], Table]
    _preprocessing = Preprocessing()
    _as_written = False

    def serve(self, tokenizer: Tokenizer, preprocessing: Preprocessing, *, as_written: bool = False) -> None:
        """Give batches as a model takes them.

        Args:
            tokenizer: of the model, so that the loaders' workers tokenise.
            preprocessing: how a picture becomes a square; its size is the data's own.
            as_written: keep captions as they are, instead of cleaned.

        Raises:
            ValueError: for a model of more bands than RGB.
        """
        if preprocessing.channels != 3:
            raise ValueError(
                f"this model takes images of {preprocessing.channels} bands, and the data are RGB: embed such images "
                "by Retriever.encode_images, as arrays (H, W, bands)"
            )
        self.tokenizer, self._preprocessing = tokenizer, preprocessing
        if as_written != self._as_written:
            self._as_written = as_written
            self._tables.clear()

    def _square(self, size: int) -> Square:
        return Square.of(self._preprocessing, size)
