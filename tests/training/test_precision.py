"""Half precision is used where a device is quick in it."""

import pytest
import torch

from vla_mbpo.training.precision import CPU, reduced


@pytest.mark.parametrize(("capability", "kind"), [("AVX512", torch.bfloat16), ("AVX2", torch.float32)])
def test_a_cpu_without_avx512_computes_in_whole_precision(monkeypatch, capability, kind):
    """Cloning made 1.5 observations a second there, emulating bfloat16, instead of 46."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    with reduced(CPU):
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == kind
