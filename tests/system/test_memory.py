"""Available memory, as Linux reports it; refusals state the numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sgabench.errors import InputError
from sgabench.system.memory import available, in_words, require

GB = 10**9


def machine(root: Path, **files: str) -> Path:
    """A machine with 8 GB left, and these files; ``__`` stands for ``/``."""
    for name, text in {"proc__meminfo": "MemTotal: 16000000 kB\nMemAvailable:    8000000 kB\n", **files}.items():
        path = root / name.replace("__", "/").replace("-", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_the_system_has_left_is_shared(tmp_path: Path) -> None:
    machine(tmp_path)
    assert available(root=tmp_path) == 8_000_000 * 1024
    assert available(4, root=tmp_path) == 2_000_000 * 1024


def test_the_narrowest_control_group_counts(tmp_path: Path) -> None:
    folder = "sys__fs__cgroup__"
    limits = {
        f"{folder}outer__memory.max": f"{4 * GB}\n",
        f"{folder}outer__memory.current": f"{3 * GB}\n",
        f"{folder}outer__memory.stat": f"anon 5\ninactive_file {GB // 2}\n",
        f"{folder}outer__inner__memory.max": "max\n",
        f"{folder}outer__inner__memory.current": f"{GB}\n",
    }
    machine(tmp_path, **{"proc__self__cgroup": "0::/outer/inner\n", **limits})
    assert available(root=tmp_path) == 3 * GB // 2


def test_control_groups_of_the_first_version(tmp_path: Path) -> None:
    folder = "sys__fs__cgroup__memory__"
    machine(
        tmp_path,
        **{
            "proc__self__cgroup": "5:devices:/\n4:memory:/box\n0::/\n",
            f"{folder}memory.limit_in_bytes": "9223372036854771712\n",
            f"{folder}memory.usage_in_bytes": f"{GB}\n",
            f"{folder}box__memory.limit_in_bytes": f"{2 * GB}\n",
            f"{folder}box__memory.usage_in_bytes": f"{3 * GB}\n",
            f"{folder}box__memory.stat": "total_inactive_file 0\n",
        },
    )
    assert available(root=tmp_path) == 0


def test_a_system_that_does_not_say_refuses_nothing(tmp_path: Path) -> None:
    assert available(root=tmp_path) is None


def test_a_limit_of_the_process_counts() -> None:
    code = """
import resource
from sgabench.system.memory import available
resource.setrlimit(resource.RLIMIT_AS, (3 * 10**8, -1))
print(available())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 3 * 10**8


def test_a_refusal_has_the_numbers() -> None:
    with pytest.raises(InputError, match=r"^a planet needs about 1,000,000,000\.0 GB of memory; .* available$"):
        require(10**18, "a planet")
    with pytest.raises(InputError, match="for each of 2 processes"):
        require(10**18, "a planet", 2)
    require(1000, "a letter")
    assert in_words(12_345_678) == "12 MB"
