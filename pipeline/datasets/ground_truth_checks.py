"""Checks of the mask and the boxes of one image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.datasets.contradictions import MaskContents
from pipeline.datasets.findings import Finding, listed
from pipeline.datasets.manifest import Box, Record
from pipeline.datasets.masks import unknown_values
from pipeline.datasets.orientation import SIDEWAYS, UPRIGHT, exif_orientation
from pipeline.datasets.source import Candidate, Source
from pipeline.errors import UserError
from pipeline.io.arrays import BACKGROUND, IGNORE, read_label
from pipeline.io.images import MAX_PIXELS


@dataclass(frozen=True)
class GroundTruthCheck:
    """Result of the checks of one image's mask and boxes.

    Attributes
    ----------
    problems : tuple of str
        One line per problem.
    mask : MaskContents or None
        Contents of the mask; None if there is no mask, or it does not fit the image.
    boxes : tuple of Box
        Valid boxes.
    unusable_boxes : tuple of str
        One line per box that is left out.
    ambiguous_orientation : int or None
        EXIF orientation of the image, if the size of the mask does not show whether the mask was
        rotated too.
    """

    problems: tuple[str, ...] = ()
    mask: MaskContents | None = None
    boxes: tuple[Box, ...] = ()
    unusable_boxes: tuple[str, ...] = ()
    ambiguous_orientation: int | None = None


def check_mask_and_boxes(
    candidate: Candidate, record: Record, source: Source, max_pixels: int = MAX_PIXELS
) -> GroundTruthCheck:
    """Decode the mask of an image, and compare mask and boxes with the image's size and labels.

    A mask has at most ``max_pixels`` pixels, like an image.
    """
    outside = tuple(_outside(candidate, record.width, record.height))
    strict = source.unusable_boxes is None
    problems = outside if strict else ()
    boxes = candidate.boxes if not outside else ()
    unusable_boxes = () if strict else outside
    if candidate.mask is None:
        return GroundTruthCheck(problems, None, boxes, unusable_boxes)
    try:
        stored = _stored_values(candidate, record, max_pixels)
    except UserError as error:
        return GroundTruthCheck((*problems, str(error)), None, boxes, unusable_boxes)
    classes, problem = _classes_of(stored, source)
    if problem:
        problems = (*problems, f"{candidate.mask}: {problem}")
    mask = MaskContents(record, stored, classes)
    return GroundTruthCheck(problems, mask, boxes, unusable_boxes, _doubtful_orientation(record))


def orientation_findings(checks: Sequence[GroundTruthCheck]) -> Iterator[Finding]:
    """Yield a finding about masks of images with an EXIF rotation."""
    rotated = [item for item in checks if item.mask and item.ambiguous_orientation]
    if rotated:
        names = (
            f"{item.mask.record.id} (orientation {item.ambiguous_orientation})"
            for item in rotated
            if item.mask
        )
        yield Finding(
            "masks of images with an EXIF rotation",
            f"{len(rotated)} with a size that fits both orientations, such as {listed(names)}",
            "Masks must match the upright image",
            "Compare a mask with its image, and set `exif: ignore` in the configuration's dataset "
            "if the masks match the pixels as stored",
        )


def _stored_values(candidate: Candidate, record: Record, max_pixels: int) -> frozenset[int]:
    assert candidate.mask is not None  # noqa: S101 - for the type checker
    width, height = record.width, record.height
    mask = read_label(candidate.mask, max_pixels)
    if mask.shape != (height, width):
        got = f"{mask.shape[1]}x{mask.shape[0]}"
        raise UserError(
            f"{candidate.mask}: mask is {got}, expected {width}x{height} as {candidate.image}"
            f"{_reason(mask.shape, candidate, record)}"
        )
    return frozenset(np.unique(mask).tolist())


def _reason(shape: Sequence[int], candidate: Candidate, record: Record) -> str:
    """Return the explanation if the EXIF orientation is why a mask has another size."""
    if tuple(shape) != (record.width, record.height):
        return ""
    if exif_orientation(candidate.image) not in SIDEWAYS:
        return ""
    if record.image == candidate.image:
        return (
            ", which has an EXIF rotation: the mask matches the pixels as stored: rotate the "
            "mask, or set `exif: ignore` in the configuration's dataset if all masks match them"
        )
    return (
        " without its EXIF rotation, because of `exif: ignore`: the mask matches the upright "
        "image: rotate the mask, or set `exif: apply` if all masks are upright"
    )


def _doubtful_orientation(record: Record) -> int | None:
    """Return the EXIF orientation if the size of a mask does not show it, otherwise None."""
    orientation = exif_orientation(record.image)
    decided = orientation in SIDEWAYS and record.width != record.height
    return None if decided or orientation == UPRIGHT else orientation


def _classes_of(stored: frozenset[int], source: Source) -> tuple[frozenset[str] | None, str]:
    """Return the classes of stored values, or None and the reason why a value has no class."""
    number = len(source.classes)
    if source.mask_values is not None:
        unknown = sorted(stored - source.mask_values.keys())
        if unknown:
            return None, unknown_values(unknown, source.mask_values)
        values = {source.mask_values[value] for value in stored}
    else:
        values = set(stored)
        beyond = sorted(value for value in values - {IGNORE} if value > number)
        if beyond:
            return None, f"mask has the values {beyond}, expected 0 to {number} and 255"
    return frozenset(source.classes[v - 1] for v in values - {BACKGROUND, IGNORE}), ""


def _outside(candidate: Candidate, width: int, height: int) -> Iterator[str]:
    # Boxes that extend slightly beyond the image are common and harmless.
    for box in candidate.boxes:
        if not (box.left < width and box.right > 0 and box.top < height and box.bottom > 0):
            edges = f"{box.left}, {box.top}, {box.right}, {box.bottom}"
            yield (
                f"{candidate.image}: the box of {box.label} (left, top, right, bottom: {edges}) "
                f"is completely outside the image, expected edges in pixels of {width}x{height}"
            )
