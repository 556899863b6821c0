"""Environments; importing this package registers them with Gymnasium."""

from gymnasium.envs.registration import register

from sb3_savo.envs.restricted import RestrictedAction

__all__ = ["RestrictedAction"]

for _task in ("Hopper", "Walker2d", "InvertedPendulum", "InvertedDoublePendulum", "HalfCheetah", "Ant"):
    for _version in ("v4", "v5"):
        register(
            id=f"{_task}Restricted-{_version}",
            entry_point="sb3_savo.envs.restricted:make_restricted",
            kwargs={"env_id": f"{_task}-{_version}"},
            max_episode_steps=1000,
        )
