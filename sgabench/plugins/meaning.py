"""A hash of Python code that comments, blank lines and docstrings do not change."""

from __future__ import annotations

import ast
import hashlib
from typing import Any

_IDLE = frozenset({"kind", "type_comment", "type_ignores"})  # fields of the tree that have no effect
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def meaning(source: bytes) -> str:
    """Hash of the syntax tree without comments and docstrings: 16 hexadecimal digits.

    Empty fields are left out, so that versions of Python with other empty fields agree. Code that cannot be parsed is
    hashed as it is.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return hashlib.sha256(source).hexdigest()[:16]
    digest = hashlib.sha256()
    left: list[Any] = [tree]  # a stack, because long sums are nested more deeply than Python's recursion limit
    while left:
        item = left.pop()
        if isinstance(item, str):
            digest.update(item.encode() + b"\0")
        elif isinstance(item, ast.AST):
            left.append(")")
            left.extend(part for field in reversed(_fields(item)) for part in reversed(field))
            left.append(f"{type(item).__name__}(")
        else:
            left.append("]")
            left.extend(map(_token, reversed(item)))
            left.append("[")
    return digest.hexdigest()[:16]


def _fields(node: ast.AST) -> list[tuple[str, Any]]:
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            value = value[1:]
        if isinstance(node, ast.JoinedStr):  # some versions of Python end an f-string with an empty text
            value = [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
        if name not in _IDLE and (value not in (None, []) or isinstance(node, ast.Constant)):
            fields.append((f"{name}=", _token(value)))
    return fields


def _token(value: Any) -> Any:
    return value if isinstance(value, ast.AST | list) else f"{type(value).__name__} {value!a}"
