"""A pack of runs gives the records that each run gives when it is trained by itself.

On the CPU the steps are called one after the other; the tests marked `cuda` launch them as CUDA graphs.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_nndyn.corpus import (
    GridPreset,
    ImageData,
    RunConfig,
    RunRecord,
    get_preset,
    load_corpus,
    load_digits_data,
    run_corpus,
    runner,
    train_run,
)
from lightning_nndyn.corpus.packing import MODES, checked_device, default_mode, packs, train_pack
from lightning_nndyn.corpus.packing import members as members_module
from lightning_nndyn.corpus.packing.dropout import DropoutSite, with_masks
from lightning_nndyn.corpus.packing.graphs import Replay
from lightning_nndyn.corpus.packing.mask_bank import MaskBank
from lightning_nndyn.corpus.packing.optimizers import stacked_optimizer
from lightning_nndyn.corpus.packing.pictures import Pictures
from lightning_nndyn.corpus.packing.plans import StackedPlans
from lightning_nndyn.corpus.packing.stack import Stack
from lightning_nndyn.corpus.presets.zoo import schedule_factor
from lightning_nndyn.corpus.training.batches import BatchLoader, EpochPlanner
from lightning_nndyn.corpus.training.recorder import Run
from lightning_nndyn.corpus.training.train import make_optimizer
from lightning_nndyn.errors import CorpusError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
CPU = torch.device("cpu")
LENET = get_preset("lenet5-digits").scaled(epochs=3)  # 12 batches an epoch, the last of 29 images
ZOO: dict[str, Any] = {
    "kind": "cnn",
    "widths": (8, 12, 16),
    "activation": "gelu",
    "normalisation": "batch",
    "residual": True,
    "init_scale": 1.0,
    "hidden": (20,),
}


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_digits_data()


@pytest.fixture(scope="module")
def colour(data: ImageData) -> ImageData:
    """200 images in three channels that differ, 100 to test on."""
    shades = torch.tensor([1, 2, 4], dtype=torch.uint8).view(3, 1, 1)
    return replace(
        data,
        train_images=data.train_images[:200] // shades,
        train_labels=data.train_labels[:200],
        test_images=data.test_images[:100] // shades,
        test_labels=data.test_labels[:100],
    )


def lenets() -> list[RunConfig]:
    """Learning rates, dropouts, seeds, momentum, decay and schedules that differ; the last one diverges."""
    plain, slow, fast, wild = (LENET.config(index) for index in (402, 210, 455, 8))
    return [
        plain,
        replace(slow, momentum=0.5, weight_decay=0.01, schedule="warmup_cosine"),
        replace(fast, schedule="cosine"),
        replace(wild, learning_rate=1e4),
    ]


def small(index: int, **changes: Any) -> RunConfig:
    """A residual network with batch normalisation on `colour`: batches of 48, the last one of 8."""
    settings = {
        "preset": "test",
        "network": "zoo_network",
        "dataset": "digits",
        "index": index,
        "seed": 5 + index,
        "learning_rate": 0.05 * (1 + index),
        "dropout": 0.2 * index,
        "epochs": 2,
        "batch_size": 48,
        "crop_padding": 1,
        "network_options": ZOO,
    }
    return RunConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def singles(data: ImageData) -> list[RunRecord]:
    return [train_run(config, data) for config in lenets()]


def timeless(record: RunRecord) -> str:
    """The record as text without the wall times."""
    plain: dict[str, Any] = record.to_dict()
    plain["seconds"] = plain["curve"]["seconds"] = None
    return json.dumps(plain)


def assert_alike(packed: RunRecord, single: RunRecord, test_images: int, rel: float = 1e-3) -> None:
    """Equal up to arithmetic: early snapshots and losses within `rel`, accuracies within two test images.

    Snapshot 0 and all that was drawn by chance are equal to the last bit.
    """
    assert packed.config == single.config and packed.departures == single.departures
    assert (packed.reason, packed.failed, packed.diverged_epoch) == (
        single.reason,
        single.failed,
        single.diverged_epoch,
    )
    assert packed.snapshots[0] == single.snapshots[0] and packed.weights[0] == single.weights[0]
    assert [one.epoch for one in packed.snapshots] == [one.epoch for one in single.snapshots]
    for ours, theirs in zip(packed.snapshots, single.snapshots, strict=True):
        assert ours.statistics == pytest.approx(theirs.statistics, rel=rel, abs=1e-6, nan_ok=True)
    np.testing.assert_allclose(packed.losses, single.losses, rtol=rel)
    assert packed.curve["learning_rate"] == single.curve["learning_rate"]
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(packed.curve[name], single.curve[name], rtol=rel)
    for name in ("train_accuracy", "test_accuracy"):
        np.testing.assert_allclose(packed.curve[name], single.curve[name], atol=2.01 / test_images)


# --- The whole pack -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
def test_a_pack_of_lenets_gives_the_records_of_single_runs(
    data: ImageData, singles: list[RunRecord], mode: str, device: str
) -> None:
    packed = train_pack(lenets(), data, device=device, mode=mode)
    assert [record.reason for record in packed][:3] == ["all epochs trained"] * 3
    assert packed[3].diverged_epoch is not None and packed[3].diverged_epoch < 1
    assert len(packed[3].curve["test_loss"]) == 1  # of a part of the first epoch
    assert packed[2].best_accuracy > 0.15  # it learns: nothing would be shown otherwise
    for ours, theirs in zip(packed, singles, strict=True):
        assert_alike(ours, theirs, len(data.test_labels))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"optimizer": "adam", "learning_rate": 0.003, "weight_decay": 0.01, "schedule": "step"},
        {"optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.3, "schedule": "warmup_cosine"},
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_batch_normalisation_colour_and_every_optimizer(
    colour: ImageData, changes: dict[str, Any], mode: str, device: str
) -> None:
    configs = [small(index, **changes) for index in range(2)]
    for packed, config in zip(train_pack(configs, colour, device=device, mode=mode), configs, strict=True):
        assert_alike(packed, train_run(config, colour), len(colour.test_labels), rel=2e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_a_resnet_side_by_side_by_default(colour: ImageData, device: str) -> None:
    configs = [
        small(
            index,
            network="resnet32",
            network_options={},
            epochs=1,
            images=96,
            batch_size=40,
            learning_rate=0.01,
        )
        for index in range(2)
    ]
    assert default_mode("resnet32") == "side-by-side" and default_mode("lenet5") == "stacked"
    for packed, config in zip(train_pack(configs, colour, device=device), configs, strict=True):
        assert_alike(packed, train_run(config, colour), len(colour.test_labels), rel=5e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
def test_a_pack_of_one_run(data: ImageData, singles: list[RunRecord], mode: str, device: str) -> None:
    (packed,) = train_pack(lenets()[:1], data, ["departs"], device=device, mode=mode)
    assert_alike(packed, replace(singles[0], departures=["departs"]), len(data.test_labels))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", ["stacked", "side-by-side"])
def test_bf16_is_as_near_as_bf16_is(colour: ImageData, mode: str, device: str) -> None:
    """Eight bits of precision: losses within a percent, the first steps' statistics within a few."""
    configs = [
        small(index, precision="bf16", network_options=ZOO | {"normalisation": "none"}) for index in (0, 1)
    ]
    for packed, config in zip(train_pack(configs, colour, device=device, mode=mode), configs, strict=True):
        single = train_run(config, colour)
        assert packed.config["precision"] == "bf16" and packed.reason == "all epochs trained"
        np.testing.assert_allclose(packed.curve["train_loss"], single.curve["train_loss"], rtol=0.01)
        assert packed.snapshots[1].statistics == pytest.approx(single.snapshots[1].statistics, rel=0.05)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", ["stacked", "stacked-bmm"])
def test_a_run_that_diverges_does_not_disturb_the_others(data: ImageData, mode: str, device: str) -> None:
    calm = lenets()
    calm[3] = replace(calm[3], learning_rate=1e-3)
    with_wild = train_pack(lenets(), data, device=device, mode=mode)
    without = train_pack(calm, data, device=device, mode=mode)
    assert with_wild[3].diverged_epoch is not None and without[3].diverged_epoch is None
    assert [timeless(one) for one in with_wild[:3]] == [timeless(one) for one in without[:3]]


def test_a_pack_ends_with_its_last_run(data: ImageData) -> None:
    wild = [replace(config, learning_rate=1e4, epochs=2000, schedule="constant") for config in lenets()]
    packed = train_pack(wild, data, device="cpu")
    assert all(record.diverged_epoch is not None and record.diverged_epoch <= 1 for record in packed)
    assert [len(record.curve["test_accuracy"]) for record in packed] == [1] * 4


def test_seconds_are_shared_out_and_the_callers_state_is_left(data: ImageData) -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    packed = train_pack(lenets()[:2], data, device="cpu")
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    for record in packed:
        assert 0 < sum(record.curve["seconds"]) <= record.seconds


@pytest.mark.parametrize("mode", ["stacked", "side-by-side"])
def test_a_failing_snapshot_ends_its_run_alone(
    data: ImageData, singles: list[RunRecord], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = Run.snapshot

    def fails(self: Run, moment: float, losses: Tensor) -> bool:
        if self.config.index == 210 and moment == 0.5:
            raise RuntimeError("no convergence")
        return snapshot(self, moment, losses)

    monkeypatch.setattr(Run, "snapshot", fails)
    packed = train_pack(lenets(), data, device="cpu", mode=mode)
    assert packed[1].failed and packed[1].reason == "failed after epoch 0.25: RuntimeError: no convergence"
    assert packed[1].curve["test_accuracy"] == [] and len(packed[1].snapshots) == 4
    assert_alike(packed[0], singles[0], len(data.test_labels))


def test_a_run_that_cannot_start_is_a_record(data: ImageData) -> None:
    fine = lenets()[0]
    broken = replace(fine, dropout=2.0, index=77)
    packed = train_pack([broken, fine], data, device="cpu")
    assert packed[0].failed and packed[0].reason.startswith("failed before the first step: ValueError")
    alone = train_run(broken, data)
    assert timeless(replace(packed[0], versions=alone.versions)) == timeless(alone)
    assert not packed[1].failed and packed[1].index == fine.index


# --- What cannot be packed ----------------------------------------------------------------------------------


def test_an_odd_run_is_named(data: ImageData) -> None:
    one, other = lenets()[:2]
    with pytest.raises(CorpusError, match=r"run 210 has batch_size=64, run 402 128: .* packs of their own"):
        train_pack([one, replace(other, batch_size=64)], data, device="cpu")


def test_devices_and_modes_that_are_not_there(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match="mode='piled' is unknown: choose from stacked"):
        train_pack(lenets(), data, device="cpu", mode="piled")
    with pytest.raises(CorpusError, match="device='meta': runs are packed on 'cuda'"):
        train_pack(lenets(), data, device="meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CorpusError, match="torch sees no CUDA device; train without --pack"):
        train_pack(lenets(), data)


def test_memory_that_runs_out_asks_for_a_smaller_pack(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setattr(members_module, "Stack", full)
    with pytest.raises(CorpusError, match=r"with 4 runs in a pack \(tried .*\): .* a smaller --pack"):
        train_pack(lenets(), data, device="cpu")


def test_networks_of_other_layers_are_not_stacked(data: ImageData) -> None:
    """A network may have a layer more with dropout than without."""
    one, other = (Run(small(index), data, 10) for index in (0, 1))
    other.model = nn.Sequential(other.model)
    with pytest.raises(CorpusError, match="run 1 has other layers than run 0: train them side by side"):
        members_module.Stack([one, other], [], Pictures(data, 1, CPU), ThreadPoolExecutor(1))


def test_dropout_of_another_kind_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout2d(0.5))
    with pytest.raises(CorpusError, match="layer '1' is a Dropout2d: only Dropout can be packed"):
        with_masks(network, torch.zeros(2, 1, 8, 8), None)


# --- Its parts ----------------------------------------------------------------------------------------------

SITES = [  # one of feature maps that lie channels last
    DropoutSite("first", (6, 4, 5), (0, 2, 3, 1)),
    DropoutSite("second", (40,), (0, 1)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_masks_are_those_of_dropout_layers_on_the_cpu(device: str, dtype: torch.dtype) -> None:
    """Bit by bit, over epochs with a smaller last batch, and over many chunks of masks drawn ahead."""
    sizes, epochs, dropouts = [32, 32, 7], 30, [[0.3, 0.3], [0.0, 0.0], [0.9, 0.1], [1.0, 0.5]]
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    states = [generator.get_state() for generator in generators]
    with ThreadPoolExecutor(2) as workers:
        bank = MaskBank(SITES, dropouts, generators, sizes, epochs, torch.device(device), workers)
        assert bank.chunk * 2 < bank.steps
        for size in sizes * epochs:
            bank.advance()
            masks = bank.masks(size)
            for run, own in enumerate(dropouts):
                torch.set_rng_state(states[run])
                for site, p, (mask, scale) in zip(SITES, own, masks, strict=True):
                    ones = torch.ones(size, *site.shape, dtype=dtype)
                    ones = ones.to(memory_format=torch.channels_last) if ones.dim() == 4 else ones
                    dropped = nn.Dropout(p)(ones)
                    ours = mask[run].to(dtype) * scale[run].to(dtype)
                    assert torch.equal(ours.cpu(), dropped)
                states[run] = torch.get_rng_state()
            bank.next_slot()


def test_masks_are_not_drawn_where_nothing_is_dropped() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    with ThreadPoolExecutor(1) as workers:
        bank = MaskBank(SITES, [[0.0, 0.0]], [generator], [32], 3, CPU, workers)
        bank.advance()
    assert bank.masks(32) == [] and torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_stacked_optimizers_step_as_those_of_torch(optimizer: str, device: str) -> None:
    """Each row as its own optimizer would, over a whole schedule; one run has no decay, one no momentum."""
    configs = [
        small(0, optimizer=optimizer, learning_rate=0.05, weight_decay=0.0, momentum=0.95),
        small(1, optimizer=optimizer, learning_rate=0.2, weight_decay=0.5, momentum=0.9, schedule="cosine"),
        small(2, optimizer=optimizer, learning_rate=0.01, weight_decay=0.1, momentum=0.0, schedule="step"),
    ]
    weights, gradients = torch.randn(3, 50), torch.randn(40, 3, 50)
    ours = weights.to(device, copy=True)
    stacked = stacked_optimizer(configs, 40, ours)
    factors = stacked.factors(range(40)).float().to(device)
    for step in range(40):
        stacked.update(ours, gradients[step].to(device), factors[step])
    for run, config in enumerate(configs):
        theirs = nn.Parameter(weights[run].clone())
        single = make_optimizer(config, iter([theirs]))
        for step in range(40):
            single.param_groups[0]["lr"] = config.learning_rate * schedule_factor(config.schedule, step / 40)
            theirs.grad = gradients[step, run].clone()
            single.step()
        assert (theirs - weights[run]).abs().mean() > 0.01
        torch.testing.assert_close(ours[run].cpu(), theirs.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_batches_are_those_of_the_loader(colour: ImageData, device: str) -> None:
    """To the last bit: order, crops, mirrored images, values and layout."""
    configs = [small(0, crop_padding=2), small(1, crop_padding=2, flip=False)]
    pictures = Pictures(colour, 2, torch.device(device))
    loaders = [BatchLoader(config, colour) for config in configs]
    with ThreadPoolExecutor(1) as workers:
        planners = [EpochPlanner(config, 200) for config in configs]
        plans = StackedPlans(planners, 2, torch.device(device), workers)
        for _ in range(2):
            plans.advance()
            for batch, ones in enumerate(zip(*loaders, strict=True)):
                places = torch.arange(48 * batch, min(48 * (batch + 1), 200), device=device)
                images, labels = pictures.batch(plans.batch(places))
                for run, (expected, classes) in enumerate(ones):
                    assert torch.equal(images[run].cpu(), expected) and torch.equal(
                        labels[run].cpu(), classes
                    )
                    assert images[run].stride() == expected.stride()


def test_tracing_draws_nothing_and_leaves_the_network(colour: ImageData) -> None:
    run = Run(small(1), colour, 5)
    before, state = torch.get_rng_state(), {name: one.clone() for name, one in run.model.state_dict().items()}
    _, feed = with_masks(run.model, colour.normalise(colour.train_images[:2]), None)
    assert [site.shape for site in feed.sites] == [(16,), (20,)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, state[name]) for name, one in run.model.state_dict().items())


class FakeGraph:
    """Stands for a CUDA graph on the CPU: what is recorded is called, by `replay` alone."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.replay = work


def test_trial_steps_before_a_recording_are_undone(
    data: ImageData, colour: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, running means, optimizer, counters and masks go on as if the step had not been tried."""
    configs = [small(index, optimizer="adam", learning_rate=0.003) for index in range(2)]
    expected = [*train_pack(configs, colour, device="cpu"), *train_pack(lenets(), data, device="cpu")]
    initialise, tries = Replay.__init__, []

    def record(self: Replay) -> FakeGraph:
        kept = [tensor.detach().clone() for tensor in self.state]
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "CUDAGraph", lambda: None)
            patch.setattr(torch.cuda, "current_stream", lambda: None)
            patch.setattr(torch.cuda, "graph", lambda *_, **__: nullcontext())
            work = self.work
            self.work = lambda: tries.append(work())  # type: ignore[func-returns-value]
            genuine(self)
            self.work = work
        for tensor, before in zip(self.state, kept, strict=True):  # a recording runs nothing on a GPU
            tensor.detach().copy_(before)
        return FakeGraph(work)

    def on_a_gpu(self: Replay, work: Callable[[], None], state: Sequence[Tensor], _: object) -> None:
        initialise(self, work, state, (0, 0))

    genuine = Replay._record
    monkeypatch.setattr(Replay, "_record", record)
    monkeypatch.setattr(Replay, "__init__", on_a_gpu)
    tried = [*train_pack(configs, colour, device="cpu"), *train_pack(lenets(), data, device="cpu")]
    assert len(tries) == 4 * (2 + 2 + 2)  # three trials and a recording, of whole batches and the last ones
    assert [timeless(one) for one in tried] == [timeless(one) for one in expected]


@pytest.mark.cuda
@pytest.mark.parametrize("mode", MODES)
def test_a_recorded_step_does_what_the_step_does(
    colour: ImageData, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [small(index, weight_decay=0.01) for index in range(3)]
    recorded = train_pack(configs, colour, device="cuda", mode=mode)
    monkeypatch.setattr(Replay, "__call__", lambda self: self.work())
    eager = train_pack(configs, colour, device="cuda", mode=mode)
    for ours, theirs in zip(recorded, eager, strict=True):
        assert_alike(ours, theirs, len(colour.test_labels), rel=1e-4)


def test_runs_are_packed_in_order_with_those_they_share_all_with() -> None:
    lenets = [LENET.config(index) for index in range(5)]
    others = [replace(config, batch_size=64) for config in lenets[:3]]
    mixed = [one for pair in zip(lenets, others, strict=False) for one in pair] + lenets[3:]
    grouped = [[(config.index, config.batch_size) for config in pack] for pack in packs(mixed, "cpu", 2)]
    assert grouped == [
        [(0, 128), (1, 128)],
        [(0, 64), (1, 64)],
        [(2, 128), (3, 128)],
        [(2, 64)],
        [(4, 128)],
    ]
    assert [len(pack) for pack in packs(lenets, "cpu", None)] == [1] * 5
    assert [len(pack) for pack in packs(lenets, "cuda", None)] == [5]


TINY = GridPreset(
    "tiny", "lenet5", "digits", learning_rates=(0.02, 0.05, 1e4), dropouts=(0.0, 0.5),
    crop_padding=1, flip=False, epochs=2, images=256, test_images=100,
)  # fmt: skip


def test_a_corpus_of_packs_is_the_corpus_of_its_runs(tmp_path: Path) -> None:
    run_corpus(TINY, tmp_path / "packs", jobs=1, progress=False, pack=4)
    run_corpus(TINY, tmp_path / "runs", jobs=1, progress=False)
    packed, single = load_corpus(tmp_path / "packs"), load_corpus(tmp_path / "runs")
    assert [record.index for record in packed] == [record.index for record in single] == list(range(6))
    for one, other in zip(packed, single, strict=True):
        assert one.snapshots[0] == other.snapshots[0] and one.diverged_epoch == other.diverged_epoch
        assert one.curve["test_accuracy"] == pytest.approx(other.curve["test_accuracy"], abs=0.02)
        assert (one.versions["device"], one.versions["pack"]) == ("cpu", "stacked")


class Clock:
    """A clock that goes on only where it is told to, so that a busy machine is as fast as another."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch, self._now = patch, 1e9
        for module in (members_module, runner):
            patch.setattr(module, "time", SimpleNamespace(time=self.now, perf_counter=self.now))

    def now(self) -> float:
        return self._now

    def takes(self, method: str, *seconds: float) -> None:
        """Say how long each call of a stack's method takes; the last value is that of all calls after it."""
        genuine, each = getattr(Stack, method), itertools.chain(seconds, itertools.repeat(seconds[-1]))

        def timed(*args: Any) -> Any:
            self._now += next(each)
            return genuine(*args)

        self._patch.setattr(Stack, method, timed)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_pack_that_cannot_end_in_time_is_given_up(data: ImageData, clock: Clock) -> None:
    clock.takes("test", 1.0)
    long = [replace(config, epochs=10_000) for config in lenets()[:2]]
    started = clock.now()
    assert train_pack(long, data, device="cpu", deadline=started + 30) == []
    assert clock.now() == started + 2, "the first epoch tells no pace, the second one does"


def test_no_pack_is_begun_that_would_be_given_up_as_well(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.takes("test", 1.0)
    begun: list[int] = []

    def counted(runs: Sequence[RunConfig], *args: Any, **settings: Any) -> list[RunRecord]:
        begun.append(len(runs))
        return train_pack(runs, *args, **settings)

    monkeypatch.setattr(runner, "train_pack", counted)
    run_corpus(replace(TINY, epochs=10_000), tmp_path, jobs=1, progress=True, pack=3, minutes=0.3)
    assert load_corpus(tmp_path) == [] and begun == [3]
    assert "3 runs were given up after" in " ".join(capsys.readouterr().out.split())
    run_corpus(replace(TINY, epochs=1), tmp_path / "short", jobs=1, progress=False, pack=3, minutes=0.3)
    assert len(load_corpus(tmp_path / "short")) == 6, "another call has another clock"


def test_setting_up_a_pack_is_no_pace(data: ImageData, clock: Clock) -> None:
    clock.takes("step", 2.0, 0.0)
    clock.takes("test", 0.5)
    some = [replace(config, epochs=5) for config in lenets()[:2]]
    assert len(train_pack(some, data, device="cpu", deadline=clock.now() + 6)) == 2


def test_a_pack_that_is_trained_is_kept_though_it_comes_late(data: ImageData, clock: Clock) -> None:
    clock.takes("test", 0.5, 0.5, 0.5, 8.0)
    few = [replace(config, epochs=4) for config in lenets()[:2]]
    deadline = clock.now() + 7
    assert len(train_pack(few, data, device="cpu", deadline=deadline)) == 2
    assert clock.now() > deadline


def test_memory_that_runs_out_is_not_held_by_recorded_steps(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks: list[Stack] = []

    def step(stack: Stack, *_: Any) -> None:
        stacks.append(stack)
        raise MemoryError

    monkeypatch.setattr(Stack, "step", step)
    with pytest.raises(CorpusError, match="memory"):
        train_pack(lenets()[:2], data, device="cpu")
    assert stacks and not any(stack.replays for stack in stacks)


@pytest.mark.parametrize(("device", "seen"), [("cuda:1", 1), ("cuda:4", 4)])
def test_a_card_that_is_not_there_is_named(device: str, seen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    with pytest.raises(CorpusError, match=f"{device}.*sees {seen} CUDA"):
        checked_device(device)
    assert checked_device(f"cuda:{seen - 1}").index == seen - 1


def test_an_empty_pack_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="pack=0"):
        run_corpus(TINY, tmp_path / "tiny", pack=0)
    assert not (tmp_path / "tiny").exists()
