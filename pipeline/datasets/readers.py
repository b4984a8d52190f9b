"""Readers of the data sets' layouts."""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.datasets.cub import read_cub
from pipeline.datasets.folder import read_folder
from pipeline.datasets.source import Source
from pipeline.datasets.voc import read_voc

#: Readers by the ``kind`` of data set; each takes the section and the seed.
READERS: dict[str, Callable[[Mapping[str, Any], int], Source]] = {
    "folder": read_folder,
    "voc": lambda dataset, _seed: read_voc(dataset),
    "cub": lambda dataset, _seed: read_cub(dataset),
}


def read_dataset(dataset: Mapping[str, Any], seed: int) -> Source:
    """Read what the configuration's section ``dataset`` describes, without a look at pixels.

    Parameters
    ----------
    dataset : mapping
        The section; its ``kind`` is a key of :data:`READERS`.
    seed : int
        Seed of a split that the data set does not give.

    Raises
    ------
    UserError
        If a list or a table cannot be read at all.
    """
    return READERS[dataset["kind"]](dataset, seed)
