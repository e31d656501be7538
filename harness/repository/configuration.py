"""A model's configuration: read, set to a point's server configuration, compared with the server's own.

Configurations are JSON objects with the names of Triton's protocol buffer; see
:mod:`harness.repository.protobuf`.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError, UsageError
from harness.repository.contradictions import contradictions
from harness.repository.protobuf import canonical, from_text, to_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.point import ServerConfiguration

__all__ = [
    "configuration_text",
    "differences",
    "read_configuration",
    "require_unchanged",
    "with_server_configuration",
]

# What Triton may add to a configuration that leaves it open, by the path of the field.
NAMED_BY_SERVER = frozenset(
    {
        "default_model_filename",
        "instance_group[].gpus",
        "instance_group[].name",
        "platform",
        "runtime",
    }
)


def read_configuration(path: Path) -> dict[str, Any]:
    """Read a ``config.pbtxt``.

    Raises:
        UsageError: it is missing, or not a model configuration.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UsageError(
            f"the model configuration cannot be read ({reason})",
            where=str(path),
            remedy="Export the model with harness export",
        ) from error
    return from_text(text, where=str(path))


def configuration_text(config: dict[str, Any]) -> str:
    """Return the ``config.pbtxt`` to copy: protocol buffer text format.

    Raises:
        UsageError: a field or value that Triton's model configuration does not know.
    """
    return to_text(config)


def with_server_configuration(
    base: dict[str, Any], configuration: ServerConfiguration
) -> dict[str, Any]:
    """Return ``base`` with instances, dynamic batching and maximum batch size as a point asks.

    The base's queue policies and priority levels stay where there is a dynamic batcher to keep them;
    warm-up for batches above the maximum is left out.

    Args:
        base: the configuration as exported.
        configuration: what a point asks for.

    Raises:
        UsageError: the model cannot be configured so, with the reason.
    """
    config = copy.deepcopy(canonical(base))
    where = f"model {configuration.model}"
    exported = config["max_batch_size"]
    if bool(exported) != bool(configuration.max_batch_size):
        have = "has no batch dimension" if exported == 0 else "has a batch dimension"
        raise UsageError(
            f"the exported model {have}, so max_batch_size cannot be"
            f" {configuration.max_batch_size}",
            where=where,
            remedy="Leave max_batch_size out, or export the model again with --max-batch-size",
        )
    config["max_batch_size"] = configuration.max_batch_size
    config["instance_group"] = [
        {"count": configuration.instances, "kind": f"KIND_{configuration.kind.upper()}"}
        | ({"gpus": list(configuration.gpus)} if configuration.gpus else {})
    ]
    exported_batcher = config.pop("dynamic_batching", {})
    asked = configuration.dynamic_batching
    if asked is not None:
        kept = {
            key: value
            for key, value in exported_batcher.items()
            if "policy" in key or "priority" in key
        }
        config["dynamic_batching"] = kept | {
            "max_queue_delay_microseconds": asked.max_queue_delay_us,
            "preferred_batch_size": list(asked.preferred_batch_sizes),
            "preserve_ordering": asked.preserve_ordering,
        }
    largest = max(configuration.max_batch_size, 1)
    config["model_warmup"] = [
        sample for sample in config.get("model_warmup", []) if sample["batch_size"] <= largest
    ]
    config = canonical(config)
    if found := contradictions(config):
        raise UsageError(found[0], where=where, remedy="Change one of the two, or leave it out")
    return config


def differences(requested: dict[str, Any], effective: dict[str, Any]) -> tuple[str, ...]:
    """Say where the server's configuration is not the one that was asked for.

    What Triton fills in where the request is silent (``NormalizeModelConfig`` and
    ``NormalizeInstanceGroup`` in ``model_config_utils.cc`` of triton-inference-server/core) is no
    difference; anything else is, and so is what the server has although nobody asked for it.

    Args:
        requested: the configuration that the server was told.
        effective: what ``get_model_config`` answers, 64-bit integers as integers or strings.

    Returns:
        One sentence a difference; empty where the server has what was asked for.
    """
    wanted = _filled_in(canonical(requested))
    got = canonical(effective, ignore_unknown=True)
    return tuple(_compare("", wanted, got))


def require_unchanged(before: dict[str, Any], now: dict[str, Any]) -> None:
    """See that a server still has the configuration that it had.

    Args:
        before: what ``get_model_config`` answered once the model was set.
        now: what it answers by now.

    Raises:
        EnvironmentFailedError: it is another one.
    """
    if now == before:
        return
    here, there = (canonical(each, ignore_unknown=True) for each in (before, now))
    said = "; ".join(list(_compare("", here, there))[:3])
    raise EnvironmentFailedError(
        "the configuration has changed since it was set: the model was loaded anew, or the server restarted"
        + (f" ({said})" if said else "")
    )


def _filled_in(config: dict[str, Any]) -> dict[str, Any]:
    """Write out the defaults of Triton that have one right value."""
    config = copy.deepcopy(config)
    config.setdefault("version_policy", {"latest": {"num_versions": 1}})
    optimization = config.setdefault("optimization", {})
    for memory in ("input_pinned_memory", "output_pinned_memory"):
        optimization.setdefault(memory, {"enable": True})
    batcher = config.get("dynamic_batching")
    if batcher is not None and config["max_batch_size"] > 0:
        batcher.setdefault("preferred_batch_size", [config["max_batch_size"]])
    return config


def _compare(path: str, wanted: Any, got: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in sorted(wanted.keys() | got.keys()):
            below = f"{path}.{key}" if path else key
            if key not in wanted and _general(below) in NAMED_BY_SERVER:
                continue
            yield from _compare(below, wanted.get(key), got.get(key))
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for place, (one, other) in enumerate(zip(wanted, got, strict=True)):
            yield from _compare(f"{path}[{place}]", one, other)
    elif wanted != got:
        yield f"{path}: asked for {_word(wanted)}, the server has {_word(got)}"


def _general(path: str) -> str:
    """``instance_group[0].name`` is ``instance_group[].name`` like every other group's."""
    return re.sub(r"\[\d+\]", "[]", path)


def _word(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if value is None:
        return "none"
    return "it with its defaults" if value == {} else str(value)
