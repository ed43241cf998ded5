"""One plot a file: `tell(page, hero)` writes the paragraphs between opening and closing, and returns
fitting morals.
"""
