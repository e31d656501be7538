"""Load models of a scenario: what they become, how much they make due, and what is said of wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.load.courses import lead_in, times_of
from harness.point import ClosedLoad, OpenLoad, ShapedLoad
from harness.scenario import Scenario, parse_scenario

if TYPE_CHECKING:
    from pathlib import Path

    from harness.point import Load

RATES = st.integers(1, 400)
MILLISECONDS = st.integers(20, 5000)


def load_of(text: str, folder: Path | None = None, sweep: str = "") -> Load:
    whole = f"sweep:\n  load:\n    - {text}\n{sweep}"
    (load,) = parse_scenario(whole, name="x", where="x.yaml", folder=folder).sweep.loads
    return load


def due(load: Load, seed: int = 3) -> np.ndarray:
    assert load.kind != "closed"
    return np.concatenate([np.empty(0), *times_of(load, seed).chunks()])


@st.composite
def shapes(draw: st.DrawFn) -> tuple[str, float]:
    """A shape of equal gaps, and the integral of its rate."""
    one, other, third = draw(RATES), draw(RATES), draw(RATES)
    first, second, rest = draw(MILLISECONDS), draw(MILLISECONDS), draw(MILLISECONDS)
    kind = draw(st.sampled_from(["steps", "ramp", "spike", "burst"]))
    if kind == "steps":
        keys = f"rates: [{one}, {other}, {third}], each: {first}ms"
        total = (one + other + third) * first
    elif kind == "ramp":
        keys, total = f"from: {one}, to: {other}, over: {first}ms", (one + other) / 2 * first
    elif kind == "spike":
        keys = f"base: {one}, peak: {other}, at: {first}ms, for: {second}ms"
        keys += f", over: {first + second + rest}ms"
        total = one * (first + rest) + other * second
    else:
        rounds = draw(st.integers(1, 5))
        keys = f"rate: {one}, base: {other}, on: {first}ms, off: {second}ms"
        keys += f", for: {rounds * (first + second)}ms"
        total = rounds * (one * first + other * second)
    return f"{{kind: {kind}, {keys}, arrivals: constant}}", total / 1e3


@given(shapes())
@settings(max_examples=60, deadline=None)
def test_as_many_are_due_as_the_integral_of_the_rate(shape: tuple[str, float]) -> None:
    load, total = load_of(shape[0]), shape[1]
    assert isinstance(load, ShapedLoad)
    times = due(load)
    assert total - 1 - 1e-6 <= len(times) <= total + 1e-6
    assert load.rate * load.duration_s == pytest.approx(total)
    if len(times):
        assert 0 < times[0] <= times[-1] <= load.duration_s * (1 + 1e-9)
    assert (np.diff(times) >= 0).all()


def test_poisson_arrivals_follow_the_rate() -> None:
    load = load_of("{kind: ramp, from: 100, to: 900, over: 10s}")
    counts = np.array([len(due(load, seed)) for seed in range(100)])
    assert counts.mean() == pytest.approx(5000, abs=4 * np.sqrt(5000 / 100))
    assert counts.var() == pytest.approx(5000, rel=0.6)  # that of a Poisson process is its mean
    late = np.array([(due(load, seed) > 5).sum() for seed in range(20)])
    assert late.mean() == pytest.approx(3500, rel=0.02)


def test_a_shape_is_warmed_up_at_its_first_rate() -> None:
    load = load_of("{kind: spike, base: 50, peak: 400, at: 1s, for: 1s, over: 3s}")
    assert isinstance(load, ShapedLoad)
    first = next(iter(lead_in(load, 1).chunks()))
    assert len(first) / first[-1] == pytest.approx(50, rel=0.1)


def test_rates_over_time() -> None:
    burst = load_of("{kind: burst, rate: 300, base: 10, on: 500ms, off: 500ms}")
    assert isinstance(burst, ShapedLoad)
    assert burst.duration_s == 10
    assert [burst.rate_at(t) for t in (0.1, 0.6, 1.1, 9.9)] == [300, 10, 300, 10]
    ramp = load_of("{kind: ramp, from: 50, to: 150, over: 10s}")
    assert isinstance(ramp, ShapedLoad)
    assert [ramp.rate_at(t) for t in (0, 5, 10)] == [50, 100, 150]


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ("{kind: closed, concurrency: 3}", ClosedLoad(concurrency=3)),
        ("{kind: constant, rate: 9}", OpenLoad(rate=9, arrivals="constant", max_in_flight=12)),
        (
            "{kind: poisson, rate: 9, max_in_flight: 5}",
            OpenLoad(rate=9, arrivals="poisson", max_in_flight=5),
        ),
        ("{kind: soak, concurrency: 3, for: 30m}", ClosedLoad(concurrency=3, duration_s=1800)),
        (
            "{kind: soak, rate: 9, for: 1h}",
            OpenLoad(rate=9, arrivals="constant", max_in_flight=12, duration_s=3600),
        ),
    ],
)
def test_loads_without_a_shape(text: str, load: Load) -> None:
    sweep = "  arrivals: constant\n  max_in_flight: 12\n"
    assert load_of(text, sweep=sweep) == load


def test_a_replay_is_read_relative_to_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("time_s,path\n# a comment\n0.5,/a\n\n0.5,/b\n2,/c\n")
    scenario = tmp_path / "x.yaml"
    scenario.write_text("sweep: {load: {kind: replay, file: log.csv, speed: 4}}")
    parsed = parse_scenario(
        scenario.read_text(), name="x", where=str(scenario), folder=scenario.parent
    )
    (load,) = parsed.sweep.loads
    assert isinstance(load, ShapedLoad)
    np.testing.assert_allclose(due(load), [0.125, 0.125, 0.5])
    assert (load.requests, load.duration_s, load.rate) == (3, 0.5, 6)
    # The archive holds no path, and what it holds is read again without the file.
    stored = parsed.model_dump(mode="json")
    assert str(tmp_path) not in str(stored)
    assert str(tmp_path) not in load.model_dump_json()
    (again,) = Scenario.model_validate(stored).sweep.loads
    assert again.model_copy(update={"path": load.path}) == load
    (tmp_path / "log.csv").write_text("1\n")
    with pytest.raises(UsageError, match="has changed since"):
        times_of(load, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{kind: rampp, from: 1, to: 2, over: 1s}", r"x.yaml:3: .*unknown kind 'rampp'. Did you mean ramp"),
        ("{from: 1}", "kind is missing"),
        ("{kind: ramp, from: 0, to: 2, over: 1s}", "from: input should be greater than 0, not 0"),
        ("{kind: ramp, from: 1, to: -2, over: 1s}", "to: input should be greater than 0, not -2"),
        ("{kind: ramp, from: 1, to: 2, over: 0s}", "load.0.over: input should be greater than 0"),
        ("{kind: ramp, from: 1, to: 2, over: 3}", "a duration with its unit"),
        ("{kind: ramp, from: 1, to: 2}", "over is missing"),
        ("{kind: ramp, from: 1, to: 2, over: 1s, each: 1s}", "each: unknown key. Known here: .*from, to"),
        ("{kind: ramp, from: .inf, to: 2, over: 1s}", "finite"),
        ("{kind: steps, rates: [], each: 1s}", "the list is empty: give at least one value"),
        ("{kind: steps, rates: [5, 0], each: 1s}", "rates.1: input should be greater than 0"),
        ("{kind: spike, base: 1, peak: 2, at: 3s, for: 1s, over: 4s}", "the spike ends 4 s after"),
        ("{kind: soak, for: 3s}", "a rate or a concurrency"),
        ("{kind: soak, rate: 1, concurrency: 1, for: 3s}", "a rate or a concurrency"),
        ("{kind: soak, concurrency: 4, for: 10s, arrivals: constant}", "a soak with a concurrency is a closed loop, which has no arrivals: leave it out"),
        ("{kind: soak, concurrency: 4, for: 10s, max_in_flight: 3}", "a closed loop, which has no max_in_flight"),
        ("{kind: constant, rate: 100, arrivals: poisson}", "x.yaml:3: sweep.load.0.arrivals: unknown key. Known here: max_in_flight, kind, rate"),
        ("{kind: poisson, rate: 100, arrivals: poisson}", "arrivals: unknown key"),
        ("{kind: replay, file: fast.csv, arrivals: constant}", "arrivals: unknown key. Known here: max_in_flight, kind, file, speed"),
        ("{kind: burst, rate: 9, on: 0s, off: 1s}", "greater than 0"),
        ("{kind: poisson, rate: -1}", "greater than 0, not -1"),
        ("{kind: replay, file: absent.csv}", "absent.csv cannot be read"),
        ("{kind: replay, file: empty.csv}", "holds no arrival time"),
        ("{kind: replay, file: unsorted.csv}", "line 3: 1 s comes after 2 s"),
        ("{kind: replay, file: negative.csv}", "line 1: -1 s is no time"),
        ("{kind: replay, file: words.csv}", "line 2: 'soon' is no time in seconds"),
        ("{kind: replay, file: nan.csv}", "line 2: nan s is no time"),
        ("{kind: replay, file: zero.csv}", "takes no time"),
        ("{kind: replay, file: zero.csv, speed: 0}", "takes no time|greater than 0"),
        ("{kind: replay}", "file is missing"),
        ("{kind: replay, file: .}", "is no file: give one beside the scenario"),
        ("{kind: replay, file: /dev/zero}", "the replay zero is no file"),
        ("{kind: replay, file: fast.csv, speed: 600}", "fast.csv is due at 1,200,000 requests a second"),
        ("{kind: poisson, rate: 2000000}", "rate: expected at most 1,000,000, not 2000000"),
        ("{kind: burst, rate: 9, base: 2000000, on: 1s, off: 1s}", "base: input should be less than"),
        ("{kind: burst, rate: 9, base: true, on: 1s, off: 1s}", "base: expected a number, not true"),
    ],
)  # fmt: skip
def test_a_wrong_load_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    for name, content in (
        ("empty", "\n"), ("unsorted", "0\n2\n1\n"), ("negative", "-1\n2\n"),
        ("words", "time\nsoon\n"), ("nan", "1\nnan\n"), ("zero", "0\n0\n"),
        ("fast", "0\n0.001\n"),
    ):  # fmt: skip
        (tmp_path / f"{name}.csv").write_text(content)
    with pytest.raises(UsageError, match=said) as caught:
        load_of(text, tmp_path)
    assert caught.value.exit_code == 2


def test_a_run_whose_loads_said_more_than_they_heeded_stays_readable() -> None:
    capped = {"arrivals": "poisson", "max_in_flight": 3}
    loads = [
        {"kind": "constant", "rate": 9, "arrivals": "poisson", "max_in_flight": None},
        {"kind": "replay", "file": "log.csv", "requests": 3, "lasts_s": 2, "arrivals": None},
        {"kind": "soak", "concurrency": 3, "for_s": 2, **capped},
    ]
    read = Scenario.model_validate({"name": "x", "sweep": {"load": loads}}).sweep.loads
    assert read[0] == OpenLoad(rate=9, arrivals="constant")
    assert read[2] == ClosedLoad(concurrency=3, duration_s=2)


@pytest.mark.parametrize(
    ("preset", "loads", "batch_sizes"),
    [
        ("SingleStream", (ClosedLoad(concurrency=1),), (1,)),
        ("multi_stream", (ClosedLoad(concurrency=1),), (8,)),
        ("MULTI-STREAM, batch_size: 4", (ClosedLoad(concurrency=1),), (4,)),
        ("Server, rate: [5, 9]", (OpenLoad(rate=5), OpenLoad(rate=9)), (1,)),
        ("Offline", (ClosedLoad(concurrency=32),), (8,)),
    ],
)
def test_presets(preset: str, loads: tuple[Load, ...], batch_sizes: tuple[int, ...]) -> None:
    sweep = parse_scenario(f"sweep: {{preset: {preset}}}", name="x", where="x").sweep
    assert (sweep.loads, sweep.batch_size) == (loads, batch_sizes)
    stored = Scenario(name="x", sweep=sweep).model_dump(mode="json")
    assert Scenario.model_validate(stored).sweep == sweep


@pytest.mark.parametrize(
    ("preset", "said"),
    [
        ("Server", "needs a rate"),
        ("Server, rate: 5, concurrency: 2", "is an open loop"),
        ("Server, rate: 5, arrivals: constant", "means arrivals poisson"),
        ("SingleStream, concurrency: [1, 2]", "means concurrency 1"),
        ("SingleStream, batch_size: 2", "means batch_size 1"),
        ("Offline, rate: 3", "is a closed loop"),
        ("Offline, load: {kind: closed, concurrency: 1}", "is a load already"),
        ("Offlin", "'Offline'"),
    ],
)
def test_a_preset_that_is_contradicted(preset: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_scenario(f"sweep: {{preset: {preset}}}", name="x", where="x")
