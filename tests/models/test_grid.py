"""Networks of many families of timm, on their own grid or with an output stride."""

import pytest
import torch
from torch import nn

from pipeline.attribution.cam import cam
from pipeline.attribution.grad_cam import grad_cam, grad_cam_pp
from pipeline.attribution.saliency import saliency
from pipeline.errors import UserError
from pipeline.models.backbone import create_backbone, find_stride, kept_stages
from pipeline.models.boundary import BoundaryNetwork
from pipeline.models.cell_centers import CellCenters
from pipeline.models.classifier import create_classifier, load_classifier, save_classifier
from pipeline.models.grid import as_map, change_map, find_grid

#: A small network of each family, and its stride by default.
FAMILIES = {
    "resnet10t": 16,
    "resnest14d": 16,
    "regnety_002": 16,
    "convnextv2_atto": 16,
    "tf_efficientnet_lite0": 16,
    "densenet121": 32,
    "hrnet_w18_small": 32,
    "mobilenetv4_conv_small_050": 32,
    "vit_tiny_patch16_224": 16,
    "vit_small_patch14_reg4_dinov2": 14,
    "vit_base_patch32_clip_224": 32,
    "vit_base_patch16_siglip_224": 16,
    "vit_small_patch16_dinov3": 16,
    "eva02_tiny_patch14_224": 14,
    "swin_tiny_patch4_window7_224": 32,
    "maxvit_rmlp_pico_rw_256": 32,
    "vit_tiny_r_s16_p8_224": 32,
    "pvt_v2_b0": 32,
    "twins_pcpvt_small": 32,
}
#: Those whose cells are patches, and that pass gradients through few and small blocks.
SMALL_PATCHES = ("vit_tiny_patch16_224", "eva02_tiny_patch14_224", "pvt_v2_b0")


def build(name, **settings):
    """Return a backbone in evaluation mode, with the same random weights in every call."""
    torch.manual_seed(0)
    return create_backbone(name, **settings).eval()


def on_meta(name, **settings):
    with torch.device("meta"):
        return create_backbone(name, **settings).eval()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(65, 130), (101, 97), (300, 225)])
def test_features_of_every_family_cover_images_of_any_size(name, size):
    find_grid.cache_clear()
    with torch.no_grad():
        backbone, stride = on_meta(name), FAMILIES[name]
    assert find_stride(name) == stride
    features = backbone.forward_features(torch.zeros(2, 3, *size, device="meta"))
    rounded = (
        (lambda side: side // stride) if "convnext" in name else (lambda side: -(-side // stride))
    )
    assert tuple(features.shape) == (2, backbone.num_features, *map(rounded, size))


@pytest.mark.parametrize("name", SMALL_PATCHES)
def test_padding_a_batch_and_copies_do_not_change_a_map(name):
    backbone, stride = build(name), FAMILIES[name]
    images = torch.rand(2, 3, 3 * stride - 5, 2 * stride + 3)
    with torch.no_grad():
        features = backbone.forward_features(images)
        single = torch.cat([backbone.forward_features(image[None]) for image in images])
        # Zero, as the pipeline pads: the mean color.
        whole = nn.functional.pad(images, (0, stride - 3, 0, 5))
        padded = backbone.forward_features(whole)
    torch.testing.assert_close(features, single, rtol=1e-4, atol=1e-5)
    if backbone.grid.multiple > 1:
        torch.testing.assert_close(features, padded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_tokens_lie_in_the_order_of_the_patches(name):
    """A change inside one patch changes the output of the patch embedding in that cell alone."""
    backbone, stride = build(name), FAMILIES[name]
    images = torch.rand(1, 3, 3 * stride, 5 * stride)
    changed = images.clone()
    changed[..., stride + 1, 3 * stride + 2] += 1  # row 1, column 3
    found = []
    backbone.patch_embed.register_forward_hook(
        lambda *call: found.append(as_map(backbone, flat(call[2])))
    )
    with torch.no_grad():
        for each in (images, changed):
            backbone.forward_features(each)
    cells = (found[0] != found[1]).any(dim=1)[0].nonzero()
    assert found[0].shape[2:] == (3, 5) and cells.tolist() == [[1, 3]]


def flat(output):
    """Return patches as tokens: networks with images of any size keep them as a grid."""
    return output.flatten(1, 2) if output.dim() == 4 else output


@pytest.mark.parametrize("name", FAMILIES)
def test_shifting_an_image_by_a_cell_shifts_the_map_by_a_cell(name):
    """Attention sees the whole image, so cells are compared at three offsets, not for equality."""
    backbone, stride = build(name), FAMILIES[name]
    colors = torch.randn(1, 3, 12, 17)  # more than what an untrained network sees of the borders
    wide = nn.functional.interpolate(colors, scale_factor=stride)
    with torch.no_grad():
        left = backbone.forward_features(wide[..., : 16 * stride])
        right = backbone.forward_features(wide[..., stride:].contiguous())
    inner = left[..., 5:7, 7:9]
    distances = [float((inner - right[..., 5:7, 7 - by : 9 - by]).abs().mean()) for by in (0, 1, 2)]
    assert distances.index(min(distances)) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_every_trainable_parameter_has_a_gradient_and_files_rebuild_the_network(name, tmp_path):
    torch.manual_seed(0)
    settings = {"backbone": name, "output_stride": None, "pretrained": False, "pooling": "gap"}
    model = create_classifier(settings, 2).train()
    model(torch.rand(2, 3, 100, 70)).logits.square().sum().backward()
    lacking = [
        key for key, value in model.named_parameters() if value.requires_grad and value.grad is None
    ]
    assert lacking == []
    path = tmp_path / "model.safetensors"
    save_classifier(path, model.state_dict(), settings, 2)
    loaded = load_classifier(path)
    assert all(
        torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items()
    )
    save_classifier(tmp_path / "again.safetensors", loaded.state_dict(), settings, 2)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", FAMILIES)
def test_boundaries_of_every_family_have_four_pixels_a_cell(name):
    with torch.device("meta"):
        network = BoundaryNetwork(create_backbone(name), crop=64).eval()
        found = network(torch.zeros(1, 3, 70, 101))
    assert tuple(found.shape) == (1, 18, 26)


def test_a_plain_transformer_is_read_after_each_quarter():
    assert list(kept_stages(on_meta("vit_tiny_patch16_224"))) == [2, 5, 8, 11]
    assert list(kept_stages(on_meta("vit_tiny_patch16_224", last_layer="blocks.5"))) == [0, 2, 3, 5]
    assert list(kept_stages(on_meta("vit_tiny_patch16_224", last_layer="blocks.1"))) == [0, 1]


def test_depths_of_a_transformer_are_concatenated():
    inner, last = (
        build("vit_tiny_patch16_224", last_layer="blocks.2"),
        build("vit_tiny_patch16_224"),
    )
    both = build("vit_tiny_patch16_224", last_layer=["blocks.2", "blocks.11"])
    images = torch.rand(1, 3, 50, 41)
    with torch.no_grad():
        features = both.forward_features(images)
        assert features.shape == (1, 2 * 192, 4, 3) and both.num_features == 2 * 192
        torch.testing.assert_close(features[:, :192], inner.forward_features(images))
    assert last.num_features == 192


def test_an_inner_stage_of_a_hierarchical_network_has_its_own_stride():
    backbone = build("swin_tiny_patch4_window7_224", last_layer="layers.1")
    assert backbone.forward_features(torch.rand(1, 3, 60, 33)).shape == (1, 192, 8, 5)
    centers = CellCenters(backbone)
    assert centers.of_side(60, 0) == (3.5, 8)


@pytest.mark.parametrize(
    ("layer", "patch"), [(None, 32), ("layers.0", 4), ("layers.2.blocks.1", 16)]
)
def test_the_centers_of_patches_are_known(layer, patch):
    centers = CellCenters(on_meta("swin_tiny_patch4_window7_224"), layer)
    assert centers.of_side(123, 1) == ((patch - 1) / 2, patch)


def test_a_change_of_a_map_leaves_class_and_register_tokens():
    backbone = build("vit_small_patch14_reg4_dinov2")
    backbone.forward_features(torch.rand(2, 3, 40, 29))
    tokens = torch.rand(2, 5 + 3 * 3, 384)
    seen = []

    def double(features):
        seen.append(features)
        return 2 * features

    changed = change_map(backbone, tokens, double)
    assert torch.equal(changed[:, :5], tokens[:, :5]) and torch.equal(
        changed[:, 5:], 2 * tokens[:, 5:]
    )
    assert torch.equal(seen[0][1, :, 1, 2], tokens[1, 5 + 1 * 3 + 2])
    channels_last = build("swin_tiny_patch4_window7_224")
    channels_last.forward_features(torch.rand(1, 3, 64, 64))
    output = torch.rand(1, 2, 3, 4)
    seen.clear()
    assert torch.equal(change_map(channels_last, output, double), 2 * output)
    assert seen[0].shape == (1, 4, 2, 3)


def test_networks_for_images_of_one_size_are_refused():
    with pytest.raises(UserError, match="beit_base_patch16_224 accepts only images of 224 x 224"):
        find_grid("beit_base_patch16_224")
    with pytest.raises(
        UserError, match=r"vit_tiny\w+ cannot have output_stride 32.*expected null or 16, its only"
    ):
        create_backbone("vit_tiny_patch16_224", output_stride=32)
    assert find_stride("vit_tiny_patch16_224", 16) == 16


def test_a_dropout_layer_hides_patches_and_no_class_token():
    settings = {
        "backbone": "vit_tiny_patch16_224", "output_stride": None, "pretrained": False,
        "pooling": "gap", "adl": {"points": ["blocks.3"], "threshold": 0.9, "drop_rate": 1.0},
    }  # fmt: skip
    torch.manual_seed(0)
    model = create_classifier(settings, 2)
    outputs = []
    model.backbone.get_submodule("blocks.3").register_forward_hook(
        lambda *call: outputs.append(call[2])
    )
    images = torch.rand(1, 3, 64, 48)
    model.train()(images)
    (tokens,) = outputs
    hidden = (tokens == 0).all(dim=2)[0]
    assert not hidden[0] and 0 < hidden[1:].sum() < 12


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_all_attribution_methods_work_on_transformers(name):
    torch.manual_seed(0)
    settings = {"backbone": name, "output_stride": None, "pretrained": False, "pooling": "gap"}
    model, images = create_classifier(settings, 3).eval(), torch.rand(2, 3, 70, 41)
    classes = torch.tensor([0, 2])
    cells = (2, 2, *(-(-side // FAMILIES[name]) for side in (70, 41)))
    plain = cam(model, images, classes)
    assert tuple(plain.shape) == cells
    # With average pooling, Grad-CAM of the features is CAM over the number of cells.
    torch.testing.assert_close(grad_cam(model, images, classes) * plain[0, 0].numel(), plain)
    assert tuple(grad_cam_pp(model, images, classes).shape) == cells
    assert saliency(model, images, classes, crops=1).shape == (2, 2, 70, 41)
