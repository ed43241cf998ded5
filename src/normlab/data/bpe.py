"""Learn a byte-level BPE vocabulary from text. Sennrich et al. 2016, section 3.2; GPT-2, section 2.2.

Training has three parts, and each can be replaced by itself: cut documents into pre-tokens and count them
(``count_pretokens``), learn merges from the counts (``learn_merges``), number tokens (``assemble_vocab``).
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

import regex

from normlab.core.errors import ConfigError

SPLIT_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""GPT-2's pre-tokenisation: contractions, words, numbers, punctuation, white space. Every character of a
text lies in exactly one match."""

PRETOKEN = regex.compile(SPLIT_PATTERN)
NUM_BYTES = 256

Pair = tuple[bytes, bytes]


def special_token_pattern(special_tokens: Iterable[str]) -> regex.Pattern[str] | None:
    """A pattern with one group: a special token, the longest where several begin; None without any."""
    longest_first = sorted(set(special_tokens), key=len, reverse=True)
    if "" in longest_first:
        raise ConfigError("a special token must have at least one character; got ''. Remove it from special_tokens.")
    if not longest_first:
        return None
    return regex.compile(f"({'|'.join(regex.escape(token) for token in longest_first)})")


def split_on_special(text: str, special_tokens: Iterable[str]) -> list[str]:
    """The non-empty stretches of ``text`` between special tokens, which are left out themselves."""
    pattern = special_token_pattern(special_tokens)
    stretches = [text] if pattern is None else pattern.split(text)[::2]
    return [stretch for stretch in stretches if stretch]


def count_pretokens(documents: Iterable[str]) -> Counter[bytes]:
    """How often each pre-token occurs, as UTF-8, at least once. The documents hold no special tokens."""
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(match.group() for match in PRETOKEN.finditer(document))
    return Counter({pretoken.encode("utf-8"): count for pretoken, count in counts.items()})


def learn_merges(counts: Mapping[bytes, int], num_merges: int) -> list[Pair]:
    """Up to ``num_merges`` merges: each joins the adjacent pair most frequent after the merges before it.

    Of equally frequent pairs the lexicographically greater pair of byte strings is merged, from left to right
    within a pre-token, never across two. Fewer merges come back when no adjacent pair is left.

    A token has one derivation only (inside its own span every occurrence was merged alike), so a pair of ids
    stands for exactly one pair of byte strings.
    """
    tokens = [bytes([value]) for value in range(NUM_BYTES)]
    sort_keys = [_descending_key(token) for token in tokens]
    words = [list(pretoken) for pretoken in counts]
    word_counts = list(counts.values())

    pair_counts: Counter[tuple[int, int]] = Counter()
    words_with: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += word_counts[index]
            words_with[pair].add(index)

    # A count never grows once the merge that created its pair is done, so an entry of the heap is an upper
    # bound: one that is too high goes back with the true count, and the first exact one is the maximum.
    heap = [(-count, sort_keys[left], sort_keys[right], left, right) for (left, right), count in pair_counts.items()]
    heapq.heapify(heap)

    merges: list[Pair] = []
    while heap and len(merges) < num_merges:
        negative_count, left_key, right_key, left, right = heapq.heappop(heap)
        pair = (left, right)
        count = pair_counts[pair]
        if count != -negative_count:
            if count > 0:
                heapq.heappush(heap, (-count, left_key, right_key, left, right))
            continue

        merges.append((tokens[left], tokens[right]))
        new_id = len(tokens)
        tokens.append(tokens[left] + tokens[right])
        sort_keys.append(_descending_key(tokens[new_id]))

        created: set[tuple[int, int]] = set()
        for index in words_with.pop(pair):
            old_word = words[index]
            new_word = words[index] = _merge_pair(old_word, pair, new_id)
            if len(new_word) == len(old_word):
                continue  # an earlier merge took this word's occurrence away
            for old_pair in pairwise(old_word):
                pair_counts[old_pair] -= word_counts[index]
            for new_pair in pairwise(new_word):
                pair_counts[new_pair] += word_counts[index]
                if new_id in new_pair:
                    created.add(new_pair)
                    words_with[new_pair].add(index)
        del pair_counts[pair]
        for new_left, new_right in created:
            entry = (
                -pair_counts[new_left, new_right],
                sort_keys[new_left],
                sort_keys[new_right],
                new_left,
                new_right,
            )
            heapq.heappush(heap, entry)
    return merges


def assemble_vocab(merges: Iterable[Pair], special_tokens: Iterable[str]) -> dict[int, bytes]:
    """Ids from 0: the special tokens in their order, the 256 bytes, one token a merge."""
    specials = [token.encode("utf-8") for token in dict.fromkeys(special_tokens)]
    single_bytes = [bytes([value]) for value in range(NUM_BYTES)]
    return dict(enumerate(specials + single_bytes + [left + right for left, right in merges]))


def train_bpe(
    documents: Iterable[str], *, vocab_size: int, special_tokens: Iterable[str]
) -> tuple[dict[int, bytes], list[Pair]]:
    """``(vocab, merges)``, ids as in ``assemble_vocab``; special tokens in a document are hard boundaries.

    The vocabulary is smaller than ``vocab_size`` when the documents run out of pairs to merge. Raises
    ConfigError for a vocabulary too small for the bytes and special tokens, and for a special token that is
    a byte.
    """
    special_tokens = list(dict.fromkeys(special_tokens))
    smallest = NUM_BYTES + len(special_tokens)
    if vocab_size < smallest:
        raise ConfigError(
            f"vocab_size must be at least {smallest} (256 bytes and {len(special_tokens)} special tokens); "
            f"got {vocab_size}. Try vocab_size={smallest} or more."
        )
    for token in special_tokens:
        if len(token.encode("utf-8")) < 2:
            raise ConfigError(
                f"a special token must be longer than one byte, which is a token already; got {token!r}. "
                "Choose a longer one, such as '<|endoftext|>'."
            )
    counts = count_pretokens(part for document in documents for part in split_on_special(document, special_tokens))
    merges = learn_merges(counts, vocab_size - smallest)
    return assemble_vocab(merges, special_tokens), merges


def _merge_pair(word: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """``word`` with every occurrence of ``pair``, from left to right, replaced by ``new_id``."""
    left, right = pair
    merged: list[int] = []
    position, last = 0, len(word) - 1
    while position <= last:
        if position < last and word[position] == left and word[position + 1] == right:
            merged.append(new_id)
            position += 2
        else:
            merged.append(word[position])
            position += 1
    return merged


def _descending_key(token: bytes) -> str:
    """A string that sorts in the opposite order of byte strings; the end marker puts a prefix later."""
    return "".join(chr(NUM_BYTES - 1 - value) for value in token) + chr(NUM_BYTES)
