"""The preset `sweeps`: what is drawn, from what data, by which networks, optimizers and schedules."""

import json
import math
from collections import Counter
from dataclasses import fields, replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_nndyn import rolled_graph, weighted_degree
from lightning_nndyn.corpus import RunConfig, SweepPreset, get_preset, load_digits_data
from lightning_nndyn.corpus.presets.sweeps.families import FAMILIES, IMAGES
from lightning_nndyn.corpus.presets.sweeps.networks import sweep_network
from lightning_nndyn.corpus.presets.sweeps.spaces import STYLES
from lightning_nndyn.corpus.run_config import OPTIMIZERS
from lightning_nndyn.corpus.training.arrays import ArrayData, ArrayLoader
from lightning_nndyn.corpus.training.optimizers import Lion, make_optimizer
from lightning_nndyn.corpus.training.recorder import chain_and_flow
from lightning_nndyn.corpus.training.run_data import ARRAYS, array_data, data_of_run, part_of_images
from lightning_nndyn.corpus.training.schedules import learning_rate_factor
from lightning_nndyn.corpus.training.sequences import SEQUENCE_TASKS, SequenceSizes, make_sequences
from lightning_nndyn.errors import CorpusError

PRESET = get_preset("sweeps")
assert isinstance(PRESET, SweepPreset)
CONFIGS = [PRESET.config(index) for index in range(len(PRESET))]
SWEEPS = [PRESET.sweep(number) for number in range(PRESET.sweeps)]


# What is drawn


def test_there_are_120_sweeps_of_20_to_32_runs() -> None:
    runs = Counter(config.sweep for config in CONFIGS)
    assert len(runs) == 120 and len(CONFIGS) >= 3000
    assert min(runs.values()) >= 20 and max(runs.values()) <= 32
    assert [config.index for config in CONFIGS] == list(range(len(CONFIGS)))
    assert {sweep.space.style for sweep in SWEEPS} == set(STYLES)


def test_all_families_data_sets_and_optimizers_are_met() -> None:
    assert {config.family for config in CONFIGS} == set(FAMILIES)
    assert {config.dataset for config in CONFIGS} == {*IMAGES, *ARRAYS} == set(PRESET.datasets)
    assert {config.optimizer for config in CONFIGS} == set(OPTIMIZERS)
    searched = Counter(name for sweep in SWEEPS for name in {one.name for one in sweep.space.dimensions})
    for name in ("learning_rate", "optimizer", "weight_decay", "batch_size", "dropout", "label_smoothing",
                 "gradient_clip", "warmup", "schedule", "augmentation", "initialisation", "width", "depth",
                 "normalisation"):  # fmt: skip
        assert searched[name] >= 5, name


def test_whole_sweeps_come_one_after_the_other_and_families_take_turns() -> None:
    order = [index for index, _ in PRESET.order(0.7)]
    numbers = [number for number, _ in groupby(CONFIGS[index].sweep for index in order)]
    assert numbers == list(range(120))
    for first in range(0, 100, 20):
        some = {sweep.task.family for sweep in SWEEPS[first : first + 20]}
        assert len(some) >= 11 and len({sweep.task.dataset for sweep in SWEEPS[first : first + 20]}) >= 7


def test_epochs_and_steps_are_as_planned() -> None:
    for config in CONFIGS:
        assert config.images is not None
        assert 8 <= config.epochs <= 40 and 5 <= math.ceil(config.images / config.batch_size) <= 500
        assert config.images % 4 == 0 and config.batch_size % 4 == 0  # no last batch of one


def test_runs_of_a_sweep_differ_in_what_is_searched_alone() -> None:
    told = {"index", "seed", "searched", "network_options"}
    for _, runs in groupby(CONFIGS, key=lambda config: config.sweep):
        first, *rest = runs
        assert len(first.searched) >= 2
        free = told | set(first.searched) & {field.name for field in fields(RunConfig)}
        if "augmentation" in first.searched:
            free |= {"crop_padding", "flip"}
        if "optimizer" in first.searched:
            free |= {"learning_rate", "momentum"}
        for run in rest:
            changed = {name: getattr(run, name) for name in free}
            assert replace(first, **changed) == run
            assert run.searched.keys() == first.searched.keys()


def test_a_run_is_drawn_by_itself_and_written_down() -> None:
    config = CONFIGS[1234]
    assert get_preset("sweeps").config(1234) == config
    assert RunConfig.from_record(json.loads(json.dumps(config.__dict__))).searched == config.searched
    other = PRESET.scaled(seed=1, epochs=5)
    assert other.config(0).seed != CONFIGS[0].seed and other.config(0).epochs == 5
    assert any("half" in text or "50%" in text for text in PRESET.departures())


# Data


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_made_alike_each_time(name: str) -> None:
    data, again = array_data(name), array_data(name)
    assert data.fingerprint() == again.fingerprint()
    for inputs, labels in ((data.train_inputs, data.train_labels), (data.test_inputs, data.test_labels)):
        assert len(inputs) == len(labels) > 50 and inputs.dim() == 2
        assert set(labels.tolist()) == set(range(len(data.classes)))
        assert inputs.isfinite().all() if not data.vocabulary else inputs.max() < data.vocabulary


def test_made_data_follow_their_options_and_their_seed() -> None:
    options = {"seed": 3, "samples": 200, "symbols": 4, "classes": 3, "length": 10}
    data = array_data("languages", options)
    assert data.train_inputs.shape == (200, 10) and len(data.classes) == 3 and data.vocabulary == 4
    assert data.fingerprint() != array_data("languages", options | {"seed": 4}).fingerprint()
    table = array_data("blobs", {"seed": 3, "samples": 200, "features": 30, "classes": 5, "noise": 0.1})
    assert table.shape == (30,) and len(table.classes) == 5
    assert table.train_inputs.mean(0).abs().max() < 1e-5


def _rule(task: str, tokens: list[int], symbols: int) -> int:
    """What the labels say, once more and slowly."""
    half = len(tokens) // 2
    if task == "brackets":
        heights = np.cumsum([1 if token == 0 else -1 for token in tokens])
        return int(heights.min() >= 0 and heights[-1] == 0)
    if task == "lookup":
        pairs = {tokens[2 * place]: tokens[2 * place + 1] for place in range(half)}
        return pairs[tokens[-1]]
    rules = {
        "parity": sum(tokens) % 2,
        "majority": max(range(symbols), key=tokens.count),
        "modular_sum": sum(tokens) % symbols,
        "first_token": tokens[0],
        "repetition": int(tokens[:half] == tokens[half:]),
    }
    return rules[task]


@pytest.mark.parametrize("task", sorted(set(SEQUENCE_TASKS) - {"languages"}))
def test_labels_of_sequences_keep_their_rule(task: str) -> None:
    made = make_sequences(task, 300, SequenceSizes(length=8, symbols=5), 7)
    expected = [_rule(task, tokens.tolist(), 5) for tokens in made.tokens]
    assert made.labels.tolist() == expected
    assert Counter(expected).most_common(1)[0][1] < 0.6 * 300


def test_a_part_of_images_has_some_classes_at_fewer_pixels() -> None:
    digits = load_digits_data()
    part = part_of_images(digits, 60, 30, classes=[7, 2, 4], pixels=4, seed=1)
    assert part.shape == (1, 4, 4) and part.classes == ("7", "2", "4")
    assert torch.bincount(part.train_labels).tolist() == [20] * 3
    assert torch.bincount(part.test_labels).tolist() == [10] * 3
    other = part_of_images(digits, 60, 30, classes=[7, 2, 4], pixels=4, seed=2)
    assert not torch.equal(part.train_images, other.train_images)
    assert torch.equal(part.test_images, other.test_images)  # all runs are tested on the same
    whole = part_of_images(digits, None, None, classes=[7, 2, 4])
    sevens = digits.train_images[digits.train_labels == 7]
    assert torch.equal(whole.train_images[whole.train_labels == 0], sevens)


def test_batches_of_arrays_cover_an_epoch_in_another_order_each_time() -> None:
    data = array_data("parity", {"samples": 100}).subset(90, None)
    loader = ArrayLoader(replace(CONFIGS[0], batch_size=40), data)
    first, second = (list(loader) for _ in range(2))
    assert len(loader) == 3 and [len(labels) for _, labels in first] == [40, 40, 10]
    seen = [torch.cat([inputs for inputs, _ in epoch]) for epoch in (first, second)]
    assert not torch.equal(*seen) and torch.equal(*(torch.unique(one, dim=0) for one in seen))


# Networks and their graphs


def _example(config: RunConfig) -> tuple[nn.Module, torch.Tensor]:
    """A run's network and two inputs, images being noise."""
    options, classes = dict(config.network_options), 10
    if config.dataset in IMAGES:
        shape = (1 if config.dataset == "digits" else 3, config.data_options["pixels"])
        options |= {"in_channels": shape[0], "image_size": shape[1]}
        inputs = torch.randn(2, shape[0], shape[1], shape[1])
    else:
        data = data_of_run(config, array_data(config.dataset))
        assert isinstance(data, ArrayData)
        inputs = data.train_inputs[:2]
        tokens = {"vocabulary": data.vocabulary, "length": data.shape[0]}
        options |= tokens if data.vocabulary else {"features": data.shape[0]}
    return sweep_network(classes, config.dropout, **options), inputs


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_of_a_family_are_read_on_both_graphs(family: str) -> None:
    numbers = [number for number, sweep in enumerate(SWEEPS) if sweep.task.family == family][:3]
    firsts = {config.sweep: config for config in reversed(CONFIGS)}
    for number in numbers:
        model, inputs = _example(firsts[number])
        logits = model(inputs)
        assert logits.shape == (2, 10) and logits.isfinite().all()
        logits.sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        chain, flow = chain_and_flow(model, inputs)
        assert chain.depth <= flow.depth and chain.num_edges <= flow.num_edges
        assert set(chain.layer_names) <= {*flow.layer_names, "input"}
        if family in ("resnet", "vit", "transformer", "unet"):
            assert chain.num_edges < flow.num_edges


@pytest.mark.parametrize("kind", ["plain_cnn", "vgg", "resnet"])
def test_the_longest_path_is_the_main_path_that_is_traced_without_the_data_flow(kind: str) -> None:
    options: dict[str, Any] = {"kind": kind, "width": 8, "depth": 2, "normalisation": "batch"}
    model, inputs = sweep_network(10, 0.1, in_channels=3, image_size=16, **options), torch.randn(2, 3, 16, 16)
    (chain, _), traced = chain_and_flow(model, inputs), rolled_graph(model, inputs)
    assert chain.layer_names == traced.layer_names and chain.num_edges == traced.num_edges
    assert torch.allclose(weighted_degree(chain), weighted_degree(traced), rtol=1e-6)


@pytest.mark.parametrize("wrong", [{"kind": "rbf"}, {"normalisation": "l2"}, {"initialisation": "zeros"}])
def test_an_unknown_option_names_its_choices(wrong: dict[str, str]) -> None:
    options: dict[str, Any] = {"kind": "mlp", "width": 8, "depth": 1} | wrong
    with pytest.raises(CorpusError, match=f"{next(iter(wrong))}='"):
        sweep_network(features=4, **options)


# Steps


def test_lion_steps_as_its_paper_says() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5))
    ours, momentum = weight.detach().clone(), torch.zeros(5)
    optimizer = Lion(iter([weight]), 0.01, (0.9, 0.99), 0.1)
    for _ in range(20):
        gradient = torch.randn(5)
        weight.grad = gradient.clone()
        optimizer.step()
        direction = torch.sign(0.9 * momentum + 0.1 * gradient)
        momentum = 0.99 * momentum + 0.01 * gradient
        ours = ours - 0.01 * (direction + 0.1 * ours)
        assert torch.allclose(weight.detach(), ours, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = nn.Linear(4, 1), torch.randn(64, 4)
    targets = inputs.sum(1, keepdim=True)
    config = replace(CONFIGS[0], optimizer=name, learning_rate=0.01, momentum=0.9, weight_decay=0.0)
    optimizer = make_optimizer(config, model.parameters())
    losses = []
    for _ in range(100):
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_one_cycle_is_torchs() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=1001, cycle_momentum=False)
    config = replace(CONFIGS[0], schedule="one_cycle", warmup=0.0)
    for step in range(1000):
        assert learning_rate_factor(config, step / 1000) == pytest.approx(
            scheduler.get_last_lr()[0], abs=5e-3
        )
        optimizer.step()
        scheduler.step()


def test_warm_up_comes_before_the_schedule() -> None:
    config = replace(CONFIGS[0], schedule="cosine", warmup=0.2)
    factors = [learning_rate_factor(config, progress) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert factors == pytest.approx([0.01, 0.505, 1.0, 0.5, 0.0])
    assert learning_rate_factor(replace(config, warmup=0.0), 0.5) == pytest.approx(0.5)
