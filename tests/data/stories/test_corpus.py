"""The corpus: deterministic, disjoint by hash, of known entropy, and identified by all that decides it."""

import hashlib
import itertools
import math
import random
import shutil
import statistics

import pytest

from normlab.data.source import Split
from normlab.data.stories import corpus
from normlab.data.stories.choices import SampledChoices
from normlab.data.stories.corpus import Stories
from normlab.data.stories.grammar import read_story, tell_story

GOLDEN_SHA256 = "ac45e6c21b5d3cf42a8a52e1a5857cb5b76f4748897fe7df2321d542da7cd2c1"

SPLITS: tuple[Split, ...] = ("train", "valid")


def small_corpus(num_train_stories: int = 300, num_valid_stories: int = 40, corpus_seed: int = 0) -> Stories:
    return Stories(num_train_stories=num_train_stories, num_valid_stories=num_valid_stories, corpus_seed=corpus_seed)


def test_the_first_hundred_stories_are_the_golden_ones() -> None:
    """A changed grammar changes this digest; it is updated together with the grammar, on purpose."""
    texts = [piece.text for piece in small_corpus(num_train_stories=100).pieces("train")]
    assert hashlib.sha256("\0".join(texts).encode()).hexdigest() == GOLDEN_SHA256


def test_documents_are_as_many_as_asked_for_and_all_distinct() -> None:
    stories = small_corpus()
    train, valid = list(stories.pieces("train")), list(stories.pieces("valid"))
    assert (len(train), len(valid)) == (300, 40)
    assert len(set(train + valid)) == 340
    assert list(stories.pieces("train")) == train


def test_no_story_depends_on_how_many_are_asked_for() -> None:
    train = list(small_corpus().pieces("train"))
    assert list(small_corpus(num_train_stories=50, num_valid_stories=5).pieces("train")) == train[:50]
    assert list(itertools.islice(small_corpus(num_train_stories=10**9).pieces("train"), 20)) == train[:20]


def test_the_hash_of_a_text_alone_decides_its_split() -> None:
    for split, seed in itertools.product(SPLITS, (0, 1)):
        for text, _ in small_corpus(corpus_seed=seed).pieces(split):
            in_valid_bucket = int(hashlib.sha256(text.encode()).hexdigest()[:2], 16) % 16 == 0
            assert in_valid_bucket == (split == "valid")


def test_a_duplicate_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell_few_stories(choose) -> str:
        return f"story {choose(range(100))}"

    monkeypatch.setattr(corpus, "tell_story", tell_few_stories)
    texts = list(small_corpus(num_train_stories=60).pieces("train"))
    assert len(texts) == len(set(texts)) == 60


def test_another_seed_gives_other_stories() -> None:
    first = set(small_corpus().pieces("train"))
    assert first.isdisjoint(small_corpus(corpus_seed=1).pieces("train"))


def test_nats_of_a_split_is_what_reading_its_texts_gives() -> None:
    stories = small_corpus()
    for split in SPLITS:
        read = math.fsum(read_story(piece.text).nats for piece in stories.pieces(split))
        assert stories.nats(split) == pytest.approx(read, rel=1e-9)
        assert stories.nats(split) == stories.nats(split)


def test_nats_per_story_agrees_with_independent_draws() -> None:
    """Within four standard errors of the difference of two independent means."""
    drawn = []
    for seed in range(2000):
        choose = SampledChoices(random.Random(seed))
        tell_story(choose)
        drawn.append(choose.nats)
    num_stories = 1500
    mean = small_corpus(num_train_stories=num_stories).nats("train") / num_stories
    error = statistics.stdev(drawn) * math.sqrt(1 / len(drawn) + 1 / num_stories)
    assert abs(mean - statistics.mean(drawn)) < 4 * error


def test_an_unknown_split_is_refused_at_once_with_the_legal_names() -> None:
    stories = small_corpus()
    for method in (stories.pieces, stories.stories, stories.nats, stories.identity):
        with pytest.raises(ValueError, match=r"train, valid.*'test'"):
            method("test")  # pyright: ignore[reportArgumentType]


def test_a_negative_number_of_stories_is_refused() -> None:
    with pytest.raises(ValueError, match=r"num_valid_stories.*-1"):
        small_corpus(num_valid_stories=-1)


def test_an_empty_split_has_no_documents_and_no_nats() -> None:
    empty = small_corpus(num_train_stories=0)
    assert (list(empty.pieces("train")), empty.nats("train")) == ([], 0.0)


def test_identity_of_a_split_changes_with_every_argument_that_decides_it() -> None:
    train, valid = small_corpus().identity("train"), small_corpus().identity("valid")
    assert train != valid
    assert small_corpus().identity("train") == train
    assert small_corpus(num_train_stories=301).identity("train") != train
    assert small_corpus(num_valid_stories=41).identity("valid") != valid
    assert small_corpus(corpus_seed=1).identity("train") != train
    assert small_corpus(corpus_seed=1).identity("valid") != valid


def test_identity_changes_with_the_source_of_the_grammar(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = small_corpus().identity("train")
    package = tmp_path / "stories"
    shutil.copytree(corpus.Path(corpus.__file__).parent, package)
    monkeypatch.setattr(corpus, "__file__", str(package / "corpus.py"))
    assert small_corpus().identity("train") == before
    plot = package / "plots" / "lost.py"
    plot.write_text(plot.read_text(encoding="utf-8").replace("scarf", "sock"), encoding="utf-8")
    assert small_corpus().identity("train") != before
