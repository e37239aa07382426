"""Ways to predict final accuracy, held against each other on the same held-out runs."""
