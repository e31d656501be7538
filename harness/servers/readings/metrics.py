"""Triton's own metrics (Prometheus text): fetched within a deadline, and parsed within bounds.

The server is not trusted: whatever it sends, a reading is short, small and finite, or there is none.
"""

from __future__ import annotations

import http.client
import json
import math
from sys import intern
from typing import TYPE_CHECKING

from harness.asking import get
from harness.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["Metric", "TritonMetrics", "labelled", "parse_metrics"]

Metric = tuple[str, str, float]  # name, labels, value: the last of harness.records.METRIC_COLUMNS

DEADLINE_S = 0.5
MOST_METRICS = 500  # in one reading; a server with two models has about sixty
LONGEST_LINE = (
    400  # names and labels are archived with each reading: a server must not fill the disk
)
PREFIX = "nv_"


class TritonMetrics:
    """The metrics endpoint of one server.

    Args:
        address: ``host:port``.
        models: the models that matter; what is said of others is left out. All where empty.
    """

    name = "triton"

    def __init__(self, address: str, models: Collection[str] = ()) -> None:
        self._address = address
        self._models = frozenset(models)

    def read(self) -> list[Metric]:
        """All metrics of the server and of its models now.

        Raises:
            OSError: no answer within :data:`DEADLINE_S`, or none that is usable.
            ValueError: not the text format, or too much of it.
        """
        return parse_metrics(self._fetch(), self._models)

    def _fetch(self) -> str:
        host, _, port = self._address.rpartition(":")
        try:
            reply = get(host, int(port), "/metrics", timeout_s=DEADLINE_S)
        except EnvironmentFailedError as error:
            raise OSError(str(error)) from error
        if reply.status != http.client.OK:
            raise OSError(f"status {reply.status}")
        return reply.body.decode(errors="replace")


def parse_metrics(text: str, models: Collection[str] = ()) -> list[Metric]:
    """Parse the text format; keep Triton's own metrics with a finite value.

    Args:
        text: what ``/metrics`` answers.
        models: metrics of other models are left out, before they cost anything. None are where empty.

    Raises:
        ValueError: not the text format, or more than :data:`MOST_METRICS`.
    """
    from prometheus_client.parser import text_string_to_metric_families

    # Comments only name types: without them each line is a metric by itself, which is all that is needed.
    lines = [
        line
        for line in text.splitlines()
        if line.startswith(PREFIX) and len(line) <= LONGEST_LINE and _of(line, models)
    ]
    if len(lines) > MOST_METRICS:
        raise ValueError(f"{len(lines)} metrics are too many")
    try:
        found = [
            (intern(sample.name), labelled(sample.labels), float(sample.value))
            for family in text_string_to_metric_families("\n".join([*lines, ""]))
            for sample in family.samples
        ]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not in the text format ({error})") from error
    return [metric for metric in found if math.isfinite(metric[2])]


def labelled(labels: Mapping[str, str]) -> str:
    """Labels as one line of JSON, by name: two equal ones are the same text."""
    return intern(json.dumps(dict(labels), sort_keys=True, ensure_ascii=False))


def _of(line: str, models: Collection[str]) -> bool:
    """Whether a line is about no model, or one of ``models``; every line where there are none."""
    if not models or 'model="' not in line:
        return True
    return line.partition('model="')[2].partition('"')[0] in models
