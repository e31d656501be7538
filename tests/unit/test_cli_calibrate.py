"""What ``harness calibrate`` takes from a scenario and from its options, and how its table reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli.calibrate import _plan, _show, _write
from harness.errors import EnvironmentFailedError, UsageError
from harness.records import CalibrationRow
from tests.served import write_model


def asked(root: Path, sweep: str | None, **options: Any) -> tuple[set[str], int | None]:
    """The workloads that are calibrated, and the users whose concurrency is proved."""
    write_model(root / "models", "cnn")
    path = None
    if sweep is not None:
        path = root / "some.yaml"
        path.write_text(f"model: cnn\nsweep: {sweep}\n")
    given = dict.fromkeys(("model", "protocol", "batch_size", "concurrency")) | options
    plan = _plan(path, given, root / "models")
    return {point.workload.key for point in plan.points}, plan.scenario.sweep.most_users(
        open_loop=32
    )


@pytest.mark.parametrize(
    ("sweep", "options", "expected"),
    [
        (None, {}, ({"http-b1", "grpc-b1"}, 32)),
        (None, {"protocol": ["grpc"], "batch_size": [1, 4]}, ({"grpc-b1", "grpc-b4"}, 32)),
        ("{concurrency: [2, 48], batch_size: 8}", {}, ({"http-b8"}, 48)),
        ("{concurrency: [2, 48]}", {"concurrency": 5}, ({"http-b1"}, 5)),
        ("{rate: 50, protocol: grpc}", {}, ({"grpc-b1"}, 32)),
        ("{preset: Server, rate: 50}", {}, ({"http-b1"}, 32)),
        ("{preset: SingleStream}", {"concurrency": 7}, ({"http-b1"}, 7)),
    ],
)
def test_a_scenario_says_what_options_do_not(
    tmp_path: Path, sweep: str | None, options: dict[str, Any], expected: tuple[set[str], int]
) -> None:
    assert asked(tmp_path, sweep, **options) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": [2, 2]}, "--batch-size: a value stands twice"),
        ({"protocol": ["ftp"]}, "--protocol: input should be"),
        ({"batch_size": [65]}, "above the max_batch_size 64"),
    ],
)
def test_options_that_do_not_fit_are_named(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        asked(tmp_path, None, **options)


def test_the_table_says_what_is_proved_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        CalibrationRow(
            protocol=protocol, batch_size=1, ceiling_users=16, ceiling_rps=4779.4,
            client_cpu_ms=0.035, null_ms_p50=0.6, own_ms=0.196, sleep_ms=5, sleep_excess_ms=0.367,
            sleep_sd_ms=1.143, users=64, in_flight=in_flight,
        )
        for protocol, in_flight in (("http", 63.2), ("grpc", 10.0))
    ]  # fmt: skip
    _show("cnn", 1, rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cnn: the clock resolves 1 ns"
    http = "HTTP, client batch 1 4,779 0.035 0.196 0.367 ± 1.143 63.2 of 64 proved"
    assert lines[-2].split() == http.split()
    assert lines[-1].split()[-5:] == ["10.0", "of", "64", "not", "proved"]


def test_figures_that_find_no_room_are_one_sentence(tmp_path: Path) -> None:
    _write(tmp_path / "a.json", "{}\n")
    assert (tmp_path / "a.json").read_text() == "{}\n"
    with pytest.raises(EnvironmentFailedError, match=r"--json /dev/full: .*No space left.*choose"):
        _write(Path("/dev/full"), "{}\n")
