"""
The YAML that the RL Zoo stores beside an agent, checked before the RL Zoo reads it.

The RL Zoo reads ``config.yml`` and ``args.yml`` by a loader that calls whatever a tag names, evaluates the text of
``normalize`` as Python, and imports and calls what ``env_wrapper`` names.
"""

import argparse
import ast
import importlib
import re
import sys
from collections.abc import Collection, Iterator
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
# Genuine files have about 2 kB. YAML can hide 10**9 values in less, by aliases of aliases.
MAX_BYTES = 2**16


def modules_named_by_user(argv: list[str]) -> list[str]:
    """
    :param argv: The command
    :return: The modules of ``--gym-packages``, which ``enjoy`` imports
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--gym-packages", nargs="+", default=[])
    return parser.parse_known_args(argv[1:])[0].gym_packages


def check_saved_settings(folder: Path, trusted: Collection[str] = ()) -> None:
    """
    :param folder: Where the RL Zoo stores the settings of an agent; nothing is checked that is missing
    :param trusted: Modules of the user's own, of which and of whose packages a file may mention classes and have wrappers made
    :raises UnsafeFileError: if the RL Zoo would execute what a file names. Nothing was executed. The message names the file.
    :raises FileError: if a file is damaged
    """
    for path in (folder / name for name in FILES):
        if path.is_file():
            try:
                check_yaml(read_short(path), trusted)
            except FileError as error:
                raise explain(path, error) from error
            except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
                raise explain(path, FileError(f"it is damaged, or no YAML: {error}")) from error


def read_short(path: Path) -> str:
    """
    :param path: A file
    :return: Its text
    :raises FileError: if it is too long for a file of settings
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise FileError(f"it has more than {MAX_BYTES:,} bytes: settings of an agent have about 2,000.")
    return content.decode("utf-8")


def check_yaml(text: str, trusted: Collection[str] = ()) -> None:
    """
    :param text: YAML of the RL Zoo
    :param trusted: See :func:`check_saved_settings`
    :raises UnsafeFileError: if the RL Zoo would execute what it names
    :raises FileError: if it holds no mapping, values that do not fit their tags, or far more than its text by aliases
    :raises yaml.YAMLError: if it is no YAML
    """
    root = yaml.compose(text, yaml.SafeLoader)
    for node in nodes_in(root):
        check_tag(node, trusted)
    if root is not None and size_without_aliases(root, {}) > MAX_BYTES:
        raise FileError(
            f"with a copy in the place of every alias, it has more than {MAX_BYTES:,} characters, or no end: settings of an "
            "agent have about 2,000."
        )
    try:
        # With these tags, the loader of the RL Zoo makes nothing but containers, plain values and mentions of classes
        settings = yaml.load(text, yaml.UnsafeLoader)
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # what PyYAML raises for e.g. "!!int x"
        raise FileError(f"a value does not fit its tag: {type(error).__name__}: {error}") from error
    if not isinstance(settings, dict):
        raise FileError(f"it holds a {type(settings).__name__}: it must hold a mapping.")
    check_normalize(settings.get("normalize"))
    for name in ("env_wrapper", "vec_env_wrapper"):
        for wrapper in wrappers_in(settings.get(name)):
            check_wrapper(name, wrapper, trusted)


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
        open_nodes += parts_of(node)


def parts_of(node: yaml.Node) -> list[yaml.Node]:
    """:return: The nodes right below a node of YAML, which aliases may name several times"""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def size_without_aliases(node: yaml.Node, sizes: dict[int, int]) -> int:
    """
    :param node: A node of YAML
    :param sizes: The sizes of nodes that were asked for before, by identity
    :return: The characters of its values and one for each node, with a copy in the place of every alias; a number above
        ``MAX_BYTES`` stands for all such numbers, and for a node that is within itself
    """
    if id(node) not in sizes:
        sizes[id(node)] = MAX_BYTES + 1
        n_characters = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        size = 1 + n_characters + sum(size_without_aliases(part, sizes) for part in parts_of(node))
        sizes[id(node)] = min(size, MAX_BYTES + 1)
    return sizes[id(node)]


def is_of_packages(module: str, packages: Collection[str]) -> bool:
    """:return: Whether a module is in one of the packages, which are given by any of their modules"""
    return module.partition(".")[0] in {package.partition(".")[0] for package in packages}


def check_tag(node: yaml.Node, trusted: Collection[str]) -> None:
    """
    :param node: A node of YAML
    :param trusted: See :func:`check_saved_settings`
    :raises UnsafeFileError: if it is no container, no plain value and no mention of a class
    """
    if PLAIN.fullmatch(node.tag) or (node.tag == ORDERED_DICT and isinstance(node, yaml.SequenceNode)):
        return
    mentioned = NAME.fullmatch(node.tag)
    if mentioned and is_of_packages(mentioned[1], (*PACKAGES, *trusted)):
        # Else only what is imported already: a mention must not import anything
        if is_of_packages(mentioned[1], trusted):
            import_named(mentioned[1], f"line {node.start_mark.line + 1}")
        if isinstance(getattr(sys.modules.get(mentioned[1]), mentioned[2], None), type):
            return
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    raise UnsafeFileError(
        f"line {node.start_mark.line + 1} has the tag {tag}, which may execute code, so nothing of it was loaded. If you "
        "trust whoever made the file, replace this value by a plain one. For a class of your own, name its module in enjoy by "
        "--gym-packages MODULE."
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


def import_named(module: str, where: str) -> None:
    """
    :param module: A module of a package that is known or trusted
    :param where: Where the file names it
    :raises FileError: if it cannot be imported
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise FileError(f"{where} cannot be imported: {error}") from error


def check_wrapper(argument: str, name: Any, trusted: Collection[str]) -> None:
    """
    :param argument: ``env_wrapper`` or ``vec_env_wrapper``
    :param name: The wrapper that is to be made
    :param trusted: See :func:`check_saved_settings`
    :raises UnsafeFileError: if it is no wrapper of a package that is known, nor of a module that was imported before
    """
    module, _, short = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if is_of_packages(module, (*PACKAGES, *trusted)):
        import_named(module, f"{argument}={name!r}")
    found = getattr(sys.modules.get(module), short, None)
    is_wrapper = isinstance(found, type) and issubclass(found, (gym.Wrapper, VecEnvWrapper))
    if not is_wrapper and name != WRAPPER_FUNCTION:
        raise UnsafeFileError(
            f"{argument}={name!r} may execute code: it must be a wrapper of Gymnasium, Stable-Baselines3 or the RL Zoo, or of "
            "a module that was imported before. To use one of your own, name its module in enjoy by --gym-packages MODULE, or "
            "import it before."
        )
