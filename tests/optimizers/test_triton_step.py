"""The Triton kernel, as far as a machine without a GPU can tell; its numbers are in test_stoch_grad_adam.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from sgabench.optimizers.triton_step import _kernel

types = ["*i64", "*fp32", "*i32", "i32", "i32", "i32", *["fp32"] * 8]
constants = {"near": True, "mask_decay": True, "block_size": 1024}
signature = dict(zip(_kernel.arg_names, types)) | dict.fromkeys(constants, "constexpr")
made = compile(ASTSource(_kernel, signature, constants), target=GPUTarget("cuda", 90, 32))
ptx = made.asm["ptx"]
print(len(ptx), ptx.count("ld.global"), ptx.count("sqrt.rn"))
"""


def test_the_kernel_compiles_for_a_gpu_that_is_not_there() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, loads, roots = map(int, done.stdout.split())
    assert loads > 0
    assert roots > 0
