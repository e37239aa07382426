"""What is to be known about each kind of table beside the paper's, whatever its numbers."""

CLASSIFICATION = """\
Per cent of held-out runs rightly called low or not, by the paper's own means: a support-vector machine or a
multi-layer perceptron (scikit-learn's defaults, at most 500 iterations, standardised inputs; the paper
names nothing else) on the raw median, mean, standard deviation, skewness and kurtosis of degree or
eigenvector centrality, concatenated over epoch 0 and the ends of epochs (below one epoch: over its
fractions), as they are, averaged linearly, or exponentially (alpha 1/2). `graph-paper-svm` and
`graph-paper-mlp` are the paper's main setting: degree, plain. The paper's figures have no printed numbers;
sentences of its text stand in a table of their own, where they are about a corpus's network and data set.
It sampled 250 of 480 runs, half of them low, and compared with a coin; here all runs of a corpus count, so
that `majority`, the share of the more frequent class, is what must be beaten. Every run here starts from
weights of its own; whether the paper's did, it does not say. Runs whose weights are no longer finite, or
that have ended, are out from then on. The last methods are those of the tables above, on the same folds:
their predicted accuracy against the threshold."""
"""Beside figures 4, 5, 11 and 12."""

REGRESSION = """\
Final accuracy by least squares from the statistics at two epochs: mean absolute error in points and R2
(below 0: worse than saying the mean). Five-fold, so that every run is tested once; the paper tests one
fifth. Predictions are clipped to 0 to 100 %, which favours the method: otherwise a single run whose weights
explode may decide the score. The paper's columns are printed for degree; its text (section 4.2) gives LeNet
5.74 and 0.91 at 5-7, where its Table 4 has 12.49 and 0.75. Its sample is half low, so that its accuracies,
and with them R2, spread otherwise."""
"""Beside Tables 3 and 4."""

UNSEEN = """\
Per cent of a corpus's runs rightly called low or not by classifiers (degree, plain) that were fitted to
runs of other networks on the same data set: a random half-low sample of these, as large as can be, five
times, the mean. One threshold, the tested corpus's, labels all. `majority` is the share of the more
frequent class. Corpora of several networks or data sets are left out here: for them the tables above have
bands without a kind of network."""
"""Beside figure 10."""

IMPORTANCE = """\
Points of accuracy that a classifier on all ten statistics loses when one of them is taken from another run,
at all epochs at once (mean of 20 shuffles within each fold of held-out runs; below 0: it does better
without). The paper shows weights of its classifier for the five statistics of degree, without saying how
they are had from a support-vector machine; it names mean, standard deviation and median of the degrees as
the top three. Statistics that tell the same can stand in for each other, so that each alone looks
dispensable; where a classifier is no better than `majority`, its importances mean nothing."""
"""Beside figures 7 to 9, (a)."""

CURVES = """\
Means of each statistic over runs that end high and that end low, before training and at times; the figure
shows medians too, and 95 % intervals. The paper draws runs one by one and says that degrees of good runs
rise, while those of low ones stay flat, some after an early spike. A mean cannot tell low runs that hardly
move from those that explode: where it lies far above the median, a few runs make it. Where high and low
differ before training, networks differ, or chance does. Runs are out once their weights are no longer
finite, or they have ended."""
"""Beside figures 7 to 9, (b) to (d)."""
