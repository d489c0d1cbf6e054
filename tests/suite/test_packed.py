"""Keys of networks whose packed weights came to be pruned are new; all others stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import fill, variant

from sgabench.evidence.revisions import earlier_records
from sgabench.plugins.registry import load_plugin_file
from sgabench.store.store import Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite

MINE = """
from sgabench.plugins import models

@models.register("mine")
def mine(spec):
    return None
"""


def plan_of(suite: Path) -> Plan:
    return make_plan(load_suite(suite), Path("data"))


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("resnet8", False),
        ("lstm", False),  # new: it never had other keys
        ("timm:resnet18", False),
        ("torchvision:vgg11", False),
        ("torchvision:vit_b_16", True),
        ("timm:sequencer2d_s", True),
    ],
)
def test_only_networks_that_may_have_packed_weights_get_new_keys(tiny: Path, name: str, packed: bool) -> None:
    variant(tiny, 'name = "resnet8"\nwidth = 4', f'name = "{name}"')
    cells = [cell for _, cell in plan_of(tiny).cells()]
    assert {cell.packed for cell in cells} == {packed}
    assert all(("packed_revision" in cell.description()) == packed for cell in cells)


def test_of_a_plugins_network_cells_and_probes_are_new_and_trainings_stay(tiny: Path, store: Store) -> None:
    variant(tiny, "[[pruners]]", '[[probes]]\nname = "weights"\n\n[[probes]]\nname = "step-norm"\n\n[[pruners]]')
    (tiny.parent / "mine.py").write_text(MINE)
    load_plugin_file(tiny.parent / "mine.py")
    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "mine"')
    now = plan_of(tiny)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgabench.suite.plan._may_be_packed", lambda model: False)
        before = plan_of(tiny)
    assert [trial.key for trial in now.trials] == [trial.key for trial in before.trials]
    for trial, earlier in zip(now.trials, before.trials, strict=True):
        assert not {cell.key for cell in trial.cells} & {cell.key for cell in earlier.cells}
        same = {probe.key for probe in trial.probes} & {probe.key for probe in earlier.probes}
        assert same == {probe.key for probe in trial.probes if probe.of_training}
    fill(store, before)
    told = "4 records of an earlier revision of what is pruned are in the store; they are kept, and not counted here"
    assert earlier_records(store, now) == [told]
