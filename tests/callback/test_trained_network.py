"""What is read is what trains, whatever else a training step calls."""

from __future__ import annotations

import copy
import logging
import warnings
from typing import Any

import pytest
import torch
from callback_runs import Scripted, hooks, listening, times, trainer, watcher
from torch import Tensor, nn
from torch.nn import functional as F
from trained_networks import (
    Adversaries,
    Copied,
    Corrected,
    Ensemble,
    EnsembleOneByOne,
    Fast,
    Generated,
    Inferred,
    LearningToLearn,
    LowRank,
    Measured,
    Recomputed,
    Student,
    Taught,
    TaughtByDeeper,
    Unregistered,
    ValueLearner,
    layers,
    watch,
)

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

USUAL = [0.0, *DEFAULT_TIMES, 1.0, 2.0]
STUDENT = ["net.0", "net.2", "net.4"]
CASES: dict[type[Student], list[str]] = {
    Taught: STUDENT,
    TaughtByDeeper: STUDENT,
    Inferred: STUDENT,
    Measured: STUDENT[:2],
    ValueLearner: STUDENT,
    Recomputed: STUDENT,
    Adversaries: ["net.0", "net.2", "critic.0", "critic.2"],
    Ensemble: ["stacked.0", "stacked.2"],
    EnsembleOneByOne: ["stacked.0", "stacked.2"],
    Fast: ["fast.0_weight", "fast.2_weight"],
    Generated: ["maker.0", "maker.2"],
    LearningToLearn: STUDENT,
    Copied: STUDENT,
}


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("topology", ["chain", "dataflow"])
@pytest.mark.filterwarnings("error::lightning_nndyn.errors.NNDynWarning")
def test_the_network_that_trains_is_read(kind: type[Student], topology: Any) -> None:
    callback, model = watch(kind, topology=topology)
    assert times(callback) == USUAL and hooks(model) == 0
    found = {name.partition("#")[0] for name in callback.history[-1].layers} - {"input", "constant"}
    assert found == set(CASES[kind])
    assert all(distance > 0 for distance in callback.history[-1].distances)


def test_a_member_of_an_ensemble_is_read_as_it_is() -> None:
    callback, model = watch(Ensemble)
    first, second = (model.stacked[place].detach()[0] for place in (0, 2))
    degrees = torch.cat([first.abs().sum(0), first.abs().sum(1) + second.abs().sum(0), second.abs().sum(1)])
    mean = callback.history[-1].statistics[1]
    assert mean == pytest.approx(float(degrees.mean()), rel=1e-5)


# -- frozen layers -------------------------------------------------------------------------------------------


class Frozen(Student):
    frozen = (0, 2)

    def __init__(self) -> None:
        super().__init__()
        for place in self.frozen:
            self.net[place].requires_grad_(False)


class FrozenWithin(Frozen):
    frozen = (2,)


class FrozenEnd(Frozen):
    frozen = (4,)


class FrozenBelow(Frozen):
    """The backbone runs without gradients."""

    def outputs(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.net[:3](x)
        return self.net[3:](x)


@pytest.mark.parametrize("kind", [Frozen, FrozenWithin, FrozenEnd, FrozenBelow])
def test_frozen_layers_of_a_trained_network_are_read_and_it_is_said(
    kind: type[Frozen], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), listening(caplog):
        callback, _ = watch(kind)
    names = [name for place, name in enumerate(STUDENT) if 2 * place in kind.frozen]
    said = f"frozen, and read with the layers that train: {', '.join(names)}"
    assert caplog.text.count(said) == 1
    assert list(callback.history[-1].layers) == ["input", *STUDENT]
    still = [name for name, moved in zip(STUDENT, callback.history[-1].distances, strict=True) if not moved]
    assert still == names


class Beside(Student):
    """A deeper frozen network's features stand beside those that are learned."""

    def __init__(self) -> None:
        super().__init__(layers(64, 16, 16))
        self.features, self.head = layers(64, 8, 8, 8, 8).requires_grad_(False), nn.Linear(24, 10)

    def outputs(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.net(x), self.features(x)], 1))


def test_a_path_that_trains_comes_before_a_longer_one_that_does_not() -> None:
    callback, _ = watch(Beside)
    assert list(callback.history[-1].layers) == ["input", "net.0", "net.2", "head"]


# -- weights that stand still --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LowRank, Corrected])
def test_weights_that_stand_still_while_the_loss_moves_are_not_judged(kind: type[Student]) -> None:
    with pytest.warns(NNDynWarning, match="have not moved, and the loss has.*layers=") as found:
        callback, _ = watch(kind)
    assert len([one for one in found if one.category is NNDynWarning]) == 1
    assert times(callback) == USUAL and callback.verdicts == [] and not callback.decision.stop
    assert "have not moved" in callback.decision.reason


def test_weights_and_a_loss_that_stand_still_are_neither_judged_nor_warned_of() -> None:
    class Idle(Student):
        def __init__(self) -> None:
            super().__init__(lr=0.0)

    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        callback, _ = watch(Idle)
    assert times(callback) == USUAL and callback.verdicts == []


def test_weights_of_nobody_are_refused_in_words() -> None:
    with pytest.warns(NNDynWarning, match=r"not parameters of the model \(net\.0, net\.2\)") as found:
        callback, model = watch(Unregistered)
    assert len([one for one in found if one.category is NNDynWarning]) == 1
    assert callback.history == [] and callback.verdicts == [] and hooks(model) == 0


# -- steps without a loss ------------------------------------------------------------------------------------


class Late(Student):
    """The first steps run another layer, and return nothing."""

    wait = 3

    def __init__(self) -> None:
        super().__init__()
        self.other = layers(64, 8, 8, 8, 8)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        if self.trainer.fit_loop.total_batch_idx < self.wait:
            self.other(batch[0].flatten(1))
            return None
        return super().training_step(batch, batch_idx)


class LateByHand(Late):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        optimizer, loss = self.optimizers(), super().training_step(batch, batch_idx)
        optimizer.zero_grad()
        if loss is not None:
            self.manual_backward(loss)
        optimizer.step()
        return loss


@pytest.mark.parametrize("kind", [Late, LateByHand])
@pytest.mark.filterwarnings("error::lightning_nndyn.errors.NNDynWarning")
def test_the_first_batch_with_a_loss_is_watched(kind: type[Late]) -> None:
    callback, model = watch(kind)
    assert times(callback) == USUAL and list(callback.history[-1].layers) == ["input", *STUDENT]
    assert hooks(model) == 0 and callback.verdicts


class Warmed(Late):
    """The first steps train another layer, and return its loss."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        return F.cross_entropy(self.other(batch[0].flatten(1)), batch[1] % 8) if loss is None else loss


def test_where_another_network_trains_from_a_later_batch_on_it_is_said() -> None:
    with pytest.warns(NNDynWarning, match=r"other\.0 had 8 nodes, and has 0 now") as found:
        callback, model = watch(Warmed)
    assert len([one for one in found if one.category is NNDynWarning]) == 1
    assert not callback.decision.stop and hooks(model) == 0


def test_after_a_whole_epoch_without_a_loss_weights_are_read_and_not_judged() -> None:
    class VeryLate(Late):
        wait = 20

    with pytest.warns(NNDynWarning, match="1 epochs have passed before the first loss"):
        callback, _ = watch(VeryLate, epochs=3)
    assert times(callback) == [0.0, 2.0, 3.0] and callback.verdicts == []


# -- layers that are replaced --------------------------------------------------------------------------------


class Changing(Student):
    """Changes its network when the second epoch begins, or within it."""

    within = False

    def change(self) -> nn.Module:
        return copy.deepcopy(self.net)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1 and not self.within:
            self.exchange(self.change())

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.current_epoch == 1 and self.within and batch_idx == 5:
            self.exchange(self.change())


class CopiedWithin(Changing):
    within = True


class Relearned(Changing):
    """The head begins anew."""

    def change(self) -> nn.Module:
        self.net[-1].reset_parameters()
        return nn.Sequential(*self.net[:-1], copy.deepcopy(self.net[-1]))


class Renamed(Changing):
    def change(self) -> nn.Module:
        return nn.Sequential(self.net)


class TaughtFromNowOn(Changing):
    """Another network appears, which is not on the path."""

    def change(self) -> nn.Module:
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)
        return self.net


@pytest.mark.parametrize("kind", [Changing, CopiedWithin, Relearned, Renamed, TaughtFromNowOn])
@pytest.mark.filterwarnings("error::lightning_nndyn.errors.NNDynWarning")
def test_layers_that_are_replaced_by_the_like_are_read_on(kind: type[Changing]) -> None:
    callback, model = watch(kind, epochs=3)
    assert times(callback) == [*USUAL, 3.0] and len(callback.verdicts) == len(callback.history) - 1
    weights = [p.detach().abs() for p in model.net.parameters() if p.dim() > 1]
    mean = 2 * sum(float(w.sum()) for w in weights) / (64 + 16 + 16 + 10)
    assert callback.history[-1].statistics[1] == pytest.approx(mean, rel=1e-5)


class Widened(Changing):
    def change(self) -> nn.Module:
        return nn.Sequential(*self.net[:-1], nn.Linear(16, 12))


class WidenedWithin(Widened):
    within = True


class Deepened(Changing):
    def change(self) -> nn.Module:
        return nn.Sequential(*self.net, nn.ReLU(), nn.Linear(10, 10))


class Resized(Changing):
    """In place: the module stays the same."""

    def change(self) -> nn.Module:
        head = self.net[-1]
        head.weight, head.bias = nn.Parameter(torch.zeros(12, 16)), nn.Parameter(torch.zeros(12))
        return self.net


@pytest.mark.parametrize("kind", [Widened, WidenedWithin, Deepened, Resized])
def test_layers_that_are_replaced_by_others_end_the_judgement_in_words(kind: type[Changing]) -> None:
    with pytest.warns(NNDynWarning, match=r"layers were changed while training \(net") as found:
        callback, model = watch(kind, epochs=3)
    assert len([one for one in found if one.category is NNDynWarning]) == 1
    assert times(callback) == USUAL[:-1] and hooks(model) == 0
    assert "layers were changed" in callback.decision.reason


class WarmedUp(Student):
    """The first batches train a part that is not used again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 10)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        if self.global_step >= 3:
            return super().training_step(batch, batch_idx)
        return F.cross_entropy(self.first(batch[0].flatten(1)), batch[1])


def test_where_the_first_batches_train_another_part_the_way_out_works() -> None:
    with pytest.warns(
        NNDynWarning, match=r"first batches only train another part .* layers=\[\.\.\.\]"
    ) as found:
        callback, _ = watch(WarmedUp)
    assert len([one for one in found if one.category is NNDynWarning]) == 1
    assert not callback.decision.stop
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        callback, _ = watch(WarmedUp, layers=STUDENT)
    assert times(callback)[-2:] == [1.0, 2.0] and list(callback.history[-1].layers) == ["input", *STUDENT]
    assert all(distance > 0 for distance in callback.history[-1].distances)


def test_a_decision_to_stop_stays_whatever_becomes_of_the_layers() -> None:
    with pytest.warns(NNDynWarning, match="layers were changed"):
        callback, _ = watch(Widened, **{"given": Scripted({0.5: 1.0}), "threshold": 0.5})
    assert callback.decision.stop and callback.decision.epoch == 0.5


def test_a_run_that_is_resumed_with_other_layers_is_judged_no_more() -> None:
    run, model = trainer(watcher("universal", threshold=None), max_epochs=1, limit_train_batches=8), Student()
    run.fit(model)
    model.net[-1] = nn.Linear(16, 12)
    run.fit_loop.max_epochs = 2
    with pytest.warns(NNDynWarning, match="106 nodes .* before the run was resumed, and has 108"):
        run.fit(model)
    (callback,) = (one for one in run.callbacks if isinstance(one, GraphDynamicsCallback))
    assert times(callback) == USUAL[:-1] and "layers were changed" in callback.decision.reason
