"""Runs under FSDP and FSDP2, on processes that share the weights, for test_strategies.py."""

from __future__ import annotations

import json
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from callback_runs import Digits, OnOneProcess
from digits_runs import BATCH, DOOMED, GOOD, predictor
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from processes import leave_group
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.errors import NNDynWarning

FOLDER, SIZE = Path(sys.argv[1]), int(os.environ["WORLD_SIZE"])
BATCHES = 16  # of an epoch: the fewest of which all times are read
ON_GPUS = torch.cuda.device_count() >= SIZE
FITTED = predictor()


class Sharded(Digits):
    """Spreads its layers as FSDP2 does."""

    def configure_model(self) -> None:
        if self.device_mesh is None:
            return
        try:
            from torch.distributed.fsdp import fully_shard
        except ImportError:  # torch 2.5
            from torch.distributed._composable.fsdp import fully_shard
        mesh = self.device_mesh["data_parallel"]
        for layer in self.net:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        fully_shard(self.net, mesh=mesh)


class Flat(FSDPStrategy):
    """FSDP takes CPUs only where it is told to."""

    def __init__(self, **settings: Any) -> None:
        policy = ModuleWrapPolicy({nn.Linear, nn.Conv2d})
        backend = None if ON_GPUS else "gloo"
        super().__init__(auto_wrap_policy=policy, process_group_backend=backend, **settings)

    def _setup_model(self, model: nn.Module) -> nn.Module:
        if ON_GPUS:
            return super()._setup_model(model)
        return FullyShardedDataParallel(
            model, sharding_strategy=self.sharding_strategy, device_id=torch.device("cpu"), **self.kwargs
        )


STRATEGIES = {
    "ddp": DDPStrategy,
    "fsdp": Flat,
    "fsdp, flat": lambda: Flat(use_orig_params=False),
    "fsdp, gradients": lambda: Flat(sharding_strategy="SHARD_GRAD_OP"),
    "fsdp2": lambda: ModelParallelStrategy(data_parallel_size=SIZE, tensor_parallel_size=1),
}


def broken(*_: Any) -> None:
    raise KeyError("only on process 1")


class FailsWhileReading(GraphDynamicsCallback):
    """On process 1 a product with the adjacency fails, while the others wait for it."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        taker = self.session.reader._snapshots
        if trainer.global_rank == 1 and trainer.global_step == 2 and taker is not None:
            taker._operator._add_forward = broken
        super().on_train_batch_end(trainer, *args)


class FailsToBuild(GraphDynamicsCallback):
    """Process 1 cannot make a graph of what it has seen."""

    def on_before_backward(self, trainer: Any, *args: Any) -> None:
        tracer = self.session.reader._tracer
        if trainer.global_rank == 1 and tracer is not None:
            tracer._failure = KeyError("only on process 1")
        super().on_before_backward(trainer, *args)


class Unlucky(Sharded):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == 1:
            raise RuntimeError("out of order, on all processes")
        return super().training_step(batch, batch_idx)


def run(
    name: str,
    strategy: str,
    callback: Any,
    lr: float = GOOD,
    kind: Any = Sharded,
    start: Path | None = None,
    end: Path | None = None,
    **settings: Any,
) -> None:
    callbacks = [] if callback is None else [callback]
    trainer = L.Trainer(
        **{
            "max_epochs": 2,
            "limit_train_batches": BATCHES,
            "logger": False,
            "enable_checkpointing": False,
            **settings,
        },
        callbacks=callbacks,
        strategy=STRATEGIES[strategy](),
        accelerator="gpu" if ON_GPUS else "cpu",
        devices=SIZE,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model, error = kind(lr=lr, batch_size=BATCH // SIZE), None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            trainer.fit(model, ckpt_path=start)
            if end is not None:
                trainer.save_checkpoint(end)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    result = {
        "steps": trainer.global_step,
        "record": None if callback is None else callback.state_dict(),
        "metrics": {key: float(value) for key, value in trainer.callback_metrics.items()},
        "warnings": [str(w.message) for w in found if issubclass(w.category, NNDynWarning)],
        "error": error,
        "losses": model.losses,
    }
    text = json.dumps(result, default=torch.Tensor.tolist)
    (FOLDER / f"{name}.{trainer.global_rank}.json").write_text(text)


def watcher(given: Any = FITTED, kind: Any = GraphDynamicsCallback, **settings: Any) -> Any:
    return kind(given, **{"threshold": 0.5, **settings})


def main() -> None:
    torch.set_num_threads(1)
    for strategy in STRATEGIES if SIZE == 2 else ["ddp", "fsdp2"]:
        run(f"{strategy}, plain", strategy, None, max_epochs=1)
        run(f"{strategy}, watched", strategy, watcher(action="observe"))
        run(f"{strategy}, doomed", strategy, watcher(), lr=DOOMED)
    for strategy in ("ddp", "fsdp2"):  # torch cannot save FSDP's first version from a CPU
        path = FOLDER / f"{strategy}.ckpt"
        run(f"{strategy}, begun", strategy, watcher(), max_epochs=1, end=path)
        run(f"{strategy}, resumed", strategy, watcher(), start=path)
    for strategy in list(STRATEGIES)[1:] if SIZE == 2 else ["fsdp2"]:
        at = partial(run, strategy=strategy)
        at(f"{strategy}, one stops", callback=watcher(OnOneProcess(FITTED, {0.25: 1.0})))
        one_fails = watcher(OnOneProcess(FITTED, {0.25: None}), action="observe")
        at(f"{strategy}, one fails", callback=one_fails, max_epochs=1)
        reading, building = (
            watcher(kind=kind, action="observe") for kind in (FailsWhileReading, FailsToBuild)
        )
        at(f"{strategy}, reading fails", callback=reading, max_epochs=1)
        at(f"{strategy}, building fails", callback=building, max_epochs=1)
        at(f"{strategy}, training fails", callback=watcher(action="observe"), kind=Unlucky)
        at(f"{strategy}, dataflow", callback=watcher(None, topology="dataflow"), max_epochs=1)
        at(f"{strategy}, accumulated", callback=watcher(None), max_epochs=1, accumulate_grad_batches=4)


if __name__ == "__main__":
    main()
    leave_group()
