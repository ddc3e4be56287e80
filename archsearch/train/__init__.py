"""Training: the loop, its mid-job checkpoints, Petridish's weak learner, and the works that executors run.

Only the configuration sections are imported here; everything else needs torch and is imported where it is used
(``archsearch.train.work`` holds the works).
"""

from archsearch.train.section import CheckpointEvery, TrainSection, WeakLearnerSection

__all__ = ["CheckpointEvery", "TrainSection", "WeakLearnerSection"]
