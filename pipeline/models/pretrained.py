"""Pretrained weights of timm's networks from the Hugging Face hub, verified, as local files."""

import errno
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    is_offline_mode,
    set_client_factory,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils._http import default_client_factory
from torch import nn

from pipeline.errors import UserError
from pipeline.io.files import locked, replacing, sha256_of
from pipeline.models.backbone import create_backbone, load_backbone

logger = logging.getLogger(__name__)

#: Default file name of weights on the hub, if timm has no other.
FILE = "model.safetensors"
_SHA256 = re.compile("[0-9a-f]{64}")
#: What the library makes names of files and folders of, without looking at it.
_NAMING = (
    "ETag",
    constants.HUGGINGFACE_HEADER_X_LINKED_ETAG,
    constants.HUGGINGFACE_HEADER_X_REPO_COMMIT,
)
_NAME = re.compile(r"(?!\.)[\w.+=:~-]{1,200}", re.ASCII)


def fetch_pretrained(backbone: str, path: Path) -> None:
    """Write the pretrained weights of a backbone to a path.

    The weights come from the cache of huggingface_hub, which downloads missing files and follows
    the variables ``HF_HOME``, ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE``. The SHA-256 of the file is
    compared with that of the hub, also if the file was cached, and the weights are loaded into the
    backbone as a test. The file is a copy, not a hard link: changes to a result must not change
    the cache, which other projects of the user share.

    Parameters
    ----------
    backbone : str
        A timm model name, with the tag of its weights (``"resnet50.a1_in1k"``), or without a tag
        for timm's default (``"resnet50"``).
    path : Path
        The safetensors file to write. It has timm's names, as :func:`load_backbone` expects.

    Raises
    ------
    UserError
        If timm does not know the name or has no weights of it; if the weights are not a safetensors
        file, since a pickle is never loaded; if the download fails; if the file differs from the
        hub's; or if the weights do not fit the backbone.
    OSError
        If a disk is full.
    """
    # The network is created first, so that invalid names are reported before the download.
    network = create_backbone(backbone)
    repository, file = _location(backbone)
    cached, etag = _download(backbone, repository, file)
    _verify(backbone, cached, etag)
    _check_fit(network, backbone, cached)
    with locked(path), replacing(path) as partial:
        shutil.copyfile(cached, partial)
    commit = cached.parent.name
    logger.info("%s: %s of %s, commit %s, SHA-256 %s", backbone, file, repository, commit, etag)


def _location(backbone: str) -> tuple[str, str]:
    """Return the repository of a timm model on the hub, and the name of its file."""
    settings: Any = timm.get_pretrained_cfg(backbone)
    if not settings or not settings.has_weights:
        raise UserError(
            f"backbone {backbone}: timm has no pretrained weights of it: set `pretrained: false`, "
            f"or {_own_file(backbone)}"
        )
    if not settings.hf_hub_id:
        raise _refused_pickle(backbone, f"its weights are {settings.url}")
    file = settings.hf_hub_filename or FILE
    if not file.endswith(".safetensors"):
        raise _refused_pickle(backbone, f"its weights are {file} of {settings.hf_hub_id}")
    return settings.hf_hub_id, file


def _download(backbone: str, repository: str, file: str) -> tuple[Path, str]:
    """Download a file of the hub to the local cache, and return its path and unverified ETag."""
    what = f"backbone {backbone}: {file} of {repository}"
    set_client_factory(_careful_client)
    try:
        cached = Path(hf_hub_download(repository, file))
        return cached, _etag(cached, repository, file)
    except UserError:
        raise
    except LocalEntryNotFoundError as error:
        if is_offline_mode():
            raise UserError(
                f"{what} is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set: "
                f"unset it, or fetch {constants.ENDPOINT}/{repository}/resolve/main/{file} on "
                f"another machine and {_own_file(backbone)}"
            ) from error
        raise UserError(
            f"{what}: no answer from {constants.ENDPOINT} ({_reason(error.__cause__ or error)}): "
            "run again on a machine with a network, set HF_ENDPOINT to a mirror, or "
            f"{_own_file(backbone)}"
        ) from error
    except EntryNotFoundError as error:
        raise _refused_pickle(backbone, f"{repository} has no {file}") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{what}: {constants.ENDPOINT} has no such repository, or you have no access to it: "
            f"set HF_TOKEN if it is not public, or {_own_file(backbone)}"
        ) from error
    except Exception as error:
        # The class of a connection error depends on the transport of the library.
        if os.strerror(errno.ENOSPC) in str(error):
            text = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, text, constants.HF_HUB_CACHE) from error
        raise UserError(
            f"{what} cannot be downloaded ({_reason(error)}): run again, or {_own_file(backbone)}"
        ) from error


def _careful_client() -> Any:
    """Make the library's client refuse an answer whose headers would lead out of the cache.

    It checks every answer, and not one in front of the download: a hostile server may give the
    library another.
    """
    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {**hooks, "response": [*hooks["response"], _check_names]}
    return client


def _check_names(response: Any) -> None:
    # Only of these answers does the library take names; storage has ETags with any characters.
    if response.request.method != "HEAD":
        return
    for header in _NAMING:
        value = response.headers.get(header)
        if value is not None and not _NAME.fullmatch(value.removeprefix("W/").strip('"')):
            raise UserError(
                f"{response.request.url.host}: its answer has {header} {value[:80]!r}, expected "
                "letters and digits, since a cache file is named after it: set HF_ENDPOINT to "
                "a server that you trust"
            )


def _reason(error: BaseException) -> str:
    """Return the class and the first line of an error."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _etag(cached: Path, repository: str, file: str) -> str:
    """Return the ETag of a cached file."""
    # The cache names a file by its ETag and links to it, if the file system supports links.
    if cached.is_symlink():
        return cached.readlink().name
    url = hf_hub_url(repository, file, revision=cached.parent.name)
    return get_hf_file_metadata(url).etag or ""


def _verify(backbone: str, cached: Path, etag: str) -> None:
    """Check the SHA-256 of a file against its ETag, and remove a damaged file from the cache."""
    if not _SHA256.fullmatch(etag):
        raise UserError(
            f"{cached}: its ETag is {etag!r}, expected a SHA-256 to verify it by: set HF_ENDPOINT "
            f"to a server that provides one, or {_own_file(backbone)}"
        )
    digest = sha256_of(cached)
    if digest != etag:
        cached.resolve().unlink()
        raise UserError(
            f"{cached}: its SHA-256 is {digest}, expected {etag}: damaged in transit or on disk, "
            "and removed: run again to download it again"
        )


def _check_fit(network: nn.Module, backbone: str, cached: Path) -> None:
    """Check that the weights fit the network."""
    try:
        load_backbone(network, cached)
    except UserError as error:
        raise UserError(f"{error}: {_convert(backbone)}") from error


def _refused_pickle(backbone: str, found: str) -> UserError:
    """Return the error for weights that are not a safetensors file."""
    return UserError(
        f"backbone {backbone}: {found}, expected a safetensors file, since loading a pickle runs "
        f"its code: {_convert(backbone)}"
    )


def _convert(backbone: str) -> str:
    """Return the advice to convert the weights with timm, which loads pickles."""
    return (
        "if you trust it, run `import timm, safetensors.torch as s; s.save_file(timm.create_model("
        f"'{backbone}', pretrained=True).state_dict(), 'FILE.safetensors')` in Python, and "
        f"{_own_file(backbone)}"
    )


def _own_file(backbone: str) -> str:
    """Return the advice to configure a local file."""
    return f"set your own file with `weights: {{{backbone}: FILE.safetensors}}`"
