"""Readers of all kinds of data sets."""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.datasets.cub import read_cub
from pipeline.datasets.folder import read_folder
from pipeline.datasets.source import Source
from pipeline.datasets.voc import read_voc

#: Readers by ``kind`` of data set; each takes the configuration section and the seed.
READERS: dict[str, Callable[[Mapping[str, Any], int], Source]] = {
    "folder": read_folder,
    "voc": lambda dataset, _seed: read_voc(dataset),
    "cub": lambda dataset, _seed: read_cub(dataset),
}


def read_dataset(dataset: Mapping[str, Any], seed: int) -> Source:
    """Read the data set of the configuration's section ``dataset``, without decoding images.

    Parameters
    ----------
    dataset : mapping
        The section; its ``kind`` is a key of :data:`READERS`.
    seed : int
        Seed of the split, if the data set has none.

    Raises
    ------
    UserError
        If a list or a table cannot be read.
    """
    return READERS[dataset["kind"]](dataset, seed)
