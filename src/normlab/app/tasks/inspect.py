"""task=inspect: the signal through the network before any training, what it takes, and what is likely to fail."""

import math
import textwrap
from dataclasses import asdict

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from normlab.app.announce import announce, shown_path
from normlab.app.build import build_experiment
from normlab.app.canonical import fingerprint_of
from normlab.app.sinks import open_logger
from normlab.app.targets import IDENTITY
from normlab.core.files import write_whole
from normlab.core.records import StepRecord, encode_json
from normlab.core.run_folder import RunFolder
from normlab.model.attention import CausalSelfAttention, ExplicitAttention
from normlab.model.clamp import limit_of
from normlab.model.language_model import LanguageModel
from normlab.model.residual import ChannelGate, ResidualPath, ScalarGate
from normlab.model.softmax import StableSoftmax
from normlab.telemetry.architecture import Architecture
from normlab.telemetry.counts import count_step, parameters_by_role
from normlab.telemetry.diagnosis import diagnose
from normlab.telemetry.diagnosis_of_branches import remarks
from normlab.telemetry.inspection import inspect_signal
from normlab.telemetry.inspection_table import NUM_COLUMNS, cost_table, signal_table
from normlab.telemetry.sinks import fenced
from normlab.train.hardware import autocast


def inspect(config: DictConfig, folder: RunFolder) -> int:
    """Print the tables and the findings; write inspection.json, a figure, and both to the logger."""
    experiment = build_experiment(config, announce)
    model, loss, batch = experiment.model, experiment.loss, experiment.batches.training(1)
    precision = autocast(experiment.device, experiment.settings.precision)
    inspection = inspect_signal(model, loss, batch.inputs_BT, batch.targets_BT, precision)
    counts = count_step(model, loss, instantiate(config.optimizer), batch.inputs_BT)
    parameters = parameters_by_role(model)
    architecture = architecture_of(config, model)
    findings, by_design = diagnose(inspection, architecture), remarks(inspection, architecture)

    signal = signal_table(inspection)
    cost = cost_table(counts, inspection.activation_bytes, parameters, batch.inputs_BT.numel())
    said = f"what is likely to fail:\n{_listed(findings or ['nothing stands out before training'])}"
    if by_design:
        said += f"\n\nworth knowing:\n{_listed(by_design)}"
    print(f"{signal}\n\n{cost}\n\n{said}")

    write_whole(folder.config, OmegaConf.to_yaml(config, resolve=True))
    content = {
        "fingerprint": fingerprint_of(config),
        "loss": inspection.loss,
        "readings": inspection.readings,
        "parameters": parameters,
        **asdict(counts),
        "activation_bytes": inspection.activation_bytes,
        "findings": findings,
        "remarks": by_design,
    }
    write_whole(folder.path / "inspection.json", encode_json(content, indent=2) + "\n")
    from normlab.telemetry.figure_of_inspection import inspection_png  # matplotlib is slow to import

    png = inspection_png(inspection)
    write_whole(folder.figures / "inspection.png", png)
    logger = open_logger(config, folder, 1)
    total = math.hypot(*(inspection.readings[f"grad_norm/{role}"] for role in parameters))
    logger.record(
        StepRecord(
            step=0,
            tokens=0,
            seconds=0.0,
            lr=0.0,
            train_loss=inspection.loss,
            grad_norm=total,
            telemetry=inspection.readings,
        )
    )
    logger.text("inspection", fenced(f"{signal}\n\n{cost}\n\n{said}"))
    logger.image("figures/inspection", png, 0)
    logger.close()
    print(f"written to: {shown_path(folder.path)}")
    return 0


def architecture_of(config: DictConfig, model: LanguageModel) -> Architecture:
    """What a diagnosis has to know of a model that was just built from a configuration."""
    attentions = [module for module in model.modules() if isinstance(module, CausalSelfAttention)]
    limits = [limit_of(getattr(attention.attend, "clamp", nn.Identity())) for attention in attentions]
    bounds = [limit for limit in limits if limit is not None]
    has_norm = config.model.norm._target_ != IDENTITY
    embedding_VD = model.token_embedding.weight.detach()
    gates = [_gate_of(module.rule) for module in model.modules() if isinstance(module, ResidualPath)]
    return Architecture(
        norm_slots=list(model.placement.slots) if has_norm else [],
        norm_sites=list(model.placement.sites) if has_norm else [],
        has_qk_norm=not any(isinstance(attention.query_norm, nn.Identity) for attention in attentions),
        has_qk_clip=any(attention.qk_clip.needs_logits for attention in attentions),
        softmax_overflows=any(_overflows(attention.attend) for attention in attentions),
        clamp_limit=max(bounds) if bounds and len(bounds) == len(limits) else None,
        logit_scale_factor=OmegaConf.select(config, "attention.scale.factor", default=1.0),
        output_cap=limit_of(model.output_cap),
        branch_gain=max(gates, default=1.0),
        tied_head_gain=torch.linalg.vector_norm(embedding_VD, dim=1).mean().item()
        if model.head.weight is model.token_embedding.weight
        else None,
        init=config.init._target_.rpartition(".")[2],
        init_scale_factor=OmegaConf.select(config, "init.scale.factor", default=1.0),
        init_scale_roles=list(OmegaConf.select(config, "init.scale.roles", default=[])),
        sets_weight_sizes=config.model.linear.get("initial_gain") is not None,
    )


def _overflows(attend: nn.Module) -> bool:
    """Whether the softmax subtracts no maximum."""
    return isinstance(attend, ExplicitAttention) and not isinstance(attend.softmax, StableSoftmax)


def _gate_of(rule: nn.Module) -> float:
    """What multiplies a sublayer's output: the largest value of a gate, 1 without one."""
    if isinstance(rule, ScalarGate):
        return rule.alpha.detach().abs().max().item()
    if isinstance(rule, ChannelGate):
        return rule.scale.detach().abs().max().item()
    return 1.0


def _listed(lines: list[str]) -> str:
    """A dash before each line, none wider than the tables."""
    wrapper = textwrap.TextWrapper(NUM_COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapper.fill(f"- {line}") for line in lines)
