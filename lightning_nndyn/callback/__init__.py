"""The Lightning callback: reads a network's weights while it is trained, and stops runs that lead nowhere.

`hooks` is what Lightning calls; `namespaces` makes it fit both of Lightning's packages. Below them, without
Lightning: `schedule` says when to read the weights, `watch` reads them, `record` keeps what was read and
decided, `judge` predicts and decides.
"""

from lightning_nndyn.callback.hooks import GraphDynamicsCallback

__all__ = ["GraphDynamicsCallback"]
