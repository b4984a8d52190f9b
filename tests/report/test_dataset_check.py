import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.findings import findings
from pipeline.datasets.manifest import Manifest, Record
from pipeline.datasets.overview import summarize
from pipeline.report.dataset_check import MAX_MATRIX_CLASSES, Thumbnail, render_check
from tests.helpers.pages import Page

PICTURE = "data:image/png;base64,iVBORw0KGgo="


def records(*rows, size=(500, 375)):
    """Return records of (labels, split, number of images)."""
    found = []
    for labels, split, count in rows:
        for _ in range(count):
            name = f"i{len(found)}"
            found.append(Record(name, Path(name), *size, split, tuple(labels.split())))
    return found


def balanced():
    rows = [("cat", "train", 20), ("dog", "train", 20), ("cat dog", "train", 5)]
    return records(*rows, ("cat", "val", 3), ("dog", "val", 3))


def found(items, classes=("cat", "dog"), twins=()):
    manifest = Manifest(tuple(classes), tuple(items))
    return {item.name: item.got for item in findings(manifest, summarize(manifest), twins)}


def page(items, classes=("cat", "dog"), twins=()):
    manifest = Manifest(tuple(classes), tuple(items))
    overview = summarize(manifest)
    sheet = {
        name: [Thumbnail(r, PICTURE) for r in items if name in r.labels][:2] for name in classes
    }
    rest = [Thumbnail(r, PICTURE) for r in items if not r.labels]
    worth = findings(manifest, overview, twins)
    return render_check(manifest, overview, worth, sheet, rest)


def text_of(html):
    return " ".join(" ".join(Page(html).text).split())


def test_a_valid_data_set_has_no_findings():
    assert found(balanced()) == {}
    assert "Nothing stood out" in text_of(page(balanced()))


def test_a_repeated_image_is_a_leak_a_contradiction_or_a_copy():
    one, two, three, four = records(("cat", "train", 2), ("cat", "val", 1), ("dog", "train", 1))
    more = balanced()
    assert found(more, twins=[(one, two)]) == {
        "same image twice": "i0 (train: cat) = i1 (train: cat)"
    }
    assert found(more, twins=[(one, two, three)]) == {
        "same image in train and val": "i0 (train: cat) = i2 (val: cat) and 1 more"
    }
    assert found(more, twins=[(one, four)]) == {
        "same image, different labels": "i0 (train: cat) = i3 (train: dog)"
    }
    assert found(more, twins=[(three, four)]).keys() == {
        "same image in train and val", "same image, different labels",
    }  # fmt: skip


def test_similar_names_are_named():
    items = balanced() + records(("catt", "train", 10), ("catt", "val", 1))
    assert found(items, ["cat", "dog", "catt"]) == {"similar class names": "“cat” and “catt”"}


def test_labels_that_another_mark_joins_are_named_and_not_called_similar():
    rows = [("cat|dog", split, 10) for split in ("train", "val")]
    rows += [("dog,cat", split, 10) for split in ("train", "val")]
    items = balanced() + records(*rows)
    assert found(items, ["cat", "dog", "cat|dog", "dog,cat"]) == {
        "class names that look like several names": "“cat|dog”, “dog,cat”"
    }


def test_rare_classes_are_counted_at_the_threshold():
    def of(count):
        extra = records(("bird", "train", count), ("bird", "val", 1))
        return found(balanced() + extra, ["cat", "dog", "bird"])

    assert of(10) == {}
    assert of(9) == {"classes with fewer than 10 train images": "bird (9)"}
    assert of(0) == {"classes without a train image": "bird"}


def test_a_class_without_a_val_image_is_named_once():
    items = balanced() + records(("bird", "train", 10))
    assert found(items, ["cat", "dog", "bird"]) == {"classes without a val image": "bird"}
    assert found(balanced(), ["cat", "dog", "bird"]) == {"classes without a train image": "bird"}


def test_settings_in_findings_are_code():
    html = page(balanced() + records(("bird", "train", 10)), ["cat", "dog", "bird"])
    assert "a column <code>split</code> in" in html and "`" not in text_of(html)


def test_imbalance_is_above_fifty_to_one():
    def of(count):
        rows = [("cat", "train", count), ("dog", "train", 10), ("cat", "val", 1), ("dog", "val", 1)]
        return found(records(*rows))

    assert "imbalanced classes" not in of(100)
    assert "imbalanced classes" not in of(500)
    assert of(501)["imbalanced classes"] == "cat has 501 train images, dog 10"


def test_a_class_on_nearly_every_image_is_reported_without_co_occurrences():
    rows = [("cat dog", "train", 20), ("cat", "train", 80), ("cat dog", "val", 1)]
    assert found(records(*rows)) == {"classes on nearly every image": "cat (100 of 100)"}
    rest = records(*rows, ("", "train", 6))
    assert found(rest) == {
        "classes never seen without another": "dog (20, always with cat)"
    }  # 100 of 106 are 94 %


def test_most_images_without_a_label_are_counted():
    assert found(balanced() + records(("", "train", 45))) == {}
    assert found(balanced() + records(("", "train", 46))) == {
        "mostly images without a label": "46 of 91 train images"
    }


def test_two_classes_that_are_always_together_are_named_once():
    items = balanced() + records(("bird nest", "train", 10), ("bird nest", "val", 1))
    assert found(items, ["cat", "dog", "bird", "nest"]) == {
        "classes never seen without another": "bird (10, always with nest)"
    }


def test_sizes_are_named_beyond_their_thresholds_only():
    def of(width, height):
        return found(balanced() + records(("cat", "train", 1), size=(width, height)))

    assert of(64, 64) == of(4096, 1000) == of(500, 100) == {}
    assert of(63, 100) == {"images with a side below 64 pixels": "i0 (63 x 100)"}
    assert of(501, 100) == {"images more elongated than 5 : 1": "i0 (501 x 100)"}
    assert of(4097, 1000) == {"images with a side above 4096 pixels": "i0 (4097 x 1000)"}


def test_long_lists_are_cut():
    names = [f"class {k}" for k in range(9)]
    assert found(balanced(), ["cat", "dog", *names]) == {
        "classes without a train image": "class 0, class 1, class 2, class 3, class 4 and 4 more"
    }


#: What prepare_dataset lets pass as a name.
NAMES = st.text(min_size=1).filter(lambda name: ";" not in name and name == name.strip())
ROWS = st.tuples(
    st.sets(st.integers(0, 3)),
    st.sampled_from(["train", "val"]),
    st.integers(1, 9000),
    st.integers(1, 9000),
)


@given(st.lists(NAMES, min_size=1, unique=True), st.lists(ROWS, max_size=12))
def test_findings_are_one_line_each_and_of_any_data_set(classes, rows):
    items = []
    for k, (numbers, split, width, height) in enumerate(rows):
        labels = tuple(classes[number] for number in numbers if number < len(classes))
        items.append(Record(str(k), Path(str(k)), width, height, split, labels))
    manifest = Manifest(tuple(classes), tuple(items))
    worth = findings(manifest, summarize(manifest), [items] if len(items) > 1 else [])
    assert len({item.name for item in worth}) == len(worth)
    for item in worth:
        assert len(str(item).splitlines()) == 1
        assert item.got.strip() and item.why and item.fix


def test_the_page_is_valid_and_makes_no_requests():
    document = Page(page(balanced()))
    assert document.requests
    assert all(url.startswith(("#", "data:image/")) for url in document.requests)


def test_the_page_shows_the_counts():
    items = balanced() + records(("", "train", 2))
    html = page(items)
    text = text_of(html)
    for figure in ("47 train images", "6 val images", "2 classes", "1.06 labels per image"):
        words, name = figure.split(" ", 1)
        assert f"<dt>{name}</dt><dd>{words}</dd>" in html
    # Of 47 train images 25 show a cat, 20 of them nothing else, and 5 a dog too.
    row = re.search(r'<tr><th scope="row">cat</th>(.*?)</tr>', html, re.DOTALL)[1]
    cells = [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)]
    assert cells == ["25", "53.2", "", "3", "50.0", "20", "dog 20&nbsp;%"]
    assert "no label 2 1 label 46 2 labels 5" in text
    assert '<td class="own">25</td>' in html and '<td style="--s: 0.20">5</td>' in html


def test_many_labels_are_counted_together():
    names = [f"n{k}" for k in range(12)]
    html = page(records((" ".join(names), "train", 2), ("n1", "val", 1)), names)
    assert "1 label 1 2 labels 0" in text_of(html)
    assert "7 labels 0 8 or more 2" in text_of(html)


def test_the_matrix_shows_the_classes_that_co_occur_most():
    names = [f"n{k}" for k in range(MAX_MATRIX_CLASSES + 20)]
    alone = [(name, "train", 1) for name in names[:5]]
    together = [(f"{one} {other}", "train", 1) for one, other in pairwise(names[5:])]
    html = page(records(*alone, *together), names)
    headings = re.findall(r'<th scope="col" title="(n\d+)">', html)
    # The last of the chain has one neighbor, all others have two.
    assert headings == names[6 : 6 + MAX_MATRIX_CLASSES]
    assert "No train image shows two classes" in page(records(*alone), names)


def test_images_list_their_other_classes():
    html = page(balanced()[-7:])
    assert 'alt="cat: i' in html and "+ dog" in html and ">val</span>" in html
    # Captions are as wide as the images, also before these are loaded.
    assert 'width="500" height="375" loading="lazy"' in html


@pytest.mark.parametrize("size", [(1, 1), (1, 70000), (70000, 1), (4096, 64)])
def test_any_size_has_a_place_in_the_chart(size):
    html = page(balanced() + records(("cat", "train", 1), size=size))
    places = re.findall(r'<circle cx="(.*?)" cy="(.*?)"', html)
    assert len(places) == 2
    assert all(0 <= float(value) <= 320 for place in places for value in place)


def test_names_cannot_break_the_page():
    hostile = '<script>alert("x")</script>&'
    items = [Record(f"{hostile}{k}", Path("x"), 10, 500, "train", (hostile, "b")) for k in range(3)]
    document = Page(page(items, [hostile, "b"], twins=[items]))
    assert document.tags.count("script") == Page(page(balanced())).tags.count("script")
    assert hostile in document.text


def test_equal_data_make_equal_bytes():
    assert page(balanced()) == page(balanced())


def test_a_phone_shows_the_page_without_errors_and_without_sideways_scrolling(browser, tmp_path):
    names = [f"a class with a long name, number {k}" for k in range(30)]
    items = [
        Record(f"{'long' * 30}{k}", Path("x"), 500, 30 + k, "train", (names[k % 30], names[k % 7]))
        for k in range(60)
    ]
    path = tmp_path / "check.html"
    path.write_text(page(items, names), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 375, "height": 800})
    errors = []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(path.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 375
    tab.click("text=Train")
    order = tab.locator("#classes tbody td:nth-child(2)").all_inner_texts()
    assert [int(count) for count in order] == sorted(map(int, order), reverse=True)
    assert errors == []
