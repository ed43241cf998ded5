"""TensorBoard events, read back by TensorBoard's own reader."""

import io
import math
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout  # type: ignore[attr-defined]  (made when imported)

from normlab.core.records import StepRecord
from normlab.core.run_folder import RunFolder
from normlab.telemetry.sinks import fenced
from normlab.telemetry.tensorboard import TensorBoardSink

LAYOUT = "custom_scalars__config__"
ALWAYS = {"loss/train", "lr", "grad_norm/total", "throughput/tokens_per_second"}


def record_of(step: int, **changes) -> StepRecord:
    values = {"tokens": 100 * step, "seconds": 0.5 * step, "lr": 0.25, "train_loss": 2.5, "grad_norm": 0.75}
    return StepRecord(step=step, **{**values, **changes})


def write(folder: Path, *records: StepRecord, first_step: int = 1, **texts: str) -> None:
    sink = TensorBoardSink(folder, first_step)
    for tag, text in texts.items():
        sink.text(tag, text)
    for record in records:
        sink.record(record)
    sink.close()


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(
        str(RunFolder(folder).tensorboard), size_guidance={"scalars": 0, "tensors": 0, "images": 0}
    )
    events.Reload()
    return events


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def charts(folder: Path) -> dict[str, dict[str, str]]:
    """The regular expressions of all charts by category and title."""
    [event] = read(folder).Tensors(LAYOUT)
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    by_category: dict[str, dict[str, str]] = {}
    for category in layout.category:
        for chart in category.chart:
            [pattern] = chart.multiline.tag
            assert chart.title not in by_category.setdefault(category.title, {})
            by_category[category.title][chart.title] = pattern
    return by_category


def by_layer(quantity: str) -> set[str]:
    return {f"{quantity}/layer_0", f"{quantity}/layer_1"}


def png_of(height: int, width: int) -> bytes:
    content = io.BytesIO()
    matplotlib.image.imsave(content, np.zeros((height, width, 4)), format="png")
    return content.getvalue()


def test_every_scalar_of_a_record_is_there_under_its_tag(tmp_path: Path) -> None:
    write(tmp_path, record_of(1), record_of(2, val_loss=2.75, telemetry={"update_ratio/head": 0.125}))
    assert set(read(tmp_path).Tags()["scalars"]) == ALWAYS | {"loss/val", "update_ratio/head"}
    assert scalars(tmp_path, "loss/train") == [(1, 2.5), (2, 2.5)]
    assert scalars(tmp_path, "lr") == [(1, 0.25), (2, 0.25)]
    assert scalars(tmp_path, "grad_norm/total") == [(1, 0.75), (2, 0.75)]
    assert scalars(tmp_path, "loss/val") == [(2, 2.75)]
    assert scalars(tmp_path, "update_ratio/head") == [(2, 0.125)]


def test_a_validation_loss_of_zero_is_one(tmp_path: Path) -> None:
    write(tmp_path, record_of(1, val_loss=0.0))
    assert scalars(tmp_path, "loss/val") == [(1, 0.0)]


def test_throughput_is_that_of_the_latest_step(tmp_path: Path) -> None:
    write(tmp_path, record_of(1, seconds=0.5), record_of(2, seconds=1.5), record_of(3, seconds=1.75))
    assert scalars(tmp_path, "throughput/tokens_per_second") == [(1, 200.0), (2, 100.0), (3, 400.0)]


def test_a_clock_that_stands_still_gives_no_throughput(tmp_path: Path) -> None:
    write(tmp_path, record_of(1, seconds=0.0), record_of(2, seconds=0.0))
    assert set(read(tmp_path).Tags()["scalars"]) == ALWAYS - {"throughput/tokens_per_second"}


def test_nonfinite_numbers_are_points_too(tmp_path: Path) -> None:
    write(tmp_path, record_of(1, train_loss=math.nan, grad_norm=math.inf, val_loss=-math.inf))
    [(step, train_loss)] = scalars(tmp_path, "loss/train")
    assert step == 1
    assert math.isnan(train_loss)
    assert scalars(tmp_path, "grad_norm/total") == [(1, math.inf)]
    assert scalars(tmp_path, "loss/val") == [(1, -math.inf)]


def texts(folder: Path, tag: str) -> list[tuple[int, str]]:
    events = read(folder).Tensors(f"{tag}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in events]


def test_text_is_markdown_and_plain_text_keeps_its_lines_and_spaces_in_a_fenced_block(tmp_path: Path) -> None:
    write(tmp_path, config=fenced("model:\n  width: 32\n"), autopsy="**é**")
    assert set(read(tmp_path).Tags()["tensors"]) == {"config/text_summary", "autopsy/text_summary"}
    assert texts(tmp_path, "config") == [(0, "```\nmodel:\n  width: 32\n\n```")]
    assert texts(tmp_path, "autopsy") == [(0, "**é**")]


def test_notes_are_text_at_their_step(tmp_path: Path) -> None:
    write(tmp_path, record_of(1), record_of(2, notes=("a spike", "a warning")), record_of(3, notes=("over",)))
    assert texts(tmp_path, "notes") == [(2, "a spike\n\na warning"), (3, "over")]


def test_all_events_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    """As they can be when the process is killed."""
    sink = TensorBoardSink(tmp_path, 1)
    for step in (1, 2, 3):
        sink.record(record_of(step))
        assert [at for at, _ in scalars(tmp_path, "loss/train")] == list(range(1, step + 1))
    sink.close()


def test_a_resumed_run_replaces_the_steps_that_it_takes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the same second too, whose files would be read in the order of what follows in their names."""
    names = iter(("zebra", "ant"))
    monkeypatch.setattr("normlab.telemetry.event_file.socket.gethostname", lambda: next(names))
    write(tmp_path, *(record_of(step, train_loss=1.0) for step in range(1, 6)))
    write(tmp_path, *(record_of(step, train_loss=2.0) for step in range(4, 7)), first_step=4)
    assert scalars(tmp_path, "loss/train") == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]


def test_a_picture_is_there_as_it_was_given(tmp_path: Path) -> None:
    pictures = {2: png_of(3, 5), 4: png_of(7, 300)}
    sink = TensorBoardSink(tmp_path, 1)
    for step, png in pictures.items():
        sink.image("figures/activation_rms", png, step)
    sink.close()
    events = read(tmp_path).Images("figures/activation_rms")
    assert [event.step for event in events] == [2, 4]
    assert [event.encoded_image_string for event in events] == list(pictures.values())
    assert [(event.height, event.width) for event in events] == [(3, 5), (7, 300)]


def test_charts_are_those_that_have_tags_once_in_a_folder(tmp_path: Path) -> None:
    write(tmp_path, record_of(1, telemetry={"clamp_hit_rate/layer_11": 0.5, "sharpness/raw": 2.0}), record_of(2))
    write(tmp_path, record_of(3, telemetry={"saturation/final_norm": 0.5}), first_step=3)
    assert charts(tmp_path) == {
        "loss": {"training and validation loss": r"loss/(train|val)$", "learning rate": r"lr$"},
        "attention by layer": {"share of logits that the clamp cuts": r"clamp_hit_rate/layer_\d+$"},
        "gradients": {"gradient norm, total": r"grad_norm/total$"},
        "sharpness": {"largest eigenvalue of the Hessian, and the threshold": r"sharpness/.+$"},
    }


def test_all_that_a_run_measures_is_read_back_and_has_its_chart(command, text_data, tmp_path: Path) -> None:
    small = ("model=micro", "tokenizer=bytes", "trainer.steps=2", "trainer.val_tokens=256", "schedule.warmup_steps=1")
    options = ("telemetry=full", "attention/clamp=hard", "model/norm=dyt", "telemetry.sharpness_every=1")
    said = command(*small, *text_data, *options, "hydra.run.dir=run")
    assert said.exit_code == 0, said.err
    run = RunFolder(tmp_path / "run")
    first, last = run.read_metrics()
    measured = {key for key in last if "/" in key}
    assert measured >= {f"activation_rms/{site}/layer_1" for site in ("residual", "attention", "ffn_hidden", "ffn")}
    events = read(run.path)
    scalars = {tag for tag in events.Tags()["scalars"] if not tag.startswith("outcome/")}  # those are for HParams
    assert scalars == ALWAYS | {"loss/val"} | measured
    assert set(events.Tags()["images"]) == {"figures/activation_rms", "figures/attention_logits"}
    for tag in measured:
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        assert points == [(step, pytest.approx(float(record[tag]))) for step, record in ((1, first), (2, last))]

    grouped = charts(run.path)
    members = {
        title: {tag for tag in measured | {"loss/train", "loss/val", "lr", "grad_norm/total"} if re.match(pattern, tag)}
        for category in grouped.values()
        for title, pattern in category.items()
    }
    assert members["training and validation loss"] == {"loss/train", "loss/val"}
    assert members["learning rate"] == {"lr"}
    assert members["residual stream"] == by_layer("activation_rms/residual")
    assert members["feed-forward hidden"] == by_layer("activation_rms/ffn_hidden")
    assert members["feed-forward output"] == by_layer("activation_rms/ffn")
    assert members["attention output, largest"] == by_layer("activation_absmax/attention")
    assert members["largest logit"] == by_layer("attention_logit_max")
    assert members["entropy (nats)"] == by_layer("attention_entropy")
    assert members["share of logits that the clamp cuts"] == by_layer("clamp_hit_rate")
    roles = {tag.removeprefix("update_ratio/") for tag in measured if re.fullmatch("update_ratio/[^/]+", tag)}
    assert {"query", "ffn_down", "gains"} <= roles
    assert members["update norm over weight norm"] == {f"update_ratio/{role}" for role in roles}
    assert members["gradient norm by role"] == {f"grad_norm/{role}" for role in roles}
    assert members["gradient norm, total"] == {"grad_norm/total"}
    assert {tag for tag in measured if tag.startswith("saturation/")} == members[
        "share of a norm's values that are saturated"
    ]
    sharpness = members["largest eigenvalue of the Hessian, and the threshold"]
    assert "sharpness/raw" in sharpness
