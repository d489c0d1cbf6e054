"""How suites name the parts of a pruner, what is refused before anything is trained, and what enters the keys."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from sgabench.errors import InputError
from sgabench.plugins import ImageSpec, PruningContext, pruners, scores
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import resolve

BASE: dict[str, Any] = {
    "seeds": [0],
    "ratios": [0.5, 0.9],
    "training": {"epochs": 1, "batch_size": 64},
    "datasets": [{"name": "digits"}],
    "models": [{"name": "resnet8"}],
    "optimizers": [{"name": "sgd", "lr": 0.1}],
}
# From before there were scores.
KEYS = {
    "magnitude/0.5": "7f321a801f906555892143c682faeb3d",
    "magnitude/0.9": "751823bb65176f1004d5addaf69b6e2d",
    "by layer/0.5": "4bd69faa15e6bdfb42777a5349fffd53",
    "by layer/0.9": "8729a2cd256ef5a7d890998798aeb70d",
    "random/0.5": "048c876415473b708ee89df176b0691c",
    "random/0.9": "f3bcbdc6b0442b79275f8f2bd225c0e3",
    "random by layer/0.5": "08a21ce4ddd7b29ba92f19125be6b540",
    "random by layer/0.9": "dd13643e8437f45d920a9c92ecb17868",
}


def cells(*entries: dict[str, Any]) -> dict[str, str]:
    plan = make_plan(resolve({**BASE, "pruners": list(entries)}, Path("suite.toml")), Path("data"))
    return {cell.name: cell.key for _, cell in plan.cells()}


def test_keys_are_what_they_were_before_there_were_scores() -> None:
    by_layer = {"reestimate_bn": True, "finetune": {"epochs": 1, "lr": 0.01}}
    assert (
        cells(
            {"name": "magnitude"},
            {"name": "magnitude", "label": "by layer", "scope": "layer", **by_layer},
            {"name": "random"},
            {"name": "random", "label": "random by layer", "scope": "layer", "include_input": True},
        )
        == KEYS
    )
    assert (
        cells(
            {"name": "magnitude", "pattern": "weights", "allocation": "global"},
            {"name": "magnitude", "label": "by layer", "allocation": "layer", **by_layer},
            {"name": "random", "allocation": "global", "scope": "global"},
            {"name": "random", "label": "random by layer", "allocation": "layer", "include_input": True},
        )
        == KEYS
    )


def test_what_is_written_in_two_ways_has_one_key() -> None:
    assert set(cells({"name": "taylor"}).values()) == set(
        cells({"name": "taylor", "pattern": "weights", "allocation": "global", "of": "weights"}).values()
    )
    assert set(cells({"name": "taylor", "pattern": "02:04"}).values()) == set(
        cells({"name": "taylor", "pattern": "2:4"}).values()
    )


def test_every_part_has_an_effect_on_the_keys() -> None:
    entries: list[dict[str, Any]] = [
        {"name": "taylor"},
        {"name": "taylor", "pattern": "2:4"},
        {"name": "taylor", "pattern": {"block": [4, 4]}},
        {"name": "taylor", "allocation": "erk"},
        {"name": "taylor", "allocation": {"layer1*": 0.3}},
        {"name": "fisher"},
        {"name": "fisher", "images": 16},
    ]
    keys = [key for entry in entries for key in cells(entry).values()]
    assert len(set(keys)) == 2 * len(entries)


def test_patterns_and_allocations_are_swept() -> None:
    patterns = ["weights", "2:4", {"block": [4, 1]}]
    found = cells({"name": "snip", "sweep": {"pattern": patterns, "allocation": ["global", "erk"]}, "ratios": [0.5]})
    assert list(found)[::2] == [
        "snip pattern=weights allocation=global/0.5",
        "snip pattern=2:4 allocation=global/0.5",
        "snip pattern={block = [4, 1]} allocation=global/0.5",
    ]
    assert len(found) == 6


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "taylor", "pattern": "4:2"}, "pattern: 'N:M' keeps N of M weights: 1 <= N < M <= 1024, got '4:2'"),
        ({"name": "taylor", "pattern": "lines"}, "pattern: must be 'weights', 'N:M' such as '2:4', .*, got 'lines'"),
        ({"name": "taylor", "pattern": {"block": [1, 1]}}, "pattern: block has from 1 to 1024 rows and columns"),
        ({"name": "taylor", "pattern": {"block": 4}}, "pattern: must be 'weights'"),
        ({"name": "taylor", "pattern": "channels"}, "pattern: channels are removed by 'structured' and 'tp:NAME'"),
        ({"name": "taylor", "pattern": "2:4", "ratios": [0.3, 0.6]}, "ratios: pattern '2:4' sets at least 0.5 .*: 0.3"),
        ({"name": "taylor", "pattern": "1:4", "allocation": {"fc": 0.5}, "ratios": [0.8]}, "0.5 of 'fc' is impossible"),
        ({"name": "taylor", "allocation": "even"}, "allocation: must be 'global', 'layer', 'erk', 'lamp' or a table"),
        ({"name": "taylor", "allocation": {"fc": 1.0}}, r"allocation: the ratio of 'fc' must be in \[0, 1\), got 1.0"),
        ({"name": "taylor", "allocation": {}}, "allocation: a table of ratios has 1 to 100 names, got 0"),
        ({"name": "grasp", "allocation": "lamp"}, "allocation: 'lamp' divides squared scores, but those of 'grasp'"),
        ({"name": "magnitude", "scope": "layer", "allocation": "erk"}, "scope: is the older name of allocation"),
        ({"name": "magnitude", "scope": "layer", "allocation": "global"}, "scope: is the older name of allocation"),
        ({"name": "taylor", "scope": "layer"}, "scope: unknown key"),
        ({"name": "tailor"}, "unknown pruner 'tailor'; did you mean 'taylor'"),
        ({"name": "structured", "pattern": "2:4"}, "pattern: unknown key"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line_before_anything_is_trained(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        cells(entry)
    assert "\n" not in str(raised.value)


def test_ratio_zero_is_possible_with_every_pattern() -> None:
    assert len(cells({"name": "taylor", "pattern": "2:4", "ratios": [0.0, 0.5]})) == 2


def test_a_score_of_a_plugin_is_a_pruner_whose_key_knows_its_code() -> None:
    scores.register("mine", signed=True)(lambda network, context, *, power=2.0: {})
    plugin = pruners["mine"]
    assert plugin.resolve({"power": 3.0, "pattern": "filters"}) == {"power": 3.0, "pattern": "filters", "of": "weights"}
    assert (plugin.kind, plugin.origin.label) == ("pruner", "test_composed.py")
    assert plugin.origin.code == scores["mine"].origin.code != ""
    assert "mine" in [listed.name for listed in pruners.plugins()]
    scores.register("clash")(lambda network, context, *, pattern="x": {})
    with pytest.raises(InputError, match="score 'clash': its option 'pattern' has the name of an option of every"):
        pruners["clash"].resolve({})


def test_a_plugin_cannot_take_the_name_of_a_built_in_score() -> None:
    with pytest.raises(InputError, match=r"'taylor' of test_composed\.py is already registered by built-in"):
        pruners.register("taylor")(lambda network: network)


@pytest.mark.parametrize(
    ("alias", "meant"),
    [
        ("GlobalMagWeight", {"name": "magnitude"}),
        ("LayerMagWeight", {"name": "magnitude", "scope": "layer"}),
        ("GlobalMagGrad", {"name": "taylor"}),
        ("LayerMagGrad", {"name": "taylor", "allocation": "layer"}),
        ("RandomPruning", {"name": "random"}),
        ("l1_unstructured", {"name": "magnitude", "scope": "layer"}),
        ("ln_structured", {"name": "magnitude", "scope": "layer", "pattern": "filters"}),
        ("random_unstructured", {"name": "random", "scope": "layer"}),
        ("random_structured", {"name": "random", "scope": "layer", "pattern": "filters"}),
        ("global_unstructured", {"name": "magnitude"}),
    ],
)
def test_an_alias_has_the_key_of_what_it_stands_for(alias: str, meant: dict[str, Any]) -> None:
    assert list(cells({"name": alias}).values()) == list(cells(meant).values())
    assert list(cells({"name": alias})) == [f"{alias}/0.5", f"{alias}/0.9"], "and a label of its own"
    assert [plugin.alias for plugin in pruners.plugins()].count(alias) == 1


def test_what_an_alias_sets_cannot_be_set_otherwise() -> None:
    message = "allocation: is set by 'LayerMagWeight'; name 'magnitude' to change it"
    with pytest.raises(InputError, match=message):
        cells({"name": "LayerMagWeight", "allocation": "erk"})
    assert cells({"name": "LayerMagWeight", "pattern": "2:4"})
    with pytest.raises(InputError, match="unknown pruner 'GlobalMagAct'; did you mean 'GlobalMagGrad'"):
        cells({"name": "GlobalMagAct"})


@pytest.mark.parametrize("alias", ["l1_unstructured", "ln_structured", "global_unstructured"])
def test_torchs_own_functions_prune_the_same(alias: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 10))
    context = PruningContext(ImageSpec(3, 3, 3, 10), 0, lambda: iter(()), frozenset())
    plugin = pruners[alias]
    ours = plugin.build(copy.deepcopy(network), 0.5, context, **plugin.resolve({}))
    if alias == "global_unstructured":
        prune.global_unstructured([(network[0], "weight"), (network[3], "weight")], prune.L1Unstructured, amount=0.5)
    else:
        more = {"n": 1, "dim": 0} if alias == "ln_structured" else {}
        for layer in (network[0], network[3]):
            getattr(prune, alias)(layer, "weight", amount=0.5, **more)
    for number in (0, 3):
        assert torch.equal(ours[number].weight, network[number].weight)
