"""Train the classifiers of a configuration, and score their class maps during training.

    python experiments/score_epochs.py CONFIGURATION [CONFIGURATION ...] [--every 5] [--images 266]

Files are merged as by ``snakemake --configfile``. After every fifth epoch, and after the last one,
the maps of evenly spaced train images are scored at the best of 19 background thresholds. The
scores are chosen and computed against masks: no stage of the workflow does that. They become the
columns ``miou`` and ``threshold`` of ``results/EXPERIMENT/epochs/CLASSIFIER/history.csv``. The maps
are those of the attribution ``cam``. An interrupted run continues after its last epoch. A
classifier that has a history is skipped, so delete its folder after a change of the settings.
"""

import argparse
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from snakemake.utils import update_config
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.attribution.cam import cam
from pipeline.attribution.fusion import fuse
from pipeline.config.resolve import resolve
from pipeline.datasets.manifest import Manifest, evenly_spaced, read_manifest
from pipeline.io.arrays import ClassMaps
from pipeline.io.images import read_rgb
from pipeline.metrics.segmentation import scores_of, threshold_counts
from pipeline.models.cell_centers import CellCenters
from pipeline.models.classifier import CamClassifier, save_classifier
from pipeline.models.views import Views
from pipeline.planning.inputs import classifier_weights, given_weights
from pipeline.planning.plan import Plan
from pipeline.refinement.labels import upsampled
from pipeline.runtime.progress import progress
from pipeline.stages.evaluate import scored_masks
from pipeline.stages.train_classifier import classifier_task
from pipeline.training.epochs import number_of_epochs
from pipeline.training.run import TrainingRun

REPOSITORY = Path(__file__).parents[1]
THRESHOLDS = np.arange(1, 20) / 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and score every classifier of the configuration that is not a probe."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    config: dict[str, Any] = {}
    for path in options.configurations:
        update_config(config, yaml.safe_load(path.read_text(encoding="utf-8")))
    plan = Plan(resolve(config))
    dataset = Path(plan.home, "dataset")
    files = [dataset / name for name in ("manifest.csv", "classes.json", "masks.csv")]
    names = [name for name in plan.config["classifiers"] if plan.kind_of(name) == "network"]
    given = set(given_weights(plan.config).values())
    weights = {path for name in names for path in classifier_weights(plan, name)} - given
    _make([*map(str, files), *sorted(weights)], options.configurations)
    for name in names:
        _train(plan, name, plan.config["classifiers"][name], files, options)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("configurations", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=5, help="epochs between two scores")
    parser.add_argument("--images", type=int, default=266, help="number of scored train images")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


def _make(files: Sequence[str], configurations: Sequence[Path]) -> None:
    """Check and list the data set, and make the weights that trainings start from."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--cores", "all", *files, "--configfile", *map(str, configurations)]
    subprocess.run(command, check=True)


def _train(
    plan: Plan,
    name: str,
    settings: Mapping[str, Any],
    files: Sequence[Path],
    options: argparse.Namespace,
) -> None:
    """Train one classifier, unless its history exists, and write the history."""
    folder = Path(plan.home, "epochs", name)
    if (folder / "history.csv").exists():
        logging.info("%s exists: %s is not trained again", folder / "history.csv", name)
        return
    folder.mkdir(parents=True, exist_ok=True)
    data = read_manifest(*files[:2])
    scoring = f"{options.every} {options.images} {plan.config['attributions']['cam']}"
    run = TrainingRun.start(
        settings, plan.config["seed"], code=scoring,
        weights=folder / "model.safetensors", history=folder / "history.csv",
        threads=options.threads, gpu=1,
    )  # fmt: skip
    pretrained = [Path(path) for path in classifier_weights(plan, name)]
    epochs = number_of_epochs(settings, len(data.of_split("train")))
    scored = {*range(options.every - 1, epochs, options.every), epochs - 1}
    score = _scorer(data, files[2], plan.config["attributions"]["cam"], options.images)
    run.train(
        replace(classifier_task(run, data, pretrained, scored), validate=score),
        inputs=[*files, *pretrained],
        save=partial(save_classifier, settings=settings, classes=len(data.classes)),
    )


def _scorer(
    data: Manifest, masks: Path, settings: Mapping[str, Any], images: int
) -> Callable[[nn.Module], dict[str, float]]:
    """Return the function that scores a classifier's maps at the best threshold."""
    records = evenly_spaced(data.of_split("train"), images)
    ground_truth = scored_masks([record.id for record in records], masks)
    names, views = ["background", *data.classes], Views.from_settings(settings)

    def score(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, CamClassifier)
        centers = CellCenters(model.backbone) if settings["align"] else None
        total = np.zeros((len(THRESHOLDS), len(names), len(names) + 1), np.int64)
        for record in progress(records, total=len(records), what="maps scored"):
            image, numbers = read_rgb(record.image), data.class_numbers(record)
            found = fuse(
                cam, model, image, numbers, views, stride=settings["stride"], centers=centers
            )
            size = (image.shape[0], image.shape[1])
            full = upsampled(ClassMaps(numbers, found.values, size, found.agreement))
            mask = ground_truth[record.id].read(size)
            total += threshold_counts(mask, full, numbers, THRESHOLDS, len(names))
        scores = [scores_of(counts, names)["miou"] for counts in total]
        best = int(np.argmax(scores))
        return {"miou": scores[best], "threshold": float(THRESHOLDS[best])}

    return score


if __name__ == "__main__":
    main()
