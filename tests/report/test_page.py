import json
import re

import pytest

from pipeline.datasets.findings import Finding, write_findings
from pipeline.datasets.manifest import read_manifest, read_masks, write_masks
from pipeline.io.arrays import write_label
from pipeline.io.tables import read_document, write_json, write_table
from pipeline.metrics.label_error_table import write_label_errors
from pipeline.metrics.label_errors import LabelError
from pipeline.report.full_supervision import shares_of_full_supervision
from pipeline.report.html import ASSETS
from pipeline.report.label_errors import read_section
from pipeline.report.text import duration, percent, plain
from pipeline.stages.compare_attributions import COLUMNS
from pipeline.stages.report import report
from tests.helpers.pages import Page
from tests.helpers.report_tree import METHOD, build


def rendered(tree, **changes):
    arguments = tree.arguments | changes
    report(**arguments)
    html = arguments["report"].read_text(encoding="utf-8")
    return html, Page(html)


def test_the_page_is_valid_and_makes_no_requests(tree):
    html, page = rendered(tree)
    assert page.requests
    assert all(url.startswith(("#", "data:image/")) for url in page.requests)
    assert "link" not in page.tags
    assert not re.search(r"@import|url\((?!#)", html)
    assert "default-src 'none'; img-src data:" in html


def test_the_page_shows_every_score(tree):
    html, page = rendered(tree)
    text = " ".join(page.text)
    for path in tree.arguments["scores"]:
        score = read_document(path)
        assert score["method"] in text
        assert f'<span class="value">{100 * score["miou"]:.1f}</span>' in html
        assert f'<td class="number">{100 * score["pixel_accuracy"]:.1f}</td>' in html
    assert "threshold 0.35, somehow" in text and "used for the scores" in text
    assert "<h3>Classifier plain</h3>" in html
    assert "absent" in text  # dog is in neither ground truth nor prediction


def data_of(html):
    text = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', html)
    return json.loads(text[1])


def test_the_gallery_has_every_layer_of_every_group(tree):
    html, _ = rendered(tree)
    splits = data_of(html)["splits"]
    train, val = splits["train"]["images"], splits["val"]["images"]
    assert [(picture["id"], picture["groups"]) for picture in train] == [
        ("i2", ["best", "worst cat"]),
        ("i1", ["median", "best cat", "most doubtful"]),
        ("i0", ["worst", "most doubtful"]),
    ]
    assert [picture["id"] for picture in val] == ["i5", "i4", "i3"]
    kinds = [(layer["kind"], layer["method"]) for layer in train[0]["layers"]]
    assert kinds == [("ground_truth", ""), ("map", "plain/cam"), ("label", METHOD)]
    assert [layer["kind"] for layer in val[0]["layers"]] == ["ground_truth", "label"]
    assert train[1]["scores"] == [{"miou": 0.5, "ious": {"background": 0.9, "cat": 0.5}}]
    assert (train[1]["doubts"], train[0]["doubts"]) == ([0.75], [None])


def test_some_images_are_visible_without_scripts(tree):
    html, _ = rendered(tree)
    rows = html[html.index("<noscript>") : html.index("</noscript>")]
    assert re.findall(r'class="tag">(\w+)</span>(i\d)', rows) == [
        ("best", "i2"), ("median", "i1"), ("worst", "i0"),
        ("best", "i5"), ("median", "i4"), ("worst", "i3"),
    ]  # fmt: skip
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", rows)
    train = ["image", "ground truth", "plain/cam: map", METHOD]
    assert captions == 3 * train + 3 * ["image", "ground truth", METHOD]


def test_a_graph_cut_shows_the_pixels_that_taught_its_colors(tree):
    config = tree.arguments["config"] | {"refinements": {"crf": {"graph_cut": {}}}}
    html, page = rendered(tree, config=config)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    # Image i0 has no label and so no color model.
    assert captions.count("plain/cam: color samples of cat") == 2
    assert "color sample: foreground" in page.text


def test_a_rule_without_masks_is_compared_with_the_sweep(tree):
    html, _ = rendered(tree)
    start = html.index("Background threshold without ground truth")
    section = html[start : html.index('id="classes"')]
    maps = read_document(tree.arguments["scores"][0])
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", section[section.index("<tbody>") :])
    assert cells == [
        "plain/cam", "0.35", f"{100 * maps['miou']:.1f}", "otsu", "0.20", "10.0", "15.0",
    ]  # fmt: skip
    write_json(tree.arguments["scores"][0], maps | {"label_free": None})
    bare, _ = rendered(tree)
    assert "Background threshold without ground truth" not in bare and "Hollow dots" not in bare
    write_json(tree.arguments["scores"][0], {k: v for k, v in maps.items() if k != "label_free"})
    assert rendered(tree)[0] == bare


def test_quality_without_ground_truth_lists_measures_and_doubtful_images(tree):
    html, _ = rendered(tree)
    section = html[html.index('id="quality"') : html.index('id="gallery"')]
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", section[section.index("<tbody>") :])
    assert cells == ["Certainty of the maps", "37.5", "0.42", "n/a"]
    assert re.findall(r'data-id="(\w+)".*?soft">(.*?)<', section) == [
        ("i1", "75.0"),
        ("i0", "25.0"),
    ]
    bare, _ = rendered(tree, quality=[], quality_scores=[])
    assert 'id="quality"' not in bare and 'href="#quality"' not in bare


def test_quality_without_masks_has_no_correlation(tree):
    (path,) = tree.arguments["quality_scores"]
    document = read_document(path)
    document["figures"][0]["correlation"] = None
    write_json(path, document)
    html, _ = rendered(tree)
    section = html[html.index('id="quality"') : html.index('id="gallery"')]
    assert "Certainty of the maps" in section and "over images" not in section


HOSTILE = '</script><script>alert("x")</script>&<!--'


def test_names_are_escaped(tmp_path):
    tree = build(tmp_path / "results/exp", [HOSTILE, "dog"])
    html, page = rendered(tree)
    assert "<script>alert" not in html
    assert HOSTILE in page.text
    assert data_of(html)["classes"][0]["name"] == HOSTILE
    assert page.tags.count("script") == 6


def test_localization_errors_and_class_models_are_shown(tree):
    html, _ = rendered(tree)
    table = html[html.index('id="boxes"') : html.index('id="classmodels"')]
    assert METHOD in table
    for figure in (">2<", ">12.5<", ">43.8<", ">n/a<", ">1 of 3<"):
        assert figure in table
    assert "Class models of the classifier plain" in html
    bare, _ = rendered(tree, boxes=[], class_models=[])
    assert 'id="boxes"' not in bare and 'id="classmodels"' not in bare


TABLE = {
    "plain/cam": {"miou": 0.31, "gt_known_loc": 0.5, "average_drop": 0.25, "win": 0.75,
                  "seconds_per_image": 0.125},
    "plain/saliency": {"miou": 0.28, "gt_known_loc": 0.5, "win": 0.25, "seconds_per_image": 0.25},
}  # fmt: skip


def test_compared_maps_have_a_table_a_chart_and_images(tree):
    root = tree.root
    rows = [[method, *map(row.get, COLUMNS[1:])] for method, row in TABLE.items()]
    write_table(root / "comparison.csv", COLUMNS, rows)
    curve = [{"threshold": 0.0, "share": 0.2}, {"threshold": 0.5, "share": 0.6}]
    write_json(root / "l.json", {"method": "plain/cam", "curve": curve})
    comparison = {
        "split": "train",
        "gallery": 5,
        "localization": {"threshold": 0.2, "components": "all"},
    }
    html, _ = rendered(
        tree,
        comparison=[root / "comparison.csv"],
        localization=[root / "l.json"],
        compared_maps=tree.arguments["maps"],
        units=tree.arguments["class_models"],
        config=tree.arguments["config"] | {"comparison": comparison},
    )
    section = html[html.index('id="comparison"') : html.index('id="classmodels"')]
    headings = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', section)
    assert headings == ["Maps", "mIoU", "GT-known Loc", "Average Drop", "Win", "ms per image"]
    cells = re.findall(r'<td class="number">(.*?)</td>', section)
    assert cells == [
        "<b>31.0</b>", "<b>50.0</b>", "<b>25.0</b>", "75.0", "<b>125.0</b>",
        "28.0", "<b>50.0</b>", "", "25.0", "250.0",
    ]  # fmt: skip
    # Image i0 has no label and so no map.
    assert re.findall(r'class="tag">(\w+)</span>(i\d)', section) == [("cat", "i1"), ("cat", "i2")]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", section)
    assert captions == 2 * ["image, true boxes", "plain/cam"]
    assert 'aria-label="localized pairs over the box threshold' in section
    assert "Units of each class of the classifier plain" in html
    bare, _ = rendered(tree)
    assert 'id="comparison"' not in bare and 'id="units"' not in bare


def test_label_errors_are_shown_with_the_map_of_a_labeled_class(tree):
    table = tree.root / "label_errors/plain.csv"
    errors = [
        LabelError("i1", "cat", "wrong", 0.875, 0.75, 1, "train"),
        LabelError("i0", "cat", "missing", 0.625, 0.5, 1, "train"),
        LabelError("i1", "<dog>", "missing", 0.5, 0.25, 2, "train"),
        LabelError("i3", "cat", "missing", 0.75, 0.25, 1, "val"),
    ]
    write_label_errors(table, errors)
    html = {}
    for kind in ("linear-probe", "network"):
        config = tree.arguments["config"] | {
            "classifiers": {"plain": {"kind": kind}},
            "label_errors": {"classifier": "plain", "folds": 2, "shown": 1},
        }
        html[kind], _ = rendered(tree, label_errors=[table], config=config)
    shown = html["linear-probe"]
    section = shown[shown.index('<section id="labelerrors"') : shown.index('<section id="quality"')]
    assert re.findall(r'alt="(.*?)"', section) == ["i1", "Map of cat", "i0", "i3"]
    figures = re.findall(r"</strong> ([\d.]+) .*?threshold ([\d.]+)", section)
    assert figures == [("87.5", "75.0"), ("62.5", "50.0"), ("75.0", "25.0")]
    assert re.findall(r"(\d) found(?:, (\d) shown)?", section) == [("1", ""), ("2", "1"), ("1", "")]
    assert re.findall(r"<h3>.*?\((\w+)\)</h3>", section) == ["train", "train", "val", "val"]
    # All val images are cats, so no class of val can be checked.
    assert section.count("Not checked.") == 1 and "None found" not in section
    assert "plain/cam" in section and "out-of-fold" in section and "in-sample" not in section
    assert "in-sample" in html["network"] and 'href="#labelerrors"' in shown
    assert 'id="labelerrors"' not in rendered(tree)[0]


def test_label_errors_stay_within_their_share_of_the_page(tree):
    table = tree.root / "label_errors/plain.csv"
    write_label_errors(table, [LabelError("i1", "cat", "wrong", 0.9, 0.7, 1, "train")])
    data = read_manifest(tree.arguments["manifest"], tree.arguments["classes"])
    config = {
        "classifiers": {"plain": {"kind": "network"}},
        "label_errors": {"classifier": "plain", "folds": 2, "shown": 1},
    }
    full = read_section([table], data, config, {}, 10**6)
    assert full.characters == len(full.groups[0].cards[0].image)
    assert full.groups[0].cards[0].map is None and full.method is None
    short = read_section([table], data, config, {}, full.characters - 1)
    assert short.groups[0].found == 1 and not short.groups[0].cards


def test_without_any_label_there_is_no_gallery(tree):
    nothing = {name: [] for name in ("scores", "image_scores", "maps", "labels", "predictions")}
    html, _ = rendered(tree, **nothing, config=tree.arguments["config"] | {"pseudo_labels": []})
    assert 'id="gallery"' not in html and "makes no pseudo-labels" in html


def test_equal_inputs_make_equal_bytes(tree):
    one, _ = rendered(tree)
    two, _ = rendered(tree)
    assert one == two


def test_findings_about_masks_are_shown_with_the_scores(tree):
    html, _ = rendered(tree)
    assert 'class="warning"' not in html
    found = [Finding("masks <that> contradict", "3 of 4", "They score", "Mend `them`")]
    write_findings(tree.arguments["findings"], found)
    html, _ = rendered(tree)
    title = "<strong>Masks &lt;that&gt; contradict:</strong>"
    text = f"{title} 3 of 4. They score. Mend <code>them</code>.</p>"
    assert text in html[html.index('id="ladder"') : html.index("</section>")]


def test_without_masks_the_page_says_so_and_shows_images(tree):
    write_masks(tree.arguments["masks"], {})
    html, page = rendered(tree, scores=[], image_scores=[])
    text = " ".join(page.text)
    assert "has no masks" in text and "used for the scores" not in text
    assert re.findall(r'class="tag">(\w+)</span>(i\d)', html)[:3] == [
        ("first", "i0"), ("first", "i1"), ("first", "i2"),
    ]  # fmt: skip
    assert "ground truth" not in re.findall(r"<figcaption>(.*?)</figcaption>", html)
    nothing = {name: [] for name in ("scores", "image_scores", "quality", "quality_scores")}
    bare, _ = rendered(tree, **nothing)
    images = data_of(bare)["splits"]["train"]["images"]
    assert [p["groups"] for p in images] == [
        ["first"],
        ["first", "first cat"],
        ["first", "first cat"],
    ]
    assert all(p["scores"] == p["doubts"] == [None] for p in images)


def test_a_gallery_of_zero_has_no_images(tree):
    html, page = rendered(tree, gallery=0)
    assert "No images." in page.text and data_of(html)["splits"]["train"]["images"] == []


def test_without_a_segmentation_there_is_no_validation_gallery(tree):
    scores = [path for path in tree.arguments["scores"] if "predictions" not in str(path)]
    html, _ = rendered(tree, scores=scores, image_scores=tree.arguments["image_scores"][:1],
                       predictions=[])  # fmt: skip
    assert "Validation images" not in html


def test_values_are_formatted_as_text():
    assert percent(0.1234) == "12.3" and percent(None) == "n/a"
    assert duration(59.6) == "1 min 00 s" and duration(3700) == "1 h 01 min"
    assert plain({"a": None, "b": [1, True]}) == "a none, b 1, yes"


def test_a_score_of_part_of_a_split_is_marked(tree):
    place = next(path for path in tree.arguments["scores"] if "pseudo_labels" in path.parts)
    write_json(place, read_document(place) | {"images": 2})
    html, _ = rendered(tree)
    assert '<td class="number" data-value="2">2 of 3</td>' in html
    assert '<td class="number" data-value="3">3</td>' in html


@pytest.fixture
def bounded(tree):
    """The tree with an upper bound: its predictions are the masks, its mIoU is 0.8."""
    root = tree.root
    for name, mask in read_masks(tree.arguments["masks"]).items():
        if name in ("i3", "i4", "i5"):
            write_label(root / f"predictions/ground_truth/val/0/{name}.png", mask.read())
    place = next(path for path in tree.arguments["scores"] if "predictions" in path.parts)
    weak = read_document(place) | {"miou": 0.6}
    write_json(place, weak)
    settings = {"trained_on": "ground-truth masks of train", **weak["settings"]}
    bound = root / "scores/predictions/ground_truth/val.json"
    write_json(bound, weak | {"method": "ground_truth", "miou": 0.8, "settings": settings})
    table = bound.with_suffix(".csv")
    write_table(table, ("id", "miou", "iou:background"), [(f"i{k}", 1, 1) for k in (3, 4, 5)])
    history = root / "segmentation/ground_truth/history.csv"
    write_table(history, ("epoch", "learning_rate", "loss"), [(1, 0.1, 0.5), (2, 0.1, 0.4)])
    tree.arguments["scores"].append(bound)
    tree.arguments["image_scores"].append(table)
    tree.arguments["histories"].append(history)
    tree.arguments["predictions"].append(root / "predictions/ground_truth/val/0")
    return tree


FULLY = "fully supervised (trained on masks)"


def test_the_share_of_full_supervision_is_shown(bounded):
    html, page = rendered(bounded)
    table = html[html.index("<h3>Share of full supervision") :].partition("</table>")[0]
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", table.partition("<tbody>")[2])
    assert cells == [METHOD, "val", "3", "60.0", "80.0", "75.0"]  # 0.6 / 0.8
    assert (
        f"Training saw the image-level labels only, except that of the upper bound: {FULLY}."
        in (" ".join(" ".join(page.text).split()))
    )
    assert "network trained on: ground-truth masks of train" in html


def test_the_upper_bound_is_named_for_what_it_is_and_never_the_best(bounded):
    html, page = rendered(bounded)
    assert "ground_truth" not in html.partition("<script")[0]
    assert FULLY in page.text
    headline = html[html.index('class="headline"') :].partition("</dl>")[0]
    assert "60.0" in headline and FULLY not in headline
    matrices = html[html.index('id="confusion"') :].partition("</section>")[0]
    assert f"predictions {METHOD}" in matrices and FULLY not in matrices
    data = data_of(html)
    val = data["splits"]["val"]
    assert (val["labels"], val["first"]) == ([METHOD, FULLY], METHOD)
    for image in val["images"]:
        shown = [layer["method"] for layer in image["layers"] if layer["kind"] == "label"]
        assert shown == [METHOD, FULLY]
        assert image["scores"][1]["miou"] == 1
    assert f"{FULLY} (predictions, val)" in [score["name"] for score in data["scores"]]
    assert f"<h3>Segmentation network {FULLY}</h3>" in html[html.index('id="training"') :]


def test_without_an_upper_bound_the_page_has_no_word_of_it(tree):
    html, _ = rendered(tree)
    assert "Share of full supervision" not in html and "upper bound" not in html
    assert "supervised (" not in html


@pytest.mark.parametrize(
    ("weak", "full", "expected"),
    [
        ({"miou": 0.49}, {"miou": 0.56}, [0.875]),
        ({"miou": 0.5}, {"miou": 0.4}, [1.25]),
        ({"miou": 0.0}, {"miou": 0.4}, [0.0]),
        ({"miou": 0.5}, {"miou": 0.0}, []),
        ({"miou": None}, {"miou": 0.4}, []),
        ({"miou": 0.5}, {"miou": None}, []),
        ({"miou": 0.5, "split": "train"}, {"miou": 0.4}, []),
        ({"miou": 0.5, "images": 2}, {"miou": 0.4}, []),
        ({"miou": 0.5, "kind": "pseudo_labels"}, {"miou": 0.4}, []),
    ],
)
def test_shares_are_of_the_same_images(weak, full, expected):
    score = {"kind": "predictions", "split": "val", "images": 3}
    scores = [score | {"method": METHOD} | weak, score | {"method": "ground_truth"} | full]
    assert [row.share for row in shares_of_full_supervision(scores)] == pytest.approx(expected)
    assert shares_of_full_supervision(scores[:1]) == []


def test_aria_attributes_are_those_of_the_standard():
    # Chromium also accepts other spellings of aria-labelledby, other browsers do not.
    known = {
        "aria-describedby", "aria-hidden", "aria-invalid", "aria-keyshortcuts", "aria-label",
        "aria-labelledby", "aria-live", "aria-pressed", "aria-sort", "aria-valuetext",
    }  # fmt: skip
    assets = [path for path in ASSETS.iterdir() if path.suffix in (".j2", ".js", ".css", ".py")]
    text = "".join(path.read_text(encoding="utf-8") for path in assets)
    assert set(re.findall(r"aria-\w+", text)) == known


def test_the_distance_to_corrected_masks_is_shown_with_its_limits(tree):
    html, page = rendered(tree)
    assert (
        'id="corrections"' not in html
        and "Training saw the image-level labels only" in " ".join(" ".join(page.text).split())
    )
    folder = tree.root / "dataset"
    write_masks(folder / "corrected.csv", {"i1": tree.root / "masks/1.png"})
    finding = Finding("corrected masks that contradict", "1 of 1, such as i1", "Why", "Fix `it`")
    write_findings(folder / "corrected_findings.json", [finding])
    given = read_document(tree.arguments["scores"][1])
    methods = {METHOD: {}, "plain/second/crf": {"corrected_masks": 1}}
    scores = []
    for number, (method, more) in enumerate(methods.items()):
        scores.append(folder / f"{number}.json")
        write_json(scores[-1], given | {"method": method, "miou": 0.4375, "images": 1} | more)
    html, page = rendered(
        tree, corrected=[folder / "corrected.csv"], corrections=scores,
        corrected_findings=[folder / "corrected_findings.json"],
    )  # fmt: skip
    text = " ".join(" ".join(page.text).split())
    assert "1 of 3 train images have a mask that people corrected" in text
    assert "segmentation networks saw image-level labels, and corrected masks of 1 of 3" in text
    assert "Training saw the image-level labels only" not in text
    assert "no estimate for all images, unless the corrected images were drawn at random" in text
    assert "The pseudo-labels of plain/second/crf come from a network that was trained on" in text
    assert "Corrected masks that contradict" in text and "1 of 1, such as i1" in text
    section = html.partition('<section id="corrections">')[2].partition("</section>")[0]
    assert section.count('<td class="number">43.8</td>') == 2
    assert 'href="#corrections"' in html
