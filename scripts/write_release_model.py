"""
Keep a small model of this version, which later versions must load: ``python scripts/write_release_model.py``.

Writes ``tests/data/savo-VERSION.zip``, and beside it what the model knows, as JSON. A release needs both.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sb3_savo import SAVO

DATA = Path(__file__).parent.parent / "tests" / "data"
OBSERVATION = np.array([1.0, 0.0, 0.5], dtype=np.float32)


def main() -> None:
    path = DATA / f"savo-{version('sb3-savo')}.zip"
    if path.exists():
        raise SystemExit(f"{path} exists: the file of a released version is never written anew.")
    model = SAVO("MlpPolicy", "Pendulum-v1", learning_starts=20, policy_kwargs={"net_arch": [8, 8]}, seed=0, device="cpu")
    model.learn(60)
    model.save(path)
    action = model.predict(OBSERVATION, deterministic=True)[0]
    expected = {"num_timesteps": model.num_timesteps, "action": action.tolist()}
    path.with_suffix(".json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
