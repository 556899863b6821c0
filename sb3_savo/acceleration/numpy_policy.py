"""Acting in NumPy: a policy's candidates and the choice between them, without torch's overhead of several calls per layer."""

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_savo.acceleration.blas_threads import on_one_thread
from sb3_savo.acceleration.numpy_networks import NumpyConditionedMLP, NumpyMLP, constant_row, supports_numpy
from sb3_savo.actions.candidates import perturb, pick
from sb3_savo.actions.spaces import EmbeddedDiscrete, proposal_space
from sb3_savo.networks.actors import Actors
from sb3_savo.networks.chain import ActorChain
from sb3_savo.networks.critics import CandidateCritic

Method = TypeVar("Method", bound=Callable[..., Any])
# From features, (batch, features_dim), to one proposal per actor, (n_actors, batch, action_dim) in [-1, 1]; a chain also takes
# noise of this shape, which its later actors see
Propose = Callable[..., np.ndarray]


class NumpyPolicy:
    """
    A policy whose actors propose, and whose first critic chooses, in NumPy, on the memory of torch's parameters.

    :param propose: The actors
    :param critic: The critics
    :param observation_space: Observation space
    :param action_space: The space of the proposals: the action space, or in a discrete space that of the embeddings, where the
        policy itself finds the items between :meth:`propose` and :meth:`maximize`
    :param noise_is_inside: Whether later actors see the noisy earlier actions, as those of a chain do in a discrete space
    """

    def __init__(
        self,
        propose: Propose,
        critic: CandidateCritic,
        observation_space: spaces.Box,
        action_space: spaces.Box,
        noise_is_inside: bool,
    ):
        self._propose = propose
        self.noise_is_inside = noise_is_inside
        self.q1 = NumpyMLP(critic.q_networks)
        self.observation_shape = observation_space.shape
        self.action_shape = action_space.shape
        self.features_dim = critic.features_dim
        self.action_dtype = action_space.dtype
        self.low, self.high = action_space.low.reshape(1, -1), action_space.high.reshape(1, -1)
        self.span = self.high - self.low

    def predict(self, observation: Any) -> tuple[np.ndarray, np.ndarray | None] | None:
        """
        :param observation: One observation or several
        :return: The maximizer's actions, as the environment takes them, and the candidates' Q-values, (n_candidates, batch),
            or None for a single candidate; None for an observation of another kind or shape
        """
        if not isinstance(observation, np.ndarray):
            return None
        is_single = observation.shape == self.observation_shape
        if not is_single and observation.shape[1:] != self.observation_shape:
            return None
        actions, q_values = on_one_thread(self._act, self._flatten(observation))
        actions = actions.reshape(-1, *self.action_shape)
        return actions[0] if is_single else actions, q_values

    def obs_to_tensor(self, observation: Any) -> tuple[PyTorchObs, bool]:
        """
        :param observation: Several observations, (batch, ...)
        :return: Their features, (batch, features_dim), and True for several
        """
        return th.from_numpy(self._flatten(observation)), True

    def propose(
        self, obs: Any, deterministic: bool = False, noise: th.Tensor | None = None, masks: th.Tensor | None = None
    ) -> th.Tensor:
        """
        :param obs: Features, (batch, features_dim)
        :param deterministic: Not used: these actors do not sample
        :param noise: Noise to add to the candidates, (batch, n_candidates, action_dim); None for no noise
        :param masks: Not used: the policy finds the items
        :return: Candidates, (batch, n_candidates, action_dim) in [-1, 1]
        """
        if noise is not None and self.noise_is_inside:
            noisy = on_one_thread(self._propose, obs.numpy(), noise.transpose(0, 1).numpy())
            return th.from_numpy(noisy).transpose(0, 1)
        return perturb(th.from_numpy(on_one_thread(self._propose, obs.numpy())).transpose(0, 1), noise)

    def maximize(self, obs: Any, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        :param obs: Features, (batch, features_dim)
        :param actions: Candidates, (batch, n_candidates, action_dim)
        :return: The action with the highest value, (batch, action_dim), its index, (batch, 1), and all values, (batch,
            n_candidates)
        """
        q_values = th.from_numpy(on_one_thread(self._q_values, obs.numpy(), actions.transpose(0, 1).numpy())).T
        picked = q_values.argmax(dim=1, keepdim=True)
        return pick(actions, picked), picked, q_values

    def _flatten(self, observations: np.ndarray) -> np.ndarray:
        return observations.reshape(-1, self.features_dim).astype(np.float32, copy=False)

    def _q_values(self, features: np.ndarray, actions: np.ndarray) -> np.ndarray:
        n_actions, batch, features_dim = len(actions), *features.shape
        inputs = np.empty((n_actions, batch, features_dim + actions.shape[2]), dtype=np.float32)
        inputs[:, :, :features_dim] = features
        inputs[:, :, features_dim:] = actions
        return self.q1(inputs.reshape(-1, inputs.shape[2])).reshape(n_actions, batch)

    def _act(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        proposals = self._propose(features)
        actions, q_values = proposals[0], None
        if len(proposals) > 1:
            q_values = self._q_values(features, proposals)
            actions = proposals[q_values.argmax(axis=0), np.arange(len(features))]
        # As the policy's ``unscale_action``
        actions = (actions + constant_row(1.0, actions.shape[1])) * constant_row(0.5, actions.shape[1])
        actions = actions.astype(np.result_type(np.float32, self.action_dtype), copy=False)
        actions *= self.span
        actions += self.low
        np.maximum(actions, self.low, out=actions)
        np.minimum(actions, self.high, out=actions)
        return actions.astype(self.action_dtype, copy=False), q_values


def has_numpy_twin(method: Method) -> Method:
    """
    Mark a policy's method that :class:`NumpyPolicy` computes too. A class that overrides a marked method acts by torch.

    :param method: The method
    :return: The method
    """
    method.has_numpy_twin = True  # type: ignore[attr-defined]
    return method


# NumPy policies, each with the networks and the memory that it was made for, and the hooks of the networks' modules
Entry = tuple[list[Any], list[dict[int, Any]], NumpyPolicy | None]
NUMPY_POLICIES: WeakKeyDictionary[BasePolicy, Entry] = WeakKeyDictionary()
NO_POLICY: Entry = ([], [], None)


def numpy_policy(policy: BasePolicy) -> NumpyPolicy | None:
    """
    :param policy: A policy with a critic, and perhaps actors
    :return: The policy in NumPy, or None where only torch will do: on a GPU, for images, other kinds of networks, …
    """
    # By _modules, since this is asked at every step and a module's attributes take their time
    actor: Any = policy._modules.get("actor")
    critic: Any = policy._modules["critic"]
    if actor is None:
        return None
    parameters = actor.parameter_vector.parameters + critic.parameter_vector.parameters
    current = [actor, critic._modules["q_networks"], *[parameter.data_ptr() for parameter in parameters]]
    made_for, hooks, result = NUMPY_POLICIES.get(policy, NO_POLICY)
    if made_for != current:
        result = make_numpy_policy(policy, actor, critic)
        hooks = [table for module in policy.modules() for table in (module._forward_pre_hooks, module._forward_hooks)]
        NUMPY_POLICIES[policy] = current, hooks, result
    # A hook has to be called, and may change what a layer computes
    return None if any(hooks) else result


def make_numpy_policy(policy: BasePolicy, actor: Any, critic: CandidateCritic) -> NumpyPolicy | None:
    """
    :param policy: A policy
    :param actor: Its actors
    :param critic: Its critics
    :return: The policy in NumPy, or None where only torch will do
    """
    methods = (getattr(type(policy), name) for name in ("propose", "maximize", "_predict"))
    observation_space, action_space = policy.observation_space, proposal_space(policy.action_space)
    is_flat = isinstance(observation_space, spaces.Box) and not is_image_space(observation_space)
    extractors = {type(network.features_extractor) for network in (actor, critic)}
    if (
        not is_flat
        or extractors != {FlattenExtractor}
        or not all(getattr(method, "has_numpy_twin", False) for method in methods)
        or type(critic) is not CandidateCritic
        or not supports_numpy(critic.q_networks)
        or type(actor) not in TRANSLATORS
    ):
        return None
    propose = TRANSLATORS[type(actor)](actor)
    if propose is None:
        return None
    noise_is_inside = isinstance(actor, ActorChain) and isinstance(policy.action_space, EmbeddedDiscrete)
    return NumpyPolicy(propose, critic, observation_space, action_space, noise_is_inside)  # type: ignore[arg-type]


def translate_actors(actors: Actors) -> Propose | None:
    """:return: The actors' forward pass in NumPy, or None where only torch will do"""
    if not supports_numpy(actors.mu):
        return None
    networks = [NumpyMLP(actors.mu, i) for i in range(actors.n_actors)]
    return lambda features: np.tanh(np.stack([network(features) for network in networks]))


def translate_chain(chain: ActorChain) -> Propose | None:
    """:return: The chain's forward pass in NumPy, or None where only torch will do"""
    if not supports_numpy(chain.mu, *([] if chain.nu is None else [chain.nu])):
        return None
    mu = NumpyMLP(chain.mu)
    n_first = chain.mu.output.output_dims[0] // chain.action_dim
    nu = None if chain.nu is None else NumpyConditionedMLP(chain.nu)

    def propose(features: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        proposals = np.empty((chain.n_actors, len(features), chain.action_dim), dtype=np.float32)

        def squash(outputs: np.ndarray, actors: slice) -> None:
            np.tanh(outputs, out=proposals[actors])
            if noise is not None:
                proposals[actors] += noise[actors]
                np.clip(proposals[actors], -1, 1, out=proposals[actors])

        squash(mu(features).reshape(len(features), n_first, chain.action_dim).swapaxes(0, 1), slice(n_first))
        if nu is not None:
            for i, outputs in enumerate(nu.outputs(features, proposals), start=1):
                squash(outputs, slice(i, i + 1))
        return proposals

    return propose


TRANSLATORS: dict[type, Callable[[Any], Propose | None]] = {Actors: translate_actors, ActorChain: translate_chain}
