"""docs/reference.md is the generated one, and says of an option what its files say."""

from pathlib import Path

from normlab.app.options import group_descriptions
from normlab.app.reference import markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference.md"
AGAIN = 'python -c "from normlab.app.reference import markdown; print(markdown())" > docs/reference.md'


def test_the_page_is_the_generated_one() -> None:
    assert PAGE.read_text() == markdown() + "\n", f"Type: {AGAIN}"


def test_the_page_tells_how_it_is_made() -> None:
    assert f"`{AGAIN}`" in PAGE.read_text()


def test_every_option_is_there() -> None:
    page = PAGE.read_text()
    sections = {group: page.partition(f"\n## `{group}`\n")[2].partition("\n## ")[0] for group in group_descriptions()}
    for group, options in group_descriptions().items():
        for option in options:
            assert f"`{group}={option}`" in sections[group] or f"\n- `{option}`: " in sections[group], (group, option)


def test_a_key_has_its_default_its_range_and_its_remark() -> None:
    row = "| `schedule.min_lr_fraction` | `0.1` | a number in [0, 1] |"
    assert row in PAGE.read_text()
    row = "| `trainer.grad_clip` | `1.0` | a number greater than 0 or null | largest gradient norm; null for none |"
    assert row in PAGE.read_text()


def test_an_option_has_the_docstring_of_what_it_builds() -> None:
    assert "m and v are the running means of the gradient and of its square with rates `betas`" in PAGE.read_text()


def test_a_task_has_its_keys_at_the_top() -> None:
    task = PAGE.read_text().partition("### `task=generate`")[2].partition("###")[0]
    assert "| `top_p` | `1.0` | a number in [0, 1] | 1 keeps all tokens |" in task
