"""What a suite can say about data sets."""

from __future__ import annotations

import subprocess
import sys

from sgabench.plugins import datasets

NAMES = ["cifar10", "cifar100", "digits", "fashion_mnist", "folder", "huggingface", "imagenet", "svhn", "tiny_imagenet"]


def test_listing_and_fingerprints_need_no_torch() -> None:
    code = (
        "import sys, pathlib; from sgabench.plugins.registry import datasets; from sgabench.errors import InputError\n"
        "for plugin in datasets.plugins(): print(plugin.name, plugin.parameters, plugin.description)\n"
        "try: datasets['folder'].tags['fingerprint'](pathlib.Path('.'), {'path': 'no/such/folder'})\n"
        "except InputError: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert [line.split()[0] for line in result.stdout.splitlines()] == NAMES


def test_built_ins_are_described() -> None:
    assert all(datasets[name].description.endswith((".", "square.")) for name in NAMES)
