"""What stopping saves in a sweep: recorded runs, replayed as sweeps in random order under each stopping rule.

Corpora go in; out come the epochs that a rule spends and the accuracy that it misses, as rows and a
summary. `sampled_sweeps` draws the sweeps. `policies`, `race` and `learned_policies` are stopping rules;
`held_out_predictors` adds those of predictors that were fitted without the run. `result` measures, `rows`
writes, and `replay_sweeps` is the command.
"""
