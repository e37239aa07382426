"""What a sweep of 5,000 trials costs: time for each decision, memory, size of the storage.

    python benchmarks/sweep_scale.py              # prints the table of docs/guides/optuna.md
    python benchmarks/sweep_scale.py --write      # writes it there

The recorded runs of LeNet-5 on CIFAR-10 (`corpora/lenet5-cifar10.parquet`), drawn repeatedly and with noise,
go through `OptunaMember` and `SweepPredictor` as in the callback: a decision and a report at each of 8
readings. No run is stopped, which is the worst case: all trials finish, and are learned from. The last 25
trials before each size are measured; those before them are put into the storage as the callback leaves them.
Each storage has a process of its own, with its files in memory: the time of a disk comes on top.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.integrations.optuna import OptunaMember
from lightning_nndyn.integrations.optuna_storage import READING, encode_reading, step_of
from lightning_nndyn.sweep import Reading, SweepPredictor, SweepRun, shared_predictor

ROOT = Path(__file__).parents[1]
CORPUS, PAGE = ROOT / "corpora" / "lenet5-cifar10.parquet", ROOT / "docs" / "guides" / "optuna.md"
RAM = Path("/dev/shm")
AT, MEASURED = (100, 1000, 5000), 25
LR = optuna.distributions.FloatDistribution(1e-7, 10, log=True)
REASON = "goes on: " + 200 * "."
TIMES = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0)


def recorded() -> list[SweepRun]:
    """The corpus' runs that did not diverge."""
    corpus, found = RunDataset.load([CORPUS]), []
    for record, history, curve in zip(corpus.records, corpus.histories, corpus.curves, strict=True):
        snapshots = [one for one in history if one.epoch in TIMES and one.finite]
        if len(snapshots) == len(TIMES):
            readings = [Reading.of([history[0], one], curve) for one in snapshots]
            params = {"lr": record.config["learning_rate"]}
            found.append(SweepRun(params, readings, max(curve.accuracies)))
    return found


def plain(run: SweepRun) -> dict[str, Any]:
    return {
        "params": run.params,
        "readings": [one.to_dict() for one in run.readings],
        "value": run.value,
    }


def from_plain(content: dict[str, Any]) -> SweepRun:
    return SweepRun(
        content["params"], [Reading.from_dict(one) for one in content["readings"]], content["value"]
    )


def noisy(run: SweepRun, rng: np.random.Generator) -> SweepRun:
    """The run as it might have been with another seed."""
    return SweepRun(
        run.params, [_noisy(reading, rng) for reading in run.readings], run.value + 0.01 * rng.normal()
    )


def _noisy(reading: Reading, rng: np.random.Generator) -> Reading:
    weights, curve = np.array(reading.weights), np.array(reading.curve)
    weights = weights + 0.02 * np.abs(weights) * rng.normal(size=weights.shape)
    curve = curve + 0.01 * rng.normal(size=curve.shape)
    rounded = (tuple(float(f"{value:.5g}") for value in values) for values in (weights, curve))
    return replace(reading, weights=next(rounded), curve=next(rounded))


def storage_of(kind: str, folder: str) -> Any:
    if kind == "SQLite":
        return optuna.storages.RDBStorage(f"sqlite:///{folder}/sweep.db")
    return JournalStorage(JournalFileBackend(f"{folder}/sweep.log"))


def train(trial: Any, run: SweepRun, spent: dict[str, list[float]]) -> None:
    """Trains one run; adds the seconds that its decisions and its reports took."""
    member = OptunaMember(trial)
    for count in range(1, len(run.readings) + 1):
        start = time.perf_counter()
        lock, predictor = shared_predictor(member.shared, SweepPredictor())
        with lock:
            predictor.fit(member.runs())
            so_far = SweepRun(member.params, run.readings[:count])
            said, decision = predictor.forecast(so_far), predictor.decide(so_far)
        between = time.perf_counter()
        facts = {"predicted": said and said.value, "verdict": "go on", "reason": decision.reason}
        member.report(run.readings[count - 1], facts)
        spent["decide"].append(between - start)
        spent["note"].append(time.perf_counter() - between)
    member.finish(False, decision.reason)


def measure(kind: str, at: list[int]) -> None:
    """Prints one JSON line for each size of the sweep."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rng, runs = np.random.default_rng(0), [from_plain(one) for one in json.load(sys.stdin)]
    with tempfile.TemporaryDirectory(dir=RAM if RAM.exists() else None) as folder:
        sampler = optuna.samplers.RandomSampler(seed=0)
        storage = storage_of(kind, folder)
        study = optuna.create_study(storage=storage, direction="maximize", sampler=sampler)
        before, number = _memory(), 0
        for size in at:
            while number < size - MEASURED:
                study.add_trial(ended(noisy(runs[rng.integers(len(runs))], rng)))
                number += 1
            spent: dict[str, list[float]] = {"decide": [], "note": []}
            while number < size:
                run = noisy(runs[rng.integers(len(runs))], rng)
                study.enqueue_trial(dict(run.params))
                trial = study.ask()
                trial.suggest_float("lr", LR.low, LR.high, log=True)
                train(trial, run, spent)
                study.tell(trial, run.value)
                number += 1
            row = {"storage": kind, "trials": size, "most": max(spent["decide"])}
            row |= {name: float(np.median(found)) for name, found in spent.items()}
            row |= {
                "memory": _memory() - before,
                "size": sum(one.stat().st_size for one in Path(folder).iterdir()),
            }
            print(json.dumps(row), flush=True)


def ended(run: SweepRun) -> Any:
    """A trial as the callback leaves it."""
    attributes = {f"{READING}{reading.time:g}": encode_reading(reading) for reading in run.readings}
    attributes |= {"nndyn:verdict": "finished", "nndyn:reason": REASON}
    steps = {step_of(reading.time): run.value for reading in run.readings}
    return optuna.trial.create_trial(
        params=dict(run.params),
        distributions={"lr": LR},
        value=run.value,
        user_attrs=attributes,
        intermediate_values=steps,
    )


def _memory() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    names = ("storage", "trials", "a decision", "the slowest, with a fit", "to note it", "memory", "on disk")
    lines = [" | ".join(names), " | ".join(["---"] * len(names))]
    for row in rows:
        times = (
            f"{1000 * row[name]:.{digits}f} ms" for name, digits in (("decide", 1), ("most", 0), ("note", 1))
        )
        sizes = (f"{row[name] / 2**20:.0f} MiB" for name in ("memory", "size"))
        lines.append(" | ".join([row["storage"], f"{row['trials']:,}", *times, *sizes]))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--write", action="store_true")
    options.add_argument("--trials", type=int, nargs="+", default=AT)
    options.add_argument("--storage", choices=("SQLite", "journal file"))
    given = options.parse_args()
    if given.storage:
        measure(given.storage, list(given.trials))
        return
    rows = []
    # Loaded here, so that no memory is left over in there.
    runs = json.dumps([plain(run) for run in recorded()])
    for kind in ("journal file", "SQLite"):
        command = [sys.executable, __file__, "--storage", kind, "--trials", *map(str, given.trials)]
        done = subprocess.run(command, check=True, input=runs, stdout=subprocess.PIPE, text=True)
        rows += [json.loads(line) for line in done.stdout.splitlines()]
    text = table(rows)
    print(text)
    if given.write:
        page = PAGE.read_text()
        begin, end = "<!-- begin scale -->\n", "\n<!-- end scale -->"
        PAGE.write_text(page.partition(begin)[0] + begin + text + end + page.partition(end)[2])


if __name__ == "__main__":
    main()
