"""What the browser keeps of a review, and slips of the hand, in a real browser."""

import pytest

from pipeline.datasets.review import Judgment, read_review, write_review
from pipeline.stages.report import report
from tests.helpers.report_tree import build

KEPT = "() => Object.keys(localStorage).filter((key) => key.startsWith('wsss-review/exp/'))"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return build(tmp_path_factory.mktemp("store") / "results/exp", ["cat", "dog"])


@pytest.fixture(scope="module")
def file(tree):
    """Render a report with three training images."""
    report(**tree.arguments | {"gallery": 3})
    return tree.arguments["report"]


@pytest.fixture(scope="module")
def other(tree, file, tmp_path_factory):
    """Render a report of the same experiment with other labels."""
    path = tmp_path_factory.mktemp("other") / "report.html"
    report(**tree.arguments | {"gallery": 3, "labels": [], "quality": [], "report": path})
    return path


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    trouble = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    yield page
    context.close()
    assert trouble == []


def visit(page, path, split="val"):
    page.goto(path.as_uri())
    page.select_option("#gallery [name=split]", split)
    page.select_option("#gallery [name=sort]", "id")


def judge(page, keys):
    page.locator("#gallery .begin").press("Enter")
    for key in keys:
        page.keyboard.press(key)
    page.keyboard.press("Escape")


def progress(page):
    return page.locator(".counted .progress").text_content()


def load(page, path, judgments):
    write_review(path, judgments)
    page.set_input_files("#gallery .review input[type=file]", path)
    page.locator("#gallery .review > .message", has_text=f"from {path.name}").wait_for()


def test_a_key_that_is_held_judges_one_image_and_undoes_one_step(page, file):
    visit(page, file)
    dialog = page.locator("dialog.viewer")
    page.locator("#gallery .begin").press("Enter")
    for _ in range(3):
        page.keyboard.down("b")  # Without a release, the browser reports repetitions.
    assert dialog.locator("h3").text_content() == "i4"
    page.keyboard.up("b")
    page.keyboard.press("g")
    for _ in range(3):
        page.keyboard.down("z")
    assert dialog.locator(".judge .progress").text_content().startswith("1 of 3 images")


def test_a_conflict_ends_when_both_sides_agree_and_returns_when_they_do_not(page, file, tmp_path):
    visit(page, file)
    judge(page, "g")
    load(page, tmp_path / "bad.csv", [Judgment("i3", "bad")])
    load(page, tmp_path / "unsure.csv", [Judgment("i3", "unsure")])
    lines = page.locator(".conflicts span")
    assert lines.all_text_contents() == [
        "i3, verdict: good here, bad in bad.csv",
        "i3, verdict: good here, unsure in unsure.csv",
    ]
    card = page.locator(".card[data-id=i3] button.stack")
    card.click()
    page.keyboard.press("u")
    page.keyboard.press("Escape")
    assert lines.all_text_contents() == ["i3, verdict: unsure here, bad in bad.csv"]
    page.get_by_role("button", name="Take verdict bad of i3").press("Enter")
    # The second reviewer still differs from what was taken from the first.
    assert lines.all_text_contents() == ["i3, verdict: bad here, unsure in unsure.csv"]


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ("{", "The browser cannot read the stored review"),
        ("null", "The browser cannot read the stored review"),
        ('{"rows": 3}', "The browser cannot read the stored review"),
        ('{"rows": [["i3", null]]}', "The browser cannot read the stored review"),
        ('{"rows": [["i3", {"verdict": "bad"}]], "conflicts": [{}]}', ""),
    ],
)
def test_a_damaged_store_is_named_and_the_page_works(page, file, stored, message):
    visit(page, file)
    judge(page, "g")
    page.evaluate(f"(text) => ({KEPT})().forEach((key) => localStorage.setItem(key, text))", stored)
    visit(page, file)
    assert page.locator(".review > .message").text_content().startswith(message)
    assert progress(page)[:6] == ("0 of 3" if message else "1 of 3")
    assert ("1 bad" in progress(page)) == (not message)
    page.locator(".card[data-id=i4] button.stack").click()
    page.keyboard.press("u")
    page.keyboard.press("Escape")
    assert "1 unsure" in progress(page)


def test_the_review_of_an_earlier_report_is_offered_and_continued(page, file, other, tmp_path):
    visit(page, file)
    assert page.locator(".earlier").is_hidden()
    judge(page, "gb")
    load(page, tmp_path / "first.csv", [Judgment("i5", "", ("dog",), "no cat")])
    visit(page, other)
    assert progress(page).startswith("0 of 3")
    judge(page, "b")
    offer = page.locator(".earlier")
    assert "It judges or corrects 3 images of this page." in offer.text_content()
    page.reload()
    offer.get_by_role("button", name="Continue that review").press("Enter")
    assert offer.is_hidden()
    # The page keeps its own verdict and names the other.
    conflict = "i3, verdict: bad here, good in the earlier review"
    assert page.locator(".conflicts span").all_text_contents() == [conflict]
    with page.expect_download() as download:
        page.locator("#gallery .save").click()
    download.value.save_as(tmp_path / "review.csv")
    assert read_review(tmp_path / "review.csv") == [
        Judgment("i3", "bad"),
        Judgment("i4", "bad"),
        Judgment("i5", "", ("dog",), "no cat"),
    ]
    page.reload()
    assert offer.is_hidden() and page.locator(".conflicts span").all_text_contents() == [conflict]


def test_an_ignored_review_is_offered_again_only_after_a_change(page, file, other):
    visit(page, file)
    judge(page, "g")
    visit(page, other)
    offer = page.locator(".earlier")
    offer.get_by_role("button", name="Ignore it").press("Enter")
    assert offer.is_hidden() and progress(page).startswith("0 of 3")
    page.reload()
    assert offer.is_hidden()
    visit(page, file)
    page.locator(".card[data-id=i4] button.stack").click()
    page.keyboard.press("b")
    page.keyboard.press("Escape")
    visit(page, other)
    assert "2 images" in offer.text_content() and offer.is_visible()


def test_undo_takes_a_continued_review_back_and_offers_it_again(page, file, other):
    visit(page, file)
    judge(page, "gb")
    visit(page, other)
    page.locator(".earlier .continue").press("Enter")
    assert progress(page).startswith("2 of 3")
    page.locator(".review .undo").press("Enter")
    assert progress(page).startswith("0 of 3")
    assert page.locator(".earlier").is_visible()


def test_reviews_of_other_experiments_and_of_other_images_are_not_offered(page, file, other):
    visit(page, file)
    judge(page, "g")
    row = '{"rows":[["elsewhere",{"verdict":"bad"}]],"time":9e15}'
    page.evaluate(
        f"""(row) => {{
          const [key] = ({KEPT})();
          localStorage.setItem(key.replace("/exp/", "/exp2/"), localStorage.getItem(key));
          localStorage.setItem(key, row);
        }}""",
        row,
    )
    visit(page, other)
    assert page.locator(".earlier").is_hidden()


def test_only_the_chosen_verdict_is_shown_as_pressed(page, file):
    visit(page, file)
    page.locator("#gallery .begin").press("Enter")
    pressed = page.locator(".judge [aria-pressed=true]")
    assert pressed.count() == 0
    for key in ("b", "p"):
        page.keyboard.press(key)
    assert [item.get_attribute("data-verdict") for item in pressed.all()] == ["bad"]
    page.keyboard.press("x")
    assert pressed.count() == 0
