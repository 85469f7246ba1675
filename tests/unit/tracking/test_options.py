"""Options that several commands share."""

from __future__ import annotations

import argparse

import pytest

from tracking._options import add_machine_options


def test_numbers_that_cannot_be_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_machine_options(parser, threads=4)
    assert parser.parse_args([]).threads == 4
    assert parser.parse_args(["--threads", "0", "--batch", "3"]).batch == 3
    for words, told in (
        (["--batch", "0"], "argument --batch: 0 is less than 1"),
        (["--threads", "-1"], "argument --threads: -1 is less than 0"),
        (["--batch", "x"], "argument --batch: invalid int value: 'x'"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert told in capsys.readouterr().err
