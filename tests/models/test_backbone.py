import copy
import functools

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.models.backbone import (
    create_backbone,
    freeze_batch_norm,
    initialize_backbone,
    load_backbone,
    normalization,
)
from pipeline.models.strides import set_output_stride

#: Backbones that the project promises; the large ones are built without memory, on "meta".
PROMISED = ["resnet50", "resnet101", "resnest101e", "resnest269e", "mobilenetv2_100"]


@pytest.mark.parametrize("name", PROMISED)
def test_promised_backbones_have_a_map_at_stride_16(name):
    with torch.device("meta"):
        backbone = create_backbone(name, output_stride=16).eval()
        features = backbone.forward_features(torch.zeros(1, 3, 64, 96))
    assert features.shape == (1, backbone.num_features, 4, 6)


def test_without_dilation_a_stage_is_as_in_irn():
    torch.manual_seed(0)
    backbone = create_backbone("resnet18", output_stride=16, dilation=False).eval()
    # IRN's own way: the first block of the last stage has stride 1, and nothing else changes.
    expected = timm.create_model("resnet18", num_classes=0, global_pool="").eval()
    expected.load_state_dict(backbone.state_dict())
    expected.layer4[0].conv1.stride = expected.layer4[0].downsample[0].stride = (1, 1)
    image = torch.randn(1, 3, 70, 90)
    assert torch.equal(backbone.forward_features(image), expected.forward_features(image))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", PROMISED)
def test_without_dilation_maps_have_the_same_size(name, output_stride):
    with torch.device("meta"):
        backbone = create_backbone(name, output_stride=output_stride, dilation=False).eval()
        features = backbone.forward_features(torch.zeros(1, 3, 65, 96))
    assert features.shape[2:] == (-(-65 // output_stride), 96 // output_stride)


#: A network, a stage's end before what its features pass last, and how many stages follow it.
INNER = [("resnet18", "layer3", 1), ("mobilenetv2_100", "blocks.6", 0), ("vgg16", "features.22", 1)]


@pytest.mark.parametrize(("name", "layer", "from_end"), INNER)
def test_features_of_an_inner_layer_equal_timms(name, layer, from_end):
    torch.manual_seed(0)
    whole = create_backbone(name, output_stride=16).eval()
    part = create_backbone(name, output_stride=16, last_layer=layer).eval()
    part.load_state_dict({key: whole.state_dict()[key] for key in part.state_dict()})
    image = torch.randn(1, 3, 64, 96)
    stages = whole.forward_intermediates(image, intermediates_only=True)
    found = part.forward_features(image)
    assert torch.equal(found, stages[-1 - from_end])
    assert found.shape[1] == part.num_features
    assert len(part.state_dict()) < len(whole.state_dict())


def test_a_layer_that_ends_no_stage_is_named():
    with pytest.raises(UserError, match=r"'layer9', expected the end of a stage: .*layer3, layer4"):
        create_backbone("resnet18", output_stride=16, last_layer="layer9")


#: Backbones of the ADL paper, and a relative of VGG-16.
LOCALIZERS = ["vgg16", "vgg19_bn", "inception_v3", "seresnet50", "mobilenetv1_100"]


def on_meta(name, output_stride):
    with torch.device("meta"):
        return create_backbone(name, output_stride=output_stride)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", LOCALIZERS)
def test_maps_have_a_cell_per_stride_and_one_for_the_rest(name, output_stride):
    backbone = on_meta(name, output_stride).eval()
    cells = 224 // output_stride
    features = backbone.forward_features(torch.zeros(1, 3, 224, 224, device="meta"))
    assert features.shape == (1, backbone.num_features, cells, cells)
    features = backbone.forward_features(torch.zeros(1, 3, 225, 1, device="meta"))
    assert features.shape == (1, backbone.num_features, cells + 1, 1)


@pytest.mark.parametrize("name", LOCALIZERS)
def test_every_parameter_has_a_part_in_the_features(name):
    assert unused(on_meta(name, 16)) == []


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "convnext_tiny", "regnetx_002"])
def test_every_parameter_that_learns_has_a_part_in_the_features(name):
    """Processes that train together wait for the gradient of each."""
    assert unused(on_meta(name, 32)) == []


def unused(backbone):
    backbone.train().forward_features(torch.zeros(2, 3, 64, 64, device="meta")).sum().backward()
    return [key for key, p in backbone.named_parameters() if p.grad is None and p.requires_grad]


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", LOCALIZERS)
def test_stages_are_those_of_the_networks_feature_info(name, output_stride):
    backbone = on_meta(name, output_stride).eval()
    image = torch.zeros(1, 3, 64, 96, device="meta")
    stages = backbone.forward_intermediates(image, intermediates_only=True, stop_early=True)
    said = [(info["num_chs"], 64 // info["reduction"]) for info in backbone.feature_info]
    assert [stage.shape[1:3] for stage in stages] == said
    assert said[-1][1] == 64 // output_stride


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("vgg16", ("pre_logits.", "head.")),
        ("vgg11_bn", ("pre_logits.", "head.")),
        ("inception_v3", ("fc.",)),
        ("inception_v3.tf_in1k", ("fc.",)),
    ],
)
def test_tensors_of_a_changed_network_keep_timms_names_and_order(name, left_out):
    with torch.device("meta"):
        whole = timm.create_model(name)
    expected = [key for key in whole.state_dict() if not key.startswith(left_out)]
    assert len(expected) < len(whole.state_dict())
    for output_stride in (8, 16, 32):
        assert list(on_meta(name, output_stride).state_dict()) == expected


@functools.cache
def plain(name):
    torch.manual_seed(5)
    # VGG's fully connected layers, which the features do not need, are kept small.
    narrow = {"mlp_ratio": 1 / 4096} if name.startswith("vgg") else {}
    network = timm.create_model(name, num_classes=0, global_pool="", **narrow).double().eval()
    return network.requires_grad_(False)


@functools.cache
def strided(name, output_stride):
    network = copy.deepcopy(plain(name))
    set_output_stride(network, output_stride)
    return network


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "inception_v3"])
@pytest.mark.parametrize("size", [(32, 48), (57, 27)])
def test_every_second_cell_of_a_finer_map_is_the_coarser_map(name, size):
    torch.manual_seed(6)
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    maps = {s: strided(name, s).forward_features(images) for s in (8, 16, 32)}
    torch.testing.assert_close(maps[8][..., ::2, ::2], maps[16], rtol=1e-9, atol=0)
    if name == "inception_v3":
        torch.testing.assert_close(maps[16][..., ::2, ::2], maps[32], rtol=1e-9, atol=0)
    else:
        # VGG at stride 32 has one pool more.
        pooled = torch.nn.functional.max_pool2d(maps[16], 2, ceil_mode=True)
        assert torch.equal(pooled, maps[32])


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_vgg_computes_what_timm_does_before_its_last_pool(name):
    torch.manual_seed(7)
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    expected = plain(name).features[:-1](images)
    assert torch.equal(strided(name, 16).forward_features(images), expected)
    assert torch.equal(
        strided(name, 32).forward_features(images), plain(name).forward_features(images)
    )


def test_inceptions_padded_stem_computes_what_timms_does_away_from_the_border():
    torch.manual_seed(8)
    images = torch.randn(1, 3, 200, 200, dtype=torch.float64)
    stages = {"indices": [2], "stop_early": True, "intermediates_only": True}
    (expected,) = plain("inception_v3").forward_intermediates(images, **stages)
    # timm's cell i is centered at pixel 13 + 8 i, ours at pixel 8 i.
    shifted = images[..., 13:, 13:]
    (features,) = strided("inception_v3", 16).forward_intermediates(shifted, **stages)
    # A cell sees 63 pixels to either side, so that cell 8 is the first to see no border.
    inside = slice(8, expected.shape[-1] - 8)
    assert expected[..., inside, inside].numel() > 0
    torch.testing.assert_close(
        features[..., inside, inside], expected[..., inside, inside], rtol=1e-9, atol=0
    )


def test_inceptions_blocks_compute_what_timms_do():
    torch.manual_seed(9)
    features = torch.randn(1, 288, 19, 21, dtype=torch.float64).relu()
    for name in [f"Mixed_{n}" for n in ("6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")]:
        expected = getattr(plain("inception_v3"), name)(features)
        if name in ("Mixed_6a", "Mixed_7a"):
            # timm's cell i is centered at place 2 i + 1, as these blocks pad nothing.
            finer = strided("inception_v3", 8 if name == "Mixed_6a" else 16)
            result = getattr(finer, name)(features)
            assert result.shape[2:] == features.shape[2:]
            result = result[..., 1:-1:2, 1:-1:2]
        else:
            result = getattr(strided("inception_v3", 32), name)(features)
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=0)
        features = expected


@pytest.mark.parametrize(
    ("name", "rest"),
    [("vgg11", {"mlp_ratio": 1 / 4096}), ("inception_v3", {"aux_logits": True})],
)
def test_weights_of_a_whole_network_load_into_a_changed_one(name, rest, tmp_path):
    torch.manual_seed(10)
    tensors = timm.create_model(name, num_classes=7, **rest).half().state_dict()
    save_file(tensors, tmp_path / "weights.safetensors")
    backbone = create_backbone(name, output_stride=16)
    load_backbone(backbone, tmp_path / "weights.safetensors")
    state = backbone.state_dict()
    assert state.keys() < tensors.keys()
    assert all(torch.equal(state[key], tensors[key].to(state[key].dtype)) for key in state)


@pytest.mark.parametrize(
    ("name", "near"),
    [("esnet50", "resnet50"), ("resnet50.a9_in1k", "resnet50.a3_in1k"), ("ResNet18", "resnet18")],
)
def test_a_name_that_timm_lacks_is_refused_with_a_near_one(name, near):
    with pytest.raises(UserError, match=rf"backbone is '{name}'.* did you mean .*{near}"):
        create_backbone(name, output_stride=16)


def test_a_name_like_no_other_is_refused_without_a_guess():
    with pytest.raises(UserError, match=r"expected a model name of timm$"):
        create_backbone("q", output_stride=16)


#: timm refuses the first with a TypeError, the next two with an AssertionError, the next with
#: a ValueError and asks nothing of the last two.
@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        ("vit_tiny_patch16_224", 32),
        ("beit_base_patch16_224", 16),
        ("dla34", 16),
        ("inception_next_atto", 16),
        ("cspnext_s", 4),
        ("vgg11", 4),
        ("inception_v3", 64),
    ],
)
def test_a_stride_that_a_network_cannot_have_is_refused(name, output_stride):
    with pytest.raises(UserError, match=rf"(?i){name[:3]}\w* cannot have output_stride"):
        on_meta(name, output_stride)


@pytest.mark.parametrize(
    ("name", "error"), [("resnet18", MemoryError), ("resnet18", KeyError), ("vgg11", TypeError)]
)
def test_other_errors_of_timm_are_not_hidden(name, error, monkeypatch):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(error):
        create_backbone(name, output_stride=16)


def tiny(seed):
    torch.manual_seed(seed)
    return create_backbone("test_resnet", output_stride=16)


def test_weights_of_a_whole_timm_network_load_without_its_classifier(tmp_path):
    torch.manual_seed(3)
    whole = timm.create_model("test_resnet", num_classes=7)
    tensors = {k: v for k, v in whole.state_dict().items() if "num_batches_tracked" not in k}
    save_file(tensors, tmp_path / "weights.safetensors")
    backbone = tiny(4)
    load_backbone(backbone, tmp_path / "weights.safetensors")
    state = backbone.state_dict()
    assert all(torch.equal(state[key], tensors[key]) for key in tensors if key in state)
    assert sum(key in tensors for key in state) > 20


def test_weights_in_another_naming_are_refused(tmp_path):
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"features.0.weight.*tensor names of timm or torchvision"):
        load_backbone(tiny(0), tmp_path / "w.safetensors")


def test_weights_of_another_width_are_refused_by_name_and_shape(tmp_path):
    tensors = tiny(0).state_dict()
    key = next(k for k in tensors if k.endswith("conv1.weight"))
    tensors[key] = torch.zeros(1, 2, 3)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=rf"{key} is \(1, 2, 3\), expected"):
        load_backbone(tiny(0), tmp_path / "w.safetensors")


def test_a_backbone_starts_from_a_file_or_is_left_alone(tmp_path):
    save_file(tiny(1).state_dict(), tmp_path / "w.safetensors")
    before, backbone = tiny(2).state_dict(), tiny(2)
    initialize_backbone(backbone, None, pretrained=False)
    assert all(torch.equal(backbone.state_dict()[key], before[key]) for key in before)
    initialize_backbone(backbone, tmp_path / "w.safetensors", pretrained=True)
    assert all(
        torch.equal(backbone.state_dict()[key], v) for key, v in tiny(1).state_dict().items()
    )


def test_pretrained_without_a_file_is_a_mistake_of_the_rule_not_of_the_user():
    with pytest.raises(ValueError, match="pretrained is true, got no file of weights"):
        initialize_backbone(tiny(0), None, pretrained=True)


def test_missing_and_damaged_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="no such weights file"):
        load_backbone(tiny(0), tmp_path / "absent.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(UserError, match=r"bad.safetensors: not a complete safetensors"):
        load_backbone(tiny(0), tmp_path / "bad.safetensors")


@pytest.mark.parametrize("affine", [True, False])
def test_freezing_batch_norm_reaches_every_layer_but_the_heads(affine):
    backbone = tiny(0)
    head = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    model = torch.nn.Sequential(backbone, head).train()
    freeze_batch_norm(model, head, affine=affine)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert not module.training
            assert module.weight.requires_grad == module.bias.requires_grad == (not affine)
        elif isinstance(module, torch.nn.Conv2d):
            assert module.weight.requires_grad
    assert head[1].training and head[1].weight.requires_grad


def test_normalization_is_the_networks_own():
    mean, std = normalization(create_backbone("resnet18", output_stride=32))
    assert mean == (0.485, 0.456, 0.406)
    assert std == (0.229, 0.224, 0.225)
