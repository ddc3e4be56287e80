"""Which operation runs on which backend: assignments as integers, recorded tables, estimators of the (time, memory) front."""
