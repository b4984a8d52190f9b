"""The networks hold the very weights that the published outputs were made with."""

import pytest

from tests.published.data import boundary_network, classifier, load
from tests.published.weights import backbone_of, checksum, layers_behind


@pytest.mark.parametrize(
    ("network", "file"), [(classifier, "c_cam"), (boundary_network, "a_edges")]
)
def test_weights_have_the_checksums_of_the_published_networks(network, file):
    filled = network()

    backbone = checksum(backbone_of(filled).modules())
    assert backbone == pytest.approx(load("weights")["backbone_sum"], rel=1e-9)
    head = checksum(layers_behind(filled))
    assert head == pytest.approx(load(file)["head_sum"], rel=1e-9)
