"""The preset `sweeps`: what it draws, and the networks it trains."""

import json
import math
from collections import Counter
from dataclasses import fields, replace
from itertools import groupby
from typing import Any

import pytest
import torch
from torch import nn

from lightning_nndyn import rolled_graph, weighted_degree
from lightning_nndyn.corpus import RunConfig, SweepPreset, get_preset
from lightning_nndyn.corpus.presets.sweeps.families import FAMILIES, IMAGES
from lightning_nndyn.corpus.presets.sweeps.networks import sweep_network
from lightning_nndyn.corpus.presets.sweeps.spaces import STYLES
from lightning_nndyn.corpus.run_config import OPTIMIZERS
from lightning_nndyn.corpus.training.arrays import ArrayData
from lightning_nndyn.corpus.training.recorder import chain_and_flow
from lightning_nndyn.corpus.training.run_data import ARRAYS, array_data, data_of_run
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
