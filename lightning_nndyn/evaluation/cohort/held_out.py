"""How well a model of standings ranks and stops in sweeps whose families and data sets it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from lightning_nndyn.evaluation.cohort.fit import fit_standing_model
from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep
from lightning_nndyn.evaluation.replay.policies import pruner_epochs
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.signature.snapshot import Array
from lightning_nndyn.sweep import SweepRun
from lightning_nndyn.sweep.standing import StandingModel, standings

FAMILY_GROUPS: tuple[tuple[str, ...], ...] = (
    ("resnet", "preactivation_resnet"),
    ("mlp", "mixer"),
    ("plain_cnn", "vgg", "lenet", "alexnet"),
    ("transformer", "vit"),
    ("convnext", "inverted_bottleneck", "unet"),
    ("lstm", "gru"),
)
"""Families that are alike are left out together. The zoo's random networks stay: they are of no family."""

TIMES = (1 / 16, 1 / 4, 1.0, 2.0, 4.0)
"""At which rankings are measured, in epochs."""

_LATEST_PROGRESS = 0.8  # at the end everything ranks well
_GOOD_SHARE = 0.25

Rule = Callable[[SweepRun, Sequence[SweepRun]], Decision]
"""Decides on a run by its readings so far and the runs before it."""


@dataclass(frozen=True)
class Outcome:
    """What a way of stopping makes of a sweep whose runs are trained one after the other.

    Attributes:
        epochs: that are trained, as a share of all.
        regret: how far the best accuracy that is seen lies below the best one.
        lost: share of the best quarter that is stopped.
    """

    epochs: float
    regret: float
    lost: float


def held_out_models(
    sweeps: Sequence[RecordedSweep], *, leave_out_datasets: bool = True, leave_out_inputs: Sequence[str] = ()
) -> Iterator[tuple[StandingModel, list[RecordedSweep]]]:
    """Models, each with the sweeps that it has not seen: neither their families nor their data sets.

    Args:
        sweeps: grids are only fitted to.
        leave_out_datasets: whether the data set is left out as well as the group of families.
        leave_out_inputs: that the models ignore.
    """
    parts: dict[tuple[tuple[str, ...], str], list[RecordedSweep]] = {}
    for sweep in sweeps:
        if not sweep.is_grid:
            group = next((group for group in FAMILY_GROUPS if sweep.family in group), (sweep.family,))
            parts.setdefault((group, sweep.dataset if leave_out_datasets else ""), []).append(sweep)
    for (group, dataset), part in parts.items():
        others = [one for one in sweeps if one.family not in group and one.dataset != dataset]
        yield fit_standing_model(others, leave_out=leave_out_inputs), part


def rank_correlations(sweep: RecordedSweep, model: StandingModel, time: float) -> dict[str, float] | None:
    """Spearman's correlation of each ranking at a time with the final accuracies.

    Returns:
        Of the model's standing, of the accuracy and of the loss so far (NaN where there is none); None where
        less than six runs were read then, or the sweep is nearly over.
    """
    runs = [run for run in sweep.runs if run.at(time) is not None]
    if len(runs) < 6 or time > _LATEST_PROGRESS * max(sweep.epochs):
        return None
    values = np.array([run.value for run in runs], dtype=np.float64)
    curves = [list(one.curve) for run in runs if (one := run.at(time)) is not None]
    losses = [-curve[1] if len(curve) in (2, 5) else np.nan for curve in curves]
    accuracies = [curve[-2] if len(curve) > 2 else np.nan for curve in curves]
    return {
        "standing": _correlation(standings(runs, time, model)[0], values),
        "accuracy so far": _correlation(np.array(accuracies), values),
        "loss so far": _correlation(np.array(losses), values),
    }


def _correlation(scores: Array, values: Array) -> float:
    known = np.isfinite(scores)
    if known.sum() < 6 or len(np.unique(scores[known])) < 2:
        return float("nan")
    return float(spearmanr(scores[known], values[known])[0])


def replayed(sweep: RecordedSweep, rule: Rule, order: Sequence[int]) -> Outcome:
    """Train the runs of a sweep one after the other under a rule that compares each with those before it."""
    ended: list[SweepRun] = []
    spent = np.array(sweep.epochs)
    planned = max(sweep.epochs)
    for index in order:
        whole = replace(sweep.runs[index], planned_epochs=planned)
        stopped = _stopped(whole, rule, ended)
        if stopped is not None:
            spent[index] = min(spent[index], stopped.readings[-1].time)
        ended.append(whole if stopped is None else stopped)
    return _outcome(sweep, spent)


def _stopped(run: SweepRun, rule: Rule, ended: Sequence[SweepRun]) -> SweepRun | None:
    """The run as it is when it is stopped; None if it is not."""
    for count in range(1, len(run.readings) + 1):
        so_far = replace(run, readings=run.readings[:count], value=None)
        if rule(so_far, ended).stop:
            return replace(so_far, stopped=True)
    return None


def pruned(sweep: RecordedSweep, name: str, order: Sequence[int], seed: int) -> Outcome:
    """The same under a pruner of Optuna with its default settings."""
    spent = np.array(sweep.epochs)
    curves = sweep.curves
    for index, epochs in zip(order, pruner_epochs(name, [curves[i] for i in order], seed), strict=True):
        spent[index] = min(spent[index], epochs)
    return _outcome(sweep, spent)


def _outcome(sweep: RecordedSweep, spent: Array) -> Outcome:
    values = np.array([run.value for run in sweep.runs], dtype=np.float64)
    whole = spent >= np.array(sweep.epochs)
    seen = [
        value if ended else max((one for one in curve[: int(epochs)] if one is not None), default=0.0)
        for value, ended, curve, epochs in zip(values, whole, sweep.curves, spent, strict=True)
    ]
    good = np.argsort(-values, kind="stable")[: max(1, round(_GOOD_SHARE * len(values)))]
    return Outcome(
        epochs=float(spent.sum() / sum(sweep.epochs)),
        regret=float(values.max() - max(seen)),
        lost=float(np.mean(~whole[good])),
    )
