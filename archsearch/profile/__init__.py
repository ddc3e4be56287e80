"""Profiling: the measurement protocol, runtimes, operator-to-backend assignment and its estimators."""
