"""Every other command, and bad input anywhere: one line and exit code 2."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import fill, variant

from sgabench.store.store import Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """One line on stderr that has all the parts, exit code 2."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def test_what_does_not_compute_does_not_import_torch(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    code = """
import sys
from sgabench.cli import main
for command in ("--help", "plan tiny.toml", "report", "list optimizers", "schema"):
    try:
        main(command.split())
    except SystemExit as stop:
        assert not stop.code, (command, stop.code)
    assert "torch" not in sys.modules, (command, sorted(m for m in sys.modules if m.startswith("torch"))[:3])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_help_and_the_first_step_wait_for_is_little(tmp_path: Path) -> None:
    code = """
import sys
from sgabench.cli import main
try:
    main(["--help"])
except SystemExit as stop:
    assert not stop.code
assert not {"pydantic", "numpy", "pandas", "scipy"} & sys.modules.keys()
import sgabench.report.progress, sgabench.report.run  # of tables nothing is needed before the trainings
assert not {"pandas", "scipy", "asyncio"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_names_every_command(sgabench: Run) -> None:
    text = sgabench("--help").stdout
    for command in ("run", "tune", "baseline", "check", "report", "list", "plan", "env", "schema"):
        assert f" {command} " in text


def test_help_of_run_names_every_option(sgabench: Run) -> None:
    text = sgabench("run", "--help", COLUMNS="200").stdout
    for option in ("results", "data-dir", "device", "jobs", "only", "set", "plugin", "dry-run", "quiet", "no-download"):
        assert f"--{option}" in text


def test_plan_shows_what_would_run(sgabench: Run, tiny: Path) -> None:
    lines = sgabench("plan", tiny).stdout.splitlines()
    assert lines[0].startswith("to run")
    assert lines[0].endswith("digits/resnet8/adam/0")
    assert lines[1].endswith("magnitude/0.5")
    assert {"4 trials: 4 to run", "4 cells: 4 to run"} <= set(lines)


def test_list_shows_parameters_defaults_and_origin(sgabench: Run) -> None:
    text = sgabench("list", "optimizers", "--filter", "stochgrad", COLUMNS="160").stdout
    assert "stochgradadam" in text
    assert "sampling_rate = 0.8" in text
    assert "built-in" in text
    assert "sgd" not in text


@pytest.mark.parametrize("kind", ["datasets", "models", "optimizers", "pruners", "probes"])
def test_every_registry_can_be_listed(sgabench: Run, kind: str) -> None:
    done = sgabench("list", kind)
    assert done.returncode == 0
    expected = {
        "datasets": ["digits", "cifar10", "cifar100", "fashion_mnist", "folder"],
        "models": ["resnet8", "resnet56", "resnet110", "resnet152", "timm:NAME", "torchvision:NAME"],
        "optimizers": ["adam", "adamw", "sgd", "stochgradadam", "torch:NAME", "sampled:NAME"],
        "pruners": ["magnitude", "random", "structured"],
        "probes": ["weights"],
    }
    for name in expected[kind]:
        assert name in done.stdout


def test_env_is_what_a_record_keeps(sgabench: Run) -> None:
    environment = json.loads(sgabench("env", "--device", "cpu").stdout)
    assert environment["device"] == "cpu"
    assert {"torch", "torchvision", "sgabench"} <= set(environment["packages"])
    assert environment["cores"] >= 1


def test_schema_is_json_schema(sgabench: Run) -> None:
    schema = json.loads(sgabench("schema").stdout)
    assert "json-schema.org" in schema["$schema"]
    assert "optimizers" in schema["properties"]


def test_a_report_is_written_to_a_file(sgabench: Run, tiny: Path, plan: Plan, tmp_path: Path) -> None:
    with Store(tmp_path / "results", create=True) as store:
        fill(store, plan, adam_1={"trial": "missing"})
    done = sgabench("report", tiny, "--format", "json", "--output", "out.json")
    assert (done.returncode, done.stdout) == (0, "")
    cells = json.loads((tmp_path / "out.json").read_text())["cells"]
    assert {cell["status"] for cell in cells} == {"done", "missing"}


def test_a_folder_with_nothing_of_a_suite_says_so(sgabench: Run, tiny: Path, plan: Plan, tmp_path: Path) -> None:
    with Store(tmp_path / "results", create=True) as store:
        fill(store, plan)
    done = sgabench("report", tiny, "--set", "training.epochs=7")
    message = "error: results folder results: nothing of "
    assert (done.returncode, done.stdout, done.stderr[: len(message)]) == (2, "", message)
    assert done.stderr.endswith("is stored here; run it first, or leave the suite out to see everything stored\n")


def test_bad_suites_are_refused_by_every_command(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    variant(tiny, "ratios = [0.5]", "ratios = [1.2]")
    for command in ("run", "plan", "report"):
        assert_refused(sgabench(command, tiny), "tiny.toml: ratios 1", "less than 1", "1.2")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["plan", "tinny.toml"], ["tinny.toml", "did you mean 'tiny.toml'"]),
        (
            ["run", "tiny.toml", "--set", "optimizers.stochgradadam.sampling_rate=0"],
            ["sampling_rate", "greater than 0"],
        ),
        (["run", "tiny.toml", "--set", "training.epochs=-3"], ["training.epochs", "-3"]),
        (["run", "tiny.toml", "--set", "seeds=[]"], ["seeds", "empty"]),
        (["run", "tiny.toml", "--set", "seeds=[1,1]"], ["seeds", "twice"]),
        (["run", "tiny.toml", "--only", "nothing"], ["--only nothing", "matches no trial"]),
        (["run", "tiny.toml", "--plugin", "none.py"], ["--plugin none.py", "No such file"]),
        (["run", "tiny.toml", "--results", "file"], ["results folder file: is a file; name its folder"]),
        (["run", "tiny.toml", "--results", "/proc/none"], ["results folder /proc/none", "--results"]),
        (["run", "tiny.toml", "--results", "newer"], ["written by a newer sgabench", "upgrade"]),
        (["run", "tiny.toml", "--no-download", "--set", "datasets.digits.name=cifar10"], ["cifar-10-batches-bin"]),
        (["report", "--results", "nowhere"], ["results folder nowhere", "does not exist"]),
    ],
    ids=lambda value: " ".join(value[1:4]) if len(value) > 2 else None,
)
def test_bad_input_is_one_line(
    sgabench: Run, tiny: Path, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "newer").mkdir()
    database = sqlite3.connect(tmp_path / "newer/store.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    assert_refused(sgabench(*arguments), *parts)


def test_a_refused_run_makes_no_results_folder(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    assert_refused(sgabench("run", tiny, "--set", "training.batch_size=1000"), "batch_size 1000", "256 images")
    assert not (tmp_path / "results").exists()


def test_a_leaderboard_that_cannot_be_written_is_found_first(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "results/tiny/leaderboard.md").mkdir(parents=True)
    done = sgabench("run", tiny)
    assert_refused(done, "leaderboard.md is a folder")


@pytest.mark.parametrize("target", ["results/store.sqlite", "tiny.toml"])
def test_a_report_replaces_neither_store_nor_suite(sgabench: Run, tiny: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/store.sqlite").write_bytes(b"")
    before = (tmp_path / target).read_bytes()
    done = sgabench("report", tiny, "--output", target)
    assert done.returncode == 2
    assert (tmp_path / target).read_bytes() == before


def test_output_that_nobody_reads_or_can_show_harms_nothing(
    sgabench: Run, sgabench_process: Run, tiny: Path, tmp_path: Path
) -> None:
    command = f"{sys.executable} -m sgabench run tiny.toml --only '*/adam/0' 2>&1 >/dev/null | head -1"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, capture_output=True)
    help_ = "set -o pipefail; for command in '' list; do "
    help_ += f"{sys.executable} -m sgabench $command --help | {{ exec <&-; }} || exit; done"
    left = subprocess.run(["bash", "-c", help_], cwd=tmp_path, check=False, capture_output=True)
    assert (left.returncode, left.stderr) == (0, b"")
    again = sgabench("run", tiny, "--only", "*/adam/0")
    assert (again.returncode, again.stderr) == (0, "nothing to do: all of it is stored\n")
    shown = sgabench_process("report", tiny, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "adam" in shown.stdout
    full = subprocess.run(
        [sys.executable, "-m", "sgabench", "plan", "tiny.toml"],
        cwd=tmp_path,
        stdout=Path("/dev/full").open("w"),  # noqa: SIM115
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert_refused(full, "cannot write the output", "No space left")


def test_cuda_that_is_not_there_is_refused(sgabench: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_refused(sgabench("run", tiny, "--device", "cuda"), "--device cuda", "--device cpu")


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["run"], ["run", "tiny.toml", "--jobs", "0"], ["list", "things"]]
)
def test_wrong_usage_is_exit_code_2(sgabench: Run, tiny: Path, arguments: list[str]) -> None:
    assert_refused(sgabench(*arguments), "--help")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The third-party package, installed as pip installs it."""
    target = tmp_path_factory.mktemp("site")
    source = Path(__file__).parents[1] / "plugin_package"
    build = tmp_path_factory.mktemp("build") / "package"
    subprocess.run(["cp", "-r", source, build], check=True)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, build], check=True)
    return target


def test_an_installed_package_brings_plugins(sgabench: Run, tiny: Path, site: Path) -> None:
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    listed = sgabench("list", "optimizers", PYTHONPATH=path)
    assert "lion" in listed.stdout
    assert "sgabench-lion 1.2" in listed.stdout
    assert "broken" in listed.stderr
    assert "a_package_that_is_not_there" in listed.stderr

    variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "lion"\nlr = 0.001')
    variant(tiny, 'name = "magnitude"', 'name = "first-layer"')
    done = sgabench("run", tiny, "--only", "*/lion/0", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "lion" in done.stdout
    assert "first-layer, 0.5 of weights" in done.stdout

    variant(tiny, 'name = "lion"\nlr = 0.001', 'name = "broken"')
    assert_refused(
        sgabench("run", tiny, PYTHONPATH=path), "plugin 'broken' of sgabench-lion 1.2", "ModuleNotFoundError"
    )


def test_a_report_can_be_written_to_a_pipe(sgabench: Run, tiny: Path, plan: Plan, tmp_path: Path) -> None:
    with Store(tmp_path / "results", create=True) as store:
        fill(store, plan)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    done = sgabench("report", tiny, "--format", "csv", "--output", pipe)
    text = os.read(reader, 1_000_000).decode()
    os.close(reader)
    assert done.returncode == 0, done.stderr
    assert text.startswith("dataset,model,")
    assert pipe.is_fifo()


def test_two_results_folders_are_compared(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    plan = make_plan(load_suite(tiny), Path("data"))
    for name in ("old", "new"):
        with Store(tmp_path / name, create=True) as store:
            fill(store, plan)
    done = sgabench("compare", "old", "new", COLUMNS="160")
    assert done.returncode == 0
    assert "identical" in done.stdout
    assert "new compared with old: 4 the same." in done.stdout
    assert "nothing to compare" not in done.stdout
    markdown = sgabench("compare", "old", "new", "--format", "markdown", "--changed").stdout
    assert markdown.startswith("# new compared with old")
    assert "identical" not in markdown
    rows = json.loads(sgabench("compare", "old", "new", "--suite", tiny, "--format", "json").stdout)["rows"]
    assert [row["first_mean"] for row in rows] == [row["second_mean"] for row in rows]
    refused = sgabench("compare", "old", "old")
    assert (refused.returncode, refused.stderr) == (2, "error: results folders old and old: are the same\n")


def test_the_report_compares_with_the_optimizer_that_is_named(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "results", create=True) as store:
        fill(store, make_plan(load_suite(tiny), Path("data")))
    rows = json.loads(sgabench("report", tiny, "--format", "json", "--reference", "stochgradadam").stdout)
    outcomes = {row["optimizer"]: row["outcome"] for row in rows["leaderboard"]}
    assert outcomes == {"adam": "few", "stochgradadam": "reference"}
    budgets = sgabench("report", tiny, "--format", "markdown", "--by", "compression").stdout
    assert "1.5x compression" in budgets
    assert "0.5 of weights" not in budgets
    wrong = sgabench("report", tiny, "--reference", "adm")
    assert wrong.returncode == 2
    assert "did you mean 'adam'" in wrong.stderr


def test_all_pairs_are_compared_on_request(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    variant(tiny, "[[pruners]]", '[[optimizers]]\nname = "adam"\nlabel = "third"\n\n[[pruners]]')
    with Store(tmp_path / "results", create=True) as store:
        fill(store, make_plan(load_suite(tiny), Path("data")))
    pairs = {}
    for which in ("reference", "all"):
        rows = json.loads(sgabench("report", tiny, "--format", "json", "--pairs", which).stdout)["comparisons"]
        pairs[which] = {(row["first"], row["second"]) for row in rows}
    assert pairs["reference"] == {("stochgradadam", "adam"), ("third", "adam")}
    assert pairs["all"] == pairs["reference"] | {("third", "stochgradadam")}


def test_no_output_replaces_what_it_is_made_from(sgabench: Run, tiny: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "results", create=True) as store:
        fill(store, make_plan(load_suite(tiny), Path("data")))
    plugin = tmp_path / "plugin.py"
    plugin.write_text("")
    weights = tmp_path / "results" / "weights" / "a.safetensors"
    weights.write_bytes(b"trained")
    database = (tmp_path / "results" / "store.sqlite").read_bytes()
    for command in (("report", tiny), ("baseline", tiny), ("export", "--suite", tiny)):
        for output in (tiny, plugin, weights, "results/store.sqlite"):
            last = [output] if command[0] == "export" else ["--output", output]
            done = sgabench(*command, "--plugin", plugin, *last)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
            assert "name another file" in done.stderr
    assert (plugin.read_text(), weights.read_bytes()) == ("", b"trained")
    assert (tmp_path / "results" / "store.sqlite").read_bytes() == database
