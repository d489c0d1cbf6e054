"""Keys of networks that came to be measured otherwise are new; all others stay."""

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
    ("name", "kinds"),
    [
        ("resnet8", ""),
        ("lstm", ""),  # new: it never had other keys
        ("timm:resnet18", ""),
        ("timm:deit_tiny_patch16_224", ""),
        ("timm:resnetv2_50", ""),
        ("torchvision:vgg11", ""),
        ("torchvision:swin_t", ""),
        ("torchvision:vit_b_16", "packed"),
        ("timm:sequencer2d_s", "packed"),
        ("timm:nf_resnet26", "computed"),
        ("timm:resnetv2_50x1_bit", "computed"),
        ("torchvision:swin_v2_t", "computed"),
        ("timm:deit_tiny_distilled_patch16_224", "heads"),
        ("timm:levit_256", "heads"),
        ("timm:levit_256d", ""),
        ("timm:iformer_t", ""),
        ('timm:iformer_t"\ndistillation = true\nlabel = "two', "heads"),
    ],
)
def test_only_networks_of_a_kind_that_changed_get_new_keys(tiny: Path, name: str, kinds: str) -> None:
    variant(tiny, 'name = "resnet8"\nwidth = 4', f'name = "{name}"')
    expected = {f"{kind}_revision": 2 for kind in kinds.split()}
    for _, cell in plan_of(tiny).cells():
        assert {key: value for key, value in cell.description().items() if key.endswith("_revision")} == expected


def test_of_a_plugins_network_cells_and_probes_are_new_and_trainings_stay(tiny: Path, store: Store) -> None:
    variant(tiny, "[[pruners]]", '[[probes]]\nname = "weights"\n\n[[probes]]\nname = "step-norm"\n\n[[pruners]]')
    (tiny.parent / "mine.py").write_text(MINE)
    load_plugin_file(tiny.parent / "mine.py")
    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "mine"')
    now = plan_of(tiny)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgabench.suite.plan.network_revisions", lambda model: {"packed_revision": 2})
        before = plan_of(tiny)
    assert [trial.key for trial in now.trials] == [trial.key for trial in before.trials]
    for trial, earlier in zip(now.trials, before.trials, strict=True):
        assert not {cell.key for cell in trial.cells} & {cell.key for cell in earlier.cells}
        same = {probe.key for probe in trial.probes} & {probe.key for probe in earlier.probes}
        assert same == {probe.key for probe in trial.probes if probe.of_training}
    fill(store, before)
    message = (
        "4 records of an earlier revision of how zeros are counted and which layers are classifiers are in the store; "
        "they are kept, and not counted here"
    )
    assert earlier_records(store, now) == [message]


def test_records_of_a_network_whose_heads_were_found_otherwise_are_counted_beside_others_that_stay(
    tiny: Path, store: Store
) -> None:
    variant(tiny, "width = 4", 'width = 4\n\n[[models]]\nname = "timm:deit_tiny_distilled_patch16_224"')
    now = plan_of(tiny)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgabench.suite.plan.network_revisions", lambda model: {})
        fill(store, plan_of(tiny))
    (line,) = earlier_records(store, now)
    assert line.startswith("4 records of an earlier revision of which layers are classifiers are in the store")
