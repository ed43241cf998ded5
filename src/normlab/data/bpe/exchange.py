"""Tokenizers in the files of others: Hugging Face's ``tokenizer.json`` and tiktoken's list of ranks.

What is read encodes as the other library does, or is refused.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normlab.core.errors import DataError
from normlab.core.files import write_whole
from normlab.data.bpe.encoding import recover_merges
from normlab.data.bpe.merging import NUM_BYTES
from normlab.data.tokenizer import END_OF_TEXT, BPETokenizer

_VISIBLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_HIDDEN = [value for value in range(NUM_BYTES) if value not in _VISIBLE]
_LETTER_OF = {value: chr(value) for value in _VISIBLE} | {v: chr(NUM_BYTES + n) for n, v in enumerate(_HIDDEN)}
"""GPT-2's alphabet: each byte as one visible character."""
_BYTE_OF = {letter: value for value, letter in _LETTER_OF.items()}

_GPT2_SPLIT = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def write_hugging_face(tokenizer: BPETokenizer, path: str | Path) -> None:
    """Write a ``tokenizer.json``, which ``tokenizers.Tokenizer.from_file`` opens and which gives every text the same
    ids, up to characters that only one of the two libraries' versions of Unicode knows."""
    content = tokenizer.content()
    special_tokens = content["special_tokens"]
    id_of = {token.encode("latin-1"): token_id for token_id, token in enumerate(content["vocab"])}
    special_bytes = {token.encode(): token for token in special_tokens}
    file = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id_of[token.encode()],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in special_tokens
        ],
        "normalizer": None,
        "pre_tokenizer": _GPT2_SPLIT,
        "post_processor": None,
        "decoder": _GPT2_SPLIT,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {special_bytes.get(token) or _written(token): token_id for token, token_id in id_of.items()},
            "merges": [[_written(part.encode("latin-1")) for part in pair] for pair in content["merges"]],
        },
    }
    write_whole(Path(path), json.dumps(file, ensure_ascii=False, indent=1) + "\n")


def read_hugging_face(path: str | Path) -> BPETokenizer:
    """Read a ``tokenizer.json`` of byte-level BPE with GPT-2's split; added tokens become special tokens.

    A post-processor, which adds tokens around a text, is left out. Raises DataError for any other tokenizer.
    """
    try:
        return _bpe_of(json.loads(Path(path).read_bytes()), path)
    except (RecursionError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise _no_bpe(path, error) from error


def read_gpt2(vocab_path: str | Path, merges_path: str | Path) -> BPETokenizer:
    """Read GPT-2's older pair, ``vocab.json`` and ``merges.txt``; ``<|endoftext|>`` is its special token.

    Raises DataError as above.
    """
    try:
        vocab = json.loads(Path(vocab_path).read_bytes())
        lines = Path(merges_path).read_text(encoding="utf-8").split("\n")
        merges = [line for line in lines if line and not line.startswith("#version")]
        added = [{"content": END_OF_TEXT, "id": vocab[END_OF_TEXT]}] if END_OF_TEXT in vocab else []
    except (RecursionError, TypeError, ValueError) as error:
        raise _no_bpe(vocab_path, error) from error
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    return _bpe_of({"pre_tokenizer": _GPT2_SPLIT, "added_tokens": added, "model": model}, vocab_path)


def _bpe_of(file: Mapping[str, Any], path: str | Path) -> BPETokenizer:
    """The tokenizer that the content of a ``tokenizer.json`` describes."""
    try:
        model = file["model"]
        _require(path, file, model)
        added = {token["content"]: token["id"] for token in file.get("added_tokens") or ()}
        vocab = {token_id: _read(token) for token, token_id in model["vocab"].items() if token not in added}
        vocab |= {token_id: token.encode() for token, token_id in added.items()}
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        merges = [(_read(left), _read(right)) for left, right in pairs]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise _no_bpe(path, error) from error
    return BPETokenizer(vocab, merges, list(added))


def _no_bpe(path: str | Path, error: Exception) -> DataError:
    return DataError(f"{path} must be a tokenizer.json of byte-level BPE; it is not ({error!r}).")


def write_tiktoken(tokenizer: BPETokenizer, path: str | Path) -> None:
    """Write a line for each token that is not special: its bytes in base64, and its id, which is its rank.

    Raises DataError for a vocabulary that ranks cannot tell: one whose merges are not what ``recover_merges`` gives.
    """
    content = tokenizer.content()
    special = {token.encode() for token in content["special_tokens"]}
    vocab = dict(enumerate(token.encode("latin-1") for token in content["vocab"]))
    ranks = {token: token_id for token_id, token in vocab.items() if token not in special}
    merges = [(left.encode("latin-1"), right.encode("latin-1")) for left, right in content["merges"]]
    if recover_merges(token for token in ranks if len(token) > 1) != merges:
        raise DataError("the merges must follow from the order of the ids to be written as ranks; they do not.")
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    write_whole(Path(path), "".join(lines))


def read_tiktoken(path: str | Path, special_tokens: Mapping[str, int]) -> BPETokenizer:
    """Read a list of ranks, with GPT-2's split; the file has no special tokens, so those come with their ids.

    tiktoken merges the two neighbours whose bytes together have the lowest rank. So the bytes of a token fall into
    two parts just before its own rank comes, and those are its merge. Raises DataError where they do not.
    """
    vocab: dict[int, bytes] = {}
    try:
        for line in Path(path).read_bytes().splitlines():
            if line:
                token, rank = line.split()
                vocab[int(rank)] = base64.b64decode(token, validate=True)
    except (ValueError, binascii.Error) as error:
        raise DataError(f"{path} must hold a token in base64 and a rank a line; it does not ({error}).") from error
    merges = recover_merges(vocab[rank] for rank in sorted(vocab) if len(vocab[rank]) > 1)
    vocab |= {token_id: token.encode() for token, token_id in special_tokens.items()}
    return BPETokenizer(vocab, merges, list(special_tokens))


def _require(path: str | Path, file: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raise DataError for the first setting that changes ids and that a BPETokenizer does not have."""
    split = file.get("pre_tokenizer") or {}
    found = {
        "model.type": (model.get("type"), ["BPE"]),
        "model.byte_fallback": (model.get("byte_fallback"), [None, False]),
        "model.ignore_merges": (model.get("ignore_merges"), [None, False]),
        "model.continuing_subword_prefix": (model.get("continuing_subword_prefix"), [None, ""]),
        "model.end_of_word_suffix": (model.get("end_of_word_suffix"), [None, ""]),
        "normalizer": (file.get("normalizer"), [None]),
        "pre_tokenizer.type": (split.get("type"), ["ByteLevel"]),
        "pre_tokenizer.add_prefix_space": (split.get("add_prefix_space"), [False]),
        "pre_tokenizer.use_regex": (split.get("use_regex", True), [True]),
    }
    for key, (value, legal) in found.items():
        if value not in legal:
            raise DataError(f"{path} must be byte-level BPE split as GPT-2 does: {key} is {value!r}, not {legal[0]!r}.")


def _written(token: bytes) -> str:
    return "".join(_LETTER_OF[value] for value in token)


def _read(token: str) -> bytes:
    return bytes(_BYTE_OF[letter] for letter in token)
