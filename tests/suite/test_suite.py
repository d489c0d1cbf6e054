from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TINY, variant

from sgabench.errors import InputError
from sgabench.plugins import optimizers, pruners
from sgabench.suite.overrides import apply_override
from sgabench.suite.resolving import Suite, load_suite, resolve
from sgabench.suite.tables import json_schema

SHIPPED = sorted((Path(__file__).parents[2] / "suites").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_suites_are_valid(path: Path) -> None:
    suite = load_suite(path)
    assert suite.name == path.stem
    assert suite.description


def test_the_papers_suite_asks_for_the_papers_table() -> None:
    suite = load_suite(Path(__file__).parents[2] / "suites" / "cifar_resnet.toml")
    assert [model.name for model in suite.models] == ["resnet56", "resnet110", "resnet152"]
    options = {optimizer.label: optimizer.options for optimizer in suite.optimizers}
    papers = [options[f"{name}, lr of the paper"] for name in ("adam", "stochgradadam")]
    assert [of["lr"] for of in papers] == [0.01, 0.01]
    assert [of["weight_decay"] for of in papers] == [0, 0]
    assert {of["sampling_rate"] for of in options.values() if "sampling_rate" in of} == {0.8}
    fair = {name: options[name] for name in ("adam", "sgd", "stochgradadam")}
    assert {of["weight_decay"] for of in fair.values()} == {1e-4}
    assert {optimizer.settings["training"]["decay"] for optimizer in suite.optimizers} == {"weights"}
    magnitude = next(pruner for pruner in suite.pruners if pruner.name == "magnitude")
    assert magnitude.settings["ratios"] == [0.2, 0.4, 0.5, 0.6, 0.8]
    assert magnitude.options["scope"] == "global"
    assert suite.seeds == (0, 1, 2)


@pytest.mark.parametrize("name", ["quickstart", "controls", "sampling_rate"])
def test_a_suite_that_is_to_decide_something_has_five_seeds(name: str) -> None:
    assert load_suite(Path(__file__).parents[2] / "suites" / f"{name}.toml").seeds == (0, 1, 2, 3, 4)


def test_defaults_of_plugins_are_filled_in(tiny: Path) -> None:
    suite = load_suite(tiny)
    assert suite.optimizers[1].options["bias_correction"] is True
    assert suite.pruners[0].options["scope"] == "global"


def test_a_sweep_multiplies_its_entry(tiny: Path) -> None:
    sweep = 'name = "stochgradadam"\nsweep = {sampling_rate = [0.5, 1.0], lr = [0.01, 0.001, 0.1]}\n'
    suite = load_suite(variant(tiny, 'name = "stochgradadam"\nlr = 0.01\nsampling_rate = 0.8\n', sweep))
    swept = suite.optimizers[1:]
    found = {(o.options["sampling_rate"], o.options["lr"]) for o in swept}
    assert found == {(s, lr) for s in (0.5, 1.0) for lr in (0.01, 0.001, 0.1)}
    assert len({o.label for o in swept}) == 6
    assert swept[0].label == "stochgradadam sampling_rate=0.5 lr=0.01"


def test_a_label_names_an_entry(tiny: Path) -> None:
    suite = load_suite(variant(tiny, 'name = "adam"', 'name = "adam"\nlabel = "Adam, as in the paper"'))
    assert suite.optimizers[0].label == "Adam, as in the paper"


def test_entries_of_one_name_are_distinguished_by_their_options(tiny: Path) -> None:
    extra = '\n[[optimizers]]\nname = "adam"\nlr = 0.001\n'
    tiny.write_text(tiny.read_text() + extra)
    labels = [o.label for o in load_suite(tiny).optimizers]
    assert labels == ["adam lr=0.01", "stochgradadam", "adam lr=0.001"]


def test_an_optimizer_overrides_the_recipe(tiny: Path) -> None:
    suite = load_suite(variant(tiny, 'name = "adam"\n', 'name = "adam"\ntraining = {epochs = 3}\n'))
    assert [o.settings["training"]["epochs"] for o in suite.optimizers] == [3, 1]


def test_the_recipes_learning_rate_is_for_those_without_their_own(tiny: Path) -> None:
    variant(tiny, "epochs = 1", "epochs = 1\nlr = 0.25")
    suite = load_suite(variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "adam"'))
    assert [o.options["lr"] for o in suite.optimizers] == [0.25, 0.01]
    direct = load_suite(variant(tiny, 'name = "adam"', 'name = "adam"\nlr = 0.25'))
    assert direct.optimizers == suite.optimizers


def test_set_changes_what_the_file_says(tiny: Path) -> None:
    suite = load_suite(tiny, ["training.epochs=7", "seeds=[5]", "optimizers.adam.lr=0.5", "pruners.1.ratios=[0.25]"])
    assert suite.seeds == (5,)
    assert suite.optimizers[0].options["lr"] == 0.5
    assert suite.optimizers[0].settings["training"]["epochs"] == 7
    assert suite.pruners[0].settings["ratios"] == [0.25]


def test_set_takes_bare_words_as_text(tiny: Path) -> None:
    assert load_suite(tiny, ["training.schedule=cosine"]).optimizers[0].settings["training"]["schedule"] == "cosine"


BAD = [
    ('name = "adam"', 'name = "adamm"', ["optimizers 1 (adamm)", "did you mean", "adam"]),
    ('name = "resnet8"', 'name = "resnet9"', ["models 1", "resnet8"]),
    ('name = "digits"', 'name = "digit"', ["datasets 1", "'digits'"]),
    ('name = "magnitude"', 'name = "timm:x"', ["pruners 1", "source"]),
    ("ratios = [0.5]", "ratios = [1.2]", ["ratios 1", "less than 1", "1.2"]),
    ("ratios = [0.5]", "ratios = [-0.1]", ["ratios 1", "-0.1"]),
    ("ratios = [0.5]", "ratios = [nan]", ["ratios 1", "nan"]),
    ("ratios = [0.5]", "ratios = []", ["ratios", "empty"]),
    ("ratios = [0.5]", "ratios = [0.5, 0.5]", ["ratios", "twice"]),
    ("ratios = [0.5]", 'ratios = "half"', ["ratios", "half"]),
    ("sampling_rate = 0.8", "sampling_rate = 0", ["optimizers 2 (stochgradadam)", "sampling_rate", "greater than 0"]),
    ("sampling_rate = 0.8", "sampling_rate = 1.5", ["sampling_rate", "less than or equal to 1"]),
    ("sampling_rate = 0.8", "sampling_rat = 0.8", ["sampling_rat", "did you mean 'sampling_rate'"]),
    ("lr = 0.01", "lr = -1", ["optimizers 1 (adam)", "lr", "-1"]),
    ("epochs = 1", "epochs = -1", ["training.epochs", "-1"]),
    ("epochs = 1", "epochs = true", ["training.epochs", "True"]),
    ("epochs = 1", "epochs = '3'", ["training.epochs", "'3'"]),
    ("seeds = [0, 1]", "seeds = [true]", ["seeds 1", "True"]),
    ("ratios = [0.5]", "ratios = ['0.5']", ["ratios 1", "'0.5'"]),
    ("train_size = 256", "train_size = true", ["datasets 1 (digits)", "train_size"]),
    ("train_size = 256", "train_size = 0x" + "f" * 6000, ["train_size"]),
    ("seeds = [0, 1]", "seeds = [" + "9" * 5000 + "]", ["not a TOML file"]),
    ("seeds = [0, 1]", "seeds = [0]\nname = 'store.sqlite-wal'", ["name", "store.sqlite-wal"]),
    ("seeds = [0, 1]", "seeds = [0]\nname = 'weights'", ["name", "weights"]),
    ('name = "adam"\n', 'name = "adam"\nlabel = "a\\u202Eb"\n', ["optimizers 1 (adam)", "label", "printable"]),
    (
        "lr = 0.01\n",
        "sweep = {" + ", ".join(f"{k} = [{', '.join(map(str, range(1, 11)))}]" for k in "abcdefg") + "}\n",
        ["optimizers 1 (adam)", "sweep", "10000000 combinations"],
    ),
    ("epochs = 1", "epochs = 1.5", ["training.epochs", "1.5"]),
    ("epochs = 1", "epoch = 1", ["training.epoch", "did you mean 'epochs'"]),
    ("epochs = 1", 'schedule = "cos"', ["training.schedule", "cosine"]),
    ("epochs = 1", "schedule = 'one-cycle'\nwarmup_epochs = 1", ["training", "warmup_epochs", "one-cycle"]),
    ("lr = 0.01", "lr = nan", ["optimizers 1 (adam)", "lr", "finite", "nan"]),
    ("lr = 0.01", "betas = [0.9, inf]", ["optimizers 1 (adam)", "betas", "finite"]),
    ("epochs = 1", "warmup_epochs = 20", ["training", "warmup_epochs"]),
    ("seeds = [0, 1]", "seeds = [1, 1]", ["seeds", "1 appears twice"]),
    ("seeds = [0, 1]", "seeds = []", ["seeds", "empty"]),
    ("seeds = [0, 1]", "seeds = [-1]", ["seeds 1", "-1"]),
    ("seeds = [0, 1]", "seds = [0]", ["seds", "did you mean 'seeds'"]),
    ("seeds = [0, 1]", "seeds = [0, 1]\nname = '../up'", ["name", "../up"]),
    ("seeds = [0, 1]", "seeds = [0, 1", ["not a TOML file", "line"]),
    ('[[models]]\nname = "resnet8"\nwidth = 4\n', "", ["models", "required"]),
    ('[[models]]\nname = "resnet8"', "[[models]]", ["models 1", "name", "required"]),
    ('name = "adam"\n', 'name = "adam"\ntraining = {epochs = 0}\n', ["optimizers 1 (adam)", "training.epochs"]),
    ('name = "adam"\n', 'name = "adam"\nlabel = "a/b"\n', ["optimizers 1 (adam)", "label"]),
    ("lr = 0.01\n", "sweep = {lr = []}\n", ["optimizers 1 (adam)", "sweep"]),
    ("lr = 0.01\n", "sweep = {lr = [0.1, 0.1]}\n", ["optimizers 1 (adam)", "sweep.lr", "twice"]),
    ("lr = 0.01\n", "lr = 0.01\nsweep = {lr = [0.1]}\n", ["optimizers 1 (adam)", "lr", "swept"]),
    ("lr = 0.01\n", "sweep = {lr = [0.1, 0]}\n", ["optimizers 1 (adam)", "lr", "greater than 0"]),
    ("lr = 0.01\n", 'sweep = {name = ["adam", "sgd"]}\n', ["optimizers 1 (adam)", "name"]),
    ('[[pruners]]\nname = "magnitude"', "[pruners]\nname = 'magnitude'", ["pruners", "write [[pruners]]"]),
    ("train_size = 256", "train_size = 0", ["datasets 1 (digits)", "train_size"]),
    ('name = "magnitude"', 'name = "magnitude"\nfinetune = {epochs = 0}', ["pruners 1 (magnitude)", "finetune.epochs"]),
    ("min_run_time = 0.001", "min_run_time = 0", ["measurement.min_run_time"]),
]


@pytest.mark.parametrize(("old", "new", "expected"), BAD, ids=[ascii(new.strip()[:40]) for _, new, _ in BAD])
def test_a_mistake_is_one_line_with_file_key_and_value(tiny: Path, old: str, new: str, expected: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_suite(variant(tiny, old, new))
    message = str(caught.value)
    assert message.startswith(str(tiny))
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_the_same_entry_twice_is_refused(tiny: Path) -> None:
    tiny.write_text(tiny.read_text() + '\n[[pruners]]\nname = "magnitude"\nscope = "global"\n')
    with pytest.raises(InputError, match="pruners: 'magnitude' appears twice"):
        load_suite(tiny)


def test_a_file_that_is_not_there_names_its_neighbours(tiny: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean 'tiny.toml'"):
        load_suite(tiny.with_name("tinny.toml"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a = " + b"[" * 5000], ids=["bytes", "nesting"])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"garbage.toml: not a "):
        load_suite(path)


def test_a_byte_order_mark_is_no_mistake(tiny: Path) -> None:
    expected = load_suite(tiny)
    tiny.write_bytes(b"\xef\xbb\xbf" + tiny.read_bytes())
    assert load_suite(tiny) == expected


def test_a_whole_number_is_a_number(tiny: Path) -> None:
    expected = load_suite(variant(tiny, "epochs = 1", "epochs = 1\nlabel_smoothing = 0.0"))
    assert load_suite(variant(tiny, "label_smoothing = 0.0", "label_smoothing = 0")) == expected


def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(InputError, match="not a regular file"):
        load_suite(tmp_path / "pipe.toml")
    with (tmp_path / "large.toml").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(InputError, match=r"larger than 1 MB: not a suite$"):
        load_suite(tmp_path / "large.toml")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="directory"):
        load_suite(tmp_path)


def test_a_file_name_that_cannot_name_a_folder_is_refused(tiny: Path) -> None:
    path = tiny.rename(tiny.with_name("my suite.toml"))
    with pytest.raises(InputError, match="'my suite' cannot name a folder"):
        load_suite(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epochs", "KEY=VALUE"),
        ("=1", "KEY=VALUE"),
        ("optimizers.adm.lr=1", "did you mean 'adam'"),
        ("trainin.epochs=1", "did you mean 'training'"),
        ("seeds.first=1", "no keys of its own"),
        ("training.epochs=0", "training.epochs"),
    ],
)
def test_a_wrong_set_is_refused(tiny: Path, override: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected.replace("=", "=")):
        load_suite(tiny, [override])


def test_an_override_makes_tables_that_are_not_there() -> None:
    data: dict[str, Any] = {"optimizers": [{"name": "adam"}]}
    apply_override(data, "optimizers.adam.training.epochs=3")
    apply_override(data, "measurement.throughput=false")
    assert data == {
        "optimizers": [{"name": "adam", "training": {"epochs": 3}}],
        "measurement": {"throughput": False},
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=5,
)
KEYS = ["seeds", "ratios", "training", "measurement", "datasets", "models", "optimizers", "pruners", "probes", "name"]


@settings(max_examples=200)
@given(st.sampled_from(KEYS), json_values)
def test_any_value_anywhere_is_accepted_or_refused_in_one_line(key: str, value: Any) -> None:
    import tomllib

    data = tomllib.loads(TINY)
    data[key] = value
    try:
        suite = resolve(data, Path("tiny.toml"))
    except InputError as error:
        assert "\n" not in str(error)
        assert str(error)
    else:
        assert isinstance(suite, Suite)


@settings(max_examples=200)
@given(
    st.sampled_from(["datasets", "models", "optimizers", "pruners"]),
    st.sampled_from(["sweep", "lr", "of"]),
    json_values,
)
def test_any_value_in_an_entry_is_accepted_or_refused_in_one_line(section: str, key: str, value: Any) -> None:
    import tomllib

    data = tomllib.loads(TINY)
    data[section][0][key] = value
    try:
        resolve(data, Path("tiny.toml"))
    except InputError as error:
        assert "\n" not in str(error)
        assert str(error)


def test_the_schema_describes_every_key() -> None:
    schema = json_schema()
    assert schema["required"] == ["datasets", "models", "pruners"]  # and optimizers or checkpoints
    recipe = schema["$defs"]["Recipe"]["properties"]
    assert recipe["precision"]["enum"] == ["fp32", "bf16"]
    assert all("description" in value for value in recipe.values())


@pytest.mark.parametrize("tag", ["a\\nb", "x" * 600], ids=["unprintable", "too long"])
def test_a_label_made_of_swept_values_must_fit_into_a_table(tiny: Path, tag: str) -> None:
    @pruners.register("tagged")
    def tagged(network: Any, *, tag: str = "") -> Any:
        return network

    tiny.write_text(
        variant(tiny, 'name = "magnitude"', 'name = "tagged"').read_text()
        + f'\n[pruners.sweep]\ntag = ["{tag}", "b"]\n'
    )
    with pytest.raises(InputError, match="cannot be shown in a table; give it a label"):
        load_suite(tiny)


def test_what_set_changes_has_a_folder_of_its_own(tiny: Path) -> None:
    def folders(*overrides: str) -> tuple[str, str]:
        suite = load_suite(tiny, overrides)
        return suite.folder, suite.looks_folder

    assert folders() == folders("training.epochs=1", "ratios=[0.5]") == ("tiny", "tiny")
    changed, looks = folders("training.epochs=2", "seeds=[0]")
    assert re.fullmatch("tiny-[0-9a-f]{6}", changed)
    assert folders("seeds=[0]", "training.epochs=2") == (changed, looks)
    assert folders("training.epochs=2") == (looks, looks) != (changed, looks)
    assert folders("seeds=[0]")[1] == "tiny"  # the same question, looked at once more
    assert folders("name=other", "seeds=[0]") == ("other", "other")


def test_a_learning_rate_that_an_optimizer_has_no_option_for_is_refused(tiny: Path) -> None:
    optimizers.register("free")(lambda parameters, *, beta=0.9: None)
    optimizers.register("any")(lambda parameters, **options: None)
    variant(tiny, "epochs = 1", "epochs = 1\nlr = 0.2")
    variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "any"')
    assert load_suite(tiny).optimizers[0].options == {"lr": 0.2}
    variant(tiny, 'name = "any"', 'name = "free"')
    with pytest.raises(InputError) as caught:
        load_suite(tiny)
    assert str(caught.value) == (
        f"{tiny}: optimizers 1 (free): [training] lr 0.2 cannot reach it: optimizer 'free' has no option lr (its "
        "options: beta); write lr into the entries of the optimizers that have one, instead of [training] lr"
    )
    with pytest.raises(InputError, match=r"optimizers 1 .free.: .training. lr 0.1 cannot reach it"):
        load_suite(variant(tiny, 'name = "free"', 'name = "free"\ntraining = {lr = 0.1}'))
