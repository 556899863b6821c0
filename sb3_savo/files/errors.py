"""What is wrong with a file."""


class FileError(ValueError):
    """A file is damaged, lies about its sizes, or is of another kind. The message names the file and the entry."""


class UnsafeFileError(FileError):
    """Reading a file would execute code that it names."""


def explain(path: object, error: Exception) -> FileError:
    """
    :param path: The file that was read
    :param error: What is wrong with it
    :return: The same, with the name of the file
    """
    kind = type(error) if isinstance(error, FileError) else FileError
    return kind(f"{error} (path={str(path)!r})")
