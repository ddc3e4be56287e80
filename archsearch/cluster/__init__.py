"""Where jobs run: the run loop, the inline and Ray executors. The only room that imports ray."""
