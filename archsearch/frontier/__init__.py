"""Which models are worth their cost: dominance, the lower convex hull and its band, sampling, hypervolume, paretoness.

Everything here works on plain numbers and knows nothing of runs, so it can be called by itself.
"""

from archsearch.frontier.choice import epsilon_front, knee
from archsearch.frontier.fuzzy import paretoness
from archsearch.frontier.gain import hypervolume_gains
from archsearch.frontier.hull import best, convex_hull
from archsearch.frontier.incremental import Frontier
from archsearch.frontier.pareto import hypervolume, nondominated, pareto_front
from archsearch.frontier.sampling import hull_probabilities, sample_from_hull

__all__ = [
    "Frontier",
    "best",
    "convex_hull",
    "epsilon_front",
    "hull_probabilities",
    "hypervolume",
    "hypervolume_gains",
    "knee",
    "nondominated",
    "pareto_front",
    "paretoness",
    "sample_from_hull",
]
