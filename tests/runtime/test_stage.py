import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import UserError
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage, stage_arguments


def snakemake(tmp_path, **changes):
    given = {
        "input": {"manifest": "m.csv", "maps": ["a", "b"]},
        "output": {"labels": "out"},
        "params": {"value": 3, "code": "digest"},
        "wildcards": {"shard": "4", "split": "train", "labels": "cam"},
        "threads": 2,
        "resources": {"gpu": 3, "mem_mb": 100},
        "log": [str(tmp_path / "logs/x.log")],
        "rule": "some_rule",
    }
    return SimpleNamespace(**(given | changes))


def stage(*, manifest: Path, maps: list[Path], labels: Path, value: int, shard: int, split: str,
          threads: int) -> None:  # fmt: skip
    """Stand in for a stage."""


def test_arguments_come_from_the_rule_by_name(tmp_path):
    assert stage_arguments(stage, snakemake(tmp_path)) == {
        "manifest": Path("m.csv"),
        "maps": [Path("a"), Path("b")],
        "labels": Path("out"),  # the output, not the wildcard of that name
        "value": 3,
        "shard": 4,
        "split": "train",
        "threads": 2,
    }


def test_resources_reach_the_stages_that_ask_for_them(tmp_path):
    def training(*, gpu: int) -> None: ...

    assert stage_arguments(training, snakemake(tmp_path))["gpu"] == 3
    assert "gpu" not in stage_arguments(stage, snakemake(tmp_path))


def test_of_several_processes_the_first_one_keeps_the_log(tmp_path, monkeypatch, capsys):
    def works(**_arguments: object) -> None:
        logging.getLogger("x").info("news")

    run_stage(works, snakemake(tmp_path))
    log = tmp_path / "logs/x.log"
    assert "news" in capsys.readouterr().err
    assert "news" in log.read_text(encoding="utf-8")
    log.unlink()
    monkeypatch.setenv("LOCAL_RANK", "1")
    run_stage(works, snakemake(tmp_path))
    assert "news" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_stage(fails_with(UserError("what is wrong")), snakemake(tmp_path))
    assert "what is wrong" in capsys.readouterr().err
    assert not log.exists()


def test_the_code_digest_reaches_only_stages_that_ask_for_it(tmp_path):
    def with_code(*, code: str) -> None: ...

    assert stage_arguments(with_code, snakemake(tmp_path))["code"] == "digest"


def test_a_name_that_the_function_lacks_is_an_error(tmp_path, capsys):
    def other(*, manifest: Path) -> None: ...

    with pytest.raises(SystemExit):
        run_stage(other, snakemake(tmp_path))
    assert "unexpected keyword argument" in capsys.readouterr().err


def fails_with(error):
    def function(**_arguments: object) -> None:
        raise error

    return function


def test_a_users_mistake_is_one_line_and_exit_code_one(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run_stage(fails_with(UserError("x.png: got this, expected that")), snakemake(tmp_path))
    assert caught.value.code == 1
    line = "[some_rule] ERROR: x.png: got this, expected that\n"
    assert capsys.readouterr().err == line
    assert (tmp_path / "logs/x.log").read_text(encoding="utf-8") == line


def test_a_full_disk_is_named(tmp_path, capsys):
    error = OSError(28, "No space left on device", "some/file")
    with pytest.raises(SystemExit):
        run_stage(fails_with(error), snakemake(tmp_path))
    text = capsys.readouterr().err
    assert "the disk is full" in text and "some/file" in text
    assert "Traceback" not in text


def test_a_defect_leaves_its_traceback_in_the_log(tmp_path):
    with pytest.raises(SystemExit):
        run_stage(fails_with(ValueError("inner")), snakemake(tmp_path))
    text = (tmp_path / "logs/x.log").read_text(encoding="utf-8")
    assert "Traceback" in text and "ValueError: inner" in text


def test_messages_of_the_stage_reach_the_log_file(tmp_path):
    def talks(**_arguments: object) -> None:
        logging.getLogger("pipeline.somewhere").info("so many images")

    run_stage(talks, snakemake(tmp_path))
    assert (tmp_path / "logs/x.log").read_text(encoding="utf-8") == "[some_rule] so many images\n"


def test_progress_yields_all_items_and_logs_the_end(caplog):
    with caplog.at_level(logging.INFO):
        assert list(progress("abc", total=3, what="letters", unit="letters")) == ["a", "b", "c"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("letters: 3 of 3 letters, ")
    assert caplog.messages[0].endswith("0:00 left")


def test_progress_logs_at_intervals(caplog):
    with caplog.at_level(logging.INFO):
        list(progress(range(5), total=5, what="x", every=0))
    assert len(caplog.messages) == 5


def test_control_characters_in_names_are_escaped_in_terminal_and_log(tmp_path, capsys):
    def warns(**_arguments: object) -> None:
        logging.getLogger("x").warning("%s", "\x1b[31mred\udcff")
        raise ValueError("\x1b]0;title\x07")

    with pytest.raises(SystemExit):
        run_stage(warns, snakemake(tmp_path))
    for text in (capsys.readouterr().err, (tmp_path / "logs/x.log").read_text(encoding="utf-8")):
        assert "\\x1b[31mred\\udcff" in text and "\\x1b]0;title\\x07" in text
        assert "\x1b" not in text
