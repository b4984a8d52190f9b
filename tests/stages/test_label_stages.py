"""From maps to labels to scores, on maps whose result is known."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

from pipeline.datasets.manifest import Box, read_manifest, read_masks, write_boxes, write_masks
from pipeline.errors import UserError
from pipeline.io.arrays import ClassMaps, read_label, write_label, write_maps
from pipeline.io.regions import regions_of_partition, write_regions
from pipeline.io.tables import write_json
from pipeline.stages.evaluate import evaluate
from pipeline.stages.evaluate_boxes import evaluate_boxes
from pipeline.stages.make_labels import make_labels
from pipeline.stages.sweep_thresholds import sweep_thresholds

BACKGROUND = {"rule": "threshold", "value": 0.5}


@pytest.fixture
def maps(small_dataset, tmp_path):
    """Write two shards of maps that are 0.8 on the left half of every labeled class."""
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    paths = []
    for shard in range(2):
        items = []
        for record in data.of_shard("train", shard, 2):
            numbers = data.class_numbers(record)
            values = np.zeros((len(numbers), record.height, record.width), np.float16)
            values[:, :, : record.width // 2] = 0.8
            items.append((record.id, ClassMaps(numbers, values, (record.height, record.width))))
        paths.append(tmp_path / f"maps/{shard}.safetensors")
        write_maps(paths[-1], items)
    return paths


def labeled(
    small_dataset, maps, folder, crf=None, threads=1, graph_cut=None, regions=(), voting=None
):
    for shard, path in enumerate(maps):
        make_labels(
            manifest=small_dataset["manifest"],
            classes=small_dataset["classes"],
            maps=path,
            threshold=[],
            regions=list(regions[shard : shard + 1]),
            background=BACKGROUND,
            crf=crf,
            graph_cut=graph_cut,
            voting=voting,
            uncertain_below=None,
            labels=folder / str(shard),
            figures=folder / f"{shard}.csv",
            threads=threads,
        )
    return [folder / str(shard) for shard in range(len(maps))]


def test_every_image_of_a_shard_gets_a_label(small_dataset, maps, tmp_path):
    folders = labeled(small_dataset, maps, tmp_path / "labels")
    assert [sorted(p.name for p in f.iterdir()) for f in folders] == [
        ["0.png", "2.png"],
        ["1.png", "3.png"],
    ]
    dog = read_label(folders[1] / "1.png")
    assert dog.shape == (37, 40)
    assert np.unique(dog[:, :20]).tolist() == [2]
    assert np.unique(dog[:, 20:]).tolist() == [0]
    assert not read_label(folders[1] / "3.png").any()  # an image without labels


def test_several_processes_write_the_same_labels(processes, small_dataset, maps, tmp_path):
    crf = {"iterations": 2}
    one = labeled(small_dataset, maps, tmp_path / "one", crf)
    two = labeled(small_dataset, maps[:1], tmp_path / "two", crf, threads=2)
    for path in two[0].iterdir():
        assert path.read_bytes() == (one[0] / path.name).read_bytes()


@pytest.fixture
def regions(small_dataset, tmp_path):
    """Divide each image of two shards into its upper and its lower rows, 3 and the others."""
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    paths = []
    for shard in range(2):
        paths.append(tmp_path / f"regions/{shard}.safetensors")
        write_regions(paths[-1], [
            (one.id, regions_of_partition(np.indices((one.height, one.width))[0] // 3 > 0))
            for one in data.of_shard("train", shard, 2)
        ])  # fmt: skip
    return paths


@pytest.mark.parametrize("threads", [1, 2])
def test_labels_are_voted_on_in_regions(processes, threads, small_dataset, maps, regions, tmp_path):
    voting = {"source": "any", "rule": "overlap", "min_coverage": 0.9}
    folders = labeled(
        small_dataset, maps, tmp_path / "labels", threads=threads, regions=regions, voting=voting
    )
    # The lower rows hold more than 90 % of the class, which half of them have.
    dog = read_label(folders[1] / "1.png")
    assert np.unique(dog[3:]).tolist() == [2]
    assert np.unique(dog[:3, :20]).tolist() == [2] and np.unique(dog[:3, 20:]).tolist() == [0]
    assert not read_label(folders[1] / "3.png").any()  # an image without labels


def test_regions_of_other_images_are_refused(small_dataset, maps, regions, tmp_path):
    with pytest.raises(UserError, match=r"regions/1.safetensors: no regions of 0, expected"):
        labeled(small_dataset, maps, tmp_path, regions=regions[::-1], voting={"source": "any"})


def test_a_graph_cut_replaces_threshold_and_crf(processes, small_dataset, maps, tmp_path):
    cut = {"foreground_quantile": 0.6, "background_quantile": 0.4, "keep": "all"}
    one = labeled(small_dataset, maps, tmp_path / "one", graph_cut=cut)
    two = labeled(small_dataset, maps[:1], tmp_path / "two", threads=2, graph_cut=cut)
    cat = read_label(one[0] / "0.png")
    assert cat.shape == (36, 40) and set(np.unique(cat).tolist()) <= {0, 1}
    assert not read_label(one[1] / "3.png").any()
    for path in two[0].iterdir():
        assert path.read_bytes() == (one[0] / path.name).read_bytes()


def test_an_image_whose_size_changed_is_reported(small_dataset, maps, tmp_path):
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(data.records[0].image)
    with pytest.raises(UserError, match=r"0.png: image is \(9, 9\), expected \(36, 40\)"):
        labeled(small_dataset, maps, tmp_path / "labels", {"iterations": 1})


def scored(small_dataset, folders, tmp_path, **changes):
    arguments = {
        "manifest": small_dataset["manifest"],
        "classes": small_dataset["classes"],
        "masks": small_dataset["masks"],
        "labels": folders,
        "split": "train",
        "kind": "pseudo_labels",
        "method": "plain/cam/threshold",
        "settings": {"crf": None, "background": BACKGROUND | {"threshold_source": "by hand"}},
        "scores": tmp_path / "scores.json",
        "threshold": [],
        "corrected": [],
        "images": tmp_path / "images.csv",
        "counts": tmp_path / "images.counts.safetensors",
        "threads": 1,
    }
    evaluate(**(arguments | changes))
    rows = list(csv.DictReader((tmp_path / "images.csv").read_text(encoding="utf-8").splitlines()))
    return json.loads((tmp_path / "scores.json").read_text(encoding="utf-8")), rows


@pytest.fixture
def copies(small_dataset, tmp_path):
    """Return a folder of labels that equal the masks."""
    for name, mask in read_masks(small_dataset["masks"]).items():
        write_label(tmp_path / f"copies/{name}.png", mask.read())
    return tmp_path / "copies"


def test_labels_that_equal_the_masks_are_perfect(small_dataset, copies, tmp_path):
    scores, rows = scored(small_dataset, [copies], tmp_path)
    assert scores["miou"] == 1
    assert scores["images"] == 4
    assert scores["threshold"] == {"value": 0.5, "threshold_source": "by hand"}
    assert [row["name"] for row in scores["classes"]] == ["background", "cat", "dog"]
    assert [(row["id"], float(row["miou"])) for row in rows] == [(str(k), 1) for k in range(4)]


def test_scores_by_hand(small_dataset, copies, tmp_path):
    write_label(tmp_path / "truth.png", np.array([[0, 0, 1, 255]], np.uint8))
    write_masks(small_dataset["masks"], {"0": tmp_path / "truth.png"})
    write_label(copies / "0.png", np.array([[0, 1, 1, 1]], np.uint8))
    scores, rows = scored(small_dataset, [copies], tmp_path)
    assert scores["images"] == 1  # images without a mask are not scored
    assert scores["miou"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert scores["absent_classes"] == ["dog"]
    assert float(rows[0]["pixel_accuracy"]) == pytest.approx(2 / 3)


def test_several_processes_compute_the_same_scores(processes, small_dataset, maps, tmp_path):
    folders = labeled(small_dataset, maps, tmp_path / "labels")
    one = scored(small_dataset, folders, tmp_path)
    assert one == scored(small_dataset, folders, tmp_path, threads=2)
    masks = read_masks(small_dataset["masks"])
    found = {path.stem: read_label(path) for folder in folders for path in folder.iterdir()}
    ground_truth = np.concatenate([masks[name].read().ravel() for name in found])
    predicted = np.concatenate([label.ravel() for label in found.values()])
    expected = jaccard_score(ground_truth, predicted, average="macro")
    assert one[0]["miou"] == pytest.approx(expected)


def test_a_missing_prediction_is_an_error(small_dataset, copies, tmp_path):
    (copies / "2.png").unlink()
    with pytest.raises(UserError, match=r"1 of 4 images have no label in .*copies, first 2.png"):
        scored(small_dataset, [copies], tmp_path)


def test_a_label_of_another_size_names_both_files(small_dataset, copies, tmp_path):
    write_label(copies / "2.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match=r"copies/2.png: against .*masks/2.png: prediction is"):
        scored(small_dataset, [copies], tmp_path)


def test_no_mask_at_all_is_an_error(small_dataset, copies, tmp_path):
    write_masks(small_dataset["masks"], {})
    with pytest.raises(UserError, match="no image of this split has a mask"):
        scored(small_dataset, [copies], tmp_path)


def swept(small_dataset, maps, tmp_path, **changes):
    arguments = {
        "manifest": small_dataset["manifest"],
        "classes": small_dataset["classes"],
        "masks": small_dataset["masks"],
        "maps": maps,
        "split": "train",
        "method": "plain/cam",
        "thresholds": 9,
        "label_free": tmp_path / "thresholds.json",
        "corrected": [],
        "rule": "mean",
        "settings": {"crf": None},
        "scores": tmp_path / "sweep.json",
        "counts": tmp_path / "sweep.counts.safetensors",
        "threads": 1,
    }
    write_json(tmp_path / "thresholds.json", {"thresholds": {"mean": 0.55}})
    sweep_thresholds(**(arguments | changes))
    return json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))


def test_the_sweep_agrees_with_labels_at_its_thresholds(small_dataset, maps, tmp_path):
    sweep = swept(small_dataset, maps, tmp_path)
    assert [round(point["threshold"], 6) for point in sweep["sweep"]] == [
        0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
    ]  # fmt: skip
    labels, _ = scored(small_dataset, labeled(small_dataset, maps, tmp_path / "l"), tmp_path)
    assert sweep["sweep"][4]["miou"] == pytest.approx(labels["miou"])
    # The maps are 0.8 or 0: every threshold below 0.8 gives the same labels.
    assert len({point["miou"] for point in sweep["sweep"][:7]}) == 1
    assert sweep["miou"] == max(point["miou"] for point in sweep["sweep"])
    assert (sweep["images"], sweep["images_in_split"]) == (4, 4)


def test_the_sweep_is_of_the_images_that_have_a_mask(small_dataset, maps, tmp_path):
    kept = {"2": read_masks(small_dataset["masks"])["2"].path}
    write_masks(small_dataset["masks"], kept)
    sweep = swept(small_dataset, maps, tmp_path)
    assert (sweep["images"], sweep["images_in_split"]) == (1, 4)
    labels, rows = scored(small_dataset, labeled(small_dataset, maps, tmp_path / "l"), tmp_path)
    assert sweep["sweep"][4]["miou"] == pytest.approx(labels["miou"])
    assert [row["id"] for row in rows] == ["2"]
    assert (
        sweep["threshold"]["threshold_source"]
        == "best of 9 in a sweep against the masks of this split"
    )


def test_images_without_maps_are_an_error(small_dataset, maps, tmp_path):
    with pytest.raises(UserError, match="2 of 4 images have no maps, first 1"):
        swept(small_dataset, maps[:1], tmp_path)


def boxed(small_dataset, folders, tmp_path, boxes=None):
    known = tmp_path / "boxes.csv"
    write_boxes(known, boxes or {})
    scores = tmp_path / "boxes.json"
    evaluate_boxes(
        manifest=small_dataset["manifest"],
        classes=small_dataset["classes"],
        masks=small_dataset["masks"],
        boxes=known,
        labels=folders,
        split="train",
        method="plain/cam/threshold",
        scores=scores,
        threads=1,
    )
    return json.loads(scores.read_text(encoding="utf-8"))


def test_masks_match_their_own_boxes(small_dataset, tmp_path):
    ground_truth = read_masks(small_dataset["masks"])
    for image_id in ("0", "1", "2", "3"):
        write_label(tmp_path / f"copy/{image_id}.png", ground_truth[image_id].read())
    document = boxed(small_dataset, [tmp_path / "copy"], tmp_path)
    # Labels 1 + 1 + 2 + 0; the largest region of a label is one of the mask's own.
    assert (document["images"], document["pairs"]) == (4, 4)
    assert document["error"] == {"0.3": 0, "0.5": 0, "0.7": 0}
    assert document["images_with_known_boxes"] == 0


def test_annotated_boxes_take_precedence_over_masks(small_dataset, maps, tmp_path):
    folders = labeled(small_dataset, maps, tmp_path / "labels")
    # The label of image 0 is cat on the left 20 of 40 columns, over all 36 rows.
    half = Box("cat", 0, 0, 20, 36)
    off = Box("dog", 20, 0, 40, 37)
    boxes = {"0": [Box("cat", 30, 0, 40, 5), half], "1": [off], "3": [half]}
    document = boxed(small_dataset, folders, tmp_path, boxes)
    assert document["images_with_known_boxes"] == 3
    assert document["classes"]["cat"]["0.7"] == pytest.approx(1 / 2)  # of images 0 and 2
    assert document["classes"]["dog"]["0.3"] == 1
    assert document["pairs"] == 4


def test_an_image_without_a_label_image_is_an_error_of_boxes_too(small_dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"4 of 4 images have no label in .*empty, first 0.png"):
        boxed(small_dataset, [tmp_path / "empty"], tmp_path)


def remapped(small_dataset, tmp_path):
    """Return the same masks as another tool writes them, and what its values mean."""
    stored = np.array([7, 255, 0], np.uint8)
    masks = {}
    for name, mask in read_masks(small_dataset["masks"]).items():
        masks[name] = tmp_path / f"stored/{name}.png"
        masks[name].parent.mkdir(exist_ok=True)
        Image.fromarray(stored[mask.read()]).save(masks[name])
    write_masks(tmp_path / "stored.csv", masks, {7: 0, 255: 1, 0: 2})
    return small_dataset | {"masks": tmp_path / "stored.csv"}


@pytest.mark.parametrize("of", [scored, swept, boxed])
def test_scores_do_not_depend_on_stored_mask_values(small_dataset, maps, tmp_path, of):
    folders = maps if of is swept else labeled(small_dataset, maps, tmp_path / "labels")
    expected = of(small_dataset, folders, tmp_path)
    assert of(remapped(small_dataset, tmp_path), folders, tmp_path) == expected
