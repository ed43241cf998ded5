"""Checkpoints that somebody damaged, swapped or made up: refused by name, in one line, with little memory.

Where the digests are made to fit, the parsers behind them are what is tested.
"""

import copy
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normlab.core.errors import CheckpointError
from normlab.train import checkpoint
from normlab.train.checkpoint import load_checkpoint, save_checkpoint, shape_of_weight, verify_checkpoint
from normlab.train.saved_state import read_run_state
from normlab.train.state import RunState
from normlab.train.tensors import fill_model

CONTENT = ("model.safetensors", "optimizer.safetensors", "state.json")
NUM_MUTATIONS = 120


class Trainee:
    """A tiny model and its optimizer, after one step."""

    def __init__(self, width: int = 3):
        self.model = nn.Linear(width, 2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.model(torch.ones(1, width)).sum().backward()
        self.optimizer.step()

    def bits(self) -> list[bytes]:
        states = [self.optimizer.state[parameter] for parameter in self.model.parameters()]
        moments = [tensor for state in states for tensor in state.values()]
        return [tensor.detach().numpy().tobytes() for tensor in (*self.model.parameters(), *moments)]


@pytest.fixture
def trainee() -> Trainee:
    return Trainee()


@pytest.fixture
def saved(trainee: Trainee, tmp_path: Path) -> Path:
    path = tmp_path / "step_7"
    save_checkpoint(path, trainee.model, trainee.optimizer, RunState(step=7).as_dict())
    return path


def make_digests_fit(path: Path) -> None:
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in CONTENT}
    (path / "manifest.json").write_text(json.dumps({"format": 2, "written_by": "normlab 1", "sha256": digests}))


def refusal(use: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        use()
    line = str(caught.value)
    assert "\n" not in line and line.isprintable() and len(line) < 1000
    return line


def assert_refused(path: Path, trainee: Trainee, *words: str) -> None:
    """Loading it is refused, in words that name the file or folder, and fills nothing."""
    before = trainee.bits()
    line = refusal(lambda: load_checkpoint(path, trainee.model, trainee.optimizer) and read_run_state(path))
    assert path.name in line
    for word in words:
        assert word in line
    assert trainee.bits() == before


def tensors_file(header: Any, data: bytes = b"", num_bytes: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if num_bytes is None else num_bytes) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}


BIAS = {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]}
HOSTILE_TENSORS = {
    "empty": b"",
    "short": b"\x01\x02\x03",
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "zip": b"PK\x03\x04" + bytes(100),
    "header_longer_than_file": tensors_file({"weight": entry()}, bytes(24), num_bytes=2**20),
    "header_of_exabytes": tensors_file({"weight": entry()}, bytes(24), num_bytes=2**63),
    "negative_header": b"\xff" * 8 + b"{}",
    "no_json": tensors_file(b"not json"),
    "list": tensors_file([1, 2]),
    "null": tensors_file(b"null"),
    "deep": tensors_file(b"[" * 200_000),
    "deep_object": tensors_file(b'{"a":' * 200_000),
    "not_utf8": tensors_file(b'{"\xff": 1}'),
    "utf16": tensors_file("{}".encode("utf-16")),
    "huge_tensor": tensors_file({"weight": entry(shape=[2**40], data_offsets=[0, 2**42]), "bias": BIAS}, bytes(32)),
    "product_overflows": tensors_file({"weight": entry(shape=[2**40, 2**40]), "bias": BIAS}, bytes(32)),
    "overlapping": tensors_file({"weight": entry(), "bias": {**BIAS, "data_offsets": [16, 24]}}, bytes(24)),
    "out_of_range": tensors_file({"weight": entry(), "bias": {**BIAS, "data_offsets": [24, 10**6]}}, bytes(32)),
    "backwards": tensors_file({"weight": entry(data_offsets=[24, 0]), "bias": BIAS}, bytes(32)),
    "negative_offset": tensors_file({"weight": entry(data_offsets=[-24, 0]), "bias": BIAS}, bytes(32)),
    "negative_shape": tensors_file({"weight": entry(shape=[-2, -3]), "bias": BIAS}, bytes(32)),
    "nan_shape": tensors_file(b'{"weight":{"dtype":"F32","shape":[NaN],"data_offsets":[0,24]}}', bytes(24)),
    "shape_of_text": tensors_file({"weight": entry(shape=["2", "3"]), "bias": BIAS}, bytes(32)),
    "duplicated": tensors_file(
        b'{"weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},'
        b'"bias":{"dtype":"F32","shape":[2],"data_offsets":[24,32]},'
        b'"weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}',
        bytes(32),
    ),
    "unknown_type": tensors_file({"weight": entry(dtype="Q64"), "bias": BIAS}, bytes(32)),
    "no_type": tensors_file({"weight": {"shape": [2, 3], "data_offsets": [0, 24]}, "bias": BIAS}, bytes(32)),
    "other_type": tensors_file({"weight": entry(dtype="I32"), "bias": BIAS}, bytes(32)),
    "other_shape": tensors_file({"weight": entry(shape=[3, 2]), "bias": BIAS}, bytes(32)),
    "other_order": tensors_file({"weight": entry(shape=[6]), "bias": BIAS}, bytes(32)),
    "no_elements": tensors_file({"weight": entry(shape=[2**60, 0], data_offsets=[0, 0])}),
    "many_axes": tensors_file({"weight": entry(shape=[1] * 50_000 + [6]), "bias": BIAS}, bytes(32)),
    "extra_name": tensors_file(
        {"weight": entry(), "bias": BIAS, "os.system": {**BIAS, "data_offsets": [32, 40]}}, bytes(40)
    ),
    "path_as_name": tensors_file({"../../weight": entry(), "bias": BIAS}, bytes(32)),
    "ugly_name": tensors_file({"\x1b[31m\n" + "w" * 10_000: entry(), "bias": BIAS}, bytes(32)),
    "missing_name": tensors_file({"weight": entry()}, bytes(24)),
}  # fmt: skip


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("case", HOSTILE_TENSORS)
def test_hostile_tensor_files_are_refused_by_name(saved: Path, trainee: Trainee, name: str, case: str) -> None:
    (saved / name).write_bytes(HOSTILE_TENSORS[case])
    assert_refused(saved, trainee, f"{saved / name} is missing or was altered")
    make_digests_fit(saved)
    assert_refused(saved, trainee, name)


def test_optimizer_state_of_another_optimizer_or_with_a_part_missing_is_refused(
    saved: Path, trainee: Trainee, tmp_path: Path
) -> None:
    tensors = checkpoint.load_file(saved / "optimizer.safetensors")
    without = {key: value for key, value in tensors.items() if key != "bias/exp_avg_sq"}
    for changed, words in (
        (without, "'bias' and 'weight' must have the same kinds of optimizer state"),
        ({**tensors, "weight/exp_avg": torch.zeros(3)}, "'weight/exp_avg' is (3,) there and (2, 3) here"),
        ({**tensors, "weight/step": torch.zeros(3)}, "'weight/step' is (3,) there and () here"),
        ({**tensors, "weight/exp_avg": torch.zeros(2, 3, dtype=torch.int64)}, "is torch.int64 there"),
        ({**tensors, "gain/exp_avg": torch.zeros(3)}, "'gain', which is not in this one"),
    ):
        checkpoint.save_file(changed, saved / "optimizer.safetensors")
        make_digests_fit(saved)
        assert_refused(saved, trainee, words)


DEEP = b"[" * 200_000
HOSTILE_JSON = {
    "empty": b"",
    "deep": DEEP + b"]" * 200_000,
    "deep_object": b'{"step":' * 100_000,
    "long": b'{"step": 7, "x": "' + b"x" * (8 * 2**20) + b'"}',
    "many": b"[" + b"[]," * (2 * 2**20) + b"[]]",
    "many_digits": b'{"step": ' + b"9" * 100_000 + b"}",
    "list": b"[]",
    "text": b'"state"',
    "nan": b'{"step": NaN}',
    "infinity": b'{"seconds": -Infinity}',
    "not_utf8": b'{"step": "\xff\xfe"}',
    "utf16": '{"step": 7}'.encode("utf-16"),
    "twice": b'{"step": 7, "step": 8}',
    "twice_within": b'{"step": 7, "history": {"average": 1, "average": 2}}',
    "code": b'{"step": {"_target_": "os.system", "command": "true"}}',
    "surrogate": b'{"\\ud800": 1}',
}


@pytest.mark.parametrize("case", HOSTILE_JSON)
def test_hostile_states_are_refused_by_name(saved: Path, trainee: Trainee, case: str) -> None:
    (saved / "state.json").write_bytes(HOSTILE_JSON[case])
    make_digests_fit(saved)
    line = refusal(lambda: read_run_state(saved))
    assert f"{saved / 'state.json'}" in line


@pytest.mark.parametrize("case", HOSTILE_JSON)
def test_hostile_manifests_are_refused_by_name(saved: Path, trainee: Trainee, case: str) -> None:
    (saved / "manifest.json").write_bytes(HOSTILE_JSON[case])
    assert_refused(saved, trainee, "readable manifest.json")


@pytest.mark.parametrize("found", [0, 3, -1, 2.0, "2", True, None, [2], {}, 10**300, "\x1b[31m\n\ud800"])
def test_a_format_that_is_none_of_ours_is_refused(saved: Path, trainee: Trainee, found: object) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "format": found, "written_by": found}))
    assert_refused(saved, trainee, "has checkpoint format", "this version reads 1 and 2")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "model.safetensors/../../secret", "", ".", "extra.pt", "os.system"]
)
def test_other_names_in_a_manifest_are_refused_and_nothing_else_is_ever_opened(
    saved: Path, trainee: Trainee, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = saved.parent / "secret"
    secret.write_text("secret")
    (saved / "extra.pt").write_text("not looked at")
    opened: set[str] = set()
    original_open, original_load = Path.open, checkpoint.load_file

    def record_open(path: Path, *arguments: Any, **options: Any) -> Any:
        opened.add(str(path))
        return original_open(path, *arguments, **options)

    def record_load(path: Path) -> Any:
        opened.add(str(path))
        return original_load(path)

    monkeypatch.setattr(Path, "open", record_open)
    monkeypatch.setattr(checkpoint, "load_file", record_load)
    load_checkpoint(saved, trainee.model, trainee.optimizer)
    assert opened == {str(saved / known) for known in (*CONTENT, "manifest.json")}
    opened.clear()
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["sha256"][name] = hashlib.sha256(b"secret").hexdigest()
    (saved / "manifest.json").write_text(json.dumps(manifest))
    assert_refused(saved, trainee, "and nothing else")
    assert opened == {str(saved / "manifest.json")}


@pytest.mark.parametrize("name", [*CONTENT, "manifest.json"])
@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "pipe", "folder", "device"])
def test_what_is_no_regular_file_of_the_folder_is_refused(
    saved: Path, trainee: Trainee, tmp_path: Path, name: str, kind: str
) -> None:
    path = saved / name
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    {
        "link": lambda: path.symlink_to(elsewhere),
        "dangling": lambda: path.symlink_to("absent"),
        "loop": lambda: path.symlink_to(name),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
    }[kind]()
    assert_refused(saved, trainee)


def test_files_and_manifests_of_another_checkpoint_are_refused(saved: Path, trainee: Trainee, tmp_path: Path) -> None:
    before = {name: (saved / name).read_bytes() for name in (*CONTENT, "manifest.json")}
    trainee.optimizer.step()
    other = tmp_path / "step_8"
    save_checkpoint(other, trainee.model, trainee.optimizer, RunState(step=8).as_dict())
    for name in before:
        (saved / name).write_bytes((other / name).read_bytes())
        assert_refused(saved, trainee, "is missing or was altered")
        (saved / name).write_bytes(before[name])
    for name in before:
        (saved / name).write_bytes((other / name).read_bytes())
    assert "is of step 8" in refusal(lambda: read_run_state(saved))


def test_a_checkpoint_of_a_model_of_another_size_is_refused(saved: Path) -> None:
    assert_refused(saved, Trainee(width=4), "'weight' is (2, 3) there and (2, 4) here")


def test_weights_from_memory_are_checked_before_any_is_filled(trainee: Trainee) -> None:
    before, wrong = trainee.bits(), {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}
    assert "the copy was written for another model" in refusal(lambda: fill_model(trainee.model, wrong, "the copy"))
    assert trainee.bits() == before


def test_a_weight_that_is_not_there_has_no_shape(saved: Path) -> None:
    assert shape_of_weight(saved, "weight") == (2, 3)
    assert "has no 'token_embedding.weight'" in refusal(lambda: shape_of_weight(saved, "token_embedding.weight"))


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with a byte or bit changed, a part cut out, repeated or moved, or its end cut off."""
    where, length = chance.randrange(len(content)), chance.randrange(1, 9)
    changed = bytearray(content)
    match chance.randrange(6):
        case 0:
            changed[where] ^= 1 << chance.randrange(8)
        case 1:
            changed[where : where + length] = chance.randbytes(length)
        case 2:
            del changed[where : where + length]
        case 3:
            changed[where:where] = changed[where : where + length] * chance.randrange(1, 4)
        case 4:
            del changed[where:]
        case _:
            changed[where] = ord(chance.choice('0123456789"[]{},:-eE'))
    return bytes(changed)


@pytest.mark.parametrize("name", [*CONTENT, "manifest.json"])
@pytest.mark.parametrize("fits", [False, True])
def test_every_mutation_is_refused_or_means_a_checkpoint(
    saved: Path, trainee: Trainee, name: str, fits: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    content, before = (saved / name).read_bytes(), trainee.bits()
    chance = random.Random(f"{name} {fits}")
    num_refused = 0
    for _ in range(NUM_MUTATIONS):
        changed = mutated(content, chance)
        (saved / name).write_bytes(changed)
        if fits and name != "manifest.json":
            make_digests_fit(saved)
        other = copy.deepcopy(trainee)
        try:
            verify_checkpoint(saved)
            load_checkpoint(saved, other.model, other.optimizer)
            read_run_state(saved)
            assert fits or changed == content or name == "manifest.json"
        except CheckpointError as error:
            num_refused += 1
            assert "\n" not in str(error) and str(error).isprintable() and len(str(error)) < 1000
            if "state.json" not in str(error):
                assert other.bits() == before
    assert num_refused > NUM_MUTATIONS / 4
    assert capfd.readouterr() == ("", "")


# Refuses every bomb in a process that may not take more than a little memory.
BOMBS = """
import resource, sys
from pathlib import Path
import torch
from torch import nn
from tests.train.test_hostile_checkpoints import bombs
from normlab.core.errors import CheckpointError
from normlab.train.checkpoint import load_checkpoint
from normlab.train.saved_state import read_run_state

model = nn.Linear(3, 2)
paths = bombs(Path(sys.argv[1]))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)
for path in paths:
    try:
        load_checkpoint(path, model)
        read_run_state(path)
    except CheckpointError:
        print("refused")
"""


def bombs(folder: Path) -> list[Path]:
    """Checkpoints with fitting digests and files of 90 MB that would take gigabytes to parse."""
    axes = b'{"a":{"dtype":"F32","shape":[' + b"1," * 45_000_000 + b'1],"data_offsets":[0,4]}}'
    lists = b"[" + b"[]," * 30_000_000 + b"[]]"
    contents = {"model.safetensors": tensors_file(axes, bytes(4)), "state.json": lists, "manifest.json": lists}
    paths = []
    for name, content in contents.items():
        path = folder / f"step_{len(paths)}"
        trainee = Trainee()
        save_checkpoint(path, trainee.model, trainee.optimizer, RunState(step=len(paths)).as_dict())
        (path / name).write_bytes(content)
        if name != "manifest.json":
            make_digests_fit(path)
        paths.append(path)
    return paths


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_bombs_are_refused_with_little_memory(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    script = [sys.executable, "-c", BOMBS, str(tmp_path)]
    said = subprocess.run(script, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert said.stdout.split() == ["refused"] * 3, said.stderr[-2000:]
