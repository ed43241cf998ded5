"""An embedded corpus: children's stories from a probabilistic grammar whose entropy is known."""
