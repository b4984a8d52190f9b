"""Assembly of the PASCAL VOC 2012 devkit, with SBD's masks, from the published archives."""

import gzip
import logging
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from pipeline.datasets.sbd import MaskConversion
from pipeline.errors import UserError
from pipeline.io.files import locked, replacing
from pipeline.runtime.parallel import map_images
from pipeline.runtime.progress import progress

logger = logging.getLogger(__name__)

#: Folders of the data inside the archives.
VOC_ROOT, SBD_ROOT = Path("VOCdevkit/VOC2012"), Path("benchmark_RELEASE/dataset")
VOC_FILES = re.compile(
    rf"{VOC_ROOT}/(JPEGImages/[\w-]+\.jpg|Annotations/[\w-]+\.xml|SegmentationClass/[\w-]+\.png"
    r"|ImageSets/Segmentation/(train|val|trainval)\.txt)",
    re.ASCII,
)
SBD_FILES = re.compile(rf"{SBD_ROOT}/(cls/[\w-]+\.mat|(train|val)\.txt)", re.ASCII)
LISTS = Path("ImageSets/Segmentation")
#: Number of images of train_aug in the published archives.
TRAIN_AUG = 10582
#: Block size of file systems in bytes.
BLOCK = 4096


def assemble_devkit(voc: Path, sbd: Path | None, folder: Path, *, workers: int = 1) -> None:
    """Create a VOC 2012 devkit folder; it appears complete or not at all.

    The folder has ``JPEGImages``, ``Annotations``, ``SegmentationClass`` and the segmentation
    lists. With SBD it also has ``train_aug.txt`` (images of SBD and of VOC's train split that
    are not in VOC's val split) and ``SegmentationClassAug`` (masks of train_aug and val: VOC's
    mask if there is one, otherwise SBD's).

    Parameters
    ----------
    voc : Path
        ``VOCtrainval_11-May-2012.tar``.
    sbd : Path or None
        ``benchmark.tgz``.
    folder : Path
        Output: the folder ``VOCdevkit/VOC2012``.
    workers : int
        Number of processes that convert masks.

    Raises
    ------
    UserError
        If the folder is not empty, the disk has too little free space, an archive is damaged,
        incomplete or has paths outside itself, or a mask of SBD does not fit its image.
    OSError
        If the disk becomes full.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: it has files, expected no such folder: delete it")
    with locked(folder), _beside(folder) as stage:
        if folder.exists() and any(folder.iterdir()):
            logger.info("%s was made by another process", folder)
            return
        _unpack(voc, VOC_FILES, stage)
        devkit = stage / VOC_ROOT
        train, val = (_read_ids(voc, devkit / LISTS / f"{split}.txt") for split in ("train", "val"))
        _check_images(voc, devkit, [*train, *val])
        _check_present(voc, [devkit / "SegmentationClass" / f"{name}.png" for name in train + val])
        if sbd is not None:
            _unpack(sbd, SBD_FILES, stage)
            _augment(voc, sbd, stage, train, val, workers)
        devkit.replace(folder)


def train_aug(sbd: Iterable[str], train: Iterable[str], val: Iterable[str]) -> list[str]:
    """Return the sorted ids of SBD and VOC's train split that are not in VOC's val split."""
    return sorted({*sbd, *train} - set(val))


def _augment(
    voc: Path, sbd: Path, stage: Path, train: Sequence[str], val: Sequence[str], workers: int
) -> None:
    """Add the list and the masks of train_aug."""
    devkit, source = stage / VOC_ROOT, stage / SBD_ROOT
    listed = [i for part in ("train", "val") for i in _read_ids(sbd, source / f"{part}.txt")]
    ids = train_aug(listed, train, val)
    further = sorted(set(ids) - set(train))
    _check_images(voc, devkit, further)
    _check_present(sbd, [source / "cls" / f"{image_id}.mat" for image_id in further])
    labels = devkit / "SegmentationClassAug"
    labels.mkdir()
    for image_id in (*train, *val):
        shutil.copyfile(devkit / f"SegmentationClass/{image_id}.png", labels / f"{image_id}.png")
    work = MaskConversion(sbd, source / "cls", devkit / "JPEGImages", labels)
    for _ in map_images(work, further, workers=workers, what="masks of SBD"):
        pass
    with replacing(devkit / LISTS / "train_aug.txt") as partial:
        partial.write_text("".join(f"{image_id}\n" for image_id in ids), encoding="utf-8")
    logger.info("train_aug: %d images, %d of them with a mask of SBD", len(ids), len(further))
    if len(ids) != TRAIN_AUG:
        logger.warning("train_aug has %d images, expected %d as published", len(ids), TRAIN_AUG)


def _read_ids(archive: Path, path: Path) -> list[str]:
    """Read a list of image ids and check that they are valid file names."""
    _check_present(archive, [path])
    ids = list(dict.fromkeys(path.read_text(encoding="utf-8", errors="replace").split()))
    for image_id in ids:
        if not re.fullmatch(r"[\w-]+", image_id, re.ASCII):
            raise UserError(
                f"{archive}: its list {path.name} has the id {image_id!r}, expected letters, "
                "digits, _ and -: get the archive from its authors"
            )
    return ids


def _check_images(archive: Path, devkit: Path, ids: Iterable[str]) -> None:
    parts = (("JPEGImages", ".jpg"), ("Annotations", ".xml"))
    _check_present(archive, [devkit / part / f"{i}{suffix}" for i in ids for part, suffix in parts])


def _check_present(archive: Path, paths: Sequence[Path]) -> None:
    # An archive that was cut off between two entries can be read without an error.
    missing = [path for path in paths if not path.is_file()]
    if missing:
        name = "/".join(missing[0].parts[-2:])
        raise UserError(
            f"{archive}: {len(missing)} of {len(paths)} files are missing, first {name}: it is "
            "incomplete or not the published archive: delete it and run again"
        )


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder on the same disk as another folder."""
    stage = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)  # left by a killed job
    stage.mkdir(parents=True)
    try:
        yield stage
    except OSError as error:
        if error.filename is None:  # errors of writing have no path
            error.filename = str(folder)
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _unpack(archive: Path, wanted: re.Pattern[str], folder: Path) -> None:
    """Extract only the files of an archive whose full name matches."""
    if not hasattr(tarfile, "data_filter"):
        raise UserError(
            "this Python's tarfile has no filter for extraction, expected Python 3.11.4 or later"
        )
    logger.info("unpacking %s", archive)
    try:
        with tarfile.open(archive) as tar:
            for member in _members(tar, archive, wanted, folder):
                _check_member(archive, member, folder)
                if wanted.fullmatch(member.name):
                    # The filter's check of links could be bypassed (CVE-2025-4517): no links.
                    if not member.isreg():
                        raise _refused(archive, member, "not a plain file")
                    # Times may be NaN or infinite, which file systems reject: none is restored.
                    timeless = member.replace(mtime=None, deep=False)  # type: ignore[arg-type]
                    tar.extract(timeless, folder, filter="data")
    except (tarfile.ReadError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = str(error).partition(":\n")[0]  # the rest has a line for every compression
        raise UserError(
            f"{archive}: not a complete archive ({reason}): delete it and run again"
        ) from error


def _members(
    tar: tarfile.TarFile, archive: Path, wanted: re.Pattern[str], folder: Path
) -> Iterable[tarfile.TarInfo]:
    """Return the entries of an archive; lazily for compressed ones, which are slow to list."""
    if not isinstance(tar.fileobj, BufferedReader):
        return tar
    members = tar.getmembers()
    blocks = sum(-(-member.size // BLOCK) for member in members if wanted.fullmatch(member.name))
    free = shutil.disk_usage(folder).free
    if free < blocks * BLOCK:
        raise UserError(
            f"{folder.parent}: the disk has {free / 1e6:.1f} MB free, expected "
            f"{blocks * BLOCK / 1e6:.1f} MB for the files of {archive}: free some space"
        )
    return progress(members, total=len(members), what=f"unpacking {archive.name}", unit="entries")


def _check_member(archive: Path, member: tarfile.TarInfo, folder: Path) -> None:
    """Raise an error if an entry is dangerous, even if it is not extracted."""
    try:
        if member.name.startswith("/"):  # the filter would make it relative
            raise tarfile.AbsolutePathError(member)
        tarfile.data_filter(member, str(folder))
    except (tarfile.FilterError, ValueError) as error:
        raise _refused(archive, member, str(error)) from error


def _refused(archive: Path, member: tarfile.TarInfo, reason: str) -> UserError:
    return UserError(
        f"{archive}: its entry {member.name!r} is refused ({reason}), expected files and folders "
        "inside the archive: get it from its authors"
    )
