"""The scenarios of MLPerf's load generator, as presets of a sweep.

Sources: Reddi et al., "MLPerf Inference Benchmark", ISCA 2020, and LoadGen's README. LoadGen measures one
system under one load; here a preset fills in the load of a sweep whose other axes stay the user's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

__all__ = ["Preset", "with_preset"]

# What each of them means here; docs/load-models.md explains it.
PRESETS: dict[str, dict[str, Any]] = {
    "SingleStream": {"concurrency": 1, "batch_size": 1},
    "MultiStream": {"concurrency": 1, "batch_size": 8},
    "Server": {"arrivals": "poisson", "batch_size": 1},
    "Offline": {"concurrency": 32, "batch_size": 8},
}
# What makes the preset what it is; the rest may be said otherwise.
ESSENTIAL = {
    "SingleStream": ("concurrency", "batch_size"),
    "MultiStream": ("concurrency",),
    "Server": ("arrivals",),
    "Offline": (),
}


def _name(value: object) -> object:
    """Read ``single_stream`` and ``SINGLE-STREAM`` as ``SingleStream``."""
    if isinstance(value, str):
        plain = value.replace("_", "").replace("-", "").lower()
        return next((name for name in PRESETS if name.lower() == plain), value)
    return value


Preset = Annotated[
    Literal["SingleStream", "MultiStream", "Server", "Offline"], BeforeValidator(_name)
]


def with_preset(data: dict[str, Any]) -> dict[str, Any]:
    """Fill in what the preset of a sweep says and the sweep does not.

    Raises:
        ValueError: the sweep contradicts its preset, or does not say what the preset leaves open.
    """
    name = _name(data.get("preset"))
    if not isinstance(name, str) or name not in PRESETS:
        return data
    fill = PRESETS[name]
    for key in ESSENTIAL[name]:
        given = data.get(key, fill[key])
        if given not in (fill[key], [fill[key]], (fill[key],)):
            raise ValueError(
                f"the preset {name} means {key} {fill[key]}: leave {key} out, or the preset"
            )
    if name == "Server":
        if data.get("rate") is None:
            raise ValueError("the preset Server needs a rate, in requests per second")
        if data.get("concurrency") is not None:
            raise ValueError(
                "the preset Server is an open loop: leave concurrency out, or the preset"
            )
    elif data.get("rate") is not None:
        raise ValueError(f"the preset {name} is a closed loop: leave rate out, or the preset")
    if data.get("load") is not None:
        raise ValueError(f"the preset {name} is a load already: leave load out, or the preset")
    return {**fill, **{key: value for key, value in data.items() if value is not None}}
