"""Models on the Hugging Face hub: fetched by OWNER/NAME, and pushed in one commit."""

from __future__ import annotations

import logging
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from rsretrieval import __version__
from rsretrieval.models.card import CARD
from rsretrieval.models.exported import CONFIG, WEIGHTS, PretrainedError
from rsretrieval.models.onnx_encoder import is_graphs
from rsretrieval.models.recipe import RECIPE
from rsretrieval.models.weights import DEFINITION
from rsretrieval.models.written_card import is_own
from rsretrieval.redaction import HIDDEN, redacted

log = logging.getLogger(__name__)
PUSHED = (CONFIG, WEIGHTS, RECIPE, "towers/*", CARD)
"""Files of an exported model, as patterns; others in its folder stay where they are."""
REPLACED = (CONFIG, WEIGHTS, RECIPE, "towers/*", DEFINITION)
"""Files on the hub that go where the pushed model has none of that name."""


class HubError(RuntimeError):
    """What the hub did not do, and what to do about it."""


class Pushed(NamedTuple):
    """Where a model is now.

    Attributes:
        url: of its page.
        commit: its revision, 40 hexadecimal digits.
    """

    url: str
    commit: str


def push_folder(folder: Path, repository: str, *, private: bool = False, message: str | None = None) -> Pushed:
    """Put a model that was exported on the hub, as one commit: it is there whole, or as it was before.

    A repository that is new stays empty where the commit fails. A card on the hub that a person wrote or edited is not
    replaced by one that was written from a run.

    Args:
        folder: of the model; of its files those by :data:`PUSHED`.
        repository: ``OWNER/NAME``; made where it is not there.
        private: whether nobody else sees it.
        message: of the commit; None for the package's name and version.

    Raises:
        HubError: saying what to do: no or another token, no right, no connection, or a repository that is public
            already and was to be private.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path for name, path in files.items() if any(fnmatch(name, pattern) for pattern in PUSHED)}
    api = HfApi(library_name="rsretrieval", library_version=__version__)
    try:
        url = str(api.create_repo(repository, private=private, exist_ok=True))
        info = api.repo_info(repository)
        if private and not info.private:
            raise HubError(
                f"'{repository}' is there and public: make it private in its settings, or push without private"
            )
        there = api.list_repo_files(repository, revision=info.sha)
        if (
            CARD in there
            and CARD in files
            and is_own(files[CARD])
            and not is_own(Path(api.hf_hub_download(repository, CARD)))
        ):
            log.info("the card of '%s' was written or edited by a person, and is kept", repository)
            del files[CARD]
        gone = [name for name in there if name not in files and any(fnmatch(name, pattern) for pattern in REPLACED)]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationDelete(name) for name in gone),
            *(CommitOperationAdd(name, path) for name, path in files.items()),
        ]
        commit = api.create_commit(
            repository,
            operations,
            commit_message=message or f"A model by rsretrieval {__version__}",
            parent_commit=info.sha,
        )
    except HubError:
        raise
    except Exception as error:  # whatever keeps the hub from it; its own text may hold secrets
        raise HubError(f"'{repository}' cannot be pushed: {_advice(error, repository)} ({_said(error)})") from None
    return Pushed(url, commit.oid)


def fetch(name: str, patterns: list[str]) -> Path:
    """The folder of files of a model on the hub, fetched where they are not in its cache.

    Args:
        name: ``OWNER/NAME``, or ``OWNER/NAME@REVISION`` for a branch, tag or commit other than the newest of ``main``.
        patterns: of the files beside the weights.

    Raises:
        PretrainedError: if there is none, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        wanted = [*patterns, "*.safetensors"]
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
        if is_graphs(folder):
            wanted += ["*.onnx"]
        elif not any(folder.rglob("*.safetensors")):
            wanted = [*patterns, "*.bin", "*.pt", "*.pth"]
        else:
            return folder
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
    except Exception as error:
        raise PretrainedError(
            f"the hub's model '{name}' cannot be fetched ({_said(error)}): check the name or the connection, or give a "
            "folder"
        ) from None


def _advice(error: Exception, repository: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    owner = repository.partition("/")[0]
    known = {
        401: "no token was given, or one that the hub does not know: run `hf auth login`, or set HF_TOKEN to a token "
        "that may write",
        403: f"your token may not write to what belongs to '{owner}': give a name of your own, or another token",
        404: "there is no such repository, or your token may not see it",
    }
    if isinstance(error, ValueError) and status is None:
        return "give its name as OWNER/NAME, and a folder of a model whose card is valid"
    if status is None:
        return "the hub cannot be reached: check the connection, HF_ENDPOINT and HF_HUB_OFFLINE"
    return known.get(status, f"the hub answered {status}: try again later")


def _said(error: Exception) -> str:
    """What went wrong in one line, without secrets."""
    from huggingface_hub import get_token

    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    token = get_token()
    return redacted(text.replace(token, HIDDEN) if token else text)
