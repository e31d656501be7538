"""Which hyper-parameters are tried: a grid, or random draws from its ranges."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.models.settings import Settings, resolve_settings
from harness.networks import check_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["AXES", "TUNING_EPOCHS", "default_grids", "grid_candidates", "random_candidates"]

# What may be a list, in the order in which tables show it.
AXES = ("network", "batch_size", "learning_rate", "l1", "l2", "epochs")
MOST_CANDIDATES = 1000
TUNING_EPOCHS = 30

# The reference network over every axis, the others where they do best: 24 fits with three folds, about five
# minutes on two idle cores, so that ten are enough on slower or busier ones.
DEFAULT_GRID: tuple[dict[str, list[Any]], ...] = (
    {"network": ["cnn"], "batch_size": [32, 64], "learning_rate": [0.001, 0.003]},
    {
        "network": ["cnn"],
        "batch_size": [32],
        "learning_rate": [0.003],
        "l1": [0.00001],
        "l2": [0.0001],
    },
    {"network": ["cnn_small", "cnn_wide"], "batch_size": [32], "learning_rate": [0.003]},
    {"network": ["gru"], "batch_size": [32], "learning_rate": [0.01]},
)


def default_grids(base: Mapping[str, Any]) -> list[dict[str, list[Any]]]:
    """The grids that are searched where none is given; what ``base`` fixes is no axis of them.

    Raises:
        UsageError: ``base`` names a network that is not there.
    """
    if (network := base.get("network")) is None:
        grids = list(DEFAULT_GRID)
    else:
        check_network(network)
        grids = [grid for grid in DEFAULT_GRID if network in grid["network"]]
        grids = grids or [{"batch_size": [32, 64], "learning_rate": [0.001, 0.003, 0.01]}]
    return [{name: grid[name] for name in grid if name not in base} for grid in grids]


def grid_candidates(
    base: Mapping[str, Any],
    grids: Sequence[Mapping[str, Sequence[Any]]],
    where: Mapping[str, str] | None = None,
) -> list[Settings]:
    """Every combination of the axes of each grid, on top of ``base``.

    Raises:
        UsageError: a value that cannot be used, an empty axis, or more than 1,000 candidates.
    """
    from sklearn.model_selection import ParameterGrid

    for grid in grids:
        _refuse_empty(grid)
    combinations = ParameterGrid([dict(grid) for grid in grids])
    if len(combinations) > MOST_CANDIDATES:
        raise UsageError(
            f"the grid has {len(combinations):,} candidates, more than {MOST_CANDIDATES:,}",
            remedy="Give fewer values, or draw some of them with --method random",
        )
    return _resolve(base, list(combinations), where)


def random_candidates(
    base: Mapping[str, Any],
    grids: Sequence[Mapping[str, Sequence[Any]]],
    count: int,
    seed: int,
    where: Mapping[str, str] | None = None,
) -> list[Settings]:
    """Draw ``count`` random candidates; fewer where there are no more to draw.

    The learning rate is drawn log-uniformly between the smallest and the largest one in ``grids``, every
    other axis from all of its values there with equal chances.

    Raises:
        UsageError: a value that cannot be used, or an empty axis.
    """
    from scipy.stats import loguniform
    from sklearn.model_selection import ParameterSampler

    axes: dict[str, list[Any]] = {}
    for grid in grids:
        _refuse_empty(grid)
        for name, values in grid.items():
            known = axes.setdefault(name, [])
            known += [value for value in values if value not in known]
    if not 1 <= count <= MOST_CANDIDATES:
        raise UsageError(
            f"expected 1 to {MOST_CANDIDATES:,} candidates, got {count}", where="--candidates"
        )
    _resolve(base, [{name: value} for name, values in axes.items() for value in values], where)
    space: dict[str, Any] = {name: list(values) for name, values in axes.items()}
    rates = [float(rate) for rate in axes.get("learning_rate", ())]
    if rates and min(rates) < max(rates):
        space["learning_rate"] = loguniform(min(rates), max(rates))
    else:
        count = min(count, math.prod(map(len, axes.values())))
    drawn = []
    for combination in ParameterSampler(space, count, random_state=seed):
        rate = combination.get("learning_rate")
        # Three digits: what is printed is what was trained.
        rounded = {} if rate is None else {"learning_rate": float(f"{float(rate):.3g}")}
        drawn.append(combination | rounded)
    return _resolve(base, drawn, where)


def _refuse_empty(axes: Mapping[str, Sequence[Any]]) -> None:
    for name, values in axes.items():
        if not values:
            raise UsageError(
                "no value to try", where="--" + name.replace("_", "-"), remedy="Give at least one"
            )


def _resolve(
    base: Mapping[str, Any],
    combinations: Sequence[Mapping[str, Any]],
    where: Mapping[str, str] | None,
) -> list[Settings]:
    """Validate each combination; the same one twice is one candidate."""
    resolved = {}
    for combination in combinations:
        settings = resolve_settings(dict(base) | dict(combination), dict(where or {}))
        check_network(settings.network)
        resolved[settings.model_dump_json()] = settings
    return list(resolved.values())
