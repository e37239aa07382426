"""Builds a run's network from the name and the options in its configuration."""

import inspect
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from lightning_nndyn.corpus import models
from lightning_nndyn.corpus.presets.sweeps.networks import sweep_network
from lightning_nndyn.corpus.presets.zoo_networks import scale_weights, zoo_network
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.corpus.training.arrays import RunData, input_arguments
from lightning_nndyn.corpus.training.data import ImageData
from lightning_nndyn.errors import CorpusError, NNDynError
from lightning_nndyn.graph.tracing.layer_kinds import module_kind

_PAPER_NETWORKS = ("lenet5", "alexnet", "vgg7", "resnet32", "resnet44", "resnet50")


def network_options(config: RunConfig, data: RunData) -> dict[str, Any]:
    """The keyword arguments of the network's function: those of the run, and the sizes of its inputs."""
    offered = input_arguments(data)
    takes = inspect.signature(_constructor(config.network)).parameters
    fitting = {name: value for name, value in offered.items() if name in takes}
    return {"num_classes": len(data.classes), "dropout": config.dropout, **fitting, **config.network_options}


def build_network(config: RunConfig, data: RunData) -> nn.Module:
    """The network with new weights from torch's global random state, in the memory layout `layout`."""
    network: Any = _constructor(config.network)(**network_options(config, data))
    scale_weights(network, config.init_scale)
    laid_out: nn.Module = network.to(memory_format=layout(data))
    return laid_out


def layout(data: RunData) -> torch.memory_format:
    """Memory layout of images and weights: channels last is faster for colour images."""
    coloured = isinstance(data, ImageData) and data.shape[0] > 1
    return torch.channels_last if coloured else torch.contiguous_format


def layer_kinds(record: RunRecord) -> tuple[str, ...]:
    """The kinds of a run's layers, see `Snapshot`; from its network if the record does not have them.

    Empty if they are unknown: the record has no numbers per layer, or the network cannot be built here.
    """
    first = record.snapshots[0]
    if first.kinds:
        return first.kinds
    options = json.dumps(record.config["network_options"], sort_keys=True)
    return _kinds(record.config["network"], options, tuple(first.layers)[1:])


@cache
def _kinds(network: str, options: str, layers: tuple[str, ...]) -> tuple[str, ...]:
    try:
        with torch.device("meta"):  # no weights are drawn
            model = _constructor(network)(**json.loads(options))
        modules = [model.get_submodule(name.partition("#")[0]) for name in layers]
    except (AttributeError, TypeError, NNDynError):  # of another version's networks, or torchvision's
        return ()
    return tuple(sorted({module_kind(module) for module in modules} - {""}))


def _constructor(name: str) -> Callable[..., nn.Module]:
    own: dict[str, Callable[..., nn.Module]] = {"zoo_network": zoo_network, "sweep_network": sweep_network}
    own |= {paper: getattr(models, paper) for paper in _PAPER_NETWORKS}
    if name not in own:  # it comes from a file
        raise CorpusError(f"network={name!r} is no network of this version of lightning-nndyn")
    return own[name]
