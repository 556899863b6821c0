"""The process that compiles a traced graph: ``python compiler.py GRAPH PACKAGE.pt2``."""

import sys

import torch as th
import torch._dynamo  # which reading a traced graph needs
from torch._inductor.package import package_aoti

import sb3_savo.common.nearest  # noqa: F401 (whose operator it may hold)


def main(graph_path: str, package_path: str) -> None:
    """
    :param graph_path: A file with a graph, the shapes, strides and data types of its inputs, and options of torch's inductor
    :param package_path: Where the compiled graph is to be
    """
    graph, shapes, options = th.load(graph_path, weights_only=False)
    inputs = tuple(th.empty_strided(shape, stride, dtype=dtype) for shape, stride, dtype in shapes)
    files = th._inductor.aot_compile(graph, inputs, options={**options, "aot_inductor.package": True})
    package_aoti(package_path, files)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
