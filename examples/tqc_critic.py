"""
SAVO's actors over the critic of TQC (sb3-contrib): ``python examples/tqc_critic.py [STEPS]``.

Each network of the critic learns quantiles of the return, and the value of an action is their mean. The target leaves out the
highest quantiles, which are the most likely to be overestimated.
"""

import sys

from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_savo import SAVO
from sb3_savo.networks.critics import CandidateCritic
from sb3_savo.savo.policies import SAVOPolicy

N_QUANTILES = 25
N_DROPPED = 2  # highest quantiles that a target leaves out, per network


class QuantileCritic(CandidateCritic):
    n_outputs = N_QUANTILES

    def quantiles(self, obs, actions):
        """:return: The quantiles of the return of one action per observation, (batch, n_critics, N_QUANTILES)"""
        return self.outputs(self.features(obs), actions.unsqueeze(1)).squeeze(1).transpose(0, 1)

    def to_values(self, outputs):
        return outputs.mean(dim=-1)

    def q1(self, obs, actions):
        # TQC's actor ascends the mean over all networks
        return self.evaluate(obs, actions).mean(dim=0)


class QuantilePolicy(SAVOPolicy):
    critic_class = QuantileCritic


class QuantileSAVO(SAVO):
    def min_target_q_values(self, obs, actions):
        """:return: All target networks' quantiles but the highest, (batch, n_critics * (N_QUANTILES - N_DROPPED))"""
        quantiles = self.critic_target.quantiles(obs, actions).flatten(1).sort(dim=1).values
        return quantiles[:, : quantiles.shape[1] - N_DROPPED * self.critic.n_critics]

    def critic_loss(self, batch):
        targets, metrics = self.target_q_values(batch)
        current = self.critic.quantiles(batch.observations, batch.actions)
        loss = quantile_huber_loss(current, targets.unsqueeze(1), sum_over_quantiles=False)
        return loss, {**metrics, "q_mean": current.detach().mean()}


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    model = QuantileSAVO(QuantilePolicy, "Pendulum-v1", 1e-3, learning_starts=min(1_000, steps // 2), seed=0)
    model.learn(steps)
    mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
    print(f"Return over 10 episodes: {mean:.0f} ±{std:.0f}")
