"""Files of several formats: gray images, class names, the table of images, checksums."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.export.images import link_target
from pipeline.export.job import Exported, ExportItem, Target, export_each
from pipeline.io.arrays import BACKGROUND, IGNORE
from pipeline.io.files import replacing, sha256_of
from pipeline.io.tables import write_json, write_table

CHECKSUMS = "checksums.sha256"


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_gray(path: Path, values: NDArray[np.uint8]) -> None:
    """Write an (H, W) uint8 array as a gray PNG without a palette."""
    with replacing(path) as partial:
        Image.fromarray(values).save(partial, format="PNG")


def write_class_values(path: Path, classes: Sequence[str]) -> None:
    """Write the name of every label value as a JSON object, background and ignore included."""
    names = {BACKGROUND: "background"} | dict(enumerate(classes, start=1)) | {IGNORE: "ignore"}
    write_json(path, {str(value): name for value, name in names.items()})


def write_image_table(
    path: Path, items: Sequence[ExportItem], column: str, file_of: Callable[[ExportItem], str]
) -> None:
    """Write one row per image: id, split, image file, and file in the export.

    The path of the image is relative to the table's folder if both are in the working folder, so
    that a project can be moved. Otherwise it is absolute.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        (
            item.record.id, item.record.split,
            link_target(item.record.image, path.parent), file_of(item),
        )
        for item in items
    )  # fmt: skip
    write_table(path, ("id", "split", "image", column), rows)


def write_with_tables(
    write_image: Callable[..., Exported],
    items: Sequence[ExportItem],
    target: Target,
    workers: int,
    *,
    column: str,
    file_of: Callable[[ExportItem], str],
    what: str,
) -> list[Exported]:
    """Write the files of every image, and the tables ``classes.json`` and ``images.csv``.

    Parameters
    ----------
    write_image, items, target, workers, what
        See :func:`pipeline.export.job.export_each`.
    column, file_of
        See :func:`write_image_table`.
    """
    done = export_each(write_image, items, target, workers, what)
    write_class_values(target.root / "classes.json", target.classes)
    write_image_table(target.root / "images.csv", items, column, file_of)
    return done


def hard_link(source: Path, path: Path) -> None:
    """Create a hard link to a file, or a copy if the file system has no hard links."""
    with replacing(path) as partial:
        try:
            partial.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, partial)


def write_checksums(root: Path) -> None:
    """Write the SHA-256 of every file below a folder, for ``sha256sum --check``.

    Links to images are left out, because their targets are not part of the export.
    """
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and path != root / CHECKSUMS
    )
    lines = (_checksum_line(root / name, name) for name in names)
    write_text(root / CHECKSUMS, "".join(lines))


def _checksum_line(path: Path, name: str) -> str:
    # A backslash before the digest marks an escaped name.
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
    mark = "" if escaped == name else "\\"
    return f"{mark}{sha256_of(path)}  {escaped}\n"
