"""Finished parts in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_nndyn.evaluation.cache import PartCache, Task, fingerprint


def test_a_finished_part_is_not_computed_again_unless_what_it_depends_on_changed(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> dict[str, Any]:
        made.append("x")
        return {"value": len(made)}

    parts = PartCache(tmp_path / "cache")
    assert [(Task("A part: 5 %", "this", make).run(parts) or {})["value"] for _ in range(3)] == [1, 1, 1]
    assert (Task("A part: 5 %", "that", make).run(parts) or {})["value"] == 2
    late = PartCache(tmp_path / "cache", deadline=0.0)
    assert Task("another", "this", make).run(late) is None and len(made) == 2
    assert (Task("A part: 5 %", "this", make).run(late) or {})["value"] == 1


def test_a_changed_corpus_is_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    before = fingerprint(tmp_path)
    assert before == fingerprint(tmp_path)
    (tmp_path / "a").write_text("two")
    assert fingerprint(tmp_path) != before
