"""``precision`` asks the device for bfloat16 hardware."""

import inspect
import os
import subprocess
import sys
import warnings

import pytest
import torch as th

from sb3_savo.acceleration.bfloat16 import has_bfloat16_hardware
from tests.algorithms import ALGORITHMS
from tests.models import SMALL

WITH_PRECISION = [algorithm for algorithm in ALGORITHMS if "precision" in inspect.signature(algorithm).parameters]
CHOICE = "precision='auto' computes"


@pytest.mark.parametrize("in_hardware", [True, False], ids=["hardware", "none"])
@pytest.mark.parametrize("algorithm", WITH_PRECISION, ids=lambda algorithm: algorithm.__name__)
def test_precision_is_chosen_by_the_hardware(algorithm, in_hardware, monkeypatch, capsys):
    monkeypatch.setattr("sb3_savo.common.learning.has_bfloat16_hardware", lambda device: in_hardware)
    for precision in ("highest", "auto", "medium"):
        model = algorithm("MlpPolicy", "InvertedDoublePendulumRestricted-v5", precision=precision, verbose=1, **SMALL)
        for _ in range(2):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                model.learn(41)
            about = [warning for warning in caught if "has no hardware for bfloat16" in str(warning.message)]
            assert len(about) == (precision == "medium" and not in_hardware)
            printed = capsys.readouterr().out
            assert printed.count(CHOICE) == (precision == "auto")
            if precision == "auto":
                assert ("large layers in bfloat16" in printed) == in_hardware
            assert model.updater.uses_bfloat16 == (in_hardware and precision != "highest")
        assert model.precision == precision


@pytest.mark.parametrize("algorithm", WITH_PRECISION, ids=lambda algorithm: algorithm.__name__)
def test_without_hardware_nothing_differs(algorithm, monkeypatch):
    """Wide networks, which ``"medium"`` would change."""
    monkeypatch.setattr("sb3_savo.common.learning.has_bfloat16_hardware", lambda device: False)
    vectors = []
    for precision in ("highest", "auto", "medium"):
        kwargs = {**SMALL, "policy_kwargs": {"net_arch": [256, 256]}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = algorithm("MlpPolicy", "InvertedDoublePendulumRestricted-v5", precision=precision, **kwargs).learn(43)
        vectors.append(model.critic.parameter_vector.vector)
    assert th.equal(vectors[0], vectors[1]) and th.equal(vectors[0], vectors[2])


def test_a_processor_whose_instructions_are_hidden():
    """oneDNN, held to AVX2, has no bfloat16 product."""
    code = "import torch; from sb3_savo.acceleration import has_bfloat16_hardware as has; print(has(torch.device('cpu')))"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    if not has_bfloat16_hardware(th.device("cpu")):
        pytest.skip("this processor has no hardware for bfloat16")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_avx512_alone_emulates(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(th.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(th.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    for avx512, amx in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(th.cpu, "_is_avx512_bf16_supported", lambda answer=avx512: answer)
        monkeypatch.setattr(th.cpu, "_is_amx_tile_supported", lambda answer=amx: answer)
        assert has_bfloat16_hardware(th.device("cpu")) == (avx512 or amx)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(th.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert has_bfloat16_hardware(th.device("cpu"))
    monkeypatch.setattr(th.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not has_bfloat16_hardware(th.device("cpu"))


def test_gpus_are_asked(monkeypatch):
    for answer in (True, False):
        monkeypatch.setattr(th.cuda, "is_bf16_supported", lambda including_emulation, answer=answer: answer)
        assert has_bfloat16_hardware(th.device("cuda")) == answer
