"""Suites after mishaps and of malice: each gives a plan that can be run, or one clear line, and soon."""

from __future__ import annotations

import json
import math
import random
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from damage import FULL, damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study import STUDY
from support import TINY

from sgabench.errors import InputError
from sgabench.plugins.registry import REGISTRIES
from sgabench.suite.limits import MAX_RECORDS
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite

FILES = 20_000 if FULL else 200
BATCH = 200
SECONDS = 20  # of processor time, for a file that takes milliseconds
SUITES = [path.read_text() for path in sorted((Path(__file__).parents[2] / "suites").glob("*.toml"))]
WHOLE = [*SUITES, TINY, STUDY.replace("</script>", "")]

ODD_NUMBERS = [0, -1, 1, 2, 1e308, -1e308, 1e-320, math.nan, math.inf, -math.inf, 2**31, 2**63 - 1, 2**63, -(2**63)]
ODD_TEXTS = [
    "",
    " ",
    "../x",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "weights",
    "store.sqlite",
    "nul",
    "x" * 100_000,
    "é",
    "名",
]
ODD_TEXTS += ["\u202e", "\x00", "\x1b[2J", "\ufeff", "a\nb", "=1+1", "<b>", "adam", "torch:Adam", "timm:resnet18", ":"]
ODD_TEXTS += ["%s%s", "{}", "$(id)", "*", "[", "true", "1", "nan", "torch:", ":Adam", "torch:Adam:x", "\U0001f600"]
BYTES = [
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r",
    b"\r\n",
    b'"',
    b"'''",
    b'"""',
    b"[",
    b"]]",
    b"{",
    b"}",
]
BYTES += [b"=", b".", b",", b"#", b"\\", b"\\u0000", b"\n[[optimizers]]\n", b"\n[training]\n", b"9" * 5000, b"[" * 3000]
BYTES += [b"a." * 5000, b"inf", b"1979-05-27T07:32:00Z", b"0x" + b"f" * 5000, b"1e999", b"\n", b"_", b"\xe2\x80\xae"]


class Hang(BaseException):
    """A file took so long that it will never end."""


@contextmanager
def limited_time() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def toml(value: Any) -> str:
    """A value as TOML on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return "{" + ", ".join(f"{toml(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
            return f'"{escaped}"'
        case _:
            return str(value)


def written(data: dict[str, Any]) -> str:
    return "".join(f"{toml(str(key))} = {toml(value)}\n" for key, value in data.items())


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value is."""
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from places(child, (*path, name))


def neighbour(value: Any, chance: random.Random) -> Any:
    """A value that might well be right, too."""
    match value:
        case bool():
            return not value
        case int() | float():
            whole = round(value) if math.isfinite(value) else 0
            return chance.choice([value + 1, value * 2, value / 2, value * 1000, -value, value / 1000, whole])
        case str():
            return chance.choice([plugin.name for plugin in chance.choice(list(REGISTRIES.values())).plugins()])
        case list():
            return chance.choice([value[:1], value * 2, value[::-1], [*value, *(neighbour(v, chance) for v in value)]])
        case dict():
            return dict(chance.sample(list(value.items()), chance.randrange(len(value) + 1)))
    return value


def odd_value(chance: random.Random) -> Any:
    deep: Any = chance.choice(ODD_NUMBERS)
    for _ in range(chance.choice([1, 3, 45, 60, 200])):
        deep = [deep] if chance.random() < 0.5 else {"a": deep}
    simple = [chance.choice(ODD_NUMBERS), chance.choice(ODD_TEXTS), chance.random(), chance.randrange(-5, 2000)]
    lists = [[chance.choice(ODD_NUMBERS + ODD_TEXTS) for _ in range(chance.choice([0, 1, 3]))], list(range(20_000))]
    tables = [{chance.choice(ODD_TEXTS)[:50]: chance.choice(ODD_NUMBERS)}, {"lr": [0.1, 0.2]}, {}]
    return chance.choice([*simple, *simple, True, False, deep, *lists, *tables])


def option_of_a_plugin(chance: random.Random) -> str:
    plugin = chance.choice([plugin for registry in REGISTRIES.values() for plugin in registry.plugins()])
    return chance.choice([*plugin.parameters, "label", "sweep", "training", "ratios", "finetune", "name", "train_size"])


def mutate(data: dict[str, Any], chance: random.Random) -> str:
    """One to three changes of a suite's structure, as TOML."""
    mild = chance.random() < 0.6
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        path = chance.choice(list(places(data)))
        parent: Any = data
        for name in path[:-1]:
            parent = parent[name]
        last = path[-1]
        match "replace" if mild else chance.choice(["replace", "delete", "rename", "repeat", "add", "sweep", "swap"]):
            case "delete":
                del parent[last]
            case "rename" if isinstance(parent, dict):
                parent[chance.choice([f"{last}s", str(last).upper(), *ODD_TEXTS[:12], "a.b"])] = parent.pop(last)
            case "repeat" if isinstance(parent, list):
                parent.extend([parent[last]] * chance.choice([1, 2, 30]))
            case "add" if isinstance(parent, dict):
                parent[option_of_a_plugin(chance)] = odd_value(chance)
            case "sweep" if isinstance(parent, dict):
                values = [odd_value(chance) for _ in range(chance.choice([1, 2, 4]))]
                parent["sweep"] = {
                    option_of_a_plugin(chance): chance.choice([values, list(range(300)), odd_value(chance)])
                }
            case "swap":
                other = chance.choice(list(places(data)))
                source: Any = data
                for name in other:
                    source = source[name]
                parent[last] = json.loads(json.dumps(source))
            case _:
                parent[last] = neighbour(parent[last], chance) if mild else odd_value(chance)
        if not data:
            break
    text = written(data)
    if chance.random() < 0.1:  # a key that is there twice
        text += chance.choice(text.splitlines() or [""]) + "\n"
    return text


def generated(chance: random.Random) -> dict[str, Any]:
    """A suite of plugins and options at random, most of them valid."""

    def entry(section: str) -> dict[str, Any]:
        plugin = chance.choice([p for p in REGISTRIES[section].plugins() if p.origin.label == "built-in"])
        options = {
            name: value for name, value in plugin.parameters.items() if value is not ... and chance.random() < 0.4
        }
        made: dict[str, Any] = {"name": plugin.name, **json.loads(json.dumps(options))}
        if "lr" in plugin.parameters and chance.random() < 0.5:
            made.pop("lr", None)
            made["sweep"] = {"lr": [chance.uniform(1e-4, 1) for _ in range(chance.randrange(1, 4))]}
        return {name: value for name, value in made.items() if value is not None}

    sections = {section: [entry(section) for _ in range(chance.randrange(1, 4))] for section in list(REGISTRIES)[:4]}
    training = {
        "epochs": chance.randrange(1, 50),
        "schedule": chance.choice(["constant", "cosine", "step", "one-cycle"]),
    }
    seeds = chance.sample(range(1000), chance.randrange(1, 5))
    return {"seeds": seeds, "ratios": [chance.random()], "training": training, **sections}


def mutated(seed: int) -> bytes:
    """The file of a seed: bytes or structure changed, of a suite that is whole or generated."""
    chance = random.Random(seed)
    whole = chance.choice(WHOLE) if chance.random() < 0.7 else written(generated(chance))
    if chance.random() < 0.6:
        return mutate(tomllib.loads(whole), chance).encode()
    content = whole.encode()
    for _ in range(chance.choice([1, 1, 2, 5])):
        kind = chance.random()
        digits = [at for at, byte in enumerate(content) if byte in b"0123456789"]
        if kind < 0.4 and digits:
            at = chance.choice(digits)
            content = content[:at] + str(chance.randrange(100)).encode() + content[at + 1 :]
        elif kind < 0.7 and content:
            content = damaged(content, chance)
        else:
            at = chance.randrange(len(content) + 1)
            content = content[:at] + chance.choice(BYTES) + content[at + chance.choice([0, 0, 1, 5]) :]
    return content


def numbers(value: Any) -> Iterator[float]:
    """Every number inside a value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def assert_can_be_run(plan: Plan) -> None:
    """What a plan promises to those that run it."""
    suite = plan.suite
    folder = Path("results") / suite.name
    assert folder.resolve().parent == Path("results").resolve()
    assert suite.name not in ("weights", "lost", "snapshots")
    assert not suite.name.startswith(("store.sqlite", "tuning.sqlite", "."))
    assert len(set(suite.seeds)) == len(suite.seeds) > 0
    assert all(type(seed) is int and 0 <= seed < 2**63 for seed in suite.seeds)
    sections = (suite.datasets, suite.models, suite.optimizers, suite.pruners, suite.probes)
    for section in sections:
        labels = [choice.label for choice in section]
        assert len(set(labels)) == len(labels)
        assert all(label.isprintable() and 0 < len(label) <= 500 for label in labels)
        for choice in section:
            json.dumps(choice.identity(), allow_nan=False)
            for number in numbers([dict(choice.options), dict(choice.settings)]):
                assert math.isfinite(number)
                assert -(2**63) <= number < 2**63 or isinstance(number, float)
    for dataset in suite.datasets:
        assert dataset.settings["train_size"] is None or dataset.settings["train_size"] >= 1
        assert dataset.settings["validation_size"] >= 0
    for optimizer in suite.optimizers:
        recipe = optimizer.settings["training"]
        assert 1 <= recipe["epochs"] <= 100_000
        assert 2 <= recipe["batch_size"] <= 2**31
        assert 0 <= recipe["warmup_epochs"] < recipe["epochs"]
        assert 0 <= recipe["label_smoothing"] < 1
        milestones = recipe.get("step_milestones", [])
        assert milestones == sorted(set(milestones))
        assert all(0 < milestone < 1 for milestone in milestones)
        assert 0 < recipe.get("step_factor", 0.5) < 1
        assert 0 < recipe.get("ema_decay", 0.5) < 1
        if optimizer.name in ("adam", "adamw", "sgd", "stochgradadam"):
            assert optimizer.options["lr"] > 0
    for pruner in suite.pruners:
        ratios = pruner.settings["ratios"]
        assert len(set(ratios)) == len(ratios) > 0
        assert all(0 <= ratio < 1 for ratio in ratios)
        finetune = pruner.settings["finetune"]
        assert finetune is None or (finetune["epochs"] >= 1 and (finetune["lr"] is None or finetune["lr"] > 0))
    assert 1 <= suite.measurement.batch_size <= 2**31
    assert 0 < suite.measurement.min_run_time <= 60
    cells = sum(len(pruner.settings["ratios"]) for pruner in suite.pruners)
    expected = math.prod(map(len, (suite.datasets, suite.models, suite.optimizers, suite.seeds)))
    assert len(plan.trials) == expected
    assert all(len(trial.cells) == cells for trial in plan.trials)
    assert 0 < expected * cells <= MAX_RECORDS
    keys = [trial.key for trial in plan.trials]
    assert len(set(keys)) == len(keys)
    # Entries of a pruner may share ratios: one key then, because it is one pruning.
    asked = {(trial.key, json.dumps(cell.description(), sort_keys=True)): cell.key for trial, cell in plan.cells()}
    keys += set(asked.values())
    assert len(set(keys)) == len(keys) == len(plan.trials) + len(asked)
    assert all(len(key) == 32 for key in keys)


def plan_or_line(path: Path) -> Plan | str:
    """The plan of a file, or the one line that refuses it."""
    try:
        with limited_time():
            return make_plan(load_suite(path), Path("data"))
    except InputError as error:
        message = str(error)
        assert message.startswith((f"{path}: ", "dataset ", "data set "))
        assert message.isprintable()
        assert len(message) < 4000
        return message


def batches() -> range:
    return range(0, FILES, BATCH)


@pytest.mark.parametrize("first", batches())
def test_a_mutated_suite(tmp_path: Path, first: int) -> None:
    accepted, slowest = 0, 0.0
    for seed in range(first, first + BATCH):
        path = tmp_path / "mutated.toml"
        path.write_bytes(mutated(seed))
        try:
            started = time.process_time()
            found = plan_or_line(path)
            slowest = max(slowest, time.process_time() - started)
            if isinstance(found, Plan):
                accepted += 1
                assert_can_be_run(found)
        except BaseException as error:
            raise AssertionError(f"mutation {seed}: {type(error).__name__}: {error}") from error
    print(f"{BATCH} files, {accepted} accepted, slowest {slowest:.2f} s")
    assert 0 < accepted < BATCH


TEXTS = st.text(max_size=12) | st.sampled_from(ODD_TEXTS)
LEAVES = st.booleans() | st.integers() | st.floats() | st.sampled_from(ODD_NUMBERS) | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.sampled_from(["name", "lr"]), inner, max_size=3)
    ),
    max_leaves=8,
)
Draw = Callable[..., Any]


@settings(
    max_examples=5000 if FULL else 60,
    deadline=None,
    derandomize=not FULL,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(whole=st.sampled_from(WHOLE), data=st.data())
def test_any_value_at_any_place(tmp_path: Path, whole: str, data: st.DataObject) -> None:
    suite = tomllib.loads(whole)
    path = data.draw(st.sampled_from(list(places(suite))), "place")
    parent: Any = suite
    for name in path[:-1]:
        parent = parent[name]
    parent[path[-1]] = data.draw(VALUES, "value")
    file = tmp_path / "any.toml"
    file.write_text(written(suite), encoding="utf-8", errors="surrogatepass")
    found = plan_or_line(file)
    if isinstance(found, Plan):
        assert_can_be_run(found)
