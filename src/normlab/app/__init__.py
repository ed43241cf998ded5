"""Compose a configuration, check it, build what it names, run a task. The only layer that knows Hydra."""
