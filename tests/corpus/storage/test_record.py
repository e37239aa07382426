"""Labels of a record."""

from lightning_nndyn.corpus.storage.record import patience_epoch


def test_patience_counts_epochs_without_a_rise() -> None:
    assert patience_epoch([0.1, 0.2, 0.2, 0.1, 0.2], 3) == 5
    assert patience_epoch([0.1, 0.2, 0.2, 0.1, 0.21], 3) is None
    assert patience_epoch([0.1] * 20, 10) == 11
    assert patience_epoch([], 10) is None
