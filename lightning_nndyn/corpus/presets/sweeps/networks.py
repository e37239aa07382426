"""The networks of the sweeps: one function of JSON-able options, for all families."""

from collections.abc import Callable

from torch import nn

from lightning_nndyn.corpus.presets.sweeps import convolutional, sequential
from lightning_nndyn.corpus.presets.sweeps.layers import Shape, draw_weights, shrink_branches
from lightning_nndyn.corpus.presets.zoo_networks import ACTIVATIONS, NORMALISATIONS, check_choices

_ImageFamily = Callable[[int, int, int, Shape], nn.Module]

IMAGE_FAMILIES: dict[str, _ImageFamily] = {
    family.__name__: family
    for family in (
        convolutional.plain_cnn, convolutional.vgg, convolutional.resnet, convolutional.preactivation_resnet,
        convolutional.inverted_bottleneck, convolutional.convnext, convolutional.unet, sequential.mixer,
        sequential.vit,
    )
}  # fmt: skip
"""Families that read images alone."""

NETWORKS = (*IMAGE_FAMILIES, "mlp", "lstm", "gru", "transformer")
"""All that `sweep_network` builds; an MLP reads images or tables, LSTM and GRU images or tokens."""


def sweep_network(
    num_classes: int = 10,
    dropout: float = 0.0,
    *,
    kind: str,
    width: int,
    depth: int,
    normalisation: str = "none",
    activation: str = "relu",
    initialisation: str = "default",
    residual: bool = False,
    in_channels: int = 0,
    image_size: int = 0,
    features: int = 0,
    vocabulary: int = 0,
    length: int = 0,
) -> nn.Module:
    """A small network of one of `NETWORKS`; its first weights come from torch's random state.

    Args:
        num_classes: Neurons of the last layer.
        dropout: Probability of its dropout layers.
        kind: One of `NETWORKS`.
        width: See `Shape`.
        depth: See `Shape`.
        normalisation: See `Shape`; mixers and vision transformers always have layer normalisation.
        activation: See `Shape`.
        initialisation: How weights are drawn, see `draw_weights`.
        residual: Shortcuts around the hidden layers of an MLP.
        in_channels: Channels of the images, where it reads images.
        image_size: Height and width of the images.
        features: Of a table.
        vocabulary: Number of different tokens, where it reads tokens.
        length: Tokens in a sequence.

    Raises:
        CorpusError: An option is none of its choices.
    """
    check_choices(
        kind=(kind, NETWORKS),
        normalisation=(normalisation, NORMALISATIONS),
        activation=(activation, ACTIVATIONS),
    )
    shape = Shape(width, depth, normalisation, activation, dropout)
    if kind in IMAGE_FAMILIES:
        model = IMAGE_FAMILIES[kind](in_channels, image_size, num_classes, shape)
    elif kind == "mlp":
        model = sequential.mlp(features or in_channels * image_size**2, num_classes, shape, residual)
    elif kind == "transformer":
        model = sequential.transformer(vocabulary, length, num_classes, shape)
    else:
        front, inputs = (
            (sequential.Tokens(vocabulary, length, width), width)
            if vocabulary
            else (sequential.Rows(), in_channels * image_size)
        )
        model = sequential.recurrent(kind, front, inputs, num_classes, shape)
    draw_weights(model, initialisation)
    if normalisation == "none" and kind in ("resnet", "preactivation_resnet", "inverted_bottleneck"):
        shrink_branches(model, 0.25)
    return model
