"""What the README's one line says and does in eight kinds of training, each at three learning rates.

Usage: python benchmarks/eight_kinds.py [--only ViT] [--rows results/eight_kinds.parquet]

The rates are a good one, a millionth of it, and one that is far too large. Each run has its own folder, as
the first run of a user has. It is trained with the line as it stands; where that stops it, once more with
action="observe", to its end. Images and tables come with scikit-learn, sequences and blobs are made on the
spot. All of it takes three minutes on one core.
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning_utilities.core import rank_zero
from small_trainings import KINDS, Kind
from torch.utils.data import DataLoader, TensorDataset

import lightning_nndyn as nd
from lightning_nndyn.callback.monitored_metric import guess_mode
from lightning_nndyn.evaluation.result_file import write_rows

GOOD, DOOMED, LARGE = "good", "a millionth", "too large"


@dataclass(frozen=True)
class Row:
    """What was said and done in one run.

    Attributes:
        kind: of training.
        monitor: the metric.
        mode: "max" or "min".
        rate: the learning rate, in words.
        lr: the learning rate.
        epochs: of the plan.
        said: who judges and what may stop, as the line says it at the start.
        stopped: epochs that were trained before it was stopped; None if it was not.
        reason: why it was.
        predicted: the last prediction, a fraction; None where nothing was predicted.
        reached: the metric's best value when trained to the end.
    """

    kind: str
    monitor: str
    mode: str
    rate: str
    lr: float
    epochs: int
    said: str
    stopped: float | None
    reason: str
    predicted: float | None
    reached: float | None


class _Said(logging.Handler):
    """Keeps what the callback prints."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        _, ours, text = record.getMessage().partition("GraphDynamicsCallback: ")
        self.lines += [text] if ours else []


class _Watch(L.Callback):
    """Counts the epochs that are trained, and keeps the metric's values."""

    def __init__(self, monitor: str) -> None:
        self.monitor, self.epochs = monitor, 0.0
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.epochs += 1 / trainer.num_training_batches

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        value = float(trainer.callback_metrics[self.monitor])
        if math.isfinite(value) and not trainer.sanity_checking:
            self.values.append(value)


def _train(kind: Kind, rate: float, action: str) -> tuple[nd.GraphDynamicsCallback, list[str], _Watch]:
    """One run from a fixed random state: its callback, what that printed, and what became of it."""
    L.seed_everything(0, verbose=False)
    said, watch = _Said(), _Watch(kind.monitor)
    callback = nd.GraphDynamicsCallback(monitor=kind.monitor, action=action)
    inputs, targets = kind.data()
    held_out = len(inputs) // 5
    train = TensorDataset(inputs[held_out:], targets[held_out:])
    test = TensorDataset(inputs[:held_out], targets[:held_out])
    rank_zero.log.addHandler(said)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=kind.epochs, callbacks=[watch, callback], accelerator="cpu", default_root_dir=folder,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(
            kind.task(kind, rate),
            DataLoader(train, kind.batch, shuffle=True, drop_last=True),
            DataLoader(test, held_out),
        )
    rank_zero.log.removeHandler(said)
    return callback, said.lines, watch


def run(name: str, kind: Kind) -> Iterator[Row]:
    """Trains a kind at its three rates."""
    good, large = kind.rates
    for words, rate in ((GOOD, good), (DOOMED, good * 1e-6), (LARGE, large)):
        callback, lines, watch = _train(kind, rate, "stop")
        stopped = callback.decision.stop
        whole = _train(kind, rate, "observe")[2] if stopped else watch
        mode = guess_mode(kind.monitor) or "max"
        best = max if mode == "max" else min
        yield Row(
            kind=name,
            monitor=kind.monitor,
            mode=mode,
            rate=words,
            lr=rate,
            epochs=kind.epochs,
            said=_shortened(lines[0]),
            stopped=round(watch.epochs, 4) if stopped else None,
            reason=callback.decision.reason if stopped else "",
            predicted=callback.verdicts[-1].predicted_accuracy if callback.verdicts else None,
            reached=best(whole.values, default=None),
        )


def _shortened(line: str) -> str:
    """The line at the start without the number of layers and the place of the record."""
    parts = line.split("; ")
    return "; ".join(part for part in parts if not part.startswith(("reads ", "record: ")))


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=KINDS, help="one kind")
    parser.add_argument("--rows", type=Path, help="file to write what was measured to")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rank_zero.log.setLevel(logging.INFO)
    rank_zero.log.propagate = False  # the table says what the callback says
    torch.set_num_threads(1)
    rows = []
    for name, kind in KINDS.items():
        if arguments.only in (None, name):
            print(f"\n{name}, {kind.epochs} epochs")
            for row in run(name, kind):
                rows.append(row)
                _print(row)
    if arguments.rows:
        write_rows(arguments.rows, [asdict(row) for row in rows])


def _print(row: Row) -> None:
    if row.rate == GOOD:
        print(f"  {row.said}")
    end = "goes on" if row.stopped is None else f"stopped after {row.stopped:g} epochs"
    predicted = "-" if row.predicted is None else f"{row.predicted:.1%}"
    reached = "-" if row.reached is None else f"{row.reached:.3g}"
    print(f"  {row.rate:13}{end:32}predicted {predicted:>6}   reached {row.monitor} {reached}", flush=True)
    if row.reason:
        print(f"{'':15}{row.reason}")


if __name__ == "__main__":
    main()
