"""Small archives of the structure of PASCAL VOC and SBD, and the data set made of both."""

import io
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_array

from pipeline.io.arrays import write_label

VOC = "VOCdevkit/VOC2012"
SBD = "benchmark_RELEASE/dataset"
TRAIN, VAL = ["2007_1", "2007_2"], ["2007_3", "2007_4"]
SBD_TRAIN, SBD_VAL = ["2008_1", "2007_1", "2007_3"], ["2008_2", "2007_4"]
TRAIN_AUG = ["2007_1", "2007_2", "2008_1", "2008_2"]
EVERY = sorted({*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL, "2009_9"})


def mask_of(image_id: str, seed: int):
    """Masks with dogs of VOC (seed 0, with ignored pixels) and of SBD (seed 1), each of a size."""
    rng = np.random.default_rng([seed, EVERY.index(image_id)])
    shape = (6 + EVERY.index(image_id), 8)
    values = [0, 12, 20, 255] if seed == 0 else [0, 12, 20]
    return rng.choice(np.array(values, np.uint8), shape)


def lines(ids):
    return "".join(f"{image_id}\n" for image_id in ids).encode()


def voc_files() -> dict[str, bytes]:
    """Return what the archive of VOC has, by name, in order."""
    annotation = b"<annotation><object><name>dog</name></object></annotation>"
    files = {f"{VOC}/Annotations/{image_id}.xml": annotation for image_id in EVERY}
    for part, ids in (("train", TRAIN), ("val", VAL), ("trainval", TRAIN + VAL)):
        files[f"{VOC}/ImageSets/Segmentation/{part}.txt"] = lines(ids)
        files[f"{VOC}/ImageSets/Main/{part}.txt"] = lines(ids)
    for image_id in EVERY:
        photograph, mask = io.BytesIO(), mask_of(image_id, 0)
        Image.new("RGB", mask.shape[::-1]).save(photograph, format="JPEG")
        files[f"{VOC}/JPEGImages/{image_id}.jpg"] = photograph.getvalue()
    for folder in ("SegmentationObject", "SegmentationClass"):
        for image_id in TRAIN + VAL:
            files[f"{VOC}/{folder}/{image_id}.png"] = png(mask_of(image_id, 0))
    return files


def png(mask) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_label(Path(folder, "mask.png"), mask)
        return Path(folder, "mask.png").read_bytes()


def mat(mask) -> bytes:
    """Return a file as SBD has it: a struct of boundaries by class, the mask, and its classes."""
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        edges = np.equal(mask, index + 1).reshape(len(mask), -1)
        boundaries[index, 0] = csc_array(edges.astype(float))
    present = np.unique(mask[mask > 0])[:, None].astype(np.uint8)
    file = io.BytesIO()
    struct = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": present}
    savemat(file, {"GTcls": struct}, do_compression=True)
    return file.getvalue()


def sbd_files() -> dict[str, bytes]:
    """Return what the archive of SBD has, by name, in order."""
    ids = SBD_TRAIN + SBD_VAL
    files = {f"{SBD}/cls/{image_id}.mat": mat(mask_of(image_id, 1)) for image_id in ids}
    files |= {f"{SBD}/inst/{image_id}.mat": b"instances" for image_id in ids}
    files |= {f"{SBD}/img/{image_id}.jpg": b"photograph" for image_id in ids}
    return files | {f"{SBD}/train.txt": lines(SBD_TRAIN), f"{SBD}/val.txt": lines(SBD_VAL)}


def write_archive(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    """Write files, then entries without content; gzip if the name says so."""
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in extra:
            tar.addfile(entry)
    return path


def tree(folder):
    """Return the bytes of all files of a folder, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def assert_assembled(folder, *, with_sbd=True):
    """Compare a devkit with the files that its archives were made of."""
    skipped = ("SegmentationObject", "ImageSets/Main")
    expected = {
        name.removeprefix(f"{VOC}/"): content
        for name, content in voc_files().items()
        if not name.removeprefix(f"{VOC}/").startswith(skipped)
    }
    if with_sbd:
        masks = {name: mask_of(name, 0) for name in TRAIN + VAL}
        masks |= {name: mask_of(name, 1) for name in ("2008_1", "2008_2")}
        expected |= {f"SegmentationClassAug/{name}.png": png(masks[name]) for name in masks}
        expected["ImageSets/Segmentation/train_aug.txt"] = lines(TRAIN_AUG)
    assert tree(folder) == expected
    names = {path.name for path in folder.parent.iterdir()}
    assert names <= {folder.name, "voc.tar", "sbd.tgz"}
