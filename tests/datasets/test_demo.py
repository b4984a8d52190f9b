import hashlib
from collections import Counter

import numpy as np
import pytest

from pipeline.datasets.demo import CLASSES, draw_scene, generate_demo
from pipeline.io.arrays import read_label
from pipeline.io.images import read_rgb

SCENES = [draw_scene(0, index, 96) for index in range(60)]


def test_demo_images_are_equal_on_every_machine():
    digest = hashlib.sha256()
    for index in range(6):
        scene = draw_scene(7, index, 64)
        digest.update(scene.image.tobytes() + scene.label.tobytes())
    assert digest.hexdigest()[:16] == "dc1e5e2b7cb3d107"


def test_an_image_depends_only_on_seed_and_index():
    again = draw_scene(0, 3, 96)
    assert np.array_equal(again.image, SCENES[3].image)
    assert not np.array_equal(draw_scene(1, 3, 96).image, again.image)
    assert not np.array_equal(SCENES[4].image, again.image)


def test_labels_name_exactly_what_the_mask_shows():
    for scene in SCENES:
        shown = [CLASSES[value - 1] for value in np.unique(scene.label) if value]
        assert list(scene.labels) == shown
        assert scene.image.shape == (96, 96, 3) and scene.label.shape == (96, 96)


def test_objects_are_large_and_every_class_occurs():
    areas = [(scene.label > 0).mean() for scene in SCENES]
    assert min(areas) > 0.05 and max(areas) < 0.45
    counts = Counter(name for scene in SCENES for name in scene.labels)
    assert set(counts) == set(CLASSES)
    assert {len(scene.labels) for scene in SCENES} == {1, 2, 3}


def test_bodies_are_shared_and_caps_are_not():
    from pipeline.datasets.demo import CAPS, LOOKS

    assert len(set(CAPS)) == len(CLASSES)
    assert all(count >= 2 for count in Counter(LOOKS).values())


@pytest.mark.parametrize("size", [32, 200])
def test_other_sizes_are_drawn(size):
    scene = draw_scene(0, 0, size)
    assert scene.image.shape == (size, size, 3)
    assert scene.labels


def test_the_folder_is_in_voc_layout(tmp_path):
    generate_demo(tmp_path, train=3, val=2, size=48, seed=0)
    ids = (tmp_path / "ImageSets/Segmentation/train.txt").read_text(encoding="utf-8").split()
    assert ids == ["train_00000", "train_00001", "train_00002"]
    scene = draw_scene(0, 1, 48)
    assert np.array_equal(read_rgb(tmp_path / f"JPEGImages/{ids[1]}.png"), scene.image)
    assert np.array_equal(read_label(tmp_path / f"SegmentationClass/{ids[1]}.png"), scene.label)
    rows = (tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "image,labels"
    assert rows[2] == f"{ids[1]},{';'.join(scene.labels)}"
    assert len(rows) == 6


def test_more_images_do_not_change_the_first_ones(tmp_path):
    generate_demo(tmp_path / "few", train=1, val=1, size=32, seed=0)
    generate_demo(tmp_path / "more", train=2, val=2, size=32, seed=0)
    for name in ("train_00000", "val_00000"):
        few, more = (tmp_path / kind / f"JPEGImages/{name}.png" for kind in ("few", "more"))
        assert few.read_bytes() == more.read_bytes()
