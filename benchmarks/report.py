"""
Which method is better, by how much, and how sure is that: tables, figures and plain words from the results of a suite.

    python -m benchmarks.report discrete                   # writes benchmarks/reports/discrete/report.md and its files
    python -m benchmarks.report discrete --method savo     # compares savo with every other method
    python -m benchmarks.report landscapes -o out          # writes out/report.md
    python -m benchmarks.report                            # writes every report of benchmarks/reports anew

The report reads the CSV files of the finished runs and trains nothing. It lists missing runs, also on the screen. It
compares no methods below five seeds. The same files give the same report.
"""

import argparse
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.command_line import output_folder
from benchmarks.results import RESULTS, load
from benchmarks.sections import GroupReport
from benchmarks.words import missing_runs

REPORTS = RESULTS.parent / "reports"
SUFFIXES = (".csv", ".md", ".pdf", ".png")
PACKAGES = ("sb3_savo", "stable_baselines3", "numpy", "scipy", "pandas", "matplotlib", "seaborn")


def write(suite: str, budget: str, folder: Path | None, method: str | None, out: Path, command: str) -> str:
    """
    :param suite: Name of a suite
    :param budget: ``small`` or ``paper``
    :param folder: Folder of the results, or None for the runner's
    :param method: The method to compare with every other, or None
    :param out: Folder of the report
    :param command: The command that writes this report
    :return: What the report says first, and the missing runs, for the screen
    :raises ValueError: If the method has no run
    :raises FileNotFoundError: If there is no finished run
    """
    groups = load(suite, budget, folder)
    out.mkdir(parents=True, exist_ok=True)
    # In a folder of its own first, so that an error leaves an earlier report as it is
    with tempfile.TemporaryDirectory(dir=out.parent) as new:
        reports = [GroupReport(group, method, Path(new)) for group in groups if not group.evaluations.empty]
        sections = [report.text() for report in reports]
        # What an earlier report wrote may not be part of this one; elsewhere the folder may hold other files
        for path in out.iterdir() if out.parent == REPORTS else ():
            if path.suffix in SUFFIXES:
                path.unlink()
        for path in Path(new).iterdir():
            shutil.move(path, out / path.name)
    absent = [group for group in groups if group.evaluations.empty]
    n_runs = sum(len(report.runs) for report in reports)
    recorded = sorted({text for group in groups for text in group.versions})
    head = [
        f"# Report of the suite `{suite}`",
        f"{n_runs} finished runs. This report is written by\n\n    {command}",
        f"Versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}."
        + (f" The runs recorded: {'; '.join(recorded)}." if recorded else ""),
        *(f"**No run is finished of: {group.name}** ({len(group.expected)} planned)." for group in absent),
    ]
    (out / "report.md").write_text("\n\n".join([*head, *sections]))
    screen = []
    for report in reports:
        screen += [report.group.name.capitalize() or suite, *(f"- {sentence}" for sentence in report.sentences), ""]
    incomplete = [group for group in groups if len(group.missing)]
    if not incomplete:
        return "\n".join([*screen, "No run is missing."])
    screen.append(f"Missing runs: {sum(len(group.missing) for group in incomplete)}")
    for group in incomplete:
        screen += [f"- {', '.join(filter(None, [group.name, line]))}" for line in missing_runs(group)]
    return "\n".join(screen)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    :param arguments: The command line; None for that of this process
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="?", help="name of a suite; or breakthrough, discrete, landscapes; none: all stored")
    parser.add_argument("--budget", choices=("small", "paper"), default="small")
    parser.add_argument("--folder", type=Path, help="results folder")
    parser.add_argument("--method", help="compare this method with every other; savo or savo_hybrid if not given")
    parser.add_argument("-o", "--out", type=output_folder, help="folder of the report; benchmarks/reports/SUITE if not given")
    options = parser.parse_args(arguments)
    if options.suite is None:
        if any(getattr(options, name) != parser.get_default(name) for name in ("budget", "folder", "method", "out")):
            parser.error("suite is not given: without it there are no options, since stored reports keep their own commands.")
        for path in sorted(REPORTS.glob("*/report.md")):
            main(command_of(path.read_text()))
        return
    name = Path(options.suite).stem + ("" if options.budget == "small" else f"-{options.budget}")
    command = shlex.join(["python", "-m", "benchmarks.report", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        out = options.out or output_folder(str(REPORTS / name))
        print(write(options.suite, options.budget, options.folder, options.method, out, command))
    except (ValueError, FileNotFoundError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    print(f"Report: {out / 'report.md'}")


def command_of(report: str) -> list[str]:
    """
    :param report: Text of a report
    :return: The arguments of the command that wrote it
    """
    line = next(line for line in report.splitlines() if line.startswith("    python -m benchmarks.report "))
    return shlex.split(line)[3:]


if __name__ == "__main__":
    main()
