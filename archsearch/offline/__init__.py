"""Packs of recipes: what it takes to train a network again where there is no network, made, verified and run.

``packing`` makes one, ``verifying`` restores it into an empty cache, trains what it holds (``inside``, in a process without
network by ``no_network``) and compares the figure with the recorded one. ``archsearch.recipes.pack`` is the container,
``archsearch.recipes.offline`` prepares recipes on one machine.
"""
