"""Finds out which layer feeds which, by tracing one forward pass (section 3.1).

In: a module and an example input, or a forward pass that somebody else makes. Out: a `RolledGraph`.

`operation_observer` sees each torch operation and module. `recorder` records products with a weight as
`layer_calls`; `propagation` and `movements` say for all other operations which channels (`origins`) their
outputs come from. `chain` and `dataflow` build the two kinds of graphs from the calls.
"""
