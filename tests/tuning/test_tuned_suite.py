from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sgabench.errors import InputError
from sgabench.suite.resolving import Suite, load_suite
from sgabench.tuning.search import Try, Tuned
from sgabench.tuning.subjects import Settings, find_subjects
from sgabench.tuning.suite_file import TunedSuite

Load = Callable[..., Suite]
SETTINGS = Settings(tries=2)
COMMENTED = """
# of the first
[[optimizers]] # here
name = "sgd" # the plain one
lr = 0.01    # by hand
momentum = 0.5

# of the second
[[optimizers]]
name = "adam"
"""


def rewrite(suite: Suite, output: Path, chosen: Mapping[str, dict[str, float]], *overrides: str) -> str:
    """Write a suite in which the second try was the better one for some optimizers; return its text."""
    subjects = find_subjects(suite, SETTINGS)
    tuned = []
    for subject in subjects:
        given, other = subject.given[0], {**subject.given[0], **chosen.get(subject.label, {})}
        better = 0.75 if subject.label in chosen else 0.25
        tuned.append(Tuned(subject, (Try(1, given, 0.5, 0), Try(2, other, better, 0))))
    target = TunedSuite(suite, overrides, output, subjects)
    target.check()
    target.write(tuned, SETTINGS, "9 images")
    return output.read_text()


def options(path: Path) -> list[dict[str, Any]]:
    return [
        {name: choice.options[name] for name in ("lr", "weight_decay") if name in choice.options}
        for choice in load_suite(path).optimizers
    ]


def test_values_are_put_in_and_the_rest_stays(suite: Load, tmp_path: Path) -> None:
    loaded = suite(COMMENTED)
    output = tmp_path / "tuned.toml"
    text = rewrite(loaded, output, {"sgd": {"lr": 0.0625}, "adam": {"weight_decay": 0.5}})
    assert 'name = "sgd" # the plain one\nlr = 0.0625 # given: 0.01\nmomentum = 0.5\n' in text
    assert '[[optimizers]]\nname = "adam"\nweight_decay = 0.5 # given: 0\n' in text
    for comment in ("# of the first", "# here", "# of the second"):
        assert comment in text
    old, new = tomllib.loads(loaded.source.read_text()), tomllib.loads(text)
    assert {key: value for key, value in new.items() if key != "optimizers"} == {
        key: value for key, value in old.items() if key != "optimizers"
    }
    assert options(output) == [{"lr": 0.0625, "weight_decay": 0.0}, {"lr": 0.001, "weight_decay": 0.5}]


def test_the_file_says_how_it_was_tuned(suite: Load, tmp_path: Path) -> None:
    text = rewrite(suite(COMMENTED), tmp_path / "tuned.toml", {"sgd": {"lr": 0.0625}})
    story = "\n".join(line for line in text.splitlines()[:6])
    for part in (
        "# Tuned by sgabench ",
        "from quick.toml.",
        "2 tries for each optimizer, seed 1000",
        "9 images. The test split was not used.",
        "# sgd: lr 0.0625, weight_decay 0, validation top-1 75.0 %, try 2 (given: lr 0.01, weight_decay 0, 50.0 %)",
        "# adam: lr 0.001, weight_decay 0, validation top-1 50.0 %, try 1 (as given)",
    ):
        assert part in story


def test_what_is_kept_keeps_its_keys(suite: Load, tmp_path: Path) -> None:
    """An optimizer whose given values are chosen is the same optimizer, also where nobody wrote them."""
    loaded = suite('[[optimizers]]\nname = "torch:RMSprop"\n[[optimizers]]\nname = "sgd"\n', "training.lr=0.5")
    output = tmp_path / "tuned.toml"
    rewrite(loaded, output, {}, "training.lr=0.5")
    again = load_suite(output)
    assert [choice.identity() for choice in again.optimizers] == [choice.identity() for choice in loaded.optimizers]


def test_a_sweep_becomes_an_entry_for_each_variant(suite: Load, tmp_path: Path) -> None:
    text = (
        '[[optimizers]]\nname = "stochgradadam" # swept\nlabel = "SGA"\n'
        "[optimizers.sweep]\nsampling_rate = [0.5, 1.0]\nlr = [0.1, 0.01]\n"
        '[[optimizers]]\nname = "sgd"\n'
    )
    output = tmp_path / "tuned.toml"
    rewrite(suite(text), output, {"SGA sampling_rate=1": {"lr": 0.03}})
    tuned = load_suite(output)
    assert [choice.label for choice in tuned.optimizers] == ["SGA sampling_rate=0.5", "SGA sampling_rate=1", "sgd"]
    assert [choice.options.get("sampling_rate") for choice in tuned.optimizers] == [0.5, 1.0, None]
    assert [choice.options["lr"] for choice in tuned.optimizers] == [0.1, 0.03, 0.1]
    assert "lr = 0.03 # given: 0.1, 0.01" in output.read_text()
    assert "sweep" not in output.read_text()


def test_a_sweep_of_the_recipe_and_an_optimizer_that_is_left(suite: Load, tmp_path: Path) -> None:
    text = (
        '[[optimizers]]\nname = "sgd"\nsweep = {training = [{epochs = 1}, {epochs = 2}]}\n'
        '[[optimizers]]\nname = "fixed"\nsweep = {training = [{epochs = 1}, {epochs = 2}]}\n'
    )
    loaded = suite(text)
    output = tmp_path / "tuned.toml"
    rewrite(loaded, output, {})
    assert [c.identity() for c in load_suite(output).optimizers] == [c.identity() for c in loaded.optimizers]
    assert output.read_text().count("sweep") == 1


def test_entries_that_are_tuned_as_one_become_one(suite: Load, tmp_path: Path) -> None:
    text = "".join(f'[[optimizers]]\nname = "sgd"\nlr = {lr}\n' for lr in (0.5, 0.25))
    output = tmp_path / "tuned.toml"
    rewrite(suite(text), output, {"sgd": {"lr": 0.25}})
    assert [choice.label for choice in load_suite(output).optimizers] == ["sgd"]
    assert options(output) == [{"lr": 0.25, "weight_decay": 0.0}]
    assert "lr = 0.25 # given: 0.5, 0.25" in output.read_text()


def test_inline_entries_become_tables(suite: Load, tmp_path: Path) -> None:
    overrides = ("optimizers=[{name='sgd', training={epochs=2}}, {name='adam', lr=0.5}]", "probes=[]")
    output = tmp_path / "tuned.toml"
    text = rewrite(suite("", *overrides), output, {"sgd": {"lr": 0.7}, "adam": {"lr": 0.3}}, *overrides)
    assert options(output) == [{"lr": 0.7, "weight_decay": 0.0}, {"lr": 0.3, "weight_decay": 0.0}]
    assert load_suite(output).optimizers[0].settings["training"]["epochs"] == 2
    assert tomllib.loads(text)["probes"] == []
    source = tmp_path / "inline.toml"
    inline = "datasets = [{name='digits'}]\nmodels = [{name='linear'}]\npruners = [{name='magnitude'}]\n"
    source.write_text(inline + "optimizers = [{name='sgd'}, {name='adam'}]\n")
    rewrite(load_suite(source), tmp_path / "other.toml", {"adam": {"lr": 0.2}})
    assert options(tmp_path / "other.toml")[1]["lr"] == 0.2


def test_overrides_are_part_of_the_tuned_suite(suite: Load, tmp_path: Path) -> None:
    overrides = ("training.epochs=3", "seeds=[4, 5]", "optimizers.sgd.momentum=0.25", "measurement.throughput=false")
    output = tmp_path / "tuned.toml"
    text = rewrite(suite(COMMENTED, *overrides), output, {"sgd": {"lr": 0.0625}}, *overrides)
    tuned = load_suite(output)
    assert (tuned.seeds, tuned.measurement.throughput) == ((4, 5), False)
    assert tuned.optimizers[0].options["momentum"] == 0.25
    assert tuned.optimizers[0].settings["training"]["epochs"] == 3
    assert "with training.epochs=3, seeds=[4, 5]" in text.splitlines()[0]


def test_a_line_break_in_an_override_stays_in_the_comment(suite: Load, tmp_path: Path) -> None:
    override = 'description="""one\nseeds = [9]"""'
    text = rewrite(suite("", override), tmp_path / "tuned.toml", {"sgd": {"lr": 0.0625}}, override)
    assert r"one\nseeds = [9]" in text.splitlines()[0]
    tuned = load_suite(tmp_path / "tuned.toml")
    assert (tuned.description, tuned.seeds) == ("one\nseeds = [9]", (0,))


@pytest.mark.parametrize(
    ("own", "file", "name"),
    [
        ("", "tuned.toml", "tuned"),
        ("", "folder/quick.toml", "quick-tuned"),
        ('name = "mine"\n', "tuned.toml", "mine-tuned"),
        (f'name = "{"x" * 80}"\n', "tuned.toml", "x" * 74 + "-tuned"),
    ],
)
def test_the_tuned_suite_has_a_results_folder_of_its_own(
    suite: Load, tmp_path: Path, own: str, file: str, name: str
) -> None:
    source = suite().source
    source.write_text(own + source.read_text())
    (tmp_path / "folder").mkdir()
    rewrite(load_suite(source), tmp_path / file, {"sgd": {"lr": 0.0625}})
    assert load_suite(tmp_path / file).name == name


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("quick.toml", "would replace the suite itself"),
        ("link.toml", "would replace the suite itself"),
        ("a b.toml", "'a b' cannot name a folder of results"),
    ],
)
def test_an_output_that_cannot_be_is_refused(suite: Load, tmp_path: Path, file: str, message: str) -> None:
    loaded = suite()
    (tmp_path / "link.toml").symlink_to(loaded.source)
    target = TunedSuite(loaded, (), tmp_path / file, find_subjects(loaded, SETTINGS))
    with pytest.raises(InputError, match=r"^--output ") as refused:
        target.check()
    assert message in str(refused.value)


def test_labels_that_differed_only_in_tuned_values_are_refused(suite: Load, tmp_path: Path) -> None:
    text = '[[optimizers]]\nname = "sgd"\nlr = 0.1\n[[optimizers]]\nname = "sgd"\nlr = 0.2\ntraining = {epochs = 2}\n'
    loaded = suite(text)
    target = TunedSuite(loaded, (), tmp_path / "tuned.toml", find_subjects(loaded, SETTINGS))
    with pytest.raises(InputError, match=r"quick.toml: two different optimizers would be called 'sgd' .* give each"):
        target.check()
