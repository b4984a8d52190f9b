import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.models.backbone import (
    create_backbone,
    freeze_batch_norm,
    load_backbone,
    normalisation,
)

#: Backbones that the project promises; the large ones are built without memory, on "meta".
PROMISED = ["resnet50", "resnet101", "resnest101e", "resnest269e", "mobilenetv2_100"]


@pytest.mark.parametrize("name", PROMISED)
def test_promised_backbones_have_a_map_at_stride_16(name):
    with torch.device("meta"):
        backbone = create_backbone(name, pretrained=False, output_stride=16).eval()
        features = backbone.forward_features(torch.zeros(1, 3, 64, 96))
    assert features.shape == (1, backbone.num_features, 4, 6)


def test_a_name_that_timm_lacks_is_refused_with_a_near_one():
    with pytest.raises(UserError, match=r"did you mean .*resnet50"):
        create_backbone("esnet50", pretrained=False, output_stride=16)


def test_a_stride_that_a_network_cannot_have_is_refused():
    with pytest.raises(UserError, match="vit_tiny_patch16_224 cannot have output_stride 16"):
        create_backbone("vit_tiny_patch16_224", pretrained=False, output_stride=16)


def test_a_failed_download_says_where_to_put_a_file(monkeypatch):
    def fail(*_args, pretrained, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UserError, match=r"weights: \{resnet18: FILE.safetensors\}"):
        create_backbone("resnet18", pretrained=True, output_stride=16)


def tiny(seed):
    torch.manual_seed(seed)
    return create_backbone("test_resnet", pretrained=False, output_stride=16)


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
    with pytest.raises(UserError, match=r"features.0.weight.*expected timm's naming"):
        load_backbone(tiny(0), tmp_path / "w.safetensors")


def test_weights_of_another_width_are_refused_by_name_and_shape(tmp_path):
    tensors = tiny(0).state_dict()
    key = next(k for k in tensors if k.endswith("conv1.weight"))
    tensors[key] = torch.zeros(1, 2, 3)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=rf"{key} is \(1, 2, 3\), expected"):
        load_backbone(tiny(0), tmp_path / "w.safetensors")


def test_missing_and_damaged_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="no such weights file"):
        load_backbone(tiny(0), tmp_path / "absent.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(UserError, match=r"bad.safetensors: not a whole safetensors"):
        load_backbone(tiny(0), tmp_path / "bad.safetensors")


def test_freezing_batch_norm_reaches_every_layer_but_the_heads():
    backbone = tiny(0)
    head = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    model = torch.nn.Sequential(backbone, head).train()
    freeze_batch_norm(model, head)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert not module.training
            assert not module.weight.requires_grad
        elif isinstance(module, torch.nn.Conv2d):
            assert module.weight.requires_grad
    assert head[1].training and head[1].weight.requires_grad


def test_normalisation_is_the_networks_own():
    mean, std = normalisation(create_backbone("resnet18", pretrained=False, output_stride=32))
    assert mean == (0.485, 0.456, 0.406)
    assert std == (0.229, 0.224, 0.225)
