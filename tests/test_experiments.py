"""What the shipped configurations promise, with the file that they ask of the user."""

import re

import pytest
import yaml
from snakemake.utils import update_config

from pipeline.config import resolve
from pipeline.errors import UserError
from tests.conftest import REPOSITORY

OWN_FOLDER = REPOSITORY / "experiments/own-folder.yaml"
METHOD = "plain/cam+rw/crf"


def mine():
    """Read the user's file as the comment of the experiment shows it."""
    head = OWN_FOLDER.read_text().split("\n\n", 1)[0]
    (shown,) = re.findall(r"^# mine.yaml:\n((?:#   .*\n)+)", head, re.MULTILINE)
    return yaml.safe_load(re.sub(r"^# {3}", "", shown, flags=re.MULTILINE))


def own_folder(**changes):
    """Merge as Snakemake does with several files after --configfile."""
    config = yaml.safe_load(OWN_FOLDER.read_text())
    update_config(config, mine() | changes)
    return config


def test_paths_make_the_configuration_of_a_folder_whole():
    config = resolve(own_folder())
    assert config["experiment"] == "mine"
    assert config["dataset"]["images"] == "photographs/"
    assert config["segmenters"] == [METHOD] == config["labels"][:1]
    assert config["export"]["labels"] == [METHOD]


def test_without_paths_they_are_asked_for():
    with pytest.raises(UserError, match="dataset lacks 'images', 'labels'"):
        resolve(yaml.safe_load(OWN_FOLDER.read_text()))


def test_the_background_of_a_folder_is_chosen_without_masks():
    config = resolve(own_folder())
    assert config["dataset"]["masks"] is None
    assert config["refinements"]["crf"]["background"]["value"] == "mean"


def test_the_users_file_wins():
    config = resolve(own_folder(classifiers={"plain": {"epochs": 3}}))
    plain = config["classifiers"]["plain"]
    assert (plain["epochs"], plain["batch_size"]) == (3, 16)
