"""The README and the docs say what is true: what they show is run, what they name exists, and nothing is left out."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from shown import (
    BLOCKS,
    FRAGMENTS,
    PAGES,
    PLUGINS,
    READ_BY_PLUGINS,
    ROOT,
    SHELL,
    SNIPPETS,
    SUITES,
    Block,
    page,
    registered,
    section_of,
)
from support import TINY, called_in_a_fork

from sgabench.cli import app
from sgabench.cli.project import find_project
from sgabench.plugins.registry import REGISTRIES, load_plugin_file, optimizers
from sgabench.store.store import Record, Store
from sgabench.suite import schedules
from sgabench.suite import tables as suites
from sgabench.suite.question import QuestionTable
from sgabench.suite.resolving import load_suite, resolve
from sgabench.suite.rules import METRICS, GateTable, MetricRule
from sgabench.suite.shipped import shipped_suites

COMMANDS = typer.main.get_command(app)
# What a part of a suite is put into, and what stands in for suites/quickstart.toml.
QUICK = """
seeds = [0]
training = {epochs = 1, batch_size = 64}
measurement = {min_run_time = 0.001}
datasets = [{name = "digits", train_size = 64}]
models = [{name = "resnet8", width = 4}]
optimizers = [{name = "sgd"}]
pruners = [{name = "magnitude"}]
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a suite of all plugins of the docs was run by the real command line."""
    folder = tmp_path_factory.mktemp("docs")
    for plugin in PLUGINS + READ_BY_PLUGINS:
        (folder / plugin.title).write_text(plugin.text, encoding="utf-8")
    entries: dict[str, list[str]] = {kind: [] for kind in REGISTRIES}
    for kind, name in [item for plugin in PLUGINS for item in registered(plugin)]:
        entries[section_of(kind)].append(name)
    text = (
        "seeds = [0]\n[training]\nepochs = 2\nbatch_size = 50\n[measurement]\nmin_run_time = 0.001\n"
        + "".join(f'[[{kind}]]\nname = "{name}"\n' for kind, names in entries.items() for name in names)
        + '[[pruners]]\nname = "magnitude"\nreestimate_bn = true\nfinetune = {epochs = 1}\n'
        + '[[probes]]\nname = "weights"\n'
    )
    (folder / "all.toml").write_text(text, encoding="utf-8")
    options = ["all.toml", "--set", "datasets.1.validation_size=50"]
    options += [part for plugin in PLUGINS for part in ("--plugin", plugin.title)]
    for command in (["run", *options], ["prune", *options, "--output", "kept", "--only", "*/magnitude/*"]):
        done = called_in_a_fork(folder, command, {})
        assert done.returncode == 0, done.stderr
    (folder / "suites").mkdir()
    (folder / "suites" / "quickstart.toml").write_text(QUICK, encoding="utf-8")
    return folder


def records(folder: Path) -> Iterator[Record]:
    with Store(folder / "results") as store:
        for kind in ("trial", "cell", "probe"):
            yield from store.records(kind, detail=True)


PUBLIC = ("sgabench", "sgabench.plugins", "sgabench.optimizers", "sgabench.pruners.base")


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    shown = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    public = {name for module in PUBLIC for name in importlib.import_module(module).__all__}
    assert {name for name in public if name not in shown} == set()


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    titles = {
        "toml": {"", "part of a suite", "six.toml", "gate.toml", "own.toml", "pyproject.toml", "sgabench.toml"},
        "python": {"from Python", *(b.title for b in PLUGINS)},
        "text": {b.title for b in READ_BY_PLUGINS},
        **{"sh": {""}, "bash": {"array.sbatch", "ray.sbatch"}},
        "yaml": {".github/workflows/gate.yml", ".gitlab-ci.yml"},
    }
    assert [str(b) for b in BLOCKS if b.title not in titles.get(b.language, set())] == []
    for path in PAGES:
        fences = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("```")]
        for opening, closing in zip(fences[::2], fences[1::2], strict=True):
            assert re.fullmatch(r'```(\w+( title="[^"]*")?)?', opening), f"{path.name}: {opening}"
            assert closing == "```", f"{path.name}: {closing}"


@pytest.mark.parametrize("block", SUITES, ids=str)
def test_a_whole_suite_is_valid(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(block.text, encoding="utf-8")
    assert load_suite(path).optimizers


@pytest.mark.parametrize("block", FRAGMENTS, ids=str)
def test_a_part_of_a_suite_is_valid_in_one(block: Block) -> None:
    assert resolve({**tomllib.loads(QUICK), **tomllib.loads(block.text)}, Path("shown.toml")).optimizers


def test_every_plugin_that_is_shown_works(ran: Path) -> None:
    kinds = {kind for plugin in PLUGINS for kind, _ in registered(plugin)}
    assert kinds == set(REGISTRIES)
    names = {name for plugin in PLUGINS for _, name in registered(plugin)}
    used = {str(value) for record in records(ran) for value in record.labels.values()}
    assert names <= used
    assert {record.status for record in records(ran)} == {"done"}


def test_a_score_of_ten_lines_has_patterns_allocations_and_schedules(sgabench: Any, tmp_path: Path) -> None:
    (cost,) = [block for block in PLUGINS if block.title == "cost.py"]
    assert len(cost.text.partition("@")[2].splitlines()) <= 10
    (tmp_path / "cost.py").write_text(cost.text, encoding="utf-8")
    suite = tmp_path / "cost.toml"
    gradual = 'schedule = { kind = "gradual", epochs = 1 }'
    entry = f'[[pruners]]\nname = "cost"\nlabel = "all"\npattern = "2:4"\nallocation = "erk"\n{gradual}\n'
    text = TINY.replace("seeds = [0, 1]", "seeds = [0]").replace('[[pruners]]\nname = "magnitude"\n', entry)
    suite.write_text(text, encoding="utf-8")
    done = sgabench("run", suite, "--plugin", "cost.py", "--only", "*/adam/0")
    assert done.returncode == 0, done.stderr
    (cell,) = [record for record in records(tmp_path) if record.kind == "cell"]
    assert cell.result["sparsity"] == pytest.approx(0.5, abs=0.001)
    by_layer = {round(sparsity, 2) for name, sparsity in cell.detail["layer_sparsity"].items() if "conv" in name}
    assert by_layer == {0.0, 0.5}, "2:4 leaves nothing to allocate but in the excluded first layer"
    assert [row["ratio"] for row in cell.detail["schedule"]] == [0.5]


def test_the_suite_of_the_plugins_names_them_all() -> None:
    (six,) = [block for block in BLOCKS if block.title == "six.toml"]
    sections = {kind: entries for kind, entries in tomllib.loads(six.text).items() if kind in REGISTRIES}
    shown = {(kind, entry["name"]) for kind, entries in sections.items() for entry in entries}
    named = [plugin for plugin in PLUGINS if plugin.page == "plugins.md" and plugin.title in page("plugins.md")[:2000]]
    assert shown == {(section_of(kind), name) for plugin in named for kind, name in registered(plugin)}
    assert len(named) == len(REGISTRIES)


def test_the_entry_points_that_are_shown_have_the_right_groups() -> None:
    (project,) = [tomllib.loads(block.text) for block in BLOCKS if block.title == "pyproject.toml"]
    assert project["project"]["entry-points"].keys() <= {registry.package for registry in REGISTRIES.values()}
    for registry in REGISTRIES.values():
        assert f"`{registry.package}`" in page("plugins.md")


@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_what_is_shown_from_python_runs(
    block: Block, ran: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.chdir(ran)
    for plugin in PLUGINS:  # of networks that were kept
        load_plugin_file(ran / plugin.title)
    threads = torch.get_num_threads()
    try:
        exec(compile(block.text, str(block), "exec"), {"__name__": "shown"})
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().out.strip()


# What an earlier command of the docs writes, a later one may name.
TUNED = set(re.findall(r"sgabench tune .*--output (\S+)", "\n".join(SHELL)))


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("sgabench ")])
def test_a_command_that_is_shown_is_valid(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = COMMANDS.commands[name]  # type: ignore[attr-defined]
    values = command.make_context(name, list(arguments)).params
    file = values.get("suite")
    if file is not None and str(file) in shipped_suites():
        load_suite(file, values.get("set_") or ())
    elif file is not None and file.parts[0] == "suites":
        load_suite(ROOT / file, values.get("set_") or ())
    elif file is not None:
        assert str(file) in TUNED or any(block.title == file.name for block in BLOCKS), f"{file} is shown nowhere"
    for plugin in values.get("plugin") or ():
        assert any(block.title == plugin.name for block in PLUGINS), f"{plugin} is shown nowhere"


def test_the_gate_that_is_shown_works(tmp_path: Path) -> None:
    shown = {block.title: block.text for block in BLOCKS if block.page == "ci.md"}
    (tmp_path / "pruner.py").write_text(shown["pruner.py"], encoding="utf-8")
    (tmp_path / "gate.toml").write_text(shown["gate.toml"], encoding="utf-8")
    load_plugin_file(tmp_path / "pruner.py")
    assert load_suite(tmp_path / "gate.toml").gate.floors
    github = yaml.safe_load(shown[".github/workflows/gate.yml"])
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    given = github["jobs"]["gate"]["steps"][-1]["with"]
    assert given.keys() <= action["inputs"].keys()
    assert {name for name, about in action["inputs"].items() if about.get("required")} <= given.keys()
    described = re.split(r"^## ", page("ci.md").split("## GitHub\n")[1], flags=re.MULTILINE)[0]
    assert set(re.findall(r"^\| `(\w+)`", described, re.MULTILINE)) == action["inputs"].keys()
    gitlab = yaml.safe_load(shown[".gitlab-ci.yml"])["gate"]["script"]
    check = shlex.split(f"sgabench check gate.toml --baseline b {given['options']}"), shlex.split(gitlab[1])
    for _, name, *arguments in check:
        COMMANDS.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]


def test_every_default_of_the_gate_is_described() -> None:
    section = page("suite.md").split("### Rules")[1].split("\n## ")[0]
    shown = {
        (rule, float(number), unit) for rule, number, unit in re.findall(r"\| (\w+) \| (\S+) (%|points) \|", section)
    }
    assert shown == {(metric.rule, metric.tolerance, metric.unit) for metric in METRICS.values()}


def test_every_option_of_the_pytest_plugin_is_described() -> None:
    source = (ROOT / "sgabench/pytest_plugin.py").read_text(encoding="utf-8")
    options = re.findall(r'option\("(--[\w-]+)"', source)
    assert len(options) == 6
    assert [option for option in options if f"`{option}" not in page("ci.md")] == []


def test_every_make_target_that_is_shown_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = {
        target for p in PAGES for target in re.findall(r"(?:^|`)make ([\w-]+)", p.read_text("utf-8"), re.MULTILINE)
    }
    assert {"quickstart", "test", "docs"} <= shown
    assert shown <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))


def test_every_local_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGES[0].read_text(encoding="utf-8"))
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        assert (ROOT / file).is_file(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, link


def test_the_readme_has_a_place_for_the_leaderboard() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert text.index("<!-- leaderboard:begin -->") < text.index("<!-- leaderboard:end -->")


def rows(name: str, heading: str) -> dict[str, str]:
    """First to second column of the tables under a heading."""
    section = re.split(r"^#+ ", page(name).split(f"# {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))


TABLES: dict[str, tuple[type[Any], type[Any] | None]] = {
    "Top level": (suites.SuiteFile, None),
    "`[training]`": (suites.Recipe, None),
    "`[measurement]`": (suites.Measurement, None),
    "`[gate]`": (GateTable, None),
    "`[question]`": (QuestionTable, None),
    "Rules": (MetricRule, None),
    "Every entry": (suites.ModelEntry, None),
    "`[[datasets]]`": (suites.DatasetEntry, suites.ModelEntry),
    "`[[optimizers]]`": (suites.OptimizerEntry, suites.ModelEntry),
    "`[[checkpoints]]`": (suites.CheckpointEntry, None),
    "`[[pruners]]`": (suites.PrunerEntry, suites.ModelEntry),
    "Fine-tuning": (suites.Finetuning, None),
    "Distillation": (suites.Distillation, None),
    "`iterative`": (schedules.Iterative, schedules.OneShot),
    "`gradual`": (schedules.Gradual, schedules.OneShot),
    "`rewind`": (schedules.Rewind, schedules.OneShot),
}


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_of_a_suite_is_described_with_its_default(heading: str) -> None:
    model, base = TABLES[heading]
    shown = rows("suite.md", heading)
    fields = {key: info for key, info in model.model_fields.items() if base is None or key not in base.model_fields}
    assert shown.keys() == fields.keys()
    for key, info in fields.items():
        default = info.get_default(call_default_factory=True)
        if info.is_required():
            assert shown[key] == "required", key
        elif default is None:
            assert shown[key] == "—", key
        elif shown[key] != "see below":
            assert same(shown[key], default), key


def test_entries_without_a_table_have_no_keys_of_their_own() -> None:
    assert suites.ProbeEntry.model_fields.keys() == suites.ModelEntry.model_fields.keys()


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("StochGradAdam", "stochgradadam"),
        ("`sampled:` and `noisy:`", "sampled:SGD"),
        ("SAM", "sam:SGD"),
        ("CrAM", "cram:SGD"),
    ],
)
def test_every_option_of_our_optimizers_is_described(heading: str, name: str) -> None:
    shown, parameters = rows("optimizers.md", heading), optimizers[name].parameters
    assert shown.keys() == parameters.keys()
    for key, default in parameters.items():
        assert shown[key] == "—" if default is None else same(shown[key], default), key


def same(cell: str, default: Any) -> bool:
    """Whether a cell of a table shows a default, as TOML."""
    shown = tomllib.loads(f"value = {cell.strip('`')}")["value"]
    return bool(shown == (list(default) if isinstance(default, tuple) else default))


@pytest.mark.parametrize("kind", REGISTRIES)
def test_everything_built_in_is_described(kind: str) -> None:
    text = "".join(page(name) for name in ("suite.md", "optimizers.md", "data.md"))
    names = [p.alias or p.name for p in REGISTRIES[kind].plugins() if p.origin.label == "built-in"]
    if kind == "models":
        names = [name for name in names if f"`{name}`" in text or not re.fullmatch(r"resnet\d+", name)]
        assert {"resnet8", "resnet152"} <= set(names)
    assert [name for name in names if f"`{name}`" not in text] == []
    assert [s.name for s in REGISTRIES[kind].sources() if f"`{s.name}:" not in text] == []


def test_every_option_of_the_command_line_is_described() -> None:
    text = page("cli.md")
    for name, command in COMMANDS.commands.items():  # type: ignore[attr-defined]
        _, _, section = text.partition(f"## `sgabench {name}")
        section = section.split("\n## ")[0]
        assert section, name
        for parameter in command.params:
            options = [*parameter.opts, *parameter.secondary_opts]
            for option in options if parameter.param_type_name == "option" else []:
                if option not in ("--help", "-h"):
                    assert f"`{option}" in section, f"{name} {option}"
    for parameter in COMMANDS.params:
        assert all(option in text for option in parameter.opts), parameter


def test_every_number_that_is_measured_is_described(ran: Path) -> None:
    named = set(re.findall(r"`(\w+)`", page("metrics.md")))
    measured: set[str] = set()
    for record in records(ran):
        if record.kind != "probe":
            measured |= record.result.keys() | record.detail.keys()
            for row in [*record.detail.get("history", []), *record.detail.get("finetuning", [])]:
                measured |= row.keys()
        elif record.labels["probe"] == "weights":
            measured |= record.detail.keys() | record.detail["all"].keys()
    assert {"retention", "validation_top1", "finetuning", "measured_speedup", "kurtosis"} <= measured
    assert measured - named == set()


def test_every_column_of_the_leaderboard_is_described(ran: Path) -> None:
    header = next((ran / "results").glob("all-*/leaderboard.csv")).read_text(encoding="utf-8").splitlines()[0]
    columns = set(header.split(",")) - {"dataset", "model", "pruner", "optimizer"}
    assert columns - set(re.findall(r"`(\w+)`", page("metrics.md"))) == set()


def test_the_project_file_that_is_shown_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = [block for block in BLOCKS if block.title == "sgabench.toml"]
    (tmp_path / "sgabench.toml").write_text(shown.text, encoding="utf-8")
    for plugin in tomllib.loads(shown.text)["plugins"]:
        (tmp_path / plugin).parent.mkdir(exist_ok=True)
        (tmp_path / plugin).touch()
    monkeypatch.chdir(tmp_path)
    project = find_project()
    assert project is not None
    assert list(map(str, (*project.plugins, project.results))) == ["optimizers/lion.py", "pruners.py", "results"]
