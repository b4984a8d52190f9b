import subprocess
import sys

import pytest
import torch
import yaml

from pipeline.config.resolve import resolve
from pipeline.datasets.manifest import read_manifest
from pipeline.errors import UserError
from pipeline.models.segmentation_network import SegmentationNetwork
from pipeline.resources.estimate import estimate, gpu_hours, known_images, planned_jobs, table
from pipeline.resources.operations import VOC_AUG, Images, counted, work_of
from tests.helpers import REPOSITORY

IMAGES = Images(train=100, val=20, size=(300, 400), labels=1.5)
RATES = {
    "machines": [
        {"name": "A", "training": {"resnet18": 1e9, "other": 2e9}, "inference": {"other": 4e9}}
    ],
    "core_seconds": {"crf": 1e-6, "graph_cut": 1e-5, "walk": 1e-4, "image": 0.1},
}
PRINTED = """
job             count
[Sat Nov 21 10:00:00 2026]
rule make_maps:
    input: a, b
    wildcards: classifier=plain, attribution=cam, split=train, shard=1
    resources: tmpdir=/tmp
[Sat Nov 21 10:00:00 2026]
localrule download_archive:
    output: x
    wildcards: archive=sbd
[Sat Nov 21 10:00:01 2026]
rule prepare_dataset:
    output: y
[Sat Nov 21 10:00:01 2026]
rule all:
    input: y
"""


def test_jobs_are_read_from_a_dry_run():
    maps = {"classifier": "plain", "attribution": "cam", "split": "train", "shard": "1"}
    assert list(planned_jobs(PRINTED)) == [
        ("make_maps", maps), ("download_archive", {"archive": "sbd"}), ("prepare_dataset", {}),
    ]  # fmt: skip


def test_operations_of_a_resnet_are_the_published_ones():
    # 1.8 billion multiply-adds for 224 x 224 pixels (He et al. 2016, table 1), at stride 32.
    operations = counted("resnet18", 32, segmentation=False).operations * 224**2
    assert operations == pytest.approx(2 * 1.8e9, rel=0.03)
    assert counted("resnet18", 32, segmentation=False).parameters == pytest.approx(11.2e6, rel=0.01)


def test_a_segmentation_has_the_operations_of_its_decoder_as_well():
    plain, whole = (counted("resnet18", 16, segmentation=kind) for kind in (False, True))
    assert whole.operations > plain.operations
    assert whole.parameters == sum(
        p.numel() for p in SegmentationNetwork("resnet18", 21).parameters()
    )


def test_frozen_parts_of_a_network_go_forward_only():
    whole = counted("resnet18", 32, segmentation=False)
    assert whole.learning == whole.operations
    assert whole.step == 3 * whole.operations
    frozen = counted("resnet18", 32, segmentation=False, frozen=("conv1", "bn1", "layer1"))
    # By hand: 7 x 7 filters of 3 channels at every 4th pixel, four of 3 x 3 at every 16th.
    resting = 2 * (49 * 3 * 64 / 4 + 4 * 9 * 64 * 64 / 16)
    assert frozen.operations - frozen.learning == pytest.approx(resting)
    assert frozen.step == pytest.approx(3 * whole.operations - 2 * resting)


def test_layers_after_the_last_layer_do_not_count():
    whole, cut = (
        counted("resnet18", 32, segmentation=False, last_layer=layer) for layer in (None, "layer3")
    )
    # By hand: the first of four 3 x 3 filters, and that beside it, have half of the channels.
    layer4 = 2 * (3.5 * 9 * 512 * 512 + 256 * 512) / 32**2
    assert whole.operations - cut.operations == pytest.approx(layer4)
    assert cut.parameters < whole.parameters


def test_a_segmentations_frozen_encoder_is_found_inside_it():
    whole = counted("resnet18", 16, segmentation=True)
    parts = ("conv1", "layer1", "layer2", "layer3", "layer4")
    frozen = counted("resnet18", 16, segmentation=True, frozen=parts)
    encoder = counted("resnet18", 16, segmentation=False)
    assert frozen.operations - frozen.learning == pytest.approx(encoder.operations)
    assert whole.learning == whole.operations == frozen.operations


def config(**changes):
    network = {"backbone": "resnet18", "epochs": 3, "augmentation": {"crop": 64}, "eval_size": 32}
    return resolve({
        "experiment": "x",
        "shards": 4,
        "dataset": {"kind": "demo", "train": 100, "val": 20},
        "classifiers": {"plain": network, "puzzle": network | {"puzzle": {}}},
        "attributions": {"cam": {"scales": [1.0, 2.0], "max_size": 200}},
        "refinements": {
            "crf": {"crf": {"iterations": 7}}, "graph-cut": {"graph_cut": {}},
        },
        "pseudo_labels": ["plain/cam/crf"],
        **changes,
    })  # fmt: skip


def test_a_training_sees_every_crop_three_times_and_its_tiles_as_well():
    per_pixel = counted("resnet18", 16, segmentation=False).operations
    plain = work_of("train_classifier", {"classifier": "plain"}, config(), IMAGES)
    assert plain.training == pytest.approx(3 * per_pixel * 64**2 * 100 * 3)
    assert plain.inference == pytest.approx(per_pixel * 32**2 * 20)  # after the last epoch alone
    every = config()
    every["classifiers"]["plain"]["validate_every"] = 1
    often = work_of("train_classifier", {"classifier": "plain"}, every, IMAGES)
    assert often.inference == pytest.approx(3 * plain.inference)
    puzzle = work_of("train_classifier", {"classifier": "puzzle"}, config(), IMAGES)
    assert puzzle.training == pytest.approx(2 * plain.training)


def test_maps_are_of_a_shard_over_scales_and_flips():
    per_pixel = counted("resnet18", 16, segmentation=False).operations
    wildcards = {"classifier": "plain", "attribution": "cam", "split": "train", "shard": "0"}
    work = work_of("make_maps", wildcards, config(), IMAGES)
    # 300 x 400 shrunk to 150 x 200, at scales 1 and 2, mirrored; a quarter of 100 images.
    assert work.inference == pytest.approx(per_pixel * 150 * 200 * (1 + 4) * 2 * 25)
    assert work.bytes == pytest.approx(300 * 400 / 16 * 2 * 1.5 * 25)


def test_full_maps_take_as_many_bytes_as_pixels_beside_the_cells():
    planned = config(attributions={"cam": {"full_resolution": True}})
    wildcards = {"classifier": "plain", "attribution": "cam", "split": "train", "shard": "0"}
    work = work_of("make_maps", wildcards, planned, IMAGES)
    assert work.bytes == pytest.approx(300 * 400 * (1 + 1 / 16) * 2 * 1.5 * 25)


def test_a_walk_looks_at_images_padded_to_the_training_crop():
    affinity = {"augmentation": {"crop": 350}}
    planned = config(affinity=affinity, random_walks={"rw": {}, "small": {"max_size": 200}})
    per_pixel = counted("resnet18", 16, segmentation=False).operations
    for walk, pixels in {"rw": 350 * 400, "small": 350 * 350}.items():
        wildcards = {"classifier": "plain", "walk": walk, "split": "train", "shard": "0"}
        work = work_of("propagate_maps", wildcards, planned, IMAGES)
        assert work.inference == pytest.approx(per_pixel * pixels * 2 * 25)


def test_maps_of_a_further_round_are_the_segmentations_work():
    attributions = {
        "cam": {"max_size": 200, "scales": [1.0, 2.0]},
        "second": {"method": "segmentation", "trained_on": "plain/cam/crf", "max_size": 200},
    }
    segmentation = {"backbone": "resnet34", "epochs": 1}
    planned = config(attributions=attributions, segmentation=segmentation)
    wildcards = {"classifier": "plain", "attribution": "second", "split": "train", "shard": "0"}
    work = work_of("make_maps", wildcards, planned, IMAGES)
    per_pixel = counted("resnet34", 16, segmentation=True).operations
    views = sum(scale**2 for scale in planned["attributions"]["second"]["scales"]) * 2
    assert work.network == "resnet34"
    assert work.inference == pytest.approx(per_pixel * 150 * 200 * views * 25)


def test_the_wanted_decoder_is_counted():
    networks = {}
    for decoder in ("separable", "full"):
        planned = config(segmentation={"backbone": "resnet34", "epochs": 2, "decoder": decoder})
        networks[decoder] = work_of("train_segmentation", {}, planned, IMAGES)
        with torch.device("meta"):
            model = SegmentationNetwork("resnet34", 21, decoder=decoder)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        assert networks[decoder].bytes == 4 * parameters
    assert networks["full"].training > 1.5 * networks["separable"].training


@pytest.mark.parametrize(("classes", "labels"), [("winning", 3), ("all", 21)])
def test_a_crf_takes_the_time_of_the_classes_that_it_decides_between(classes, labels):
    prediction = {"crf": {"iterations": 5}, "crf_classes": classes}
    planned = config(segmentation={"backbone": "resnet34"}, prediction=prediction)
    work = work_of("predict_masks", {"split": "train"}, planned, IMAGES)
    assert work.refining["crf"] == pytest.approx(25 * 300 * 400 * 5 * labels)


@pytest.mark.parametrize(("name", "what"), [("crf", "crf"), ("graph-cut", "graph_cut")])
def test_labels_take_what_their_refinement_takes(name, what):
    wildcards = {"classifier": "plain", "maps": "cam", "refinement": name, "split": "train",
                 "shard": "0"}  # fmt: skip
    work = work_of("make_labels", wildcards, config(), IMAGES)
    amount = {"crf": 300 * 400 * 2.5 * 7 * 25, "graph_cut": 300 * 400 * 1.5 * 25}[what]
    assert work.refining[what] == pytest.approx(amount)
    assert work.refining["image"] == 25


def test_rows_add_up_jobs_hours_and_bytes():
    one = {"classifier": "plain", "attribution": "cam", "split": "train", "shard": "0"}
    jobs = [("make_maps", one), ("make_maps", one), ("train_classifier", {"classifier": "plain"})]
    maps, training, total = estimate(jobs, config(), IMAGES, RATES)
    assert (maps["rule"], maps["jobs"], training["jobs"], total["jobs"]) == ("make_maps", 2, 1, 3)
    assert maps["hours"]["A"] == pytest.approx(maps["operations"] / 4e9 / 3600)
    assert maps["core_hours"] == pytest.approx(2 * 25 * 0.1 / 3600)
    work = work_of("train_classifier", {"classifier": "plain"}, config(), IMAGES)
    hours = (work.training / 1e9 + work.inference / 4e9) / 3600
    assert training["hours"]["A"] == pytest.approx(hours)
    for key in ("operations", "core_hours", "bytes"):
        assert total[key] == pytest.approx(maps[key] + training[key])
    lines = table([maps, training, total]).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["make_maps", "2"], ["train_classifier", "1"], ["all", "3"],
    ]  # fmt: skip


def test_gpu_hours_are_operations_over_the_rate():
    assert "10 at 10," in gpu_hours([{"operations": 3.6e17}])


def test_an_empty_plan_costs_nothing():
    (total,) = estimate([], config(), IMAGES, RATES)
    assert (total["jobs"], total["operations"], total["bytes"]) == (0, 0, 0)
    assert table([total]).splitlines()[1].split() == ["all", "0"]


def test_images_are_counted_in_the_manifest(small_dataset):
    found = known_images(config(), small_dataset["manifest"], small_dataset["classes"])
    data = read_manifest(small_dataset["manifest"], small_dataset["classes"])
    assert (found.train, found.val) == (4, 2)
    assert found.size[1] == 40
    assert found.labels == sum(len(r.labels) for r in data.of_split("train")) / 4


def test_images_are_known_of_the_demo_of_voc_and_of_lists(tmp_path):
    nowhere = tmp_path / "none"
    assert known_images(config(), nowhere, nowhere).train == 100
    aug = config(dataset={"kind": "voc", "train_list": "ImageSets/Segmentation/train_aug.txt"})
    assert known_images(aug, nowhere, nowhere) == VOC_AUG
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\nc\n", encoding="utf-8")
    (lists / "val.txt").write_text("d\n", encoding="utf-8")
    own = config(dataset={"kind": "voc", "root": str(tmp_path)})
    found = known_images(own, nowhere, nowhere)
    assert (found.train, found.val) == (3, 1)
    folder = config(dataset={"kind": "folder", "images": "x", "image_labels": "y.csv"})
    with pytest.raises(UserError, match="prepare_dataset"):
        known_images(folder, nowhere, nowhere)


def test_shipped_rates_name_every_quantity():
    work = work_of("train_classifier", {"classifier": "plain"}, config(), Images(1, 0, (1, 1), 1.0))
    (row, _) = estimate([("train_classifier", {"classifier": "plain"})], config(), IMAGES)
    assert all(hours > 0 for hours in row["hours"].values())
    assert work.training > 0
    shipped = yaml.safe_load(
        (REPOSITORY / "pipeline/resources/rates.yaml").read_text(encoding="utf-8")
    )
    assert shipped.keys() == RATES.keys()
    assert shipped["core_seconds"].keys() == RATES["core_seconds"].keys()


def test_the_full_plan_is_estimated_from_its_dry_run(tmp_path):
    command = [
        sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), "--cores", "1",
        "--directory", str(tmp_path), "estimate",
        "--configfile", str(REPOSITORY / "experiments/voc2012.yaml"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    # 32 shards of two classifiers' maps, of one walk, of three methods' labels.
    assert [rows[rule][1] for rule in ("make_maps", "propagate_maps", "make_labels")] == [
        "64", "32", "96",
    ]  # fmt: skip
    assert "10,582 train and 1,449 val" in done.stdout
