"""SAVO's networks by their definitions, one state and one actor at a time, for the slow references of the tests."""

import torch as th


def spread_out(model):
    """Move all weights well away from their initial values, so that the proposals, their order and the targets differ."""
    for parameter in model.policy.parameters():
        parameter.data += 0.3 * th.randn_like(parameter)


def propose(actor, s):
    """a_0 = μ(s), a_i = ν_i(s; a_<i), for one state of shape (1, obs_dim), without the stack."""
    actions = [th.tanh(actor.mu(s[None])[0])]
    for i in range(actor.n_actors - 1):
        actions.append(th.tanh(actor.nu(s[None], s, th.stack(actions, dim=1), slice(i, i + 1))[0]))
    return actions


def surrogate(model, i, s, a, earlier):
    """Ψ̂_i(s, a; a_<i) of one state, given exactly its i anchors."""
    net = model.surrogates.psi
    return net(th.cat([s, a], dim=1)[None], s, th.stack(earlier, dim=1), slice(i - 1, i))[0]


def q_min(model, s, a):
    """min(Q, Q_2)(s, a)."""
    return th.minimum(*model.critic(s, a))


def critic_pairs(own, theirs):
    """The parameters of our stacked critics, each beside its counterpart in SB3's ``ContinuousCritic``."""
    for i, q_network in enumerate(theirs.q_networks):
        linear = [layer for layer in q_network if isinstance(layer, th.nn.Linear)]
        for layer, reference in zip([*own.q_networks.hidden, own.q_networks.output], linear, strict=True):
            yield layer.weight.data[i], reference.weight.data.T
            yield layer.bias.data[i], reference.bias.data
