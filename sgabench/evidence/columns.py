"""Records to columns: what tables are made of, without an object for every record and every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sgabench.store.forms import Part, all_fit, fits
from sgabench.store.store import KINDS, Store, parse

BATCH = 256  # records that are Python objects at a time: few enough for the processor's cache


class Values:
    """Many dictionaries, most of them with the same names, as columns."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[Part] = []

    def add(self, rows: Sequence[dict[str, Any]]) -> list[Part]:
        """Append dictionaries and return their columns."""
        of_names: dict[tuple[str, ...], list[int]] = {}
        of_each = [*map(tuple, rows)]
        if rows and of_each.count(of_each[0]) == len(rows):
            of_names[of_each[0]] = list(range(len(rows)))
        else:
            for place, names in enumerate(of_each):
                of_names.setdefault(names, []).append(place)
        parts = []
        for names, places in of_names.items():
            same = rows if len(of_names) == 1 else [rows[place] for place in places]
            columns = dict(zip(names, zip(*map(dict.values, same), strict=True), strict=True))
            types = {name: set(map(type, column)) for name, column in columns.items()}
            arrays = {name: _array(column, types[name]) for name, column in columns.items()}
            parts.append(Part(self.count + np.array(places), arrays, types))
        self._parts += parts
        self.count += len(rows)
        return parts

    def frame(self, names: Sequence[str] | None = None) -> pd.DataFrame:
        """A row per dictionary, in their order, and a column per name; ``names``: only those of these that exist."""
        parts: dict[str, list[Part]] = {}
        for part in self._parts:
            for name in part.columns if names is None else part.columns.keys() & names:
                parts.setdefault(name, []).append(part)
        columns = {name: self._column(name, parts[name]) for name in sorted(parts)}
        return pd.DataFrame(columns, index=range(self.count))

    def _column(self, name: str, parts: list[Part]) -> Any:
        dtype = np.result_type(*{part.columns[name].dtype for part in parts})
        if sum(len(part.rows) for part in parts) < self.count:
            dtype = np.result_type(dtype, float)  # for NaN where a row has no value
        column = np.full(self.count, 0 if dtype.kind == "i" else np.nan, dtype)
        for part in parts:
            column[part.rows] = part.columns[name]
        return pd.Series(column.tolist()) if dtype.hasobject else column


def _array(values: tuple[Any, ...], types: set[type]) -> NDArray[Any]:
    """Numbers as an array of numbers, anything else as objects."""
    if types <= {int, float}:
        try:
            return np.array(values, dtype=float if float in types else np.int64)
        except OverflowError:
            pass  # too large for an int64: refused later, as an object
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


class Columns:
    """Undamaged records of one kind, in the order of their keys.

    Args:
        kind: trial, cell or probe.
        labelled: read labels and descriptions; otherwise only the labels of records that are not done.

    Attributes:
        keys, parents, statuses, descriptions: a value per record.
        made_in: per record, the number of its environment among ``environments``.
        labels, results: a column per name.
        failures: of those that are not done: status, labels and error.
    """

    def __init__(self, kind: str, labelled: bool = True) -> None:
        self.kind = kind
        self.labelled = labelled
        self.keys: list[str] = []
        self.parents: list[str | None] = []
        self.statuses: list[str] = []
        self.descriptions: list[Mapping[str, Any]] = []
        self.made_in: list[int] = []
        self.environments: list[Mapping[str, Any]] = []
        self.labels = Values()
        self.results = Values()
        self.failures: list[tuple[str, Mapping[str, Any], str]] = []
        self._numbers: dict[str, int] = {}
        self._described: dict[Any, list[dict[str, Any]] | None] = {}

    def add(self, rows: Sequence[Sequence[Any]], environments: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Append records.

        Args:
            rows: as `sgabench.store.store.Store.rows` gives them, with the right checksums.
            environments: of the records, by identity.

        Returns:
            The key of a malformed record, if there is one; the columns must not be used then.
        """
        keys, kinds, parents, statuses, labels, texts, results, _, made_in, times, errors, _ = zip(*rows, strict=True)
        read = [number for number, status in enumerate(statuses) if self.labelled or status != "done"]
        of, numbers = parse(*[labels[number] for number in read]) if read else [], parse(*results)
        if of is None or numbers is None or not self._describe(texts):
            return next(str(row[0]) for row in rows if parse(*row[4:7]) is None)
        parts = (self.labels if self.labelled else Values()).add(of), self.results.add(numbers)
        if not all_fit(self.kind, (keys, kinds, parents, statuses, errors, times), *parts):
            all_labels = of if self.labelled else [labels_of and labels_of[0] for labels_of in map(parse, labels)]
            for number, values in enumerate(
                zip(keys, kinds, parents, statuses, all_labels, numbers, errors, times, strict=True)
            ):
                if all_labels[number] is None or not fits(*values):
                    return str(keys[number])
        self.keys += keys
        self.parents += parents
        self.statuses += statuses
        for identity in {*made_in} - self._numbers.keys():
            self._numbers[identity] = len(self.environments)
            self.environments.append(environments[identity])
        self.made_in += [self._numbers[identity] for identity in made_in]
        self.failures += [
            (statuses[number], labels_of, errors[number])
            for number, labels_of in zip(read, of, strict=True)
            if statuses[number] != "done"
        ]
        return None

    def _describe(self, texts: Sequence[Any]) -> bool:
        """Append descriptions, if they are read; False if one is damaged."""
        if self.labelled:
            self._described |= {text: parse(text) for text in {*texts} - self._described.keys()}  # many are the same
            descriptions = [self._described[text] for text in texts]
            if None in descriptions:
                return False
            self.descriptions += [description[0] for description in descriptions if description]
        return True


def read_columns(store: Store, keys: Set[str] | None = None) -> dict[str, Columns]:
    """Read all kinds of records in one pass.

    Args:
        store: the records.
        keys: only these, of a plan; default: all. If one is missing, a damaged record may have had it, so any damaged
            record is reported. Cells are read without labels and descriptions: the plan has them, and checksums show
            that they are what was written.

    Raises:
        InputError: a record is damaged.
    """
    columns = {kind: Columns(kind, labelled=keys is None or kind != "cell") for kind in KINDS}
    batches: dict[str, list[Sequence[Any]]] = {kind: [] for kind in KINDS}
    environments: dict[str, Mapping[str, Any]] = {}
    others = []
    for row, environment in store.rows():
        if keys is not None and row[0] not in keys:
            others += [row[0]] if environment is None else []
            continue
        batch = batches.get(row[1])
        if environment is None or batch is None:
            raise store.damaged(row[0])
        environments[row[8]] = environment
        batch.append(row)
        if len(batch) == BATCH:
            _add(columns[row[1]], batch, environments, store)
            batch.clear()
    for kind, batch in batches.items():
        _add(columns[kind], batch, environments, store)
    if others and keys is not None and sum(len(each.keys) for each in columns.values()) < len(keys):
        raise store.damaged(others[0])
    return columns


def _add(
    columns: Columns, batch: list[Sequence[Any]], environments: Mapping[str, Mapping[str, Any]], store: Store
) -> None:
    malformed = columns.add(batch, environments) if batch else None
    if malformed is not None:
        raise store.damaged(malformed)
