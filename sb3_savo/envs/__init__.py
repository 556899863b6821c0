"""The environments. Importing this package registers them with Gymnasium."""

import gymnasium.envs.registration

from sb3_savo.actions.embedding import ActionEmbedding
from sb3_savo.envs.registration import register_environments
from sb3_savo.envs.restricted import RestrictedAction

__all__ = ["ActionEmbedding", "RestrictedAction"]

# The startup hook has registered them already, unless Python was started without it (``python -S``)
register_environments(gymnasium.envs.registration)
