"""Pictures of results, sweeps and choices of p, drawn into the caller's axes.

Every function takes what it draws and ``ax``, axes of matplotlib, and returns them.
Without axes it makes a figure of its own, ``ax.figure``; matplotlib's state
(`matplotlib.pyplot`) is neither used nor changed. A function with one picture for each
component or sample takes and returns an array of axes:

>>> import jaxnmf, matplotlib.pyplot as plt
>>> digits = jaxnmf.datasets.load("digits")
>>> result = jaxnmf.factorize(digits.V, 16, max_iter=20)
>>> figure, axes = plt.subplots(2, 8, figsize=(8, 2.4))
>>> shown = jaxnmf.plots.components(result, digits, ax=axes)
>>> plt.close(figure)

Colours are those of the caller's style (``C0``, ``C1``, …). matplotlib is imported when
something is drawn.
"""

from jaxnmf.plots.components import components as components
from jaxnmf.plots.convergence import convergence as convergence
from jaxnmf.plots.evidence import consensus as consensus
from jaxnmf.plots.evidence import objectives as objectives
from jaxnmf.plots.evidence import relevance as relevance
from jaxnmf.plots.evidence import silhouettes as silhouettes
from jaxnmf.plots.heatmap import heatmap as heatmap
from jaxnmf.plots.intervals import intervals as intervals
from jaxnmf.plots.ranks import error_against_rank as error_against_rank
from jaxnmf.plots.reconstruction import reconstruction as reconstruction
from jaxnmf.plots.reconstruction import residual as residual
from jaxnmf.plots.residual_histogram import residual_histogram as residual_histogram
from jaxnmf.plots.residual_size import residual_size as residual_size
from jaxnmf.plots.selection import selection as selection
from jaxnmf.plots.sensitivity import sensitivity as sensitivity
from jaxnmf.plots.sensitivity_map import sensitivity_map as sensitivity_map
from jaxnmf.plots.spectra import spectra as spectra
from jaxnmf.plots.topics import topics as topics
