"""The RL Zoo's programs in the test's own process."""

import runpy
import sys
from typing import Any


def run_program(monkeypatch: Any, env_id: str, name: str, *arguments: Any, algo: str = "savo") -> None:
    """
    Run ``python -m rl_zoo3.NAME`` in this process.

    :param monkeypatch: Pytest's
    :param env_id: The environment
    :param name: The program
    :param arguments: Its other arguments
    :param algo: The algorithm
    """
    monkeypatch.setattr("sys.argv", [name, "--algo", algo, "--env", env_id, *map(str, arguments)])
    monkeypatch.delitem(sys.modules, f"rl_zoo3.{name}", raising=False)
    runpy.run_module(f"rl_zoo3.{name}", run_name="__main__")
