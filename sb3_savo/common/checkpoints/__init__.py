"""
A run that survives anything: ``learn(3e6, checkpoints="folder")`` starts, or goes on exactly where the last checkpoint was.

- ``run``: when a checkpoint is written, and how a run goes on.
- ``snapshot``: what a run consists of: the model, its replay buffer, random generators, environments, callbacks, logs.
- ``environments``, ``recording``: the state of environments that do not know how to save it, by the actions since the reset.
- ``callbacks``, ``logs``: their parts of a snapshot.
- ``store``, ``blocks``: the files. Two checkpoints are kept, and what did not change between them is stored once.
"""

from sb3_savo.common.checkpoints.run import CheckpointedRun

__all__ = ["CheckpointedRun"]
