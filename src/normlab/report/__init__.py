"""From a folder of runs to an answer: what survived, up to which rate, at what cost, and whether that is real."""
