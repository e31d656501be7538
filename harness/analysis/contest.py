"""Models of one run against each other: what each answers rightly, and how many answers it gives within the SLO.

Accuracy is what ``harness export`` found of the exported model on its examples with known classes, so it
is there for networks and precisions of one task and missing elsewhere; throughput is that of the model's
recommended configuration. A model is on the *front* unless another one is at least as accurate and
measurably faster, or more accurate and no slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.analysis.ranking import throughput_noise, throughput_ratio
from harness.statistics.intervals import Interval, share_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis, WorkloadResult
    from harness.point import Workload
    from harness.records import RunRecord
    from harness.statistics.intervals import Noise

__all__ = ["Contender", "Contest", "compete", "standings"]


@dataclass(frozen=True)
class Contender:
    """One model under one workload.

    Attributes:
        model: its name.
        precision: as it was exported; empty where the record does not say.
        parameters: weights of a network that ``harness train`` made; ``None`` of others.
        accuracy: share of right classes, with its 95 % interval; ``None`` where it is not known.
        judged_on: the data that the accuracy is of, such as ``digits, 360 examples``.
        loss: what a reduced precision loses, in words; empty for float32.
        best: the point of its recommended configuration; ``None`` where none qualifies.
        of_fastest: its throughput over the fastest contender's, paired within the passes.
        front: whether it is on the front of accuracy and throughput.
        why_not: why nothing qualifies, in words.
    """

    model: str
    precision: str
    parameters: int | None
    accuracy: Interval | None
    judged_on: str
    loss: str
    best: PointResult | None
    of_fastest: Interval | None
    front: bool
    why_not: str = ""


@dataclass(frozen=True)
class Contest:
    """The models under one workload, the fastest first, those that do not qualify last."""

    workload: Workload
    objective: str
    contenders: tuple[Contender, ...]

    @property
    def text(self) -> str:
        """The front in words, the most accurate first; empty where no accuracy is known."""
        front = [each for each in self.contenders if each.front and each.accuracy and each.best]
        said = [
            f"{each.model} ({each.accuracy.estimate:.1%} right,"
            f" {each.best.throughput.estimate:,.0f} inferences/s)"
            for each in sorted(front, key=_accuracy, reverse=True)
            if each.accuracy and each.best
        ]
        if not said:
            return ""
        return f"{self.workload.label}: on the front of accuracy and throughput: " + ", ".join(said)


def compete(analysis: Analysis) -> tuple[Contest, ...]:
    """Hold the models of a run against each other, workload by workload; none where it has but one."""
    groups: dict[Workload, list[WorkloadResult]] = {}
    for result in analysis.workloads:
        groups.setdefault(result.workload, []).append(result)
    return tuple(_contest(analysis.record, group) for group in groups.values() if len(group) > 1)


def standings(analysis: Analysis) -> tuple[str, ...]:
    """The front of each workload in words, a line each, where accuracies are known."""
    return tuple(contest.text for contest in compete(analysis) if contest.text)


def _contest(record: RunRecord, group: Sequence[WorkloadResult]) -> Contest:
    best = {result.model: result.winner.best for result in group if result.winner}
    accuracies = {result.model: _accuracy_of(_export(record, result.model)) for result in group}
    found = [point for point in best.values() if point]
    fastest, noise = max(found, key=_throughput, default=None), throughput_noise(found)
    contenders = []
    for result in group:
        export, point = _export(record, result.model), best.get(result.model)
        contenders.append(
            Contender(
                model=result.model,
                precision=str(export.get("precision", "")),
                parameters=_training(export).get("parameters"),
                accuracy=accuracies[result.model],
                judged_on=_judged_on(export),
                loss=_loss(export),
                best=point,
                of_fastest=throughput_ratio(point, fastest, noise) if point and fastest else None,
                front=_on_front(result.model, best, accuracies, noise),
                why_not="" if point else _why_not(result),
            )
        )
    contenders.sort(key=lambda each: -_throughput(each.best) if each.best else math.inf)
    return Contest(group[0].workload, group[0].objective, tuple(contenders))


def _on_front(
    model: str,
    best: dict[str, PointResult | None],
    accuracies: dict[str, Interval | None],
    noise: Noise | None,
) -> bool:
    own, accuracy = best.get(model), accuracies[model]
    if own is None or accuracy is None:
        return False
    for name, other in best.items():
        better = accuracies[name]
        if name == model or other is None or better is None:
            continue
        faster = throughput_ratio(other, own, noise)
        as_accurate = better.estimate >= accuracy.estimate
        if as_accurate and math.isfinite(faster.low) and faster.low > 1:
            return False
        if better.estimate > accuracy.estimate and faster.estimate >= 1:
            return False
    return True


def _export(record: RunRecord, model: str) -> dict[str, Any]:
    """The model's ``export.json``; empty in a run that has none."""
    export = record.model.get(model)
    return export if isinstance(export, dict) else {}


def _training(export: dict[str, Any]) -> dict[str, Any]:
    training = export.get("training")
    return training if isinstance(training, dict) else {}


def _examples(export: dict[str, Any]) -> int:
    return int((export.get("parity") or {}).get("examples") or 0)


def _accuracy_of(export: dict[str, Any]) -> Interval | None:
    share, examples = export.get("accuracy"), _examples(export)
    if share is None or not examples:
        return None
    return share_interval(round(share * examples), examples)


def _judged_on(export: dict[str, Any]) -> str:
    if export.get("accuracy") is None:
        return ""
    data = str((_training(export).get("data") or {}).get("name") or "its own data")
    return f"{data}, {_examples(export):,} examples"


def _loss(export: dict[str, Any]) -> str:
    loss = export.get("loss")
    if not isinstance(loss, dict):
        return ""
    return f"{loss['loss']:.2%} of {loss['measure']}"


def _why_not(result: WorkloadResult) -> str:
    return result.ranking[0].why_not if result.ranking else "nothing was measured"


def _throughput(result: PointResult) -> float:
    return result.throughput.estimate


def _accuracy(contender: Contender) -> float:
    return contender.accuracy.estimate if contender.accuracy else -1.0
