"""A clear message where an optional dependency is missing."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_extra(extra: str, user: str) -> Iterator[None]:
    """
    Import optional dependencies inside this context: if one is missing, the error names the extra that installs it.

    :param extra: The extra in ``setup.cfg``
    :param user: What needs it, as the user knows it
    :raises ImportError: if a module outside this package cannot be found
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module == "sb3_savo":
            raise
        raise ImportError(f"{user} needs {module}: pip install 'sb3-savo[{extra}]'") from error
