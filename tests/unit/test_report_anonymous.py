"""An anonymous report holds nothing of host, user and paths, wherever they stood in the run."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.archive import KEPT_ROOM, RunDirectory
from harness.errors import EnvironmentFailedError, UsageError
from harness.report import rebuild
from harness.report.anonymous import anonymous_record, names_in
from harness.report.copying import copy_run
from tests.pages import Page
from tests.runs import Measured, with_record, write_run

SMALL = """
# measured for /srv/secret-project/models on buildbox-17
model: cnn
sweep: {instances: [1, 2], concurrency: [2, 8]}
measure: {window: 300ms, passes: 3}
"""
SECRETS = (
    "buildbox-17",
    "alice",
    "robert",
    "secret-project",
    "/home/",
    "/srv/",
    "/Users/",
    "/var/",
)


def telling(measured: Measured) -> Measured:
    """A trial whose words tell of the machine it ran on."""
    parameters = {"EXECUTION_ENV_PATH": {"string_value": "/home/alice/environments/server.tar.gz"}}
    return with_record(
        measured,
        requested={**measured.record.requested, "parameters": parameters},
        differences=("default_model_filename: /srv/secret-project/model.onnx on BUILDBOX-17",),
        statistics_note="read by Robert",
        warmup_reason="steady after 0.2 s",
        failure="/var/lib/secret-project/server.log: alice's server died"
        if measured.record.index == 3
        else None,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = write_run(tmp_path_factory.mktemp("run"), SMALL, name="small", alter=telling)
    record = run.record()
    told = {
        "command": (
            "/home/alice/secret-project/.venv/bin/harness",
            "run",
            "../secret-project/quick.yaml",
            "--output=/srv/secret-project/reports",
        ),
        "host": {
            **record.host,
            "hostname": "buildbox-17.example.org",
            "note": "robert@buildbox-17",
        },
        "server": {**record.server, "options": ["--log=/Users/robert/secret-project/triton.log"]},
        "model": {"cnn": {"source": "/srv/secret-project/cnn.keras", "accuracy": 0.98}},
        "notes": ("kept in ~robert/secret-project/notes", "http://127.0.0.1:8000/v2 answered"),
        "status_reason": "/srv/secret-project is full",
    }
    run.write_record(record.model_copy(update=told))
    (run.logs / "server.log").write_text("alice@buildbox-17\n")
    return run


def everything(folder: Path) -> str:
    """All that could be read in a folder, Parquet columns included."""
    texts = []
    for path in sorted(folder.rglob("*")):
        texts.append(path.name)
        if path.suffix == ".parquet":
            texts += [str(pq.read_table(path).to_pydict()), str(pq.read_schema(path).metadata)]
        elif path.is_file():
            texts.append(path.read_text("utf-8"))
    return "\n".join(texts)


def test_the_run_itself_tells(run: RunDirectory) -> None:
    """Or the tests below could not fail."""
    rebuild(run)
    told = everything(run.path).lower()
    assert all(secret.lower() in told for secret in SECRETS)


def test_an_anonymous_copy_does_not(run: RunDirectory, tmp_path: Path) -> None:
    rebuild(run, tmp_path / "example", anonymous=True)
    told = everything(tmp_path / "example").lower()
    secrets = (*SECRETS, str(Path.home()) + "/", str(run.path))
    # A short name stands in the page's hashes by chance.
    if len(socket.gethostname()) > 5:
        secrets += (socket.gethostname().lower(),)
    if getpass.getuser() != "root" and len(getpass.getuser()) > 5:
        secrets += (getpass.getuser().lower(),)
    for secret in secrets:
        assert secret.lower() not in told, secret


def test_an_anonymous_report_in_place_does_not(run: RunDirectory) -> None:
    rebuild(run, anonymous=True)
    for name in ("index.html", "summary.csv", "trials.csv", "summary.json"):
        told = (run.path / name).read_text("utf-8").lower()
        for secret in (*SECRETS, str(run.path).lower()):
            assert secret.lower() not in told, f"{secret} in {name}"
    assert "buildbox-17" in (run.path / "run.json").read_text("utf-8")


def test_the_measurements_stay_as_they_are(run: RunDirectory, tmp_path: Path) -> None:
    open_analysis, _ = rebuild(run)
    analysis, _ = rebuild(run, tmp_path / "example", anonymous=True)
    assert [result.throughput for result in analysis.results] == [
        result.throughput for result in open_analysis.results
    ]
    assert [result.key for result in analysis.results] == [
        result.key for result in open_analysis.results
    ]
    assert analysis.record.seed == open_analysis.record.seed
    assert analysis.record.host["cpu_model"] == "Simulated CPU"


def test_what_is_left_still_makes_sense(run: RunDirectory, tmp_path: Path) -> None:
    analysis, page = rebuild(run, tmp_path / "example", anonymous=True)
    assert analysis.record.command == ("harness", "run", "quick.yaml", "--output=…")
    assert analysis.record.notes[1] == "http://127.0.0.1:8000/v2 answered"
    assert analysis.record.scenario == run.record().scenario
    text = "\n".join(Page(page.read_text("utf-8")).lines)
    assert "harness run quick.yaml --output=…" in text
    assert "…/cnn.keras" in text
    assert "hostname" not in text


def test_a_made_copy_is_a_run_like_any_other(run: RunDirectory, tmp_path: Path) -> None:
    rebuild(run, tmp_path / "one", anonymous=True)
    rebuild(RunDirectory(tmp_path / "one"), tmp_path / "two", anonymous=True)
    assert everything(tmp_path / "one") == everything(tmp_path / "two")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("see /a/b.log: no", "see …/b.log: no"),
        ("(/home/eve)", "(…)"),
        ("1/2 of 3/4, 5 s/it, and/or", "1/2 of 3/4, 5 s/it, and/or"),
        ("~/x/y ~eve/z ../up", "… … …"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("node-7 node-70 node-7.lan", "… node-70 ….lan"),
        ("EVE and evening", "… and evening"),
        (
            "GPU-accelerated, GPU-8f2d1c3a-0000-0000-0000-000000000001 (GPU-8f2d), MIG-GPU-77aa1c3a/1/0",
            "GPU-accelerated, GPU-0 (GPU-0), GPU-1",
        ),
    ],
)
def test_the_rule(run: RunDirectory, before: str, after: str) -> None:
    record = run.record().model_copy(
        update={"host": {"hostname": "node-7"}, "notes": (before, "/home/eve/x"), "command": ()}
    )
    cleaned = anonymous_record(record, names_in([record]), {})
    assert cleaned.notes[0] == after
    assert json.loads(cleaned.model_dump_json())["host"] == {}


@pytest.mark.parametrize("host", ["gpu7.example.org", "192.0.2.17"])
def test_the_host_of_a_remote_server_is_left_out(run: RunDirectory, host: str) -> None:
    record = run.record()
    server = {"kind": "remote", "host": host, "http_port": 8000}
    said = f"http://{host}:8000/v2: nobody listens there, 192 times"
    text = f"server: {{kind: remote, host: {host}}}"
    told = {"scenario": {**record.scenario, "server": server}, "scenario_text": text}
    record = record.model_copy(update=told | {"status_reason": said})
    left = anonymous_record(record, names_in([record]), {})
    assert host not in left.model_dump_json()
    assert "8000/v2: nobody listens there, 192 times" in left.status_reason


def test_the_serials_of_gpus_become_numbers(tmp_path: Path) -> None:
    serials = (
        "GPU-8f2d1c3a-0000-0000-0000-000000000001",
        "GPU-8f2d1c3a-0000-0000-0000-000000000002",
    )

    def on_gpus(measured: Measured) -> Measured:
        moment = measured.record.window_start_ns or 0
        rows = [
            (moment, "triton", "nv_gpu_power_usage", json.dumps({"gpu_uuid": serial}), 70.0)
            for serial in serials
        ]
        return replace(measured, metrics=rows)

    run = write_run(tmp_path, SMALL, alter=on_gpus)
    record = run.record()
    server = {"kind": "container", "gpus": [serials[1]]}
    told = {
        "scenario": {**record.scenario, "server": server},
        "scenario_text": f"server: {{kind: container, gpus: [{serials[1]}]}}",
        "server": {**record.server, "command": f'--gpus "device={serials[1]},{serials[0]}"'},
    }
    run.write_record(record.model_copy(update=told))
    copied = copy_run(run, tmp_path / "copy", anonymous=True)
    assert not [each for each in serials if each in everything(copied.path)]
    # One numbering for all that the run says: the scenario's GPU is the tables' GPU-0.
    left = copied.record()
    assert left.scenario["server"]["gpus"] == ["GPU-0"]
    assert left.scenario_text == "server: {kind: container, gpus: [GPU-0]}"
    assert left.server["command"] == '--gpus "device=GPU-0,GPU-1"'
    for trial in copied.trials():
        table = copied.metrics(trial.index)
        assert table is not None
        assert table.column("labels").to_pylist() == [
            '{"gpu_uuid": "GPU-1"}',
            '{"gpu_uuid": "GPU-0"}',
        ]
        assert table.column("value").to_pylist() == [70.0, 70.0]
    plain = copy_run(run, tmp_path / "plain").metrics(1)
    assert plain is not None
    assert serials[0] in plain.column("labels").to_pylist()[0]


def test_a_copy_leaves_nothing_of_the_run_that_it_replaces(
    run: RunDirectory, tmp_path: Path
) -> None:
    """Its logs name host and paths; and a run that still went on held room on the disk."""
    old = write_run(tmp_path / "old", SMALL)
    old.logs.mkdir(exist_ok=True)
    (old.logs / "tritonserver.log").write_text("started on buildbox-17 by alice")
    old.write_record(run.record().model_copy(update={"status": "running"}))
    assert (old.path / KEPT_ROOM).exists()
    rebuild(run, old.path, anonymous=True)
    assert not old.logs.exists()
    assert not (old.path / KEPT_ROOM).exists()
    assert not [secret for secret in SECRETS if secret in everything(old.path)]


def test_a_copy_of_a_run_that_goes_on_keeps_no_room(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", SMALL)
    run.write_record(run.record().model_copy(update={"status": "running"}))
    copied = copy_run(run, tmp_path / "copy")
    assert copied.record().status == "running"
    assert (run.path / KEPT_ROOM).exists()
    assert not (copied.path / KEPT_ROOM).exists()


def test_logs_that_cannot_be_removed_are_said(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write_run(tmp_path / "old", SMALL)
    old.logs.mkdir(exist_ok=True)
    before = old.record(), old.trials()
    remove = shutil.rmtree

    def refuse(path: Path, **how: bool) -> None:
        if path == old.logs:
            raise PermissionError(13, "Permission denied", str(path))
        remove(path, **how)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(EnvironmentFailedError, match=r"logs: the run cannot be copied \(Perm"):
        copy_run(run, old.path, anonymous=True)
    assert (old.record(), old.trials()) == before


@pytest.mark.parametrize("damage", ["no table at all", "a column is missing"])
def test_a_damaged_table_is_one_sentence_and_leaves_nothing_behind(
    tmp_path: Path, damage: str
) -> None:
    run = write_run(tmp_path / "run", SMALL)
    table = run.path / "trials" / "0002" / "metrics.parquet"
    if damage == "no table at all":
        table.write_bytes(b"PAR1 and no more")
    else:
        pq.write_table(pq.read_table(table).drop_columns(["labels"]), table)
    with pytest.raises(UsageError, match=r"0002/metrics\.parquet: not a readable table"):
        rebuild(run, tmp_path / "copy", anonymous=True)
    assert list((tmp_path / "copy").iterdir()) == []
