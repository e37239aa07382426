"""The corpora that can be trained by name: the paper's eight, two more LeNets, the zoo and the sweeps."""

from typing import Any

from lightning_nndyn.corpus.presets.base import Preset
from lightning_nndyn.corpus.presets.paper import GridPreset
from lightning_nndyn.corpus.presets.sweeps.preset import SweepPreset
from lightning_nndyn.corpus.presets.zoo import ZooPreset
from lightning_nndyn.errors import CorpusError


def _paper(network: str, dataset: str, **changes: Any) -> GridPreset:
    return GridPreset(f"{network}-{dataset}", network, dataset, **changes)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        # Half-way between guessing and the best run, as the paper's Table 2 has it for CIFAR-10.
        _paper("lenet5", "digits", crop_padding=1, flip=False, low_threshold=0.5),
        _paper("lenet5", "imagefolder"),
        _paper("lenet5", "cifar10"),
        _paper("alexnet", "cifar10"),
        _paper("vgg7", "cifar10"),
        _paper("resnet32", "cifar10"),
        _paper("resnet44", "cifar10"),
        _paper("lenet5", "imagenet100", low_threshold=0.09),
        _paper("alexnet", "imagenet100", low_threshold=0.10),
        _paper("resnet50", "imagenet100", low_threshold=0.25),
        ZooPreset(
            "zoo",
            epochs=15,
            images=5000,
            test_images=2000,
            low_threshold={"digits": 0.5, "cifar10": 0.4, "imagenet100": 0.09},
        ),
        SweepPreset("sweeps", epochs=40),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        CorpusError: There is none.
    """
    if name not in PRESETS:
        raise CorpusError(f"no preset {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]
