"""Checkpoints of a suite: what is refused, what seeds and labels they get, what enters their keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import variant

from sgabench.errors import InputError
from sgabench.evidence.foresight import foresight
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite
from sgabench.suite.work import work_of

ONE = '\n[[checkpoints]]\nlabel = "mine"\nweights = "a.pt"\n'
TWO = ONE + '\n[[checkpoints]]\nlabel = "mine"\nweights = "b.pt"\n'
OPTIMIZER = 'optimizer = {name = "sgd", lr = 0.1}\n'


@pytest.fixture
def scored(tiny: Path) -> Path:
    """The tiny suite without optimizers, and two files beside it."""
    text = tiny.read_text()
    start, end = text.index("[[optimizers]]"), text.index("[[pruners]]")
    tiny.write_text(text[:start] + text[end:])
    for name in ("a", "b"):
        (tiny.parent / f"{name}.pt").write_bytes(name.encode())
    return tiny


def added(suite: Path, text: str) -> Path:
    suite.write_text(suite.read_text() + text)
    return suite


def plan_of(suite: Path) -> Plan:
    return make_plan(load_suite(suite), Path("data"))


def test_files_of_a_label_are_replicates_with_seeds_from_zero(scored: Path) -> None:
    plan = plan_of(added(scored, TWO))
    assert [trial.name for trial in plan.trials] == ["digits/resnet8/mine/0", "digits/resnet8/mine/1"]
    assert len({trial.group for trial in plan.trials}) == 1
    assert not any(trial.trains for trial in plan.trials)
    assert [trial.checkpoint.weights for trial in plan.trials if trial.checkpoint] == [
        scored.parent / "a.pt",
        scored.parent / "b.pt",
    ]


def test_they_stand_beside_trainings(tiny: Path) -> None:
    (tiny.parent / "a.pt").write_bytes(b"a")
    before = {trial.name: trial.key for trial in plan_of(tiny).trials}
    plan = plan_of(added(tiny, ONE))
    after = {trial.name: trial.key for trial in plan.trials}
    assert after.pop("digits/resnet8/mine/0")
    assert after == before, "trainings keep their keys"
    assert plan.suite.arms == ("adam", "stochgradadam", "mine")


def test_the_content_is_in_the_key_and_the_path_and_the_label_are_not(scored: Path) -> None:
    (before,) = plan_of(added(scored, ONE)).trials
    (scored.parent / "a.pt").rename(scored.parent / "c.pt")
    variant(variant(scored, "a.pt", "c.pt"), "mine", "theirs")
    (moved,) = plan_of(scored).trials
    assert (moved.key, moved.cells[0].key) == (before.key, before.cells[0].key)
    (scored.parent / "c.pt").write_bytes(b"other")
    assert plan_of(scored).trials[0].key != before.key


def test_only_what_has_an_effect_is_in_the_key(scored: Path) -> None:
    added(scored, ONE)
    (before,) = plan_of(scored).trials
    assert plan_of(variant(scored, "epochs = 1", "epochs = 2")).trials[0].key == before.key
    assert plan_of(variant(scored, "batch_size = 64", "batch_size = 32")).trials[0].key != before.key


def test_trained_on_it_is_another_result(scored: Path) -> None:
    keys = {plan_of(added(scored, ONE + OPTIMIZER)).trials[0].key}
    (trial,) = plan_of(variant(scored, OPTIMIZER, OPTIMIZER + "epochs = 3\n")).trials
    assert trial.trains
    assert trial.optimizer.settings["training"]["epochs"] == 3
    assert trial.key not in keys


def test_probes_of_the_training_need_one(scored: Path) -> None:
    added(scored, ONE + OPTIMIZER + '\n[[probes]]\nname = "step-norm"\n')
    assert not plan_of(scored).trials[0].probes
    assert plan_of(variant(scored, OPTIMIZER, OPTIMIZER + "epochs = 1\n")).trials[0].probes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE.replace("a.pt", "a.pickle"), r"checkpoints 1 \(mine\): weights: 'a.pickle' is none of .safetensors, .pt"),
        (ONE + "epochs = 1\n", r"checkpoints 1 \(mine\): epochs: with which optimizer\? Set optimizer = "),
        (ONE + 'model = "resnet9"\n', r"model: no model 'resnet9' in \[\[models\]\]; did you mean 'resnet8'\?"),
        (ONE + 'optimizer = {name = "sdg"}\n', r"checkpoints 1 \(mine\): optimizer: unknown optimizer 'sdg'; did you"),
        (ONE + "optimizer = {lr = 1.0}\n", r"checkpoints 1 \(mine\): optimizer.name: is required"),
        (ONE + "seed = -1\n", r"checkpoints 1 \(mine\): seed: input should be greater"),
        (ONE + 'file = "x"\n', r"checkpoints 1 \(mine\): file: unknown key"),
        (TWO + "seed = 0\n", r"checkpoints 2 \(mine\): seed: 0 is already used by another file"),
        (TWO + OPTIMIZER, r"checkpoints 2 \(mine\): epochs and optimizer must be the same for all replicates"),
        (
            ONE.replace("a.pt", "aa.pt"),
            r"checkpoint 'mine': weights: .*aa.pt: No such file or directory; did you mean 'a",
        ),
        (TWO.replace("b.pt", "a.pt") + "seed = 0\n", "seed: 0 is already used"),
        (ONE + ONE.replace("mine", "theirs"), "mine/0 and digits/resnet8/theirs/0 have files with the same content"),
        ("", "suite: optimizers: at least one is required, or checkpoints"),
    ],
)
def test_what_is_wrong_is_refused_in_a_line(scored: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plan_of(added(scored, text))
    assert "\n" not in str(caught.value)


def test_what_does_not_go_with_the_rest_is_refused(tiny: Path, scored: Path) -> None:
    with pytest.raises(InputError, match="their seeds are fixed; write seeds as a list"):
        load_suite(added(scored, ONE), ["seeds={from = 3, to = 5}"])
    with pytest.raises(InputError, match="'magnitude' needs training, but checkpoint 'mine' has no optimizer"):
        load_suite(scored, ["pruners.magnitude.finetune.epochs=1"])
    with pytest.raises(InputError, match="'mine' is also the label of an optimizer"):
        load_suite(scored, ['optimizers=[{name = "sgd", label = "mine"}]'])
    with pytest.raises(InputError, match="model: which one\\? resnet8, resnet14"):
        load_suite(scored, ['models=[{name = "resnet8"}, {name = "resnet14"}]'])


def test_what_can_be_found_is_estimated_from_the_replicates(scored: Path) -> None:
    for name in "cdef":
        (scored.parent / f"{name}.pt").write_bytes(name.encode())
    three = "".join(ONE.replace("a.pt", f"{name}.pt") for name in "abc")
    plan = plan_of(
        added(
            scored,
            three + three.replace("mine", "theirs").replace('"a', '"d').replace('"b', '"e').replace('"c.', '"f.'),
        )
    )
    assert foresight(plan).startswith("with 3 seeds and 1 comparison of whole curves")


def test_work_that_is_left_counts_them_apart(scored: Path) -> None:
    plan = plan_of(added(scored, TWO))
    assert str(work_of(plan.trials, {})) == "2 checkpoints and 2 prunings"
    assert str(work_of(plan.trials, {trial.key: "done" for trial in plan.trials})) == "2 prunings of stored networks"
    assert work_of(plan.trials, {}).train_images == 0
