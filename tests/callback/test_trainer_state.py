"""What a Trainer can do, in one process: the record is right, and training is what it is without us."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import BATCHES, Endless, times, watcher
from digits_runs import loader
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.utils.data import DataLoader
from trainer_witness import USUAL, Noisy, Run, Validated, Witness, assert_bit_equal, run, statistics, watched

from lightning_nndyn.errors import NNDynWarning


class TwoOptimizers(Noisy):
    """Body and head have an optimizer each, which take turns or step together."""

    together = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        body, head = self.net[:2].parameters(), self.net[-1].parameters()
        return torch.optim.SGD(body, lr=0.05, momentum=0.9), torch.optim.Adam(head, lr=1e-3)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        for optimizer in self.optimizers():
            if not self.together:
                self.toggle_optimizer(optimizer)
            loss = self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            if not self.together:
                self.untoggle_optimizer(optimizer)
        return loss.detach()


class AllAtOnce(TwoOptimizers):
    together = True


class AccumulatedByHand(Noisy):
    """Manual optimization that steps after every fourth batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.manual_backward(loss / 4)
        if batch_idx % 4 == 3:
            self.optimizers().step()
            self.optimizers().zero_grad()
        return loss.detach()


class Reloading(Noisy):
    """Each epoch has a loader of its own, with other batches and fewer of them."""

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(seed=self.current_epoch, batch_size=48 * (self.current_epoch + 1))


class Streamed(Validated):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Endless(), batch_size=None)


def swa() -> list[Any]:
    return [StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)]


def ema() -> list[Any]:
    kind = getattr(L.callbacks, "EMAWeightAveraging", None)
    return [kind(decay=0.9)] if kind else pytest.skip("this Lightning averages no weights")


CASES: dict[str, tuple[Any, dict[str, Any], list[float]]] = {
    "two optimizers that take turns": (TwoOptimizers, {}, USUAL),
    "two optimizers": (AllAtOnce, {}, USUAL),
    "accumulated gradients": (Noisy, {"accumulate_grad_batches": 4}, USUAL),
    "gradients accumulated by hand": (AccumulatedByHand, {}, USUAL),
    "validation within the epoch": (Validated, {"val_check_interval": 0.25}, USUAL),
    "validation across epochs": (
        Validated,
        {"val_check_interval": 7, "check_val_every_n_epoch": None, "limit_val_batches": 2},
        USUAL,
    ),
    "a part of the batches": (Noisy, {"limit_train_batches": 0.3}, USUAL),
    "one batch": (Validated, {"limit_train_batches": 1, "limit_val_batches": 1}, USUAL),
    "no validation": (Validated, {"limit_val_batches": 0}, USUAL),
    "the same batches again": (Noisy, {"overfit_batches": 3}, USUAL),
    "other loaders each epoch": (Reloading, {"reload_dataloaders_every_n_epochs": 1}, USUAL),
    "bare bones": (Noisy, {"barebones": True, "logger": None, "enable_checkpointing": None}, USUAL),
    "weights averaged at the end": (Validated, {"others": swa}, [*USUAL, 3.0]),  # an epoch for batch norm
    "weights averaged throughout": (Validated, {"others": ema, "val_check_interval": 0.5}, USUAL),
    "16-mixed": (Validated, {"precision": "16-mixed"}, USUAL),
    "bf16-mixed": (Validated, {"precision": "bf16-mixed"}, USUAL),
    "bf16-true": (Validated, {"precision": "bf16-true"}, USUAL),
    "16-true": (Validated, {"precision": "16-true"}, USUAL),
    "64-true": (Validated, {"precision": "64-true"}, USUAL),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error::lightning_nndyn.errors.NNDynWarning")
def test_the_record_is_right_and_training_is_what_it_is_without_us(case: str) -> None:
    kind, settings, wanted = CASES[case]
    callback, witness, _ = watched(kind, **settings)
    assert times(callback) == wanted
    assert witness.steps == sorted(witness.steps)


def test_each_time_is_read_after_the_step_that_it_names() -> None:
    _, witness, _ = watched(Noisy)
    batches = [2, 4, 8, 15, BATCHES]
    assert witness.steps == [0, *batches, 2 * BATCHES]
    _, witness, _ = watched(TwoOptimizers)  # the Trainer counts both optimizers' steps
    assert witness.steps == [0, *(2 * count for count in batches), 4 * BATCHES]
    _, witness, _ = watched(Validated, others=ema)
    assert witness.steps == [0, *batches, 2 * BATCHES]


def test_without_a_length_epoch_ends_are_read_and_validation_may_fall_anywhere() -> None:
    settings = {"val_check_interval": 7, "check_val_every_n_epoch": None, "limit_val_batches": 1}
    with pytest.warns(NNDynWarning, match="no length") as found:
        callback, witness, _ = watched(Streamed, **settings)
    assert len([warning for warning in found if warning.category is NNDynWarning]) == 1
    assert times(callback) == [0.0, 1.0, 2.0] and witness.steps == [0, BATCHES, 2 * BATCHES]


def test_averaging_weights_does_not_show_in_the_record_while_training_goes_on() -> None:
    averaged, _, model = watched(Validated, others=ema)
    plain, _, other = watched(Validated)
    assert averaged.history == plain.history
    assert statistics(model.net) != pytest.approx(
        statistics(other.net), rel=1e-3
    )  # at the end it is swapped in


def test_the_epoch_that_batch_norm_gets_after_averaging_has_the_averaged_weights() -> None:
    callback, _, model = watched(Validated, others=swa)
    assert callback.history[-1].statistics == pytest.approx(statistics(model.net), rel=1e-5, abs=1e-6)
    assert callback.history[-2].statistics != pytest.approx(statistics(model.net), rel=1e-5, abs=1e-6)


def test_steps_that_a_gradient_scaler_skips_are_waited_for() -> None:
    def scaler() -> dict[str, Any]:
        return {
            "plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**24))]
        }

    class Fresh(Noisy):
        def __init__(self) -> None:
            super().__init__()
            self.moved: list[bool] = []

        def on_train_batch_end(self, *_: Any) -> None:
            weight = self.net[0].weight.detach().clone()
            self.moved.append(not torch.equal(weight, self.start) if self.moved else False)
            self.start = weight

        def on_train_start(self) -> None:
            self.start = self.net[0].weight.detach().clone()

    def fit(*callbacks: Any) -> Run:
        return run(Fresh, *callbacks, **scaler())

    callback = watcher(None, action="observe")
    witness = Witness(callback)
    plain, within = fit(), fit(callback, witness)
    assert_bit_equal(plain, within)
    first = within[0].moved.index(True)  # batch, counted from 0
    assert first >= 2 and times(callback) == USUAL  # a sixteenth of the epoch is due after two batches
    late = [i for i, count in enumerate((2, 4, 8, 15), start=1) if count <= first]
    assert late
    next_one = callback.history[late[-1] + 1].statistics
    assert all(callback.history[i].statistics == next_one != callback.history[0].statistics for i in late)
