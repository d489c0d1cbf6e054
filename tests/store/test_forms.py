"""What can be stored, and what is made plain for it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from sgabench.store.forms import finite


def test_numbers_of_numpy_and_torch_become_pythons() -> None:
    given = {
        "a": [np.float32(0.5), np.float64(2), np.int64(3), np.bool_(True), np.array(1.5)],
        "b": (torch.tensor(0.25), torch.tensor(7), torch.tensor(1.0, requires_grad=True), torch.tensor(True)),
        3: {np.str_("c"): None},
    }
    plain = finite(given)
    assert plain == {"a": [0.5, 2.0, 3, True, 1.5], "b": [0.25, 7, 1.0, True], "3": {"c": None}}
    assert {type(value) for part in (plain["a"], plain["b"]) for value in part} == {float, int, bool}
    assert json.loads(json.dumps(plain, sort_keys=True)) == plain


def test_what_json_has_no_number_for_is_none() -> None:
    assert finite([float("nan"), np.float32("inf"), torch.tensor(float("-inf"))]) == [None, None, None]


@pytest.mark.parametrize(
    "value", [torch.zeros(2), np.zeros(2), object(), {1, 2}, 1j, torch.tensor(1j), {(1, 2): 3}, b"x"]
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be stored; .* can"):
        finite({"value": [value]})
