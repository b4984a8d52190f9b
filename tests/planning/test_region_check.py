"""Regions in the plan, and the user's masks before anything runs."""

import pytest
from PIL import Image

from pipeline.config.resolve import resolve
from pipeline.errors import UserError
from pipeline.planning import inputs, jobs, preflight
from pipeline.planning.plan import Plan
from pipeline.planning.settings import label_settings

SLIC = {"kind": "slic", "segments": [20]}


def config(regions, refinement, **changes):
    """Return a configuration with a refinement that uses regions, and one that does not."""
    return resolve({
        "experiment": "x", "dataset": {"kind": "demo"}, "shards": 2,
        "classifiers": {"plain": {"backbone": "test_resnet", "pretrained": False}},
        "attributions": {"cam": {}}, "regions": regions,
        "refinements": {"voted": refinement, "crf": {"crf": {}}},
        "pseudo_labels": ["plain/cam/voted", "plain/cam/crf"], **changes,
    })  # fmt: skip


def test_labels_read_the_regions_of_their_shard_and_only_those_that_vote():
    plan = Plan(config({"any": SLIC}, {"regions": {"source": "any"}}))
    assert plan.region_shards("plain/cam/voted", "val") == [
        "results/x/regions/any/val/0.safetensors", "results/x/regions/any/val/1.safetensors",
    ]  # fmt: skip
    assert plan.region_shards("plain/cam/crf", "train") == []
    made = [f"results/x/benchmarks/make_regions/any/train/{shard}.tsv" for shard in (0, 1)]
    assert [path for path in jobs.times(plan) if "make_regions" in path] == made
    before = {
        item["file"]: [path for path in item["times"] if "make_regions" in path]
        for item in jobs.scored_results(plan)
    }
    stem = "scores/pseudo_labels/plain/cam"
    assert before[f"{stem}/voted/train.json"] == [
        path.removeprefix("results/x/") for path in made
    ]  # fmt: skip
    assert before[f"{stem}/crf/train.json"] == []


def test_scores_name_the_regions_and_those_of_others_are_as_without():
    plan = config({"any": SLIC}, {"regions": {"source": "any", "rule": "mean"}})
    shown = label_settings(plan, "cam", "voted")["regions"]
    assert (shown["rule"], shown["any"]["segments"]) == ("mean", [20])
    assert "regions" not in label_settings(plan, "cam", "crf")
    assert "regions" not in config(None, {})


@pytest.mark.parametrize("when", ["before-crf", "both"])
@pytest.mark.parametrize("others", [{}, {"graph_cut": {}}])
def test_a_vote_before_the_crf_needs_one(when, others):
    regions = {"source": "any", "when": when}
    with pytest.raises(UserError, match=f"when is {when}, expected after-crf or a section crf"):
        config({"any": SLIC}, {"regions": regions, **others})
    config({"any": SLIC}, {"regions": regions, "crf": {}})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a data set of four images, and masks of all of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    rows = ["image,labels,split"]
    for name in "abcd":
        Image.new("RGB", (4, 3)).save(f"images/{name}.png")
        (tmp_path / f"masks/{name}.json").write_text("[]", encoding="utf-8")
        rows.append(f"{name}.png,cat,{'val' if name == 'd' else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def own(**changes):
    dataset = {"kind": "folder", "images": "images", "image_labels": "labels.csv"}
    sam = {"sam": {"kind": "folder", "folder": "masks"}}
    return Plan(config(sam, {"regions": {"source": "sam"}}, dataset=dataset, **changes))


def test_masks_are_matched_with_the_images_before_anything_runs(folder):
    assert preflight.problems(own(), []) == []
    (folder / "masks/d.json").unlink()  # an image of val needs none
    assert preflight.problems(own(), []) == []
    (folder / "masks/b.json").rename(folder / "masks/e.json")
    missing, further = preflight.problems(own(), [])
    assert missing.startswith("masks: no masks of 1 of 3 images, first b, expected b.json")
    assert further.startswith("masks: masks of 1 names that are no image of the data set, first e")
    unused = own(pseudo_labels=["plain/cam/crf"])
    assert preflight.problems(unused, []) == []


def test_a_folder_of_masks_that_is_missing_is_named(folder):
    (folder / "masks").rename(folder / "elsewhere")
    (problem,) = preflight.problems(own(), [])
    assert problem.startswith("masks: no such folder, named by the configuration's regions.sam")


def test_changed_masks_change_the_digest(folder):
    section = own().config["regions"]["sam"]
    before = inputs.region_files_digest(section)
    (folder / "masks/a.json").write_text("[ ]", encoding="utf-8")
    after = inputs.region_files_digest(section)
    assert before != after
    (folder / "masks/b.json").unlink()
    (folder / "masks/b").mkdir()
    Image.new("L", (4, 3)).save("masks/b/0.png")
    assert inputs.region_files_digest(section) not in {before, after}
    assert inputs.region_files_digest(SLIC) == inputs.region_files_digest(SLIC | {"x": 1})
