"""
``python -m sb3_savo train …`` is ``python -m rl_zoo3.train …``, for installations whose ``.pth`` files Python does not read
(``python -S``, ``pip install --target``).

``python -m sb3_savo.demo`` and ``python -m sb3_savo.analysis`` are commands of their own.
"""

import importlib
import runpy
import sys

from sb3_savo.zoo.extensions import EXTENSIONS

COMMANDS = (
    "train",
    "enjoy",
    "record_video",
    "record_training",
    "push_to_hub",
    "load_from_hub",
    "plots.plot_train",
    "plots.plot_from_file",
    "plots.all_plots",
)


def main() -> None:
    """:raises SystemExit: if the first argument is none of :data:`COMMANDS`"""
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(f"{(__doc__ or '').strip()}\n\nCommands: {', '.join(COMMANDS)}")
        return
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        given = sys.argv[1] if len(sys.argv) > 1 else None
        raise SystemExit(f"command={given!r} is not one of the RL Zoo's: it must be one of {', '.join(COMMANDS)}.")
    for name, extend in EXTENSIONS.items():
        extend(importlib.import_module(name))
    command = sys.argv.pop(1)
    runpy.run_module(f"rl_zoo3.{command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
