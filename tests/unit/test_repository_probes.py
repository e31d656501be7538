from __future__ import annotations

import pytest

from harness.repository.probes import probe_configuration


@pytest.mark.parametrize(
    ("limit", "largest_batch", "set_to"), [(64, 8, 64), (64, 128, 128), (0, 1, 0)]
)
def test_a_probe_takes_what_is_sent(limit: int, largest_batch: int, set_to: int) -> None:
    """A sweep may raise the model's own limit; a model without a batch dimension keeps none."""
    like = {"max_batch_size": limit, "input": [], "output": []}
    probe = probe_configuration(like, sleep_us=0, largest_batch=largest_batch)
    assert probe["max_batch_size"] == set_to
