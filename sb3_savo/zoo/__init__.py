"""The RL Zoo: the only code here that knows ``rl_zoo3``."""
