"""From records of runs to the tables and the page of the scoreboard."""

import csv
import json
import logging
import platform
import re
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from pipeline.io.tables import read_json, write_json
from pipeline.report.scoreboard import collect
from pipeline.stages import record_experiment as recording
from pipeline.stages.record_experiment import record_experiment
from pipeline.stages.scoreboard import COLUMNS, PAIR_COLUMNS, scoreboard
from tests.helpers.pages import Page
from tests.helpers.records import CAM, CONFIG, CRF, confusions, make_run, write_score


def made(root, records=()):
    """Make the scoreboard of a folder of results."""
    paths = {
        "table": root / "scoreboard.csv",
        "differences": root / "scoreboard-differences.csv",
        "page": root / "scoreboard.html",
    }
    scoreboard(records=list(records), others=[], **paths)
    html = paths["page"].read_text(encoding="utf-8")
    return SimpleNamespace(
        **paths, html=html, text=" ".join(" ".join(Page(html).text).split()), root=root
    )


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def results(tmp_path):
    """Return two experiments, one of three seeds and unfinished, and a file of somebody else's."""
    root = tmp_path / "results"
    for seed in range(3):
        given = [
            ("maps", CAM, confusions(0.3, seed)),
            ("pseudo_labels", CRF, confusions(0.2, seed)),
        ]
        lacking = [("predictions", CRF, None)] * (seed == 2)
        make_run(root, f"long/seed-{seed}", given + lacking, seed)
    make_run(
        root,
        "short",
        [("pseudo_labels", CRF, confusions(0.4)), ("predictions", CRF, confusions(0.5))],
    )
    (root / "foreign").mkdir()
    (root / "foreign/experiment.json").write_text('{"name": "mine"}', encoding="utf-8")
    return root


def test_a_record_states_the_settings_of_a_run(tmp_path, monkeypatch):
    gpu = tmp_path / "gpus/0000:01:00.0/information"
    gpu.parent.mkdir(parents=True)
    gpu.write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 11\n", encoding="utf-8")
    monkeypatch.setattr(recording, "GPUS", tmp_path / "gpus")
    score = {"file": "a.json", "counts": "a.safetensors", "times": ["benchmarks/x.tsv"]}
    record = tmp_path / "one/seed-2/experiment.json"
    record_experiment(
        scores=[], experiment="one", seed=2, config=CONFIG, results=[score], record=record
    )
    document = read_json(record)
    versions = document.pop("versions")
    assert document == {"experiment": "one", "seed": 2, "config": CONFIG, "scores": [score]}
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == version("numpy") and versions["torch"] == version("torch")
    assert versions["machine"]["gpus"] == ["NVIDIA H200"]
    assert versions["machine"]["cores"] >= 1 and versions["machine"]["processor"]


def test_the_table_has_a_row_a_method_with_its_figures_as_they_are(results):
    table = rows(made(results).table)
    assert list(table[0]) == list(COLUMNS)
    names = [(row["experiment"], row["kind"], row["split"]) for row in table]
    assert names == [
        ("long", "maps", "train"), ("long", "pseudo_labels", "train"),
        ("short", "pseudo_labels", "train"), ("short", "predictions", "val"),
    ]  # fmt: skip
    groups = collect(results, []).groups
    maps, best, other, predictions = table
    assert float(best["miou_mean"]) == groups[1].entries[0].miou
    assert float(best["miou_sd"]) == groups[1].entries[0].deviation
    assert (best["seeds"], best["runs"], best["images"], best["hours"]) == (
        "0 1 2",
        "3",
        "12",
        "1.5",
    )
    assert (best["background_rule"], best["background_value"]) == ("power", "0.3")
    assert (best["crf_iterations"], maps["crf_iterations"]) == ("10", "0")
    assert (best["image_labels_given"], predictions["image_labels_given"]) == ("yes", "no")
    assert (predictions["classifier"], predictions["segmentation"]) == (
        "resnet50",
        "mobilenetv2_100",
    )
    assert re.fullmatch("folder [0-9a-f]{8}", best["data"])
    assert predictions["background_value"] == predictions["miou_sd"] == best["segmentation"] == ""
    assert other["best"] == "long plain/cam/crf"
    found = groups[1].to_best[0].found
    assert [float(other[name]) for name in ("difference", "low", "high", "p", "p_holm")] == [
        found.difference, found.low, found.high, found.p, found.p,
    ]  # fmt: skip
    assert best["difference"] == best["p"] == best["best"] == ""


def test_all_pairs_are_a_table_of_their_own(results):
    (pair,) = rows(made(results).differences)
    assert list(pair) == list(PAIR_COLUMNS)
    assert (pair["experiment_a"], pair["experiment_b"], pair["kind"]) == (
        "long",
        "short",
        "pseudo_labels",
    )
    other = rows(results / "scoreboard.csv")[2]
    assert float(pair["difference"]) == -float(other["difference"]) > 0
    assert float(pair["low"]) == pytest.approx(-float(other["high"]))


def test_the_page_shows_every_figure_and_leads_to_every_report(results):
    page = made(results)
    for row in rows(page.table):
        assert f"<b>{100 * float(row['miou_mean']):.1f}</b>" in page.html
    addresses = Page(page.html).requests
    reports = [f"long/seed-{seed}/report.html" for seed in range(3)] + ["short/report.html"]
    assert set(reports) <= set(addresses)
    assert {"scoreboard.csv", "scoreboard-differences.csv"} <= set(addresses)
    anchors = set(re.findall(r'id="([^"]+)"', page.html))
    inside = {address[1:] for address in addresses if address.startswith("#")}
    assert inside <= anchors
    assert all(re.match(r"#|long/|short/|scoreboard", address) for address in addresses)
    assert "With so few images" in page.text and "power 0.3" in page.text
    assert page.text.count("background by hand") == 2  # of maps and of labels


def test_what_is_missing_or_foreign_is_on_the_page_and_in_the_log(results, caplog):
    with caplog.at_level(logging.WARNING):
        page = made(results)
    for words in (
        "1 of 3 scores of long/seed-2 do not exist yet",
        "foreign/experiment.json: not a record of an experiment",
    ):
        assert words in page.text and words in caplog.text


def test_equal_files_make_equal_bytes(results):
    one, two = made(results), made(results)
    assert one.html == two.html
    assert one.table.read_bytes() == two.table.read_bytes()


def test_dots_are_drawn_at_their_scores(results):
    html = made(results).html
    section = html[html.index("<h3>Pseudo-labels</h3>") :]
    low, high = map(int, re.search(r'<th scope="col">(\d+) to (\d+) %</th>', section).groups())
    places = [
        float(x) for x in re.findall(r'<circle cx="([\d.]+)" cy="10" r="4" fill="var', section)
    ]
    dots = places[:3]  # the seeds of the best, which is the first row
    mious = [
        read_json(results / f"long/seed-{k}/scores/pseudo_labels/{CRF}/train.json")["miou"]
        for k in range(3)
    ]
    assert dots == pytest.approx(
        [6 + 138 * (100 * m - low) / (high - low) for m in mious], abs=0.01
    )


def test_one_image_has_scores_and_no_interval(tmp_path):
    ground_truth = confusions(0.4)[:1]
    for name, counts in (("a", ground_truth), ("b", confusions(0.9)[:1])):
        record = make_run(tmp_path, name, [("maps", CAM, None)])
        document = read_json(record)
        document["scores"] = [write_score(record.parent, "maps", CAM, counts, ["i0"])]
        write_json(record, document)
    page = made(tmp_path)
    other = rows(page.table)[1]
    assert float(other["difference"]) < 0
    assert other["low"] == other["high"] == other["p"] == other["p_holm"] == ""
    assert 'aria-label="no interval"' in page.html


def test_a_page_without_records_is_valid(tmp_path):
    page = made(tmp_path)
    assert "No scores yet" in page.text
    assert rows(page.table) == rows(page.differences) == []


def test_names_and_settings_of_others_cannot_break_the_page(tmp_path):
    hostile = '<script>alert("x")</script>&'
    config = CONFIG | {"dataset": {"kind": hostile}}
    record = make_run(tmp_path, "a b", [("pseudo_labels", CRF, confusions(0.2))], config=config)
    path = record.parent / f"scores/pseudo_labels/{CRF}/train.json"
    document = read_json(path)
    document["split"] = hostile
    document["threshold"] = {"value": 0.3, "threshold_source": hostile}
    document["settings"] = {"image_labels_given": hostile}
    path.write_text(json.dumps(document), encoding="utf-8")
    page = made(tmp_path)
    assert Page(page.html).tags.count("script") == 1  # that of sortable tables
    assert f"background {hostile}" in page.text
    assert "a%20b/report.html" in Page(page.html).requests


def test_a_phone_shows_the_page_without_errors_and_sorts_its_tables(browser, results):
    page = made(results)
    tab = browser.new_page(viewport={"width": 375, "height": 800})
    errors = []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(page.page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 375
    table = tab.locator("table").nth(1)
    names = table.locator("tbody th small")
    assert names.all_inner_texts() == ["long", "short"]
    heading = table.get_by_role("button", name="mIoU")
    heading.click()
    assert names.all_inner_texts() == ["long", "short"]
    heading.click()
    assert names.all_inner_texts() == ["short", "long"]
    assert errors == []


def test_an_upper_bound_is_named_and_no_rival_of_the_methods(results):
    make_run(results, "full", [
        ("predictions", "ground_truth", confusions(0.1)), ("predictions", CRF, confusions(0.3)),
    ])  # fmt: skip
    page = made(results)
    predictions = [row for row in rows(page.table) if row["kind"] == "predictions"]
    shown = [(row["experiment"], row["method"], row["supervision"]) for row in predictions]
    weak = "image-level labels"
    assert shown == [
        ("full", CRF, weak), ("short", CRF, weak), ("full", "ground_truth", "masks"),
    ]  # fmt: skip
    assert float(predictions[-1]["miou_mean"]) > float(predictions[0]["miou_mean"])
    best, *others, bound = predictions
    assert best["best"] == bound["best"] == bound["difference"] == bound["classifier"] == ""
    assert {row["best"] for row in others} == {f"full {CRF}"}
    assert bound["segmentation"] == "mobilenetv2_100"
    pairs = rows(page.differences)
    assert not any("ground_truth" in row.values() for row in pairs)
    assert "Predictions, fully supervised (trained on masks)" in page.text
    assert "ground_truth" not in page.html


def test_a_network_that_learned_corrected_masks_has_another_supervision(results):
    make_run(results, "mended", [("predictions", CRF, confusions(0.05))])
    path = results / f"mended/scores/predictions/{CRF}/val.json"
    score = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(score | {"corrected_masks": 3}), encoding="utf-8")
    page = made(results)
    predictions = [row for row in rows(page.table) if row["kind"] == "predictions"]
    shown = {row["experiment"]: row["supervision"] for row in predictions}
    assert shown["mended"] == "image-level labels and corrected masks"
    assert {shown[name] for name in shown.keys() - {"mended"}} == {"image-level labels"}
    assert not any("mended" in row["best"] for row in predictions)
    assert "Predictions, trained with corrected masks" in page.text
