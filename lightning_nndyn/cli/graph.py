"""``nndyn graph``: the rolled graph of a network."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lightning_nndyn.cli.console import InputShape, new_console, parse_shape

if TYPE_CHECKING:
    from torch import nn


def graph(
    model: Annotated[
        str, typer.Argument(help="A network of the paper, or MODULE:FUNCTION that returns one.")
    ],
    num_classes: Annotated[
        int, typer.Option(help="Outputs of the network, if its function has such an argument.", min=1)
    ] = 10,
    input_shape: InputShape = None,
    layers: Annotated[str | None, typer.Option(help="Layers of the chain, separated by commas.")] = None,
) -> None:
    """Show a network's rolled graph: its layers, nodes, edges, centrality.

    Example: `nndyn graph resnet32`, or `nndyn graph torchvision.models:resnet18 --input 3x224x224`
    """
    import torch

    from lightning_nndyn import eigenvector_centrality, rolled_graph, weighted_degree

    torch.manual_seed(0)
    example = None if input_shape is None else torch.zeros(2, *parse_shape(input_shape))
    names = None if layers is None else layers.split(",")
    found = rolled_graph(_network(model, num_classes), example, layers=names)
    degree, central = weighted_degree(found), eigenvector_centrality(found)
    table = Table(title=f"{model}: {found.num_nodes:,} nodes, {found.num_edges:,} edges")
    for column in ("layer", "nodes", "edges to it", "mean degree", "share of centrality"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    edges = ["", *(f"{block.values.numel():,}" for block in found.blocks)]
    rows = zip(found.layer_names, edges, found.layers(degree), found.layers(central.vector), strict=True)
    for name, count, degrees, vector in rows:
        share = float(vector.double().square().sum())
        table.add_row(name, f"{degrees.numel():,}", count, f"{float(degrees.mean()):.3f}", f"{share:.1%}")
    console = new_console()
    console.print(table)
    console.print(
        f"largest eigenvalue {central.eigenvalue:.5g}, {central.iterations} products", highlight=False
    )
    for name, reason in found.left_out.items():
        console.print(f"left out: {name}, {reason}", highlight=False, markup=False)


def _network(name: str, num_classes: int) -> nn.Module:
    """Calls the function of a name, with the number of classes if it takes one.

    Raises:
        BadParameter: it cannot be called so, or returns no network.
    """
    from torch import nn

    constructor = _constructor(name)
    try:
        try:
            made = constructor(num_classes=num_classes)
        except TypeError:  # many functions take no such argument
            made = constructor()
    except Exception as error:  # whatever a function of the user's raises
        raise typer.BadParameter(
            f"{name!r} cannot be called without further arguments ({type(error).__name__}: {error}): give "
            "MODULE:FUNCTION, a function of your own that takes none and returns a network"
        ) from None
    if not isinstance(made, nn.Module):
        raise typer.BadParameter(f"{name!r} returns a {type(made).__name__}, which is no network")
    return made


def _constructor(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(":")
    home = module or "lightning_nndyn.corpus.models"
    if os.getcwd() not in sys.path:  # an installed command does not look there
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(home), function)
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(
            f"{name!r} is no network: {error}. Take lenet5, alexnet, vgg7, resnet32, resnet44, resnet50, or "
            f"MODULE:FUNCTION such as torchvision.models:resnet18"
        ) from None
