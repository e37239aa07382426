"""Statistics of the raw weights of each layer, recorded so that new signatures need no new training."""

import numpy as np
from torch import nn

from lightning_nndyn.corpus.storage.record import LayerNumbers, single_precision

_QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)


class WeightStatistics:
    """Reads `WEIGHT_STATISTICS` of every weight with two dimensions or more, per layer."""

    def __init__(self, model: nn.Module) -> None:
        """Keep the initial weights, for the distance from them."""
        self.parameters = {
            name.removesuffix(".weight"): parameter
            for name, parameter in model.named_parameters()
            if parameter.dim() > 1
        }
        self.first = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def read(self) -> LayerNumbers:
        """Thirteen numbers per layer; NaN where weights are not finite."""
        return single_precision({name: self._layer(name) for name in self.parameters})

    def _layer(self, name: str) -> list[float]:
        weight = self.parameters[name].detach()
        values = weight.flatten().double()
        mean, std = values.mean(), values.std(correction=0)
        scaled = (values - mean) / std
        moments = [values.norm(), mean, std, scaled.pow(3).mean(), scaled.pow(4).mean() - 3]
        quantiles = np.quantile(weight.flatten().cpu().numpy(), _QUANTILES).tolist()
        return [float(moment) for moment in moments] + quantiles + [float((weight - self.first[name]).norm())]
