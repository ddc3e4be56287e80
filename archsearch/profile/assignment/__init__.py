"""Which operation runs on which backend: assignments as integers, recorded tables, and estimators of the (time, memory) front."""
