"""``nndyn graph``: the rolled graph of a network."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Table

from lightning_nndyn.cli.console import InputShape, new_console, parse_shape


def graph(
    model: Annotated[
        str, typer.Argument(help="A network of the paper, or MODULE:FUNCTION that returns one.")
    ],
    num_classes: Annotated[int, typer.Option(help="Outputs of the network.")] = 10,
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
    found = rolled_graph(_constructor(model)(num_classes=num_classes), example, layers=names)
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


def _constructor(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(":")
    home = module or "lightning_nndyn.corpus.models"
    try:
        return getattr(importlib.import_module(home), function)
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(
            f"{name!r} is no network: {error}. Take lenet5, alexnet, vgg7, resnet32, resnet44, resnet50, or "
            f"MODULE:FUNCTION such as torchvision.models:resnet18"
        ) from None
