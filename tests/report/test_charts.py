import math
import re

import pytest

from pipeline.report.charts import confusion_chart, history_chart, threshold_chart
from pipeline.report.inputs import History

CURVE = [{"threshold": t, "miou": v} for t, v in ((0.2, 0.1), (0.4, 0.3), (0.6, 0.2))]


def drawn(rules):
    svg = threshold_chart(
        {"plain/cam": CURVE}, value="miou", xlabel="threshold", ylabel="mIoU", rules=rules
    )
    # A marker is a <use> of a shape, filled or not.
    return [
        (float(x), float(y), "fill-opacity: 0" in style)
        for x, y, style in re.findall(r'<use [^>]*?x="(.*?)" y="(.*?)" style="(.*?)"', svg)
        if "stroke: #0072b2" in style
    ]


def test_a_rule_is_a_hollow_dot_on_the_curve():
    (best,) = drawn({})
    assert not best[2]
    full, hollow = drawn({"plain/cam": {"value": 0.2, "miou": 0.1}, "else": {}})
    assert full == best and hollow[2]
    assert hollow[0] < full[0] and hollow[1] > full[1]  # to the left of it, and below


def test_a_rule_at_the_best_place_rings_its_dot():
    full, hollow = drawn({"plain/cam": {"value": 0.4, "miou": 0.3}})
    assert hollow[:2] == full[:2] and hollow[2]


def marks(columns):
    """Count the points of the chart of a history that are drawn over all panels."""
    svg = history_chart(History("Classifier", "plain", columns))
    return len(re.findall(r'<use [^>]*?style="[^"]*stroke: #0072b2', svg))


def test_epochs_without_a_validation_are_left_out_of_its_curve():
    columns = {"epoch": [1.0, 2.0, 3.0], "loss": [3.0, 2.0, 1.0], "learning_rate": [0.1, 0.1, 0.0]}
    assert marks(columns) == 6
    assert marks(columns | {"val_map": [math.nan, math.nan, 0.5]}) == 7
    assert marks(columns | {"val_map": [0.1, math.nan, 0.5]}) == 8
    assert marks(columns | {"val_map": [0.1, 0.2, 0.5]}) == 9


@pytest.mark.parametrize("epochs", [1, 2, 3, 50])
def test_epochs_are_whole_numbers(epochs):
    numbers = [float(k + 1) for k in range(epochs)]
    columns = {"epoch": numbers, "loss": numbers, "learning_rate": numbers}
    svg = history_chart(History("Classifier", "plain", columns))
    ticks = re.findall(r'<g id="xtick_.*?<text [^>]*>(.*?)</text>', svg, re.DOTALL)
    assert ticks and all(tick.isdigit() for tick in ticks)


def test_names_too_long_for_an_axis_are_cut():
    svg = confusion_chart([[1, 0], [0, 1]], ["background", "x" * 60], "labels")
    assert f">{'x' * 19}…<" in svg and "x" * 20 not in svg


@pytest.mark.parametrize("name", ["$\\frac{$", "US$ and CA$", "$x^2$", "a_b"])
def test_names_are_no_formulas(name):
    for svg in (
        confusion_chart([[1, 0], [0, 1]], ["background", name], name),
        threshold_chart({name: [{"threshold": 0.5, "x": 0.5}]}, value="x", xlabel="t", ylabel="x"),
    ):
        assert f">{name}</text>" in svg
