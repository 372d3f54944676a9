"""Presets say what they promise, and published figures are of columns that exist."""

from typing import get_args

import pytest

from mattergen_lite.benchmarking.protocols import PROTOCOLS, protocol_named, published
from mattergen_lite.commands.benchmark import ProtocolName


def test_the_command_line_offers_every_protocol():
    assert get_args(ProtocolName) == tuple(one.name for one in PROTOCOLS)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda one: one.name)
def test_published_figures_are_columns_and_shares_are_shares(protocol):
    figures = {figure.name: figure for figure in protocol.figures}
    assert len(figures) == len(protocol.figures)
    found = published(protocol.name)
    for values in found.rows.values() if found else ():
        assert values.keys() <= figures.keys()
        assert all(0 <= v <= 1 for name, v in values.items() if figures[name].unit == "%")
        assert values.get("sun", 0) <= values.get("stable", 1)
        assert values.get("sun", 0) <= values.get("unique_and_novel", 1)
    assert found is None or found.source


def test_thresholds_are_the_papers():
    thresholds = {
        one.name: (one.stable_below, one.metastable_below, one.compared)
        for one in PROTOCOLS
        if one.relaxed
    }
    assert thresholds == {
        "mattergen": (0.1, None, "relaxed"),
        "lemat": (0.0, 0.1, "relaxed"),
        "crystalite": (0.1, None, "raw"),
    }


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match=r"'best'.*cdvae, mattergen, lemat"):
        protocol_named("best")
