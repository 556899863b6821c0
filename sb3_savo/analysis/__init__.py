"""What a landscape of values looks like, and how far a policy is below its top."""

from sb3_savo.analysis.landscape import highest_q

__all__ = ["highest_q"]
