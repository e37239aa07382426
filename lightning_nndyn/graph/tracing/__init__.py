"""Which layer feeds which, found by watching one forward pass (section 3.1).

In: a module and an example input. Out: the layers that the edges of a graph join, and how their channels map.
"""
