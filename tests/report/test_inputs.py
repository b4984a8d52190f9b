from pathlib import Path

import numpy as np
import pytest

from pipeline.report.inputs import (
    ImageScore,
    by_method,
    method_of,
    read_history,
    read_image_scores,
    read_quality,
    read_times,
    representative_ids,
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("results/e/maps/plain/cam/train/0.safetensors", ("maps", "plain/cam")),
        ("results/e/pseudo_labels/plain/cam/crf/train/3", ("pseudo_labels", "plain/cam/crf")),
        ("results/e/predictions/p/cam/crf/val/0", ("predictions", "p/cam/crf")),
        ("results/e/scores/pseudo_labels/p/cam/crf/train.csv", ("pseudo_labels", "p/cam/crf")),
        ("results/e/quality/p/cam/crf/train.csv", ("quality", "p/cam/crf")),
        ("results/e/classifiers/plain/history.csv", ("classifiers", "plain")),
        ("results/e/segmentation/p/cam/crf/history.csv", ("segmentation", "p/cam/crf")),
        ("results/e/segmentation/ground_truth/history.csv", ("segmentation", "ground_truth")),
        ("results/e/predictions/ground_truth/val/0", ("predictions", "ground_truth")),
        ("results/e/scores/predictions/ground_truth/val.csv", ("predictions", "ground_truth")),
        ("results/ground_truth/predictions/p/cam/crf/val/0", ("predictions", "p/cam/crf")),
        ("results/labels/maps/maps/cam/train/0.safetensors", ("maps", "maps/cam")),
    ],
)
def test_the_path_is_the_method(path, expected):
    assert method_of(Path(path)) == expected


@pytest.mark.parametrize("path", ["results/e/report.html", "elsewhere/x.csv", "pseudo_labels"])
def test_other_paths_have_no_method(path):
    with pytest.raises(ValueError, match="not a path of maps"):
        method_of(Path(path))


def test_shards_are_grouped_by_method():
    paths = [Path(f"results/e/pseudo_labels/{m}/cam/crf/train/{k}") for m in "ab" for k in (0, 1)]
    assert by_method(paths) == {"a/cam/crf": paths[:2], "b/cam/crf": paths[2:]}


def test_best_median_and_worst_by_hand():
    scores = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.7, "e": 0.3}
    assert representative_ids(scores, 1) == {"best": ["b"], "median": ["c"], "worst": ["a"]}


@pytest.mark.parametrize("images", range(8))
@pytest.mark.parametrize("count", range(4))
def test_no_image_is_shown_twice(images, count):
    chosen = representative_ids({str(k): k / 10 for k in range(images)}, count)
    ids = [name for group in chosen.values() for name in group]
    assert len(ids) == len(set(ids)) == min(images, 3 * count)


def test_an_image_without_a_score_is_left_out(tmp_path):
    table = tmp_path / "train.csv"
    table.write_text("id,miou,pixel_accuracy,iou:cat\na,,,\nb,0.5,1,0.5\n", encoding="utf-8")
    assert read_image_scores(table) == {"b": ImageScore(0.5, {"cat": 0.5})}


def test_tables_are_read(tree):
    arguments = tree.arguments
    assert read_image_scores(arguments["image_scores"][0]) == {
        "i0": ImageScore(0.2, {"background": 0.9, "cat": 0.65}),
        "i1": ImageScore(0.5, {"background": 0.9, "cat": 0.5}),
        "i2": ImageScore(0.8, {"background": 0.9, "cat": 0.35}),
    }
    (quality,) = read_quality(arguments["quality"], arguments["quality_scores"])
    assert (quality.method, quality.split, quality.images) == ("plain/cam/crf", "train", 3)
    assert quality.doubts == {"i0": 0.25, "i1": 0.75}
    assert quality.worth_a_look == ["i1", "i0"]
    history = read_history(arguments["histories"][0])
    assert (history.kind, history.method) == ("Classifier", "plain")
    assert history.columns["loss"] == [0.7, 0.4]
    (stage,) = read_times(arguments["times"])
    assert (stage.rule, stage.jobs, stage.seconds, stage.memory) == ("make_maps", 2, 123, 2048)


@pytest.mark.parametrize(
    "text",
    ["", "s\th:m:s\tmax_rss\n", "s\tmax_rss\n1", "s\tmax_rss\nx\t2\n", "s\n1\n",
     "s\tmax_rss\nnan\t2\n", "s\tmax_rss\n1\tinf\n", "\0\n\0\n"],
)  # fmt: skip
def test_a_damaged_benchmark_is_named_and_left_out(tmp_path, caplog, text):
    folder = tmp_path / "benchmarks/make_maps"
    folder.mkdir(parents=True)
    (folder / "0.tsv").write_text("s\tmax_rss\n2.5\t-\n", encoding="utf-8")
    (folder / "1.tsv").write_text(text, encoding="utf-8")
    (stage,) = read_times([folder / "0.tsv", folder / "1.tsv"])
    assert (stage.jobs, stage.seconds, stage.memory) == (1, 2.5, 0)
    (line,) = caplog.messages
    assert f"{folder / '1.tsv'}: not a complete benchmark table" in line
    assert read_times([folder / "1.tsv"]) == []


def test_an_epoch_without_a_validation_has_an_empty_cell(tmp_path):
    path = tmp_path / "classifiers/plain/history.csv"
    path.parent.mkdir(parents=True)
    path.write_text("epoch,loss,learning_rate,val_map\n1,.5,1,\n2,.25,1,.75\n", encoding="utf-8")
    history = read_history(path)
    assert history.columns["loss"] == [0.5, 0.25]
    assert np.isnan(history.columns["val_map"][0]) and history.columns["val_map"][1] == 0.75
