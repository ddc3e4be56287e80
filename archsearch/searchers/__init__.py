"""Ask/tell searchers: what to try next, as a fold over the run's events."""
