import os
import subprocess
import sys

import timm
from safetensors.torch import save

from tests.helpers import REPOSITORY
from tests.helpers.hub import serving

SCRIPT = """
from pathlib import Path
from pipeline.stages.download_weights import download_weights
download_weights(backbone="test_resnet", weights=Path("weights/test_resnet.safetensors"))
"""


def test_weights_come_from_the_environments_endpoint_through_its_cache(tmp_path):
    body = save(timm.create_model("test_resnet").state_dict())
    unset = {"HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
    kept = {key: value for key, value in os.environ.items() if key not in unset}
    with serving({"model.safetensors": body}) as hub:
        own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
        # The library reads its variables once, when it is imported.
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=tmp_path,
            env=kept | own | {"PYTHONPATH": str(REPOSITORY)},
            check=True,
        )
    assert (tmp_path / "weights/test_resnet.safetensors").read_bytes() == body
    (blob,) = (tmp_path / "home/hub").glob("models--*/blobs/*")
    assert blob.read_bytes() == body
