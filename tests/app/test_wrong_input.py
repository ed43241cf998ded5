"""Wrong input: one line that says what must hold, what came and what to type; exit code 2; nothing left behind."""

from pathlib import Path

import numpy as np
import pytest

WRONG = {
    "model.num_layers=0": ["model.num_layers", "at least 1", "got 0", "model.num_layers=4"],
    "model.width=100 model.num_heads=3": ["divisible", "100 and 3", "model.num_heads=2"],
    "model.width=12 model.num_heads=4": ["even head width", "got 3"],
    "optimizer.lr=abc": ["optimizer.lr", "a number greater than 0", "'abc'", "optimizer.lr=0.003"],
    "optimizer.lr=-1": ["optimizer.lr", "greater than 0", "got -1"],
    "optimizer.lr=null": ["optimizer.lr", "a number", "null"],
    "optimizer.lr=nan": ["optimizer.lr", "a number"],
    "optimizer.betas=[0.9]": ["optimizer.betas", "2 values"],
    "optimizer.betas=[0.9,1.0]": ["optimizer.betas", "[0, 1)"],
    "optimizer.lrr=1": ["optimizer.lrr", "lr, betas, eps, weight_decay", "Type optimizer.lr="],
    "optimiser.lr=1": ["optimiser", "optimizer"],
    "model/norm=nome": ["model/norm", "layernorm, none, rmsnorm", "'nome'", "model/norm=none"],
    "model/norm=null": ["model/norm", "Type model/norm=none"],
    "model.norm=none": ["slashes", "Type model/norm=none"],
    "model.norm=null": ["slashes", "Type model/norm=none"],
    "model/norm=": ["model/norm", "Type model/norm=none"],
    "model.norm.epsilon=1": ["model.norm.epsilon", "eps", "model.norm.eps="],
    "+model.norm.epsilon=1": ["model.norm.epsilon", "eps"],
    "seed=1.5": ["seed", "whole number", "1.5"],
    "seed=-1": ["seed", "at least 0"],
    "trainer.compile=maybe": ["trainer.compile", "true or false"],
    "trainer.precision=float16": ["trainer.precision", "float32, bfloat16"],
    "trainer.device=quantum": ["trainer.device", "quantum", "trainer.device=auto"],
    "init.scale.roles=[ffn_dwon]": ["init.scale.roles", "ffn_down"],
    "init.scale.roles=ffn_down": ["init.scale.roles", "a list"],
    "+model.per_layer.layer_0.norm=none": ["parts of layers", "Type +model/norm@model.per_layer.layer_0.norm=none."],
    "model.per_layer.layer_0.norm=none": ["parts of layers", "Type +model/norm@model.per_layer.layer_0.norm=none."],
    "+model.per_layer.layer_0.attention=5": ["Type +attention@model.per_layer.layer_0.attention=multi_head."],
    "+model.per_layer.layer_0=none": ["Type +model/norm@model.per_layer.layer_0.norm=none."],
    "+model.per_layer=none": ["Type +model/norm@model.per_layer.layer_0.norm=none."],
    "++model.per_layer={layer_0:{norm:none}}": ["from a group", "Type +model/norm@model.per_layer.layer_0.norm=none."],
    "model.per_layer={layer_0:{norm:none}}": ["Type for instance +model/norm@model.per_layer.layer_0.norm=none"],
    "+model.per_layer.layer_0.norm.eps=1": ["_target_", "Type +model/norm@model.per_layer.layer_0.norm=… first"],
    "model/norm@model.per_layer.layer_0.norm=none": [
        "must begin with +", "Type +model/norm@model.per_layer.layer_0.norm=none."
    ],
    "+model/norm@model.per_layer.layer_0.norm=nnone": ["Type +model/norm@model.per_layer.layer_0.norm=none."],
    "+model/norm@model.per_layer.layers_0_1.nrom=none": ["Type +model/norm@model.per_layer.layers_0_1.norm=none."],
    "++model.per_layer={layer_0:{nrom:{_target_:torch.nn.Identity}}}": ["'nrom'", "@model.per_layer.layer_0.norm=…"],
    "+norm@model.per_layer.layer_1.norm=none": ["Type +model/norm@model.per_layer.layer_1.norm=none."],
    "+model/norm@model.per_layer.layer_1=none": ["Type +model/norm@model.per_layer.layer_1.norm=none."],
    "+model/ffn@model.per_layer.layer_1.norm=gelu": ["Type +model/ffn@model.per_layer.layer_1.ffn=gelu."],
    "model=micro +model/norm@model.per_layer.layer_9.norm=none": ["layers 0 to 1", "'layer_9'", "layer_1.norm=…"],
    "model=micro +model/norm@model.per_layer.layers_0_9.norm=none": ["layers 0 to 1", "layers_0_1.norm=…"],
    "+model/norm@model.per_layer.layers_0_1.norm=none +model/norm@model.per_layer.layer_1.norm=l2": [
        "one norm", "layers_0_1", "leave layer 1 out"
    ],
    "+model/norm=l2": ["no +", "Type model/norm=l2."],
    "+model/nrom@model.qk_norm=l2": ["Type model/norm@model.qk_norm=l2."],
    "data=mix +daat@data.sources.b=stories": ["no config group 'daat'", "Type +data@data.sources.b=stories."],
    "attention/qk_norm=rmsnorm": ["got attention/qk_norm=rmsnorm", "Type model/norm@model.qk_norm=rmsnorm."],
    "model/qk_norm=rmsnorm": ["Type model/norm@model.qk_norm=rmsnorm."],
    "model.qk_norm=rmsnorm": ["Type model/norm@model.qk_norm=rmsnorm."],
    "qk_norm=rmsnrom": ["Type model/norm@model.qk_norm=rmsnorm."],
    "model/norm@model.qk_norm=rmsnrom": ["Type model/norm@model.qk_norm=rmsnorm."],
    "model/norm@model.qknorm=l2": ["Type model/norm@model.qk_norm=…"],
    "loss=output_cap": ["cross_entropy, z_loss", "Type model/output_cap=soft."],
    "loss=muon": ["Type optimizer=muon."],
    "telemetry=often": ["basic, full, none", "'often'", "Type telemetry=… with one of them."],
    "optimizer=AdamW": ["Type optimizer=adamw."],
    "trainer.precision=bf16": ["float32, bfloat16", "Try trainer.precision=bfloat16."],
    "init.scale.roles=[ffn]": ["a list of any of", "['ffn']", "Try init.scale.roles=[ffn_gate,ffn_up,ffn_down]."],
    "init.scale.roles=query": ["a list of any of", "Try init.scale.roles=[query]."],
    "init.scale.roles=[xyzzy]": ["Type init.scale.roles=[…]"],
    "attention/clamp=hard attention.clamp.limit=0": ["attention.clamp.limit", "greater than 0"],
    "attention.clamp.limit=3": ["attention.clamp.limit"],
    "data=text": ["data.train", "data.train=[a.txt,b.txt]"],
    "data=text data.train=absent.txt data.valid=absent.txt": ["absent.txt", "exist"],
    "data=text data.train=empty.txt data.valid=empty.txt": ["empty.txt", "is empty", "Leave it out"],
    "data=text data.train=blank.txt data.valid=short.txt": ["data.train", "nothing but white space", "blank.txt"],
    "task=tokenize data=text data.train=short.txt data.valid=blank.txt": ["data.valid", "blank.txt"],
    "data=text data.train=absent_*.txt data.valid=short.txt": ["data.train", "absent_*.txt", "exist"],
    "data=text data.train=latin.txt data.valid=latin.txt": ["latin.txt", "UTF-8", "byte 3 "],
    "data=text data.train=short.txt data.valid=short.txt tokenizer=bytes": ["more tokens", "context_length"],
    "task=tokenize data=tokens data.train=few.bin data.valid=few.bin": ["nothing to tokenize", "Leave out"],
    "data=tokens data.train=few.bin data.valid=high.bin": ["50,257", "high.bin holds 60,000", "data.tokenizer="],
    "data=tokens data.train=short.txt data.valid=few.bin": ["short.txt", "token file", "data=text"],
    "data=tokens data.train=few.bin data.valid=few.bin data.tokenizer=llama": ["got 'llama'", "data.tokenizer=gpt2"],
    "data=tokens data.train=few.bin data.valid=few.bin tokenizer.vocab_size=500": ["vocab_size=500 has no effect"],
    "data=tokens data.train=few.bin data.valid=few.bin tokenizer=bytes": ["tokenizer=bytes has no effect"],
    "data=mix +data.sources.a={_target_:normlab.data.text.TextFiles,train:short.txt,valid:short.txt}": [
        "a weight for every source (stories, a)", "got stories", "Type +data.weights.a=1."
    ],
    "data=mix +data.weights.b=1": ["name sources (stories)", "got b", "+data.sources.b="],
    "data=mix data.weights.stories=0": ["data.weights", "all are 0", "Type data.weights.stories=1."],
    "data=mix +data.sources.t={_target_:normlab.data.foreign_tokens.TokenFiles,train:a,valid:b,tokenizer:5} "
    "+data.weights.t=1": ["t is token files", "data=tokens"],
    "task=tokenize data=text data.train=short.txt data.valid=short.txt tokenizer=file tokenizer.path=short.txt": [
        "tokenizer.path", "normlab's JSON", "tokenizer.json", ".tiktoken", "short.txt"
    ],
    "data=url data.train=http://a/b data.valid=http://a/c data.train_sha256=abc data.valid_sha256=abc": [
        "64 hexadecimal digits", "got 'abc'", "data.train_sha256=null", "sha256sum"
    ],
    "tokenizer.vocab_size=100": ["at least 257", "got 100"],
    "task=generate": ["checkpoint", "must be given"],
    "task=generate checkpoint=.": ["checkpoint", "run folder"],
    "task=generate checkpoint=nowhere": ["checkpoint", "run folder", "nowhere"],
    "task=evaluate checkpoint=nowhere": ["checkpoint", "run folder", "nowhere"],
    "task=evaluate checkpoint=nowhere model/norm=none": ["model/norm=none", "no effect"],
    "task=generate checkpoint=nowhere temperature=-1": ["temperature", "at least 0"],
    "task=generate checkpoint=nowhere temprature=1": ["temprature", "temperature"],
    "resume=nowhere": ["resume", "run folder", "nowhere"],
    "data=from_checkpoint": ["task=evaluate"],
    "model.norm._target_=os.system": ["os.system", "allow_targets=[os]"],
    "+model.norm.extra={_target_:torch.load}": ["torch.load", "allow_targets=[torch]"],
    "model.width": ["model.width"],
    "optimizer.lr=1e-3,1e-2": ["one value", "--multirun"],
    "model/norm=none,rmsnorm": ["one value", "--multirun"],
    "+foo=1": ["foo", "at the top"],
    "~model.norm": ["taken out"],
    "norm=none": ["Type model/norm="],
    "model/nrom=none": ["Type model/norm="],
    "optimizer/lr=1e-3": ["Type optimizer.lr="],
    "temperature=0.5": ["task=generate"],
    "checkpoint=x": ["checkpoint", "run folder", "'x'"],
    "checkpoint=x task=tokenize": ["task=evaluate"],
    "tokenizer=from_checkpoint": ["Type checkpoint=…"],
    "checkpoint=hf:x": ["config.json", "'x'", "Type checkpoint=hf:<folder>"],
    "task=export": ["checkpoint", "must be given"],
    "task=export checkpoint=x format=xyz": ["format must be one of hf", "got 'xyz'"],
    "task=export checkpoint=x model/norm=none": ["model/norm=none", "no effect"],
    "data.train=[a.txt]": ["data=text"],
    "--steps 5": ["--steps", "key=value"],
    "--multirun --cfg job": ["Only one of", "several"],
    "prompt=[a,b] task=generate checkpoint=x": ["prompt must be text; got ['a','b']."],
    "task=tokenize tokenizer=bytes data=text data.train=short.txt data.valid=short.txt export=out": ["tokenizer=bpe"],
    "--cfg jobb": ["invalid choice", "--hydra-help"],
    "--shell-completion foo": ["takes a shell; got foo", "install=bash"],
    "help": ["--help"],
    "prompt=a,b task=generate checkpoint=x": ["one value", "for text 'prompt="],
    "data=text data.train=. data.valid=.": ["is a folder"],
    "cache=/dev/null/x model=micro": ["cache", "can be written"],
    "hydra.run.dir=/dev/null/x model=micro": ["hydra.run.dir", "can be written"],
    "seed=0 junk": ["junk"],
    "seed=[": ["seed=["],
    "model=huge": ["model must be one of", "handout, micro, small, tiny"],
    "experiment=nothing": ["experiment"],
}  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_input_gets_one_line_and_leaves_nothing(arguments: str, command, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "short.txt").write_text("Too short.")
    (tmp_path / "blank.txt").write_text(" \n<|endoftext|>\n\t<|endoftext|>")
    np.arange(500, dtype="<u2").tofile(tmp_path / "few.bin")
    np.array([1, 60_000, 2], "<u2").tofile(tmp_path / "high.bin")
    before = sorted(path.name for path in tmp_path.iterdir())

    said = command(*arguments.split(" "))

    assert said.exit_code == 2
    assert said.out == ""
    (line,) = [text for text in said.err.splitlines() if not text.startswith(("Encoding", "note: "))]
    assert line.startswith("error: ")
    assert len(line) < 320
    for part in WRONG[arguments]:
        assert part in line, line
    after = sorted(path.name for path in tmp_path.iterdir() if path.name != "data")
    assert after == before


def test_one_wrong_run_stops_a_sweep_before_it_starts(command, tmp_path: Path) -> None:
    said = command("--multirun", "model=micro", "model.num_heads=2,3", "seed=0,1")
    assert said.exit_code == 2
    assert "divisible" in said.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["inspect", "tokenize"])
def test_only_a_training_is_resumed(task: str, command, text_data, tmp_path: Path) -> None:
    recorded = (*text_data, "model=micro", "tokenizer=bytes", "logger=none")
    trained = command(*recorded, "trainer.steps=1", "trainer.val_tokens=64", "hydra.run.dir=run")
    assert trained.exit_code == 0, trained.err
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = command(f"task={task}", "resume=run")
    assert said.exit_code == 2
    assert "resume=run goes on with a training" in said.err
    assert "Remove resume" in said.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        "+model/norm@model.per_layer.layer_0.norm=rmsnorm model.per_layer.layer_0.norm.eps=1e-3",
        "+model/norm@model.per_layer.layers_0_1.norm=none +model/norm@model.per_layer.layer_1.qk_norm=l2",
        "+model/norm@model.per_layer.layers_0_0.norm=none +model/norm@model.per_layer.layer_1.norm=l2",
        "+attention@model.per_layer.layer_1.attention=multi_head "
        "attention/clamp@model.per_layer.layer_1.attention.clamp=soft",
        "model/norm@model.qk_norm=l2 model.placement.sites=[ffn] init=tfixup",
    ],
)
def test_what_only_resembles_a_mistake_is_taken(arguments: str, command) -> None:
    said = command("model=micro", *arguments.split(" "), "--cfg", "job")
    assert said.exit_code == 0, said.err
