"""
Constructor arguments: their names, and checks whose errors name the argument, its value and what would be right.

A class lists the checks of its own arguments in a table; its constructor then only keeps the values.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Self, get_args

import numpy as np
import torch as th

# Raises an error if the value, the second argument, is wrong; the first is the argument's name
Check = Callable[[str, Any], None]

# No optimizer of torch learns at a larger one: it is a typing error (1e4 for 1e-4)
MAX_LEARNING_RATE = 1.0
# No machine has time for more networks, wider layers or more samples per state
MAX_NETWORKS = 1_000
MAX_UNITS = 2**16
MAX_SAMPLES = 100_000


class InheritedArguments:
    """
    Base of classes whose constructors hand ``**kwargs`` on to their parent's constructor.

    Arguments are checked by the tables of the class and its parents before the constructor runs. An unknown argument raises an
    error that names the class that was called and the nearest argument. The signature that ``help`` and
    :func:`inspect.signature` show holds the arguments of all parents. Every argument is kept as an attribute of its name.
    """

    argument_checks: ClassVar[dict[str, Check]] = {}
    """The class's own checks, by the name of the argument; the parents' are added to them."""
    excluded_arguments: ClassVar[Collection[str]] = ()
    """Arguments of a parent that the class does not take."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherited = [vars(base).get("argument_checks", {}) for base in reversed(cls.__mro__)]
        cls.argument_checks = {name: check for table in inherited for name, check in table.items()}
        if "__init__" in vars(cls):
            vars(cls)["__init__"].__signature__ = full_signature(cls)
        else:
            # Python 3.11.2 shows the signature of an inherited __new__ rather than that of an inherited __init__
            cls.__init__ = cls.__init__  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_arguments(cls, args, kwargs)
        return super().__new__(cls)

    def constructor_arguments(self) -> dict[str, Any]:
        """:return: The values of the constructor's arguments, by name"""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters if hasattr(self, name)}


def check_arguments(cls: type[InheritedArguments], args: Collection[Any], kwargs: Mapping[str, Any]) -> None:
    """
    :param cls: A class that is about to be constructed
    :param args: Its arguments by position
    :param kwargs: Its arguments by name
    :raises TypeError: if an argument is unknown or of the wrong type
    :raises ValueError: if an argument is out of its range
    """
    parameters = inspect.signature(cls).parameters
    check_argument_names(cls.__name__, kwargs, parameters)
    positional = [name for name, parameter in parameters.items() if parameter.kind == parameter.POSITIONAL_OR_KEYWORD]
    if len(args) > len(positional):
        raise TypeError(
            f"{cls.__name__} takes {len(positional)} arguments by position, {', '.join(positional)}, and {len(args)} were "
            "given: all others must be given by name, for instance buffer_size=100_000."
        )
    for name, value in {**dict(zip(positional, args, strict=False)), **kwargs}.items():
        if name in cls.argument_checks:
            cls.argument_checks[name](name, value)


def full_signature(cls: type[InheritedArguments]) -> inspect.Signature:
    """
    :param cls: A class with a constructor of its own
    :return: Its constructor's signature, in which the parent's arguments take the place of ``**kwargs``
    """
    own = inspect.Signature.from_callable(vars(cls)["__init__"])
    parameters = {name: parameter for name, parameter in own.parameters.items() if parameter.kind != parameter.VAR_KEYWORD}
    if len(parameters) < len(own.parameters):
        parent = next(base for base in cls.__mro__[1:] if issubclass(base, InheritedArguments) and "__init__" in vars(base))
        for name, parameter in inspect.signature(vars(parent)["__init__"]).parameters.items():
            if name not in parameters and name not in cls.excluded_arguments:
                parameters[name] = parameter.replace(kind=parameter.KEYWORD_ONLY)
    # Private arguments come last, as in SB3
    return own.replace(parameters=sorted(parameters.values(), key=lambda p: (p.kind, p.name.startswith("_"))))


def check_argument_names(called: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """
    :param called: Name of the class or function that was called
    :param given: Its arguments by name
    :param known: Names of the arguments that it takes
    :raises TypeError: if an argument is none of these
    """
    for name, value in given.items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {nearest[0]}?" if nearest else "."
            raise TypeError(f"{name}={value!r} is not an argument of {called}{hint}")


def check_choice(name: str, value: Any, choices: Any) -> None:
    """
    :param name: The argument
    :param value: Its value
    :param choices: The values that it may take, a collection or a ``Literal``
    :raises ValueError: if the value is none of them
    """
    allowed = get_args(choices) or choices
    # 1 is not True here, and an array is no choice
    if not any(isinstance(value, type(choice)) and value == choice for choice in allowed):
        raise ValueError(f"{name}={value!r} is not known: it must be one of {', '.join(map(repr, allowed))}.")


def check_integer(name: str, value: Any, low: int, high: int | None = None) -> None:
    """
    :param name: The argument
    :param value: Its value
    :param low: The smallest value that it may take
    :param high: The largest value that it may take; None for no limit
    :raises TypeError: if the value is not an integer
    :raises ValueError: if it is too small or too large
    """
    wanted = f"an integer of at least {low}" if high is None else f"an integer of at least {low} and at most {high}"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: it must be {wanted}.")
    if value < low:
        raise ValueError(f"{name}={value!r} is too small: it must be {wanted}.")
    if high is not None and value > high:
        raise ValueError(f"{name}={value!r} is too large: it must be {wanted}.")


def is_number(value: Any) -> bool:
    """:return: Whether a value is one number, and not None, text or an array"""
    array = np.asarray(value)
    return array.dtype.kind in "fiub" and array.shape == ()


def check_number(name: str, value: Any, low: float = 0.0, high: float = math.inf, above: bool = False) -> None:
    """
    :param name: The argument
    :param value: Its value
    :param low: The smallest value that it may take
    :param high: The largest value that it may take
    :param above: True if it must be above ``low``
    :raises TypeError: if the value is not a number
    :raises ValueError: if it is out of range, infinite or not a number (NaN)
    """
    wanted = f"a number {'above' if above else 'of at least'} {low:g}"
    if high < math.inf:
        wanted += f" and at most {high:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: it must be {wanted}.")
    if not math.isfinite(value) or value > high or value < low or (above and value == low):
        raise ValueError(f"{name}={value!r} is out of range: it must be {wanted}.")


def check_flag(name: str, value: Any) -> None:
    """
    :param name: The argument
    :param value: Its value
    :raises ValueError: if it is neither True nor False
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}={value!r} is not known: it must be True or False.")


def optional(check: Check) -> Check:
    """
    :param check: A check
    :return: A check that also accepts None
    """

    def check_unless_none(name: str, value: Any) -> None:
        if value is not None:
            check(name, value)

    return check_unless_none


def check_type(name: str, value: Any, types: type | tuple[type, ...], wanted: str) -> None:
    """
    :param name: The argument
    :param value: Its value
    :param types: What it may be an instance of
    :param wanted: The same in words
    :raises TypeError: if it is an instance of none of them
    """
    if not isinstance(value, types):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: it must be {wanted}.")


def check_class(name: str, value: Any, parent: type) -> None:
    """
    :param name: The argument
    :param value: Its value
    :param parent: The class that it must be derived from
    :raises TypeError: if it is no class, or derived from another one
    """
    if not (isinstance(value, type) and issubclass(value, parent)):
        raise TypeError(f"{name}={value!r} must be a class derived from {parent.__module__}.{parent.__name__}.")


def to_numbers(name: str, value: Any) -> np.ndarray:
    """
    :param name: The argument
    :param value: A number, or an array of numbers
    :return: The same in float64
    :raises TypeError: if it is neither
    :raises ValueError: if its rows differ in length
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}={value!r} is not an array: its rows must have one length.") from error
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}={value!r} is of the type {array.dtype}: it must be a number, or an array of numbers.")
    return array.astype(float)


def check_learning_rate(name: str, value: Any) -> None:
    """
    :param name: The argument
    :param value: A number above 0 and at most ``MAX_LEARNING_RATE``, or a function of the remaining progress
    :raises TypeError: if it is neither a number nor a function that returns numbers
    :raises ValueError: if it is out of range, or the function returns a number out of range at progress 1, 0.5 or 0
    """
    if not callable(value):
        check_number(name, value, high=MAX_LEARNING_RATE, above=True)
        return
    for progress in (1.0, 0.5, 0.0):
        try:
            rate = float(value(progress))
        except Exception as error:
            raise TypeError(
                f"{name}={value!r} must be a number, or a function of the remaining progress (from 1 to 0) that returns one: "
                f"{name}({progress}) raises {type(error).__name__}: {error}"
            ) from error
        # A schedule may warm up from 0, or end there
        check_number(f"{name}({progress})", rate, high=MAX_LEARNING_RATE)


def check_train_freq(name: str, value: Any) -> None:
    """
    :param name: The argument
    :param value: Number of steps, or (number, ``"step"`` or ``"episode"``)
    :raises TypeError: if the number is not an integer
    :raises ValueError: if the number is below 1, or the unit is unknown
    """
    if not isinstance(value, tuple):
        check_integer(name, value, low=1)
        return
    if len(value) != 2:
        raise ValueError(f"{name}={value!r} must be a number of steps, or two: (number, 'step' or 'episode').")
    check_integer(f"{name}[0]", value[0], low=1)
    # SB3 keeps the unit as an enumeration
    check_choice(f"{name}[1]", getattr(value[1], "value", value[1]), ("step", "episode"))


def check_device(name: str, value: Any) -> None:
    """
    :param name: The argument
    :param value: A device of torch, or ``"auto"``
    :raises ValueError: if torch does not know it, or this machine does not have it
    """
    try:
        device = th.device("cpu" if isinstance(value, str) and value == "auto" else value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name}={value!r} is not known: it must be 'auto', 'cpu', 'cuda', or another device of torch."
        ) from error
    counts = {"cuda": th.cuda.device_count, "mps": lambda: int(th.backends.mps.is_available())}
    if device.type in counts and (device.index or 0) >= (n_devices := counts[device.type]()):
        raise ValueError(
            f"{name}={str(value)!r} is not there: torch finds {n_devices} {device.type} devices on this machine. It must be "
            "'auto', which takes a GPU if there is one, or 'cpu'."
        )
