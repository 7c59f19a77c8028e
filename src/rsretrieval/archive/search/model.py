"""The model that an archive's rows were embedded by, and that its queries must be embedded by."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsretrieval.archive.search.query import Query, Vectors
from rsretrieval.archive.search.scoring import bank_of
from rsretrieval.embeddings import ArchiveError

if TYPE_CHECKING:
    from rsretrieval.retriever import Retriever


class ArchiveModel:
    """A model that is loaded once it is needed, and then is looked at whether it is the archive's.

    Args:
        folder: of the archive.
        about: what the archive says of itself.
        model: a retriever, or the name of one; None for the name that the archive has.
        options: of :meth:`rsretrieval.Retriever.from_pretrained`.

    Raises:
        ArchiveError: if a retriever is given that is another model than the archive's.
    """

    def __init__(
        self, folder: Path, about: dict[str, Any], model: str | Retriever | None, options: dict[str, Any]
    ) -> None:
        self.folder, self.about, self._options = folder, about, options
        self._banks: dict[str, Vectors | None] = {}
        self._name = model if isinstance(model, str) else None
        if model is not None and not isinstance(model, str):
            self.retriever = self._checked(model)

    @cached_property
    def retriever(self) -> Retriever:
        """The model.

        Raises:
            ArchiveError: if it is not the archive's.
            PretrainedError: if there is none of that name.
        """
        from rsretrieval.retriever import Retriever

        return self._checked(Retriever.from_pretrained(self._place(), **self._options))

    def _place(self) -> str:
        """The model's name or path: one that is given is looked for here first, the archive's own from its folder."""
        name = self._name or self.about["model"]["name"]
        if not name:
            raise ArchiveError(
                f"the archive '{self.folder}' does not know the name of its model: give it by --model (in Python "
                "Archive.open(path, model))"
            )
        path = Path(name).expanduser()
        is_here = self._name is not None and path.exists()
        return str(self.folder / path) if not is_here and (self.folder / path).exists() else name

    def _checked(self, retriever: Retriever) -> Retriever:
        own = self.about["model"]
        if retriever.digest != own["digest"]:
            raise ArchiveError(
                f"the archive '{self.folder}' is of the model '{own['name']}' (digest {own['digest']}), and queries "
                f"would be embedded by another (digest {retriever.digest}): name the archive's by --model (in Python "
                "Archive.open(path, model)), or embed the archive again by this one"
            )
        return retriever

    def bank(self, query: Query, *, is_needed: bool) -> Vectors | None:
        """Other queries of a query's kind ``(Q, d)``; None where there are none.

        Raises:
            ArchiveError: if they are needed, saying why there are none.
        """
        kind = query.kind
        if kind not in self._banks:
            self._banks[kind] = bank_of(self.retriever, kind) if kind in ("texts", "images") else None
        bank = self._banks[kind]
        if bank is None and is_needed:
            reasons = {
                "both": "a picture and a sentence are composed, and no bank is of such queries: search by one of them",
                "vector": "a vector does not say whether it is a picture's or a sentence's",
            }
            missing = f"the model's bank of queries has no {kind}: give it one by `rsretrieval bank`"
            raise ArchiveError(f"--min_z cannot be answered: {reasons.get(kind, missing)}")
        return bank
