"""The callback from a Hydra configuration, with overrides in Hydra's way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from callback_runs import Digits, trainer

from lightning_nndyn import GraphDynamicsCallback

pytestmark = pytest.mark.needs("hydra")

LAYERS = ["net.0", "net.3", "net.8", "net.11", "net.13"]
CONFIG = f"""
callback:
  _target_: lightning_nndyn.GraphDynamicsCallback
  predictor: null
  action: stop
  snapshots: [0.0625, 0.25, 1, 2]
  layers: [{", ".join(LAYERS)}]
  strict: true
"""


def made(folder: Path, *overrides: str) -> Any:
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    (folder / "config.yaml").write_text(CONFIG)
    with initialize_config_dir(str(folder), version_base=None):
        return instantiate(compose("config", overrides=list(overrides)).callback)


def test_overrides_reach_the_callback(tmp_path: Path) -> None:
    callback = made(
        tmp_path, "callback.action=observe", "callback.snapshots=[0.5,1]", "+callback.verbose=false"
    )
    assert isinstance(callback, GraphDynamicsCallback)
    assert (callback.action, callback.snapshots, callback.verbose) == ("observe", (0.5, 1.0), False)
    assert type(callback.snapshots) is tuple and type(callback.layers) is list


def test_a_wrong_override_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="action='pause' is unknown"):
        made(tmp_path, "callback.action=pause")


def test_its_checkpoint_is_plain_and_resumes_a_callback_that_was_made_by_hand(tmp_path: Path) -> None:
    callback, file = made(tmp_path, "callback.snapshots=[0.5,1,2]"), tmp_path / "run.ckpt"
    run = trainer(callback, max_epochs=1)
    run.fit(Digits())
    run.save_checkpoint(file)
    saved = torch.load(file, weights_only=True)["callbacks"]
    by_hand = GraphDynamicsCallback(None, snapshots=[0.5, 1, 2], layers=LAYERS, strict=True)
    assert callback.state_key == by_hand.state_key and callback.state_key in saved
    trainer(by_hand, max_epochs=2).fit(Digits(), ckpt_path=file)
    assert [snapshot.epoch for snapshot in by_hand.history] == [0.0, 0.5, 1.0, 2.0]
