"""The gate through the real command line: real networks, a pruner with a sign error, and bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from support import called_here

from sgabench.cli import main
from sgabench.plugins.registry import REGISTRIES

SUITE = """
description = "A pruner of one's own, on ten networks."
seeds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
ratios = [0.005, 0.5]
training = { epochs = 4, batch_size = 32 }
measurement = { throughput = false }
datasets = [{ name = "digits", train_size = 600 }]
models = [{ name = "resnet8", width = 4 }]
optimizers = [{ name = "adam", lr = 0.01 }]
pruners = [{ name = "by-importance" }]
"""
PRUNER = '''
from typing import Literal

from sgabench.pruners.base import prunable_layers, weight_of
from sgabench.plugins import pruners


@pruners.register("by-importance")
def by_importance(network, ratio, context, *, of: Literal["weights"] = "weights"):
    """Zero what matters least, layer by layer."""
    for layer in prunable_layers(network, context.excluded).values():
        weight = weight_of(layer)
        importance = weight.detach().abs()
        last = importance.flatten().kthvalue(round(ratio * importance.numel())).values
        weight.data[importance <= last] = 0
    return network
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a suite, a pruner, a store and a baseline of it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "own.toml").write_text(SUITE)
    (folder / "pruner.py").write_text(PRUNER)
    done = call(folder, "run", "own.toml", "--plugin", "pruner.py", "--quiet")
    assert done.returncode == 0, done.stderr
    done = call(folder, "baseline", "own.toml", "--plugin", "pruner.py", "--output", "baselines/own.json")
    assert done.stdout == "written: baselines/own.json: 1 trial and 2 cells over 10 seeds\n"
    return folder


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return called_here(folder, list(arguments), {})


def gate(folder: Path, *arguments: str, pruner: str = "pruner.py") -> subprocess.CompletedProcess[str]:
    return call(folder, "check", "own.toml", "--baseline", "baselines/own.json", "--plugin", pruner, *arguments)


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """The command line in this process, which has imported everything already: exit code, output, errors."""
    monkeypatch.chdir(project)

    def command(name: str, *arguments: str, pruner: str = "pruner.py") -> tuple[int, str, str]:
        REGISTRIES["pruners"]._plugins.pop("by-importance", None)
        against = ["--baseline", "baselines/own.json"] if name == "check" else []
        with pytest.raises(SystemExit) as stop:
            main([name, "own.toml", "--plugin", pruner, *against, *arguments])
        printed = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, printed.out, printed.err

    return command


def broken(folder: Path, name: str) -> str:
    """The project's pruner with a sign error: what is most negative matters least."""
    assert "weight.detach().abs()" in PRUNER
    (folder / name).write_text(PRUNER.replace("weight.detach().abs()", "weight.detach()"))
    return name


def test_what_was_frozen_is_green(here: Here) -> None:
    code, out, err = here("check")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("PASSED: 11 checks, nothing regressed (suite own, against ")
    assert out.splitlines()[-1] == "11 the same to the last digit"


def test_the_check_does_not_import_torch(project: Path) -> None:
    code = """
import sys
from sgabench.cli import main
from sgabench.plugins.registry import REGISTRIES
try:
    main(["check", "own.toml", "--set", "pruners=[{name='magnitude'}]", "--baseline", "baselines/own.json"])
except SystemExit as stop:
    print(stop.code)
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "3"), done.stderr


def test_training_it_again_is_green(project: Path) -> None:
    done = gate(project, "--run", "--results", "again", "--only", "*/[0-2]", "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished" in done.stderr
    assert "note: only */[0-2]: 2 of the baseline's 2 cells are compared" in done.stdout


def test_a_sign_error_in_the_importance_is_red_though_it_costs_a_few_points_only(project: Path, here: Here) -> None:
    signed = broken(project, "signed.py")
    assert here("check", pruner=signed)[0] == 3  # other keys: nothing is measured yet
    text = gate(project, "--run", pruner=signed).stdout
    assert text.startswith("REGRESSED: 3 of 12 checks (suite own, against baselines/own.json)\n")
    assert re.search(
        r"^largest drop: -\d\d\.\d points  pruned top-1  digits/resnet8/adam/by-importance/0.5", text, re.M
    )
    assert "regressed  pruned top-1  digits/resnet8/adam/by-importance\n" in text
    assert "regressed  pruned top-1  digits/resnet8/adam/by-importance/0.5\n" in text
    assert "note: 2 of 3 trials and cells have other keys than in the baseline" in text
    code, out, _ = here("check", "--format", "json", "--set", "ratios=[0.005]", pruner=signed)
    assert code == 1
    checks = {
        (check["metric"], check["name"].split("/")[-1], check["rule"]): check for check in json.loads(out)["checks"]
    }
    small = checks["pruned_top1", "0.005", "statistical, paired"]
    assert small["status"] == "regressed"
    assert -10 < small["difference"] < -1
    assert small["high"] < -1
    assert checks["pruned_top1", "0.005", "cap"]["status"] == "held"  # no cap would have seen it
    assert checks["dense_top1", "adam", "cap"]["status"] == "unchanged"
    assert checks["sparsity", "0.005", "tolerance"]["status"] in ("held", "unchanged")
    done = here("check", "--format", "junit", "--output", "gate.xml", pruner=signed)
    assert done == (1, "", "REGRESSED: 3 of 12 checks\n")
    suites = ElementTree.parse(project / "gate.xml").getroot()
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("12", "3", "0")


def test_what_is_missing_is_neither_green_nor_red(here: Here) -> None:
    code, out, _ = here("check", "--set", "ratios=[0.005,0.5,0.9]", "--set", "seeds=[0,1,2,3,4,5,6,7,8,9,10]")
    assert code == 3
    assert out.startswith("INCOMPLETE: 11 checks held, but not all could be made")
    assert "missing: trial digits/resnet8/adam: seed 10\n" in out
    assert "missing: cell digits/resnet8/adam/by-importance/0.9: seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--baseline", "none.json"], "--baseline none.json: No such file or directory; make one with sgabench"),
        (["--baseline", "baselines/onw.json"], "onw.json: No such file or directory; did you mean 'own.json'?"),
        (["--baseline", "baselines"], "--baseline baselines: Is a directory; name what sgabench baseline wrote"),
        (["--baseline", "own.toml"], "--baseline own.toml: not JSON"),
        (["--results", "nowhere"], "results folder nowhere: does not exist"),
        (["--only", "*/sgd/*"], "--only */sgd/*: matches no trial"),
        (["--output", "own.toml"], "--output own.toml: would replace what it is made from"),
        (["--output", "baselines/own.json"], "would replace what it is made from"),
        (["--output", "own.toml/report.md"], "--output own.toml/report.md: own.toml is not a folder"),
        (["--output", "baselines"], "--output baselines: is a folder; name a file"),
        (
            ["--set", "gate.bytes.rule='statistical'"],
            "gate: bytes.rule: 'statistical' is for dense_top1 and pruned_top1",
        ),
        (["--set", "gate.retention.tolerence=1"], "gate.retention.tolerence: unknown key; did you mean 'tolerance'?"),
        (["--set", "gate.floors=['retention >= 0.5 at ratio 0.7']"], "'retention >= 0.5 at ratio 0.7' is about no"),
        (["--set", "name='other'"], "the baseline is of suite 'own', this suite is 'other'"),
    ],
)
def test_bad_input_is_one_line(here: Here, arguments: list[str], message: str) -> None:
    code, out, err = here("check", *arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_an_output_is_checked_before_anything_is_trained_for_it(here: Here, project: Path) -> None:
    code, _, err = here("check", "--run", "--results", "fresh", "--output", "baselines")
    assert (code, err) == (2, "error: --output baselines: is a folder; name a file\n")
    assert not (project / "fresh").exists()
    assert here("check", "--output", "made/for/it/gate.txt")[0] == 0
    assert (project / "made/for/it/gate.txt").read_text().startswith("PASSED")


def test_an_older_baseline_is_refused_with_what_to_do(here: Here, project: Path) -> None:
    old = json.loads((project / "baselines/own.json").read_text())
    (project / "old.json").write_text(json.dumps({**old, "format": 1}))
    message = "error: --baseline old.json: of format 1, this sgabench reads 2; make a new one with sgabench baseline\n"
    assert here("check", "--baseline", "old.json") == (2, "", message)


def test_an_incomplete_suite_is_frozen_if_one_asks(here: Here, project: Path) -> None:
    more = ["--set", "ratios=[0.5,0.9]", "--output", "partial.json"]
    code, _, err = here("baseline", *more)
    assert (code, "10 of 30 results are not there" in err) == (2, True)
    assert here("baseline", *more, "--allow-incomplete")[0] == 0
    partial = json.loads((project / "partial.json").read_text())
    assert set(partial["cells"][1]["lacking"].values()) == {"missing"}
    code, _, err = here("baseline", "--output", "other.json", "--allow-incomplete", "--set", "seeds=[77]")
    assert (code, "nothing of own.toml is stored" in err) == (2, True)
    code, _, err = here("baseline", "--output", "own.toml")
    assert (code, "would replace" in err) == (2, True)


# -- what CI systems are given ----------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def test_the_projects_own_gate_is_what_it_says() -> None:
    from sgabench.gate.baseline import read_baseline
    from sgabench.suite.plan import make_plan
    from sgabench.suite.resolving import load_suite

    suite = load_suite(ROOT / "suites/ci.toml")
    assert (len(suite.optimizers), len(suite.pruners), len(suite.seeds)) == (3, 2, 5)
    baseline = read_baseline(ROOT / "results/baselines/ci.json")
    plan = make_plan(suite, Path("data"))
    keys = {trial.key[:12] for trial in plan.trials} | {cell.key[:12] for _, cell in plan.cells()}
    assert {key for group in baseline.groups for key in group.keys} == keys  # of this suite, as it is now
    assert all(not group.lacking for group in baseline.groups)
    assert "sgabench check suites/ci.toml --baseline results/baselines/ci.json" in (ROOT / "Makefile").read_text()
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    assert any("make gate" in str(step.get("run")) for step in workflow["jobs"]["gate"]["steps"])


def test_the_action_does_what_it_says(project: Path, tmp_path: Path) -> None:
    """Its script is run as GitHub would run it, with the inputs of a pull request that breaks the pruner."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    steps = {step["name"]: step for step in action["runs"]["steps"]}
    assert set(re.findall(r"inputs\.([\w-]+)", str(steps))) == action["inputs"].keys()
    broken(project, "action.py")
    summary, output = tmp_path / "summary.md", tmp_path / "output"
    values = {
        "suite": "own.toml",
        "baseline": "baselines/own.json",
        "results": "results",
        "options": "--plugin action.py",
    }
    defaults = {name: str(given.get("default", "")) for name, given in action["inputs"].items()}
    step = steps["Run what is missing and check"]
    env = {
        **os.environ,
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_OUTPUT": str(output),
        "RUNNER_TEMP": str(tmp_path),
    }
    for name, value in step["env"].items():
        key = value.removeprefix("${{ inputs.").removesuffix(" }}")
        env[name] = {**defaults, **values}[key]
    env["PATH"] = f"{_command(tmp_path)}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr  # the last step ends the job, after the comment
    assert output.read_text() == "exit-code=1\n"
    assert summary.read_text().startswith("### sgabench gate: REGRESSED: 3 of 12 checks\n")
    assert "::error title=sgabench gate::REGRESSED: 3 of 12 checks" in done.stdout
    assert (tmp_path / "sgabench-gate.md").read_text() == summary.read_text()


def _command(folder: Path) -> Path:
    """A folder for the PATH with the command as pip installs it."""
    script = folder / "bin" / "sgabench"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom sgabench.cli import main\nmain()\n")
    script.chmod(0o755)
    return script.parent
