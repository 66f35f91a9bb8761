"""All models of a stack fit the machine together, or the one that does not is named before anything starts."""

import pytest

from vla_mbpo.bringup import Options, graph
from vla_mbpo.cli import main
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.engines import budget
from vla_mbpo.engines.budget import MB, check, needs, parse

BOTH = Options(world_model="world_model", detector="detector_full")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    found = {"vram": 0, "memory": 8000 * MB, "threads": 2}
    monkeypatch.setattr(budget, "available", lambda: found)
    return found


def test_what_is_shipped_fits_a_small_machine():
    found = check(graph("sim_panda", BOTH))
    names = [need.model.split(" ")[0] for need in found]
    assert names == ["policy", "imagination", "imagination", "failure_detector"]
    assert sum(need.memory for need in found) < 1500 * MB and all(need.vram == 0 for need in found)


def test_the_model_that_no_longer_fits_is_named_with_the_budget():
    first, second, *_ = check(graph("sim_panda", BOTH))
    most = (first.memory + second.memory) // MB - 1
    words = f"imagination \\(world_model\\): .* MB of memory.*budget is {most} MB.*before it take"
    with pytest.raises(ConfigError, match=words):
        check(graph("sim_panda", BOTH), f"memory={most}")
    check(graph("sim_panda"), f"memory={most}")


def test_in_a_container_what_the_page_cache_holds_is_free(tmp_path, monkeypatch):
    """Incident (review): after hours of recording a stack was refused for want of memory that was all cache."""
    monkeypatch.setattr(budget, "GROUP", tmp_path)
    for name, text in (
        ("memory.max", "1000\n"),
        ("memory.current", "990\n"),
        ("memory.stat", "anon 90\ninactive_file 900\n"),
    ):
        (tmp_path / name).write_text(text)
    assert budget._memory() == 910
    (tmp_path / "memory.max").write_text("max\n")
    assert budget._memory() > 10**6


def test_threads_are_counted_together():
    specs = graph("sim_panda", Options(world_model="world_model", overrides={"policy": {"threads": 2}}))
    with pytest.raises(ConfigError, match=r"imagination \(world_model\): '1 processor cores'.*budget is 2"):
        check(specs)
    check(specs, "threads=3")


def test_without_dreams_there_is_no_second_process():
    options = Options(world_model="world_model", overrides={"imagination": {"dream_period": 0.0}})
    assert len(check(graph("sim_panda", options))) == 2


def test_a_provider_that_cannot_be_had_is_refused_before_the_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VLA_MBPO_HOME", str(tmp_path))
    assert main(["up", "--headless", "--task", "press the button", "--set", "policy.provider=tensorrt"]) == 64
    said = capsys.readouterr().err
    assert "policy.provider: 'tensorrt'" in said and "no NVIDIA driver" in said


def test_a_budget_on_the_command_line_is_kept(capsys):
    assert main(["up", "--headless", "--task", "press the button", "--budget", "memory=100"]) == 64
    assert "policy (sft_full)" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["vram", "vram=", "vram=-1", "gpu=3", "memory=1.5", "threads=two"])
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="--budget"):
        parse(text)


def test_gpu_memory_counts_engines_scratch_and_context(gpu, cache, tiny_bundle, machine, monkeypatch):
    from vla_mbpo.engines.pipeline import Plan, compile_bundle
    from vla_mbpo.policy.bundle import Bundle

    plan = Plan("tensorrt_rtx", ("SM89",), device=gpu.device(), cache=cache, say=lambda _: None)
    compile_bundle(Bundle.load(tiny_bundle), plan)
    monkeypatch.setenv("VLA_MBPO_HOME", str(cache.folder.parent))
    machine["vram"] = gpu.device().free
    (policy,) = [spec for spec in graph("sim_panda", Options(bundle=str(tiny_bundle))) if spec.name == "policy"]
    (need,) = needs(policy)
    engines = sum(file.stat().st_size for file in cache.folder.glob("*/*.engine")) // 2  # fp16 of fp32 and fp16
    assert budget.CONTEXT < need.vram < budget.CONTEXT + 2 * engines + MB * 10
    with pytest.raises(ConfigError, match=r"policy \(tiny\): '\d+ MB of GPU memory'.*budget is 300 MB"):
        check([policy], "vram=300")
