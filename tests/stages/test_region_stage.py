"""The stage that makes regions, on photographs of scikit-image."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from skimage import data

from pipeline.datasets.manifest import Record, write_classes, write_manifest
from pipeline.io.regions import RegionShard
from pipeline.refinement.region_votes import pixels_of
from pipeline.stages.make_regions import make_regions
from tests.helpers.region_masks import masks_of

SUPERPIXELS = {"kind": "felzenszwalb", "scales": [100.0], "sigma": 0.8, "min_size": 20}


@pytest.fixture
def photographs(tmp_path):
    """Write three photographs, and return the arguments of the stage."""
    records = []
    for name in ("chelsea", "coffee", "rocket"):
        image = getattr(data, name)()[:90, :120]
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        records.append(Record(name, tmp_path / f"{name}.png", 120, 90, "train", ("cat",)))
    write_manifest(tmp_path / "manifest.csv", records)
    write_classes(tmp_path / "classes.json", ["cat"])
    return {"manifest": tmp_path / "manifest.csv", "classes": tmp_path / "classes.json",
            "split": "train", "threads": 1}  # fmt: skip


def made(photographs, path, settings, shard=0, shards=1):
    make_regions(**photographs, settings=settings, shard=shard, shards=shards, regions=path)
    return RegionShard(path)


def test_shards_hold_the_same_superpixels_as_one_file(photographs, tmp_path):
    whole = made(photographs, tmp_path / "whole.safetensors", SUPERPIXELS)
    again = made(photographs, tmp_path / "again.safetensors", SUPERPIXELS)
    parts = [made(photographs, tmp_path / f"{n}.safetensors", SUPERPIXELS, n, 2) for n in range(2)]
    names = {"chelsea": parts[0], "coffee": parts[1], "rocket": parts[0]}
    for name, part in names.items():
        found, one = whole.of_size(name, (90, 120)), part.of_size(name, (90, 120))
        assert np.array_equal(found.starts, one.starts) and np.array_equal(found.counts, one.counts)
        pixels = pixels_of(found, np.arange(len(found)))
        assert np.array_equal(np.sort(pixels), np.arange(90 * 120))
    written = (tmp_path / "whole.safetensors").read_bytes()
    assert again.of_size("coffee", (90, 120)).areas.min() >= 20
    assert written == (tmp_path / "again.safetensors").read_bytes()


def test_the_masks_of_the_user_are_stored_as_they_are(photographs, tmp_path):
    masks = {name: getattr(data, name)()[:90, :120, 0] > 100 for name in ("chelsea", "coffee")}
    masks["rocket"] = np.ones((90, 120), bool)
    (tmp_path / "sam").mkdir()
    for name, mask in masks.items():
        encoded = coco.encode(np.asfortranarray(mask, np.uint8))
        segmentation = {"size": [90, 120], "counts": encoded["counts"].decode()}
        text = json.dumps([{"segmentation": segmentation}])
        (tmp_path / f"sam/{name}.json").write_text(text, encoding="utf-8")
    settings = {"kind": "folder", "folder": str(tmp_path / "sam")}
    shard = made(photographs, tmp_path / "0.safetensors", settings)
    for name, mask in masks.items():
        (found,) = masks_of(shard.of_size(name, (90, 120)))
        assert np.array_equal(found, mask)
