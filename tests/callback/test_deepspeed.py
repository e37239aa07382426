"""DeepSpeed's ZeRO on two processes; `make test-deepspeed` installs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from digits_runs import predictor
from processes import results, run_script, times

from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

BATCHES = 16
STAGES = ["zero 1", "zero 2", "zero 3"]

pytestmark = [pytest.mark.needs("deepspeed"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left their results."""
    folder = tmp_path_factory.mktemp("deepspeed")
    predictor()  # the processes read it, and need not import what fits it
    with pytest.MonkeyPatch.context() as patch:
        if torch.cuda.device_count() < 2:
            patch.setenv("DS_ACCELERATOR", "cpu")
        run_script("deepspeed_script.py", folder, copies=2)  # the first time, it compiles its communication
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_a_good_run_is_read_alike_and_as_under_ddp(folder: Path, stage: str) -> None:
    first, second = results(folder, f"{stage}, watched")
    plain, ddp = results(folder, f"{stage}, plain")[0], results(folder, "ddp, watched")[0]
    assert first["error"] is None and first["warnings"] == second["warnings"] == []
    assert first["record"]["history"] == second["record"]["history"]
    assert times(first) == [0.0, *DEFAULT_TIMES, 1.0, 2.0]
    assert first["losses"][:BATCHES] == plain["losses"]
    for snapshot, wanted in zip(first["record"]["history"], ddp["record"]["history"], strict=True):
        assert snapshot["statistics"] == pytest.approx(wanted["statistics"], rel=1e-3, abs=1e-3)
        assert snapshot["distances"] == pytest.approx(wanted["distances"], rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_a_doomed_run_is_stopped_on_both(folder: Path, stage: str) -> None:
    for result in results(folder, f"{stage}, doomed"):
        assert result["error"] is None and result["steps"] == BATCHES // 16
        assert result["record"]["decision"]["stop"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_whole_data_flow_can_be_read(folder: Path, stage: str) -> None:
    for result in results(folder, f"{stage}, dataflow"):
        assert result["error"] is None and result["warnings"] == []
        assert times(result) == [0.0, *DEFAULT_TIMES, 1.0]
        assert result["record"]["history"][0]["topology"] == "dataflow"
