"""Find problems and oddities in the images of a folder, by decoding every file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator

from sgabench.datasets.decoding import decoded
from sgabench.datasets.folders import Listing
from sgabench.datasets.pictures import Look, Source, look_at
from sgabench.errors import InputError
from sgabench.system.environment import cores

_KINDS = {"L": "grey", "1": "black and white", "P": "palette", "LA": "grey with alpha", "RGBA": "colour with alpha"}


def examine(listing: Listing) -> tuple[list[str], list[str]]:
    """Decode every file of a data set.

    Returns:
        Problems, a line for each image that cannot be used; and notes on how the others are treated.
    """
    paths = [file.source for file in listing.all_files]
    found = list(decoded(paths, _looked_at, f"{listing.root.name}: checking {len(paths)} images", cores()))
    problems = [problem for _, problem, _ in found if problem]
    looks = [look for look, _, _ in found if look is not None]
    notes = [*_notes(looks)] if looks else []
    return problems, notes + list(_twice(listing, [digest for _, _, digest in found]))


def _looked_at(path: Source) -> tuple[Look | None, str, str]:
    digest = ""
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        return look_at(path), "", digest
    except InputError as error:
        return None, str(error), digest
    except OSError as error:
        return None, f"{path}: {error.strerror or error}", ""


def _notes(looks: list[Look]) -> Iterator[str]:
    kinds = Counter(_KINDS.get(look.mode, look.mode) for look in looks if look.mode != "RGB")
    if kinds:
        yield f"not RGB: {', '.join(f'{number} {kind}' for kind, number in sorted(kinds.items()))}"
    turned, transparent = (sum(getattr(look, name) for look in looks) for name in ("turned", "transparent"))
    if turned:
        yield f"rotated by EXIF data: {turned}"
    if transparent:
        yield f"transparent, composited onto the background: {transparent}"
    oblong = sum(max(look.size) > 2 * min(look.size) for look in looks)
    if oblong:
        yield f"more than half cropped away, over twice as long as wide: {oblong}"
    sides = [min(look.size) for look in looks]
    yield f"shorter sides: {min(sides)}{f' to {max(sides)}' if max(sides) > min(sides) else ''} pixels"


def _twice(listing: Listing, digests: list[str]) -> Iterator[str]:
    """Files with equal content in both splits, so that training images are tested on, or with several labels."""
    where: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
    files = [(split, file) for split, of in listing.files.items() for file in of]
    for (split, file), digest in zip(files, digests, strict=True):
        if digest:
            where[digest].append((split, file.label, str(file.source).removeprefix(f"{listing.root}{os.sep}")))
    for same in where.values():
        splits, labels = ({file[part] for file in same} for part in (0, 1))
        if len(splits) > 1 or len(labels) > 1:
            odd = "in both splits" if len(splits) > 1 else "in several classes"
            yield f"the same file {odd}: {' = '.join(path for _, _, path in same)}"
