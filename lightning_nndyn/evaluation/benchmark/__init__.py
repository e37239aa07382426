"""Methods that predict final accuracy, compared on the same held-out runs of recorded corpora.

Corpora (`RunDataset`) go in; rows of numbers come out (`scores.Row`), which `evaluate` writes with
`results`. `compare` and `transfer` score `methods`, `false_stop_rates` tests predictors as shipped;
`tasks` splits all of it into parts that are cached.
"""
