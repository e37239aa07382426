"""Weights that are sharded over processes are read as if one process had them all."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from processes import needs_gloo, run_script

from lightning_nndyn.graph.sharding import shard_rows

NETWORKS = ["lenet", "lenet, dataflow", "block", "perceptron"]
WAYS = ["fsdp2", "hybrid", "flat", "flat, original", "flat, one unit", "flat, gradients", "flat, not cut"]

pytestmark = [needs_gloo, pytest.mark.timeout(900)]  # four processes on two busy cores take minutes


@pytest.fixture(scope="module", params=[2, 4])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process has read, by network and way."""
    folder, processes = tmp_path_factory.mktemp("sharded"), request.param
    run_script("sharding_script.py", folder, copies=processes)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
def test_all_processes_read_what_one_would(found: list[dict[str, Any]], network: str, way: str) -> None:
    whole = found[0][f"{network}: whole"]
    for process in found:
        result = process[f"{network}: {way}"]
        assert "error" not in result, result["error"]
        assert result["snapshots"] == found[0][f"{network}: {way}"]["snapshots"]
        assert result["left_out"] == whole["left_out"]
    for snapshot, wanted in zip(result["snapshots"], whole["snapshots"], strict=True):
        for name in ("num_nodes", "num_edges", "depth", "kinds", "topology"):
            assert snapshot[name] == wanted[name]
        assert snapshot["statistics"] == pytest.approx(wanted["statistics"], rel=1e-5, abs=1e-5)
        assert snapshot["distances"] == pytest.approx(wanted["distances"], rel=1e-4, abs=1e-6)
        assert snapshot["layers"].keys() == wanted["layers"].keys()
        for layer, numbers in wanted["layers"].items():
            assert snapshot["layers"][layer] == pytest.approx(numbers, rel=1e-3, abs=2e-3), layer


@pytest.mark.parametrize("way", WAYS[:-1])
@pytest.mark.parametrize("network", NETWORKS)
def test_each_process_keeps_a_share_of_the_edges(found: list[dict[str, Any]], network: str, way: str) -> None:
    whole = found[0][f"{network}: whole"]["edges_here"]
    here = [process[f"{network}: {way}"]["edges_here"] for process in found]
    assert all(process[f"{network}: {way}"]["sharded"] for process in found)
    assert sum(here) == whole
    assert max(here) < 1.5 * whole / len(found)  # what is not cut, such as groups, goes where little is


def test_the_distances_move(found: list[dict[str, Any]]) -> None:
    first, moved, again = found[0]["perceptron: fsdp2"]["snapshots"]
    assert set(first["distances"]) == {0.0} and min(moved["distances"]) > 0
    assert again["distances"] == moved["distances"]  # another reader goes on from the first one's weights


def test_tensor_parallel_layers_are_refused_by_name(found: list[dict[str, Any]]) -> None:
    for process in found:
        error = process["perceptron: tensor parallel"]["error"]
        assert error.startswith("TracingError: layer '1' is split by tensor parallelism")
        assert "layers=" in error


def test_processes_that_have_seen_different_ways_are_refused(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert process["differ"]["error"].startswith(
            "TracingError: the processes have found different graphs"
        )


@pytest.mark.parametrize("count", [1, 3, 10, 84])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_shares_are_those_of_a_distributed_tensor(count: int, size: int) -> None:
    chunks = torch.arange(count).chunk(size)
    rows = [list(shard_rows(count, rank, size)) for rank in range(size)]
    assert rows[: len(chunks)] == [chunk.tolist() for chunk in chunks]
    assert rows[len(chunks) :] == [[]] * (size - len(chunks))
