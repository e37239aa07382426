"""Training of one run (App. A.1 of the paper): data and a `RunConfig` flow in, a `RunRecord` flows out.

`train` has the training loop, `recorder` records it. `run_data` loads whole data sets and takes the part of a
run.
"""
