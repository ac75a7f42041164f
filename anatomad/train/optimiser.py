"""One optimiser for two kinds of weights: convolutions are matrices, everything else is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

_WEIGHT_DECAY = 1e-4
_MOMENTUM = 0.95


class Optimiser:
    """Muon (Jordan et al., 2024) for hidden convolutions, AdamW for heads, biases, norms and linear layers.

    Muon makes the step of a weight matrix orthogonal, so that rare directions learn as fast as common ones. A
    convolution [outputs, inputs, ...] is the matrix [outputs, inputs * ...]. Muon's step is scaled to the size of
    AdamW's (Liu et al., arXiv 2502.16982), so both share one learning rate.

    Args:
        parameters: What to train, by name; their storage must stay where it is.
        learning_rate: At the start.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], learning_rate: float) -> None:
        self._convolutions = {name: p for name, p in parameters.items() if p.ndim > 2 and ".head." not in name}
        # A matrix shares its convolution's memory: what Muon does to the one happens to the other.
        matrices = {name: nn.Parameter(p.detach().view(len(p), -1)) for name, p in self._convolutions.items()}
        self._leaves = dict(parameters) | matrices
        others = [p for name, p in parameters.items() if name not in matrices]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=learning_rate, weight_decay=_WEIGHT_DECAY, foreach=True)
        ]
        if matrices:
            muon = torch.optim.Muon(
                matrices.values(),
                lr=learning_rate,
                weight_decay=_WEIGHT_DECAY,
                momentum=_MOMENTUM,
                adjust_lr_fn="match_rms_adamw",
            )
            self._parts.append(muon)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self._parts:
            part.zero_grad()
        for convolution in self._convolutions.values():
            convolution.grad = None

    def step(self, learning_rate: float) -> None:
        """Make a step along the parameters' gradients."""
        for name, convolution in self._convolutions.items():
            gradient = convolution.grad
            self._leaves[name].grad = None if gradient is None else gradient.reshape(len(gradient), -1)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def tensors(self) -> dict[str, Tensor]:
        """Its memory, as ``KEY.PARAMETER``; not copied."""
        return {f"{key}.{name}": value for name, state in self._states() for key, value in state.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to what :meth:`tensors` gave; to nothing where a parameter has none."""
        for _, state in self._states():
            state.clear()
        owners = dict(self._states())
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            # A fresh copy, laid out like the optimiser's own: sums over it then run in the same order.
            device = "cpu" if kind == "step" else self._leaves[name].device
            owners[name][kind] = torch.empty_like(value, device=device).copy_(value)

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """What the optimisers remember of every parameter that they hold."""
        for part in self._parts:
            held = {id(p) for group in part.param_groups for p in group["params"]}
            yield from ((name, part.state[leaf]) for name, leaf in self._leaves.items() if id(leaf) in held)
