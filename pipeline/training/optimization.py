"""Optimizers with parameter groups, and the learning-rate schedule."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer


def make_optimizer(model: nn.Module, head: nn.Module, settings: Mapping[str, Any]) -> Optimizer:
    """Create SGD or AdamW with groups for weights and biases of the backbone and the head."""
    in_head = {id(parameter) for parameter in head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        key = (id(parameter) in in_head, name.endswith("bias"))
        groups.setdefault(key, []).append(parameter)
    options = []
    for (of_head, is_bias), parameters in groups.items():
        rate = settings["learning_rate"] * (settings["head_multiplier"] if of_head else 1)
        decays = not is_bias or settings["bias_decay"]
        options.append(
            {
                "params": parameters,
                "lr": rate * (settings["bias_multiplier"] if is_bias else 1),
                "weight_decay": settings["weight_decay"] if decays else 0.0,
            }
        )
    if settings["name"] == "adamw":
        return AdamW(options)
    return SGD(options, momentum=settings["momentum"], nesterov=settings["nesterov"])


def rate_factor(share: float, *, power: float, warmup: float) -> float:
    """Return the factor on the learning rate after a share of all steps, in [0, 1]."""
    return float(min(1.0, share / warmup) if share < warmup else (1 - share) ** power)
