"""``nndyn report``: one HTML page about recorded runs, for shadow mode above all.

In: record files. Out: one HTML page that loads nothing.

- `records` finds and reads record files; `recorded_run` keeps of each what the page needs.
- `summary` counts, `replay` stops the same runs by other rules, `chart_data` is what the charts draw.
- `page` does all of it: it renders `templates`; the scripts in `assets` draw the charts.
"""

from lightning_nndyn.evaluation.report.page import Report, write_report

__all__ = ["Report", "write_report"]
