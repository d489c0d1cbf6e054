"""Images saved to disk by Hugging Face's `datasets`, which is imported only to read its tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgabench.datasets.decoding import Decoding
from sgabench.datasets.folders import DrawnSplit, ImageFile, Listing, load_listed
from sgabench.datasets.pictures import Picture
from sgabench.errors import InputError, foreign

if TYPE_CHECKING:
    from sgabench.datasets.base import Dataset

NAME = "huggingface"
_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"  # as `save_to_disk` writes them
SAVED = (_STATE, _SPLITS)  # a saved data set has one of these
_WHERE = f"data set {NAME!r}"
_PLAIN = {"string", "large_string", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def load_huggingface(data_dir: Path, options: Mapping[str, Any], decoding: Decoding) -> Dataset:
    """Decode the images of a table, like those of a folder.

    Args:
        data_dir: base of a relative path.
        options: of data set `huggingface`.
        decoding: of the images.

    Raises:
        InputError: as `huggingface_listing`; or an image cannot be read, or no split can be drawn.
    """
    drawn = DrawnSplit.model_validate(options["split"]) if options["split"] is not None else None
    return load_listed(NAME, huggingface_listing(data_dir, options), decoding, data_dir, drawn)


def huggingface_fingerprint(data_dir: Path, options: Mapping[str, Any]) -> str:
    """Identify the content: the columns with their classes, and the bytes of every file of the splits in use.

    Returns:
        16 hexadecimal digits, the same wherever the folder lies.

    Raises:
        InputError: the folder or a split does not exist.
    """
    digest = hashlib.sha256()
    for split, folder in _folders(data_dir, options).items():
        features = _json(folder / _INFO).get("features")
        digest.update(f"{split}\0{json.dumps(features, sort_keys=True)}\0".encode())
        for file in _files(folder):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def huggingface_listing(data_dir: Path, options: Mapping[str, Any]) -> Listing:
    """The rows of data set `huggingface` with these options, without decoding images.

    Raises:
        InputError: the extra is not installed; the folder, a split or a column does not exist, or a column has
            the wrong type; the splits have different classes.
    """
    root, folders = _root(data_dir, options), _folders(data_dir, options)
    tables = {split: _table(folder) for split, folder in folders.items()}
    columns = {split: _columns(folders[split], table, options) for split, table in tables.items()}
    images, labels = (
        {split: table.data.column(columns[split][place]) for split, table in tables.items()} for place in (0, 1)
    )
    values = {split: column.to_pylist() for split, column in labels.items()}
    classes = _classes(root, {split: table.features[columns[split][1]] for split, table in tables.items()}, values)
    numbers = {value: number for number, value in enumerate(classes)}
    files: dict[str, Sequence[ImageFile]] = {}
    for split, folder in folders.items():
        files[split] = [
            ImageFile(_picture(folder, columns[split][0], row, images[split]), _label(folder, row, value, numbers))
            for row, value in enumerate(values[split])
        ]
    names = tuple(map(str, classes.values()))
    return Listing(root, names, files, tuple(file for folder in folders.values() for file in _files(folder)))


def _root(data_dir: Path, options: Mapping[str, Any]) -> Path:
    return data_dir / Path(options["path"]).expanduser()


def _folders(data_dir: Path, options: Mapping[str, Any]) -> dict[str, Path]:
    """The folder of each split in use: of both, or of the one that a split is drawn from, under ""."""
    root = _root(data_dir, options)
    is_one = (root / _STATE).is_file()
    if not is_one and not (root / _SPLITS).is_file():
        problem = f"{root} is not what save_to_disk writes" if root.is_dir() else f"no folder {root}"
        raise InputError(f"{_WHERE}: path: {problem}")
    drawn = options["split"] is not None
    if is_one:
        if not drawn:
            raise InputError(f"{_WHERE}: {root} has no splits; set split = {{test = 0.2}} to have one drawn")
        return {"": root}
    there = _json(root / _SPLITS).get("splits", [])
    wanted = {"": "train"} if drawn else {"train": "train", "test": "test"}
    for part, option in wanted.items():
        if options[option] not in there:
            other = "" if part == "train" or drawn else ", or split = {test = 0.2} to have one drawn"
            has = ", ".join(map(repr, there)) or "none"
            raise InputError(
                f"{_WHERE}: {root} has no split {options[option]!r}; it has {has}; set {option} to one of them{other}"
            )
    return {part: root / options[option] for part, option in wanted.items()}


def _files(folder: Path) -> list[Path]:
    """The files with the rows of a split, in order; the library may have put other files there."""
    try:
        return [folder / Path(file["filename"]).name for file in _json(folder / _STATE)["_data_files"]]
    except (KeyError, TypeError):
        raise InputError(f"{_WHERE}: {folder / _STATE}: names no files; save it again") from None


def _json(path: Path) -> dict[str, Any]:
    with foreign(f"{_WHERE}: {path}: cannot be read: "):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not a table")
    return content


def _table(folder: Path) -> Any:
    try:
        from datasets import load_from_disk
    except ImportError:
        raise InputError(f"{_WHERE} needs the extra: pip install 'sgabench[huggingface]'") from None
    with foreign(f"{_WHERE}: {folder}: cannot be read: "):
        return load_from_disk(str(folder))


def _columns(folder: Path, table: Any, options: Mapping[str, Any]) -> tuple[str, str]:
    """The names of the columns of images and labels: those requested, or the only ones of their kind."""
    kinds = {name: type(feature).__name__ for name, feature in table.features.items()}
    plain = [name for name, feature in table.features.items() if getattr(feature, "dtype", "") in _PLAIN]
    image = _column(folder, kinds, "image", options["image"], [name for name, kind in kinds.items() if kind == "Image"])
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    asked = options["label"]
    return image, _column(folder, kinds, "label", asked, [*labels, *plain] if asked is not None else labels)


def _column(folder: Path, kinds: Mapping[str, str], what: str, asked: str | None, fit: Sequence[str]) -> str:
    has = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    if asked is None and len(fit) == 1:
        return fit[0]
    if asked is None:
        found = "several columns could be" if fit else "no column is of"
        kind = {"image": "images (Image)", "label": "classes (ClassLabel)"}[what]
        raise InputError(f"{_WHERE}: {folder}: {found} {kind}; set {what} to the name of one: it has {has}")
    if asked not in kinds:
        raise InputError(f"{_WHERE}: {folder}: {what}: no column {asked!r}; it has {has}")
    if asked not in fit:
        kind = {"image": "Image", "label": "ClassLabel, integers or strings"}[what]
        raise InputError(f"{_WHERE}: {folder}: {what}: column {asked!r} is {kinds[asked]}; it must be {kind}")
    return asked


def _classes(root: Path, features: Mapping[str, Any], values: Mapping[str, Sequence[Any]]) -> dict[Any, str]:
    """The name of each value of the labels, in the order of the classes."""
    found = [
        dict(enumerate(feature.names))
        if type(feature).__name__ == "ClassLabel"
        else {value: str(value) for value in sorted({value for value in values[split] if value is not None})}
        for split, feature in features.items()
    ]
    if any(other != found[0] for other in found):
        odd = next(name for other in found for name in {*other.values()} ^ {*found[0].values()} or {*other.values()})
        raise InputError(f"{_WHERE}: {root}: {' and '.join(features)} have different classes, such as {odd!r}")
    return found[0]


def _label(folder: Path, row: int, value: Any, numbers: Mapping[Any, int]) -> int:
    if value not in numbers:
        raise InputError(f"{_WHERE}: {folder}: row {row} has no label ({value}); use a split that has labels")
    return numbers[value]


def _picture(folder: Path, column: str, row: int, images: Any) -> Picture:
    name = f"{folder}: row {row}, column {column!r}"

    def content() -> bytes:
        found = images[row].as_py()
        if found is None or found["bytes"] is None:
            raise InputError(f"{name}: holds no image" + (f", but the path {found['path']!r}" if found else ""))
        return bytes(found["bytes"])

    return Picture(name, content)
