"""Adam for many adapters at once: each has a rate and a step count of its own, and rests when it has left."""

from collections.abc import Sequence

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Adam:
    """Adam (arXiv:1412.6980 alg. 1) on factors [G, ...], of which each step moves some of the G adapters.

    An adapter that is not moved keeps its moments as they are, so that it goes on as if the others' steps had not been.
    """

    def __init__(self, factors: Sequence[Tensor]) -> None:
        self.factors = list(factors)
        self.means = [torch.zeros_like(factor, requires_grad=False) for factor in factors]
        self.squares = [torch.zeros_like(factor, requires_grad=False) for factor in factors]
        self.taken = torch.zeros(len(factors[0]), dtype=torch.long)

    @torch.no_grad()
    def step(self, moved: Sequence[int], rates: Sequence[float]) -> None:
        """Move the adapters ``moved``, each by its own rate, against the gradients of the factors."""
        if not moved:
            return
        chosen = torch.tensor(list(moved))
        self.taken[chosen] += 1
        device = self.factors[0].device
        taken = self.taken[chosen].double()
        size = torch.tensor(list(rates), dtype=torch.float64) / (1 - BETAS[0] ** taken)
        root = (1 - BETAS[1] ** taken).sqrt()
        at = chosen.to(device)
        for factor, mean, square in zip(self.factors, self.means, self.squares, strict=True):
            assert factor.grad is not None
            gradient = factor.grad[at]
            first = mean[at].lerp_(gradient, 1 - BETAS[0])
            second = square[at].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            mean[at], square[at] = first, second
            shape = (-1, *[1] * (factor.dim() - 1))
            bottom = (second.sqrt() / root.to(factor).view(shape)).add_(EPSILON)
            factor[at] -= size.to(factor).view(shape) * first / bottom

    def state(self) -> dict[str, object]:
        """For ``torch.save``."""
        return {"means": self.means, "squares": self.squares, "taken": self.taken}

    def restore(self, means: Sequence[Tensor], squares: Sequence[Tensor], taken: Tensor) -> None:
        """Go on from what ``state`` gave."""
        for own, kept in zip([*self.means, *self.squares, self.taken], [*means, *squares, taken], strict=True):
            own.copy_(kept)
