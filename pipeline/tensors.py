"""Safetensors files with checksums of all that they hold, and those of other writers.

The metadata has one entry, since safetensors writes several in a random order, and other bytes
each time: ``description``, which is ``crc32:HEX JSON`` with the CRC-32 of the JSON, a mapping
whose key ``crc32`` has that of every tensor's type, shape and bytes. A file of another writer has
no description, or a JSON object as one.
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

from pipeline.files import MAKE_AGAIN, REPLACE, damaged, replacing

if TYPE_CHECKING:  # the label stages run without torch: importing it costs seconds a job
    from torch import Tensor

KEY = "description"
MARK = "crc32:"


class TensorFile:
    """A safetensors file whose tensors are read one by one, each verified.

    Parameters
    ----------
    path : Path
    what : str
        What it should be, for the words of an error.
    framework : {"np", "pt"}
        Of the tensors.
    foreign : bool
        Whether the file may be the user's, such as published weights: its description may be any
        text, and no job can make it again.

    Attributes
    ----------
    names : frozenset of str
    description : dict
        Empty where there is none.

    Raises
    ------
    UserError
        If the file is not whole, or its description is not what was written.
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
            self.description, self._checksums = _described(metadata, foreign=foreign)
            if self._checksums is not None and self._checksums.keys() != self.names:
                raise ValueError("its tensors are not those that were written")
        except (SafetensorError, ValueError) as error:
            raise damaged(path, what, error, self._advice) from error

    def read(self, names: Iterable[str]) -> dict[str, Any]:
        """Read some tensors.

        Raises
        ------
        UserError
            If one is absent, or not what was written.
        """
        try:
            with safe_open(self.path, framework=self._framework) as file:
                tensors = {name: file.get_tensor(name) for name in names}
            for name, tensor in tensors.items():
                if self._checksums is not None and _crc32(tensor) != self._checksums[name]:
                    raise ValueError(f"{name} is not what was written")
        except (SafetensorError, ValueError) as error:
            raise damaged(self.path, self._what, error, self._advice) from error
        return tensors


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any] | None = None
) -> None:
    """Write named arrays with a description that JSON can hold."""
    with replacing(path) as partial:
        save_file(dict(arrays), partial, metadata=_metadata(arrays, description or {}))


def write_tensors(
    path: Path, tensors: Mapping[str, "Tensor"], description: Mapping[str, Any]
) -> None:
    """Write named tensors, as :func:`write_arrays` does arrays."""
    from safetensors.torch import save_file as save_tensors

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        save_tensors(whole, partial, metadata=_metadata(whole, description))


def _metadata(tensors: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, str]:
    checksums = {name: _crc32(tensor) for name, tensor in tensors.items()}
    text = json.dumps({**description, "crc32": checksums})
    return {KEY: f"{MARK}{zlib.crc32(text.encode()):08x} {text}"}


def _described(
    metadata: Mapping[str, str], *, foreign: bool
) -> tuple[dict[str, Any], dict[str, int] | None]:
    """Read the description of a file, and the checksums of its tensors if it has some."""
    marked = [value for value in metadata.values() if value.startswith(MARK)]
    if not marked:
        return {} if foreign else _json_object(metadata.get(KEY, "{}")), None
    beginning, _, text = marked[0].partition(" ")
    if metadata.keys() != {KEY} or beginning != f"{MARK}{zlib.crc32(text.encode()):08x}":
        raise ValueError("its description is not what was written")
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
    """Compute the CRC-32 of the type, the shape and the bytes of an array or a torch tensor."""
    kind = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    return zlib.crc32(_bytes_of(tensor).data, kind) if 0 not in tensor.shape else kind


def _bytes_of(tensor: Any) -> NDArray[np.uint8]:
    if isinstance(tensor, (np.ndarray, np.generic)):
        return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
    import torch  # of one that holds a tensor, it is imported already

    # Not by way of an array: NumPy has no bfloat16.
    found: NDArray[np.uint8] = tensor.reshape(-1).view(torch.uint8).numpy()
    return found
