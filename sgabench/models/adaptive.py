"""Scores that can be compared between layers."""

from __future__ import annotations

import torch
from torch import Tensor


def layer_adaptive(scores: Tensor) -> Tensor:
    """Each score's square over the sum of its own and all larger squares of its layer.

    That is LAMP where the scores are absolute weights (Lee et al. 2021, arXiv 2010.07611, equation 4). Of equal ones
    the first is the smallest.

    Args:
        scores: of one layer.

    Returns:
        float64, of the same shape, in [0, 1]; 0 where all squares are.
    """
    squares, order = scores.double().flatten().square().sort(stable=True)
    above = squares.flip(0).cumsum(0).flip(0)
    result = torch.empty_like(squares)
    result[order] = torch.where(above > 0, squares / above, 0.0)
    return result.view(scores.shape)
