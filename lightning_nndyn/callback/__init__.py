"""The Lightning callback: reads a network's weights during training, and stops runs that lead nowhere.

In flows a Trainer's run, hook by hook; out flow logged values, a record in a file, and a request to stop. It
applies the paper's method (section 3, steps S1 to S4) to a run as it goes on.

1. `callback`: Lightning's hooks. `lightning_compat` makes them fit both of Lightning's packages.
2. `session`: the run. It has an explicit state (`phases`), and a `guard` that ends all failures.
3. What the session calls. Reading: `epochs` says when, `graph_reader` reads the weights, `losses` the losses,
   `metrics` what the model logs. Deciding: `decision`, `trial` in a sweep, `audit` of how often decisions are
   wrong. Keeping: `record`, in a file `record_file`. Showing: `logging`, `loggers`, `messages`.
   `trainer_state` is what is asked of a Trainer, `settings` what the user has asked for.
"""

from lightning_nndyn.callback.callback import GraphDynamicsCallback

__all__ = ["GraphDynamicsCallback"]
