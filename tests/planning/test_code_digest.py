import pytest

from pipeline.planning import code_digest as digest
from pipeline.planning.code_digest import code_digest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Create a small package in place of the project's own."""
    (tmp_path / "pipeline/stages").mkdir(parents=True)
    for name in ("__init__.py", "stages/__init__.py"):
        (tmp_path / "pipeline" / name).write_text("", encoding="utf-8")
    (tmp_path / "pipeline/stages/stage.py").write_text(
        "from pipeline.helper import f\n", encoding="utf-8"
    )
    (tmp_path / "pipeline/helper.py").write_text(
        "from pipeline import deep\nf = deep.x\n", encoding="utf-8"
    )
    (tmp_path / "pipeline/deep.py").write_text('"""Doc."""\nx = 1\n', encoding="utf-8")
    (tmp_path / "pipeline/other.py").write_text("y = 1\n", encoding="utf-8")
    monkeypatch.setattr(digest, "PACKAGE", tmp_path / "pipeline")

    caches = (digest._tree, digest._imports, digest._syntax, digest._assets)

    def renewed() -> str:
        for cached in caches:
            cached.cache_clear()
        return code_digest("stage")

    yield tmp_path / "pipeline", renewed
    for cached in caches:
        cached.cache_clear()


def test_the_digest_sees_code_behind_imports_and_not_comments(package):
    folder, renewed = package
    first = renewed()
    (folder / "deep.py").write_text('"""Other words."""\n\n# A comment.\nx = 1\n', encoding="utf-8")
    (folder / "other.py").write_text("y = 2\n", encoding="utf-8")
    assert renewed() == first
    (folder / "deep.py").write_text("x = 2\n", encoding="utf-8")
    assert renewed() != first


def test_templates_count_for_stages_that_render_pages(package):
    folder, renewed = package
    (folder / "report").mkdir()
    for name in ("__init__.py", "html.py", "page.html.j2"):
        (folder / "report" / name).write_text("", encoding="utf-8")
    first = renewed()
    (folder / "report/page.html.j2").write_text("<p>", encoding="utf-8")
    assert renewed() == first
    (folder / "deep.py").write_text("import pipeline.report.html\nx = 1\n", encoding="utf-8")
    second = renewed()
    (folder / "report/page.html.j2").write_text("<b>", encoding="utf-8")
    assert renewed() not in (first, second)


def test_the_digest_of_one_stage_is_not_that_of_another():
    assert code_digest("make_labels") != code_digest("evaluate")
    assert "torch" not in "".join(digest._reachable("pipeline.stages.make_labels", set()))
    assert "pipeline.refinement.dense_crf" in digest._reachable(
        "pipeline.stages.make_labels", set()
    )


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        ("prepare_dataset", "pipeline.datasets.findings"),
        ("prepare_dataset", "pipeline.datasets.ground_truth_checks"),
        ("train_classifier", "pipeline.refinement.affinity"),
        ("fit_probe", "pipeline.refinement.affinity"),
        ("train_segmentation", "pipeline.refinement.affinity"),
        ("export_labels", "pipeline.report.html"),
    ],
)
def test_code_that_a_stage_does_not_call_reruns_nothing(stage, module):
    # Everything follows from the manifest and the classifier: a false dependency costs a whole run.
    assert digest._source(module)
    assert module not in digest._reachable(f"pipeline.stages.{stage}", set())
