"""The examples in docstrings print what they show."""

import doctest
import importlib
import pkgutil

import pytest

import pipeline

#: Packages whose modules can be imported without an effect, unlike stages.
PACKAGES = ("attribution", "config", "datasets", "export", "io", "metrics", "refinement")


def examples():
    """Return the examples of every docstring that has some."""
    modules = [importlib.import_module("pipeline.errors")]
    for package in PACKAGES:
        (path,) = pipeline.__path__
        names = pkgutil.walk_packages([f"{path}/{package}"], prefix=f"pipeline.{package}.")
        modules += [importlib.import_module(found.name) for found in names]
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for module in modules for test in finder.find(module) if test.examples]
    return [pytest.param(test, id=test.name) for test in found]


@pytest.mark.parametrize("example", examples())
def test_an_example_prints_what_it_shows(example):
    printed = []
    doctest.DocTestRunner().run(example, out=printed.append)
    assert printed == []
