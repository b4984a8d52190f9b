import argparse
import re
import zlib
from pathlib import Path

import pytest
import timm
import torch
import torchvision.models as tv
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import UserError
from pipeline.models.backbone import create_backbone, load_backbone
from pipeline.models.state_dict import read_state_dict


def randomized(network, seed=0):
    """Draw batch norm anew too: at its start it hides an exchange of layers, and its epsilon."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.1, generator=generator)
    return network.eval().requires_grad_(False)


def before_pooling(network):
    """Let a network of torchvision give its last features, flattened."""
    for name in ("avgpool", "dropout", "fc"):
        if hasattr(network, name):
            setattr(network, name, nn.Identity())
    return lambda images: network(images).flatten(1)


def features(network):
    return lambda images: network.features(images).flatten(1)


#: torchvision's network, timm's, and how the former's features are had.
SAME = [
    ("resnet18", "resnet18", before_pooling),
    ("resnet50", "resnet50.tv_in1k", before_pooling),
    ("resnext50_32x4d", "resnext50_32x4d", before_pooling),
    ("wide_resnet50_2", "wide_resnet50_2", before_pooling),
    ("vgg11_bn", "vgg11_bn", features),
    ("vgg11", "vgg11", features),
    ("densenet121", "densenet121", lambda network: lambda x: network.features(x).relu().flatten(1)),
    ("inception_v3", "inception_v3", before_pooling),
    ("mobilenet_v2", "mobilenetv2_100", features),
    ("mobilenet_v2", "mobilenetv2_100.ra_in1k", features),
    *((f"efficientnet_b{k}", f"efficientnet_b{k}", features) for k in range(5)),
]


def backbone_of(name):
    """Make timm's own network, at its own stride; the heads of VGGs, which are large, small."""
    narrow = {"mlp_ratio": 1 / 4096} if name.startswith("vgg") else {}
    network = timm.create_model(name, num_classes=0, global_pool="", **narrow)
    if name.startswith("vgg"):
        network.pre_logits = nn.Identity()
    return network.eval()


@pytest.mark.parametrize(("theirs", "ours", "features_of"), SAME)
def test_torchvision_weights_have_torchvision_features(theirs, ours, features_of, tmp_path):
    torch.manual_seed(1)
    more = {"init_weights": False} if theirs == "inception_v3" else {}
    network = randomized(tv.get_model(theirs, weights=None, **more))
    path = tmp_path / f"{theirs}-0123abcd.pth"
    torch.save(network.state_dict(), path)
    backbone = backbone_of(ours)
    load_backbone(backbone, path)
    path.unlink()  # up to 0.3 GB
    images = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        expected = features_of(network)(images)
        found = backbone.forward_features(images).flatten(1)
    scale = expected.abs().max()
    assert scale > 0.01
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)
    # Training goes on with the same batch norm.
    norms = [
        {(part.eps, part.momentum) for part in each.modules() if isinstance(part, nn.BatchNorm2d)}
        for each in (network, backbone)
    ]
    assert norms[0] == norms[1]


def test_todays_and_older_names_of_densenets_are_the_same(tmp_path):
    state = tv.densenet121(weights=None).state_dict()
    older = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
        for key, value in state.items()
    }
    assert older.keys() != state.keys()
    torch.save(older, tmp_path / "densenet121-a639ec97.pth")
    assert read_state_dict(tmp_path / "densenet121-a639ec97.pth").keys() == {
        key for key in state if "num_batches_tracked" not in key
    }


def test_networks_whose_batch_norm_differs_are_refused(tmp_path):
    with torch.device("meta"):
        state = tv.efficientnet_b5(weights=None).state_dict()
    save_file({k: torch.zeros(v.shape) for k, v in state.items()}, tmp_path / "w.safetensors")
    with torch.device("meta"):
        backbone = create_backbone("efficientnet_b5", output_stride=32)
    with pytest.raises(UserError, match=r"w\.safetensors: lacks .* names of timm or torchvision"):
        load_backbone(backbone, tmp_path / "w.safetensors")


def test_a_safetensors_file_of_torchvision_without_counters(voc_subset):
    """Real weights: names sorted, batch norm's counters absent."""
    path = voc_subset.parent / "weights/mobilenet_v2-imagenet.safetensors"
    if not path.is_file():
        pytest.skip(f"no weights at {path}")
    backbone = create_backbone("mobilenetv2_100", output_stride=32).eval()
    load_backbone(backbone, path)
    network = tv.mobilenet_v2(weights=None).eval()
    from safetensors.torch import load_file

    assert network.load_state_dict(load_file(path), strict=False).unexpected_keys == []
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = backbone.forward_features(images), network.features(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def state():
    torch.manual_seed(3)
    return create_backbone("test_resnet", output_stride=16).state_dict()


def wrapped(tensors, prefix):
    return {f"{prefix}{key}": value for key, value in tensors.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: wrapped(tensors, "module."),
        lambda tensors: wrapped(tensors, "module._orig_mod."),
        lambda tensors: {"state_dict": wrapped(tensors, "module."), "epoch": 3, "arch": "x"},
        lambda tensors: {"model": tensors, "optimizer": {"state": {}, "lr": 0.1}},
        lambda tensors: {"model": {"state_dict": tensors}},
        lambda tensors: {key: value.half() for key, value in tensors.items()},
        lambda tensors: {key: value.double() for key, value in tensors.items()},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_found_where_scripts_keep_it(tmp_path, wrap, zipped):
    tensors = state()
    path = tmp_path / "w.pth"
    torch.save(wrap(tensors), path, _use_new_zipfile_serialization=zipped)
    backbone = create_backbone("test_resnet", output_stride=16)
    load_backbone(backbone, path)
    for key, value in backbone.state_dict().items():
        assert "num_batches" in key or torch.allclose(value, tensors[key], rtol=1e-3, atol=1e-4)


class Executed:
    """Make a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_needs_more_than_tensors_is_refused_and_not_run(tmp_path, zipped):
    for number, more in enumerate((Executed(tmp_path / "run"), argparse.Namespace(lr=1))):
        path = tmp_path / f"{number}.pth"
        torch.save({"w": state(), "x": more}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(UserError, match=r"\.pth: not a file of tensors only") as caught:
            read_state_dict(path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def whole_file(tmp_path):
    torch.save(state(), tmp_path / "whole.pth")
    return (tmp_path / "whole.pth").read_bytes()


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.safetensors", "w"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"12345678{",
        b"<html>no such file</html>",
        b"\x80\x02}q\x00",
        b"PK\x03\x04" + b"0" * 99,
    ],
)
def test_what_is_no_file_of_weights_is_named_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{path}: not a ")) as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("linked", [False, True])
def test_a_damaged_file_of_the_user_is_to_be_replaced(tmp_path, linked):
    path = tmp_path / "w.safetensors"
    save_file({"w": torch.ones(99)}, path)
    path.write_bytes(path.read_bytes()[:-8])
    if linked:
        path.unlink()
        torch.save(state(), tmp_path / "w.pth")
        path.symlink_to(tmp_path / "w.pth")
    with pytest.raises(
        UserError, match=r"w\.safetensors: not a complete .*: replace the file"
    ) as caught:
        read_state_dict(path)
    assert "make it again" not in str(caught.value)


def test_a_file_of_pytorch_that_ends_early_is_named(tmp_path):
    whole = whole_file(tmp_path)
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "w.pth").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=r"w\.pth: not a complete weights file") as caught:
            read_state_dict(tmp_path / "w.pth")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [[1, 2], torch.zeros(3), {"state_dict": 3}, {1: torch.ones(2)}, {}]
)
def test_a_file_of_other_things_lacks_the_tensors(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: lacks \d+ of the backbone's"):
        load_backbone(create_backbone("test_resnet", output_stride=16), tmp_path / "w.pth")


def as_integers(value):
    return (100 * value).long()


def spoiled(number):
    def spoil(value):
        value = value.clone()
        value.view(-1)[0] = number
        return value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (as_integers, "is of int64, expected floating-point numbers"),
        (torch.Tensor.bool, "is of bool"),
        (torch.Tensor.cfloat, "is of complex64"),
        (spoiled(float("nan")), r"has 1 of \d+ values that are NaN or infinite"),
        (spoiled(float("inf")), "NaN or infinite"),
    ],
)
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_what_cannot_be_weights_is_refused_by_the_name_of_the_tensor(tmp_path, save, spoil, words):
    tensors = state() | {"fc.weight": torch.full((2, 2), torch.nan), "unused": torch.ones(1).bool()}
    backbone = create_backbone("test_resnet", output_stride=16)
    save(tensors, tmp_path / "w.safetensors" if save is save_file else tmp_path / "w.pth")
    (path,) = tmp_path.iterdir()
    load_backbone(backbone, path)  # what the backbone does not need may be anything
    tensors["layer3.0.conv1.weight"] = spoil(tensors["layer3.0.conv1.weight"])
    save(tensors, path)
    with pytest.raises(UserError, match=rf"{path.name}: layer3\.0\.conv1\.weight .*{words}"):
        load_backbone(backbone, path)


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("conv1.weight", torch.Tensor.to_sparse, "is stored as sparse_coo, expected a dense"),
        ("conv1.weight", lambda value: value.to("meta"), r"has a shape but no values \(device"),
        ("bn1.running_var", spoiled(-0.1), r"has 1 of \d+ values below 0, expected variances"),
    ],
)
def test_weights_without_usable_values_are_refused(tmp_path, name, spoil, words):
    backbone = create_backbone("test_resnet", output_stride=16)
    tensors = backbone.state_dict()
    key = next(key for key in tensors if key.endswith(name))
    torch.save(tensors | {key: spoil(tensors[key])}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"w\.pth: {re.escape(key)} {words}") as caught:
        load_backbone(backbone, tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


DESCRIBED = ["[]", "{}", '"x"', '{"crc32": []}', '{"crc32": {"w": "x"}}', "3", "[" * 100_000]


@pytest.mark.parametrize("text", DESCRIBED, ids=range(len(DESCRIBED)))
def test_a_description_that_is_none_of_this_project_is_refused(tmp_path, text):
    path = tmp_path / "w.safetensors"
    marked = f"crc32:{zlib.crc32(text.encode()):08x} {text}"
    save_file({"w": torch.ones(1)}, path, metadata={"description": marked})
    with pytest.raises(
        UserError, match=r"w\.safetensors: not a complete safetensors weig"
    ) as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("described", ["[1]", "3", "null", "A ResNet, trained on photographs"])
def test_any_text_may_describe_published_weights(tmp_path, described):
    metadata = {"description": described, "format": "pt"}
    save_file(state(), tmp_path / "w.safetensors", metadata=metadata)
    load_backbone(create_backbone("test_resnet", output_stride=16), tmp_path / "w.safetensors")
