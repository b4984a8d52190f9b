"""Reviews in trouble: a full store, two tabs, files of other programs, other keyboards."""

import pytest

from pipeline.datasets.review import Judgment, read_review
from pipeline.stages.report import report
from tests.helpers.report_tree import build

HEADER = "image,verdict,labels,note\n"
FULL = """() => {
  Storage.prototype.setItem = () => { throw new DOMException("", "QuotaExceededError"); };
}"""
UNSAVED = "The browser cannot store the review: save review.csv before you close the page."


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Render a report with three training images, i0 to i2."""
    tree = build(tmp_path_factory.mktemp("trouble") / "results/exp", ["cat", "dog"])
    report(**tree.arguments | {"gallery": 3})
    return tree.arguments["report"]


@pytest.fixture
def tabs(browser, file):
    """Return a function that opens the report in one more tab of a browser with an empty store."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    trouble = []

    def tab():
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(file.as_uri())
        page.select_option("#gallery [name=sort]", "id")
        return page

    yield tab
    context.close()
    assert trouble == []


@pytest.fixture
def page(tabs):
    return tabs()


def judge(page, image, keys):
    page.locator(f".card[data-id={image}] button.stack").click()
    for key in keys:
        page.keyboard.press(key)
    page.keyboard.press("Escape")


def verdicts(page):
    return page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.verdict)")


def loaded(page, *files):
    """Load files, and return the page's message."""
    page.evaluate("() => { document.querySelector('.review > .message').textContent = ''; }")
    page.set_input_files("#gallery .review input[type=file]", files)
    message = page.locator(".review > .message:not(:empty)")
    message.wait_for()
    return message.text_content()


def saved(page, path):
    with page.expect_download() as download:
        page.locator("#gallery .save").click()
    download.value.save_as(path)
    return read_review(path)


def test_a_full_store_is_named_in_the_viewer_until_a_change_is_kept(page):
    line = page.locator(".judge .unsaved")
    page.evaluate("() => { window.setItem = Storage.prototype.setItem; }")
    page.evaluate(FULL)
    page.locator("#gallery .begin").press("Enter")
    assert line.text_content() == ""
    page.keyboard.press("b")
    page.keyboard.press("n")
    assert line.is_visible() and line.text_content() == UNSAVED
    page.evaluate("() => { Storage.prototype.setItem = window.setItem; }")
    page.keyboard.press("g")
    assert line.text_content() == ""
    page.wait_for_function("() => Object.values({ ...localStorage }).join().includes('good')")
    page.reload()
    page.select_option("#gallery [name=sort]", "id")
    assert verdicts(page) == ["bad", "", "good"]


def test_a_change_in_another_tab_keeps_what_this_tab_could_not_store(tabs):
    first, second = tabs(), tabs()
    first.evaluate(FULL)
    judge(first, "i0", "b")
    judge(second, "i1", "u")
    first.locator(".card[data-id=i1][data-verdict=unsure]").wait_for()
    assert verdicts(first) == ["bad", "unsure", ""]


def test_undo_leaves_an_image_that_another_tab_judged_later(tabs):
    first, second = tabs(), tabs()
    judge(first, "i0", "g")
    judge(first, "i1", "g")
    second.locator(".card[data-id=i1][data-verdict=good]").wait_for()
    judge(second, "i1", "b")
    first.locator(".card[data-id=i1][data-verdict=bad]").wait_for()
    first.locator(".review .undo").click()
    assert verdicts(first) == ["", "bad", ""]


def test_a_tab_that_missed_the_changes_of_another_takes_them_before_it_stores(tabs):
    first = tabs()
    # As a tab that the browser has set aside, this one hears nothing of the other.
    first.evaluate(
        "() => addEventListener('storage', (event) => event.stopImmediatePropagation(), true)"
    )
    second = tabs()
    judge(second, "i0", "g")
    judge(first, "i2", "b")
    judge(second, "i1", "u")
    first.reload()
    first.select_option("#gallery [name=sort]", "id")
    assert verdicts(first) == ["good", "unsure", "bad"]


def test_every_one_of_several_files_is_reported(page, tmp_path):
    rows = {"one.csv": "i0,good,,\n", "two.csv": "i1,god,,\n", "three.csv": "i2,bad,,\n"}
    for name, row in rows.items():
        (tmp_path / name).write_text(HEADER + row, encoding="utf-8")
    message = loaded(page, *(tmp_path / name for name in rows))
    assert message == (
        "Loaded 1 image from one.csv: 0 conflicts. "
        'two.csv: row 2: verdict is "god", expected good, bad, unsure or nothing. Nothing was '
        "loaded from this file. Loaded 1 image from three.csv: 0 conflicts."
    )
    assert page.locator(".review > .message.problem").is_visible()
    assert verdicts(page) == ["good", "", "bad"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((HEADER + "i0,,,café\n").encode("cp1252"), "not UTF-8 text, save the table as UTF-8."),
        ((HEADER + "i0,bad,,\n").encode("utf-16"), "not UTF-8 text, save the table as UTF-8."),
        (
            b"image,verdict,labels,note,verdict\ni0,bad,,,good\n",
            "its header names the column verdict",
        ),
    ],
)
def test_a_table_that_a_run_would_refuse_is_not_loaded(page, tmp_path, content, message):
    (tmp_path / "other.csv").write_bytes(content)
    assert loaded(page, tmp_path / "other.csv").startswith(f"other.csv: {message}")
    assert saved(page, tmp_path / "saved.csv") == []


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffimage,verdict,labels,note\r\ni0,bad,dog,\r\n",  # Excel
        '"image","verdict","labels","note"\n"i0","bad","dog",""\n',  # LibreOffice, all quoted
        ",image,verdict,labels,note\n0,i0,bad,dog,\n",  # pandas with an index
        "image,verdict,labels,note,\ni0,bad,dog,,\n",  # a trailing comma in every row
        "note, labels, verdict, image\n, dog , bad , i0\n",
    ],
)
def test_tables_of_other_programs_are_loaded(page, tmp_path, content):
    (tmp_path / "other.csv").write_text(content, encoding="utf-8", newline="")
    assert loaded(page, tmp_path / "other.csv") == "Loaded 1 image from other.csv: 0 conflicts."
    assert saved(page, tmp_path / "saved.csv") == [Judgment("i0", "bad", ("dog",))]


def test_rows_that_say_nothing_are_not_counted(page, tmp_path):
    (tmp_path / "rows.csv").write_text(HEADER + "i0,,,\ni1,good,,\n", encoding="utf-8")
    assert loaded(page, tmp_path / "rows.csv").startswith("Loaded 1 image from")
    saved(page, tmp_path / "saved.csv")
    message = page.locator(".review > .message").text_content()
    assert message == "Saved review.csv with 1 image."


def test_labels_that_a_run_would_refuse_are_named_at_loading_and_saving(page, tmp_path):
    (tmp_path / "labels.csv").write_text(HEADER + "i0,,cat;cow,\ni1,,NaN,\n", encoding="utf-8")
    strange = "Not classes of this data set: cow (i0), NaN (i1)."
    assert loaded(page, tmp_path / "labels.csv").endswith(strange)
    saved(page, tmp_path / "saved.csv")
    assert page.locator(".review > .message").text_content().endswith(strange)


def press(page, **event):
    page.evaluate(
        "(event) => document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', { ...event, bubbles: true, cancelable: true }))",
        event,
    )


def test_keys_of_other_scripts_judge_by_their_place(page):
    page.locator("#gallery .begin").press("Enter")
    press(page, key="и", code="KeyB")
    press(page, key="ε", code="KeyG")
    press(page, key="b", code="KeyN")  # a Latin letter elsewhere counts as printed on the key
    page.keyboard.press("Escape")
    assert verdicts(page) == ["bad", "good", "bad"]


def test_enter_that_ends_a_word_of_an_input_method_stays_in_the_field(page):
    page.locator("#gallery .begin").press("Enter")
    page.keyboard.press("c")
    press(page, key="Enter", code="Enter", isComposing=True)
    assert page.evaluate("document.activeElement.name") == "note"
    press(page, key="Enter", code="Enter")
    assert page.evaluate("document.activeElement.id") == "viewer-title"


def test_the_image_that_follows_a_verdict_is_announced(page):
    page.locator("#gallery .begin").press("Enter")
    page.keyboard.press("g")
    region = page.locator("dialog [aria-live=polite]")
    assert region.locator("h3").text_content() == "i1"
    assert "cat" in region.text_content()


def test_a_review_of_no_image_says_so(page):
    page.select_option("#gallery [name=review]", "bad")
    page.locator("#gallery .begin").press("Enter")
    assert page.locator(".review > .message").text_content().startswith("No image to review")
    assert page.locator("dialog.viewer").is_hidden()


def test_markup_in_a_review_stays_text(page, tmp_path):
    # The fixture also fails if the page's policy blocks anything, because the browser reports it.
    markup = "<img src=x onerror=document.title='run'>"
    (tmp_path / "one.csv").write_text(f"{HEADER}i0,good,{markup},{markup}\n", encoding="utf-8")
    (tmp_path / "two.csv").write_text(f"{HEADER}i0,bad,{markup},\n", encoding="utf-8")
    before = page.title(), page.locator("img").count()
    assert markup in loaded(page, tmp_path / "one.csv")
    loaded(page, tmp_path / "two.csv")
    assert "i0" in page.locator(".conflicts").text_content()
    assert (page.title(), page.locator("img").count()) == before
    judge(page, "i0", [])
    assert page.locator("dialog [name=note]").input_value() == markup
