"""Labeling of one shard of class maps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.datasets.manifest import Record, read_manifest
from pipeline.io.arrays import MapShard
from pipeline.io.images import read_rgb
from pipeline.io.regions import RegionShard
from pipeline.refinement.labels import Labeling, labeler_of
from pipeline.refinement.thresholds import resolved_background
from pipeline.runtime.parallel import map_images

Label = TypeVar("Label")
Summary = TypeVar("Summary")


@dataclass(frozen=True)
class Labeler(Generic[Label, Summary]):
    """The work on one image, as a picklable object.

    Attributes
    ----------
    label : callable
        Computes a label from the class maps, the (H, W, 3) image, which may be None, and the
        regions of the image if the shard is labeled with some.
    write : callable
        Writes a label to a path without extension, and returns a summary of it.
    needs_image : bool
        Whether ``label`` uses the image. Otherwise, or if the image has no class, the image is
        not read.
    """

    label: Callable[..., Label]
    write: Callable[[Path, Label], Summary]
    needs_image: bool


def refinement_labeler(
    write: Callable[[Path, Labeling], Summary],
    *,
    background: Mapping[str, Any],
    threshold: Sequence[Path],
    crf: Mapping[str, Any] | None,
    graph_cut: Mapping[str, Any] | None,
    voting: Mapping[str, Any] | None,
) -> Labeler[Labeling, Summary]:
    """Return the labeler of a refinement.

    Parameters
    ----------
    write : callable
        As in :class:`Labeler`.
    background : mapping
        Keys ``rule`` and ``value``: a number, or the name of the rule of ``threshold``.
    threshold : sequence of Path
        The file of a background threshold chosen without masks, if there is one.
    crf, graph_cut : mapping or None
        Settings of the dense CRF, or of the graph cut, which replaces threshold and CRF.
    voting : mapping or None
        Settings of the vote in regions.
    """
    label = labeler_of(resolved_background(background, threshold), crf, graph_cut, voting)
    return Labeler(label, write, needs_image=crf is not None or graph_cut is not None)


def label_shard(
    labeler: Labeler[Label, Summary],
    *,
    manifest: Path,
    classes: Path,
    maps: Path,
    labels: Path,
    threads: int,
    regions: Sequence[Path] = (),
) -> dict[str, Summary]:
    """Label all images of a shard.

    Parameters
    ----------
    labeler : Labeler
        The functions that label an image and write the label.
    manifest, classes : Path
        Files of the images and of the class names.
    maps : Path
        One shard of class maps.
    labels : Path
        Output folder.
    threads : int
        Number of processes. With several, the labeler must be picklable.
    regions : sequence of Path
        The file of the shard's regions, if the labeler uses them.

    Returns
    -------
    dict
        Results of ``labeler.write`` by image id.

    Raises
    ------
    UserError
        If the size of an image has changed since its maps or regions were computed.
    """
    shard = MapShard(maps)
    records = {record.id: record for record in read_manifest(manifest, classes).records}
    work = _Work(shard, labels, labeler, next(map(RegionShard, regions), None))
    labels.mkdir(parents=True, exist_ok=True)
    own = [records[image_id] for image_id in shard.ids]
    summaries = map_images(work, own, workers=threads, what=f"labels of {maps}")
    return dict(zip(shard.ids, summaries, strict=True))


@dataclass(frozen=True)
class _Work(Generic[Label, Summary]):
    """Labels one image of a shard and writes the label."""

    shard: MapShard
    folder: Path
    labeler: Labeler[Label, Summary]
    regions: RegionShard | None

    def __call__(self, record: Record) -> Summary:
        maps = self.shard.of_size(record.id, (record.height, record.width))
        needed = self.labeler.needs_image and len(maps.classes) > 0
        image = read_rgb(record.image, maps.size) if needed else None
        regions = [self.regions.of_size(record.id, maps.size)] if self.regions else []
        label = self.labeler.label(maps, image, *regions)
        return self.labeler.write(self.folder / record.id, label)
