"""Scripts for batch systems that the docs show."""

from __future__ import annotations

import shlex
import subprocess

import pytest
import typer
from shown import BLOCKS, Block

from sgabench.cli import app

COMMANDS = typer.main.get_command(app)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "bash"], ids=str)
def test_a_script_that_is_shown_can_be_read_and_its_command_is_valid(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    lines = block.text.replace("\\\n", " ").splitlines()
    (line,) = [line[line.index("sgabench run") :] for line in lines if "sgabench run" in line]
    _, name, *arguments = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT", "1/8"))
    COMMANDS.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]
