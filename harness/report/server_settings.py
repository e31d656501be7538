"""What a scenario set on the server and the generator that changes what a figure means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.formats import percent
from harness.report.paragraph import Paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.analysis.results import Analysis

__all__ = ["server_settings"]


def server_settings(analysis: Analysis) -> list[Paragraph]:
    """Cores, limit on memory, response cache and rate limiter, each where there is one."""
    record = analysis.record
    asked: dict[str, Any] = record.scenario.get("server") or {}
    generator: dict[str, Any] = record.scenario.get("generator") or {}
    said = [
        ("Cores", _cores(asked.get("cpus") or (), generator.get("cpus") or ())),
        ("Memory limit", _memory(record.server)),
        ("Response cache", _cache(analysis)),
        ("Rate limiter", _limiter(asked.get("rate_limiter"))),
    ]
    return [Paragraph(name, text) for name, text in said if text]


def _cores(server: tuple[int, ...], generator: tuple[int, ...]) -> str:
    if not server and not generator:
        return ""
    both = set(server or generator) & set(generator or server)
    shared = ": they share some" if both else ", so that neither slows the other"
    return (
        f"The server ran on {_listed(server)}, the load generator on {_listed(generator)}{shared}."
    )


def _listed(cpus: tuple[int, ...]) -> str:
    if not cpus:
        return "all cores"
    return f"{'core' if len(cpus) == 1 else 'cores'} {', '.join(map(str, cpus))}"


def _memory(server: dict[str, Any]) -> str:
    memory = server.get("memory")
    if not isinstance(memory, dict):
        return ""
    limit = f"{memory['bytes'] / (1 << 20):.0f} MiB"
    if memory["how"] == "address space":
        return f"Each process of the server was held to {limit} of address space."
    return f"The server and its Python stubs together were held to {limit} ({memory['how']})."


def _cache(analysis: Analysis) -> str:
    if not any(_cached(analysis)):
        return ""
    windows = [trial.statistics for trial in analysis.trial_records if trial.statistics]
    hits = sum(window.cache_hit_count for window in windows)
    asked = hits + sum(window.cache_miss_count for window in windows)
    if not hits:
        return "The server’s response cache was on; it answered no request of a window."
    return (
        f"The server’s response cache was on and gave {percent(hits / asked)} of the answers within the"
        " windows without running the model: these figures are the cache’s as much as the model’s, and in the"
        " mean times of computing such an answer counts as 0."
    )


def _cached(analysis: Analysis) -> Iterator[bool]:
    """Of each trial, whether its model had the cache turned on."""
    for trial in analysis.trial_records:
        cache = (trial.effective or {}).get("response_cache") or {}
        yield bool(cache.get("enable"))


def _limiter(limiter: dict[str, Any] | None) -> str:
    if not limiter:
        return ""
    takes = ", ".join(f"{count} of {name}" for name, count in limiter["resources"].items())
    there = limiter.get("available") or {}
    of = ", ".join(
        f"{there[name]} of {name}" if name in there else f"as much of {name} as one takes"
        for name in limiter["resources"]
    )
    return (
        f"Triton’s rate limiter was on: an execution takes {takes}, there is {of}, and executions wait for"
        " each other accordingly."
    )
