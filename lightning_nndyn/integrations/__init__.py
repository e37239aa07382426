"""Tuners, one file for each and one for what it stores. Importing this package imports none of them.

In: what a tuner knows of its trials. Out: a `lightning_nndyn.sweep.SweepMember`, by which a run takes part in
the tuner's sweep, and a pruner. Nothing of this is in the paper.
"""
