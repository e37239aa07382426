"""Records name the kinds of a network's layers; for older ones they are found from the configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.corpus import GridPreset, RunRecord, load_corpus, run_corpus
from lightning_nndyn.corpus.presets.zoo import draw_run
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.data import load_digits_data
from lightning_nndyn.corpus.training.network import build_network, layer_kinds, network_options
from lightning_nndyn.evaluation.dataset import history_of
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import Snapshot

TINY = GridPreset(
    "tiny", "lenet5", "digits", learning_rates=(0.01, 1e4), dropouts=(0.0,),
    crop_padding=1, flip=False, epochs=2, images=256, test_images=50,
)  # fmt: skip


def read(model: nn.Module, example: Tensor, **settings: Any) -> Snapshot:
    return SnapshotReader(nd.rolled_graph(model, example, **settings), per_layer=True).read(0.0)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[RunRecord]:
    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    run_corpus(TINY, folder, jobs=1, progress=False)
    return load_corpus(folder)


def of_before(record: RunRecord) -> RunRecord:
    """As it was written before records told what the network is."""
    plain = json.loads(json.dumps(record.to_dict()))
    for snapshot in plain["snapshots"]:
        for name in ("topology", "kinds", "depth"):
            del snapshot[name]
    return RunRecord.from_dict(plain)


def test_new_recordings_tell_what_the_network_is(records: list[RunRecord]) -> None:
    assert [record.diverged_epoch is None for record in records] == [True, False]
    for record in records:
        facts = {(one.topology, one.kinds, one.depth) for one in record.snapshots}
        assert facts == {("chain", ("conv2d", "linear"), 5)}


def test_of_older_recordings_it_is_found_out_from_their_configuration(records: list[RunRecord]) -> None:
    for record in records:
        old = of_before(record)
        assert old.snapshots[0].kinds == ()
        assert history_of(old)[0] == history_of(record)[0]
        assert {one.kinds for one in history_of(old)} == {("conv2d", "linear")}


@pytest.mark.parametrize("seed", range(6))
def test_the_kinds_that_are_found_out_are_those_of_the_graph(seed: int) -> None:
    drawn = draw_run(np.random.default_rng(seed), "band") | {"dataset": "digits"}
    config, data = RunConfig(preset="zoo", index=0, seed=0, epochs=1, **drawn), load_digits_data()
    snapshot = read(build_network(config, data), torch.zeros(2, 1, 8, 8))
    record: Any = SimpleNamespace(
        config={"network": config.network, "network_options": network_options(config, data)},
        snapshots=[replace(snapshot, kinds=())],
    )
    random = torch.get_rng_state()
    assert layer_kinds(record) == snapshot.kinds != ()
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize(
    "change",
    [{"network": "a_network_of_tomorrow"}, {"network_options": {"an_option_of_tomorrow": 1}}],
)
def test_networks_that_are_not_to_be_had_are_of_unknown_kinds(
    records: list[RunRecord], change: dict[str, Any]
) -> None:
    old = of_before(records[0])
    assert layer_kinds(replace(old, config=old.config | change)) == ()
    bare = [replace(snapshot, layers={}) for snapshot in old.snapshots]
    assert layer_kinds(replace(old, snapshots=bare)) == ()
