"""One training: the step, the loop, when it has failed, and how it is saved."""
