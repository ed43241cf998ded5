"""The corpus: as many distinct stories as asked for, split by hash, with its entropy known."""

import hashlib
import math
import random
from collections.abc import Iterator
from pathlib import Path

from normlab.core.types import Count, CountOrZero
from normlab.data.source import Piece, Split
from normlab.data.stories.choices import SampledChoices
from normlab.data.stories.grammar import Story, tell_story

_NUM_BUCKETS = 16
_VALID_BUCKET = 0


class Stories:
    """A training and a validation split of stories, each a function of the three arguments alone.

    Story number i is drawn with its own generator, seeded with `corpus_seed/i`, so it does not depend on
    the others.  A story belongs to validation if and only if the SHA-256 of its text falls into one fixed
    bucket of sixteen: the splits of any two corpora, whatever their sizes and seeds, share no story.
    Duplicates are skipped.

    Raises ValueError where a number of stories is negative, and in every method for an unknown split.
    """

    def __init__(self, *, num_train_stories: Count, num_valid_stories: Count, corpus_seed: CountOrZero) -> None:
        """Only remember the arguments: stories are drawn when asked for."""
        self._num_stories = {"train": num_train_stories, "valid": num_valid_stories}
        for split, number in self._num_stories.items():
            if number < 0:
                raise ValueError(f"num_{split}_stories must be at least 0; got {number}.")
        self._corpus_seed = corpus_seed
        self._nats: dict[str, float] = {}

    def stories(self, split: Split) -> Iterator[Story]:
        """The stories of `train` or `valid` in a fixed order, drawn while they are asked for."""
        return self._draw(split, self._num_stories_of(split))

    def pieces(self, split: Split) -> Iterator[Piece]:
        """The texts of ``train`` or ``valid``, all distinct within and across the splits, in a fixed order."""
        return (Piece(story.text, ends_document=True) for story in self.stories(split))

    def nats(self, split: Split) -> float:
        """The sum of -log p(text) over the stories of the split, where p is the grammar's probability.

        Each summand adds up -log p(choice) over the choices that made the story, which is exact because a
        text has one derivation.  The end of a story is certain once its last words are written, so an
        end-of-text token after each story adds a token and no nats: `nats(split)` divided by the number of
        tokens, end-of-text tokens included, is the loss in nats per token of the grammar itself used as a
        language model.  No model that has not seen the stories does better in expectation, whatever its
        tokenizer.

        Two things p leaves out, and one that a model pays on top.  Stories of one split are drawn from p
        conditioned on their hash bucket, and without repetition: conditioning takes log(16/15) nats (train)
        or log(16) nats (valid) off each story, but only a model that evaluates SHA-256 can collect them,
        and repetitions are too rare to matter.  A model that reads windows cut in mid-story has lost the
        beginning, so its loss is higher.
        """
        if split not in self._nats:
            self._nats[split] = math.fsum(story.nats for story in self.stories(split))
        return self._nats[split]

    def identity(self, split: Split) -> str:
        """SHA-256, in hex, of all that decides a split: the arguments and the source of this package."""
        digest = hashlib.sha256(f"{split} {self._num_stories_of(split)} {self._corpus_seed}".encode())
        package = Path(__file__).parent
        for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
            source = path.read_text(encoding="utf-8")
            digest.update(f"\0{path.relative_to(package).as_posix()}\0{source}".encode())
        return digest.hexdigest()

    def _num_stories_of(self, split: Split) -> int:
        if split not in self._num_stories:
            raise ValueError(f"split must be one of {', '.join(self._num_stories)}; got {split!r}.")
        return self._num_stories[split]

    def _draw(self, split: Split, num_stories: int) -> Iterator[Story]:
        seen: set[bytes] = set()
        index = 0
        while len(seen) < num_stories:
            choose = SampledChoices(random.Random(f"{self._corpus_seed}/{index}"))
            text = tell_story(choose)
            index += 1
            digest = hashlib.sha256(text.encode()).digest()
            if (digest[0] % _NUM_BUCKETS == _VALID_BUCKET) != (split == "valid") or digest in seen:
                continue
            seen.add(digest)
            yield Story(text, choose.nats)
