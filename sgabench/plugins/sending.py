"""A plugin file with all the files that it needs, for another machine."""

from __future__ import annotations

from pathlib import Path

from sgabench.errors import InputError
from sgabench.plugins.registry import REGISTRIES
from sgabench.plugins.sources import of_file


def contents_of(path: Path) -> dict[str, bytes]:
    """A loaded plugin file, the modules that it imports and the files that it declares, by their paths in its folder.

    Files declared with a full path are left out: they have the same path on every machine.

    Raises:
        InputError: a declared file cannot be read, or is outside the folder.
    """
    sources = of_file(path)
    assert sources.path is not None
    modules = (module.path for module in sources.modules.values() if module.path.is_file())
    places = {place.relative_to(sources.folder).as_posix(): place for place in (sources.path, *modules)}
    for registry in REGISTRIES.values():
        for plugin in (*registry.plugins(), *registry.sources()):
            if plugin.origin.file is None or plugin.origin.file.path != sources.path:
                continue
            for name, place in plugin.tags.get("files", {}).items():
                if Path(name).is_absolute():
                    continue
                if not place.resolve().is_relative_to(sources.folder):
                    raise InputError(
                        f"--plugin {path}: {plugin.name} declares {name}, which is outside the plugin's folder and "
                        "is not sent to the Ray nodes; put it there, or declare its full path"
                    )
                places[Path(name).as_posix()] = place
    try:
        return {name: place.read_bytes() for name, place in places.items()}
    except OSError as error:
        raise InputError(f"--plugin {path}: {error.filename}: {error.strerror or error}") from None
