from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.errors import EnvironmentFailedError, UsageError
from harness.load.examples import Examples, draw, from_metadata, from_reference
from harness.load.target import Target
from harness.reference import Reference, write_reference

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 30


@pytest.fixture
def target(tmp_path: Path) -> Target:
    numbers = np.arange(COUNT, dtype=np.float32)
    path = tmp_path / "reference.npz"
    write_reference(
        path,
        Reference(
            {"x": numbers[:, None] * np.ones(3, np.float32), "n": np.arange(COUNT)[:, None]},
            {"y": -numbers[:, None]},
        ),
    )
    return Target("127.0.0.1:1", None, "m", True, path, tolerance=0.5)


def examples(target: Target) -> Examples:
    return from_reference(target)


def test_a_reference_tells_names_types_and_shapes(target: Target) -> None:
    found = examples(target)
    assert [(t.name, t.datatype, t.shape) for t in found.inputs] == [
        ("x", "FP32", (3,)),
        ("n", "INT64", (1,)),
    ]
    assert [(t.name, t.datatype, t.shape) for t in found.outputs] == [("y", "FP32", (1,))]


def test_every_case_has_its_own_answer(target: Target) -> None:
    cases = draw(examples(target), target, 4, seed=1)
    assert len(cases) == 64
    for case in cases:
        (_, x), (_, n) = case.inputs
        assert x.shape == (4, 3)
        (output,) = case.expectation.outputs
        assert (output.shape, output.tolerance) == ((4, 1), 0.5)
        np.testing.assert_array_equal(output.values, -n.astype(np.float32))
        np.testing.assert_array_equal(x[:, :1], n)


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_every_example_comes_up_before_one_comes_up_twice(target: Target, batch_size: int) -> None:
    cases = draw(examples(target), target, batch_size, seed=1)
    sent = np.concatenate([case.inputs[1][1][:, 0] for case in cases])
    for start in range(0, len(sent) - COUNT + 1, COUNT):
        assert sorted(sent[start : start + COUNT]) == list(range(COUNT))


def test_the_seed_decides_the_order(target: Target) -> None:
    def order(seed: int) -> list[int]:
        return [int(c.inputs[1][1][0, 0]) for c in draw(examples(target), target, 1, seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_model_without_batches_gets_none(target: Target) -> None:
    single = Target(target.http, None, "m", False, target.reference)
    case = draw(examples(single), single, 1, seed=1)[0]
    assert case.inputs[0][1].shape == (3,)
    assert case.expectation.outputs[0].shape == (1,)
    with pytest.raises(UsageError, match="takes no batches"):
        draw(examples(single), single, 2, seed=1)


def test_large_inputs_make_a_small_pool(target: Target) -> None:
    large = Reference({"x": np.zeros((2, 4 * 2**20), np.float32)}, {})
    found = Examples(from_metadata(metadata("FP32"), batched=True, seed=1).inputs, (), large)
    assert len(draw(found, target, 2, seed=1)) == 8


def metadata(datatype: str) -> dict[str, object]:
    return {
        "inputs": [{"name": "x", "datatype": datatype, "shape": [-1, -1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, -1]}],
    }


@pytest.mark.parametrize(
    ("datatype", "kind"), [("FP16", "f2"), ("UINT8", "u1"), ("BOOL", "?"), ("BYTES", "S1")]
)
def test_random_inputs_fit_the_metadata(datatype: str, kind: str) -> None:
    found = from_metadata(metadata(datatype), batched=True, seed=1)
    values = found.data.inputs["x"]
    assert values.shape[1:] == (1, 2)
    assert values.dtype == np.dtype(kind)
    assert len(np.unique(values)) > 1
    (case, *_) = draw(found, Target("h:1", None, "m"), 3, seed=1)
    assert case.inputs[0][1].shape == (3, 1, 2)
    assert case.expectation.outputs[0].shape == (3, -1)
    assert case.expectation.outputs[0].values is None


@pytest.mark.parametrize("broken", [{}, {"inputs": 3, "outputs": []}, metadata("INT4")])
def test_metadata_that_is_not_understood(broken: dict[str, object]) -> None:
    with pytest.raises(EnvironmentFailedError):
        from_metadata(broken, batched=True, seed=1)


def test_no_reference_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        from_reference(Target("h:1", None, "m", True, tmp_path / "absent.npz"))
