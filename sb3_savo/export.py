"""Export of a policy, with all that :meth:`predict` does around its networks, to ONNX and to ``torch.export``."""

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_savo.actions.nearest import ApproximateNearestItems
from sb3_savo.arguments import check_flag
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.common.policies import MaximizerPolicy
from sb3_savo.extras import needs_extra
from sb3_savo.files.atomic import in_memory, replacing
from sb3_savo.tracing import exporting

FORMATS = (".onnx", ".pt2")

# The number of observations in the example that is recorded. torch may take sizes that are equal in the example for the same
# size, so this is a number that observation spaces hardly have.
RECORDED_BATCH = 1009
# The number in the example that .pt2 files hold; torch would take 1 for a fixed size
STORED_BATCH = 2

# Protocol buffers, which ONNX files consist of, are smaller
MAX_ONNX_BYTES = 2**31 - 2**20


def export_policy(
    model: MaximizerAlgorithm | MaximizerPolicy,
    path: str | os.PathLike[str],
    *,
    action_masks: bool | None = None,
    channels_last: bool = False,
) -> Path:
    """
    Write a policy to a file that other programs run without this package: ``.onnx`` for ONNX runtimes, or ``.pt2`` for
    ``torch.export.load``.

    The exported program computes ``model.predict(observation, deterministic=True)`` for any number of observations at once. It
    takes observations as the observation space describes them, with their types: the program itself scales images, encodes
    discrete observations and flattens. The statistics of a ``VecNormalize`` are not part of the policy: normalize observations
    before. It returns actions in the units and the type of the action space, within its bounds, (batch, action shape); in a
    discrete space it returns items, (batch,) in int64. Policies that search with random numbers (:class:`CEM`,
    :class:`MultiStart`, :class:`Wolpertinger`) use the fixed ones that ``predict`` uses with ``deterministic=True``.

    The input of an ONNX file is called ``observation``. A ``Dict`` space has one input per key, of the key's name. The output
    is called ``action``. A ``.pt2`` program takes a ``Dict`` observation as one dictionary:
    ``torch.export.load(path).module()(observation)``.

    The nearest items are found by exact search, even if ``nearest="approximate"``.

    :param model: A model, or its policy
    :param path: The file to write, whose name ends in ``.onnx`` or ``.pt2``; an existing file is replaced when the new one is
        complete
    :param action_masks: Whether the program has a second input ``action_masks``, (batch, n_items) of booleans: which items are
        allowed. It returns the item -1 where none is allowed. None for whether the model was made for an environment with
        masks, which a model knows only while it has the environment
    :param channels_last: Whether image observations have their channels in the last dimension, as most environments give them.
        SB3 turns these to channels first, so that is what the model's observation space and the program have by default
    :return: The path of the file
    :raises TypeError: if ``model`` is neither a model nor a policy of this package
    :raises ValueError: if the model has no policy yet, the format is unknown, there are masks and no items, an input of the
        ONNX file would not have a name of its own, or an ONNX file would be too large
    :raises FileNotFoundError: if the folder of the file does not exist
    :raises IsADirectoryError: if the path is a folder
    :raises OSError: if it cannot be written; a file that was there before is then unchanged
    :raises ImportError: if the extra ``export``, which ``.onnx`` needs, is not installed
    """
    path = Path(path)
    policy = check_model(model)
    check_path(path)
    check_flag("channels_last", channels_last)
    if action_masks is None:
        action_masks = isinstance(model, MaximizerAlgorithm) and model.has_masks
    check_flag("action_masks", action_masks)
    if action_masks and policy.items is None:
        raise ValueError(f"action_masks=True: the action space {policy.action_space} has no items that could be masked.")
    if path.suffix == ".onnx":
        check_input_names(policy.observation_space, action_masks)
        with needs_extra("export", f"path={str(path)!r}: an ONNX file"):
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
    # From the beginning, since this shows whether the place can be written
    with replacing(path) as file:
        if isinstance(policy.items, ApproximateNearestItems):
            warnings.warn(
                f"{path} finds the nearest items by exact search. The approximate index of the policy, whose recall is "
                f"{policy.items.recall:.3f}, cannot be exported.",
                stacklevel=2,
            )
        program = record(policy, action_masks, channels_last)
        with without_torchs_notices():
            if path.suffix == ".onnx":
                file.write(to_onnx(program, input_names(policy.observation_space, action_masks), path))
            else:
                file.write(in_memory(th.export.save, program))
    return path


def check_model(model: Any) -> MaximizerPolicy:
    """
    :param model: What the user wants to export
    :return: Its policy
    :raises TypeError: if it is neither a model nor a policy of this package
    :raises ValueError: if the model has no policy yet
    """
    if isinstance(model, MaximizerPolicy):
        return model
    if not isinstance(model, MaximizerAlgorithm):
        raise TypeError(f"model is a {type(model).__name__}: it must be a model of sb3_savo, such as SAVO, or its policy.")
    policy = getattr(model, "policy", None)
    if not isinstance(policy, MaximizerPolicy):
        raise ValueError(f"model has no policy yet (policy={policy!r}): a {type(model).__name__} that is set up has one.")
    return policy


def check_path(path: Path) -> None:
    """
    :param path: Where to write
    :raises ValueError: if the format is unknown
    :raises FileNotFoundError: if the folder does not exist
    :raises IsADirectoryError: if there is a folder of this name
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"path={str(path)!r} has an unknown format: the name must end in {' or '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: there is no folder {str(path.parent)!r}.")
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder: it must be a file.")


def input_names(observation_space: spaces.Space, has_masks: bool) -> list[str]:
    """:return: The names of an ONNX file's inputs"""
    names = list(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else ["observation"]
    return [*names, "action_masks"] if has_masks else names


def check_input_names(observation_space: spaces.Space, has_masks: bool) -> None:
    """
    :param observation_space: Observation space
    :param has_masks: Whether there is an input for masks
    :raises ValueError: if two inputs, or an input and the output, would have the same name
    """
    names = [*input_names(observation_space, has_masks), "action"]
    for name in ("action", "action_masks"):
        if names.count(name) > 1:
            raise ValueError(
                f"path ends in .onnx, but the observation space has the key {name!r}, which is the name of another input or "
                "of the output: rename the key, or export to .pt2, where the observation is a dictionary of its own."
            )


class DeterministicPolicy(nn.Module):
    """
    What ``predict(observation, deterministic=True)`` computes, as a module of tensors.

    :param policy: The policy
    :param channels_last: Whether image observations have their channels in the last dimension
    """

    low: th.Tensor
    high: th.Tensor

    def __init__(self, policy: MaximizerPolicy, channels_last: bool):
        super().__init__()
        self.policy = policy
        self.channels_last = channels_last
        if policy.items is None:
            # In float32 at least, as NumPy computes
            space = policy.action_space
            assert isinstance(space, spaces.Box)
            dtype = np.result_type(space.dtype, np.float32)
            self.dtype = th.as_tensor(space.low).dtype
            self.register_buffer("low", th.tensor(space.low.astype(dtype)))
            self.register_buffer("high", th.tensor(space.high.astype(dtype)))

    def forward(self, observation: PyTorchObs, action_masks: th.Tensor | None = None) -> th.Tensor:
        """
        :param observation: Observations, (batch, ...)
        :param action_masks: Which items are allowed, (batch, n_items); None for all
        :return: Actions in the units of the environment, (batch, *action shape), or items, (batch,), -1 where none is allowed
        """
        chosen = self.policy._predict(self.channels_first(observation), deterministic=True, action_masks=action_masks)
        if self.policy.items is None:
            return self.unscale(chosen.reshape(chosen.shape[0], *self.low.shape))
        return chosen if action_masks is None else th.where(action_masks.any(dim=1), chosen, -1)

    def channels_first(self, observation: PyTorchObs) -> PyTorchObs:
        """:return: The observations as the policy takes them"""
        space = self.policy.observation_space
        if isinstance(observation, dict):
            assert isinstance(space, spaces.Dict)
            return {
                key: part.permute(0, 3, 1, 2) if self.is_transposed(space[key]) else part for key, part in observation.items()
            }
        return observation.permute(0, 3, 1, 2) if self.is_transposed(space) else observation

    def is_transposed(self, space: spaces.Space) -> bool:
        """:return: Whether observations of this space come with their channels last, and the policy takes them first"""
        return self.channels_last and is_image_space(space) and is_image_space_channels_first(space)  # type: ignore[arg-type]

    def unscale(self, actions: th.Tensor) -> th.Tensor:
        """
        :param actions: Scaled to [-1, 1], (batch, *action shape)
        :return: The actions within the bounds of the space, in its type
        """
        share = 0.5 * (actions + 1)
        # The difference of wide bounds could be infinite, a weighted mean cannot
        within = (self.low * (1 - share) + self.high * share).clamp(self.low, self.high)
        return within.to(self.dtype)

    def example(self, space: spaces.Space) -> Any:
        """:return: One observation of a space, all zero, as the program takes it, (1, ...)"""
        if isinstance(space, spaces.Dict):
            return {key: self.example(part) for key, part in space.spaces.items()}
        shape = space.shape
        assert shape is not None
        if self.is_transposed(space):
            shape = (*shape[1:], shape[0])
        return th.as_tensor(np.zeros((1, *shape), space.dtype))


def record(policy: MaximizerPolicy, has_masks: bool, channels_last: bool) -> th.export.ExportedProgram:
    """
    :param policy: The policy
    :param has_masks: Whether the program takes masks
    :param channels_last: Whether image observations have their channels in the last dimension
    :return: The program, on the processor
    """
    if policy.device.type != "cpu":
        policy = copy.deepcopy(policy).to("cpu")
    policy.set_training_mode(False)
    module = DeterministicPolicy(policy, channels_last)
    example = [module.example(policy.observation_space)]
    if has_masks:
        example.append(th.ones(1, policy.action_space.n, dtype=th.bool))  # type: ignore[attr-defined]
    batch = {0: th.export.Dim("batch")}
    shapes = tuple({key: batch for key in arg} if isinstance(arg, dict) else batch for arg in example)
    # The fused transformer layer is one operator that only torch has
    fused = th.backends.mha.get_fastpath_enabled()
    th.backends.mha.set_fastpath_enabled(False)
    try:
        with exporting(), th.no_grad(), without_torchs_notices():
            graph = record_graph(module, repeat(example, RECORDED_BATCH), shapes)
            own_memory(graph)
            return th.export.export(graph, repeat(example, STORED_BATCH), dynamic_shapes=shapes, strict=False)
    finally:
        th.backends.mha.set_fastpath_enabled(fused)


def repeat(example: list[Any], n: int) -> tuple[Any, ...]:
    """:return: The example's tensors, (1, ...), repeated n times, (n, ...)"""
    return tuple(th.utils._pytree.tree_map(lambda tensor: tensor.repeat(n, *[1] * (tensor.dim() - 1)), example))


def record_graph(module: DeterministicPolicy, args: tuple[Any, ...], shapes: tuple[Any, ...]) -> th.fx.GraphModule:
    """
    :param module: The policy
    :param args: Example arguments
    :param shapes: Their dynamic sizes
    :return: The graph, which holds only those parameters that it uses
    """
    if module.policy.differentiates_to_act:
        from torch.fx.experimental.proxy_tensor import make_fx

        graph = make_fx(module, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*args)
    else:
        program = th.export.export(module, args, dynamic_shapes=shapes, strict=False)
        graph = program.module(check_guards=False)  # type: ignore[assignment]
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def own_memory(graph: th.fx.GraphModule) -> None:
    """
    Give the parameters of a graph memory of their own: those of a policy share vectors, which would be saved whole.

    :param graph: The graph
    """
    for part in graph.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))


def to_onnx(program: th.export.ExportedProgram, names: list[str], path: Path) -> bytes:
    """
    :param program: The program
    :param names: Names of its inputs
    :param path: The file that is written, for the error
    :return: Its content
    :raises ValueError: if the file would be too large
    """
    n_bytes = sum(value.nbytes for value in [*program.state_dict.values(), *program.constants.values()])
    if n_bytes > MAX_ONNX_BYTES:
        raise ValueError(f"path={path.name!r}: {n_bytes:,} bytes of weights are too many for an ONNX file: export to .pt2.")
    onnx_program: Any = th.onnx.export(
        program, dynamo=True, input_names=names, output_names=["action"], external_data=False, verbose=False
    )
    axis = onnx_program.model.graph.inputs[0].shape[0]
    onnx_program.rename_axes({axis: "batch"})
    return onnx_program.model_proto.SerializeToString()


@contextmanager
def without_torchs_notices() -> Iterator[None]:
    """Silence what torch's exporters say about themselves, and not about the policy."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # torchvision is not installed
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            # The recorder puts its own tensors into torch's LSTM, and takes them out again
            warnings.filterwarnings("ignore", r"The tensor attributes? (self\S+_flat_weights\[\d+\],? )+(was|were) assigned")
            yield
    finally:
        registration.setLevel(level)
