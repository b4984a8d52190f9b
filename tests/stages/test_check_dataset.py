import logging
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.findings import Finding, write_findings
from pipeline.datasets.manifest import Record, write_classes, write_manifest
from pipeline.datasets.review import Correction, write_corrections
from pipeline.errors import UserError
from pipeline.stages.check_dataset import check_dataset

FINDINGS = [Finding("masks <that> contradict", "3 of 4", "They score", "Mend them")]


@pytest.fixture
def check(small_dataset, tmp_path):
    page, found = tmp_path / "dataset/check.html", tmp_path / "dataset/findings.json"
    write_findings(found, FINDINGS)

    def run(images_per_class=6, threads=1, corrections=()):
        paths = {name: small_dataset[name] for name in ("manifest", "classes")}
        paths |= {"findings": found, "corrections": tmp_path / "corrections.csv"}
        write_corrections(paths["corrections"], corrections)
        check_dataset(**paths, images_per_class=images_per_class, page=page, threads=threads)
        return page.read_text(encoding="utf-8")

    return run


def captions(html):
    return re.findall(r'<img src="data:image/jpeg;base64,[^"]+" alt="(.*?)"', html)


def test_the_page_shows_images_of_every_class(check):
    assert captions(check()) == [
        "cat: 0", "cat: 2", "cat: 5", "dog: 1", "dog: 2", "dog: 4", "no label: 3",
    ]  # fmt: skip
    assert captions(check(images_per_class=1)) == ["cat: 0", "dog: 1", "no label: 3"]


def test_findings_about_masks_are_on_the_page(check):
    text = "<h3>masks &lt;that&gt; contradict</h3><div><p>3 of 4.</p>"
    assert text in check()


def test_corrected_labels_are_listed_beside_the_labels_of_the_data_set(check):
    html = check(corrections=[Correction("2", ("cat", "dog"), ("dog",)), Correction("3", (), ())])
    assert '<th scope="row">2</th><td>cat, dog</td><td>dog</td>' in html
    assert '<th scope="row">3</th><td>no label</td><td>no label</td>' in html
    assert "Corrected labels" not in check()


def test_a_limit_of_zero_shows_no_images(check):
    assert captions(check(images_per_class=0)) == []


def test_the_number_of_processes_does_not_matter(processes, check):
    assert check(threads=1) == check(threads=2)


def test_a_terminal_has_counts_and_warnings(check, caplog):
    caplog.set_level(logging.INFO)
    check()
    lines = [record.getMessage() for record in caplog.records]
    assert "train: 4 images, 1 without a label, 1.00 labels per image" in lines
    assert "val: 2 images, 0 without a label, 1.00 labels per image" in lines
    assert "2 classes, from cat (2 train images) to dog (2)" in lines
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split(":")[1] for line in warned] == [
        " masks <that> contradict",
        " classes with fewer than 10 train images",
        " images with a side below 64 pixels",
    ]  # fmt: skip


def test_a_copy_in_val_of_a_train_image_is_found(tmp_path, caplog):
    Image.fromarray(np.full((80, 90, 3), 120, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    records = [
        Record(name, tmp_path / f"{name}.png", 90, 80, split, ("cat",))
        for name, split in (("a", "train"), ("b", "val"))
    ]
    write_manifest(tmp_path / "m.csv", records)
    write_classes(tmp_path / "c.json", ["cat"])
    write_findings(tmp_path / "f.json", [])
    write_corrections(tmp_path / "r.csv", [])
    files = {"manifest": "m.csv", "classes": "c.json", "findings": "f.json", "corrections": "r.csv"}
    paths = {name: tmp_path / file for name, file in files.items()}
    check_dataset(**paths, images_per_class=2, page=tmp_path / "check.html", threads=1)
    assert "same image in train and val: a (train: cat) = b (val: cat)." in caplog.text


def test_a_missing_image_is_reported_and_no_page_is_written(check, small_dataset, tmp_path):
    (tmp_path / "images/3.png").unlink()
    with pytest.raises(UserError, match=r"3\.png: no such image"):
        check()
    assert list((tmp_path / "dataset").glob("*check*")) == []


def test_the_page_of_real_images_has_bounded_size(voc_subset, tmp_path):
    from pipeline.stages.prepare_dataset import prepare_dataset

    paths = {name: tmp_path / name for name in ("manifest", "classes")}
    small = (voc_subset / "ImageSets/Segmentation/val.txt").read_text(encoding="utf-8").split()[:20]
    lists = {"train_list": small[:15], "val_list": small[15:]}
    for name, ids in lists.items():
        (tmp_path / name).write_text("\n".join(ids), encoding="utf-8")
    dataset = {"kind": "voc", "root": voc_subset, "image_labels": "labels.csv", "masks": None}
    dataset |= {"classes": None} | {name: tmp_path / name for name in lists}
    corrections = tmp_path / "corrections.csv"
    made = {"images": tmp_path / "images", "corrections": corrections, "review": None}
    prepare_dataset(sources=[], dataset=dataset, seed=0, threads=1, **paths, **made)
    write_findings(tmp_path / "f.json", [])
    page = tmp_path / "check.html"
    paths |= {"findings": tmp_path / "f.json", "corrections": corrections}
    check_dataset(**paths, images_per_class=6, page=page, threads=1)
    shown = captions(page.read_text(encoding="utf-8"))
    assert len(shown) >= 20
    assert page.stat().st_size < 60_000 + 20_000 * len(shown)


def test_nearly_black_16_bit_images_are_found(tmp_path, caplog):
    rng = np.random.default_rng(0)
    records = []
    for name, most in (("a", 4095), ("b", 1000), ("c", 65535), ("d", 16384)):
        pixels = rng.integers(0, most, (80, 90), np.uint16)
        pixels[3, 4] = most
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        records.append(Record(name, tmp_path / f"{name}.png", 90, 80, "train", ("cat",)))
    write_manifest(tmp_path / "m.csv", records)
    write_classes(tmp_path / "c.json", ["cat"])
    write_findings(tmp_path / "f.json", [])
    write_corrections(tmp_path / "r.csv", [])
    files = {"manifest": "m.csv", "classes": "c.json", "findings": "f.json", "corrections": "r.csv"}
    paths = {name: tmp_path / file for name, file in files.items()}
    check_dataset(**paths, images_per_class=2, page=tmp_path / "check.html", threads=1)
    line = (
        "16-bit images that are almost black: 2 of 4: a (largest value 4095), b (largest value "
        "1000). In every file, 0 is read as black and 65535 as white, so 4095 becomes 15 of 255. "
        "If the values have 12 bits, multiply all values in all files by 16 and save the files "
        "again."
    )
    assert line in caplog.text
    assert "16-bit images that are almost black" in (tmp_path / "check.html").read_text(
        encoding="utf-8"
    )
