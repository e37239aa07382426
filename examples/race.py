"""Races 40 configurations of LeNet on digits with `python examples/race.py`."""

import logging
import random
import warnings
from typing import Any

import lightning as L
from sweep_digits import EPOCHS, train  # the file beside this one

import lightning_nndyn as nd
from lightning_nndyn.study import race

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", ".*does not have many workers.*")


def seeded(params: dict[str, Any], callback: nd.GraphDynamicsCallback) -> float:
    """A run that is paused at a rung goes on from its checkpoint: the same seed makes it the same run."""
    L.seed_everything(0, verbose=False)
    return train(params, callback)


def main() -> None:
    """Draws, races, prints."""
    draw = random.Random(0)
    candidates = [
        {"learning_rate": 10 ** draw.uniform(-5, 0), "dropout": draw.uniform(0, 0.8), "batch_size": 128}
        for _ in range(40)
    ]
    # A second call with this file would train nothing again: `race.jsonl` holds all results.
    found = race(seeded, candidates, file="race.jsonl", predictor="lenet5-digits")
    for index, params in enumerate(candidates):
        print(f"{index:2} learning rate {params['learning_rate']:.2g}: {found.reason(index)}")
    epochs = [*(rung.epochs for rung in found.rungs), EPOCHS]
    reached = [found.last(index) for index in range(len(candidates))]
    spent = sum(epochs[result.rung] for result in reached if result is not None)
    print(f"best: {found.value:.3f} with {found.params}")
    print(f"epochs: {spent:.1f} of {len(candidates) * EPOCHS}")


if __name__ == "__main__":
    main()
