import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.io.arrays import write_counts
from pipeline.metrics.bootstrap import difference, estimates, holm
from pipeline.metrics.segmentation import image_counts, scores_of
from pipeline.report import scoreboard as board_module
from pipeline.report.records import (
    Background,
    find_records,
    known_records,
    read_results,
    read_run,
    sorted_counts,
)
from pipeline.report.scoreboard import collect
from pipeline.report.scoreboard_page import MARGIN, WIDTH, Axis
from tests.helpers.records import (
    CAM,
    CONFIG,
    CRF,
    GROUND_TRUTH,
    IDS,
    NAMES,
    confusions,
    make_run,
    write_score,
)


def test_records_are_those_of_runs_and_of_seeds(tmp_path):
    places = ["b/experiment.json", "a/seed-1/experiment.json", "a/seed-0/experiment.json"]
    for place in [*places, "c/logs/experiment.json", "experiment.json"]:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("{}", encoding="utf-8")
    assert find_records(tmp_path) == [tmp_path / place for place in reversed(places)]
    assert find_records(tmp_path / "absent") == []


def test_a_record_is_read_again_when_it_or_a_score_changes(tmp_path):
    make_run(tmp_path, "one", [("pseudo_labels", CRF, confusions(0.2))])
    make_run(tmp_path, "two", [("pseudo_labels", CRF, None)])
    before = known_records(tmp_path)
    assert [line.split()[0] for line in before] == ["one/experiment.json", "two/experiment.json"]
    assert known_records(tmp_path) == before
    (tmp_path / "one/report.html").write_text("page", encoding="utf-8")
    assert known_records(tmp_path) == before
    make_run(tmp_path, "one", [("pseudo_labels", CRF, confusions(0.3))])
    after = known_records(tmp_path)
    assert after[0] != before[0] and after[1] == before[1]
    make_run(tmp_path, "two", [("pseudo_labels", CRF, None)], seed=1)
    assert known_records(tmp_path)[1] != before[1]
    assert known_records(tmp_path, exclude="one") == known_records(tmp_path)[1:]
    assert known_records(tmp_path / "absent") == []


def test_records_are_known_without_heavy_imports():
    code = (
        "import sys, pipeline.report.records\n"
        "print({'torch', 'matplotlib', 'cv2'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_run_is_read_as_it_was_recorded(tmp_path):
    record = make_run(tmp_path, "one/seed-3", [("pseudo_labels", CRF, confusions(0.2))], seed=3)
    run = read_run(record, tmp_path)
    assert (run.experiment, run.folder, run.seed, run.config) == ("one", "one/seed-3", 3, CONFIG)
    (result,), notes = read_results(run)
    assert notes == []
    assert (result.kind, result.method, result.split) == ("pseudo_labels", CRF, "train")
    assert result.miou == pytest.approx(scores_of(sum(confusions(0.2)), NAMES)["miou"])
    assert (result.classifier, result.segmentation, result.images) == ("resnet50", None, 12)
    assert (result.crf, result.labels_given, result.hours) == (10, True, 1.5)
    assert result.background == Background("power", 0.3, "by hand")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"seed": 0, "config": [], "scores": []}',
     '{"seed": null, "config": {}, "scores": []}', '{"seed": 0, "config": {}, "scores": [1]}',
     '{"seed": 0, "config": {}, "scores": [{"file": 1, "counts": 2, "times": []}]}', "\udcff"],
)  # fmt: skip
def test_what_is_no_record_is_named(tmp_path, text):
    record = tmp_path / "one/experiment.json"
    record.parent.mkdir()
    record.write_text(text, errors="surrogateescape", encoding="utf-8")
    with pytest.raises(UserError, match=r"experiment\.json: not a (record|complete) .* delete it"):
        read_run(record, tmp_path)
    board = collect(tmp_path, [])
    assert board.groups == () and len(board.notes) == 1
    with pytest.raises(UserError, match=r"experiment\.json"):
        collect(tmp_path, [record])  # the one that was just run must be whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the record of a run with one good score, and the document of that."""
    root = tmp_path_factory.mktemp("results")
    record = make_run(root, "one", [("pseudo_labels", CRF, confusions(0.2))])
    return record, record.parent / f"scores/pseudo_labels/{CRF}/train.json"


@given(
    key=st.sampled_from(["kind", "method", "split", "settings", "threshold", "miou"]), value=JSON
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_foreign_score_is_shown_or_named_but_never_a_crash(written, key, value):
    record, path = written
    good = path.read_text(encoding="utf-8")
    try:
        path.write_text(json.dumps(json.loads(good) | {key: value}), encoding="utf-8")
        results, notes = read_results(read_run(record, record.parents[1]))
    finally:
        path.write_text(good, encoding="utf-8")
    assert len(results) + len(notes) == 1
    assert all("delete" in note and str(path) in note for note in notes)


def test_counts_are_paired_by_image_and_not_by_place(tmp_path):
    counts = confusions(0.2)
    folder = tmp_path / "one"
    shuffled = np.random.default_rng(3).permutation(12)
    score = write_score(folder, "pseudo_labels", CRF, counts)
    ids, ordered = sorted_counts(folder / score["counts"])
    mixed = [counts[k] for k in shuffled]
    write_score(folder, "pseudo_labels", CRF, mixed, [IDS[k] for k in shuffled])
    again, same = sorted_counts(folder / score["counts"])
    assert ids == again == sorted(IDS)
    assert (ordered == same).all()


def test_scores_are_comparable_only_on_the_same_images_and_masks(tmp_path):
    make_run(tmp_path, "a", [("pseudo_labels", CRF, confusions(0.2))])
    make_run(tmp_path, "b", [("pseudo_labels", CRF, confusions(0.4))])
    make_run(
        tmp_path,
        "masks",
        [("pseudo_labels", CRF, confusions(0.2, ground_truth=GROUND_TRUTH[::-1]))],
    )
    renamed = make_run(tmp_path, "names", [("pseudo_labels", CRF, confusions(0.2))])
    write_score(renamed.parent, "pseudo_labels", CRF, confusions(0.2), [f"j{k}" for k in range(12)])
    groups = collect(tmp_path, []).groups
    assert sorted(sorted(e.experiment for e in g.entries) for g in groups) == [
        ["a", "b"], ["masks"], ["names"],
    ]  # fmt: skip
    assert len({group.first.data for group in groups}) == 3


def test_scores_that_are_not_made_yet_are_counted(tmp_path):
    make_run(tmp_path, "a", [("pseudo_labels", CRF, confusions(0.2)), ("maps", CAM, None)])
    make_run(tmp_path, "b", [])
    board = collect(tmp_path, [])
    assert [group.first.kind for group in board.groups] == ["pseudo_labels"]
    assert board.notes == (
        "1 of 2 scores of a do not exist yet",
        "b has no scores: its data set has no masks",
    )


def test_a_score_of_other_counts_is_left_out(tmp_path):
    record = make_run(tmp_path, "a", [("pseudo_labels", CRF, confusions(0.2))])
    counts = record.parent / f"scores/pseudo_labels/{CRF}/train.counts.safetensors"
    write_counts(counts, IDS, image_counts(confusions(0.3)))
    board = collect(tmp_path, [])
    assert board.groups == () and "the files are from different runs" in board.notes[0]
    counts.write_bytes(counts.read_bytes()[:-8])
    assert "not a complete safetensors file" in collect(tmp_path, []).notes[0]
    write_counts(counts, IDS[:3], image_counts(confusions(0.2)))
    assert "expected (N, 3, C)" in collect(tmp_path, []).notes[0]


def test_hours_are_unknown_where_the_time_of_a_job_is(tmp_path):
    record = make_run(tmp_path, "a", [("maps", CAM, confusions(0.2))])
    tsv = record.parent / "benchmarks/make_maps/plain/cam/0.tsv"
    for text in ("", "s\tmax_rss\n", "s\tmax_rss\nNA\t2\n"):
        tsv.write_text(text, encoding="utf-8")
        assert collect(tmp_path, []).groups[0].first.hours is None
    tsv.unlink()
    assert collect(tmp_path, []).groups[0].entries[0].hours is None


def test_seeds_are_one_entry_with_a_mean_and_a_deviation(tmp_path):
    by_seed = [confusions(0.2, seed) for seed in range(3)]
    for seed, counts in enumerate(by_seed):
        make_run(tmp_path, f"a/seed-{seed}", [("pseudo_labels", CRF, counts)], seed)
    make_run(tmp_path, "b", [("pseudo_labels", CRF, confusions(0.3))])
    (group,) = collect(tmp_path, []).groups
    best, other = group.entries
    mious = [scores_of(sum(counts), NAMES)["miou"] for counts in by_seed]
    mean = sum(mious) / 3
    assert (best.experiment, other.experiment) == ("a", "b")
    assert [result.run.seed for result in best.results] == [0, 1, 2]
    assert best.miou == pytest.approx(mean)
    assert best.deviation == pytest.approx((sum((m - mean) ** 2 for m in mious) / 2) ** 0.5)
    assert other.deviation is None and best.hours == 1.5
    methods = [image_counts(confusions(0.3))], [image_counts(counts) for counts in by_seed]
    found = difference(*estimates(methods, samples=group.samples))
    assert group.to_best[0].found == found
    assert group.pairs[0].found.difference == -found.difference


def test_every_method_is_compared_with_the_best_and_with_every_other(tmp_path, monkeypatch):
    for name, share in {"a": 0.3, "b": 0.2, "c": 0.25}.items():
        make_run(
            tmp_path,
            name,
            [("pseudo_labels", CRF, confusions(share)), ("maps", CAM, confusions(share))],
        )
    groups = collect(tmp_path, []).groups
    assert [group.first.kind for group in groups] == ["maps", "pseudo_labels"]
    for group in groups:
        assert [entry.experiment for entry in group.entries] == ["b", "c", "a"]
        for family, names in ((group.to_best, ["cb", "ab"]), (group.pairs, ["bc", "ba", "ca"])):
            assert [pair.a.experiment + pair.b.experiment for pair in family] == names
            assert [pair.p_holm for pair in family] == holm([pair.found.p for pair in family])
        assert all(pair.found.difference <= 0 for pair in group.to_best)
    monkeypatch.setattr(board_module, "MAX_PAIRED", 2)
    assert [len(group.pairs) for group in collect(tmp_path, []).groups] == [0, 0]


def test_resamples_are_enough_for_the_correction(tmp_path, monkeypatch):
    monkeypatch.setattr(board_module, "SAMPLES", 10)
    for k in range(4):
        make_run(tmp_path, f"e{k}", [("pseudo_labels", CRF, confusions(0.05 + 0.3 * k))])
    (group,) = collect(tmp_path, []).groups
    assert group.samples == 600  # 100 for each of 6 pairs
    assert max(pair.p_holm for pair in group.pairs) == 6 * 2 / 601


def test_seeds_on_different_images_have_no_mean(tmp_path):
    make_run(tmp_path, "a/seed-0", [("pseudo_labels", CRF, confusions(0.2))])
    make_run(
        tmp_path,
        "a/seed-1",
        [("pseudo_labels", CRF, confusions(0.2, ground_truth=GROUND_TRUTH[::-1]))],
        1,
    )
    board = collect(tmp_path, [])
    assert board.groups == () and "pseudo-labels plain/cam/crf of a (train)" in board.notes[0]


def test_the_given_one_of_two_runs_with_one_seed_counts(tmp_path):
    bare = make_run(tmp_path, "a", [("pseudo_labels", CRF, confusions(0.2))])
    seeded = make_run(tmp_path, "a/seed-0", [("pseudo_labels", CRF, confusions(0.3))])
    for given_records, folder in (([], "a/seed-0"), ([bare], "a"), ([seeded], "a/seed-0")):
        board = collect(tmp_path, given_records)
        assert [r.run.folder for r in board.groups[0].entries[0].results] == [folder]
        assert "are both seed 0 of a" in board.notes[0]


def test_seeds_of_unlike_settings_are_named(tmp_path):
    harmless = CONFIG | {"seed": 1, "shards": 4}
    make_run(tmp_path, "a/seed-0", [("maps", CAM, confusions(0.2))])
    make_run(tmp_path, "a/seed-1", [("maps", CAM, confusions(0.3))], 1, harmless)
    assert collect(tmp_path, []).notes == ()
    classifiers = {"plain": {"backbone": "resnet18"}}
    other = CONFIG | {"classifiers": classifiers}
    make_run(tmp_path, "a/seed-1", [("maps", CAM, confusions(0.3))], 1, other)
    board = collect(tmp_path, [])
    assert "different settings (classifiers)" in board.notes[0]
    assert len(board.groups[0].entries[0].results) == 2


def test_axes_by_hand():
    assert Axis.around([0.312, 0.287]).marks == (28, 29, 30, 31, 32)
    assert Axis.around([-0.041, 0.0]).marks == (-5, -4, -3, -2, -1, 0)
    assert Axis.around([0.5, float("nan")]).marks == (50, 51)
    axis = Axis((20, 30, 40))
    assert [axis(v) for v in (0.2, 0.3, 0.4)] == [MARGIN, WIDTH / 2, WIDTH - MARGIN]
    assert str(Axis((-5, 0))) == "\N{MINUS SIGN}5 to 0"


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=5))
def test_axes_hold_all_values(values):
    axis = Axis.around(values)
    assert 2 <= len(axis.marks) <= 12
    assert all(MARGIN <= axis(value) <= WIDTH - MARGIN for value in values)
