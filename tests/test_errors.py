from __future__ import annotations

from sgabench.errors import InputError, counted, describe, dotted, shorten, suggestion


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


def test_lists_are_counted_from_one() -> None:
    assert dotted(["ratios", 0]) == "ratios 1"
    assert dotted(["optimizers", 3, "betas", 1]) == "optimizers 4.betas 2"
    assert dotted([]) == ""


def test_one_thing_is_no_things() -> None:
    assert counted(1, "training") == "1 training"
    assert counted(1010, "training") == "1,010 trainings"
    assert counted(0, "trial or cell", "trials and cells") == "0 trials and cells"
