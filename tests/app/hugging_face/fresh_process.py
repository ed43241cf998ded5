"""What a program without normlab makes of exported folders: run by itself, folders as arguments, JSON on its output."""

import json
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(texts: list[str], context: str, continuation: str, folders: list[str]) -> None:
    """Logits, ids, texts, the log-likelihood of a continuation, and a greedy one, of every folder."""
    found = {}
    for folder in folders:
        opened: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
        model, loading = opened
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        asked, said = ([tokenizer.bos_token_id, *tokenizer(context).input_ids], tokenizer(continuation).input_ids)
        with torch.no_grad():
            logits_TV = model(torch.tensor([asked + said])).logits[0]
        log_probabilities = logits_TV[len(asked) - 1 : -1].double().log_softmax(-1)
        generated = model.generate(torch.tensor([asked]), max_new_tokens=8)[0].tolist()
        short, long = asked[:3], asked
        padded = torch.tensor([[0] * (len(long) - len(short)) + short, long])
        mask = torch.tensor([[0] * (len(long) - len(short)) + [1] * len(short), [1] * len(long)])
        together = model.generate(padded, attention_mask=mask, max_new_tokens=4)[0, len(long) :].tolist()
        alone = model.generate(torch.tensor([short]), max_new_tokens=4)[0, len(short) :].tolist()
        found[folder] = {
            "kind": type(model).__name__,
            "not_loaded": sorted(map(str, [*loading["missing_keys"], *loading["unexpected_keys"]])),
            "ids": [tokenizer(text).input_ids for text in texts],
            "decoded": [tokenizer.decode(tokenizer(text).input_ids) for text in texts],
            "logits": logits_TV.tolist(),
            "log_likelihood": log_probabilities.gather(1, torch.tensor(said)[:, None]).sum().item(),
            "greedy": tokenizer.decode([id for id in generated[1:] if id != tokenizer.eos_token_id]),
            "padded_alike": together == alone,
        }
    assert "normlab" not in sys.modules
    print(json.dumps(found))


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]), folders=sys.argv[2:])
