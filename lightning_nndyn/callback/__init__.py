"""The Lightning callback: reads a network's weights while it is trained, and stops runs that lead nowhere.

`hooks` is what Lightning calls, and `course` what is done then; `namespaces` makes it fit both of Lightning's
packages; `trainer` is what is asked of a Trainer, `clock` what counts as an epoch, and `fit` what lives as
long as a run. Below them, without Lightning: `schedule` says when to read the weights, `watch` reads them and
`reading` puts them down; `losses` sums losses up, `record` keeps what was read and decided, `judge` predicts
and decides; `keeper` puts the record into a file (`run_file`), `dashboards` shows it in those of the loggers,
and `audit` tells from finished runs how often the decisions are wrong. In a sweep, `sweeping` lets
its finished runs judge.
"""

from lightning_nndyn.callback.callback import GraphDynamicsCallback

__all__ = ["GraphDynamicsCallback"]
