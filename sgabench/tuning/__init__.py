"""Tuning is part of an optimizer: the same number of tries for each, judged on a validation split.

What is searched, on what, and what that means for a comparison is stated in docs/tuning.md.
"""

from __future__ import annotations

import importlib

from sgabench.errors import InputError


def require_extra() -> None:
    """Look for what only tuning needs.

    Raises:
        InputError: it is not installed.
    """
    for module in ("optuna", "tomlkit"):
        try:
            importlib.import_module(module)
        except ImportError:
            raise InputError(
                f"sgabench tune needs {module}, which is not installed; run: pip install optuna tomlkit"
            ) from None
