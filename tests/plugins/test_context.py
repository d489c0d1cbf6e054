"""A forgotten ``*``: options that would be given a part of the context."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgabench.errors import InputError
from sgabench.plugins.context import CONTEXTS, check_context
from sgabench.plugins.registry import REGISTRIES, load_plugin_file


@pytest.mark.parametrize(
    ("kind", "written", "gets", "right"),
    [
        ("optimizer", "parameters, lr=0.1, m=0.9", "'lr' would be given the seed", "parameters, *, lr=0.1, m=0.9"),
        ("optimizer", "parameters, lr", "'lr' would be given the seed", "parameters, *, lr"),
        ("optimizer", "p, seed, lr: int = 1", "'lr' would be given the context", "p, seed, *, lr: int = 1"),
        ("optimizer", "lr=0.1", "'lr' would be given the parameters", "*, lr=0.1"),
        ("model", "spec, width=4", "'width' is passed nothing", "spec, *, width=4"),
        ("pruner", "net, ratio=0.5", "'ratio' would be given the ratio", "net, *, ratio=0.5"),
        ("pruner", "net, p, ratio, context", "'p' would be given the ratio", ""),
        ("dataset", "size=8", "'size' would be given the data_dir", "*, size=8"),
        ("probe", "network, norm, *, p=2, **m", "'norm' would be given the context", "network, *, norm, p=2, **m"),
    ],
)  # fmt: skip
def test_an_option_before_the_star_is_refused_with_the_right_line(
    tmp_path: Path, kind: str, written: str, gets: str, right: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        f"from __future__ import annotations\nfrom sgabench.plugins import {kind}s\n\n"
        f"@{kind}s.register('mine')\ndef mine({written}) -> object:\n    ...\n"
    )
    with pytest.raises(InputError) as caught:
        load_plugin_file(path)
    message = str(caught.value)
    assert message.startswith(
        f"--plugin {path}: {kind} 'mine' (line 4): {gets}: sgabench passes ({', '.join(CONTEXTS[kind])})"
    )
    assert message.endswith(f"write: def mine({right})") or not right


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("optimizer", lambda params, *, lr=0.1: None),
        ("optimizer", lambda parameters, seed, *, lr=0.1: None),
        ("optimizer", lambda parameters, _unused: None),
        ("optimizer", lambda *context, lr=0.1: None),
        ("pruner", lambda net, ratio: None),
        ("dataset", lambda *, size=3: None),
        ("model", lambda: None),
        ("thing", lambda anything, lr=0.1: None),
    ],
)
def test_what_takes_the_context_is_not_refused(kind: str, function: object) -> None:
    check_context(kind, "mine", function)  # type: ignore[arg-type]


def test_every_built_in_keeps_to_it() -> None:
    assert CONTEXTS.keys() == {registry.kind for registry in REGISTRIES.values()}
    for registry in REGISTRIES.values():
        for plugin in registry._plugins.values():
            check_context(plugin.kind, plugin.name, plugin.factory)
        for source in registry.sources():
            check_context(source.kind, source.name, source.factory, is_source=True)
