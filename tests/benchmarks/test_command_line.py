"""Every command checks counts and paths before it does anything."""

import argparse
import importlib
import re
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks import command_line
from tests.benchmarks.test_imports import EXPERIMENTS, FOLDER

COMMANDS = re.findall(r"^\| `(\w+)", (FOLDER / "README.md").read_text(), re.MULTILINE)
# Folders to read, and the folder of runs, which only runs that are not finished write to
FOLDERS = {("report", "--folder"), ("run", "--folder"), ("videos", "--agents")}


class Parsed(Exception):
    """A command has got as far as to parse its options."""


def parser_of(command, monkeypatch):
    """:return: The main function of a command, and the parser that it makes"""
    found = []

    def stop(parser, *args):
        found.append(parser)
        raise Parsed

    main = importlib.import_module(f"benchmarks.{command}").main
    monkeypatch.setattr(sys, "argv", [command])
    with monkeypatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        main()
    return main, found[0]


def wrong_values(option_type, folder):
    """:return: What an option of a type must refuse"""
    file = folder / "file"
    file.touch()
    if isinstance(option_type, partial):
        return [str(option_type.keywords["low"] - 1), "-5", "x", "1.5", "nan", ""]
    return {
        command_line.number: ["nan", "inf", "-inf", "x", ""],
        command_line.positive: ["0", "-1", "nan", "inf", "x"],
        command_line.share: ["-0.1", "1.1", "nan", "x"],
        command_line.input_file: [str(folder), str(folder / "missing")],
        command_line.output_file: [str(folder), str(folder / "missing" / "a.csv"), str(file / "a.csv"), "/dev/null"],
        command_line.output_folder: [str(file), str(file / "a"), "/proc/a"],
    }[option_type]


def test_the_commands_are_those_of_the_readme():
    assert sorted(COMMANDS) == EXPERIMENTS


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_counts_and_paths(command, monkeypatch, capsys, tmp_path):
    main, parser = parser_of(command, monkeypatch)
    for action in parser._actions:
        name = max(action.option_strings, key=len, default=action.dest)
        if (command, name) in FOLDERS or getattr(action.type, "__name__", None) == "parse_seeds":
            continue
        assert action.type not in (int, float, Path), f"{name} has no check"
        assert not isinstance(action.default, Path), f"the default of {name} is only checked if it is a text"
        for value in wrong_values(action.type, tmp_path) if action.type else ():
            monkeypatch.setattr(sys, "argv", [command, f"{name}={value}" if action.option_strings else value])
            with pytest.raises(SystemExit) as error:
                main()
            printed = capsys.readouterr().err
            assert error.value.code == 2 and f"{name}: {value!r} " in printed and " must be " in printed


@pytest.mark.parametrize(
    "command, arguments, message",
    [
        ("resume", ["--tasks", "Hopper", "--special"], "--special: no case has all of them"),
        ("failures", ["--n-envs", "9", "--steps-between", "4"], "--steps-between 4: it must be at least half of --n-envs 9"),
        ("surrogates", ["--seeds", "21"], "--seeds 21: it must be at most 20"),
    ],
)
def test_options_that_do_not_fit_together(command, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    with pytest.raises(SystemExit) as error:
        importlib.import_module(f"benchmarks.{command}").main()
    assert error.value.code == 2 and message in capsys.readouterr().err


def test_right_values(tmp_path):
    assert command_line.at_least(0)("0") == 0 and command_line.at_least(3)("1_000") == 1000
    assert command_line.number("-1e3") == -1000 and command_line.positive("0.1") == 0.1 and command_line.share("1") == 1
    (tmp_path / "old.csv").touch()
    for name in ("old.csv", "new.csv"):
        assert command_line.output_file(str(tmp_path / name)) == tmp_path / name
    assert command_line.output_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"], "a check leaves nothing behind"


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line.output_file("a.csv") == Path("a.csv") and command_line.output_folder("a") == Path("a")
