"""The preset `sweeps`: many small hyperparameter sweeps.

`families` lists the families of networks with their data sets and sizes; `tasks` draws a sweep's network and
data, `spaces` its search space; `preset` joins them. `networks` builds the networks, from the functions in
`convolutional` and `sequential` and the parts in `layers`.
"""
