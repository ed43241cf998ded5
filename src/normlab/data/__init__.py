"""From text to batches: sources of documents, tokenizers, stored tokens, and windows drawn from them."""
