"""The paper's grid, its order, its scaling."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_nndyn import models
from lightning_nndyn.corpus import PRESETS, get_preset, load_digits_data
from lightning_nndyn.corpus.presets.paper import GridPreset
from lightning_nndyn.corpus.training.network import build_network
from lightning_nndyn.errors import CorpusError


def test_the_grid_is_the_papers() -> None:
    preset = get_preset("lenet5-cifar10")
    assert len(preset) == 480
    assert preset.learning_rates[:3] == (1e-6, 1.5e-6, 2e-6) and preset.learning_rates[-1] == 0.45
    assert preset.dropouts == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert (preset.momentum, preset.batch_size, preset.epochs, preset.patience) == (0.9, 128, 50, 10)
    assert len(preset.departures()) == 1  # trains on beyond patience


def test_every_preset_names_a_network() -> None:
    grids = [preset for preset in PRESETS.values() if isinstance(preset, GridPreset)]
    assert len(grids) == 10 and all(hasattr(models, preset.network) for preset in grids)


def test_runs_have_different_configurations_and_seeds() -> None:
    configs = [get_preset("lenet5-digits").config(index) for index in range(480)]
    assert len({(config.learning_rate, config.dropout) for config in configs}) == 480
    assert len({config.seed for config in configs}) == 480
    other = get_preset("lenet5-digits").scaled(seed=1)
    assert other.config(0).seed not in {config.seed for config in configs}


def test_a_part_of_the_order_represents_the_grid() -> None:
    preset = get_preset("lenet5-digits")
    order = [index for index, _ in preset.order()]
    assert sorted(order) == list(range(480)) and preset.order() == preset.order()
    decades = Counter(round(np.floor(np.log10(preset.config(index).learning_rate))) for index in order[:120])
    assert len(decades) == 6 and min(decades.values()) >= 8


def test_departures_name_what_was_scaled() -> None:
    preset = get_preset("lenet5-cifar10").scaled(images=20000, epochs=25, precision="bf16")
    told = " | ".join(preset.departures())
    for part in ("epochs 25 instead of 50", "at most 20000 training and 5000 test", "precision bf16"):
        assert part in told


def test_initial_weights_are_scaled_and_told() -> None:
    given, data = get_preset("lenet5-digits"), load_digits_data()
    scaled = given.scaled(init_scale=3.0)
    networks = []
    for preset in (given, scaled):
        torch.manual_seed(0)
        networks.append(build_network(preset.config(5), data))
    for (name, plain), (_, large) in zip(*(network.named_parameters() for network in networks), strict=True):
        assert torch.equal(large, 3 * plain if name.endswith("weight") else plain)
    assert "initial weights 3 times torch's" in scaled.departures()
    assert not any("initial weights" in text for text in given.departures())
    with pytest.raises(CorpusError, match=r"init_scale=0"):
        given.scaled(init_scale=0)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"images": -1}, {"precision": "int3"}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(CorpusError, match=next(iter(wrong))):
        get_preset("lenet5-digits").scaled(**wrong)


def test_most_runs_come_from_the_band_if_asked_for() -> None:
    preset = get_preset("lenet5-cifar10")
    order = preset.order(band_share=0.7)
    assert sorted(index for index, _ in order) == list(range(480))
    for count in (10, 50, 250):
        configs = [preset.config(index, sampling) for index, sampling in order[:count]]
        banded = [config for config in configs if config.sampling == "band"]
        assert len(banded) == 0.7 * count
        assert all(5e-4 <= config.learning_rate <= 0.2 for config in banded)
    assert {sampling for _, sampling in preset.order()} == {"grid"}
    assert preset.order(band_share=0.01)[0][1] == "band"  # with nothing drawn it is behind
    with pytest.raises(CorpusError, match=r"band_share=1\.5"):
        preset.order(band_share=1.5)


@pytest.mark.parametrize("wrong", [{"optimizer": "lamb"}, {"precision": "int3"}])
def test_a_run_that_nobody_can_train_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(CorpusError, match=next(iter(wrong))):
        replace(get_preset("zoo").config(0), **wrong)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(CorpusError, match="lenet5-digits"):
        get_preset("lenet6")
