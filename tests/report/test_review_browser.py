"""The review mode of the gallery in a real browser, read back by the pipeline's own reader."""

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.review import Judgment, read_review, write_review
from pipeline.io.arrays import write_label
from pipeline.stages.report import report
from tests.helpers.report_tree import METHOD, build


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Render a report with twelve training images, of which two have a doubt."""
    tree = build(tmp_path_factory.mktemp("review") / "results/exp", ["cat", "dog"])
    manifest = tree.arguments["manifest"]
    rows = manifest.read_text(encoding="utf-8").splitlines()
    for k in range(9):
        image = tree.root / f"images/more{k}.png"
        Image.fromarray(np.full((20, 30, 3), 9 * k, np.uint8)).save(image)
        label = np.full((20, 30), 2, np.uint8)
        write_label(tree.root / f"pseudo_labels/{METHOD}/train/0/more{k}.png", label)
        rows.append(f"more{k},{image},30,20,train,dog,")
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    table = tree.arguments["image_scores"][0]
    scores = "".join(f"more{k},0.{k}5,0.5,0.9,,0.5\n" for k in range(9))
    table.write_text(table.read_text(encoding="utf-8") + scores, encoding="utf-8")
    report(**tree.arguments | {"gallery": 9})
    return tree.arguments["report"]


@pytest.fixture
def page(browser, file):
    """Open the report with an empty store; at the end nothing may have gone wrong in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    trouble = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(file.as_uri())
    page.select_option("#gallery [name=sort]", "id")
    yield page
    context.close()
    assert trouble == []


def begin(page):
    page.locator("#gallery .begin").press("Enter")
    return page.locator("dialog.viewer")


def ids(page):
    return page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.id)")


def verdicts(page):
    return dict(
        page.eval_on_selector_all(
            ".card", "cards => cards.map(card => [card.dataset.id, card.dataset.verdict])"
        )
    )


def saved(page, path):
    with page.expect_download() as download:
        page.locator("#gallery .save").click()
    assert download.value.suggested_filename == "review.csv"
    download.value.save_as(path)
    return read_review(path)


def load(page, path, judgments):
    write_review(path, judgments)
    page.set_input_files("#gallery .review input[type=file]", path)
    page.locator("#gallery .review > .message", has_text=f"from {path.name}").wait_for()


def test_ten_images_are_judged_by_keyboard_kept_and_saved(page, tmp_path):
    order = ids(page)
    dialog = begin(page)
    assert dialog.locator("h3").text_content() == order[0]
    for key in "gbuggbbggu":
        page.keyboard.press(key)
    assert dialog.locator("h3").text_content() == order[10]
    counts = "10 of 12 images reviewed: 5 good, 3 bad, 2 unsure."
    assert dialog.locator(".judge .progress").text_content() == counts
    page.keyboard.press("Escape")
    names = {"g": "good", "b": "bad", "u": "unsure"}
    expected = dict(zip(order, [names[key] for key in "gbuggbbggu"] + ["", ""], strict=True))
    assert verdicts(page) == expected
    page.reload()
    assert page.locator(".review .counted .progress").text_content() == counts
    assert verdicts(page) == expected
    judged = [Judgment(name, verdict) for name, verdict in sorted(expected.items()) if verdict]
    assert saved(page, tmp_path / "review.csv") == judged
    # The review goes on where it stopped.
    page.select_option("#gallery [name=sort]", "id")
    assert begin(page).locator("h3").text_content() == order[10]


def test_undo_goes_back_to_the_image_and_ends_at_the_start(page):
    order = ids(page)
    dialog = begin(page)
    for key in "gbx":
        page.keyboard.press(key)
    page.keyboard.press("z")  # the clearing of the third image, which had no verdict
    page.keyboard.press("z")
    assert dialog.locator("h3").text_content() == order[1]
    pressed = dialog.locator("[data-verdict=bad]")
    assert pressed.get_attribute("aria-pressed") == "false"
    page.keyboard.press("b")
    page.keyboard.press("p")
    assert pressed.get_attribute("aria-pressed") == "true"
    for _ in range(3):
        page.keyboard.press("z")
    assert dialog.locator(".message").text_content() == "Nothing to undo."
    assert set(verdicts(page).values()) == {""}


def test_labels_and_a_note_are_typed_and_letters_in_fields_are_no_verdicts(page, tmp_path):
    order = ids(page)
    dialog = begin(page)
    page.keyboard.press("l")
    page.keyboard.type("dog; cat;dog")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    assert dialog.is_visible() and dialog.locator("h3").text_content() == order[0]
    page.keyboard.press("c")
    page.keyboard.type('big, "blurred" bug')
    page.keyboard.press("Enter")
    page.keyboard.press("n")
    page.keyboard.press("l")
    page.keyboard.type(";")
    page.reload()
    assert saved(page, tmp_path / "review.csv") == [
        Judgment(order[0], "", ("dog", "cat"), 'big, "blurred" bug'),
        Judgment(order[1], "", ()),
    ]
    page.select_option("#gallery [name=review]", "edited")
    assert set(ids(page)) == set(order[:2])


def test_an_unknown_class_is_named(page):
    dialog = begin(page)
    field = dialog.locator("[name=labels]")
    assert field.get_attribute("aria-invalid") == "false"
    field.fill("cat;cow")
    assert field.get_attribute("aria-invalid") == "true"
    problem = dialog.locator("#labels-problem")
    assert problem.text_content() == "Unknown class: cow. The classes are cat, dog."
    field.fill("cat")
    assert problem.text_content() == ""


def test_images_are_filtered_by_review_and_by_doubt(page):
    order = ids(page)
    begin(page)
    page.keyboard.press("g")
    page.keyboard.press("b")
    page.keyboard.press("Escape")
    page.select_option("#gallery [name=review]", "open")
    assert ids(page) == order[2:]
    page.select_option("#gallery [name=review]", "bad")
    assert ids(page) == order[1:2]
    page.select_option("#gallery [name=review]", "")
    page.select_option("#gallery [name=doubt]", "0.5")
    assert ids(page) == ["i1"]  # doubts 0.75 and 0.25
    page.select_option("#gallery [name=doubt]", "")
    # An image that is judged leaves the list of those without a verdict, after the viewer closes.
    page.select_option("#gallery [name=review]", "open")
    begin(page)
    page.keyboard.press("u")
    page.keyboard.press("Escape")
    # A dialog fires its event "close" in a later task.
    page.locator(f".card[data-id={order[2]}]").wait_for(state="detached")
    assert ids(page) == order[3:]


def test_a_second_review_is_merged_and_conflicts_are_decided_by_hand(page, tmp_path):
    order = ids(page)
    begin(page)
    for key in "gbg":
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    other = [
        Judgment(order[0], "good", ("dog",)),
        Judgment(order[1], "good", None, "fine to me"),
        Judgment(order[2], "bad"),
        Judgment(order[5], "unsure"),
        Judgment("elsewhere", "bad"),
    ]
    load(page, tmp_path / "second.csv", other)
    message = page.locator(".review > .message").text_content()
    assert message.startswith("Loaded 5 images from second.csv: 2 conflicts. 1 image not in this")
    lines = page.locator(".conflicts span")
    assert lines.all_text_contents() == [
        f"{order[1]}, verdict: bad here, good in second.csv",
        f"{order[2]}, verdict: good here, bad in second.csv",
    ]
    page.select_option("#gallery [name=review]", "conflict")
    assert ids(page) == order[1:3]
    page.reload()
    # The page keeps its own values until somebody decides, and takes what it lacks.
    kept = saved(page, tmp_path / "kept.csv")
    assert {item.image: item.verdict for item in kept} == {
        order[0]: "good", order[1]: "bad", order[2]: "good", order[5]: "unsure",
        "elsewhere": "bad",
    }  # fmt: skip
    assert next(item for item in kept if item.image == order[0]).labels == ("dog",)
    assert next(item for item in kept if item.image == order[1]).note == "fine to me"
    assert "2 conflicts not decided" in page.locator(".review > .message").text_content()
    page.get_by_role("button", name=f"Keep verdict bad of {order[1]}").press("Enter")
    # The keyboard is at the next conflict.
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(".disagreement").is_hidden()
    decided = {item.image: item.verdict for item in saved(page, tmp_path / "decided.csv")}
    assert (decided[order[1]], decided[order[2]]) == ("bad", "bad")


def test_a_damaged_review_changes_nothing(page, tmp_path):
    begin(page)
    page.keyboard.press("g")
    page.keyboard.press("Escape")
    before = saved(page, tmp_path / "before.csv")
    damaged = {
        "header.csv": ("image;verdict\n", 'its header is "image;verdict", expected image,verdict'),
        "verdict.csv": (
            "image,verdict,labels,note\ni0,god,,\n",
            'row 2: verdict is "god", expected good, bad, unsure or nothing',
        ),
        "twice.csv": ("image,verdict,labels,note\ni1,,,\ni1,bad,,\n", "row 3: i1 has a row"),
        "cells.csv": ("image,verdict,labels,note\ni1,bad\n", "row 2 has 2 cells, expected 4"),
        "quote.csv": ('image,verdict,labels,note\ni1,bad,"x,\n', "row 2 is not CSV"),
    }
    for name, (content, message) in damaged.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        page.set_input_files("#gallery .review input[type=file]", tmp_path / name)
        text = page.locator(".review > .message", has_text=name)
        text.wait_for()
        assert text.text_content().startswith(f"{name}: {message}")
    assert saved(page, tmp_path / "after.csv") == before


def test_reports_with_other_labels_do_not_share_a_review(browser, file, tmp_path):
    other = tmp_path / "other.html"
    text = file.read_text(encoding="utf-8")
    assert text.count('"key":"exp/') == 1
    other.write_text(text.replace('"key":"exp/', '"key":"exp/0'), encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto(file.as_uri())
    begin(page)
    page.keyboard.press("g")
    page.goto(other.as_uri())
    assert page.locator(".counted .progress").text_content().startswith("0 of 12")
    page.goto(file.as_uri())
    assert page.locator(".counted .progress").text_content().startswith("1 of 12")
    context.close()


def test_a_long_review_survives_a_reload_and_a_merge_with_itself(page, tmp_path):
    notes = ["a,b", 'say "no"', "é ü 猫", "x" * 500]
    review = [Judgment(f"id{k:05}", "bad", ("cat",), notes[k % 4]) for k in range(3000)]
    load(page, tmp_path / "long.csv", review)
    page.reload()
    load(page, tmp_path / "again.csv", review)
    assert page.locator(".disagreement").is_hidden()
    assert saved(page, tmp_path / "saved.csv") == review


def test_every_control_has_a_name_and_the_verdicts_state_their_keys(page):
    dialog = begin(page)
    for role, count in (("button", 8), ("textbox", 2)):
        found = dialog.get_by_role(role)
        assert found.count() == count
        names = [item.aria_snapshot() for item in found.all()]
        assert all('"' in name for name in names), names
    keys = dialog.locator("[aria-keyshortcuts]").evaluate_all(
        "all => all.map(item => item.getAttribute('aria-keyshortcuts'))"
    )
    assert keys == ["g", "b", "u", "x", "z"]
    assert dialog.locator("[role=status]").count() >= 2
