"""The work of each rule, from its settings by hand."""

import numpy as np
import pytest
import torch

from pipeline.models.segmentation_network import SegmentationNetwork
from pipeline.resources.network import Network
from pipeline.resources.operations import count
from tests.resources.small import MAPS, config, per_pixel, work


def test_a_training_sees_every_crop_three_times_and_its_tiles_as_well():
    plain = work("train_classifier", {"classifier": "plain"})
    assert plain.training == pytest.approx(3 * per_pixel() * 64**2 * 96 * 3)  # six batches of 16
    assert plain.inference == pytest.approx(per_pixel() * 32**2 * 20)  # after the last epoch alone
    every = config()
    every["classifiers"]["plain"]["validate_every"] = 1
    often = work("train_classifier", {"classifier": "plain"}, every)
    assert often.inference == pytest.approx(3 * plain.inference)
    puzzle = work("train_classifier", {"classifier": "puzzle"})
    assert puzzle.training == pytest.approx(2 * plain.training)


def test_attention_is_counted_for_every_view_crop_and_tile():
    vit = {
        "backbone": "test_vit", "epochs": 3, "augmentation": {"crop": 64}, "eval_size": 32,
    }  # fmt: skip
    planned = config(
        classifiers={"plain": vit, "puzzle": vit | {"puzzle": {"pieces": 4}}},
        attributions={"cam": {"scales": [1.0, 2.0], "max_size": 200}},
    )
    found = count(Network("test_vit"))
    maps = work("make_maps", MAPS, planned)
    one = found.forward * 150 * 200 + found.attention * (150 * 200) ** 2
    two = found.forward * 300 * 400 + found.attention * (300 * 400) ** 2
    assert maps.inference == pytest.approx((one + two) * 2 * 25)
    plain = work("train_classifier", {"classifier": "plain"}, planned)
    crop, tile = (found.forward * s**2 + found.attention * s**4 for s in (64, 32))
    assert plain.training == pytest.approx(3 * crop * 96 * 3)
    assert plain.inference == pytest.approx(tile * 20)  # images of 32 pixels
    puzzle = work("train_classifier", {"classifier": "puzzle"}, planned)
    assert puzzle.training == pytest.approx(3 * (crop + 4 * tile) * 96 * 3)


def test_a_boundary_network_is_trained_on_forward_passes_of_its_backbone():
    planned = config(affinity={"epochs": 2, "augmentation": {"crop": 96}})
    found = work("train_affinity", {"classifier": "plain", "attribution": "cam"}, planned)
    assert (found.training, found.inference) == (0, pytest.approx(per_pixel() * 96**2 * 96 * 2))


def test_maps_are_of_a_shard_over_scales_and_flips():
    found = work("make_maps", MAPS)
    # 300 x 400 shrunk to 150 x 200, at scales 1 and 2, mirrored; a quarter of 100 images.
    assert found.inference == pytest.approx(per_pixel() * 150 * 200 * (1 + 4) * 2 * 25)
    assert found.bytes == pytest.approx(300 * 400 / 16 * 2 * 1.5 * 25)
    assert found.refining == {"image": 25}


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        # A forward pass, and a backward pass of twice its operations for each of 1.5 labels.
        ({"method": "grad-cam"}, 4),
        ({"method": "grad-cam-pp", "layer": "layer3"}, 4),
        ({"method": "saliency", "crops": 5}, 4 * 5),
        ({"method": "saliency", "crops": 1, "smooth_grad": {"samples": 7}}, 4 * 7),
    ],
)
def test_gradients_go_back_for_each_label_crop_and_noisy_copy(settings, passes):
    found = work("make_maps", MAPS, config(attributions={"cam": settings}))
    assert found.inference == pytest.approx(passes * per_pixel() * 300 * 400 * 2 * 25)


def test_full_maps_take_as_many_bytes_as_pixels_beside_the_cells():
    found = work("make_maps", MAPS, config(attributions={"cam": {"full_resolution": True}}))
    assert found.bytes == pytest.approx(300 * 400 * (1 + 1 / 16) * 2 * 1.5 * 25)


def test_a_walk_looks_at_images_padded_to_the_training_crop():
    affinity = {"augmentation": {"crop": 350}}
    planned = config(affinity=affinity, random_walks={"rw": {}, "small": {"max_size": 200}})
    for walk, pixels in {"rw": 350 * 400, "small": 350 * 350}.items():
        wildcards = {"classifier": "plain", "walk": walk, "split": "train", "shard": "0"}
        found = work("propagate_maps", wildcards, planned)
        assert found.inference == pytest.approx(per_pixel() * pixels * 2 * 25)
        assert found.refining == {"image": 25, "walk": pytest.approx(300 * 400 / 16 * 1.5 * 25)}


@pytest.mark.parametrize(("layers", "sources"), [(["layer2", "layer3"], 2), (None, 1)])
def test_a_walk_over_features_compares_the_channels_of_neighbors(layers, sources):
    walks = {"rw": {"flip": False}, "small": {"max_size": 200, "radius": 10}}
    planned = config(affinity={"kind": "features", "layers": layers}, random_walks=walks)
    wildcards = {"classifier": "plain", "walk": "rw", "split": "train", "shard": "0"}
    found = work("propagate_maps", wildcards, planned)
    # No padding; 512 channels of resnet18, and half a disc of neighbors of each cell.
    assert found.inference == pytest.approx(per_pixel() * 300 * 400 * 25)
    cosines = np.pi / 2 * 5**2 * 300 * 400 / 16 * 512 * sources * 25
    assert found.refining["cosines"] == pytest.approx(cosines)
    assert found.refining["walk"] == pytest.approx(300 * 400 / 16 * 1.5 * 25)
    wider = work("propagate_maps", wildcards | {"walk": "small"}, planned)
    assert wider.inference == pytest.approx(per_pixel() * 150 * 200 * 2 * 25)
    assert wider.refining["cosines"] == pytest.approx(4 * 2 * cosines)


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({"radius": 2, "steps": 64}, 1),
        ({"radius": 10}, 4),  # four times the pairs of a radius of 5
        ({"steps": 1024}, 2),  # the degree of the polynomial grows with the root
        ({"steps": 320, "tolerance": 0}, 4),  # products, instead of 80 of the polynomial
        ({"radius": 10, "steps": 1024}, 8),
    ],
)
def test_a_longer_or_wider_walk_takes_longer_than_the_measured_one(settings, factor):
    planned = config(affinity={}, random_walks={"rw": {}, "other": settings})
    measured, other = (
        work("propagate_maps", {**MAPS, "walk": walk}, planned).refining["walk"]
        for walk in ("rw", "other")
    )
    assert other == pytest.approx(factor * measured)


def test_maps_of_a_further_round_are_the_segmentations_work():
    attributions = {
        "cam": {"max_size": 200, "scales": [1.0, 2.0]},
        "second": {"method": "segmentation", "trained_on": "plain/cam/crf", "max_size": 200},
    }
    planned = config(attributions=attributions, segmentation={"backbone": "resnet34"})
    found = work("make_maps", {**MAPS, "attribution": "second"}, planned)
    views = sum(scale**2 for scale in planned["attributions"]["second"]["scales"]) * 2
    forward = per_pixel("resnet34", decoder="separable")
    assert found.network == "resnet34"
    assert found.inference == pytest.approx(forward * 150 * 200 * views * 25)


def test_the_wanted_decoder_is_counted():
    networks = {}
    for decoder in ("separable", "full"):
        planned = config(segmentation={"backbone": "resnet34", "epochs": 2, "decoder": decoder})
        networks[decoder] = work("train_segmentation", {}, planned)
        with torch.device("meta"):
            model = SegmentationNetwork("resnet34", 21, decoder=decoder)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        assert networks[decoder].bytes == 4 * parameters
    assert networks["full"].training > 1.5 * networks["separable"].training


@pytest.mark.parametrize("rule", ["predict_masks", "predict_soft_masks"])
@pytest.mark.parametrize(("classes", "labels"), [("winning", 3), ("all", 21)])
def test_a_crf_takes_the_time_of_the_classes_that_it_decides_between(rule, classes, labels):
    prediction = {"crf": {"iterations": 5}, "crf_classes": classes}
    planned = config(segmentation={"backbone": "resnet34"}, prediction=prediction)
    found = work(rule, {"split": "train", "shard": "0"}, planned)
    assert found.refining["crf"] == pytest.approx(25 * 300 * 400 * 5 * labels)


@pytest.mark.parametrize("rule", ["make_labels", "make_soft_labels"])
@pytest.mark.parametrize(("name", "what"), [("crf", "crf"), ("graph-cut", "graph_cut")])
def test_labels_take_what_their_refinement_takes(rule, name, what):
    found = work(rule, {**MAPS, "maps": "cam", "refinement": name})
    amount = {"crf": 300 * 400 * 2.5 * 7 * 25, "graph_cut": 300 * 400 * 1.5 * 25}[what]
    assert found.refining[what] == pytest.approx(amount)
    assert found.refining["image"] == 25


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({"kind": "felzenszwalb", "scales": [50, 100, 200]}, 3),
        ({"kind": "slic", "segments": [400, 800]}, 2),
        ({"kind": "folder", "folder": "masks"}, 0),
    ],
)
def test_superpixels_take_the_pixels_of_every_scale(settings, scales):
    planned = config(regions={"any": settings})
    found = work("make_regions", {"regions": "any", "split": "train", "shard": "0"}, planned)
    assert found.refining == {"image": 25, "superpixels": 300 * 400 * scales * 25}


def test_labels_of_confident_pixels_take_a_crf_at_each_threshold():
    planned = config(affinity={"confident_labels": {"crf": {"iterations": 3}}})
    found = work("make_affinity_labels", {"classifier": "plain", "shard": "0"}, planned)
    assert found.refining["crf"] == pytest.approx(2 * 300 * 400 * 2.5 * 3 * 25)


# Images of 300 x 400, which a probe shrinks and enlarges.
@pytest.mark.parametrize(("size", "pixels"), [(200, 150 * 200), (800, 600 * 800)])
def test_a_probe_sees_the_train_images_and_their_mirror_images_once(size, pixels):
    probe = {"kind": "linear-probe", "backbone": "resnet18", "size": size}
    planned = config(classifiers={"plain": probe})
    found = work("fit_probe", {"classifier": "plain"}, planned)
    assert found.inference == pytest.approx(per_pixel() * pixels * 2 * 100)


def test_a_minimum_of_steps_raises_the_epochs_of_every_training():
    affinity = {"epochs": 2, "augmentation": {"crop": 96}, "batch_size": 20}
    rules = {"train_affinity": "affinity", "train_segmentation": "segmentation"}
    segmentation = {"backbone": "resnet18", "epochs": 2, "batch_size": 20}
    for rule, section in rules.items():
        sections = {"affinity": affinity, "segmentation": segmentation}
        few, more = (
            work(
                rule,
                {"classifier": "plain"},
                config(**sections | {section: sections[section] | {"min_steps": n}}),
            )
            for n in (0, 31)
        )
        # 5 steps in an epoch of 100 images: 7 epochs instead of 2.
        assert more.training + more.inference == pytest.approx(3.5 * (few.training + few.inference))


def test_stored_features_serve_a_probe_and_the_maps_of_train():
    probe = {"kind": "linear-probe", "backbone": "resnet18", "views_of": "cam"}
    attributions = {"cam": {"scales": [1.0, 2.0], "flip": True, "max_size": 200}}
    planned = config(classifiers={"plain": probe}, attributions=attributions)
    found = work("extract_features", {"classifier": "plain", "shard": "0"}, planned)
    pixels = 150 * 200 * (1 + 4) * 2 * 25
    assert found.inference == pytest.approx(per_pixel() * pixels)
    assert found.bytes == pytest.approx(pixels / 16**2 * 512 * 2)  # 512 channels of 16 bits
    assert work("fit_probe", {"classifier": "plain"}, planned).inference == 0
    assert work("make_maps", MAPS, planned).inference == 0
    val = work("make_maps", MAPS | {"split": "val"}, planned)
    assert val.inference == pytest.approx(per_pixel() * 150 * 200 * (1 + 4) * 2 * 5)


def test_label_errors_need_passes_only_for_features_that_are_not_stored():
    probe = {"kind": "linear-probe", "backbone": "resnet18"}
    names = {"classifier": "plain"}
    own = work("find_label_errors", names, config(classifiers={"plain": probe | {"size": 200}}))
    assert own.inference == pytest.approx(per_pixel() * 150 * 200 * 2 * 100)
    stored = config(classifiers={"plain": probe | {"views_of": "cam"}})
    assert work("find_label_errors", names, stored).inference == 0
    assert work("find_label_errors", names).inference == 0  # a network's scores
    assert own.bytes == 0


def test_class_models_climb_once_for_each_class():
    planned = config(class_models={"size": 64, "steps": 10})
    found = work("visualize_classes", {"classifier": "plain"}, planned)
    assert found.inference == pytest.approx(3 * per_pixel() * 64**2 * 10 * 20)


def test_units_are_shown_on_images_that_are_seen_again():
    planned = config(units={"per_class": 2, "images": 3, "max_size": 200})
    found = work("visualize_units", {"classifier": "plain"}, planned)
    assert found.inference == pytest.approx(per_pixel() * 150 * 200 * (100 + 2 * 3 * 20))


@pytest.mark.parametrize(
    ("settings", "images", "passes"),
    [
        # The image, and for each of 1.5 labels an explanation and both curves of 5 + 1 images.
        ({"steps": 5, "images": 10}, 10, 1 + 1.5 * 13),
        ({"steps": 0, "images": None}, 20, 1 + 1.5),
        ({"steps": 0, "images": 1000}, 20, 1 + 1.5),
    ],
)
def test_faithfulness_is_measured_on_changed_images(settings, images, passes):
    comparison = {"methods": ["plain/cam"], "max_size": 200, "faithfulness": settings}
    wildcards = {"classifier": "plain", "maps": "cam", "split": "val"}
    found = work("evaluate_faithfulness", wildcards, config(comparison=comparison))
    assert found.inference == pytest.approx(per_pixel() * 150 * 200 * images * passes)


@pytest.mark.parametrize(
    ("rule", "wildcards", "images"),
    [
        ("evaluate_labels", {"split": "val"}, 20),
        ("sweep_thresholds", {"split": "train"}, 5 * 100),
        ("export_labels", {}, 100),
        ("evaluate_labels", {"split": "a folder"}, 0),
    ],
)
def test_scoring_reads_the_images_of_a_split(rule, wildcards, images):
    assert work(rule, wildcards).refining == {"image": images}


def test_a_rule_without_a_cost_has_no_work():
    found = work("report", {})
    assert (found.training, found.inference, found.refining, found.bytes) == (0, 0, None, 0)


def test_archives_take_their_bytes():
    assert work("download_archive", {"archive": "sbd"}).bytes == 1.4e9
    assert work("assemble_devkit", {}).bytes == 2.2e9
