"""What a loaded model knows of itself, and giving it away."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from rsretrieval.images import Rendering
from rsretrieval.metrics import HubnessConfig
from rsretrieval.models.card import write_card
from rsretrieval.models.digest import digest_of
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.exported import write_folder
from rsretrieval.models.hub import Pushed, push_folder
from rsretrieval.models.pretrained import ModelSource
from rsretrieval.settings import plain


class Shareable:
    """A model with all that is needed to use it."""

    model: DualEncoder
    image_size: int
    max_words: int
    hubness: HubnessConfig
    rendering: Rendering
    source: ModelSource | None = None
    """What it was loaded from; None where it was made otherwise."""

    @cached_property
    def digest(self) -> str:
        """Which model it is, by its weights and preprocessing: an archive takes queries of the same alone."""
        return digest_of(self.model, self.image_size, self.max_words)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        message: str | None = None,
        int8: bool = False,
        standalone: bool = False,
        licence: str | None = None,
    ) -> Pushed:
        """Put the model on the Hugging Face hub, with a card, for ``from_pretrained`` by that name.

        The card is written from the files of the run whose checkpoint was loaded, or is the one that came with the
        folder. The token is that of ``hf auth login`` or ``HF_TOKEN``.

        Args:
            repo_id: ``OWNER/NAME``; made where it is not there.
            private: whether nobody else sees it.
            message: of the commit; None for the package's name and version.
            int8: see :func:`rsretrieval.models.export.export`.
            standalone: see :func:`rsretrieval.models.export.export`.
            licence: see :func:`rsretrieval.models.export.export`.

        Returns:
            The page and the commit.

        Raises:
            HubError: if it cannot be pushed; the message says what to do.
            ValueError: for a retriever with a scale or bands of its own, which a pushed model does not keep.
        """
        config = self.model.config
        if self.rendering != Rendering.parse(config.preprocessing.scale, config.preprocessing.bands):
            raise ValueError(
                "this retriever has a scale or bands of its own: load it without, since it is pushed without"
            )
        trained_on = self.source.trained_on if self.source else ()
        origin = self.source.origin if self.source else None
        source = ModelSource(
            config, self.image_size, self.max_words, plain(self.hubness), trained_on=trained_on, origin=origin
        )
        with TemporaryDirectory() as place:
            folder = Path(place)
            write_folder(self.model, source, folder, int8=int8, standalone=standalone)
            write_card(folder, source, name=repo_id, licence=licence)
            return push_folder(folder, repo_id, private=private, message=message)
