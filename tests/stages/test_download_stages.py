from types import SimpleNamespace

import pytest

from pipeline.io import download as downloading
from pipeline.runtime.stage import run_stage
from pipeline.stages.assemble_devkit import assemble_devkit
from pipeline.stages.download_archive import download_archive
from tests.helpers.devkit import assert_assembled, sbd_files, voc_files, write_archive
from tests.helpers.file_server import FileServer, md5, serving


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloading, "RETRY_DELAYS", ())
    monkeypatch.setenv("NO_PROXY", "*")
    with serving(FileServer()) as running:
        yield running


def rule(tmp_path, name, **parts):
    given = {key: {} for key in ("input", "output", "params", "wildcards", "resources")}
    log = [str(tmp_path / "logs/x.log")]
    return SimpleNamespace(**(given | {"threads": 1, "rule": name, "log": log} | parts))


def fetch(tmp_path, server, name, checksum=None):
    """Run the rule that downloads what the server has."""
    parts = {
        "output": {"archive": str(tmp_path / f"data/{name}")},
        "params": {"checksum": checksum or md5(server.content)},
        "resources": {"url": server.url},
    }
    run_stage(download_archive, rule(tmp_path, "download_archive", **parts))


def test_from_two_addresses_to_a_devkit(tmp_path, server):
    for name, files in (("voc.tar", voc_files()), ("sbd.tgz", sbd_files())):
        server.content = write_archive(tmp_path / name, files).read_bytes()
        fetch(tmp_path, server, name)
    data = tmp_path / "data"
    given = {"voc": str(data / "voc.tar"), "sbd": [str(data / "sbd.tgz")]}
    output = {"devkit": str(data / "VOC2012")}
    run_stage(assemble_devkit, rule(tmp_path, "assemble_devkit", input=given, output=output))
    assert_assembled(data / "VOC2012")


def test_without_sbd(tmp_path):
    voc = write_archive(tmp_path / "voc.tar", voc_files())
    assemble_devkit(voc=voc, sbd=[], devkit=tmp_path / "VOC2012", threads=1)
    assert_assembled(tmp_path / "VOC2012", with_sbd=False)


def test_two_archives_of_sbd_are_a_mistake_of_the_rule(tmp_path):
    with pytest.raises(ValueError, match="2 archives of SBD, expected at most one"):
        assemble_devkit(voc=tmp_path, sbd=[tmp_path] * 2, devkit=tmp_path / "x", threads=1)


def test_an_interrupted_job_prints_one_line_and_the_next_one_resumes(tmp_path, server, capsys):
    server.cuts = [300]
    with pytest.raises(SystemExit):
        fetch(tmp_path, server, "voc.tar")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "ERROR" in line]
    assert line.startswith(f"[download_archive] ERROR: {server.url}: cannot be downloaded")
    assert not (tmp_path / "data/voc.tar").exists()
    fetch(tmp_path, server, "voc.tar")
    assert (tmp_path / "data/voc.tar").read_bytes() == server.content
    assert server.sent == len(server.content)


def test_a_wrong_checksum_and_a_damaged_archive_are_one_line(tmp_path, server, capsys):
    with pytest.raises(SystemExit):
        fetch(tmp_path, server, "voc.tar", checksum=f"md5:{'0' * 32}")
    fetch(tmp_path, server, "voc.tar")
    output = {"devkit": str(tmp_path / "VOC2012")}
    given = {"voc": str(tmp_path / "data/voc.tar"), "sbd": []}
    with pytest.raises(SystemExit):
        run_stage(assemble_devkit, rule(tmp_path, "assemble_devkit", input=given, output=output))
    printed = capsys.readouterr().err
    assert "expected 00000000" in printed and "not a complete archive" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "VOC2012").exists()
