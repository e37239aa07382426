"""Training steps on digits that call other networks than the one that trains, or exchange weights."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import lightning.pytorch as L
import torch
from callback_runs import trainer, watcher
from digits_runs import loader
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from lightning_nndyn import GraphDynamicsCallback


def layers(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them, called 0, 2, 4, ..."""
    found: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        found += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*found[:-1])


class Student(L.LightningModule):
    """A network that learns digits; its optimizer holds all parameters, whatever they belong to."""

    def __init__(self, net: nn.Module | None = None, lr: float = 0.1) -> None:
        super().__init__()
        self.lr, self.net = lr, net or layers(64, 16, 16, 10)

    def outputs(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        return F.cross_entropy(self.outputs(batch[0].flatten(1)), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.5)

    def train_dataloader(self) -> Any:
        return loader()

    def exchange(self, net: nn.Module) -> None:
        """Goes on with another network."""
        self.net = net
        self.trainer.strategy.optimizers = [self.configure_optimizers()]


class Taught(Student):
    """By an averaged copy that runs after it, as in mean teachers, BYOL and MoCo."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.net)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch[0].flatten(1), batch[1]
        out = self.net(x)
        with torch.no_grad():
            target = self.teacher(x)
        return F.cross_entropy(out, y) + 0.1 * F.mse_loss(out, target)

    def on_train_batch_end(self, *_: Any) -> None:
        with torch.no_grad():
            for old, new in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                old.lerp_(new, 0.05)


class TaughtByDeeper(Taught):
    """The teacher is frozen, deeper, and runs first."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = layers(64, 16, 16, 16, 16, 10).requires_grad_(False)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        target = self.teacher(batch[0].flatten(1))
        out = self.net(batch[0].flatten(1))
        return F.cross_entropy(out, batch[1]) + 0.1 * F.mse_loss(out, target)

    def on_train_batch_end(self, *_: Any) -> None: ...


class Inferred(TaughtByDeeper):
    """The teacher's parameters were made in inference mode."""

    def __init__(self) -> None:
        super().__init__()
        with torch.inference_mode():
            self.teacher = layers(64, 16, 16, 16, 10).requires_grad_(False)


class Measured(Student):
    """A frozen metric network reads what comes out and what should."""

    def __init__(self) -> None:
        super().__init__(layers(64, 16, 64))
        self.metric = layers(64, 32, 32, 32).requires_grad_(False)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x = batch[0].flatten(1)
        return F.mse_loss(self.metric(self.net(x)), self.metric(x))


class ValueLearner(Student):
    """A target network gives the values of the next state."""

    def __init__(self) -> None:
        super().__init__()
        self.target = copy.deepcopy(self.net)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch[0].flatten(1), batch[1]
        with torch.no_grad():
            best = self.target(x.flip(0)).amax(1)
        return F.smooth_l1_loss(self.net(x).gather(1, y[:, None]).squeeze(1), 1 + 0.5 * best)


class Recomputed(Student):
    """Activations are computed again in the backward pass, and hidden from autograd before it."""

    def outputs(self, x: Tensor) -> Tensor:
        x = torch.utils.checkpoint.checkpoint(self.net[:3], x.clone().requires_grad_(), use_reentrant=True)
        return self.net[3:](x)


class Adversaries(Student):
    """A generator and a critic of what it makes take turns."""

    def __init__(self) -> None:
        super().__init__(layers(8, 16, 64))
        self.critic, self.automatic_optimization = layers(64, 16, 1), False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        real, noise = batch[0].flatten(1), torch.randn(len(batch[0]), 8)
        for optimizer, sign in zip(self.optimizers(), (-1, 1), strict=True):
            self.toggle_optimizer(optimizer)
            loss = sign * (self.critic(self.net(noise)).mean() - self.critic(real).mean()).tanh()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), 0.05) for part in (self.net, self.critic)]


# -- weights that are exchanged for a call -------------------------------------------------------------------


class Ensemble(Student):
    """Several networks at once, with stacked weights in a template."""

    def __init__(self) -> None:
        super().__init__(layers(64, 16, 10).requires_grad_(False))
        stacked = {name: torch.stack([p, -p, 2 * p]) for name, p in self.net.named_parameters()}
        self.names = list(stacked)
        self.stacked = nn.ParameterList([p.detach() for p in stacked.values()])

    def member(self, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.net, weights, (x,))

    def outputs(self, x: Tensor) -> Tensor:
        weights = dict(zip(self.names, self.stacked, strict=True))
        return torch.vmap(self.member, (0, None))(weights, x).mean(0)


class EnsembleOneByOne(Ensemble):
    def outputs(self, x: Tensor) -> Tensor:
        members = zip(*self.stacked, strict=True)
        return torch.stack([self.member(dict(zip(self.names, one, strict=True)), x) for one in members]).mean(
            0
        )


class Fast(Student):
    """Parameters of the model that have other names run in a template."""

    def __init__(self) -> None:
        super().__init__(layers(64, 16, 10).requires_grad_(False))
        fast = {name.replace(".", "_"): p.detach().clone() for name, p in self.net.named_parameters()}
        self.fast = nn.ParameterDict(fast)

    def outputs(self, x: Tensor) -> Tensor:
        weights = {name.replace("_", "."): p for name, p in self.fast.items()}
        return functional_call(self.net, weights, (x,))


class Generated(Student):
    """A network makes the weights of another."""

    def __init__(self) -> None:
        super().__init__(layers(64, 8, 10).requires_grad_(False))
        self.seed = nn.Parameter(torch.ones(1, 4))
        self.maker = layers(4, 8, sum(p.numel() for p in self.net.parameters()))

    def outputs(self, x: Tensor) -> Tensor:
        parameters = dict(self.net.named_parameters())
        made = self.maker(self.seed)[0].split([p.numel() for p in parameters.values()])
        weights = {name: part.view_as(p) for part, (name, p) in zip(made, parameters.items(), strict=True)}
        return functional_call(self.net, weights, (x,))


class LearningToLearn(Student):
    """MAML: the loss after a step that the weights are to make easy."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch[0].flatten(1), batch[1]
        slow = dict(self.net.named_parameters())
        loss = F.cross_entropy(functional_call(self.net, slow, (x[::2],)), y[::2])
        moves = torch.autograd.grad(loss, list(slow.values()), create_graph=True)
        fast = {name: p - 0.05 * move for (name, p), move in zip(slow.items(), moves, strict=True)}
        return F.cross_entropy(functional_call(self.net, fast, (x[1::2],)), y[1::2])


class Copied(Student):
    """Its step copies the network, and makes the teacher when it is first wanted."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x = batch[0].flatten(1)
        if not hasattr(self, "teacher"):
            self.teacher = copy.deepcopy(self.net).requires_grad_(False)
        out = self.net(x)
        return F.cross_entropy(out, batch[1]) + F.mse_loss(out, copy.deepcopy(self.net)(x) + self.teacher(x))


class Unregistered(Student):
    """Weights that the model does not know of run in a template."""

    def __init__(self) -> None:
        super().__init__(layers(64, 16, 10).requires_grad_(False))
        self.own = {name: p.detach().clone().requires_grad_() for name, p in self.net.named_parameters()}

    def outputs(self, x: Tensor) -> Tensor:
        return functional_call(self.net, self.own, (x,))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.own.values(), self.lr)


class LowRank(Student):
    """The forward pass adds to a frozen weight what two small ones make."""

    class Layer(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs)
            self.requires_grad_(False)
            self.down, self.up = nn.Parameter(torch.randn(4, inputs)), nn.Parameter(torch.zeros(outputs, 4))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight + self.up @ self.down, self.bias)

    def __init__(self) -> None:
        super().__init__(nn.Sequential(self.Layer(64, 16), nn.ReLU(), self.Layer(16, 10)))


class Corrected(Student):
    """What trains beside the frozen network is no layer of a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.net.requires_grad_(False)
        self.correction = nn.Parameter(torch.zeros(64, 10))

    def outputs(self, x: Tensor) -> Tensor:
        return self.net(x) + torch.einsum("ni,io->no", x, self.correction)


# -- runs ----------------------------------------------------------------------------------------------------


def watch(kind: type[Student], epochs: int = 2, **settings: Any) -> tuple[GraphDynamicsCallback, Student]:
    """A run that is observed, and must end as it does without that."""
    ends, callback = [], watcher(**{"given": "universal", "action": "observe", "threshold": None, **settings})
    for callbacks in ([], [callback]):
        torch.manual_seed(7)
        model = kind()
        trainer(*callbacks, max_epochs=epochs, limit_train_batches=16).fit(model)
        ends.append([*model.parameters(), torch.rand(1)])
    assert len(ends[0]) == len(ends[1]) and all(map(torch.equal, *ends))
    return callback, model
