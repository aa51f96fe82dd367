"""Pictures of mixtures; they need the extra `plot` (Matplotlib).

Each function draws into the axes that it is given, or into new ones, and returns them. Where there are more components
or features than can be read, those that say most are drawn, and the title says what was left out. Rows come from one
sample of any source, drawn in one reading; without rows the mixture alone is drawn.
"""

from streamgmm.plots.components import plot_dendrogram, plot_entropies, plot_profile, plot_responsibilities
from streamgmm.plots.density import plot_contours, plot_histogram, plot_pairs
from streamgmm.plots.fits import plot_convergence, plot_criteria

__all__ = [
    "plot_contours",
    "plot_convergence",
    "plot_criteria",
    "plot_dendrogram",
    "plot_entropies",
    "plot_histogram",
    "plot_pairs",
    "plot_profile",
    "plot_responsibilities",
]
