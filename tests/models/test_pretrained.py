import errno
import hashlib
import logging
import re
import time

import pytest
import timm
import torch
from huggingface_hub import close_session, constants
from safetensors.torch import load_file, save, save_file
from timm.models.vision_transformer import checkpoint_filter_fn

from pipeline.errors import UserError
from pipeline.models import pretrained
from pipeline.models.backbone import create_backbone, load_backbone
from pipeline.models.pretrained import fetch_pretrained
from tests.helpers.hub import COMMIT, REPOSITORY, serving

FILE = "model.safetensors"
OWN_FILE = r"`weights: \{test_resnet: FILE\.safetensors\}`$"


@pytest.fixture(scope="module")
def body():
    """Weights of a whole tiny network, as bytes of a safetensors file."""
    torch.manual_seed(20)
    return save(timm.create_model("test_resnet", num_classes=5).state_dict())


@pytest.fixture
def hub(body, tmp_path, monkeypatch):
    """Return a hub that replaces huggingface.co, and an empty cache."""
    with serving({FILE: body}) as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        # The environment variables of these are read once, when the library is imported.
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # before the library's retries
        yield server
        close_session()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights/test_resnet.safetensors"


def cached(tmp_path):
    folder = tmp_path / f"cache/models--{REPOSITORY.replace('/', '--')}"
    return folder / "snapshots" / COMMIT / FILE


def damaged(body):
    """Change one byte of the last tensor."""
    return body[:-1] + bytes([body[-1] ^ 1])


@pytest.mark.parametrize("name", ["test_resnet", "test_resnet.r160_in1k"])
def test_the_file_is_the_hubs_and_loads(hub, body, path, name, caplog):
    with caplog.at_level(logging.INFO, logger="pipeline"):
        fetch_pretrained(name, path)
    assert path.read_bytes() == body
    assert hashlib.sha256(body).hexdigest() in caplog.text and COMMIT in caplog.text
    assert hub.requests == [("HEAD", FILE), ("GET", FILE)]
    backbone = create_backbone("test_resnet", output_stride=16)
    load_backbone(backbone, path)
    assert torch.equal(backbone.conv1[0].weight, load_file(path)["conv1.0.weight"])


@pytest.mark.parametrize("size", [160, 96])
def test_a_transformers_file_has_the_head_and_positions_of_another_task(hub, tmp_path, size):
    torch.manual_seed(21)
    whole = timm.create_model("test_vit", num_classes=5, img_size=size)
    torch.nn.init.normal_(whole.pos_embed)
    hub.repository = "timm/test_vit.r160_in1k"
    hub.files[FILE] = save(whole.state_dict())
    hub.etags[FILE] = hashlib.sha256(hub.files[FILE]).hexdigest()
    path = tmp_path / "weights/test_vit.safetensors"
    fetch_pretrained("test_vit", path)
    assert path.read_bytes() == hub.files[FILE]
    assert hub.requests == [("HEAD", FILE), ("GET", FILE)]
    backbone = create_backbone("test_vit")
    load_backbone(backbone, path)
    # As timm itself loads the file.
    expected = checkpoint_filter_fn(load_file(path), timm.create_model("test_vit", num_classes=0))
    assert backbone.pos_embed.shape == (1, 1 + 10 * 10, 64)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, expected[name]), name
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert backbone.eval().forward_features(images).shape == (1, 64, 4, 6)


def test_positions_that_cannot_be_resized_are_refused(tmp_path):
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    for tokens in (1, 8):  # without patches, and 7 patches, which are no square
        state["pos_embed"] = torch.zeros(1, tokens, 64)
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(
            UserError, match=rf"pos_embed is \(1, {tokens}, 64\), expected \(1, 101"
        ):
            load_backbone(create_backbone("test_vit"), tmp_path / "w.safetensors")


@pytest.mark.usefixtures("hub")
def test_the_file_is_not_the_caches_own(path, tmp_path):
    fetch_pretrained("test_resnet", path)
    assert not path.is_symlink()
    assert not path.samefile(cached(tmp_path))
    assert list(path.parent.iterdir()) == [path]


def test_a_download_damaged_in_transit_is_refused_and_repeated(hub, body, path):
    hub.files[FILE] = damaged(body)
    got, expected = (hashlib.sha256(data).hexdigest() for data in (damaged(body), body))
    with pytest.raises(UserError, match=f"its SHA-256 is {got}, expected {expected}: .* run again"):
        fetch_pretrained("test_resnet", path)
    assert not path.exists()
    hub.files[FILE] = body
    fetch_pretrained("test_resnet", path)
    assert path.read_bytes() == body


def test_a_file_damaged_in_the_cache_is_refused_and_downloaded_again(hub, body, path, tmp_path):
    fetch_pretrained("test_resnet", path)
    path.unlink()
    cached(tmp_path).write_bytes(damaged(body))
    with pytest.raises(UserError, match="its SHA-256 is"):
        fetch_pretrained("test_resnet", path)
    assert not path.exists()
    fetch_pretrained("test_resnet", path)
    assert path.read_bytes() == body
    assert hub.requests.count(("GET", FILE)) == 2


def test_a_broken_connection_is_reported_and_leaves_no_file(hub, body, path, tmp_path):
    hub.breaks = True
    with pytest.raises(
        UserError, match=rf"{FILE} of {REPOSITORY} cannot be downloaded \(.*run again.*{OWN_FILE}"
    ):
        fetch_pretrained("test_resnet", path)
    assert not path.exists() and not cached(tmp_path).exists()
    hub.breaks = hub.broken = False
    fetch_pretrained("test_resnet", path)
    assert path.read_bytes() == body


def test_a_server_that_is_gone_is_named(hub, path, monkeypatch):
    with serving({}) as closed:
        gone = closed.address
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.address, gone)
    monkeypatch.setattr(constants, "ENDPOINT", gone)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(
        UserError, match=rf"no answer from {gone} \(ConnectError.*HF_ENDPOINT.*{OWN_FILE}"
    ):
        fetch_pretrained("test_resnet", path)
    assert not path.exists()


def test_offline_without_a_cache_the_message_names_file_and_setting(
    hub, path, tmp_path, monkeypatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    address = f"{hub.address}/{REPOSITORY}/resolve/main/{FILE}"
    pattern = rf"{tmp_path / 'cache'}, and HF_HUB_OFFLINE is set: .*{address} .*{OWN_FILE}"
    with pytest.raises(UserError, match=pattern):
        fetch_pretrained("test_resnet", path)
    assert hub.requests == []


def test_offline_with_a_cache_makes_no_requests(hub, body, path, monkeypatch):
    fetch_pretrained("test_resnet", path)
    path.unlink()
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fetch_pretrained("test_resnet", path)
    assert path.read_bytes() == body
    assert hub.requests == []


@pytest.mark.parametrize("offline", [False, True])
def test_a_cache_without_links_is_verified_by_the_hub_alone(
    hub, body, path, tmp_path, offline, monkeypatch
):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    fetch_pretrained("test_resnet", path)
    assert path.read_bytes() == body and not cached(tmp_path).is_symlink()
    path.unlink()
    cached(tmp_path).write_bytes(damaged(body))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    expected = f"OfflineModeIsEnabled.*{OWN_FILE}" if offline else "its SHA-256 is"
    with pytest.raises(UserError, match=expected):
        fetch_pretrained("test_resnet", path)
    assert not path.exists()
    assert cached(tmp_path).exists() == offline


def test_a_file_of_unknown_sha256_is_refused(hub, path):
    hub.etags[FILE] = "f" * 40
    with pytest.raises(
        UserError, match=rf"its ETag is '{'f' * 40}', expected a SHA-256.*{OWN_FILE}"
    ):
        fetch_pretrained("test_resnet", path)
    assert not path.exists()


@pytest.mark.parametrize(
    "name", ["../../../outside", "/outside", "..", "", "a\\b", ".hidden", "x" * 300]
)
@pytest.mark.parametrize("present", [True, False])
def test_an_answer_that_names_files_outside_the_cache_is_refused(
    hub, path, tmp_path, name, present
):
    """The library writes at such paths, even of a file that it is told there is none of."""
    (tmp_path / "cache").mkdir()
    before = {*tmp_path.rglob("*")}
    hub.files = hub.files if present else {}
    for etag, commit in ((name, COMMIT), ("f" * 64, name)):
        if not present and commit == COMMIT:
            continue  # a file that is absent has no ETag
        hub.etags[FILE], hub.commit = etag, commit
        with pytest.raises(
            UserError, match=r"^127\.0\.0\.1: its answer has .*HF_ENDPOINT"
        ) as caught:
            fetch_pretrained("test_resnet", path)
        assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
        assert ("GET", FILE) not in hub.requests
        # Locks, and folders for blobs, are the library's own, inside its cache.
        written = {*tmp_path.rglob("*")} - before
        assert all(tmp_path / "cache" in new.parents for new in written)
        assert not [new for new in written if new.is_file() and new.suffix != ".lock"]


def test_a_repository_with_a_pickle_alone_is_refused_and_the_pickle_not_fetched(hub, path):
    hub.files = {"pytorch_model.bin": b"pickle"}
    with pytest.raises(UserError, match=rf"{REPOSITORY} has no {FILE}, .* a pickle .*{OWN_FILE}"):
        fetch_pretrained("test_resnet", path)
    assert {name for _, name in hub.requests} == {FILE}
    assert not path.exists()


def test_the_stated_conversion_makes_a_file_that_loads(hub, path, tmp_path, monkeypatch):
    hub.files = {}
    with pytest.raises(UserError) as raised:
        fetch_pretrained("test_resnet", path)
    (line,) = re.findall(r"run `(.*?)` in Python", str(raised.value))
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained: create(name) if pretrained else None
    )
    monkeypatch.chdir(tmp_path)
    exec(line, {})
    monkeypatch.undo()
    backbone = create_backbone("test_resnet", output_stride=16)
    load_backbone(backbone, tmp_path / "FILE.safetensors")


@pytest.mark.parametrize("content", ["other names", "other shapes", "no tensors"])
def test_a_file_that_does_not_fit_is_refused(hub, body, path, tmp_path, content):
    if content == "other names":
        damage = save({"features.0.weight": torch.zeros(1)})
    elif content == "other shapes":
        tensors = create_backbone("test_resnet", output_stride=16).state_dict()
        save_file({key: tensor[..., None] for key, tensor in tensors.items()}, tmp_path / "w")
        damage = (tmp_path / "w").read_bytes()
    else:
        damage = body[:100]
    hub.files[FILE], hub.etags[FILE] = damage, hashlib.sha256(damage).hexdigest()
    with pytest.raises(UserError, match=rf"{FILE}: .*{OWN_FILE}"):
        fetch_pretrained("test_resnet", path)
    assert not path.exists()


def test_a_repository_that_is_not_there_is_named(hub, path):
    hub.repository = "timm/another"
    with pytest.raises(
        UserError, match=rf"{REPOSITORY}: {hub.address} has no such repository.*{OWN_FILE}"
    ):
        fetch_pretrained("test_resnet", path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("IO error: No space left on device (os error 28)"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_a_full_disk_is_named_by_the_cache(path, error, monkeypatch):
    def fill(*_args):
        raise error

    monkeypatch.setattr(pretrained, "hf_hub_download", fill)
    with pytest.raises(OSError, match="No space left") as raised:
        fetch_pretrained("test_resnet", path)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, constants.HF_HUB_CACHE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tst_resnet", "backbone is 'tst_resnet'.*did you mean test_resnet"),
        ("mobilenetv2_035", "timm has no pretrained weights of it: set `pretrained: false`, or"),
    ],
)
def test_a_backbone_without_weights_is_refused_before_any_request(hub, path, name, message):
    with pytest.raises(UserError, match=message):
        fetch_pretrained(name, path)
    assert hub.requests == []


def test_weights_that_have_but_an_address_are_refused(hub, path, monkeypatch):
    # No network that can have an output stride is of these.
    monkeypatch.setattr(pretrained, "create_backbone", lambda *_args, **_options: None)
    with pytest.raises(UserError, match=r"its weights are https://\S+\.pth, .*gcvit_tiny: FILE"):
        fetch_pretrained("gcvit_tiny", path)
    assert hub.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "resnet50", "resnet50d", "resnest50d", "resnest101e", "resnest269e", "mobilenetv2_100",
        "vgg16",
    ],
)  # fmt: skip
def test_promised_backbones_are_on_the_hub(name):
    repository, file = pretrained._location(name)
    assert repository.startswith(f"timm/{name}.") and file == FILE
