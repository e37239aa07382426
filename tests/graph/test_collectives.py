"""How processes share a graph's edges; real process groups are in test_sharding.py."""

from collections.abc import Callable

import pytest
import torch

from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.collectives import EdgeShardGroup

SIZE = 3


@pytest.fixture
def group_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], EdgeShardGroup]:
    def make(rank: int) -> EdgeShardGroup:
        monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: SIZE)
        return EdgeShardGroup()

    return make


def test_every_row_belongs_to_one_process(group_of: Callable[[int], EdgeShardGroup]) -> None:
    shapes = [(1, 7, 4), (2, 3, 5), (4, 1, 1), (1, 2, 3)]
    weights = [LayerWeight("layer", lambda: torch.empty(0), groups=groups) for groups, _, _ in shapes]
    shards = [group_of(rank).shards(weights, shapes) for rank in range(SIZE)]
    for (groups, targets, _), rows in zip(shapes, zip(*shards, strict=True), strict=True):
        assert sorted(row for share in rows for row in share) == list(range(groups * targets))
    assert [len(shard[0]) for shard in shards] == [3, 3, 1]  # one group: cut evenly
    assert [len(shard[1]) for shard in shards] == [6, 0, 0]  # several groups: all on one process
    assert [len(shard[2]) for shard in shards] == [0, 4, 0]  # the next ones where the fewest edges are


def test_a_failure_becomes_nan_and_is_raised_later(group_of: Callable[[int], EdgeShardGroup]) -> None:
    group, result = group_of(0), torch.zeros(3)
    group.run_guarded(lambda: None, result)
    group.raise_deferred()
    assert (result == 0).all()

    def fail(message: str) -> None:
        raise RuntimeError(message)

    group.run_guarded(lambda: fail("first"), result)
    group.run_guarded(lambda: fail("second"), torch.zeros(1))
    assert result.isnan().all()
    with pytest.raises(RuntimeError, match="first"):
        group.raise_deferred()
    group.raise_deferred()  # once
