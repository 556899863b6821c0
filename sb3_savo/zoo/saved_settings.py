"""
The YAML that the RL Zoo stores beside an agent, checked before the RL Zoo reads it.

The RL Zoo reads ``config.yml`` and ``args.yml`` by a loader that calls whatever a tag names, evaluates the text of
``normalize`` as Python, and imports and calls what ``env_wrapper`` names.
"""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.vec_env import VecEnvWrapper

from sb3_savo.files.errors import FileError, UnsafeFileError, explain

FILES = ("config.yml", "args.yml")
PLAIN = re.compile(r"tag:yaml\.org,2002:(map|seq|str|int|float|bool|null|binary|timestamp|set|merge|value|python/tuple)")
ORDERED_DICT = "tag:yaml.org,2002:python/object/apply:collections.OrderedDict"
NAME = re.compile(r"tag:yaml\.org,2002:python/name:([\w.]+)\.(\w+)")
# Packages of which a file may mention classes (activation functions, replay buffers) and have wrappers made
PACKAGES = ("gymnasium", "rl_zoo3", "sb3_contrib", "sb3_savo", "stable_baselines3", "torch")
# The only wrapper of these packages that is a function
WRAPPER_FUNCTION = "rl_zoo3.utils.flatten_dict_observations"


def check_saved_settings(folder: Path) -> None:
    """
    :param folder: Where the RL Zoo stores the settings of an agent; nothing is checked that is missing
    :raises UnsafeFileError: if the RL Zoo would execute what a file names. Nothing was executed. The message names the file.
    :raises FileError: if a file is damaged
    """
    for path in (folder / name for name in FILES):
        if path.is_file():
            try:
                check_settings(path.read_text(encoding="utf-8"))
            except FileError as error:
                raise explain(path, error) from error
            except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
                raise explain(path, FileError(f"it is damaged, or no YAML: {error}")) from error


def check_settings(text: str) -> None:
    """
    :param text: YAML of the RL Zoo
    :raises UnsafeFileError: if the RL Zoo would execute what it names
    :raises FileError: if it holds no mapping
    :raises yaml.YAMLError: if it is no YAML
    """
    for node in nodes_in(yaml.compose(text, yaml.SafeLoader)):
        check_tag(node)
    # With these tags, the loader of the RL Zoo makes nothing but containers, plain values and mentions of classes
    settings = yaml.load(text, yaml.UnsafeLoader)
    if not isinstance(settings, dict):
        raise FileError(f"it holds a {type(settings).__name__}: it must hold a mapping.")
    check_normalize(settings.get("normalize"))
    for name in ("env_wrapper", "vec_env_wrapper"):
        for wrapper in wrappers_in(settings.get(name)):
            check_wrapper(name, wrapper)


def nodes_in(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """:return: A node of YAML and all below it, each once"""
    seen: set[int] = set()
    open_nodes = [root] if root is not None else []
    while open_nodes:
        node = open_nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            open_nodes += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            open_nodes += node.value


def check_tag(node: yaml.Node) -> None:
    """:raises UnsafeFileError: if a node of YAML is no container, no plain value and no mention of a class"""
    if PLAIN.fullmatch(node.tag) or (node.tag == ORDERED_DICT and isinstance(node, yaml.SequenceNode)):
        return
    mentioned = NAME.fullmatch(node.tag)
    if mentioned and mentioned[1].partition(".")[0] in PACKAGES:
        # Only what is imported already: a mention must not import anything
        if isinstance(getattr(sys.modules.get(mentioned[1]), mentioned[2], None), type):
            return
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    raise UnsafeFileError(
        f"line {node.start_mark.line + 1} has the tag {tag}, which may execute code, so nothing of it was loaded. If you "
        "trust whoever made the file, replace this value by a plain one."
    )


def check_normalize(value: Any) -> None:
    """:raises UnsafeFileError: if ``normalize`` is text that does more than to describe a dictionary of plain values"""
    if not isinstance(value, str):
        return
    try:
        expression = ast.parse(value.strip(), mode="eval").body
        if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id == "dict":
            parts = [*expression.args, *(keyword.value for keyword in expression.keywords)]
        else:
            parts = [expression]
        for part in parts:
            ast.literal_eval(part)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise UnsafeFileError(
            f"normalize={value!r} may execute code: it must be True, False, or text as 'dict(norm_obs=True)'."
        ) from error


def wrappers_in(value: Any) -> list[Any]:
    """
    :param value: ``env_wrapper``: a name, a mapping from a name to arguments, a list of these, or None
    :return: The names
    """
    if value is None:
        return []
    parts = value if isinstance(value, list) else [value]
    return [name for part in parts for name in (part if isinstance(part, dict) else [part])]


def check_wrapper(argument: str, name: Any) -> None:
    """
    :param argument: ``env_wrapper`` or ``vec_env_wrapper``
    :param name: The wrapper that is to be made
    :raises UnsafeFileError: if it is no wrapper of a package that is known, nor of a module that was imported before
    """
    module, _, short = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if module.partition(".")[0] in PACKAGES:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise FileError(f"{argument}={name!r} cannot be imported: {error}") from error
    found = getattr(sys.modules.get(module), short, None)
    is_wrapper = isinstance(found, type) and issubclass(found, (gym.Wrapper, VecEnvWrapper))
    if not is_wrapper and name != WRAPPER_FUNCTION:
        raise UnsafeFileError(
            f"{argument}={name!r} may execute code: it must be a wrapper of Gymnasium, Stable-Baselines3 or the RL Zoo, or of "
            "a module that was imported before. To use one of your own, import its module first, in "
            "enjoy by --gym-packages MODULE."
        )
