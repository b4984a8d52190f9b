"""What the jobs of a configuration read, as Snakemake finds it."""

from collections import defaultdict

import pytest

#: The rules whose results each step of the method reads, beside the data set's manifest.
METHOD = {
    "train_classifier": set(),
    "make_maps": {"train_classifier", "fit_probe"},
    "make_affinity_labels": {"make_maps"},
    "train_affinity": {"train_classifier", "make_affinity_labels"},
    "propagate_maps": {"make_maps", "train_affinity"},
    "choose_threshold": {"make_maps", "propagate_maps"},
    "make_regions": set(),
    "make_labels": {"make_maps", "propagate_maps", "choose_threshold", "make_regions"},
    "make_soft_labels": {"propagate_maps"},
    "train_segmentation": {"make_labels"},
    "predict_masks": {"train_segmentation"},
}
#: Rules that read the maps of an attribution method before its random walk.
BEFORE_WALK = {"propagate_maps", "assess_labels"}


@pytest.fixture
def edges(workflow):
    """Return all pairs of a job and a job that makes one of its input files."""
    makers = {path: job for job in workflow["jobs"] for path in job["output"]}
    return [
        (job, makers[path]) for job in workflow["jobs"] for path in job["input"] if path in makers
    ]


def wildcards_of(job):
    """Return the wildcards of a job, with the maps that it makes under one name."""
    wildcards = dict(job["wildcards"])
    if attribution := wildcards.pop("attribution", None):
        walk = wildcards.pop("walk", None)
        # The steps of a walk are not the maps that it ends with.
        if job["rule"] in ("make_maps", "propagate_maps"):
            wildcards["maps"] = f"{attribution}+{walk}" if walk else attribution
    return wildcards


def test_a_step_reads_the_results_of_the_steps_before(edges):
    found = defaultdict(set)
    for job, maker in edges:
        found[job["rule"]].add(maker["rule"])
    assert {rule: found[rule] - {"prepare_dataset"} for rule in METHOD} == METHOD


def test_a_job_reads_files_of_its_own_seed_split_and_method(edges):
    seen = set()
    for job, maker in edges:
        own, other = wildcards_of(job), wildcards_of(maker)
        if job["rule"] in BEFORE_WALK and maker["rule"] == "make_maps":
            own["maps"] = own["maps"].partition("+")[0]
        shared = own.keys() & other.keys()
        assert {key: own[key] for key in shared} == {key: other[key] for key in shared}
        seen |= shared
    assert seen == {"seed", "split", "shard", "classifier", "maps", "refinement"}


def test_a_shard_reads_its_own_shard_and_other_jobs_read_all(workflow, edges):
    read = defaultdict(set)
    for job, maker in edges:
        if "shard" in maker["wildcards"]:
            others = [value for key, value in maker["wildcards"].items() if key != "shard"]
            method = (workflow["jobs"].index(job), maker["rule"], *others)
            read[method].add(maker["wildcards"]["shard"])
    for (number, *_), shards in read.items():
        own = workflow["jobs"][number]["wildcards"].get("shard")
        assert shards == ({own} if own else {"0", "1"})
    assert len(read) > 50


def test_labels_are_compared_with_those_of_all_methods_of_one_run(edges):
    compared = defaultdict(set)
    for job, maker in edges:
        if job["rule"] == "compare_labels" and maker["rule"] == "make_labels":
            own = wildcards_of(maker)
            method = (own["classifier"], own["maps"], own["refinement"])
            compared[job["wildcards"]["seed"]].add(method)
    methods = {
        ("plain", "cam", "threshold"), ("plain", "saliency", "graph-cut"),
        ("puzzle", "cam", "crf"), ("puzzle", "cam+rw", "crf"),
    }  # fmt: skip
    assert compared == {"0": methods, "1": methods}
