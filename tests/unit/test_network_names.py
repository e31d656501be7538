from __future__ import annotations

from harness.models.networks import NETWORKS
from harness.network_names import NETWORK_NAMES


def test_the_names_are_those_of_the_networks() -> None:
    assert tuple(NETWORKS) == NETWORK_NAMES
