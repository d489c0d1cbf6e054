from __future__ import annotations

from sgabench.errors import InputError, describe, shorten, suggestion


def test_a_close_name_is_suggested() -> None:
    assert suggestion("adm", ["adam", "sgd"]) == "; did you mean 'adam'?"


def test_a_message_is_one_printable_line() -> None:
    assert str(InputError("a\n b\x1b[31m\tc\x00")) == r"a b\x1b[31m c\x00"


def test_case_does_not_matter() -> None:
    assert suggestion("ADAMW", ["AdamW", "SGD"]) == "; did you mean 'AdamW'?"


def test_without_a_close_name_all_are_listed() -> None:
    assert suggestion("zzz", ["sgd", "adam"]) == "; valid: adam, sgd"
    assert suggestion("zzz", []) == ""


def test_shorten_keeps_one_line() -> None:
    assert "\n" not in shorten("a\nb" * 100)
    assert len(shorten("x" * 1000)) <= 60


def test_an_exception_that_cannot_say_what_it_is_has_its_class() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(Mute()) == "Mute"
