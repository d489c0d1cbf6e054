"""Recurrent classifiers, which read an image row by row."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class RowReader(nn.Module):
    """A recurrent network over the rows of an image, top to bottom; the last hidden state is classified.

    Weights are drawn as torch draws them. LSTM: Hochreiter & Schmidhuber 1997; GRU: Cho et al. 2014, arXiv 1406.1078.

    Args:
        cell: ``lstm`` or ``gru``.
        row: numbers in a row of an image, all channels together.
        classes: length of the output.
        hidden: length of a hidden state.
        layers: recurrent layers, each of which reads the output of the previous one.
    """

    def __init__(self, cell: Literal["lstm", "gru"], row: int, classes: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.rnn = CELLS[cell](row, hidden, layers, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        rows = images.permute(0, 2, 1, 3).flatten(2)
        states, _ = self.rnn(rows)
        logits: Tensor = self.fc(states[:, -1])
        return logits
