"""One plot a file: `tell(page, hero)` writes what happens and returns the morals that fit it."""
