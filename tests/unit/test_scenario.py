from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.point import DynamicBatching
from harness.scenario import Scenario, Slo, parse_scenario, read_scenario

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
SMALL = """\
model: cnn
sweep:
  instances: [1, 2]
  dynamic_batching: [null, {max_queue_delay_us: 500}]
  concurrency: [1, 8]
measure: {window: 250ms, passes: 3}
slo: {p99: 25ms, errors: 1%}
"""


def parse(text: str) -> Scenario:
    return parse_scenario(text, name="small", where="small.yaml")


def complaint(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_file_becomes_a_scenario_with_every_default_filled_in() -> None:
    scenario = parse(SMALL)
    assert scenario.name == "small"
    assert scenario.model == ("cnn",)
    assert scenario.server.kind == "embedded"
    assert scenario.sweep.dynamic_batching == (None, DynamicBatching(max_queue_delay_us=500))
    assert scenario.sweep.protocol == ("http",)
    assert scenario.measure.window_s == 0.25
    assert scenario.slo.p99_s == 0.025
    assert scenario.slo.errors == 0.01


def test_the_resolved_scenario_reads_back_as_itself() -> None:
    scenario = parse(SMALL)
    assert Scenario.model_validate(scenario.model_dump(mode="json")) == scenario


def test_the_quickstart_has_at_least_36_points_of_all_three_kinds_of_batching() -> None:
    scenario, text = read_scenario(QUICKSTART)
    sweep = scenario.sweep
    assert sweep.concurrency is not None
    axes = (sweep.instances, sweep.dynamic_batching, sweep.batch_size, sweep.concurrency)
    count = 1
    for axis in axes:
        assert len(axis) >= 2
        count *= len(axis)
    assert count >= 36
    delays = {None if b is None else b.max_queue_delay_us for b in sweep.dynamic_batching}
    assert None in delays
    assert 0 in delays
    assert any(delay for delay in delays if delay)
    assert text == QUICKSTART.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (
            "window: 250ms",
            "windw: 250ms",
            6,
            ["measure.windw", "unknown key", "Did you mean window?"],
        ),
        ("window: 250ms", "window: 1", 6, ["window", "duration with its unit"]),
        ("window: 250ms", "window: 0s", 6, ["window", "greater than 0"]),
        ("[1, 2]", "[1, two]", 3, ["sweep.instances.1", "integer", "'two'"]),
        ("[1, 2]", "[1, 0]", 3, ["sweep.instances.1", "greater than 0"]),
        ("[1, 2]", "[1, 1]", 3, ["sweep.instances", "twice"]),
        ("[1, 8]", "[]", 5, ["sweep.concurrency", "the axis is empty"]),
        ("concurrency: [1, 8]", "batch_size: 1", 2, ["no load"]),
        ("max_queue_delay_us", "max_que_delay", 4, ["Did you mean max_queue_delay_us?"]),
        ("model: cnn", "model: ../cnn", 1, ["model", "'../cnn'"]),
        ("model: cnn", "model: cnn\nmodel: cnn", 2, ["stands twice", "line 1"]),
        ("slo:", "slp:", 7, ["slp", "unknown key", "Did you mean slo?"]),
        ("p99: 25ms", "p99: -1ms", 7, ["p99", "duration"]),
        (
            "passes: 3",
            "passes: 3, max_passes: 2, target: {throughput: 5%}",
            6,
            ["max_passes 2 is below passes 3"],
        ),
        ("passes: 3", "passes: 3, max_passes: 9", 6, ["max_passes", "give target"]),
        ("passes: 3", "passes: 3, max_time: 9min", 6, ["max_time", "give target"]),
        ("passes: 3", "passes: 3, target: {throughput: 0%}", 6, ["throughput", "0%"]),
        ("[1, 8]", "[1, 8", 6, ["not valid YAML"]),
        ("[1, 2]", "1\n  gpus: [0, 1]", 2, ["gpus are listed", "kind: gpu"]),
        ("[1, 2]", "1\n  kind: tpu", 4, ["sweep.kind", "'tpu'"]),
        ("[1, 2]", "1\n  kind: gpu\n  gpus: [[]]", 5, ["sweep.gpus"]),
        ("[1, 2]", "1\n  kind: gpu\n  gpus: [[0], [0]]", 5, ["sweep.gpus", "twice"]),
    ],
)
def test_a_wrong_file_is_told_its_line_the_key_and_the_way_out(
    old: str, new: str, line: int, words: list[str]
) -> None:
    sentence = complaint(SMALL.replace(old, new, 1))
    assert sentence.startswith(f"small.yaml:{line}")
    for word in words:
        assert word in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: {tls: {hostname: x}}", "server.tls.hostname: unknown key. Known here: ca, certificate, key, http, grpc"),
        ("server: {tls: {certifcate: x}}", "Did you mean certificate?"),
        ("server: {rate_limiter: {resource: {R: 1}}}", "server.rate_limiter.resource: unknown key. Did you mean resources?"),
        ("server: {rate_limiter: {what: 1}}", "Known here: resources, available, priority"),
        ("server: {trace: {each: 1}}", "Known here: level, rate, count"),
        ("server: {headers: {X-A: {enviro: A}}}", "server.headers.X-A.enviro: unknown key. Did you mean env?"),
        ("server: {headers: {env: {value: A}}}", "server.headers.env.value: unknown key. Known here: env"),
        ("server: {shm_sise: 1g}", "Did you mean shm_size?"),
        ("generator: {cpu: 1}", "Did you mean cpus?"),
        ("sweep: {dynamic_batching: {delay: 1}}", "Known here: max_queue_delay_us, preferred_batch_sizes, preserve_ordering"),
        ("sweep: {dynamic_batching: [null, {max_queue_dely_us: 1}]}", "Did you mean max_queue_delay_us?"),
        ("sweep: {load: {kind: closed, rate: 1}}", "Known here: kind, concurrency"),
        ("sweep: {load: [{kind: ramp, from: 1, to: 2, ovr: 1s}]}", "Did you mean over?"),
        ("sweep: {load: {kind: ramp, form: 1, to: 2, over: 1s}}", "Did you mean from?"),
        ("slo: {p98: 1ms}", "Did you mean p99?"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_told_those_that_are_known_there(text: str, said: str) -> None:
    assert said in complaint(f"{text}\n")


def test_a_file_without_a_sweep_says_so() -> None:
    assert "sweep is missing" in complaint("model: cnn\n")


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n", "3\n"])
def test_something_else_than_keys_is_refused(text: str) -> None:
    assert "expected keys" in complaint(text)


def test_a_missing_file_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml.*No such file"):
        read_scenario(tmp_path / "nowhere.yaml")


def test_what_has_no_end_or_no_content_is_no_scenario(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")  # opening it would wait for a writer
    for path in (Path("/dev/zero"), tmp_path, tmp_path / "pipe.yaml"):
        with pytest.raises(UsageError, match=f"{path}: no file. Give the path of a YAML file"):
            read_scenario(path)
    (tmp_path / "long.yaml").write_text("# ä\n" * 250_000, encoding="utf-8")
    with pytest.raises(UsageError, match="too large for a scenario"):
        read_scenario(tmp_path / "long.yaml")


@pytest.mark.parametrize("sweep", ["rate: 2000000", "rate: 9, max_in_flight: 20001"])
def test_a_load_that_no_generator_sends_is_refused(sweep: str) -> None:
    with pytest.raises(UsageError, match=r"expected at most (1,000,000|20,000).*, not 2000"):
        parse(f"sweep: {{{sweep}}}")


@given(st.text(max_size=200))
def test_no_text_at_all_ends_in_a_traceback(text: str) -> None:
    with pytest.raises(UsageError, match="random text"):
        parse_scenario(text, name="random", where="random text")


@given(st.sampled_from(["us", "ms", "s", "m", "h"]), st.integers(min_value=1, max_value=10_000))
def test_a_duration_is_its_number_times_its_unit(unit: str, number: int) -> None:
    seconds = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}[unit]
    scenario = parse(SMALL.replace("p99: 25ms", f"p99: {number}{unit}"))
    assert scenario.slo.p99_s == pytest.approx(number * seconds)


def test_server_and_generator_may_have_cores_of_their_own() -> None:
    scenario = parse("server: {cpus: [0]}\ngenerator: {cpus: 1}\nsweep: {concurrency: 1}")
    assert scenario.server.cpus == (0,)
    assert scenario.generator.cpus == (1,)


@pytest.mark.parametrize(
    "path", sorted(QUICKSTART.parent.glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_scenario_that_comes_along_is_read(path: Path) -> None:
    assert read_scenario(path)[0].name == path.stem


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("sweep:", "swep:", "2: swep: unknown key. Did you mean sweep?"),
        ("[1, 8]", "true", "5: sweep.concurrency: expected a number, not true."),
        ("[1, 2]", "[1, yes]", "3: sweep.instances.1: expected a number, not yes."),
        ("passes: 3", "passes: true", "6: measure.passes: expected a number, not true."),
        (
            "{window: 250ms, passes: 3}",
            "fast",
            "6: measure: expected a mapping such as {window: 1s}",
        ),
        (
            "model: cnn",
            "server: embedded",
            "1: server: expected a mapping such as {kind: embedded}",
        ),
        (
            "[null, {max_queue_delay_us: 500}]",
            "[null, off]",
            "4: sweep.dynamic_batching.1: expected null (off) or {max_queue_delay_us: 500}, not off.",
        ),
        ("model: cnn", "model: []", "1: model: the axis is empty: give at least one value."),
        (
            "p99: 25ms",
            "p99: 25",
            "7: slo.p99: expected a duration with its unit, such as 250ms, 1s or 5m, not 25.",
        ),
        (
            "window: 250ms",
            "\n  window: soon",
            "7: measure.window: expected a duration with its unit",
        ),
        (
            "[1, 8]",
            "99999999999999999999",
            "5: sweep.concurrency: expected at most 20,000, since each is a socket of one process, not",
        ),
        (
            "[1, 2]",
            "5000",
            "3: sweep.instances: expected at most 1,024, since each is a copy of the",
        ),
        (
            "errors: 1%",
            "errors: 5",
            "7: slo.errors: expected at most 1 (for 5 per cent write 5%), not 5.",
        ),
        ("errors: 1%", "errors: 500%", "7: slo.errors: expected at most 100%, not '500%'."),
        (
            "passes: 3",
            "passes: 3, target: {throughput: 15}",
            "6: measure.target.throughput: expected at most 1 (for 15 per cent write 15%), not 15.",
        ),
        ("model: cnn", "? [a]\n: 3", "1: a key is a list or a mapping. "),
        ("model: cnn", "? {a: 1}\n: 3", "1: a key is a list or a mapping. "),
    ],
)
def test_a_wrong_value_is_told_what_was_expected_in_its_place(
    old: str, new: str, sentence: str
) -> None:
    assert complaint(SMALL.replace(old, new, 1)).startswith(f"small.yaml:{sentence}")


def test_a_run_from_before_there_was_a_bound_on_shares_stays_readable() -> None:
    assert Slo.model_validate({"errors": 5.0}).errors == 5.0
    assert parse(SMALL.replace("errors: 1%", "errors: 1")).slo.errors == 1.0


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("generator: {cpus: [true]}", "generator.cpus.0"),
        ("generator: {cpus: true}", "generator.cpus"),
        ("server: {cpus: [0, true]}", "server.cpus.1"),
        ("server: {http_port: true}", "server.http_port"),
        ("server: {log_verbose: true}", "server.log_verbose"),
        ("server: {response_cache_bytes: true}", "server.response_cache"),
        ("server: {ready_timeout_s: true}", "server.ready_timeout"),
        ("server: {rate_limiter: {resources: {R1: true}}}", "server.rate_limiter.resources.R1"),
        (
            "server: {rate_limiter: {resources: {R1: 1}, priority: true}}",
            "server.rate_limiter.priority",
        ),
        ("server: {trace: {rate: true}}", "server.trace.rate"),
        ("server: {trace: {count: true}}", "server.trace.count"),
    ],
)
def test_true_is_no_number(line: str, place: str) -> None:
    sentence = complaint(f"{line}\n{SMALL}")
    assert sentence == f"small.yaml:1: {place}: expected a number, not true."


def test_a_sweep_that_is_a_list_is_told_how_one_looks() -> None:
    said = complaint("model: cnn\nsweep: [1]\n")
    assert said == "small.yaml:2: sweep: expected a mapping such as {concurrency: [1, 8]}."


@pytest.mark.parametrize(
    ("file", "name"),
    [("my scenario.yaml", "my-scenario"), ("_größe (2).yaml", "gr-e-2"), ("§.yaml", "scenario")],
)
def test_a_scenario_is_named_after_its_file_as_far_as_a_name_goes(
    tmp_path: Path, file: str, name: str
) -> None:
    (tmp_path / file).write_text(SMALL)
    assert read_scenario(tmp_path / file)[0].name == name


def test_a_run_that_was_measured_with_bounds_and_no_target_stays_readable() -> None:
    stored = {"name": "x", "sweep": {"concurrency": 1}, "measure": {"max_passes": 9}}
    assert Scenario.model_validate(stored).measure.most_passes == 4
