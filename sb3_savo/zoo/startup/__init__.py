"""
Let the RL Zoo find our algorithms: ``sb3_savo.zoo.extensions`` patches four of its modules right after they are imported.

The line in ``sb3_savo_zoo.pth`` runs :func:`install` at the start of every Python, so nothing is imported here but ``sys``.
"""

import sys

PATCHED = ("rl_zoo3.utils", "rl_zoo3.hyperparams_opt", "rl_zoo3.exp_manager", "huggingface_sb3.push_to_hub")


class ZooImportHook:
    """Finds the four modules by the other finders, and patches each right after it is executed."""

    def find_spec(self, name, path=None, target=None):
        if name not in PATCHED:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_extend(module):
                execute(module)
                extend(module)

            spec.loader.exec_module = execute_and_extend
        return spec


def extend(module):
    """Patch a module; if that fails, warn, and the RL Zoo works as if sb3_savo were not installed."""
    try:
        from sb3_savo.zoo.extensions import EXTENSIONS

        EXTENSIONS[module.__name__](module)
    except Exception as error:
        import warnings

        warnings.warn(f"sb3_savo could not add its algorithms to {module.__name__}: {error!r}", RuntimeWarning, stacklevel=2)


def install():
    """Put the import hook before the other finders, once."""
    if not any(type(finder).__name__ == "ZooImportHook" for finder in sys.meta_path):
        sys.meta_path.insert(0, ZooImportHook())
