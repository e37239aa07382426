"""Random networks and random runs of the zoo: every draw is buildable, traceable, cheap, and most learn."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_nndyn.corpus import get_preset, load_digits_data
from lightning_nndyn.corpus.presets.zoo import DATASETS, draw_run
from lightning_nndyn.corpus.presets.zoo_networks import ACTIVATIONS, halving_layers, zoo_network
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.schedules import SCHEDULES
from lightning_nndyn.corpus.training.train import train_run
from lightning_nndyn.errors import CorpusError
from lightning_nndyn.graph.tracing.tracer import rolled_graph

PLAIN: dict[str, Any] = {"activation": "relu", "normalisation": "none", "residual": False, "init_scale": 1.0}


def draws(count: int, sampling: str = "band", seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [draw_run(random, sampling) for _ in range(count)]


def built(run: dict[str, Any]) -> tuple[nn.Module, Tensor]:
    """The network of a run and a batch of noise that it takes."""
    channels, side, *_ = DATASETS[run["dataset"]]
    network = zoo_network(
        dropout=run["dropout"], in_channels=channels, image_size=side, **run["network_options"]
    )
    return network, torch.randn(2, channels, side, side)


def seeded(seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return zoo_network(**PLAIN | options)


def products(network: nn.Module) -> list[str]:
    """Names of all layers that have weights, in the order in which they are called."""
    return [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]


def test_every_layer_of_two_hundred_random_networks_is_in_its_rolled_graph() -> None:
    for run in draws(200):
        network, images = built(run)
        graph = rolled_graph(network, images)
        assert list(graph.layer_names[1:]) == products(network), run["network_options"]
        assert not graph.left_out, run["network_options"]


def test_random_networks_are_cheap() -> None:
    flops = []
    for run in draws(30, seed=1):
        network, images = built(run)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.eval()(images)
        flops.append(counter.get_total_flops() / len(images))
    assert max(flops) < 2 * 16e6 and np.mean(flops) > 1e6


@pytest.mark.parametrize("sampling", ["band", "grid"])
def test_a_draw_is_the_same_for_the_same_generator_and_survives_json(sampling: str) -> None:
    runs = draws(50, sampling, seed=2)
    assert json.loads(json.dumps(runs)) == runs == draws(50, sampling, seed=2)
    assert runs != draws(50, sampling, seed=3)


def test_draws_are_of_every_kind() -> None:
    runs = draws(300)
    networks = [run["network_options"] for run in runs]
    for name, kinds in (("dataset", 3), ("optimizer", 3), ("schedule", len(SCHEDULES)), ("flip", 2)):
        assert rarest(runs, name, kinds) >= 30, name
    for name, kinds in (("kind", 2), ("activation", len(ACTIVATIONS)), ("normalisation", 4), ("residual", 2)):
        assert rarest(networks, name, kinds) >= 30, name
    convolutional = [options for options in networks if options["kind"] == "cnn"]
    for name, kinds in (("pooling", 3), ("head", 2), ("kernel", 2)):
        assert rarest(convolutional, name, kinds) >= 30, name
    assert len({len(options["widths"]) for options in networks}) >= 8


def rarest(rows: list[dict[str, Any]], name: str, kinds: int) -> int:
    """How often the rarest value comes; all values must come."""
    counts = Counter(row[name] for row in rows)
    assert len(counts) == kinds, counts
    return min(counts.values())


def test_an_epoch_has_sixteen_batches_and_none_of_a_single_image() -> None:
    for run in draws(300):
        offered = DATASETS[run["dataset"]]
        assert offered.fewest <= run["images"] <= offered.most
        assert run["images"] // run["batch_size"] >= 16 and run["images"] % run["batch_size"] != 1


def test_digits_are_not_mirrored() -> None:
    assert not any(run["flip"] for run in draws(300) if run["dataset"] == "digits")


def test_the_band_is_narrower_than_the_grid_and_depends_on_optimizer_and_momentum() -> None:
    runs = draws(300)
    for run in runs:
        long_run = run["learning_rate"] / (1 - run["momentum"] if run["optimizer"] == "sgd" else 1)
        low, high = (0.005, 2) if run["optimizer"] == "sgd" else (1e-4, 0.03)
        assert 0.99 * low <= long_run <= 1.01 * high, run
    grid = [run["learning_rate"] for run in draws(300, "grid")]
    assert min(grid) < 1e-5 and max(grid) > 0.2 and 1e-4 < np.median(grid) < 5e-3


def test_an_unknown_sampling_is_refused() -> None:
    with pytest.raises(CorpusError, match="'half'"):
        draws(1, "half")


@pytest.mark.parametrize("image_size", [8, 32])
@pytest.mark.parametrize("pooling", ["max", "average", "stride"])
def test_networks_of_any_depth_fit_small_images(image_size: int, pooling: str) -> None:
    for depth in range(1, 12):
        network = seeded(kind="cnn", widths=[8] * depth, image_size=image_size, pooling=pooling)
        assert network(torch.randn(2, 3, image_size, image_size)).shape == (2, 10)
        assert image_size >> len(halving_layers(depth, image_size)) >= 4


def test_weights_come_from_the_global_random_state() -> None:
    first, same, other = (seeded(seed, kind="mlp", widths=[16]).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_init_scale_multiplies_the_weights_alone(kind: str) -> None:
    plain = seeded(kind=kind, widths=[8, 12]).state_dict()
    scaled = seeded(kind=kind, widths=[8, 12], init_scale=2.0).state_dict()
    for name, values in plain.items():
        assert torch.equal(scaled[name], 2 * values if name.endswith("weight") else values), name


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_a_shortcut_adds_the_input_and_no_parameters(kind: str) -> None:
    plain, residual = (
        seeded(kind=kind, widths=[8, 12], image_size=8, normalisation="batch", residual=residual)
        for residual in (False, True)
    )
    assert [p.shape for p in plain.parameters()] == [p.shape for p in residual.parameters()]
    layer = residual.get_submodule(products(residual)[1].rpartition(".")[0])
    layer.get_parameter("product.weight").data.zero_()
    x = torch.rand(4, 8, 3, 3) if kind == "cnn" else torch.rand(4, 8)
    out = layer(x)
    assert torch.equal(out[:, :8], x) and not out[:, 8:].any()


def test_a_layer_narrower_than_its_input_has_no_shortcut() -> None:
    x = torch.randn(4, 3, 32, 32)
    plain, residual = (seeded(kind="cnn", widths=[12, 8], residual=residual) for residual in (False, True))
    assert torch.equal(plain(x), residual(x))


@pytest.mark.parametrize(("kind", "hidden", "count"), [("cnn", [], 1), ("cnn", [16, 8], 3), ("mlp", [], 2)])
def test_dropout_stands_before_the_linear_layers(kind: str, hidden: list[int], count: int) -> None:
    network = zoo_network(10, 0.3, kind=kind, widths=[8, 8], hidden=hidden, **PLAIN)
    found = [module for module in network.modules() if "Dropout" in type(module).__name__]
    assert len(found) == count and all(type(module) is nn.Dropout and module.p == 0.3 for module in found)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "rnn"},
        {"activation": "step"},
        {"normalisation": "weight"},
        {"pooling": "min"},
        {"head": "token"},
        {"widths": []},
        {"kernel": 4},
    ],
)
def test_unknown_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=next(iter(wrong))):
        zoo_network(**PLAIN | {"kind": "cnn", "widths": [8]} | wrong)


def test_most_runs_of_the_band_learn_the_digits() -> None:
    data = load_digits_data()
    runs = [run for run in draws(60, seed=4) if run["dataset"] == "digits"][:6]
    best = []
    for index, run in enumerate(runs):
        config = RunConfig(preset="zoo", index=index, seed=index, epochs=5, **run)
        best.append(max(train_run(config, data).curve["test_accuracy"]))
    assert sum(accuracy > 0.2 for accuracy in best) >= 4, best  # twice guessing
    assert max(best) - min(best) > 0.2, best


def test_the_zoo_draws_most_runs_from_the_band_and_can_grow() -> None:
    zoo = get_preset("zoo")
    order = zoo.order(band_share=0.7)
    for count in (10, 50, 400):
        configs = [zoo.config(index, sampling) for index, sampling in order[:count]]
        assert sum(config.sampling == "band" for config in configs) == pytest.approx(0.7 * count, abs=1)
    assert {config.dataset for config in configs} == set(zoo.datasets)
    assert len({config.seed for config in configs}) == len(configs)
    assert {config.optimizer for config in configs} == {"sgd", "adam", "adamw"}
    longer = replace(zoo, planned=2 * len(zoo))
    assert [longer.config(*pair) for pair in longer.order(0.7)[:400]] == configs
    assert {sampling for _, sampling in zoo.order()} == {"grid"}


def test_the_zoo_is_scaled_but_for_its_digits() -> None:
    zoo = get_preset("zoo").scaled(images=1000, epochs=3, size=16, precision="bf16", test_images=500)
    configs = [zoo.config(index, "band") for index in range(60)]
    assert max(config.images for config in configs) == 1000
    assert {config.size for config in configs if config.dataset == "digits"} == {None}
    assert {config.size for config in configs if config.dataset != "digits"} == {16}
    assert {(config.epochs, config.test_images, config.precision) for config in configs} == {(3, 500, "bf16")}
    told = " | ".join(zoo.departures())
    for part in ("drawn at random", "epochs 3 instead of 50", "resized to 16x16", "hundred ImageNet classes"):
        assert part in told


def test_a_setting_that_a_preset_lacks_is_refused() -> None:
    with pytest.raises(CorpusError, match="'zoo' has no setting 'dropouts'"):
        get_preset("zoo").scaled(dropouts=(0.5,))
