from __future__ import annotations

from pathlib import Path

import pytest
from support import timed, variant

from sgabench.errors import InputError
from sgabench.plugins import datasets, probes
from sgabench.suite.choices import Choice
from sgabench.suite.plan import Plan, content_key, left_of, left_out, make_plan, only_failed, remaining, select
from sgabench.suite.resolving import load_suite

GOLDEN = (
    "befd09464015b5c98141aec295d03133",
    "7821f18e22f0f995d3f6a17ad80850a1",
    "35aee548f81b1e2e72560da1efec5147",
)


def plan_of(suite: Path, data_dir: Path = Path("data")) -> Plan:
    return make_plan(load_suite(suite), data_dir)


def trial_keys(plan: Plan) -> dict[str, str]:
    return {trial.name: trial.key for trial in plan.trials}


def cell_keys(plan: Plan) -> dict[str, str]:
    return {f"{trial.name}/{cell.name}": cell.key for trial, cell in plan.cells()}


def test_a_suite_trains_one_network_per_optimizer_model_and_seed(tiny: Path) -> None:
    variant(tiny, "ratios = [0.5]", "ratios = [0.2, 0.5, 0.8]")
    tiny.write_text(tiny.read_text() + '\n[[pruners]]\nname = "random"\nratios = [0.5]\n')
    plan = plan_of(tiny)
    assert len(plan.trials) == 2 * 2
    assert [cell.name for cell in plan.trials[0].cells] == [
        "magnitude/0.2",
        "magnitude/0.5",
        "magnitude/0.8",
        "random/0.5",
    ]


def test_keys_are_unique_and_the_same_every_time(tiny: Path) -> None:
    plan = plan_of(tiny)
    keys = [*trial_keys(plan).values(), *cell_keys(plan).values()]
    keys += [probe.key for trial in plan.trials for probe in trial.probes]
    assert len(set(keys)) == len(keys) == 4 + 4 + 4
    assert cell_keys(plan_of(tiny)) == cell_keys(plan)


def test_a_key_does_not_depend_on_the_order_of_options() -> None:
    assert content_key({"a": 1, "b": [1, 2]}) == content_key({"b": [1, 2], "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 1.5})


def test_a_default_that_is_written_out_changes_nothing(tiny: Path) -> None:
    before = plan_of(tiny)
    variant(tiny, 'name = "magnitude"', 'name = "magnitude"\nscope = "global"')
    variant(tiny, 'name = "adam"', 'name = "adam"\neps = 1e-8')
    after = plan_of(variant(tiny, "epochs = 1", 'epochs = 1\nschedule = "constant"'))
    assert (trial_keys(after), cell_keys(after)) == (trial_keys(before), cell_keys(before))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "adam"', 'name = "adam"\nlabel = "A"'),
        ('description = "A second of everything."', 'description = "x"\nname = "other"'),
        ("seeds = [0, 1]", "seeds = [1, 0]"),
    ],
    ids=["label", "suite", "order of seeds"],
)
def test_what_changes_no_result_changes_no_key(tiny: Path, old: str, new: str) -> None:
    before = plan_of(tiny)
    after = plan_of(variant(tiny, old, new))
    assert set(trial_keys(after).values()) == set(trial_keys(before).values())
    assert set(cell_keys(after).values()) == set(cell_keys(before).values())


@pytest.mark.parametrize(
    ("old", "new", "trials_that_change"),
    [
        ("epochs = 1", "epochs = 2", {"adam", "stochgradadam"}),
        ("batch_size = 64", "batch_size = 32", {"adam", "stochgradadam"}),
        ("train_size = 256", "train_size = 255", {"adam", "stochgradadam"}),
        ("width = 4", "width = 8", {"adam", "stochgradadam"}),
        ("sampling_rate = 0.8", "sampling_rate = 0.9", {"stochgradadam"}),
        ('name = "adam"\nlr = 0.01', 'name = "adam"\nlr = 0.02', {"adam"}),
        ('name = "adam"\n', 'name = "adam"\ntraining = {label_smoothing = 0.1}\n', {"adam"}),
    ],
)
def test_a_changed_parameter_changes_exactly_the_trials_that_depend_on_it(
    tiny: Path, old: str, new: str, trials_that_change: set[str]
) -> None:
    before = trial_keys(plan_of(tiny))
    after = trial_keys(plan_of(variant(tiny, old, new)))
    assert {name.split("/")[2] for name in before if before[name] != after[name]} == trials_that_change


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "magnitude"', 'name = "magnitude"\nscope = "layer"'),
        ('name = "magnitude"', 'name = "magnitude"\nfinetune = {epochs = 1}'),
        ('name = "magnitude"', 'name = "magnitude"\nreestimate_bn = true'),
        ('name = "magnitude"', 'name = "magnitude"\ninclude_classifier = true'),
        ("min_run_time = 0.001", "min_run_time = 0.002"),
    ],
)
def test_what_concerns_the_cells_retrains_nothing(tiny: Path, old: str, new: str) -> None:
    before = plan_of(tiny)
    after = plan_of(variant(tiny, old, new))
    assert trial_keys(after) == trial_keys(before)
    assert not set(cell_keys(after).values()) & set(cell_keys(before).values())


@pytest.mark.parametrize(
    "idle",
    [
        "ema_decay = 0.9",
        "step_factor = 0.5",
        "step_milestones = [0.3]",
        "crop_padding = 2",
        "deterministic = false",
        'decay = "all"',
    ],
)
def test_a_setting_without_effect_changes_no_key(tiny: Path, idle: str) -> None:
    before = trial_keys(plan_of(tiny))
    assert trial_keys(plan_of(variant(tiny, "epochs = 1", f"epochs = 1\n{idle}"))) == before
    on = {"ema": 'weight_averaging = "ema"', "ste": 'schedule = "step"', "cro": 'augmentation = ["crop"]'}
    set_otherwise = idle.replace("false", "true").replace('"all"', '"weights"')
    with_effect = f"{idle}\n{on[idle[:3]]}" if idle[:3] in on else set_otherwise
    used = trial_keys(plan_of(variant(tiny, idle, with_effect)))
    assert used != trial_keys(plan_of(variant(tiny, with_effect, "")))


def test_a_probe_of_an_unknown_kind_of_network_is_refused(tiny: Path) -> None:
    probes.register("lost", on="both")(lambda network: {})
    tiny.write_text(tiny.read_text() + '\n[[probes]]\nname = "lost"\n')
    with pytest.raises(InputError, match="'lost' is registered on='both'; valid: training, dense, pruned"):
        plan_of(tiny)


def test_a_further_ratio_keeps_the_others(tiny: Path) -> None:
    before = cell_keys(plan_of(tiny))
    after = cell_keys(plan_of(variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.8]")))
    assert before.items() <= after.items()
    assert len(after) == 2 * len(before)


def test_another_probe_changes_neither_trials_nor_cells(tiny: Path) -> None:
    before = plan_of(tiny)
    tiny.write_text(tiny.read_text() + '\n[[probes]]\nname = "weights"\nbins = 8\n')
    after = plan_of(tiny)
    assert (trial_keys(after), cell_keys(after)) == (trial_keys(before), cell_keys(before))
    assert after.trials[0].probes[0].key != before.trials[0].probes[0].key


def test_entries_that_ask_for_the_same_are_run_once(tiny: Path) -> None:
    text = tiny.read_text()
    tiny.write_text(text + '\n[[pruners]]\nname = "magnitude"\nlabel = "again"\nratios = [0.5, 0.9]\n')
    plan = plan_of(tiny)
    assert [cell.name for cell in plan.trials[0].cells] == ["magnitude/0.5", "again/0.5", "again/0.9"]
    assert plan.trials[0].cells[0].key == plan.trials[0].cells[1].key
    assert [cell.ratio for cell in remaining(plan, {})[0].cells] == [0.5, 0.9]


def test_keys_never_change(tiny: Path) -> None:
    # A changed key makes every stored result of this suite unfindable: raise KEY_VERSION if it must be.
    trial = plan_of(timed(tiny)).trials[0]
    assert (trial.key, trial.cells[0].key, trial.probes[0].key) == GOLDEN


def test_seeds_share_a_group(tiny: Path) -> None:
    groups = {trial.name.rpartition("/")[0]: trial.group for trial in plan_of(tiny).trials}
    assert len(groups) == len(set(groups.values())) == 2


def test_a_folders_content_is_in_the_key_and_its_place_is_not(tiny: Path, tmp_path: Path) -> None:
    for copy in ("one", "two"):
        for file in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"):
            path = tmp_path / copy / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"123")
    text = tiny.read_text().replace('name = "digits"', 'name = "folder"\npath = "one"')
    tiny.write_text(text)
    one = trial_keys(plan_of(tiny, tmp_path))
    tiny.write_text(text.replace('"one"', '"two"'))
    assert trial_keys(plan_of(tiny, tmp_path)) == one
    (tmp_path / "two/train/cat/2.png").write_bytes(b"1234")
    assert not set(trial_keys(plan_of(tiny, tmp_path)).values()) & set(one.values())


@pytest.mark.parametrize("fingerprint", [lambda folder, options: 1 / 0, lambda folder, options: b"x", "text"])
def test_a_fingerprint_that_fails_is_one_line(tiny: Path, fingerprint: object) -> None:
    datasets.register("odd", fingerprint=fingerprint)(lambda folder: None)
    with pytest.raises(InputError, match="dataset 'odd': its fingerprint"):
        plan_of(variant(tiny, 'name = "digits"', 'name = "odd"'))


def test_only_keeps_the_trials_that_match(tiny: Path) -> None:
    plan = select(plan_of(tiny), "*/adam/*")
    assert [trial.name for trial in plan.trials] == ["digits/resnet8/adam/0", "digits/resnet8/adam/1"]


def test_only_that_matches_nothing_is_refused(tiny: Path) -> None:
    with pytest.raises(InputError, match="matches no trial"):
        select(plan_of(tiny), "*/adamw/*")


def test_what_is_stored_is_left_out(tiny: Path) -> None:
    plan = plan_of(variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.8]"))
    first, second, third, fourth = plan.trials
    stored = {
        **dict.fromkeys((first.key, *(c.key for c in first.cells), *(p.key for p in first.probes)), "done"),
        **{second.key: "done", second.cells[0].key: "done", second.probes[0].key: "done"},
        third.key: "diverged",
        fourth.key: "failed",
    }
    left = remaining(plan, stored)
    assert [trial.key for trial in left] == [second.key, fourth.key]
    assert [cell.ratio for cell in left[0].cells] == [0.8]
    assert left[0].probes == ()
    assert len(left[1].cells) == 2


def test_a_failed_cell_is_tried_again(tiny: Path) -> None:
    plan = plan_of(tiny)
    stored = dict.fromkeys(trial_keys(plan).values(), "done")
    stored |= {probe.key: "done" for trial in plan.trials for probe in trial.probes}
    stored |= dict.fromkeys(cell_keys(plan).values(), "done")
    failed = plan.trials[2].cells[0]
    stored[failed.key] = "failed"
    assert [(trial.key, trial.cells) for trial in remaining(plan, stored)] == [(plan.trials[2].key, (failed,))]


def test_only_what_failed_is_retried_with_what_it_kept_from_being_done(tiny: Path) -> None:
    variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.8]")
    plan = plan_of(tiny)
    whole, with_cell, with_probe, missing = plan.trials
    done = (with_cell.key, with_probe.key, with_probe.cells[0].key, with_probe.cells[1].key)
    failed = (whole.key, with_cell.cells[1].key, with_probe.probes[0].key, missing.cells[0].key)
    stored = dict.fromkeys(done, "done") | dict.fromkeys(failed, "failed")
    left = remaining(only_failed(plan, stored), stored)
    assert [trial.key for trial in left] == [whole.key, with_cell.key, with_probe.key]
    assert left[0] == whole
    assert [cell.key for cell in left[1].cells] == [with_cell.cells[1].key]
    assert left[1].cells[0].probes == with_cell.cells[1].probes
    assert left[1].probes == ()
    assert left[2].cells == ()
    assert [probe.key for probe in left[2].probes] == [with_probe.probes[0].key]
    assert only_failed(plan, dict.fromkeys(done, "done")).trials == ()


def test_what_was_tried_is_not_left(tiny: Path) -> None:
    trial = plan_of(variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.8]")).trials[0]
    stored = {trial.key: "done", trial.cells[0].key: "failed"}
    left = left_of(trial, stored, {trial.cells[0].key})
    assert left is not None
    assert [cell.key for cell in left.cells] == [trial.cells[1].key]
    tried = {trial.cells[0].key, trial.cells[1].key, *(probe.key for probe in trial.probes)}
    assert left_of(trial, stored, tried) is None
    assert left_of(trial, {trial.key: "failed"}, {trial.key}) is None


@pytest.mark.parametrize(("images", "batch", "dropped"), [(100, 64, 36), (256, 64, 0), (1437, 64, 0), (60, 64, 0)])
def test_a_dropped_last_batch_is_reported_where_it_is_many_of_the_images(images: int, batch: int, dropped: int) -> None:
    message = left_out(Choice("digits", "few", {}), images, batch)
    if not dropped:
        assert message is None
    else:
        assert message is not None
        assert message.startswith(f"dataset 'few': batch_size {batch} drops {dropped} of {images} training images in")


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [("adam", "*/adam/*"), ("digits", "digits/*"), ("resnet8", "*/resnet8/*"), ("1", "*/1")],
)
def test_for_a_part_of_a_name_a_glob_is_suggested(plan: Plan, pattern: str, meant: str) -> None:
    with pytest.raises(InputError) as caught:
        select(plan, pattern)
    assert str(caught.value).endswith(f"; did you mean {meant!r}?")
    assert select(plan, meant).trials
