"""What the charts show, and what they do not, in sentences."""

from __future__ import annotations

from lightning_nndyn.evaluation.report.chart_data import MOST_TIMES

HINT = "Point at a mark to see which run it is; a click chooses that run."

CURVES = (
    "Each line is a run; what comes after the moment of decision is faint. A decision before the first "
    "validation is marked at the height of that validation, or of the prediction where there was none."
)

FORECAST = (
    "Runs that were stopped are not here: their true accuracy is not known. Dashed lines: what is low. "
    "With the risk, the horizontal lines are the limits above which a run is stopped, set so that the "
    "budget of good runs is kept; risks beyond -4 and 8 are drawn at the edge."
)

SIGNATURE = (
    "The five aggregators of weighted degree and of eigenvector centrality over all nodes of the rolled"
    " graph, as in the paper’s Figures 7 to 9; the first reading is the untrained network. Thick lines "
    f"are medians of good and of low runs. Axes show the middle 98 % of all values; at most {MOST_TIMES}"
    " readings of a run are drawn."
)

LAYERS = (
    "Each column is a layer of the graph (filters, neurons, or input channels). A record holds no "
    "nodes, but seven quantiles of each layer’s centralities and the number of its nodes: the dots lie "
    "at evenly spaced shares of a layer’s nodes, most central on top, and their area is the centrality "
    "between those quantiles. They are not single nodes, and where fewer dots than nodes are drawn, "
    "each stands for several. One scale for all layers and times of a run. The band to a layer is the "
    "stronger, the larger the norm of the weights that lead to it; single edges are not on record."
)

UNORDERED = (
    "The graph is not a chain: its layers are drawn in the order of the forward pass, without what "
    "flows between them."
)
