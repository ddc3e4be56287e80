"""Runtimes: the libraries that run a model, behind one face. ``archsearch.testing`` has the suite that each must pass.

An installed package adds one in the entry point group ``archsearch.runtime``; the class must be importable without its library,
which is imported when a method first needs it.
"""

from archsearch.profile.runtimes.face import Compiled, Runtime, Unsupported, runtime

__all__ = ["Compiled", "Runtime", "Unsupported", "runtime"]
