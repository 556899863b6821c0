"""
Run a policy without sb3-savo, SB3 or torch: ``python examples/export.py [STEPS]``. Needs ``pip install 'sb3-savo[export]'``.
"""

import sys

import numpy as np
import onnxruntime

from sb3_savo import SAVO
from sb3_savo.export import export_policy

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
model = SAVO("MlpPolicy", "LandscapeItems-v0", 1e-3, gamma=0.0, policy_kwargs={"net_arch": [64, 64]}, seed=0)
model.learn(steps)

path = export_policy(model, "items.onnx")
print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")

# This part needs onnxruntime and NumPy only
session = onnxruntime.InferenceSession(path)
observations = np.random.default_rng(0).uniform(-1, 1, (5, 4)).astype(np.float32)
(items,) = session.run(None, {"observation": observations})
print("Items by ONNX:   ", items)
print("Items by predict:", model.predict(observations, deterministic=True)[0])
