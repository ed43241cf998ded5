"""The report of a sweep: complete at any time, safe whatever files say, and readable without anything else."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report.made import SEEDS, dead_run, made_run, made_sweep, write_sweep

from normlab.core.errors import UserError
from normlab.report.page import document_of, write_report
from normlab.report.progress import progress_of

ORDER = [
    "Verdicts on the claims",
    "Loss of each variant at its own best learning rate",
    "Survival, and causes of death",
    "Learning rate",
    "Learning curves",
    "Growth of activations and attention logits",
    "Heat maps",
    "What this rests on",
]
HOSTILE = '"><script>alert(1)</script>|`*_[x](javascript:alert(1))'


class Tags(HTMLParser):
    """All tags of a page with their attributes, and which were not closed in order."""

    WITHOUT_END = ("meta", "img", "br")

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.WITHOUT_END:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_sweep(tmp_path_factory.mktemp("sweep"))).parent


def test_page_has_its_parts_in_order_and_says_how_far_the_sweep_is(report: Path) -> None:
    page = (report / "index.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ORDER
    assert "51 of 54 runs have ended: 41 completed, 9 died," in page
    assert "In 4 of 8 variants runs died: all with norm=none." in page
    assert page.index("Which of two fixes") < page.index("reproduced") < page.index(">Survived<")


def test_page_needs_nothing_from_elsewhere(report: Path) -> None:
    tags = Tags((report / "index.html").read_text()).found
    pictures = [attributes["src"] or "" for tag, attributes in tags if tag == "img"]
    assert len(pictures) == len(list(report.glob("*.png"))) > 10
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    assert not [
        attributes for tag, attributes in tags if tag in ("link", "iframe") or ("src" in attributes and tag != "img")
    ]


def test_tables_without_headings_are_not_sorted(report: Path) -> None:
    page = (report / "index.html").read_text()
    tables = re.findall(r"<table>.*?</table>", page, flags=re.DOTALL)
    assert [table.count("<th ") > 1 for table in tables] == [True] * 5 + [False]
    assert 'querySelectorAll("table:has(thead)")' in page


def test_losses_are_in_nats_and_in_bits_at_the_end_and_at_the_best_checkpoint(report: Path) -> None:
    page = (report / "index.html").read_text()
    for name in ("Final validation loss, nats per token", "Final, bits per byte", "Best checkpoint, nats per token",
                 "Best checkpoint, bits per byte"):  # fmt: skip
        assert f">{name}</th>" in page


def test_the_variant_that_stands_for_a_baseline_is_said(tmp_path: Path) -> None:
    norms = ("none", "rmsnorm")
    runs = [made_run(choices={"model/norm": norm}, folder=tmp_path / norm) for norm in norms]
    said = "The sweep named no baseline; its first variant stands for one."
    assert said in str(document_of(made_sweep(runs), tmp_path))
    assert said not in str(document_of(made_sweep(runs, baseline={"model/norm": "none"}), tmp_path))
    assert said not in str(document_of(made_sweep(runs[:1]), tmp_path))
    began = made_sweep(runs[:1], baseline={"model/norm": "rmsnorm"})
    assert "No run of the baseline has begun." in str(document_of(began, tmp_path))


def test_markdown_shows_every_picture_that_is_there(report: Path) -> None:
    shown = re.findall(r"!\[.*?\]\((.*?)\)", (report / "report.md").read_text())
    assert sorted(shown) == sorted(path.name for path in report.glob("*.png"))


def test_results_csv_has_a_row_for_every_job_that_has_begun(report: Path) -> None:
    assert len((report / "results.csv").read_text().splitlines()) == 1 + 71


def test_second_report_is_the_same_and_removes_what_it_no_longer_shows(report: Path) -> None:
    first = {path.name: path.read_bytes() for path in report.iterdir()}
    (report / "growth_2.png").write_bytes(b"of an earlier report")
    write_report(report.parent)
    assert {path.name: path.read_bytes() for path in report.iterdir()} == first


def test_what_files_say_is_text_and_nothing_else(tmp_path: Path) -> None:
    from normlab.report.as_html import as_html
    from normlab.report.as_markdown import as_markdown

    runs = [
        made_run(folder=tmp_path / str(seed), seed=seed, choices={HOSTILE: value}, facts={"error": HOSTILE})
        for seed in SEEDS
        for value in (HOSTILE, "none")
    ]
    claim = {"id": HOSTILE, "text": HOSTILE, "criterion": {"kind": HOSTILE}}
    texts = dict.fromkeys(("command", "experiment", "question"), HOSTILE)
    runs.append(
        made_run(outcome="crashed", choices={HOSTILE: "none"}, seed=9, facts={"error": HOSTILE, "versions": texts})
    )
    document = document_of(made_sweep(runs, claims=[claim], remarks=[HOSTILE], **texts), tmp_path)
    page, markdown = as_html(document), as_markdown(document)
    tags = Tags(page).found
    assert [tag for tag, _ in tags].count("script") == 1
    assert {key for _, attributes in tags for key in attributes if key.startswith("on")} == set()
    fenced = re.sub(r"(?ms)^(`{3,})\n.*?^\1$", "", markdown)
    assert "<script" not in fenced.replace("\\<script", "") and "[x](" not in fenced
    width = {line.count(" | ") for line in re.findall(r"(?m)^\| Claim.*\n.*\n(.*)", markdown)}
    assert width == {2}


def test_a_sweep_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    running = made_run(outcome=None, steps=3, folder=tmp_path / "a", final_val_loss=None, best_val_loss=None)
    waiting = made_run(outcome=None, steps=0, seed=1, folder=tmp_path / "b")
    for runs in ([running], []):
        sweep = made_sweep(runs, not_begun=[waiting], num_planned=len(runs) + 1)
        document = document_of(sweep, tmp_path)
        assert f"0 of {len(runs) + 1} run" in str(document.lead)
        assert [section.title for section in document.sections if section.blocks][-1] == "What this rests on"


def test_progress_counts_a_run_of_two_names_once(tmp_path: Path) -> None:
    runs = [made_run(folder=tmp_path / "a"), made_run(folder=tmp_path / "a", choices={"model/norm": "none"})]
    progress = progress_of(made_sweep([*runs, dead_run(5, folder=tmp_path / "b")]))
    assert progress.is_complete
    assert progress.text.startswith("All 2 runs have ended: 1 completed and 1 died. The sweep has 3 combinations")


def test_autopsies_are_linked_where_there_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "sweep, of a=1"
    (folder / "dead").mkdir(parents=True)
    (folder / "dead" / "autopsy.md").write_text("# Autopsy\n")
    sweep = made_sweep([dead_run(5, folder=folder / "dead"), dead_run(6, seed=1, folder=folder / "gone")])
    document = document_of(sweep, folder / "report")
    assert re.findall(
        r"link='(.*?)'", str([section for section in document.sections if "Survival" in section.title])
    ) == ["../dead/autopsy.md"]


def test_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sweep must name a folder"):
        write_report(tmp_path)


@pytest.mark.parametrize(("is_over", "fate"), [(True, "all died"), (False, "no result yet")])
def test_a_variant_without_a_loss_is_said_to_have_died_or_to_go_on(is_over: bool, fate: str, tmp_path: Path) -> None:
    none = {"model/norm": "none"}
    runs = [made_run(choices={"model/norm": "rmsnorm"}, folder=tmp_path / "a")]
    for lr in (0.01, 0.1):
        fields = {"choices": none, "lr": lr, "folder": tmp_path / f"{lr}"}
        runs.append(dead_run(1, initial_loss=None, **fields) if is_over else made_run(outcome=None, **fields))
    sweep = made_sweep(runs, baseline={"model/norm": "rmsnorm"})
    assert f"Nothing to compare: {fate}." in str(document_of(sweep, tmp_path))
