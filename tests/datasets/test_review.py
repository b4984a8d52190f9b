"""Reviews: reading and writing, bad rows, and what they change."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.manifest import Record
from pipeline.datasets.review import (
    VERDICTS,
    Correction,
    Judgment,
    bad_images,
    correct_labels,
    corrected_labels,
    read_corrections,
    read_left_out,
    read_review,
    unknown_images,
    without_left_out,
    write_corrections,
    write_left_out,
    write_review,
)
from pipeline.datasets.source import Candidate, Source
from pipeline.errors import UserError

HEADER = "image,verdict,labels,note\n"
# Cells as a person may write them: quotes, commas, line breaks and other scripts.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=20)
CELL = TEXT.map(str.strip)
NAME = st.text('ab"é ,', min_size=1, max_size=5).map(str.strip).filter(bool)


@pytest.fixture
def review(tmp_path):
    """Return a function that writes rows below the header, and returns the file."""

    def write(rows, header=HEADER):
        path = tmp_path / "review.csv"
        path.write_text(header + rows, encoding="utf-8")
        return path

    return write


def source():
    names = {"a": ("cat",), "b": ("cat", "dog"), "c": ()}
    candidates = [Candidate(k, Path(f"{k}.png"), "train", v, None) for k, v in names.items()]
    return Source(("cat", "dog"), candidates)


def test_a_review_is_read_as_written_by_hand(review):
    path = review('a,good,,\nb,bad, dog ; cat ;dog,"frayed, see ""tail"""\nc,,;,\n\nd,unsure,,\n')
    assert read_review(path) == [
        Judgment("a", "good"),
        Judgment("b", "bad", ("dog", "cat"), 'frayed, see "tail"'),
        Judgment("c", "", ()),
        Judgment("d", "unsure"),
    ]


def test_columns_may_have_another_order_and_a_byte_order_mark(review):
    path = review("x,bad,a,\n", header="\ufeffnote,verdict,image,labels\n")
    assert read_review(path) == [Judgment("a", "bad", None, "x")]


@given(
    st.lists(
        st.builds(
            Judgment,
            NAME,
            st.sampled_from(["", *VERDICTS]),
            st.none() | st.lists(NAME, unique=True, max_size=3).map(tuple),
            CELL,
        ),
        unique_by=lambda judgment: judgment.image,
        max_size=6,
    )
)
def test_a_review_survives_writing_and_reading(tmp_path_factory, judgments):
    path = tmp_path_factory.mktemp("review") / "review.csv"
    write_review(path, judgments)
    assert read_review(path) == judgments


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,god,,\n", "line 2: unknown verdict 'god' of a, expected good, bad, unsure or an empty"),
        ("a,Good,,\n", "line 2: unknown verdict 'Good' of a"),
        ("a,good,,\na,bad,,\n", "line 3: a has a row already, expected one per image"),
        (",good,,\n", "line 2: no image is named, expected an image id"),
        ("a,good,cat,x,dog\n", "line 2: dog is in a column without a name"),
    ],
)
def test_a_bad_row_is_one_line(review, rows, message):
    with pytest.raises(UserError) as error:
        read_review(review(rows))
    assert str(error.value).startswith(f"{review(rows)}, {message}")
    assert "\n" not in str(error.value)


def test_an_index_that_pandas_wrote_is_named(review):
    with pytest.raises(UserError) as error:
        read_review(review("0,a,good,,\n", header=f",{HEADER}"))
    assert str(error.value).endswith(
        "line 2: 0 is in a column without a name, expected image, verdict, labels, note: delete "
        "the column (pandas: index=False)"
    )


def test_every_bad_row_is_named_up_to_a_limit(review):
    with pytest.raises(UserError) as error:
        read_review(review("".join(f"{k},what,,\n" for k in range(25))))
    lines = str(error.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "and 5 more problems"


def test_a_damaged_file_is_refused(review, tmp_path):
    with pytest.raises(UserError, match="its header is image, verdict, expected image,verdict"):
        read_review(review("", header="image,verdict\n"))
    with pytest.raises(UserError, match="separated by commas, not ';'"):
        read_review(review("", header="image;verdict;labels;note\n"))
    (tmp_path / "binary.csv").write_bytes(b"image,verdict\xff\xfe")
    with pytest.raises(UserError, match=r"binary\.csv"):
        read_review(tmp_path / "binary.csv")


def test_labels_are_replaced_and_only_differences_are_listed(review):
    data = source()
    done = correct_labels(data, review("b,good,dog,\na,,cat,\nc,,cat;dog,\n"))
    assert data.problems == []
    assert [item.labels for item in data.candidates] == [("cat",), ("dog",), ("cat", "dog")]
    assert done == [Correction("b", ("cat", "dog"), ("dog",)), Correction("c", (), ("cat", "dog"))]


def test_verdicts_and_notes_replace_no_label(review):
    data = source()
    assert correct_labels(data, review("b,bad,,not a dog\n")) == []
    assert data.candidates == source().candidates


def test_a_lone_separator_takes_all_labels_away(review):
    data = source()
    assert correct_labels(data, review("b,,;,\n")) == [Correction("b", ("cat", "dog"), ())]
    assert data.candidates[1].labels == ()


def test_unknown_images_and_classes_are_problems_of_the_data_set(review):
    data = source()
    path = review("a,,cow,\nzebra,,cat,\n")
    correct_labels(data, path)
    image, label = data.problems
    assert image.startswith(f"{path}: unknown image 'zebra', expected an id of the data set's")
    assert label == f"{path}, a: unknown label 'cow', expected one of cat, dog"


def test_unknown_images_are_named_with_the_nearest_id():
    (line,) = unknown_images(["img_1", "img_22"], ["img_1", "img_2"], Path("review.csv"))
    assert line.startswith("review.csv: unknown image 'img_22'") and "img_2'" in line


def test_parts_of_a_review_do_not_depend_on_its_order():
    judgments = [Judgment("b", "bad", ()), Judgment("c", "good"), Judgment("a", "bad", ("cat",))]
    assert bad_images(judgments) == bad_images(judgments[::-1]) == ["a", "b"]
    assert list(corrected_labels(judgments).items()) == [("a", ("cat",)), ("b", ())]


def test_tables_of_a_run_survive_writing_and_reading(tmp_path):
    corrections = [Correction("a", ("cat", "dog"), ()), Correction("b", (), ("dog",))]
    write_corrections(tmp_path / "c.csv", corrections)
    assert read_corrections(tmp_path / "c.csv") == corrections
    write_left_out(tmp_path / "l.csv", ["a", "b"])
    assert read_left_out([tmp_path / "l.csv"]) == {"a", "b"}
    assert read_left_out([]) == frozenset()


def test_a_verdict_is_about_the_labels_that_the_gallery_shows():
    records = [
        Record(name, Path(f"{name}.png"), 9, 9, split, ())
        for name, split in (("a", "train"), ("b", "train"), ("c", "val"))
    ]
    kept = {
        kind: [record.id for record in without_left_out(records, {"a", "c"}, kind)]
        for kind in ("pseudo_labels", "predictions")
    }
    assert kept == {"pseudo_labels": ["b", "c"], "predictions": ["a", "b"]}
    with pytest.raises(UserError, match="all 2 images were judged bad"):
        without_left_out(records[:2], {"a", "b"}, "pseudo_labels")
