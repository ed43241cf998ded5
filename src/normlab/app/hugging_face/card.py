"""README.md of an exported model: what is recorded of it, and how it is opened. Facts only."""

from collections.abc import Mapping, Sequence
from typing import Any

FACTS = (
    "outcome", "steps", "tokens", "initial_loss", "final_train_loss", "final_val_loss", "best_val_loss",
    "num_parameters", "fingerprint", "git_commit",
)  # fmt: skip


def model_card(
    summary: Mapping[str, Any], step: int | None, beyond_llama: Sequence[str], configuration: str, *, has_text: bool
) -> str:
    """Front matter, how to open the folder, the run's record, its configuration."""
    trust = ", trust_remote_code=True" if beyond_llama else ""
    opened = [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        f'model = AutoModelForCausalLM.from_pretrained("."{trust})',
        *([f'tokenizer = AutoTokenizer.from_pretrained("."{trust})'] if has_text else []),
        "```",
    ]
    form = (
        "The architecture is Llama's."
        if not beyond_llama
        else f"The architecture is not Llama's: {'; '.join(beyond_llama)}. Its code lies in this folder."
    )
    record = {"checkpoint_step": step, **{key: summary[key] for key in FACTS if key in summary}}
    rows = [f"| {key} | {_shown(value)} |" for key, value in record.items() if value is not None]
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [normlab]\n---",
        "# A language model trained with normlab",
        form,
        "\n".join(opened),
        "A document begins with the end-of-text token, also a prompt. Losses are in nats per token."
        if has_text
        else "The run was trained on tokens without a tokenizer. Losses are in nats per token.",
        "## Record",
        "\n".join(["| | |", "|---|---|", *rows]),
        "## Configuration",
        f"```yaml\n{configuration.rstrip()}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
