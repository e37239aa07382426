"""YAML files of sweeps that train nothing."""

from __future__ import annotations

from pathlib import Path

PLAN = """
train: script.py:train
trials: 6
space:
  learning_rate: {low: 1e-4, high: 1, log: true}
  width: {low: 8, high: 32, step: 8}
  optimizer: [sgd, adam]
"""


def written(folder: Path, text: str, script: str = "def train(params, callback):\n    return 0.5\n") -> Path:
    """The file of a plan, beside the script that it names."""
    (folder / "script.py").write_text(script)
    (folder / "plan.yaml").write_text(text)
    return folder / "plan.yaml"
