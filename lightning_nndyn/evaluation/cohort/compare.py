"""The command ``nndyn evaluate cohort``: ranks and ways of stopping in sweeps that the model has not seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_nndyn import __version__
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.cache import Part, PartCache, Source, Task, run_tasks
from lightning_nndyn.evaluation.cohort.fit import fit_standing_model
from lightning_nndyn.evaluation.cohort.frontier import default_ratio, frontier_ratio, geometric_mean
from lightning_nndyn.evaluation.cohort.held_out import TIMES, HeldOutPart, part_of_sweep, rank_correlations
from lightning_nndyn.evaluation.cohort.outcome import BUDGETS, Outcome
from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep, load_recorded_sweeps
from lightning_nndyn.evaluation.cohort.ways import (
    OTHER_DEFAULTS,
    OUR_DEFAULT,
    Keep,
    Pruned,
    Raced,
    Way,
    ways_to_compare,
)
from lightning_nndyn.evaluation.result_file import NOTHING, write_rows
from lightning_nndyn.sweep import DEFAULT_KEEP
from lightning_nndyn.sweep.cohort import WEIGHT_INPUTS
from lightning_nndyn.sweep.standing import StandingModel

FILE = "cohort.parquet"

WHOLE, BLIND = "cohort", "cohort without weights"
"""The model, and one that is fitted without the weights: to the same sweeps, by curves and learning rates."""

ALL_SWEEPS, LATER_SWEEPS, ALL_GRIDS = "all sweeps", "sweeps recorded later", "all grids"
"""Units that hold several others."""

MEAN_OF_SWEEPS, MEAN_OF_GRIDS = "geometric mean, sweeps", "geometric mean, grids"
"""Units of ratios: the groups of families of the corpus of sweeps, and the grids."""

_CHOSEN_ON = 60  # sweeps, the first of the corpus, had been replayed when the defaults were chosen
_ORDERS = 3  # in which the runs of a sweep begin
_GRID_SWEEPS, _GRID_SIZE = 10, 50  # that are drawn of a grid
_DIGITS = 6
_IGNORED = (*WEIGHT_INPUTS, "has_weights")

Progress = Callable[[str], None]


class _Number(NamedTuple):
    """A measurement in one sweep."""

    sweep: str
    unit: str
    number: int | None
    is_grid: bool
    method: str
    metric: str
    t: float | None
    value: float


def compare_ways(
    corpora: Sequence[Path | str],
    output: Path | str,
    *,
    jobs: int = 1,
    cache: Path | str | None = "nndyn-cohort-cache",
    minutes: float | None = None,
    on_progress: Progress = lambda message: None,
) -> list[dict[str, Any]] | None:
    """Compare our ways of stopping with Optuna's pruners, and rankings with each other, and write the rows.

    For each group of families and each data set two models are fitted to the sweeps that share neither, one
    with the weights and one without. Each sweep is replayed in several orders. Finished parts are kept in
    `cache`, with which an interrupted comparison continues; delete it after a change of the code.

    Args:
        corpora: corpus folders or parquet files.
        output: folder to write `cohort.parquet` to.
        jobs: number of processes.
        cache: folder for finished parts.
        minutes: begin no part after so many; None for no limit.
        on_progress: called with a line about each finished part.

    Returns:
        Means over the sweeps of each unit, with standard errors. None if time was up before all parts were
        finished: nothing is written then.

    Raises:
        CorpusError: a corpus cannot be read.
        PredictorError: one has no runs, or there is none of other families on other data sets.
        MissingExtraError: Optuna or pyarrow is not installed.
    """
    sources = tuple(Source.at(corpus) for corpus in corpora)
    wanted = dict.fromkeys(map(part_of_sweep, _sweeps(sources)))
    for held_out in wanted:
        if not held_out.fitted(_sweeps(sources)):
            raise PredictorError(
                f"no sweeps are left to fit a model that ranks {held_out.name}: give corpora of other "
                "families on other data sets as well, such as corpora/sweeps"
            )
    tasks = [_task(sources, part) for part in wanted]
    numbers: list[_Number] = []
    finished = 0
    found = run_tasks(tasks, PartCache.within(cache, minutes), jobs)
    for task, part in zip(tasks, found, strict=True):
        if part is not None:
            finished += 1
            numbers += [_Number(*number) for number in part["numbers"]]
            on_progress(f"{finished} of {len(tasks)}: {task.name} ({part['seconds']:.0f} s)")
    if finished < len(tasks):
        on_progress(f"time is up, {finished} parts are finished: run the same command again to go on")
        return None
    rows = [*_rows(numbers)]
    rows += _ratios(rows)
    write_rows(Path(output) / FILE, rows, {"orders": _ORDERS, "grid_sweeps": _GRID_SWEEPS})
    return rows


# -- one part ------------------------------------------------------------------------------------------------


def _task(sources: tuple[Source, ...], part: HeldOutPart) -> Task:
    prints = [source.fingerprint for source in sources]
    settings = [__version__, prints, part, ways_to_compare(), _ORDERS, _GRID_SWEEPS, _GRID_SIZE]
    return Task(part.name, repr(settings), partial(_measured, sources, part))


@lru_cache(maxsize=1)
def _sweeps(sources: tuple[Source, ...]) -> list[RecordedSweep]:
    return load_recorded_sweeps([source.path for source in sources])


def _measured(sources: tuple[Source, ...], part: HeldOutPart) -> Part:
    sweeps = _sweeps(sources)
    others = part.fitted(sweeps)
    models = {
        WHOLE: fit_standing_model(others),
        BLIND: fit_standing_model(others, leave_out=_IGNORED),
    }
    unseen = part.unseen(sweeps)
    if part.is_grid:
        unseen = [drawn for grid in unseen for drawn in grid.drawn(_GRID_SWEEPS, _GRID_SIZE)]
    orders = 1 if part.is_grid else _ORDERS
    found = [number for place, one in enumerate(unseen) for number in _numbers(one, place, models, orders)]
    return {"numbers": [list(number) for number in found]}


def _numbers(
    sweep: RecordedSweep, place: int, models: dict[str, StandingModel], orders: int
) -> Iterator[_Number]:
    unit = sweep.corpus if sweep.is_grid else ", ".join(part_of_sweep(sweep).families)

    def number(method: str, metric: str, t: float | None, value: float) -> _Number:
        name = f"{sweep.name} {place}"
        return _Number(name, unit, sweep.number, sweep.is_grid, method, metric, t, round(value, _DIGITS))

    for time in TIMES:
        for name, value in (rank_correlations(sweep, models, time) or {}).items():
            if np.isfinite(value):
                yield number(name, "spearman", time, value)
    ways = [(way.name, way, models[WHOLE]) for way in ways_to_compare()]
    ways.append((f"{OUR_DEFAULT} without weights", Keep(DEFAULT_KEEP), models[BLIND]))
    for name, way, model in ways:
        outcomes = [_outcome(sweep, way, model, order) for order in range(orders)]
        for metric in ("epochs", "regret", "lost"):
            yield number(name, metric, None, float(np.mean([getattr(one, metric) for one in outcomes])))
        for index, budget in enumerate(BUDGETS):
            seen = [one.regret_at[index] for one in outcomes]
            yield number(name, "regret at budget", budget, float(np.mean(seen)))


def _outcome(sweep: RecordedSweep, way: Way, model: StandingModel, seed: int) -> Outcome:
    order = np.random.default_rng([seed, len(sweep.runs)]).permutation(len(sweep.runs)).tolist()
    return Outcome.of(sweep, way.laps(sweep, order, model))


# -- rows ----------------------------------------------------------------------------------------------------


def _rows(numbers: Iterable[_Number]) -> Iterator[dict[str, Any]]:
    """Means over the sweeps of each unit."""
    values: dict[Any, dict[str, float]] = defaultdict(dict)
    for one in numbers:
        for unit in _units(one):
            values[unit, one.is_grid, one.method, one.metric, one.t][one.sweep] = one.value
    for (unit, is_grid, method, metric, t), found in values.items():
        yield _row(unit, is_grid, method, metric, t, [*found.values()])
        blind = values.get((unit, is_grid, BLIND, metric, t), {})
        if method == WHOLE and blind:
            gains = [value - blind[sweep] for sweep, value in found.items() if sweep in blind]
            yield _row(unit, is_grid, "weights add", metric, t, gains)


def _units(one: _Number) -> list[str]:
    if one.number is None:
        return [one.unit, ALL_GRIDS]
    return [one.unit, ALL_SWEEPS, *([LATER_SWEEPS] if one.number >= _CHOSEN_ON else [])]


def _row(
    unit: str, is_grid: bool, method: str, metric: str, t: float | None, values: Sequence[float]
) -> dict[str, Any]:
    return {
        "unit": unit,
        "is_grid": is_grid,
        "method": method,
        "knows": NOTHING,
        "metric": metric,
        "t": t,
        "value": float(np.mean(values)),
        "error": float(np.std(values) / np.sqrt(len(values))),
        "count": len(values),
    }


def _ratios(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Our epochs over those of the others, for each unit; and their geometric means over the units."""
    found = {(row["unit"], row["method"], row["metric"]): row["value"] for row in rows if row["t"] is None}
    ours = [way.name for way in ways_to_compare() if isinstance(way, Keep | Raced)]
    others = [way.name for way in ways_to_compare() if isinstance(way, Pruned)]
    single: dict[tuple[str, bool], dict[str, float]] = defaultdict(dict)
    for unit, is_grid in dict.fromkeys((row["unit"], row["is_grid"]) for row in rows):
        points = {
            method: (found[unit, method, "epochs"], found[unit, method, "regret"])
            for method in (*ours, *others)
        }
        ratios = {
            "default ratio": default_ratio(points[OUR_DEFAULT], [points[name] for name in OTHER_DEFAULTS]),
            "frontier ratio": frontier_ratio(
                [points[name] for name in ours], [points[name] for name in others]
            ),
        }
        for metric, value in ratios.items():
            yield _row(unit, is_grid, OUR_DEFAULT, metric, None, [value])
            if unit not in (ALL_SWEEPS, LATER_SWEEPS, ALL_GRIDS):
                single[metric, is_grid][unit] = value
    for (metric, is_grid), by_unit in single.items():
        row = _row(
            MEAN_OF_GRIDS if is_grid else MEAN_OF_SWEEPS,
            is_grid,
            OUR_DEFAULT,
            metric,
            None,
            [geometric_mean(by_unit.values())],
        )
        yield row | {"count": len(by_unit)}
