"""The last part of a step, once all gradients are finite: their norm, the clipping by it, the optimizer."""

from torch import Tensor, nn, optim

from normlab.autopsy.finding import Contents, FirstNonfinite, contents_of, elements_where, name_of
from normlab.autopsy.places import place_of
from normlab.optim.clipping import clip_gradients


def overflow_in_update(
    model: nn.Module, optimizer: optim.Optimizer, *, lr: float, grad_clip: float | None
) -> FirstNonfinite | None:
    """Clip and step, in place; the overflow of the norm, or of the first parameter by name that has one."""
    norm = clip_gradients(model.parameters(), None)
    if not norm.isfinite():
        return _overflow_of_norm(model, norm)
    clip_gradients(model.parameters(), grad_clip)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    states_before = {name: _contents_of_state(optimizer, p) for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    for name, parameter in model.named_parameters():
        state = _state(optimizer, parameter)
        for label, tensor in (*state.items(), ("weight", parameter.detach())):
            if tensor.isfinite().all():
                continue
            was_bad = any(contents.num_nonfinite > 0 for contents in states_before[name])
            layer, site = place_of(name)
            gradient = [] if parameter.grad is None else [contents_of("gradient", parameter.grad)]
            return FirstNonfinite(
                phase="optimizer",
                layer=layer,
                site=site,
                operation=f"{type(optimizer).__name__}.step",
                kind="bad_input" if was_bad else "update_overflow",
                limit_dtype=None if was_bad else name_of(tensor.dtype),
                inputs=(
                    contents_of("weight", before[name]),
                    *gradient,
                    *(states_before[name] if was_bad else _contents_of_state(optimizer, parameter)),
                ),
                output=contents_of(label, tensor),
                elements=elements_where(~tensor.isfinite()),
            )
    return None


def _overflow_of_norm(model: nn.Module, norm: Tensor) -> FirstNonfinite:
    """Of the finite gradients whose 2-norm overflows, the one with the largest value."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    name = max(gradients, key=lambda name: gradients[name].abs().max().item())
    layer, site = place_of(name)
    return FirstNonfinite(
        phase="optimizer",
        layer=layer,
        site=site,
        operation="norm of the gradients",
        kind="product_overflow",
        limit_dtype=name_of(norm.dtype),
        inputs=(contents_of(name, gradients[name]),),
        output=contents_of("norm", norm),
        elements=elements_where(~norm.isfinite()),
    )


def _state(optimizer: optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """By its names in their order, whatever order it was made or loaded in."""
    return {
        key: value
        for key, value in sorted(optimizer.state.get(parameter, {}).items())
        if isinstance(value, Tensor) and value.is_floating_point()
    }


def _contents_of_state(optimizer: optim.Optimizer, parameter: Tensor) -> list[Contents]:
    return [contents_of(key, value) for key, value in _state(optimizer, parameter).items()]
