"""``harness calibrate``: what the load generator itself can do, before anything else is measured with it."""

from __future__ import annotations

import json
import os
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import app
from harness.cli.console import note, out
from harness.cli.fetching import fetch_image
from harness.errors import EnvironmentFailedError, MeasurementError, UsageError

if TYPE_CHECKING:
    from harness.experiment import Plan
    from harness.records import Calibration, CalibrationRow
    from harness.scenario import Scenario

__all__ = ["calibrate"]

USERS = 32


@app.command()
def calibrate(
    scenario: Annotated[
        Path | None,
        typer.Argument(
            help="Server, models, workloads and largest concurrency of this scenario.",
            metavar="[SCENARIO]",
            show_default="none: what the options say",
        ),
    ] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(help="Whose tensors are sent.", show_default="of the scenario, or cnn"),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[http|grpc]",
            help="http or grpc; may be given again.",
            show_default="of the scenario, or both",
        ),
    ] = None,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Inferences in one request; may be given again.",
            show_default="of the scenario, or 1",
        ),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Users whose concurrency is proved.",
            show_default=f"of the scenario, or {USERS}",
        ),
    ] = None,
    models: Annotated[
        Path, typer.Option("--models", help="The model repository that export wrote.")
    ] = Path("triton_models"),
    to_json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the figures there too; - for standard output, instead of the table.",
            show_default="not written",
        ),
    ] = None,
) -> None:
    """Measure the load generator itself against models whose time is known.

    Before you believe that a server does 3,000 requests/s, know what the sender can do. On the same
    server, with the tensors of your model, two probes take its place: one answers at once, the other
    sleeps for 5 ms; models that have the same tensors share them. Every run measures the same at its start
    and holds its points against it.

    [bold]ceiling[/bold]: requests/s against the probe that answers at once. A point near it may have
    measured the generator.

    [bold]CPU[/bold]: what the generator uses for a request.

    [bold]own[/bold]: what client and network add to the time that the server accounts for, with one user:
    the part of every latency that is not the model's.

    [bold]over a sleep[/bold]: the same against the probe that sleeps, and how much it scatters: two
    latencies that differ by less cannot be told apart.

    [bold]in flight[/bold]: how many of the users' requests the server had in hand, by its own statistics.
    At least 95 % of the users, and the concurrency is proved; fewer, and requests wait in the client.

    [bold]Examples[/bold]

      harness calibrate

      harness calibrate scenarios/quickstart.yaml

      harness calibrate --protocol grpc --batch-size 1 --batch-size 32 --users 64

      harness calibrate --json - | jq .models

    [bold]Exit codes[/bold]: 0 the concurrency is proved; 2 no such model, or options that do not fit it;
    3 the server failed or takes no probe; 4 the concurrency is not proved; 130 interrupted.
    """
    printed = str(to_json) == "-"
    if to_json is not None and not printed:
        _check_writable(to_json)
    plan = _plan(
        scenario,
        {
            "model": model,
            "protocol": protocol,
            "batch_size": batch_size,
            "concurrency": users,
        },
        models,
    )
    if plan.scenario.server.kind == "container":
        fetch_image(plan.scenario.server)
    with note.status("measuring the load generator"):
        found, notes = _measure(plan)
    if not printed:
        for names, rows in groupby(found.rows, lambda row: row.models):
            _show(", ".join(names), found.clock_resolution_ns, list(rows))
    if to_json is not None:
        text = json.dumps(_as_json(plan, found), indent=1)
        if printed:
            out.print(text, markup=False)
        else:
            _write(to_json, text + "\n")
    if notes:
        raise EnvironmentFailedError(notes[0])
    lacking = [row for row in found.rows if not row.proved]
    if lacking:
        raise MeasurementError(
            f"the concurrency is not proved: of {lacking[0].users} users the server saw"
            f" {lacking[0].in_flight:.1f} requests in flight ({lacking[0].protocol}, client batch"
            f" {lacking[0].batch_size})",
            remedy="Free the generator's core, or ask for fewer users",
        )


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the minute of measuring."""
    where = f"--json {path}"
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", where=where)
    if path.is_dir():
        raise UsageError("is a folder", where=where, remedy="Give a file in it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise _not_written(path, "Permission denied")


def _write(path: Path, text: str) -> None:
    """Write to a file, or to a pipe or terminal such as /dev/stderr, which no other file may replace."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _not_written(path, error.strerror or str(error)) from error


def _not_written(path: Path, reason: str) -> EnvironmentFailedError:
    return EnvironmentFailedError(
        f"cannot be written ({reason})",
        where=f"--json {path}",
        remedy="Free room on the disk or choose another file",
    )


def _plan(path: Path | None, options: dict[str, Any], models: Path) -> Plan:
    """The scenario with what the options say instead."""
    from harness.experiment import make_plan
    from harness.scenario import read_scenario

    given = {name: value for name, value in options.items() if value}
    text = ""
    if path is not None:
        scenario, text = read_scenario(path)
        base = scenario.model_dump(mode="json")
        # Of its loads only the largest concurrency matters here; a preset is filled in by now.
        users = scenario.sweep.most_users(open_loop=USERS)
        base["sweep"] |= {"preset": None, "rate": None, "load": None, "concurrency": users}
    else:
        sweep = {"protocol": ["http", "grpc"], "concurrency": USERS}
        base = {"name": "calibrate", "sweep": sweep}
    if "model" in given:
        base["model"] = given.pop("model")
    base["sweep"] = {**base["sweep"], **given}
    return make_plan(_validated(base), text, models, str(path) if path else None)


def _validated(base: dict[str, Any]) -> Scenario:
    from pydantic import ValidationError

    from harness.scenario import Scenario

    try:
        return Scenario.model_validate(base)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][1 if first["loc"][0] == "sweep" else 0]).replace("_", "-")
        option = option.replace("concurrency", "users")
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(said[0].lower() + said[1:], where=f"--{option}") from error


def _measure(plan: Plan) -> tuple[Calibration, tuple[str, ...]]:
    """With the tensors of each model, on one server; nothing is left."""
    import secrets

    from harness.bench import open_bench
    from harness.calibration import calibrate as measured
    from harness.experiment import as_it_was
    from harness.servers.leftovers import temporary_folder

    run_id = secrets.token_hex(6)
    workloads = list(dict.fromkeys(point.workload for point in plan.points))
    users = plan.scenario.sweep.most_users(open_loop=USERS)
    with (
        temporary_folder(run_id) as logs,
        as_it_was(plan) as same,
        open_bench(same.scenario, same.models, logs, run_id, {}) as bench,
    ):
        offers = bench.server.offers
        if not (offers.model_control and offers.statistics):
            raise EnvironmentFailedError(
                "this server loads no probe, or has no statistics: nothing can be proved there",
                remedy="Calibrate on an embedded server of the same machine",
            )
        return measured(bench, list(plan.models), workloads, users)


def _as_json(plan: Plan, found: Calibration) -> dict[str, Any]:
    from harness import __version__
    from harness.host import host_facts

    return {
        "schema": 1,
        "harness_version": __version__,
        "server": plan.scenario.server.kind,
        "host": host_facts(),
        "models": {
            name: {
                "clock_resolution_ns": found.clock_resolution_ns,
                "workloads": [
                    {**row.model_dump(mode="json"), "proved": row.proved}
                    for row in found.rows
                    if name in row.models
                ],
            }
            for name in plan.models
        },
    }


COLUMNS = (
    ("workload", ""),
    ("ceiling", "requests/s"),
    ("CPU", "ms/request"),
    ("own", "ms"),
    ("over a sleep", "ms ± sd"),
    ("in flight", "of users"),
    ("concurrency", ""),
)


def _show(models: str, clock_resolution_ns: int, measured: list[CalibrationRow]) -> None:
    """The table of models that have the same tensors, as wide as what is in it."""
    rows = [[name for name, _ in COLUMNS], [unit for _, unit in COLUMNS]]
    rows += [_row(row) for row in measured]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    out.print(f"{models}: the clock resolves {clock_resolution_ns} ns", markup=False)
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        out.print("  " + "  ".join(cells).rstrip(), markup=False)


def _row(row: CalibrationRow) -> list[str]:
    protocol = {"http": "HTTP", "grpc": "gRPC"}.get(row.protocol, row.protocol)
    cpu = "–" if row.client_cpu_ms is None else f"{row.client_cpu_ms:.3f}"
    return [
        f"{protocol}, client batch {row.batch_size}",
        f"{row.ceiling_rps:,.0f}",
        cpu,
        f"{row.own_ms:.3f}",
        f"{row.sleep_excess_ms:.3f} ± {row.sleep_sd_ms:.3f}",
        f"{row.in_flight:.1f} of {row.users}",
        "proved" if row.proved else "not proved",
    ]
