import math

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from pipeline.errors import UserError
from pipeline.models.architectures import default_architecture
from pipeline.models.backbone import create_backbone, freeze, frozen_module
from pipeline.models.segmentation_network import (
    SegmentationNetwork,
    create_segmentation_network,
    load_segmentation_network,
    save_segmentation_network,
    segmentation_loss,
)

SETTINGS = {
    "backbone": "test_resnet",
    "pretrained": False,
    "output_stride": 16,
    "architecture": None,
    "architecture_options": {},
    "dilation": True,
    "decoder": "separable",
    "atrous_rates": [12, 24, 36],
    "decoder_norm": "batch",
}


FULL = SETTINGS | {"decoder": "full", "decoder_norm": "group"}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_segmentation_network(SETTINGS, 3).eval()


@pytest.mark.parametrize("settings", [SETTINGS, FULL, FULL | {"output_stride": 8}])
@pytest.mark.parametrize("size", [(64, 64), (33, 70), (1, 1)])
def test_logits_have_the_size_of_the_image(settings, size):
    model = create_segmentation_network(settings, 3).eval()
    assert model(torch.randn(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("decoder", ["separable", "full"])
@pytest.mark.parametrize("backbone", ["resnet50", "resnest101e", "mobilenetv2_100"])
def test_promised_backbones_fit_the_decoder(backbone, decoder):
    with torch.device("meta"):
        model = create_segmentation_network(
            SETTINGS | {"backbone": backbone, "decoder": decoder}, 21
        ).eval()
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 21, 64, 64)


@pytest.mark.parametrize(("decoder", "millions"), [("separable", 3.17), ("full", 16.84)])
def test_decoders_have_their_numbers_of_parameters(decoder, millions):
    with torch.device("meta"):
        model = create_segmentation_network(
            SETTINGS | {"backbone": "resnet50", "decoder": decoder}, 21
        )
    encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert (whole - encoder) / 1e6 == pytest.approx(millions, abs=0.005)


def test_the_full_decoder_has_dropout_in_training_alone():
    model = create_segmentation_network(FULL, 3)
    decoder = model.network.decoder
    assert [part.p for part in parts_of(decoder, nn.Dropout)] == [0.5, 0.5, 0.1]
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model.train()(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


def test_convolutions_of_the_full_decoder_start_normal_by_what_they_read():
    torch.manual_seed(0)
    model = create_segmentation_network(FULL | {"backbone": "resnet18"}, 21)
    parts = [*parts_of(model.network.decoder, nn.Conv2d), model.network.segmentation_head]
    assert len(parts) == 10
    for part in parts:
        deviation = (2 / part.weight[0].numel()) ** 0.5
        count = part.weight.numel()
        assert part.weight.std().item() == pytest.approx(deviation, rel=4 / (2 * count) ** 0.5)
        # Of uniform values none is beyond 1.8 deviations.
        assert part.weight.abs().max() > 2.5 * deviation


def test_the_full_decoder_does_not_pad_the_image():
    model = create_segmentation_network(FULL, 3).eval()
    seen = []
    model.network.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    model(torch.randn(1, 3, 33, 70))
    assert seen == [(1, 3, 33, 70)]
    separable = create_segmentation_network(SETTINGS, 3).eval()
    separable.network.encoder.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape)
    )
    separable(torch.randn(1, 3, 33, 70))
    assert seen[1] == (1, 3, 64, 96)


def test_corners_of_the_logits_are_those_of_the_cells():
    model = create_segmentation_network(FULL, 3).eval()
    cells = []
    model.network.segmentation_head.register_forward_hook(lambda *given: cells.append(given[2]))
    logits = model(torch.randn(1, 3, 33, 65))
    # With corners aligned, every fourth pixel of 33 x 65 lies on one of 9 x 17 cells.
    assert cells[0].shape == (1, 3, 9, 17)
    torch.testing.assert_close(logits[..., ::4, ::4], cells[0])


@pytest.mark.parametrize("settings", [SETTINGS, FULL])
def test_every_parameter_has_a_gradient(settings):
    model = create_segmentation_network(settings, 3).train()
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_the_encoder_starts_from_a_local_backbone_file(tmp_path):
    torch.manual_seed(9)
    tensors = create_backbone("test_resnet", output_stride=16).state_dict()
    save_file(tensors, tmp_path / "w.safetensors")
    settings = SETTINGS | {"pretrained": True}
    encoder = create_segmentation_network(
        settings, 3, tmp_path / "w.safetensors"
    ).encoder.state_dict()
    assert len(encoder) > 20
    assert all(torch.equal(encoder[key], tensors[key]) for key in encoder)


def test_a_pretrained_encoder_needs_a_file():
    with pytest.raises(ValueError, match="pretrained is true"):
        create_segmentation_network(SETTINGS | {"pretrained": True}, 3)


def parts_of(module, kind):
    return [part for part in module.modules() if isinstance(part, kind)]


def test_the_decoder_may_have_group_norm():
    model = create_segmentation_network(SETTINGS | {"decoder_norm": "group"}, 3).eval()
    decoder = model.network.decoder
    assert not parts_of(decoder, nn.BatchNorm2d)
    batch = parts_of(create_segmentation_network(SETTINGS, 3).network.decoder, nn.BatchNorm2d)
    groups = parts_of(decoder, nn.GroupNorm)
    assert [(g.num_groups, g.num_channels) for g in groups] == [(4, b.num_features) for b in batch]
    assert parts_of(model.encoder, nn.BatchNorm2d)
    assert model(torch.randn(1, 3, 32, 40)).shape == (1, 3, 32, 40)


def test_the_encoder_may_be_without_dilation():
    def dilated(model):
        convolutions = parts_of(model.encoder, nn.Conv2d)
        return [part for part in convolutions if max(part.dilation) > 1]

    model = create_segmentation_network(SETTINGS | {"dilation": False}, 3).eval()
    assert not dilated(model)
    assert dilated(create_segmentation_network(SETTINGS, 3))
    assert model(torch.randn(1, 3, 32, 40)).shape == (1, 3, 32, 40)


def test_atrous_rates_are_those_of_the_settings():
    def rates(model):
        convolutions = parts_of(model.network.decoder, nn.Conv2d)
        return sorted({part.dilation[0] for part in convolutions} - {1})

    assert rates(create_segmentation_network(SETTINGS, 3)) == [12, 24, 36]
    assert rates(create_segmentation_network(SETTINGS | {"atrous_rates": [6, 12, 18]}, 3)) == [
        6,
        12,
        18,
    ]


OTHERS = [{"dilation": False}, {"atrous_rates": [2, 4, 6]}, {"decoder_norm": "group"},
          {"decoder": "full"}, {"decoder": "full", "decoder_norm": "group"}]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_a_network_of_other_settings_is_rebuilt_as_well(other, tmp_path):
    torch.manual_seed(0)
    model = create_segmentation_network(SETTINGS | other, 3).eval()
    save_segmentation_network(tmp_path / "net.safetensors", model.state_dict(), SETTINGS | other, 3)
    image = torch.randn(1, 3, 32, 40)
    assert torch.equal(load_segmentation_network(tmp_path / "net.safetensors")(image), model(image))


def test_a_saved_network_is_rebuilt_from_its_file_alone(model, tmp_path):
    save_segmentation_network(tmp_path / "model.safetensors", model.state_dict(), SETTINGS, 3)
    again = load_segmentation_network(tmp_path / "model.safetensors")
    images = torch.randn(1, 3, 40, 32)
    assert torch.equal(again(images), model(images))


def test_loss_by_hand():
    logits = torch.tensor([[[[0.0, 0.0, 9.0]], [[math.log(3.0), 0.0, 0.0]]]])  # 2 classes, 1x3
    labels = torch.tensor([[[1, 0, 255]]])
    expected = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    assert segmentation_loss(logits, labels).item() == pytest.approx(expected)


def test_loss_is_zero_with_a_gradient_where_everything_is_ignored():
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and logits.grad.abs().max() == 0


def test_loss_equals_torchs_mean_where_something_counts():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 5, 5))
    labels[0, 0] = 255
    expected = F.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(segmentation_loss(logits, labels), expected)


def test_weights_of_classes_make_the_loss_torchs_weighted_mean():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 5, 5))
    labels[0, 0] = 255
    weights = torch.tensor([1.0, 0.2, 3.0, 0.7])
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255)
    torch.testing.assert_close(segmentation_loss(logits, labels, weights), expected)
    ignored = torch.full((2, 5, 5), 255)
    assert segmentation_loss(logits, ignored, weights).item() == 0


@pytest.mark.parametrize(
    ("backbone", "proposed"),
    [("vgg16", "upernet"), ("swin_tiny_patch4_window7_224", "upernet"), ("test_vit", "dpt")],
)
def test_deeplab_on_an_encoder_without_an_output_stride_is_refused(backbone, proposed):
    message = f"backbone {backbone}: deeplabv3plus needs .* expected architecture {proposed}"
    with pytest.raises(UserError, match=message):
        SegmentationNetwork(backbone, 3, architecture="deeplabv3plus")


#: Backbones, the architecture that they get, and one that they can have.
ENCODERS = {
    "test_resnet": ("deeplabv3plus", "fpn"),
    "convnextv2_atto": ("deeplabv3plus", "upernet"),
    "tf_efficientnet_lite0": ("deeplabv3plus", "unet"),
    "densenet121": ("upernet", "manet"),
    "hrnet_w18_small": ("upernet", "linknet"),
    "swin_tiny_patch4_window7_224": ("upernet", "segformer"),
    "pvt_v2_b0": ("upernet", "unetplusplus"),
    "twins_pcpvt_small": ("upernet", "pspnet"),
    "maxvit_rmlp_pico_rw_256": ("upernet", "fpn"),
    "vgg11": ("upernet", "unet"),
    "vit_tiny_patch16_224": ("dpt", "dpt"),
    "vit_small_patch14_reg4_dinov2": ("dpt", "dpt"),
    "eva02_tiny_patch14_224": ("dpt", "dpt"),
    "vit_base_patch16_siglip_224": ("dpt", "dpt"),
}


@pytest.mark.parametrize("backbone", ENCODERS)
def test_every_family_has_a_decoder_for_images_of_any_size(backbone):
    default, other = ENCODERS[backbone]
    assert default_architecture(backbone) == default
    size = (101, 60)
    with torch.device("meta"):
        for architecture in (None, other):
            model = SegmentationNetwork(backbone, 5, architecture=architecture).eval()
            assert model(torch.zeros(2, 3, *size)).shape == (2, 5, *size)
            # Weights of timm fit, under timm's names or with _ for some dots.
            names = timm.create_model(backbone, num_classes=0).state_dict()
            flat = {name.replace(".", "_") for name in names}
            assert {name.replace(".", "_") for name in model.encoder.state_dict()} <= flat


@pytest.mark.parametrize("backbone", ["convnext_atto", "test_vit"])
def test_an_encoder_of_another_architecture_starts_from_a_file_and_is_saved(backbone, tmp_path):
    torch.manual_seed(1)
    given = timm.create_model(backbone, num_classes=0)
    save_file(given.state_dict(), tmp_path / "weights.safetensors")
    settings = SETTINGS | {"backbone": backbone, "output_stride": None, "pretrained": True}
    model = create_segmentation_network(settings, 3, tmp_path / "weights.safetensors").eval()
    flat = {name.replace(".", "_"): value for name, value in given.state_dict().items()}
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, flat[name.replace(".", "_")])
    path = tmp_path / "model.safetensors"
    save_segmentation_network(path, model.state_dict(), settings, 3)
    images = torch.randn(1, 3, 70, 41)
    with torch.no_grad():
        assert torch.equal(load_segmentation_network(path)(images), model(images))


def test_a_frozen_encoder_is_frozen_as_a_whole():
    model = create_segmentation_network(
        SETTINGS | {"backbone": "test_vit", "output_stride": None}, 3
    )
    freeze([frozen_module(model.encoder, "all")])
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert not any(p.requires_grad for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.network.decoder.parameters() if p.requires_grad)


def test_modules_of_an_encoder_have_timms_names():
    encoder = SegmentationNetwork("convnextv2_atto", 3).encoder
    stage = frozen_module(encoder, "stages.1")
    assert stage is encoder.get_submodule("stages_1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "fpn", "output_stride": 16}, "output_stride is 16, expected null: fpn"),
        (
            {"architecture": "fpn", "output_stride": None, "architecture_options": {"chanels": 1}},
            "architecture_options has 'chanels', expected options of fpn .*decoder_dropout",
        ),
        (
            {"architecture": "fpn", "output_stride": None, "backbone": "test_vit"},
            "architecture is fpn, expected dpt for test_vit",
        ),
        (
            {
                "architecture": "fpn", "output_stride": None,
                "architecture_options": {"decoder_merge_policy": "sum"},
            },
            "architecture fpn with test_resnet",
        ),
    ],
)  # fmt: skip
def test_an_architecture_that_cannot_be_built_is_named(changes, message):
    with pytest.raises(UserError, match=message):
        create_segmentation_network(SETTINGS | changes, 3)


def test_options_reach_the_decoder():
    settings = SETTINGS | {"architecture": "upernet", "output_stride": None}
    wide, narrow = (
        create_segmentation_network(settings | {"architecture_options": options}, 3)
        for options in ({}, {"decoder_channels": 32})
    )
    count = [sum(p.numel() for p in model.network.decoder.parameters()) for model in (wide, narrow)]
    assert count[1] < count[0] / 10
