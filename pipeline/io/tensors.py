"""Safetensors files with checksums of their contents.

The metadata has a single entry, ``description``, since safetensors writes several entries in
random order, which changes the bytes of the file. Its value is ``crc32:HEX JSON``, where HEX is
the CRC-32 of the JSON. The JSON is a mapping; its key ``crc32`` has the CRC-32 of each tensor's
type, shape and bytes. Files of other writers have no description, or a JSON object without
checksums.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.io.files import MAKE_AGAIN, REPLACE, damaged, replacing

if TYPE_CHECKING:  # the label stages run without torch, whose import takes seconds in each job
    from torch import Tensor

METADATA_KEY = "description"
CHECKSUM_PREFIX = "crc32:"


class TensorFile:
    """A safetensors file whose tensors are read and verified one by one.

    Parameters
    ----------
    path : Path
    what : str
        Expected kind of file, for error messages.
    framework : {"np", "pt"}
        Framework of the returned tensors.
    foreign : bool
        Whether the file may be the user's, such as published weights. Its description may then be
        any text, and no job can make it again.

    Attributes
    ----------
    names : frozenset of str
    description : dict
        The description; empty if there is none.

    Raises
    ------
    UserError
        If the file is incomplete, or its description is damaged.
    """

    def __init__(
        self, path: Path, what: str, framework: str = "np", *, foreign: bool = False
    ) -> None:
        self.path = path
        self._what = what
        self._framework = framework
        self._advice = REPLACE if foreign else MAKE_AGAIN
        try:
            with safe_open(path, framework=framework) as file:
                self.names = frozenset(file.keys())
                metadata = file.metadata() or {}
            self.description, self._checksums = _parse_description(metadata, foreign=foreign)
            if self._checksums is not None and self._checksums.keys() != self.names:
                raise ValueError("its description lists other tensors")
        except (SafetensorError, ValueError) as error:
            raise damaged(path, what, error, self._advice) from error

    def read(self, names: Iterable[str]) -> dict[str, Any]:
        """Read tensors by name.

        Raises
        ------
        UserError
            If a tensor is absent or damaged.
        """
        try:
            with safe_open(self.path, framework=self._framework) as file:
                tensors = {name: file.get_tensor(name) for name in names}
            for name, tensor in tensors.items():
                if self._checksums is not None and _crc32(tensor) != self._checksums[name]:
                    raise ValueError(f"{name} does not match its checksum")
        except (SafetensorError, ValueError) as error:
            raise damaged(self.path, self._what, error, self._advice) from error
        return tensors


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any] | None = None
) -> None:
    """Write named arrays with a description, which must be serializable as JSON."""
    with replacing(path) as partial:
        save_file(dict(arrays), partial, metadata=_metadata(arrays, description or {}))


def write_tensors(
    path: Path, tensors: Mapping[str, "Tensor"], description: Mapping[str, Any]
) -> None:
    """Write named torch tensors in the same way as :func:`write_arrays`."""
    from safetensors.torch import save_file as save_tensors

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        save_tensors(whole, partial, metadata=_metadata(whole, description))


def _metadata(tensors: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, str]:
    checksums = {name: _crc32(tensor) for name, tensor in tensors.items()}
    text = json.dumps({**description, "crc32": checksums})
    return {METADATA_KEY: f"{CHECKSUM_PREFIX}{zlib.crc32(text.encode()):08x} {text}"}


def _parse_description(
    metadata: Mapping[str, str], *, foreign: bool
) -> tuple[dict[str, Any], dict[str, int] | None]:
    """Return the description of a file, and the checksums of its tensors if it has them."""
    marked = [value for value in metadata.values() if value.startswith(CHECKSUM_PREFIX)]
    if not marked:
        return {} if foreign else _json_object(metadata.get(METADATA_KEY, "{}")), None
    beginning, _, text = marked[0].partition(" ")
    if (
        metadata.keys() != {METADATA_KEY}
        or beginning != f"{CHECKSUM_PREFIX}{zlib.crc32(text.encode()):08x}"
    ):
        raise ValueError("its description is damaged")
    description = _json_object(text)
    checksums = description.pop("crc32", None)
    if not isinstance(checksums, dict):
        raise ValueError("its description has no checksums of tensors")
    return description, checksums


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text
    if not isinstance(found, dict):
        raise ValueError(f"its description is {text[:40]!r}, expected a JSON object")
    return found


def _crc32(tensor: Any) -> int:
    """Compute the CRC-32 of the type, shape and bytes of an array or a torch tensor."""
    kind = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    return zlib.crc32(_bytes_of(tensor).data, kind) if 0 not in tensor.shape else kind


def _bytes_of(tensor: Any) -> NDArray[np.uint8]:
    if isinstance(tensor, (np.ndarray, np.generic)):
        return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
    import torch  # already imported if there is a tensor

    # NumPy has no bfloat16, so the view is made in torch.
    found: NDArray[np.uint8] = tensor.reshape(-1).view(torch.uint8).numpy()
    return found
