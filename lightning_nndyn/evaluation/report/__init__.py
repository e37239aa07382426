"""``nndyn report``: one HTML page about recorded runs, for shadow mode above all.

`load` finds records and `run` keeps of each what the page needs; `bar` says what is low. `summary`,
`unknown`, `forecasts` and `replay` count. `payload` is what the charts are drawn from, by the scripts in
`assets`; `overview`, `ledger`, `comparison` and `figures` are the sections, made with `html`, `marks` and
`words`; `page` puts them together, and `write` leads through all of it.
"""

from lightning_nndyn.evaluation.report.write import Report, write_report

__all__ = ["Report", "write_report"]
