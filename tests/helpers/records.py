"""Runs with scores, as the scoreboard finds them."""

import numpy as np

from pipeline.io.arrays import write_counts
from pipeline.io.tables import write_json
from pipeline.metrics.segmentation import confusion_matrix, image_counts, scores_of
from pipeline.stages.record_experiment import record_experiment

NAMES = ("background", "cat", "dog")
IDS = [f"i{k:02d}" for k in range(12)]
GROUND_TRUTH = np.random.default_rng(0).integers(0, 3, (12, 8, 8)).astype(np.uint8)
CONFIG = {
    "dataset": {"kind": "folder"},
    "classifiers": {"plain": {"backbone": "resnet50"}},
    "segmentation": {"backbone": "mobilenetv2_100"},
}
SETTINGS = {
    "maps": {"image_labels_given": True, "crf": None},
    "pseudo_labels": {
        "image_labels_given": True,
        "crf": {"iterations": 10},
        "background": {"rule": "power", "value": 4, "threshold_source": "by hand"},
    },
    "predictions": {"image_labels_given": False, "crf": None},
}
CAM, CRF = "plain/cam", "plain/cam/crf"


def confusions(share, seed=0, ground_truth=GROUND_TRUTH):
    """Confusion matrices of predictions of which a share is drawn anew."""
    rng = np.random.default_rng([seed, 1])
    spoiled = np.where(
        rng.random(ground_truth.shape) < share, rng.integers(0, 3, ground_truth.shape), ground_truth
    )
    return [
        confusion_matrix(t, p.astype(np.uint8), 3)
        for t, p in zip(ground_truth, spoiled, strict=True)
    ]


def write_score(folder, kind, method, counts, ids=IDS, chosen="by hand"):
    """Write a score and its counts, and return what a record says of them."""
    split = "val" if kind == "predictions" else "train"
    stem = f"scores/{kind}/{method}/{split}"
    threshold = {"value": 0.3, "threshold_source": chosen} if kind != "predictions" else None
    head = {
        "kind": kind, "method": method, "split": split, "images": len(ids),
        "settings": SETTINGS[kind], "threshold": threshold,
    }  # fmt: skip
    write_json(folder / f"{stem}.json", head | scores_of(sum(counts), NAMES))
    write_counts(folder / f"{stem}.counts.safetensors", ids, image_counts(counts))
    times = [f"benchmarks/{job}.tsv" for job in ("train_classifier/plain", "make_maps/plain/cam/0")]
    for seconds, name in zip((3600, 1800), times, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(
            f"s\th:m:s\tmax_rss\n{seconds}\t1:00:00\t2048\n", encoding="utf-8"
        )
    return {"file": f"{stem}.json", "counts": f"{stem}.counts.safetensors", "times": times}


def make_run(root, folder, results, seed=0, config=CONFIG):
    """Write a run: results are (kind, method, confusion matrices), made or not (None)."""
    listed = [
        write_score(root / folder, kind, method, counts)
        if counts is not None
        else {"file": f"scores/{kind}.json", "counts": f"scores/{kind}.safetensors", "times": []}
        for kind, method, counts in results
    ]
    record = root / folder / "experiment.json"
    record_experiment(
        scores=[],
        experiment=folder.split("/")[0],
        seed=seed,
        config=config,
        results=listed,
        record=record,
    )
    return record
