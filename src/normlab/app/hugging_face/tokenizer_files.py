"""A tokenizer as transformers and others read it, and back."""

import json
from pathlib import Path
from typing import Any

from normlab.core.files import write_whole
from normlab.data.bpe.exchange import read_gpt2, read_hugging_face, write_hugging_face
from normlab.data.tokenizer import END_OF_TEXT, BPETokenizer, ByteTokenizer, Tokenizer

TOKENIZER, SETTINGS, VOCAB, MERGES = "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"


def write_tokenizer(tokenizer: Tokenizer, context_length: int, folder: Path) -> None:
    """Write what ``AutoTokenizer`` opens; every text gets the same ids. Bytes are a BPE without merges."""
    assert isinstance(tokenizer, BPETokenizer | ByteTokenizer)
    as_bpe = tokenizer if isinstance(tokenizer, BPETokenizer) else _without_merges(tokenizer)
    write_hugging_face(as_bpe, folder / TOKENIZER)
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }
    if END_OF_TEXT in as_bpe.content()["special_tokens"]:
        settings |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    write_whole(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder, None where it has none; raises DataError for any but byte-level BPE like GPT-2's."""
    if (folder / TOKENIZER).is_file():
        return read_hugging_face(folder / TOKENIZER)
    if (folder / VOCAB).is_file() and (folder / MERGES).is_file():
        return read_gpt2(folder / VOCAB, folder / MERGES)
    return None


def _without_merges(tokenizer: ByteTokenizer) -> BPETokenizer:
    return BPETokenizer({value: bytes([value]) for value in range(tokenizer.end_of_text)}, [], [END_OF_TEXT])
