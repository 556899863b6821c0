"""The environments. Importing this package registers them with Gymnasium."""

from gymnasium.envs.registration import register

from sb3_savo.actions.embedding import ActionEmbedding
from sb3_savo.envs.restricted import RestrictedAction

__all__ = ["ActionEmbedding", "RestrictedAction"]

for _task in ("Hopper", "Walker2d", "InvertedPendulum", "InvertedDoublePendulum", "HalfCheetah", "Ant"):
    for _version in ("v4", "v5"):
        register(
            id=f"{_task}Restricted-{_version}",
            entry_point="sb3_savo.envs.restricted:make_restricted",
            kwargs={"env_id": f"{_task}-{_version}"},
            max_episode_steps=1000,
        )

register(id="MiningExpedition-v0", entry_point="sb3_savo.envs.mining:MiningExpedition", max_episode_steps=100)

for _id, _n_items in (("RecSim-v0", 10_000), ("RecSim100k-v0", 100_000), ("RecSim500k-v0", 500_000)):
    register(
        id=_id,
        entry_point="sb3_savo.envs.recsim:RecSim",
        kwargs={"n_items": _n_items},
        max_episode_steps=20,
    )

register(id="RecSimData-v0", entry_point="sb3_savo.envs.movielens:RecSimData", max_episode_steps=80)

for _name, _landscape, _action_dim, _n_peaks in (
    ("Peaks1D", "peaks", 1, 8),
    ("Peaks2D", "peaks", 2, 25),
    ("Peaks4D", "peaks", 4, 25),
    ("Peaks8D", "peaks", 8, 25),
    ("Ackley", "ackley", 2, 1),
    ("Rastrigin", "rastrigin", 2, 1),
    ("Shubert", "shubert", 2, 1),
):
    register(
        id=f"Landscape{_name}-v0",
        entry_point="sb3_savo.envs.landscapes:make_landscape",
        kwargs={"landscape": _landscape, "action_dim": _action_dim, "n_peaks": _n_peaks},
    )

register(id="LandscapeItems-v0", entry_point="sb3_savo.envs.landscapes:make_item_landscape")
