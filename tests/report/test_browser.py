"""The page in a real browser: keyboard, colors, widths, and that it asks nobody for anything."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.io.arrays import write_label
from pipeline.io.tables import read_json, write_json
from pipeline.metrics.label_error_table import write_label_errors
from pipeline.metrics.label_errors import LabelError
from pipeline.stages.report import report
from tests.helpers.report_tree import METHOD, build

OTHER = "plain/saliency/crf"

# Of every element with words of its own: contrast of its color with what is behind it (WCAG 2).
CONTRASTS = """() => {
  const parse = (text) => text.match(/[0-9.]+/g).map(Number);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((v, k) => v * a + below[k] * (1 - a));
  const light = (color) => color.map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    return over(parse(getComputedStyle(element).backgroundColor), behind(element.parentElement));
  };
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !e.closest("noscript, script")
      && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
    .map((e) => {
      const style = getComputedStyle(e);
      const svg = e instanceof SVGElement;
      const back = behind(e);
      const [a, b] = [light(over(parse(svg ? style.fill : style.color), back)), light(back)];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return [contrast, e.tagName, e.textContent.slice(0, 40)];
    });
}"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Render the hand-made results with a second method and enough images for two helpings."""
    tree = build(tmp_path_factory.mktemp("page") / "results/exp", ["cat", "dog"])
    widen(tree)
    list_label_errors(tree)
    report(**tree.arguments)
    return tree.arguments["report"]


def list_label_errors(tree):
    """Add four possible label errors: two of an image, and one of an image beyond the gallery."""
    path = tree.root / "label_errors/plain.csv"
    rows = [("i0", "cat"), ("i0", "dog"), ("more8", "cat"), ("i2", "dog")]
    errors = [
        LabelError(image, label, "missing", 0.9, 0.5, rank, "train")
        for rank, (image, label) in enumerate(rows, start=1)
    ]
    write_label_errors(path, errors)
    tree.arguments["label_errors"] = [path]
    tree.arguments["config"] |= {
        "classifiers": {"plain": {"kind": "network"}},
        "label_errors": {"classifier": "plain", "folds": 2, "shown": 4},
    }


def widen(tree):
    """Return the train split 30 images and a second method of labels."""
    root, arguments = tree.root, tree.arguments
    manifest, masks = arguments["manifest"], arguments["masks"]
    rows, ground_truths = (
        manifest.read_text(encoding="utf-8").splitlines(),
        masks.read_text(encoding="utf-8").splitlines(),
    )
    label = np.zeros((20, 30), np.uint8)
    label[5:15, 8:20] = 2
    lines = []
    for k in range(27):
        image = root / f"images/more{k}.png"
        Image.fromarray(np.full((20, 30, 3), 4 * k, np.uint8)).save(image)
        write_label(root / f"masks/more{k}.png", label)
        for method in (METHOD, OTHER):
            write_label(root / f"pseudo_labels/{method}/train/0/more{k}.png", label)
        rows.append(f"more{k},{image},30,20,train,dog,")
        ground_truths.append(f"more{k},{root / f'masks/more{k}.png'},,")
        lines.append(f"more{k},{0.21 + 0.02 * k:.2f},0.5,0.9,,{0.9 - 0.03 * k:.2f}")
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    masks.write_text("\n".join(ground_truths) + "\n", encoding="utf-8")
    table = arguments["image_scores"][0]
    table.write_text(table.read_text(encoding="utf-8") + "\n".join(lines) + "\n", encoding="utf-8")
    score = next(p for p in arguments["scores"] if "pseudo_labels" in p.parts)
    other = root / f"scores/pseudo_labels/{OTHER}/train.json"
    document = read_json(score) | {"method": OTHER, "miou": 0.1}
    document["classes"][0]["iou"] = 0.25
    write_json(other, document)
    arguments["scores"].append(other)
    arguments["labels"].append(root / f"pseudo_labels/{OTHER}/train/0")
    arguments["gallery"] = 8


@pytest.fixture
def open_page(browser, file):
    """Return a function that opens the page; at the end nothing may have gone wrong in it."""
    contexts, trouble, requests = [], [], []

    def opened(**options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []
    asked = {url for url in requests if not url.startswith("data:")}
    assert asked == {file.as_uri()}


@pytest.fixture
def page(open_page):
    return open_page()


def ids(page):
    return page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.id)")


def gallery(page, **chosen):
    for name, value in chosen.items():
        page.select_option(f"#gallery [name={name}]", value)


def column(page, number):
    return page.locator("#ladder table").first.locator(f"tbody td:nth-child({number})")


def test_a_table_is_sorted_by_click_and_by_keyboard(page):
    heading = page.locator("#ladder th", has_text="mIoU").first
    heading.get_by_role("button").click()
    figures = [float(text) for text in column(page, 5).all_text_contents()]
    assert figures == sorted(figures, reverse=True) and len(set(figures)) > 1
    assert heading.get_attribute("aria-sort") == "descending"
    heading.get_by_role("button").press("Enter")
    assert [float(t) for t in column(page, 5).all_text_contents()] == figures[::-1]
    assert heading.get_attribute("aria-sort") == "ascending"
    words = page.locator("#ladder th", has_text="Result").first
    words.get_by_role("button").press("Space")
    assert column(page, 2).first.text_content() == "class maps"
    assert words.get_attribute("aria-sort") == "ascending"
    assert page.locator("#ladder table").first.locator("th[aria-sort]").count() == 1


def test_times_are_sorted_by_seconds(page):
    assert page.locator("#run td[data-value='123.0']").text_content() == "2 min 03 s"


def test_bars_have_every_class_by_iou_or_in_order(page):
    names = page.locator("#bars .name")
    assert names.all_text_contents()[0] == "mean"
    values = [float(v) for v in page.locator("#bars .value").all_text_contents()[1:-1]]
    assert values == sorted(values, reverse=True)
    assert page.locator("#bars .value").last.text_content() == "absent"  # dog
    page.select_option("#bars [name=order]", "class")
    assert names.all_text_contents() == ["mean", "background", "cat", "dog"]
    page.select_option("#bars [name=second]", label=f"{OTHER} (pseudo-labels, train)")
    row = page.locator("#bars li").nth(1)
    assert row.locator(".value").all_text_contents() == ["100.0", "25.0"]
    track, filled = row.locator(".bar").nth(1), row.locator(".bar span").nth(1)
    share = filled.bounding_box()["width"] / track.bounding_box()["width"]
    assert share == pytest.approx(0.25, abs=0.01)


def test_images_are_sorted_and_more_can_be_shown(page):
    assert ids(page)[0] == "i2" and len(ids(page)) == 24
    count = page.locator(".count").text_content()
    assert count.startswith("24 of ")
    total = int(count.split()[2])
    page.locator(".more").press("Enter")
    assert len(ids(page)) == total > 24 and page.locator(".more").is_hidden()
    # The keyboard goes on where it was.
    assert page.evaluate("document.activeElement.closest('.card').dataset.id") == ids(page)[24]
    best = ids(page)
    gallery(page, sort="worst")
    page.locator(".more").click()
    assert ids(page)[0] == "i0" and set(ids(page)) == set(best)
    gallery(page, sort="doubt")
    assert ids(page)[:2] == ["i1", "i0"]
    gallery(page, sort="id")
    assert ids(page)[:3] == ["i0", "i1", "i2"]
    gallery(page, sort="median")
    assert ids(page)[0] not in {"i0", "i2"}


def test_a_class_filters_and_is_what_is_sorted_by(page):
    gallery(page, **{"class": "cat"})
    assert ids(page) == ["i1", "i2"]  # IoUs of cat 0.5 and 0.35
    assert page.locator(".iou").all_text_contents() == ["50.0", "35.0"]
    gallery(page, sort="worst")
    assert ids(page) == ["i2", "i1"]
    gallery(page, **{"class": ""})
    assert "i0" in ids(page)


def test_a_card_names_its_classes_in_the_color_of_its_layers(page):
    name = page.locator(".card[data-id=more1] .class")
    assert name.text_content() == "dog"
    color = name.locator("i").evaluate("swatch => getComputedStyle(swatch).backgroundColor")
    assert color == "rgb(0, 128, 0)"  # the palette's second class


def test_ids_are_searched(page):
    page.fill("#gallery [name=search]", "ORE1")
    assert ids(page) and all("more1" in name for name in ids(page))
    page.fill("#gallery [name=search]", "nothing like it")
    assert ids(page) == [] and page.locator(".count").text_content() == "0 of 0 images"
    assert page.locator(".more").is_hidden()
    # Enter in the field submits nothing.
    page.press("#gallery [name=search]", "Enter")
    assert page.locator("#gallery form.controls").is_visible()


def test_splits_have_their_own_images_and_methods(page):
    gallery(page, split="val")
    assert ids(page) == ["i5", "i4", "i3"]
    assert page.locator("#gallery [name=map]").is_hidden()
    assert page.locator(".card .stops").first.locator("span").all_text_contents() == [
        "image", "prediction", "GT",
    ]  # fmt: skip
    gallery(page, split="train")
    assert page.locator("#gallery [name=map]").is_visible()


def test_the_slider_fades_from_layer_to_layer(open_page):
    page = open_page(reduced_motion="reduce")
    card = page.locator(".card[data-id=i2]")
    slider, layers = card.locator("input[type=range]"), card.locator("img")
    opacities = "images => images.slice(1).map(image => Number(getComputedStyle(image).opacity))"

    def shown():
        return layers.evaluate_all(opacities)

    assert slider.get_attribute("aria-label") == "Layer of i2"
    assert shown() == [0, 1, 0] and slider.get_attribute("aria-valuetext") == "label"
    slider.press("ArrowLeft")
    assert shown() == [0.25, 0.75, 0]
    slider.press("Home")
    assert shown() == [0, 0, 0] and slider.get_attribute("aria-valuetext") == "image"
    assert layers.first.evaluate("image => getComputedStyle(image).filter") == "brightness(1)"
    slider.press("End")
    assert shown() == [0, 0, 1] and slider.get_attribute("aria-valuetext") == "ground truth"
    assert layers.first.evaluate("image => getComputedStyle(image).filter") == "brightness(0.6)"
    slider.fill("1")
    assert shown() == [1, 0, 0]
    gallery(page, show="ground_truth")
    assert shown() == [0, 0, 1]


@pytest.mark.parametrize("section", ["segmentation", "export"])
def test_the_labels_that_are_used_are_shown_first(tmp_path, section):
    tree = build(tmp_path / "results/exp", ["cat", "dog"])
    widen(tree)
    key = {"segmentation": "trained_on", "export": "pseudo_labels"}[section]
    for config in ({}, {section: {key: [OTHER]}}):
        report(**tree.arguments | {"config": tree.arguments["config"] | config})
        html = tree.arguments["report"].read_text(encoding="utf-8")
        data = json.loads(re.search(r'id="report-data"[^>]*>(.*?)</script>', html, re.DOTALL)[1])
        # By default, the labels with the highest score are shown: those of the first method.
        assert data["splits"]["train"]["first"] == (OTHER if config else METHOD)


def test_a_method_is_chosen_for_the_labels(page):
    card = page.locator(".card[data-id=more1]")
    gallery(page, sort="id", label=OTHER)
    assert card.locator(".iou").text_content() == ""  # the second method has no scores of images
    assert card.locator("img").count() == 3
    card.locator("button").click()
    assert page.locator("dialog figcaption").nth(1).text_content() == OTHER
    page.keyboard.press("Escape")
    gallery(page, label=METHOD)
    assert card.locator(".iou").text_content() != ""


def test_the_dialog_opens_steps_and_closes_by_keyboard(page):
    order = ids(page)
    button = page.locator(".card button").nth(1)
    button.press("Enter")
    dialog = page.locator("dialog")
    title = dialog.locator("h3")
    assert dialog.is_visible() and title.text_content() == order[1]
    captions = dialog.locator("figcaption").all_text_contents()
    assert captions[0] == "image" and "ground truth" in captions[2:]
    assert captions[1].startswith(METHOD) and "mIoU" in captions[1]  # the selected label first
    page.keyboard.press("ArrowRight")
    assert title.text_content() == order[2]
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert "of" in dialog.locator(".place").text_content()
    assert title.text_content() not in order[:3]  # before the first comes the last
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert button.evaluate("button => button === document.activeElement")


def test_the_dialog_by_mouse(page):
    page.locator(".card button").first.click()
    dialog = page.locator("dialog")
    dialog.get_by_role("button", name="Next image").click()
    assert dialog.locator(".place").text_content().startswith("2 of ")
    dialog.get_by_role("button", name="Close").click()
    assert dialog.is_hidden()


def test_what_is_worth_a_look_has_thumbnails(page):
    items = page.locator(".look li")
    assert items.evaluate_all("all => all.map(item => item.dataset.id)") == ["i1", "i0"]
    items.first.get_by_role("button").press("Enter")
    assert page.locator("dialog h3").text_content() == "i1"
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog h3").text_content() == "i0"


def test_a_possible_label_error_opens_the_viewer(page):
    items = page.locator(".labelerrors li")
    ids = items.evaluate_all("all => all.map(item => item.dataset.id)")
    assert ids == ["i0", "i0", "more8", "i2"]
    data = json.loads(page.locator("#report-data").text_content())
    known = [image["id"] for image in data["splits"]["train"]["images"]]
    buttons = [item.get_by_role("button").count() for item in items.all()]
    assert buttons == [int(image in known) for image in ids]
    assert buttons == [1, 1, 0, 1]
    items.nth(1).get_by_role("button", name="View and correct, i0").press("Enter")
    dialog = page.locator("dialog")
    assert dialog.locator("h3").text_content() == "i0"
    assert dialog.locator(".place").text_content() == "1 of 2"  # each image once
    page.keyboard.press("l")
    page.keyboard.type("dog")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h3").text_content() == "i2"
    page.keyboard.press("Escape")
    texts = [item.get_by_role("button").text_content() for item in (items.nth(1), items.nth(3))]
    assert texts == ["Corrected: dog", "View and correct"]
    progress = page.locator(".review .counted .progress").text_content()
    assert progress.endswith("0 unsure. Labels of 1 image corrected.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_color_schemes(open_page, scheme):
    page = open_page(color_scheme=scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 29)"
    assert dark == (scheme == "dark")
    page.locator(".card button").first.click()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [item for item in found if item[0] < 4.5] == []


def test_every_kind_of_score_has_its_color(page):
    kinds = page.locator(".ladder li").evaluate_all("all => all.map(item => item.className)")
    bars = page.locator(".ladder .bar span").evaluate_all(
        "all => all.map(bar => getComputedStyle(bar).backgroundColor)"
    )
    assert set(kinds) == {"maps", "pseudo_labels", "predictions"}
    colors = dict(zip(kinds, bars, strict=True))
    assert len(set(bars)) == 3 and "rgba(0, 0, 0, 0)" not in bars
    headlines = page.locator(".headline div").evaluate_all(
        "all => all.map(box => [box.className, getComputedStyle(box).borderTopColor])"
    )
    assert dict(headlines) == colors


@pytest.mark.parametrize("wide", [320, 375])
def test_a_phone_needs_no_sideways_scrolling(open_page, wide):
    page = open_page(viewport={"width": wide, "height": 700}, has_touch=True)
    width = "document.documentElement.scrollWidth"
    page.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
    assert page.evaluate(width) <= wide
    page.locator(".card button").first.tap()
    for part in ["dialog", *(f"dialog [name={name}]" for name in ("labels", "note"))]:
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= wide
    assert page.evaluate(width) <= wide


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_motion_is_only_for_those_who_like_it(open_page, motion, moves):
    page = open_page(reduced_motion=motion)
    durations = page.locator("*").evaluate_all(
        "all => all.map(e => getComputedStyle(e).transitionDuration)"
    )
    assert any(duration != "0s" for duration in durations) == moves


def test_images_and_tables_are_visible_without_scripts(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("noscript .row").count() == 6
    assert page.locator("noscript img").first.is_visible()
    assert page.locator("#gallery form.controls").is_hidden() and page.locator("#bars").is_hidden()
