"""Jobs that lead to a result, and the benchmark files of Snakemake with their times."""

from typing import Any

from pipeline.config.stored_features import has_stored_features
from pipeline.config.upper_bound import GROUND_TRUTH
from pipeline.planning.plan import Plan, unique


def times(plan: Plan) -> list[str]:
    """Return the benchmark files of all jobs that the report counts."""
    jobs = ["prepare_dataset"]
    jobs += unique(job for name in plan.classifiers for job in _trainings(plan, name))
    if "class_models" in plan.config:
        jobs += [f"visualize_classes/{name}" for name in plan.classifiers]
    if "units" in plan.config:
        jobs += [f"visualize_units/{name}" for name in plan.classifiers]
    if "label_errors" in plan.config:
        jobs += [f"find_label_errors/{plan.config['label_errors']['classifier']}"]
    jobs += _map_jobs(plan, "make_maps")
    jobs += [job for path in plan.walked for job in _affinity_jobs(plan, path)]
    jobs += _map_jobs(plan, "propagate_maps")
    jobs += unique(job for path in plan.labels for job in _region_jobs(plan, path, "train"))
    jobs += [job for path in plan.labels for job in _shard_jobs(plan, f"make_labels/{path}/train")]
    jobs += [f"train_segmentation/{path}" for path in plan.networks]
    for path in plan.segmentation_labels:
        jobs += _shard_jobs(plan, f"predict_masks/{path}/val")
    if plan.has_upper_bound:
        jobs += _upper_bound_jobs(plan, "val")
    return [_file(plan, job) for job in jobs]


def compared_times(plan: Plan) -> list[str]:
    """Return the benchmark files of all jobs that made the compared maps."""
    return unique(_file(plan, job) for method in plan.compared for job in _making(plan, method))


def compared_positions(plan: Plan) -> dict[str, list[int]]:
    """Return, for each compared method, the positions of its jobs in :func:`compared_times`."""
    files = compared_times(plan)
    return {
        method: [files.index(_file(plan, job)) for job in _making(plan, method)]
        for method in plan.compared
    }


def _making(plan: Plan, method: str) -> list[str]:
    """Return the jobs that turn the images of the compared split into the maps of a method."""
    split, source = plan.config["comparison"]["split"], method.partition("+")[0]
    classifier, attribution = source.split("/")
    stored = has_stored_features(plan.config, classifier, attribution, split)
    return [
        *(_feature_jobs(plan, classifier) if stored else []),
        *_shard_jobs(plan, f"make_maps/{source}/{split}"),
        *(_shard_jobs(plan, f"propagate_maps/{method}/{split}") if source != method else []),
    ]


def scored_results(plan: Plan) -> list[dict[str, Any]]:
    """Return the scores of a run for the scoreboard.

    Returns
    -------
    list of dict
        ``file`` (scores), ``counts`` (pixel counts) and ``times`` (benchmark files of all
        jobs that led to the score), relative to the run's folder.
    """
    results = []
    for path in plan.scores():
        file = path.removeprefix(f"{plan.root}/")
        _, kind, method, split = _parts(file)
        jobs = [_inside(job) for job in _jobs_of(plan, kind, method, split)]
        counts = file.replace(".json", ".counts.safetensors")
        results.append({"file": file, "counts": counts, "times": jobs})
    return results


def _parts(file: str) -> tuple[str, str, str, str]:
    """Split scores/KIND/METHOD/SPLIT.json into its parts; METHOD contains slashes."""
    folder, kind, *method, split = file.removesuffix(".json").split("/")
    return folder, kind, "/".join(method), split


def _jobs_of(plan: Plan, kind: str, method: str, split: str) -> list[str]:
    """Return all jobs that lead to maps, labels or predictions of a split."""
    if method == GROUND_TRUTH:
        return _upper_bound_jobs(plan, split)
    if kind == "predictions":
        before = _jobs_of(plan, "pseudo_labels", method, "train")
        own = _shard_jobs(plan, f"predict_masks/{method}/{split}")
        return [*before, f"train_segmentation/{method}", *own]
    if kind == "pseudo_labels":
        before = _jobs_of(plan, "maps", method.rpartition("/")[0], split)
        before += _region_jobs(plan, method, split)
        return [*before, *_shard_jobs(plan, f"make_labels/{method}/{split}")]
    source = method.split("+", maxsplit=1)[0]
    jobs = [
        *_previous_round(plan, source),
        *_trainings(plan, method.split("/", maxsplit=1)[0]),
        *_shard_jobs(plan, f"make_maps/{source}/{split}"),
    ]
    if source != method:
        if plan.learns_affinities:
            jobs += _shard_jobs(plan, f"make_maps/{source}/train")
            jobs += _affinity_jobs(plan, source)
        jobs += _shard_jobs(plan, f"propagate_maps/{method}/{split}")
    return unique(jobs)


def _previous_round(plan: Plan, maps: str) -> list[str]:
    """Return all jobs that lead to the segmentation network that makes maps, if any."""
    labels = plan.trained_on(maps)
    return (
        [*_jobs_of(plan, "pseudo_labels", labels, "train"), f"train_segmentation/{labels}"]
        if labels
        else []
    )


def _map_jobs(plan: Plan, rule: str) -> list[str]:
    """Return RULE/CLASSIFIER/MAPS/SPLIT/SHARD of all jobs of a rule that makes maps."""
    wanted = [f"{method}/train" for method in plan.maps]
    if plan.compared:
        wanted += [f"{method}/{plan.config['comparison']['split']}" for method in plan.compared]
    if rule == "propagate_maps":
        wanted = [path for path in wanted if "+" in path]
    else:
        wanted = [_without_walk(path) for path in wanted]
    return [job for path in unique(wanted) for job in _shard_jobs(plan, f"{rule}/{path}")]


def _affinity_jobs(plan: Plan, path: str) -> list[str]:
    if not plan.learns_affinities:
        return []
    return [*_shard_jobs(plan, f"make_affinity_labels/{path}"), f"train_affinity/{path}"]


def _region_jobs(plan: Plan, path: str, split: str) -> list[str]:
    source = plan.region_source(path)
    return _shard_jobs(plan, f"make_regions/{source}/{split}") if source else []


def _upper_bound_jobs(plan: Plan, split: str) -> list[str]:
    return ["train_upper_bound", *_shard_jobs(plan, f"predict_upper_bound/{split}")]


def _shard_jobs(plan: Plan, stem: str) -> list[str]:
    return [f"{stem}/{shard}" for shard in plan.shards]


def _trainings(plan: Plan, classifier: str) -> list[str]:
    """Return the jobs that train a classifier, after those of its ``init_from`` classifier."""
    initial = plan.config["classifiers"][classifier].get("init_from")
    if plan.kind_of(classifier) == "network":
        before = _trainings(plan, initial) if initial else []
        return [*before, f"train_classifier/{classifier}"]
    stored = plan.config["classifiers"][classifier]["views_of"]
    features = _feature_jobs(plan, classifier) if stored else []
    return [*features, f"fit_probe/{classifier}"]


def _feature_jobs(plan: Plan, classifier: str) -> list[str]:
    return _shard_jobs(plan, f"extract_features/{classifier}")


def _without_walk(path: str) -> str:
    """Return CLASSIFIER/ATTRIBUTION/SPLIT of the maps that a random walk refines."""
    classifier, maps, split = path.split("/")
    return f"{classifier}/{maps.split('+')[0]}/{split}"


def _inside(job: str) -> str:
    return f"benchmarks/{job}.tsv"


def _file(plan: Plan, job: str) -> str:
    # The data set belongs to the experiment, all other results to a run.
    return f"{plan.home if job == 'prepare_dataset' else plan.root}/{_inside(job)}"
