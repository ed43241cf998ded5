"""Sharpness: the largest eigenvalue of the Hessian H of the training loss on a fixed batch, plain and preconditioned.

Gradient descent is stable along an eigenvector of H only while its eigenvalue is below a threshold, 2 / lr without
momentum; one that divides each step by P, such as Adam, while those of P^(-1/2) H P^(-1/2) are.
Cohen et al. 2021, section 2 and appendix A; Cohen et al. 2022, section 3.
H is never formed: H v is the derivative of the gradient's product with v (Pearlmutter 1994), and Lanczos' method makes
eigenvalues of it. Observers leave no trace: weights, their gradients and buffers are bit for bit what they were.

Shapes: ``N`` all trained values of the model as one vector, in the order of its parameters.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from normlab.core.types import Count, NonNegative
from normlab.model.attention import attention_spelt_out
from normlab.model.buffers import buffers_restored

Product = Callable[[Tensor], Tensor]
"""A symmetric matrix, as what it makes of a vector ``N``."""


class Sharpness(NamedTuple):
    """An estimate of the largest eigenvalue, from below; some eigenvalue lies within ``residual`` of it."""

    eigenvalue: float
    residual: float
    num_iterations: int
    has_converged: bool


def sharpness_readings(
    loss: Callable[[], Tensor],
    model: nn.Module,
    *,
    preconditioner: Sequence[Tensor] | None,
    threshold: float | None,
    num_iterations: Count,
    tolerance: NonNegative,
    generator: torch.Generator,
) -> dict[str, float]:
    """Sharpness by TensorBoard tag; without a preconditioner or threshold there is no tag for it.

    Arguments are those of :func:`sharpness`. Both eigenvalues share one forward and backward pass.
    """
    with hessian_of(loss, model) as hessian:
        search = {"num_iterations": num_iterations, "tolerance": tolerance}
        readings = {"sharpness/raw": largest_eigenvalue(hessian, _start(model, generator), **search).eigenvalue}
        if preconditioner is not None:
            product = _preconditioned(hessian, model, preconditioner)
            found = largest_eigenvalue(product, _start(model, generator), **search)
            readings["sharpness/preconditioned"] = found.eigenvalue
    if threshold is not None:
        readings["sharpness/threshold"] = threshold
    return readings


def sharpness(
    loss: Callable[[], Tensor],
    model: nn.Module,
    *,
    num_iterations: Count,
    tolerance: NonNegative,
    generator: torch.Generator,
    preconditioner: Sequence[Tensor] | None = None,
) -> Sharpness:
    """The largest eigenvalue of H, or of P^(-1/2) H P^(-1/2) where P, one tensor a trained parameter, is given.

    ``loss`` runs ``model`` (not its compiled form, which has no second derivative) on the fixed batch. The search
    begins at a vector drawn from ``generator`` and ends where the residual is at most ``tolerance`` times the
    eigenvalue, or after ``num_iterations`` products. Non-finite weights or derivatives give NaN.
    """
    with hessian_of(loss, model) as hessian:
        product = hessian if preconditioner is None else _preconditioned(hessian, model, preconditioner)
        start_N = _start(model, generator)
        return largest_eigenvalue(product, start_N, num_iterations=num_iterations, tolerance=tolerance)


@contextmanager
def hessian_of(loss: Callable[[], Tensor], model: nn.Module) -> Iterator[Product]:
    """v -> d(g . v)/d(theta) with g the gradient: one forward and backward pass, then one more backward a product.

    In the weights' own precision whatever the caller's, and with attention as plain products, for fused attention has
    no second derivative.
    """
    parameters = _trained(model)
    full_precision = torch.autocast(parameters[0].device.type, enabled=False)  # backward passes heed it too
    with buffers_restored(model), full_precision, torch.enable_grad():
        with attention_spelt_out(model):
            gradients = torch.autograd.grad(loss(), parameters, create_graph=True, materialize_grads=True)
        gradient_N = _as_vector(gradients)

        def product(vector_N: Tensor) -> Tensor:
            rows = torch.autograd.grad(gradient_N, parameters, vector_N, retain_graph=True, materialize_grads=True)
            return _as_vector(rows)

        yield product


@torch.no_grad()
def largest_eigenvalue(
    product: Product, start_N: Tensor, *, num_iterations: Count, tolerance: NonNegative
) -> Sharpness:
    """The largest eigenvalue by algebraic value, however large the negative ones are.  Lanczos 1950.

    beta_(k+1) q_(k+1) = A q_k - alpha_k q_k - beta_k q_(k-1), and A's outermost eigenvalues are nearly those of the
    tridiagonal matrix of alphas and betas. With s the last entry of its eigenvector, the residual is beta_(k+1) |s|.
    Rounding lets q lose orthogonality, which repeats eigenvalues but invents none outside of A's range (Paige 1980):
    the largest needs no more than three vectors in memory.
    """
    alphas: list[float] = []
    betas: list[float] = []
    eigenvalue = residual = math.nan
    before_N, current_N, beta = torch.zeros_like(start_N), start_N / start_N.norm(), 0.0
    for iteration in range(1, num_iterations + 1):
        next_N = product(current_N) - beta * before_N
        alpha = torch.dot(next_N, current_N).item()
        next_N -= alpha * current_N
        beta = next_N.norm().item()
        if not (math.isfinite(alpha) and math.isfinite(beta)):
            return Sharpness(math.nan, math.nan, iteration, False)
        alphas.append(alpha)
        eigenvalues, eigenvectors = torch.linalg.eigh(_tridiagonal(alphas, betas))
        eigenvalue, residual = eigenvalues[-1].item(), beta * abs(eigenvectors[-1, -1].item())
        rounding = torch.finfo(start_N.dtype).eps * eigenvalues.abs().max().item()
        if residual <= max(tolerance * abs(eigenvalue), rounding):
            return Sharpness(eigenvalue, residual, iteration, True)
        betas.append(beta)
        before_N, current_N = current_N, next_N / beta
    return Sharpness(eigenvalue, residual, num_iterations, False)


def _tridiagonal(alphas: list[float], betas: list[float]) -> Tensor:
    diagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    beside = torch.tensor(betas, dtype=torch.float64)
    return diagonal + torch.diag(beside, 1) + torch.diag(beside, -1)


def _preconditioned(hessian: Product, model: nn.Module, preconditioner: Sequence[Tensor]) -> Product:
    assert [p.shape for p in preconditioner] == [parameter.shape for parameter in _trained(model)]
    inverse_root_N = _as_vector(preconditioner).rsqrt()
    return lambda vector_N: inverse_root_N * hessian(inverse_root_N * vector_N)


def _start(model: nn.Module, generator: torch.Generator) -> Tensor:
    """N(0, 1): it has a part along every eigenvector."""
    like = _trained(model)[0]
    num_values = sum(parameter.numel() for parameter in _trained(model))
    return torch.randn(num_values, generator=generator, device=generator.device).to(like)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _as_vector(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
