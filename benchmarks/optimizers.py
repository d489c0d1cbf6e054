"""Tries every optimizer that a suite can name, and writes the list of docs/optimizers.md.

    python benchmarks/optimizers.py             # prints what came out
    python benchmarks/optimizers.py --write     # into docs/optimizers.md, too
    python benchmarks/optimizers.py timm:lamb   # only these

Each one trains resnet8 (width 4) on 256 digits for three epochs of eight steps, with its default options; lr is 0.01
where there is no default. Then it is stopped in the middle, and goes on from its snapshot.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from sgabench.errors import InputError, describe
from sgabench.optimizers import packages, sources
from sgabench.plugins import optimizers
from sgabench.store.files import Folder
from sgabench.suite.choices import Choice
from sgabench.suite.tables import Recipe
from sgabench.training.building import build_optimizer, initial_network, load_data, seeded
from sgabench.training.data import Data
from sgabench.training.loop import Diverged, Training, train
from sgabench.training.snapshot import Snapshots

PAGE = Path(__file__).parents[1] / "docs" / "optimizers.md"
BEGINS, ENDS = "<!-- benchmarks/optimizers.py writes from here -->\n", "<!-- to here -->\n"
RECIPE = Recipe(epochs=3, batch_size=32)
STEPS = 3 * 8
STOP = 12
SETTINGS = {"train_size": 256, "validation_size": 0, "test_size": 10}
WITHOUT_LR = {"timm:adafactor", "timm:cadafactor", "timm:csgdp", "timm:sgdp"}
NO_SNAPSHOT = "its state cannot be in a snapshot: a training that was stopped begins again"


class _Stopped(Exception):
    pass


def names() -> dict[str, list[str]]:
    """Everything behind a colon, by source."""
    return {
        "torch": sources.names(),
        "schedulefree": packages.schedule_free_names(),
        "timm": packages.timm_names(),
        "pytorch_optimizer": packages.pytorch_optimizer_names(),
    }


def data() -> Data:
    """A few digits."""
    digits = Choice("digits", "digits", {}, settings=SETTINGS)
    return load_data(digits, Path("data"), False, "cpu")


def tried(name: str, on: Data) -> str:
    """What came of an optimizer: nothing to say, or the reason in a line."""
    model = Choice("resnet8", "resnet8", {"width": 4})

    def run(snapshots: Snapshots | None, after_step: Callable[[], None]) -> tuple[nn.Module, Training]:
        network = initial_network(model, on.spec, 0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        choice = Choice(name, name, optimizers[name].resolve({"lr": 0.01} if name in WITHOUT_LR else {}))
        optimizer = build_optimizer(choice, network, 0, steps_per_epoch=8, epochs=RECIPE.epochs)
        with seeded(0):
            training = train(
                network, optimizer, on, RECIPE, 0, precision="fp32", snapshots=snapshots, after_step=after_step
            )
        return network, training

    try:
        network, training = run(None, lambda: None)
    except InputError as error:
        return str(error).removeprefix(f"{name} ")
    except Diverged:
        return "diverges with its default options"
    except Exception as error:
        return f"fails: {describe(error)}"
    first, last = training.history[0]["loss"], training.history[-1]["loss"]
    if not last < first:
        return f"with its default options the loss does not fall in {STEPS} steps ({first:.3f}, then {last:.3f})"
    return _resumed(run, network)


def _resumed(
    run: Callable[[Snapshots | None, Callable[[], None]], tuple[nn.Module, Training]], expected: nn.Module
) -> str:
    calls = iter(range(1, 10 * STEPS))
    with tempfile.TemporaryDirectory() as folder:
        files, name = Folder(Path(folder)), "snapshot"

        def stop() -> None:
            if next(calls) > STOP:
                raise _Stopped

        with contextlib.suppress(_Stopped):
            run(Snapshots(files, name, {}, 1e-9), stop)
        if files.read(name) is None:
            return NO_SNAPSHOT
        try:
            network, training = run(Snapshots(files, name, {}, 0), lambda: None)
        except Exception as error:
            return f"does not go on from a snapshot: {describe(error)}"
    assert training.interruptions == 1
    pairs = zip(network.state_dict().values(), expected.state_dict().values(), strict=True)
    if all(torch.equal(one, other) for one, other in pairs):
        return ""
    return "goes on from a snapshot, but not to the same bits"


def section(found: dict[str, dict[str, str]]) -> str:
    """The list as Markdown."""
    lines = []
    for source, of_source in found.items():
        package = {"torch": "torch"}.get(source, source)
        works = [name for name, reason in of_source.items() if not reason]
        lines += [
            f"**`{source}:`** ({package} {version(package)}): " + ", ".join(f"`{name}`" for name in works) + ".",
            "",
        ]
    lines += ["Names that do not work, or only partly, and why:", "", "| name | reason |", "|---|---|"]
    for source, of_source in found.items():
        for name, reason in of_source.items():
            if reason:
                text = reason.replace("|", "\\|")
                lines.append(f"| `{source}:{name}` | {text} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Try them all."""
    parser = argparse.ArgumentParser(description="Try every optimizer that a suite can name.")
    parser.add_argument("only", nargs="*", metavar="NAME")
    parser.add_argument("--write", action="store_true", help="write the list into docs/optimizers.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of packages, which some give at every construction
    logging.getLogger("pytorch_optimizer").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    on = data()
    found: dict[str, dict[str, str]] = {}
    for source, of_source in names().items():
        for name in of_source:
            if arguments.only and f"{source}:{name}" not in arguments.only:
                continue
            reason = tried(f"{source}:{name}", on)
            found.setdefault(source, {})[name] = reason
            print(f"{source}:{name}: {reason or 'works'}", flush=True)
    if arguments.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGINS)
        _, _, after = rest.partition(ENDS)
        PAGE.write_text(before + BEGINS + "\n" + section(found) + "\n" + ENDS + after, encoding="utf-8")


if __name__ == "__main__":
    main()
