"""The demo data set: generated images with exact masks.

Every object has a large body, which looks the same for several classes, and a small colored cap
that identifies its class. A plain classifier may use the cap alone; only maps that cover the
body score well. All drawing uses integers, the four basic operations and square roots, which
every machine rounds in the same way, so the images are identical everywhere.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from pipeline.io.arrays import write_label
from pipeline.io.tables import write_table
from pipeline.runtime.progress import progress

CLASSES = ("redcap", "goldcap", "greencap", "bluecap", "violetcap")
#: Color of each class's cap.
CAPS = ((214, 48, 44), (240, 196, 32), (58, 170, 66), (48, 96, 220), (160, 62, 190))
#: Body look of each class: three classes share the stripes, two the speckles.
LOOKS = ("stripes", "speckles", "stripes", "speckles", "stripes")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """One image with its ground truth.

    Attributes
    ----------
    image : (H, W, 3) uint8 array
    label : (H, W) uint8 array
        0 background, 1 to 5 the classes.
    labels : tuple of str
        Names of the classes in the image.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Pose:
    """The pose of an object: center and semi-axes in pixels, and the direction of its long axis."""

    x: float
    y: float
    long: float
    short: float
    cosine: float
    sine: float

    def coordinates(self, size: int) -> tuple[Floats, Floats]:
        """Return every pixel's coordinates along and across the body."""
        rows, columns = np.mgrid[0:size, 0:size].astype(np.float64)
        dx, dy = columns - self.x, rows - self.y
        return dx * self.cosine + dy * self.sine, dy * self.cosine - dx * self.sine


def draw_scene(seed: int, index: int, size: int) -> Scene:
    """Draw image number ``index`` of a data set.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    index : int
        Number of the image. The image does not depend on the size of the data set.
    size : int
        Height and width in pixels.

    Returns
    -------
    Scene
        A scene with one to three objects.
    """
    rng = np.random.default_rng([seed, index])
    canvas = _background(rng, size)
    label = np.zeros((size, size), np.uint8)
    for pose in _poses(rng, size, wanted=int(rng.integers(1, 4))):
        number = int(rng.integers(len(CLASSES)))
        _draw_object(rng, canvas, label, pose, number)
    grain = rng.integers(-7, 8, canvas.shape)
    image = np.clip(canvas + grain, 0, 255).astype(np.uint8)
    present = np.unique(label[label > 0])
    return Scene(image, label, tuple(CLASSES[number - 1] for number in present))


def generate_demo(out: Path, *, train: int, val: int, size: int, seed: int) -> None:
    """Write a data set in the layout of the VOC devkit.

    Parameters
    ----------
    out : Path
        Folder to fill with ``JPEGImages``, ``SegmentationClass``, ``ImageSets`` and
        ``labels.csv``. Images are PNG, which all decoders read alike.
    train, val : int
        Number of images of each split.
    size : int
        Height and width in pixels.
    seed : int
        Seed of the data set.
    """
    rows = []
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for split, count, first in (("train", train, 0), ("val", val, 1_000_000)):
        ids = [f"{split}_{number:05d}" for number in range(count)]
        for number, name in enumerate(progress(ids, total=count, what=f"images of {split}")):
            scene = draw_scene(seed, first + number, size)
            Image.fromarray(scene.image).save(out / "JPEGImages" / f"{name}.png")
            write_label(out / "SegmentationClass" / f"{name}.png", scene.label)
            rows.append((name, ";".join(scene.labels)))
        (out / f"ImageSets/Segmentation/{split}.txt").write_text(
            "".join(f"{i}\n" for i in ids), encoding="utf-8"
        )
    write_table(out / "labels.csv", ("image", "labels"), rows)


def _background(rng: Generator, size: int) -> Floats:
    """Draw a background: two muted colors blended by coarse and fine noise, with pebbles."""
    dark = rng.integers(40, 110, 3).astype(np.float64)
    light = dark + rng.integers(25, 80, 3)
    light[1] += 25  # a green tint: no body is green
    coarse, fine = _noise(rng, size, 3), _noise(rng, size, 12)
    blend = (0.7 * coarse + 0.3 * fine)[..., None]
    canvas: Floats = dark * (1 - blend) + light * blend
    for _ in range(int(rng.integers(4, 12))):
        pose = _pose(rng, size, float(rng.uniform(0.02, 0.07)) * size)
        along, across = pose.coordinates(size)
        inside = _within(along, across, pose.long, pose.short)
        canvas[inside] = canvas[inside] * 0.5 + 0.5 * rng.integers(60, 170)
    return canvas


def _poses(rng: Generator, size: int, wanted: int) -> list[_Pose]:
    """Choose poses of objects that do not overlap; the first attempt always succeeds."""
    poses: list[_Pose] = []
    scale = (0.30, 0.23, 0.19)[wanted - 1]
    for _ in range(60):
        if len(poses) == wanted:
            break
        pose = _pose(rng, size, scale * size * float(rng.uniform(0.85, 1.2)))
        apart = [
            (pose.x - p.x) ** 2 + (pose.y - p.y) ** 2 > (pose.long + p.long) ** 2 for p in poses
        ]
        if all(apart):
            poses.append(pose)
    return poses


def _pose(rng: Generator, size: int, long: float) -> _Pose:
    # A rational point on the circle: sine and cosine differ in the last bit between machines.
    t = float(rng.uniform(-1, 1))
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    if rng.integers(2):
        cosine, sine = -cosine, -sine
    x, y = (float(v) for v in rng.uniform(min(long, size / 2), max(size - long, size / 2), 2))
    return _Pose(x, y, long, long * float(rng.uniform(0.6, 0.85)), cosine, sine)


def _draw_object(
    rng: Generator, canvas: Floats, label: NDArray[np.uint8], pose: _Pose, number: int
) -> None:
    size = len(label)
    along, across = pose.coordinates(size)
    wobble = (_noise(rng, size, 6) - 0.5) * 0.25
    body = _within(along, across, pose.long, pose.short, wobble)
    look = _stripes if LOOKS[number] == "stripes" else _speckles
    shade = 1.1 - 0.3 * (across / pose.short + 1) / 2
    canvas[body] = (look(rng, along, pose, size) * shade[..., None])[body]
    radius = 0.36 * pose.short
    dx = along - 0.86 * pose.long
    cap = _within(dx, across, radius, radius)
    button = _within(dx, across, 0.4 * radius, 0.4 * radius)
    canvas[cap] = np.array(CAPS[number]) * float(rng.uniform(0.85, 1.1))
    canvas[button] = 235.0
    label[body | cap] = number + 1


def _stripes(rng: Generator, along: Floats, pose: _Pose, size: int) -> Floats:
    """Draw brown and cream bands across the body."""
    width = pose.long * float(rng.uniform(0.18, 0.28))
    phase = float(rng.uniform(0, 2))
    bands = np.floor(along / width + phase) % 2
    brown, cream = rng.integers((120, 70, 40), (160, 100, 65)), rng.integers(185, 225, 3)
    mixed: Floats = np.where(bands[..., None] == 1, brown, cream - np.array((0, 15, 45)))
    return mixed + 12 * (_noise(rng, size, 16) - 0.5)[..., None]


def _speckles(rng: Generator, along: Floats, pose: _Pose, size: int) -> Floats:
    """Draw pale dots on slate."""
    del along, pose
    slate, pale = rng.integers((60, 75, 105), (90, 105, 145)), rng.integers(170, 215, 3)
    dots = _noise(rng, size, 24) > 0.62
    mixed: Floats = np.where(dots[..., None], pale, slate).astype(np.float64)
    return mixed + 12 * (_noise(rng, size, 16) - 0.5)[..., None]


def _within(
    along: Floats, across: Floats, long: float, short: float, wobble: Floats | float = 0.0
) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (along / long) ** 2 + (across / short) ** 2 < 1 + wobble
    return inside


def _noise(rng: Generator, size: int, cells: int) -> Floats:
    """Compute value noise in [0, 1): bilinear interpolation of random values on a coarse grid."""
    grid = rng.random((cells + 2, cells + 2))
    place = np.arange(size) * (cells / size)
    low = np.floor(place).astype(np.int64)
    part = place - low
    rows = grid[low] * (1 - part)[:, None] + grid[low + 1] * part[:, None]
    mixed: Floats = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return mixed
