"""What jobs ask for: more than they took where that was measured, and more for more work."""

import importlib
import json
import subprocess
import sys
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake.iocontainers import Wildcards

from pipeline.config.resolve import resolve
from pipeline.datasets.manifest import Record, write_classes, write_manifest
from pipeline.models.segmentation_network import SegmentationNetwork
from pipeline.resources import requests as resources
from pipeline.resources.classifications import FAITHFULNESS_PIXELS
from pipeline.resources.dataset import Dataset
from pipeline.resources.inferences import MANY_SIZES
from pipeline.resources.maps import SALIENCY_PIXELS
from pipeline.resources.networks import DECODERS
from pipeline.resources.requests import gpus, memory, needs, runtime
from pipeline.resources.rules import INFERENCE, PER_IMAGE, REQUESTED, TRAINING
from pipeline.resources.trainings import VALIDATION_BATCH
from pipeline.training import losses
from tests.helpers import REPOSITORY

ALL = sorted(REQUESTED)
GIBIBYTE = 1024  # in MiB
NOTHING = SimpleNamespace()
MEASURE = """
import json, sys
from pathlib import Path
from pipeline.stages.train_classifier import train_classifier
paths = {name: Path(path) for name, path in json.loads(sys.argv[1]).items()}
train_classifier(
    **paths, pretrained=[], settings=json.loads(sys.argv[2]), seed=0, threads=1, gpu=0, code=""
)
# Not of getrusage, which counts what the process was before it was this program: the tests.
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
print(int(peak.split()[1]) / 1024)
"""


@pytest.fixture(scope="module")
def config():
    """Return a configuration for VOC on a CPU with every section that a rule reads."""
    written = yaml.safe_load(
        (REPOSITORY / "experiments/voc2012-subset.yaml").read_text(encoding="utf-8")
    )
    # The settings of the jobs that were measured.
    plain = {
        "backbone": "mobilenetv2_100", "epochs": 6, "batch_size": 16,
        "augmentation": {"resize": [256, 384], "crop": 256},
    }  # fmt: skip
    written["classifiers"] = {
        "plain": plain,
        "puzzle": plain | {"puzzle": {}},
        "linear": {"kind": "linear-probe", "backbone": "resnet50"},
        "stored": {"kind": "linear-probe", "backbone": "resnet50", "views_of": "cam"},
    }
    written["attributions"]["cam"] = {"scales": [0.75, 1.0, 1.5], "max_size": 384}
    del written["attributions"]["second"]
    written["pseudo_labels"] = methods = ["puzzle/cam+rw/crf"]
    written["random_walks"]["rw"] = {"max_size": 384}
    written["regions"] |= {"any": {"kind": "felzenszwalb", "scales": [50, 100]}}
    written["segmentation"] |= {"epochs": 6, "frozen": [], "backbone": "mobilenetv2_100"}
    written["segmentation"]["trained_on"] = methods
    written["prediction"]["max_size"] = 384
    written |= {"gpus": 0, "class_models": {}, "units": {}}
    written["comparison"] = {"methods": ["plain/cam"]}
    return resolve(written)


def wildcards(rule, **others):
    probes = {"fit_probe": "linear", "extract_features": "stored"}
    classifier = probes.get(rule, "puzzle")
    names = {"classifier": classifier, "attribution": "cam", "walk": "rw", "refinement": "crf"}
    names["regions"] = "any"
    shard = {} if rule in TRAINING or rule == "fit_probe" else {"split": "train", "shard": "0"}
    return Wildcards(fromdict=names | shard | others)


def mem_mb(config, rule, files=NOTHING, threads=2, attempt=1, **others):
    return memory(config, rule)(wildcards(rule, **others), files, threads, attempt)


def minutes(config, rule, files=NOTHING, threads=2, **others):
    return runtime(config, rule)(wildcards(rule, **others), files, threads, 1)


@pytest.fixture
def manifest_of(tmp_path):
    """Write a manifest of images of one size, and return it as a job's input."""

    def write(height, width, labels=2, count=799, classes=20):
        names = [str(number) for number in range(classes)]
        record = Record("0", tmp_path / "0.png", width, height, "train", tuple(names[:labels]))
        folder = tmp_path / f"{height}-{width}-{labels}-{count}-{classes}"
        files = SimpleNamespace(manifest=folder / "manifest.csv", classes=folder / "classes.json")
        write_manifest(files.manifest, [record] * count)
        write_classes(files.classes, names)
        return files

    return write


# GiB of the README's runs (benchmark files): two threads for trainings, one process for the rest.
MEASURED = {
    ("train_classifier", 2): 9.5,
    ("train_segmentation", 2): 6.3,
    ("make_maps", 1): 1.8,
    ("propagate_maps", 1): 2.5,
    ("make_labels", 1): 0.3,
}


@pytest.mark.parametrize(("rule", "threads"), MEASURED)
def test_estimates_are_above_measurements_on_real_images(config, manifest_of, rule, threads):
    estimate = mem_mb(config, rule, manifest_of(500, 375), threads) / GIBIBYTE
    measured = MEASURED[rule, threads]
    assert measured < estimate < 1.6 * measured + 0.5


# Images per second of docs/speed.md on two cores: for a training with puzzle, crops of 256; for
# maps, two jobs of four scales with mirror images; for labels, ten iterations with 3 labels.
SPEED = {
    ("train_classifier", "mobilenetv2_100"): 4.26,
    ("train_classifier", "resnet50"): 1.03,
    ("make_maps", "mobilenetv2_100"): 1.88,
    ("make_maps", "resnet50"): 0.275,
    ("make_labels", "resnet50"): 4.10,
}


@pytest.mark.parametrize(("rule", "backbone"), SPEED)
def test_requested_time_is_above_what_was_measured_on_photographs(
    config, manifest_of, rule, backbone
):
    config = changed(config, "classifiers.puzzle", backbone=backbone, epochs=1, validate_every=0)
    config = changed(config, "attributions.cam", scales=[0.5, 1.0, 1.5, 2.0], max_size=None)
    config |= {"shards": 1}
    threads, jobs = (1, 2) if rule == "make_maps" else (2, 1)
    measured = 4000 / (SPEED[rule, backbone] / jobs) / 60
    asked = minutes(config, rule, manifest_of(375, 500, count=4000), threads) - resources.START
    assert 2 * measured < asked < 8 * measured


def test_gpus_and_threads_share_the_time_of_a_training(config):
    with of_dataset(Dataset({"train": 10**7}, size=(375, 500), labels=1.5)):
        asked = [
            minutes(config | {"gpus": gpus}, "train_segmentation", threads=threads)
            - resources.START
            for gpus, threads in ((0, 1), (0, 8), (1, 8), (4, 8))
        ]
    assert asked[0] == pytest.approx(8 * asked[1], rel=0.01)
    # A GPU of 10^13 operations a second, instead of 10^11 on the two cores.
    assert asked[0] == pytest.approx(200 * asked[2], rel=0.01)
    assert asked[2] == pytest.approx(4 * asked[3], rel=0.01)


def test_classes_of_the_data_set_take_memory_before_a_crf(config, manifest_of):
    few, many = (manifest_of(500, 375, classes=classes) for classes in (2, 60))
    assert mem_mb(config, "predict_masks", few) < mem_mb(config, "predict_masks", many)


def test_a_probe_and_full_maps_hold_the_images_of_their_split_alone(config, tmp_path):
    def asked(rule, splits):
        record = Record("0", tmp_path / "0.png", 500, 375, "train", ("0",))
        files = SimpleNamespace(manifest=tmp_path / "m.csv", classes=tmp_path / "c.json")
        write_manifest(files.manifest, [replace(record, split=split) for split in splits])
        write_classes(files.classes, ["0"])
        return mem_mb(full, rule, files)

    full = changed(config, "attributions.cam", full_resolution=True)
    train = ["train"] * 900
    for rule in ("fit_probe", "make_maps"):
        more = asked(rule, [*train, *["train"] * 900])
        assert asked(rule, train) == asked(rule, [*train, *["val"] * 900]) < more


@pytest.mark.parametrize("decoder", ["separable", "full"])
@pytest.mark.parametrize("backbone", ["resnet50", "mobilenetv2_100"])
def test_a_decoder_keeps_no_more_than_its_estimate(backbone, decoder):
    shape = {"decoder": decoder, "decoder_norm": "group"}
    model = SegmentationNetwork(backbone, 21, **shape).train()
    encoder = kept_by_autograd(model.encoder)
    more = (kept_by_autograd(model) - encoder) / SIDE**2
    estimate = DECODERS[decoder].training
    assert 0.65 * estimate < more < 1.02 * estimate


SIDE = 128


def kept_by_autograd(model):
    """Count the bytes that autograd keeps for one image, besides weights and statistics."""
    owned = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.zeros(1, 3, SIDE, SIDE))
    return sum(size for size, _ in kept.values())


def test_saliency_needs_the_memory_of_a_way_back(config, manifest_of):
    files = manifest_of(500, 375)
    # One view of crops: 5 took 3165 MiB at 375 x 500 without a size to fit (measured alone).
    config = deepcopy(config)
    config["attributions"]["saliency"] |= {"max_size": None, "crops": 5}
    estimate = mem_mb(config, "make_maps", files, threads=1, attribution="saliency")
    assert 3165 < estimate < 2 * 3165


def test_maps_of_a_further_round_need_what_predictions_without_a_crf_need(config, manifest_of):
    config = deepcopy(config)
    views = {"scales": [0.75, 1.0, 1.25], "flip": True, "max_size": 384}
    config["prediction"] |= views | {"crf": None}
    config["attributions"]["second"] = views | {
        "method": "segmentation",
        "trained_on": "puzzle/cam/crf",
    }
    files = manifest_of(500, 375)
    maps = mem_mb(config, "make_maps", files, threads=1, attribution="second")
    predictions = mem_mb(config, "predict_masks", files, threads=1)
    cam = mem_mb(config, "make_maps", files, threads=1)
    assert max(0.9 * predictions, cam) < maps < 1.1 * predictions


def test_an_estimate_is_above_what_a_training_takes_here(
    small_dataset, classifier_settings, tmp_path, config
):
    settings = classifier_settings | {"backbone": "mobilenetv2_100", "batch_size": 4, "epochs": 1}
    settings["augmentation"] |= {"resize": [192, 192], "crop": 192}
    files = {key: str(small_dataset[key]) for key in ("manifest", "classes")}
    files |= {"weights": str(tmp_path / "w.safetensors"), "history": str(tmp_path / "h.csv")}
    words = [sys.executable, "-c", MEASURE, json.dumps(files), json.dumps(settings)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    taken = float(done.stdout.split()[-1])
    config = config | {"classifiers": {"puzzle": settings}}
    estimate = mem_mb(config, "train_classifier", SimpleNamespace(**files), threads=1)
    assert taken < estimate < 2 * taken + resources.SNAKEMAKE


@pytest.mark.parametrize("devices", [0, 2])
@pytest.mark.parametrize("rule", ALL)
def test_a_retry_requests_more(config, rule, devices):
    config = config | {"gpus": devices}
    for need in (memory(config, rule), runtime(config, rule)):
        first, second, third = (need(wildcards(rule), NOTHING, 2, number) for number in (1, 2, 3))
        assert isinstance(first, int)
        assert first > 0
        assert (second, third) == (2 * first, 3 * first)


@given(
    st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 500), st.sampled_from(ALL),
    st.sampled_from([1, 2, 8]),
)  # fmt: skip
def test_larger_images_never_ask_for_less(config, height, width, more, rule, threads):
    def asked(size):
        with of_dataset(Dataset({"train": 10}, size=size, labels=1.5, largest=size)):
            return mem_mb(config, rule, threads=threads)

    assert asked((height, width)) <= asked((height + more, width + more))


# Rules whose memory depends on the size of the images, not on crops or a longest side.
@pytest.mark.parametrize("rule", ["make_labels", "make_soft_labels", "predict_masks"])
def test_larger_images_ask_for_more(config, manifest_of, rule):
    small, large = manifest_of(500, 375), manifest_of(3000, 4000)
    assert mem_mb(config, rule, small) < mem_mb(config, rule, large)
    assert minutes(config, rule, small) < minutes(config, rule, large)


@contextmanager
def of_dataset(dataset):
    """Pass a data set to all requests, instead of their manifest's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.resources.requests.assumed_dataset", lambda _: dataset)
        yield


def changed(config, place, **values):
    config = deepcopy(config)
    section = config
    for key in place.split("."):
        section = section[key]
    section |= values
    return config


@pytest.mark.parametrize(
    ("rule", "place", "values"),
    [
        ("train_classifier", "classifiers.puzzle", {"batch_size": 32}),
        ("train_classifier", "classifiers.puzzle.augmentation", {"crop": 512}),
        ("train_classifier", "classifiers.puzzle", {"backbone": "resnest269e"}),
        ("train_classifier", "classifiers.puzzle", {"backbone": "of-tomorrow"}),
        ("train_classifier", "classifiers.puzzle", {"output_stride": 8}),
        ("train_affinity", "affinity", {"radius": 10}),
        ("train_segmentation", "segmentation", {"batch_size": 32}),
        ("make_maps", "attributions.cam", {"scales": [1.0, 2.0]}),
        ("make_maps", "attributions.cam", {"max_size": 512}),
        ("make_maps", "attributions.cam", {"full_resolution": True}),
        ("make_maps", "attributions.cam", {"method": "grad-cam", "layer": "blocks.2"}),
        ("classify", "classification", {"max_size": None}),
        ("propagate_maps", "random_walks.rw", {"radius": 15}),
        ("propagate_maps", "affinity.augmentation", {"crop": 1024}),
        ("predict_masks", "prediction", {"max_size": None}),
        ("visualize_classes", "class_models", {"size": 512}),
        ("fit_probe", "classifiers.linear", {"size": 1024}),
    ],
)
def test_settings_that_cost_memory_ask_for_it(config, manifest_of, rule, place, values):
    files = manifest_of(750, 1000)
    assert mem_mb(config, rule, files) < mem_mb(changed(config, place, **values), rule, files)


def test_a_plain_classifier_requests_less_than_one_with_the_puzzle(config):
    plain, puzzle = (
        mem_mb(config, "train_classifier", threads=1, classifier=name)
        for name in ("plain", "puzzle")
    )
    assert plain < puzzle


def test_frozen_parts_request_less(config):
    names = ["conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4"]
    fewer = changed(config, "classifiers.puzzle", frozen=names[:3])
    most = changed(config, "classifiers.puzzle", frozen=names)
    asked = [mem_mb(item, "train_classifier") for item in (config, fewer, most)]
    assert asked == sorted(asked, reverse=True) and len(set(asked)) == 3


def test_frozen_parts_with_crops_of_512_ask_for_what_they_took(config):
    frozen = ["conv_stem", "bn1", *(f"blocks.{number}" for number in range(5))]
    own = {"output_stride": 32, "last_layer": "blocks.6", "frozen": frozen, "batch_norm": "frozen"}
    for classifier, gibibytes in {"plain": 4.8, "puzzle": 6.0}.items():  # of benchmark files
        place = f"classifiers.{classifier}"
        larger = changed(config, place, **own)
        larger = changed(larger, f"{place}.augmentation", resize=[480, 720], crop=512)
        asked = mem_mb(larger, "train_classifier", classifier=classifier) / GIBIBYTE
        assert gibibytes < asked < 3 * gibibytes


def test_parts_of_a_batch_ask_for_less(config):
    parts = changed(config, "classifiers.puzzle", accumulate=4)
    assert mem_mb(parts, "train_classifier") < mem_mb(config, "train_classifier")


def test_every_process_of_a_refinement_is_counted(config):
    one, two, four = (mem_mb(config, "make_labels", threads=count) for count in (1, 2, 4))
    assert two - one == pytest.approx((four - two) / 2, abs=2)
    assert two > one


def test_more_labels_on_an_image_ask_for_more(config, manifest_of):
    few, many = manifest_of(500, 500, labels=1), manifest_of(500, 500, labels=9)
    assert mem_mb(config, "make_labels", few) < mem_mb(config, "make_labels", many)


def test_shards_share_the_time_and_epochs_add_to_it(config, manifest_of):
    files = manifest_of(500, 375, count=8000)
    need = minutes(config, "make_maps", files)
    config = config | {"shards": 8}
    assert minutes(config, "make_maps", files) < need
    longer = changed(config, "segmentation", epochs=60)
    times = [minutes(each, "train_segmentation", files) for each in (config, longer)]
    # Without the start, ten times the epochs are ten times the minutes.
    assert times[1] - resources.START == pytest.approx(10 * (times[0] - resources.START), rel=0.01)


@pytest.mark.parametrize(("wanted", "training", "inference"), [(0, 0, 0), (1, 1, 1), (4, 4, 1)])
def test_trainings_are_spread_over_gpus_and_refinements_take_none(
    config, wanted, training, inference
):
    config = config | {"gpus": wanted}
    assert {gpus(config, rule) for rule in TRAINING} == {training}
    assert {gpus(config, rule) for rule in INFERENCE} == {inference}
    assert {gpus(config, rule) for rule in [*PER_IMAGE, "evaluate_labels"]} == {0}


def test_jobs_on_stored_features_take_no_gpu(config):
    config = config | {"gpus": 4}
    for rule, passes in {"fit_probe": "linear", "make_maps": "linear"}.items():
        for classifier, wanted in {passes: 1, "stored": 0}.items():
            job = wildcards(rule, classifier=classifier)
            assert needs(config, rule)["gpu"](job, NOTHING, 2, 1) == wanted
    # The maps of val have no stored features.
    job = wildcards("make_maps", classifier="stored", split="val")
    assert needs(config, "make_maps")["gpu"](job, NOTHING, 2, 1) == 1


def test_jobs_on_stored_features_request_no_memory_for_passes(config, manifest_of):
    small, large = manifest_of(500, 375), manifest_of(6000, 4000)
    for rule in ("fit_probe", "make_maps"):
        asked = mem_mb(config, rule, small, 1, classifier="linear")
        assert mem_mb(config, rule, small, 1, classifier="stored") < asked - MANY_SIZES
    # Of large images, the features take memory: 2,048 channels, three scales, mirrored, stride 16.
    whole = changed(config, "attributions.cam", max_size=None)
    more = [mem_mb(whole, "make_maps", files, 1, classifier="stored") for files in (small, large)]
    cells = (6000 * 4000 - 500 * 375) * 2 * (0.75**2 + 1 + 1.5**2) / 16**2
    features = (2 + 4) * 2048 * cells
    images = 16 * (6000 * 4000 - 500 * 375)
    assert more[1] - more[0] == pytest.approx(1.15 * (features + images) / 2**20, abs=2)


def test_batches_are_those_of_the_stages():
    assert VALIDATION_BATCH == losses.VALIDATION_BATCH
    # A package's function has the name of its module.
    saliency = importlib.import_module("pipeline.attribution.saliency")
    faithfulness = importlib.import_module("pipeline.attribution.faithfulness")
    assert SALIENCY_PIXELS == saliency.PIXELS_AT_ONCE
    assert FAITHFULNESS_PIXELS == faithfulness.PIXELS_AT_ONCE


def test_the_snakefile_does_not_wait_for_torch():
    code = "import sys; import pipeline.resources.requests; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout == "False\n"


def test_the_tag_of_weights_is_no_other_backbone(config):
    tagged = deepcopy(config)
    tagged["classifiers"]["puzzle"]["backbone"] += ".ra_in1k"
    assert mem_mb(tagged, "train_classifier") == mem_mb(config, "train_classifier")
