from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.analysis import analyse
from harness.report.server_settings import server_settings
from tests.runs import QUICK, write_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runs import Measured


def said(
    folder: Path, text: str = QUICK, server: dict[str, Any] | None = None, **options: Any
) -> str:
    run = write_run(folder, text, **options)
    record = run.record()
    run.write_record(record.model_copy(update={"server": record.server | (server or {})}))
    return " ".join(f"{p.name}: {p.text}" for p in server_settings(analyse(run)))


def cached(measured: Measured, hits: int) -> Measured:
    record = measured.record
    assert record.statistics
    statistics = record.statistics.model_copy(
        update={"cache_hit_count": hits, "cache_miss_count": 10}
    )
    effective = (record.effective or {}) | {"response_cache": {"enable": True}}
    update = {"statistics": statistics, "effective": effective}
    return replace(measured, record=record.model_copy(update=update))


def test_a_plain_run_says_nothing(tmp_path: Path) -> None:
    assert said(tmp_path) == ""


def test_cores_are_named(tmp_path: Path) -> None:
    text = QUICK + "server: {cpus: 0}\ngenerator: {cpus: [1, 2]}\n"
    assert said(tmp_path, text) == (
        "Cores: The server ran on core 0, the load generator on cores 1, 2, so that neither slows the"
        " other."
    )
    shared = QUICK + "generator: {cpus: 1}\n"
    assert "on all cores, the load generator on core 1: they share some" in said(tmp_path, shared)


def test_a_limit_says_how_it_was_held(tmp_path: Path) -> None:
    group = {"memory": {"bytes": 512 << 20, "how": "cgroup v1"}}
    assert "together were held to 512 MiB (cgroup v1)" in said(tmp_path, server=group)
    space = {"memory": {"bytes": 3 << 30, "how": "address space"}}
    assert "Each process of the server was held to 3072 MiB" in said(tmp_path, server=space)


def test_answers_of_the_cache_are_counted(tmp_path: Path) -> None:
    hits = said(tmp_path, alter=lambda measured: cached(measured, 30))
    assert "gave 75 % of the answers" in hits.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "in the mean times of computing such an answer counts as 0" in hits
    assert "it answered no request" in said(tmp_path, alter=lambda measured: cached(measured, 0))


def test_the_rate_limiter_is_explained(tmp_path: Path) -> None:
    text = QUICK + "server: {rate_limiter: {resources: {slot: 1}, available: {slot: 2}}}\n"
    assert "an execution takes 1 of slot, there is 2 of slot" in said(tmp_path, text)
