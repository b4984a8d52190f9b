import pytest

from pipeline.config import resolve
from pipeline.errors import UserError
from pipeline.models import building
from pipeline.network_check import check_networks
from pipeline.workflow import Plan


@pytest.fixture
def plan_of(demo_config):
    """Give the plan of the demo with one value changed."""

    def plan(*keys, value):
        place = demo_config
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        return Plan(resolve(demo_config))

    return plan


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (
            ["classifiers", "plain", "backbone"],
            "resnet5",
            "classifiers.plain: backbone is 'resnet5'",
        ),
        (
            ["classifiers", "plain", "frozen"],
            ["layr1"],
            "classifiers.plain.frozen: layer is 'layr1'",
        ),
        (["segmenter", "backbone"], "vgg16", "segmenter: backbone vgg16: the segmentation network"),
        (["segmenter", "frozen"], ["layer1", "layr2"], "segmenter.frozen: layer is 'layr2'"),
        (
            ["attributions", "cam"],
            {"method": "grad-cam", "layer": "layre3"},
            "attributions.cam of plain: layer is 'layre3'",
        ),
    ],
)
def test_what_cannot_be_built_is_named_with_its_place(plan_of, tmp_path, keys, value, problem):
    plan = plan_of(*keys, value=value)
    with pytest.raises(UserError, match=r"^configuration: ") as caught:
        check_networks(plan, tmp_path / "notes")
    assert problem in str(caught.value)
    assert not (tmp_path / "notes").exists()


def test_all_problems_are_said_at_once(plan_of):
    plan_of("segmenter", "frozen", value=["a", "b"])
    problems = list(building.network_problems(plan_of("segmenter", "backbone", value="resnet5")))
    assert len(problems) == 1  # without the network nothing can be said of its layers
    problems = list(building.network_problems(plan_of("segmenter", "backbone", value="resnet18")))
    assert [problem.split(",")[0] for problem in problems] == [
        "segmenter.frozen: layer is 'a'", "segmenter.frozen: layer is 'b'",
    ]  # fmt: skip


def test_what_passed_is_not_built_again(plan_of, tmp_path, monkeypatch):
    plan = plan_of("seed", value=0)
    built = []
    create = building.create_classifier
    monkeypatch.setattr(
        building, "create_classifier", lambda *given: built.append(1) or create(*given)
    )
    check_networks(plan, tmp_path / "notes")
    assert len(built) == len(plan.config["classifiers"])
    check_networks(plan_of("seed", value=1), tmp_path / "notes")
    assert len(built) == len(plan.config["classifiers"])
    check_networks(plan_of("segmenter", "output_stride", value=8), tmp_path / "notes")
    assert len(built) == 2 * len(plan.config["classifiers"])
