"""The identity of an experiment: equal fingerprints mean equal numbers."""

import hashlib
from collections.abc import Mapping
from typing import Any

from normlab.core.records import encode_json


def fingerprint(canonical: Mapping[str, Any]) -> str:
    """SHA-256, as 64 hex digits, of a canonical configuration: its JSON with sorted keys."""
    return hashlib.sha256(encode_json(_sorted(canonical)).encode()).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value
