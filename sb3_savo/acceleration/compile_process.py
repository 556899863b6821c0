"""The process that compiles a traced graph: ``python compile_process.py GRAPH.pt2 COMPILED.pt2 OPTIONS``."""

import json
import sys

import torch as th

import sb3_savo.actions.nearest  # noqa: F401 (whose operator the graph may hold)


def main(graph_path: str, package_path: str, options: str) -> None:
    """
    :param graph_path: The file of an exported graph
    :param package_path: Where to write the compiled graph
    :param options: Options of torch's inductor, in JSON
    """
    exported = th.export.load(graph_path)
    th._inductor.aoti_compile_and_package(exported, package_path=package_path, inductor_configs=json.loads(options))


if __name__ == "__main__":
    main(*sys.argv[1:])
