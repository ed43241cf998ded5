"""One run on many devices: a process for each, which take every step together."""
