"""
Let Gymnasium find our environments, and the RL Zoo our algorithms: ``sb3_savo.envs.registration`` and
``sb3_savo.zoo.extensions`` extend five modules right after they are imported.

The line in ``sb3_savo_zoo.pth`` runs :func:`install` at the start of every Python, so nothing is imported here but ``sys``.
"""

import sys

GYMNASIUM = "gymnasium.envs.registration"
PATCHED = (
    GYMNASIUM,
    "rl_zoo3.utils",
    "rl_zoo3.hyperparams_opt",
    "rl_zoo3.exp_manager",
    "huggingface_sb3.push_to_hub",
)


class ZooImportHook:
    """Finds the five modules by the other finders, and extends each right after it is executed."""

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
    """Extend a module; if that fails, warn, and the module works as if sb3_savo were not installed."""
    try:
        if module.__name__ == GYMNASIUM:
            extend_gymnasium(module)
        else:
            from sb3_savo.zoo.extensions import EXTENSIONS

            EXTENSIONS[module.__name__](module)
    except Exception as error:
        import warnings

        what = "environments" if module.__name__ == GYMNASIUM else "algorithms"
        warnings.warn(f"sb3_savo could not add its {what} to {module.__name__}: {error!r}", RuntimeWarning, stacklevel=2)


def extend_gymnasium(registration):
    """Execute the file of our environments' IDs by its path, since ``import sb3_savo`` would import torch."""
    from importlib.util import find_spec, module_from_spec, spec_from_file_location

    package = find_spec("sb3_savo")
    if package is None or not package.submodule_search_locations:
        raise ImportError("sb3_savo is not installed")
    path = f"{package.submodule_search_locations[0]}/envs/registration.py"
    spec = spec_from_file_location("_sb3_savo_environments", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.register_environments(registration)


def install():
    """Put the import hook before the other finders, once."""
    if not any(type(finder).__name__ == "ZooImportHook" for finder in sys.meta_path):
        sys.meta_path.insert(0, ZooImportHook())
