"""Options that speak to an instability, each with the models that it can help."""

from collections.abc import Callable
from dataclasses import dataclass

from normlab.telemetry.architecture import Architecture


@dataclass(frozen=True)
class Remedy:
    """What to type, and whether that would change a model for the better: it is not there yet, and is not refused.

    ``note`` says what an option that does not name it brings.
    """

    option: str
    helps: Callable[[Architecture], bool]
    note: str | None = None


def advice(architecture: Architecture, *remedies: Remedy) -> str:
    """ " Try a, b or c." of those that help; empty where none does."""
    options = [
        remedy.option if remedy.note is None else f"{remedy.option} ({remedy.note})"
        for remedy in remedies
        if remedy.helps(architecture)
    ]
    if not options:
        return ""
    *others, last = options
    return f" Try {', '.join(others)} or {last}." if others else f" Try {last}."


def _draws_sizes(model: Architecture) -> bool:
    return not model.sets_weight_sizes


def _draws_last_matrices(model: Architecture) -> bool:
    """Whether a smaller draw makes the branches smaller: Fixup's are zero, and a norm behind them would undo it."""
    return _draws_sizes(model) and model.init != "Fixup" and "branch" not in model.norm_slots


def _is_enlarged(model: Architecture) -> bool:
    return model.init_scale_factor > 1 and bool(model.init_scale_roles)


RMSNORM = Remedy("model/norm=rmsnorm", lambda model: not model.norm_slots and model.init != "Fixup")
ALL_SITES = Remedy(
    "model.placement.sites=[attention,ffn,final]",
    lambda model: bool(model.norm_slots) and not {"attention", "ffn"} <= set(model.norm_sites),
)
FINAL_NORM = Remedy(
    "model.placement.sites=[attention,ffn,final]",
    lambda model: bool(model.norm_slots) and "final" not in model.norm_sites and "output" not in model.norm_slots,
    "a final norm",
)
PERI = Remedy("model/placement=peri", lambda model: model.has_norm and "branch" not in model.norm_slots)
PRE = Remedy("model/placement=pre", lambda model: model.has_norm and "input" not in model.norm_slots)
REZERO = Remedy("model/residual=rezero", lambda model: not model.starts_as_identity)
GPT2 = Remedy("init=gpt2", lambda model: model.init != "GPT2" and _draws_sizes(model))
FAN_IN = Remedy("init=fan_in", lambda model: model.init != "FanIn" and _draws_sizes(model))
LARGER_INIT = Remedy("init=fan_in", lambda model: model.init == "GPT2" and _draws_sizes(model))
UNIT = Remedy("init/scale=unit", _is_enlarged)
NOT_SHRUNK = Remedy("init/scale=unit", lambda model: model.init_scale_factor < 1 and bool(model.init_scale_roles))
SMALL_FFN = Remedy(
    "init/scale=small",
    lambda model: _draws_last_matrices(model) and not model.shrinks("ffn_down"),
)
SMALL_FFN_WITHOUT_NORM = Remedy(SMALL_FFN.option, lambda model: not model.has_norm and SMALL_FFN.helps(model))
SMALL_OUT = Remedy(
    "init/scale=small_out",
    lambda model: _draws_last_matrices(model) and not model.shrinks("attention_out", "ffn_down"),
)
UNTIED = Remedy("model.tied_embedding=false", lambda model: model.tied_head_gain is not None)
OUTPUT_CAP = Remedy("model/output_cap=soft", lambda model: model.output_cap is None)
STABLE_SOFTMAX = Remedy("attention/softmax=stable", lambda model: model.softmax_overflows)
HARD_CLAMP = Remedy("attention/clamp=hard", lambda model: model.clamp_limit is None)
SOFT_CLAMP = Remedy("attention/clamp=soft", lambda model: model.clamp_limit is None)
SCALE_FACTOR = Remedy("a smaller attention.scale.factor", lambda model: model.logit_scale_factor > 1)
QK_NORM = Remedy("model/norm@model.qk_norm=rmsnorm", lambda model: not model.has_qk_norm and not model.has_qk_clip)
LOWER_LR = Remedy("a lower optimizer.lr with a longer warmup", lambda model: True)
