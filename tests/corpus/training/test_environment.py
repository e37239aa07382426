"""Devices that are there and those that are not, random numbers, threads."""

import pytest
import torch

from lightning_nndyn.corpus import get_preset, load_digits_data, run_corpus, train_run
from lightning_nndyn.corpus.training.environment import checked_device
from lightning_nndyn.errors import CorpusError


@pytest.mark.parametrize(
    ("device", "complaint"),
    [
        ("abacus", "'abacus' is none that torch knows: pass 'cpu' or 'cuda'"),
        ("meta", "device='meta': runs are trained on 'cpu' or 'cuda'"),
        ("cuda", "torch sees no CUDA device; train on 'cpu'"),
    ],
)
def test_devices_that_are_not_there(device: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CorpusError, match=complaint):
        train_run(get_preset("lenet5-digits").config(402), load_digits_data(), device=device)


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    with pytest.raises(CorpusError, match="meta"):
        run_corpus("lenet5-digits", folder, device="meta")
    assert not folder.exists()


@pytest.mark.parametrize(("device", "seen"), [("cuda:1", 1), ("cuda:4", 4)])
def test_a_card_that_is_not_there_is_named(device: str, seen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    with pytest.raises(CorpusError, match=f"{device}.*sees {seen} CUDA"):
        checked_device(device)
    assert checked_device(f"cuda:{seen - 1}").index == seen - 1
