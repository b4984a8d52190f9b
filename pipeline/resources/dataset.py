"""Numbers of a data set that the cost of its jobs depends on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.datasets.demo import CLASSES
from pipeline.datasets.manifest import Record, read_manifest
from pipeline.datasets.paths import in_dataset
from pipeline.datasets.voc import read_list
from pipeline.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """Numbers of a data set.

    Attributes
    ----------
    counts : mapping of str to int
        Number of images by split.
    size, largest : (int, int)
        Mean height and width, and those of the largest image.
    labels : float
        Mean number of image-level labels of a train image.
    most_labels : int
        Largest number of image-level labels of an image.
    classes : int
        Number of classes without the background.
    others : int
        Number of images that is assumed of every other split.
    """

    counts: Mapping[str, int] = field(hash=False)
    size: tuple[int, int]
    labels: float
    largest: tuple[int, int] = (500, 500)
    most_labels: int = 6
    classes: int = 20
    others: int = 0

    def images(self, split: str) -> int:
        """Return the number of images of a split."""
        return self.counts.get(split, self.others)


#: VOC 2012 with and without SBD.
VOC_AUG = Dataset({"train": 10_582, "val": 1_449}, size=(385, 470), labels=1.5)
VOC = replace(VOC_AUG, counts={"train": 1_464, "val": 1_449})
#: Upper bounds for jobs that are planned before their manifest is made.
ASSUMED = Dataset({}, size=VOC.largest, labels=VOC.most_labels, others=12_000)


def read_dataset(manifest: Path, classes: Path) -> Dataset | None:
    """Return the numbers of a manifest; None if it is not made yet.

    Raises
    ------
    UserError
        If a file is damaged.
    """
    if not (manifest.is_file() and classes.is_file()):
        return None
    return _read(manifest, classes, manifest.stat().st_mtime_ns)


def known_dataset(config: Mapping[str, Any], manifest: Path, classes: Path) -> Dataset:
    """Return the numbers of the manifest, or else those that the configuration implies.

    Parameters
    ----------
    config : mapping
        A resolved configuration.
    manifest, classes : Path
        Files of the data set. They need not exist.

    Raises
    ------
    UserError
        If the configuration does not imply the number of images.
    """
    dataset = config["dataset"]
    if found := read_dataset(manifest, classes):
        return found
    if dataset["kind"] == "demo":
        size = (dataset["size"], dataset["size"])
        counts = {"train": dataset["train"], "val": dataset["val"]}
        return Dataset(counts, size, labels=1.5, largest=size, classes=len(CLASSES))
    if dataset["kind"] == "voc":
        root = dataset["root"] or ""
        lists = {split: in_dataset(root, dataset[f"{split}_list"]) for split in ("train", "val")}
        if not root and not all(path.is_file() for path in lists.values()):
            return VOC_AUG if dataset["train_list"].endswith("train_aug.txt") else VOC
        return replace(VOC, counts={split: len(read_list(path)) for split, path in lists.items()})
    raise UserError(
        "how many images there are is not known yet: run `snakemake --cores all prepare_dataset` "
        "with the same configuration, and then this again"
    )


def assumed_dataset(files: Any) -> Dataset:
    """Return the numbers of the input files of a job, or upper bounds without a usable manifest.

    Parameters
    ----------
    files : object
        Input of a Snakemake job. The attributes ``manifest`` and ``classes`` are read if it has
        them. A damaged file is left to the job, which reports it.
    """
    manifest, classes = (getattr(files, name, None) for name in ("manifest", "classes"))
    if not (manifest and classes):
        return ASSUMED
    try:
        return read_dataset(Path(manifest), Path(classes)) or ASSUMED
    except UserError:
        return ASSUMED


@cache
def _read(manifest: Path, classes: Path, _written: int) -> Dataset:
    data = read_manifest(manifest, classes)
    records = data.records
    largest = max(records, key=lambda record: record.width * record.height, default=None)
    return Dataset(
        counts=Counter(record.split for record in records),
        size=_mean_size(records),
        labels=_mean_labels(data.of_split("train") or records),
        largest=(largest.height, largest.width) if largest else (1, 1),
        most_labels=max((len(record.labels) for record in records), default=0),
        classes=len(data.classes),
    )


def _mean_size(records: Sequence[Record]) -> tuple[int, int]:
    if not records:
        return 1, 1
    return (
        round(fmean(record.height for record in records)),
        round(fmean(record.width for record in records)),
    )


def _mean_labels(records: Sequence[Record]) -> float:
    return fmean(len(record.labels) for record in records) if records else 0.0
