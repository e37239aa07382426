"""Tables, and the page around them."""

from lightning_nndyn.evaluation import Row
from lightning_nndyn.evaluation.benchmark.tables import by_time, insert_tables


def test_a_table_marks_the_best_of_each_time() -> None:
    def row(method: str, t: float, value: float) -> Row:
        return Row("c", "all", method, t, "mae", value, value, value, 30)

    found = [row("a", 0.25, 0.1), row("b", 0.25, 0.2), row("a", 1.0, 0.3), row("b", 1.0, 0.05)]
    assert by_time(found, "mae").markdown().splitlines() == [
        "| after | 1/4 | 1 |",
        "| --- | --- | --- |",
        "| a | **10.0** | 30.0 |",
        "| b | 20.0 | **5.0** |",
    ]


def test_text_around_the_tables_stays() -> None:
    page = insert_tables("# Results\n\n<!-- begin tables -->old<!-- end tables -->\n\nNotes.\n", "new")
    assert page == "# Results\n\n<!-- begin tables -->\n\nnew\n\n<!-- end tables -->\n\nNotes.\n"
    assert insert_tables("", "new") == "<!-- begin tables -->\n\nnew\n\n<!-- end tables -->\n"
