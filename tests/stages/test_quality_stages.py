"""Label quality without masks, on maps and labels whose figures are known."""

import json

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from pipeline.datasets.manifest import read_manifest
from pipeline.errors import UserError
from pipeline.io.arrays import ClassMaps, read_label, read_soft_label, write_label, write_maps
from pipeline.io.tables import read_json, read_table, write_class_scores, write_table
from pipeline.stages.assess_labels import assess_labels
from pipeline.stages.choose_threshold import choose_threshold
from pipeline.stages.compare_labels import compare_labels
from pipeline.stages.make_labels import make_labels
from pipeline.stages.make_soft_labels import make_soft_labels
from pipeline.stages.summarize_quality import summarize_quality

METHOD = "plain/cam/crf"


#: Height and width of the images of the small data set's train split.
SIZES = [(36 + index, 40) for index in range(4)]


@pytest.fixture
def data(small_dataset):
    return read_manifest(small_dataset["manifest"], small_dataset["classes"])


@pytest.fixture
def maps(data, tmp_path):
    """Write the train maps: each class a ramp from left to right, agreement 0.5."""
    items = []
    for record in data.of_split("train"):
        numbers = data.class_numbers(record)
        ramp = np.linspace(0, 1, record.width, dtype=np.float16)
        values = np.broadcast_to(ramp, (len(numbers), record.height, record.width))
        agreement = np.full(len(numbers), 0.5, np.float32)
        size = (record.height, record.width)
        items.append((record.id, ClassMaps(numbers, values, size, agreement)))
    write_maps(tmp_path / "maps.safetensors", items)
    return tmp_path / "maps.safetensors"


def given(small_dataset):
    return {key: small_dataset[key] for key in ("manifest", "classes")}


def made(small_dataset, maps, tmp_path, **changes):
    arguments = {
        "threshold": [], "background": {"rule": "threshold", "value": 0.5}, "crf": None,
        "graph_cut": None, "uncertain_below": None, "labels": tmp_path / "labels",
        "regions": [], "voting": None, "figures": tmp_path / "figures.csv", "threads": 1,
    }  # fmt: skip
    make_labels(**given(small_dataset), maps=maps, **(arguments | changes))
    return {row["id"]: row for row in read_table(tmp_path / "figures.csv")}


def test_labels_state_their_certainty(small_dataset, maps, data, tmp_path):
    figures = made(small_dataset, maps, tmp_path)
    assert set(figures) == {"0", "1", "2", "3"}
    # Without a refinement all is kept; an image without labels is surely background.
    assert all(float(row["refinement_agreement"]) == 1 for row in figures.values())
    assert float(figures["3"]["certainty"]) == 1
    # m / (m + 0.5) or 0.5 / (m + 0.5) is at least 0.9 only where m is at most 1/18.
    ramp = np.linspace(0, 1, 40, dtype=np.float16)
    assert float(figures["0"]["certainty"]) == pytest.approx((ramp <= 1 / 18).mean())


def test_refinement_agreement_is_the_iou_before_and_after(small_dataset, maps, tmp_path):
    made(small_dataset, maps, tmp_path)
    before = read_label(tmp_path / "labels/0.png").ravel()
    figures = made(small_dataset, maps, tmp_path, crf={"iterations": 10, "bilateral_compat": 50})
    after = read_label(tmp_path / "labels/0.png").ravel()
    expected = jaccard_score(before, after, average="macro")
    assert expected < 0.9
    assert float(figures["0"]["refinement_agreement"]) == pytest.approx(expected)


def test_a_threshold_can_be_a_rules(small_dataset, maps, tmp_path):
    choose_threshold(maps=[maps], method="plain/cam", thresholds=tmp_path / "t.json")
    chosen = read_json(tmp_path / "t.json")
    assert chosen["method"] == "plain/cam"
    assert chosen["thresholds"]["mean"] == pytest.approx(0.5, abs=0.01)
    by_rule = {"rule": "threshold", "value": "otsu"}
    made(small_dataset, maps, tmp_path, background=by_rule, threshold=[tmp_path / "t.json"])
    label = read_label(tmp_path / "labels/0.png")
    ramp = np.linspace(0, 1, 40, dtype=np.float16)
    assert np.array_equal(label[0] == 1, ramp > chosen["thresholds"]["otsu"])


def test_soft_labels_are_the_probabilities_of_the_labels(small_dataset, maps, tmp_path):
    crf = {"iterations": 3}
    made(small_dataset, maps, tmp_path, crf=crf)
    make_soft_labels(
        **given(small_dataset), maps=maps, threshold=[], crf=crf, graph_cut=None, regions=[],
        voting=None, background={"rule": "threshold", "value": 0.5},
        soft_labels=tmp_path / "soft", threads=1,
    )  # fmt: skip
    for image_id in ("0", "1", "2", "3"):
        numbers, probabilities = read_soft_label(tmp_path / f"soft/{image_id}.safetensors")
        label = read_label(tmp_path / f"labels/{image_id}.png")
        assert probabilities.shape == (len(numbers), *label.shape)
        assert probabilities.astype(np.float32).sum(axis=0) == pytest.approx(1, abs=2e-3)
        sure = probabilities.max(axis=0) > 0.6
        assert np.array_equal(numbers[probabilities.argmax(axis=0)][sure], label[sure])


@pytest.fixture
def agreement(small_dataset, tmp_path):
    """Write labels of three methods: two are alike, the third is the other way round."""
    for method, value in (("a", 0), ("b", 0), ("c", 1)):
        for image_id in range(4):
            write_label(
                tmp_path / f"{method}/{image_id}.png", np.full(SIZES[image_id], value, np.uint8)
            )
    methods = ["p/m/a", "p/m/b", "p/m/c"]
    folders = [tmp_path / name for name in "abc"]
    path = tmp_path / "agreement.csv"
    compare_labels(
        **given(small_dataset), labels=folders, methods=methods, split="train", agreement=path,
        threads=1,
    )  # fmt: skip
    return path


def test_methods_that_agree_differ_from_one_that_does_not(agreement):
    rows = read_table(agreement)
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert all(row["p/m/a"] == row["p/m/b"] == "0.5" and row["p/m/c"] == "0.0" for row in rows)


def test_a_method_without_the_label_of_an_image_is_refused(small_dataset, agreement, tmp_path):
    (tmp_path / "b/2.png").unlink()
    with pytest.raises(UserError, match=r"1 of 4 images have no label in .*b, first 2.png"):
        compare_labels(
            **given(small_dataset), labels=[tmp_path / "a", tmp_path / "b"],
            methods=["p/m/a", "p/m/b"], split="train", agreement=agreement, threads=1,
        )  # fmt: skip


@pytest.fixture
def quality(small_dataset, maps, agreement, tmp_path):
    scores = {"0": [0.0, 9.0], "1": [9.0, 0.0], "2": [0.0, 0.0], "3": [1.0, 1.0]}
    logits = ((name, np.array(row)) for name, row in scores.items())
    write_class_scores(tmp_path / "scores.csv", ["cat", "dog"], logits)
    rows = [("0", 0.5, 1.0), ("1", 0.25, 0.75), ("2", 1.0, 0.5), ("3", 1.0, None)]
    write_table(tmp_path / "made.csv", ("id", "certainty", "refinement_agreement"), rows)
    assess_labels(
        **given(small_dataset), maps=[maps], class_scores=[tmp_path / "scores.csv"],
        figures=[tmp_path / "made.csv"], agreement=[agreement], method="p/m/c", split="train",
        quality=tmp_path / "quality.csv",
    )  # fmt: skip
    return tmp_path / "quality.csv"


def test_every_figure_comes_from_its_place(quality):
    rows = {row.pop("id"): row for row in read_table(quality)}
    first = {name: float(value) for name, value in rows["0"].items()}
    # Relative ranks: a tie in the methods' agreement, the second of four in certainty.
    ranks = [1 / 2, 1.5 / 4]
    assert first.pop("doubt") == pytest.approx(1 - np.mean(ranks))
    assert first == {
        "confidence": 0.5, "view_agreement": 0.5, "method_agreement": 0.0,
        "refinement_agreement": 1.0, "certainty": 0.5,
    }  # fmt: skip
    # Image 3 has no label: no classifier is confident in it, and no maps agree.
    assert rows["3"]["confidence"] == rows["3"]["view_agreement"] == ""
    assert rows["3"]["refinement_agreement"] == ""


def summarized(small_dataset, quality, tmp_path, image_scores=()):
    summarize_quality(
        **given(small_dataset), quality=quality, image_scores=list(image_scores), method=METHOD,
        split="train", summary=tmp_path / "quality.json",
    )  # fmt: skip
    document = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))
    return document, {figure["name"]: figure for figure in document["figures"]}


def test_figures_are_summed_up_and_doubtful_images_come_first(small_dataset, quality, tmp_path):
    document, figures = summarized(small_dataset, quality, tmp_path)
    assert (document["kind"], document["method"], document["images"]) == ("quality", METHOD, 4)
    certainty = figures["certainty"]
    assert certainty["mean"] == pytest.approx((0.5 + 0.25 + 1 + 1) / 4)
    # Images 0 and 2 are of cats, 1 and 2 of dogs.
    assert certainty["classes"] == {"cat": 0.75, "dog": 0.625}
    assert certainty["correlation"] is None
    doubt = {row["id"]: float(row["doubt"]) for row in read_table(quality)}
    assert document["worth_a_look"] == sorted(doubt, key=lambda name: (-doubt[name], name))


def test_quality_measures_are_correlated_with_the_ground_truth(small_dataset, quality, tmp_path):
    rows = [
        ("0", 0.4, 1, 0.4, ""),
        ("1", 0.2, 1, "", 0.3),
        ("2", 0.9, 1, 0.8, 0.9),
        ("3", 1, 1, "", ""),
    ]
    columns = ("id", "miou", "pixel_accuracy", "iou:cat", "iou:dog")
    write_table(tmp_path / "images.csv", columns, rows)
    _, figures = summarized(small_dataset, quality, tmp_path, [tmp_path / "images.csv"])
    # Certainties .5, .25, 1, 1 have the ranks 2, 1, 3.5, 3.5; the mIoU 2, 1, 3, 4.
    found = figures["certainty"]["correlation"]
    ranks = np.corrcoef([2, 1, 3.5, 3.5], [2, 1, 3, 4])[0, 1]
    assert found["images"] == pytest.approx(ranks)
    assert found["classes"] is None  # two classes say nothing
    assert figures["doubt"]["correlation"]["images"] < 0
