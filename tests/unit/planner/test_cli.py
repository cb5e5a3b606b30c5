"""``cycleops plan`` on files, as a user runs it."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from cycleops.cli.main import app
from tests.unit.planner.generation.profiles import generation_profile
from tests.unit.planner.profiles import profile

EXAMPLES = Path(__file__).parents[3] / "examples"
VARIANTS = (("fp32", 0.008, 0.75), ("bf16", 0.005, 0.749), ("int8", 0.004, 0.745), ("pruned30-int8", 0.003, 0.72))


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    """Two profiles in a file of their own, two as a list in JSON."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    items = [
        {
            "apiVersion": "cycleops.dev/v1alpha1",
            "kind": "CycleProfile",
            "metadata": {"name": f"p-{name}", "namespace": "demo"},
            "spec": profile(name, base_seconds=seconds, accuracy=accuracy, batch_sizes=(1, 8)).to_dict(),
        }
        for name, seconds, accuracy in VARIANTS
    ]
    for item in items[:2]:
        (folder / f"{item['metadata']['name']}.yaml").write_text(yaml.safe_dump(item))  # type: ignore[index]
    (folder / "rest.json").write_text(json.dumps({"kind": "List", "items": items[2:]}))
    return folder


def invoke(profiles: Path, *more: str, hardware: Path | None = None) -> Result:
    arguments = ["plan", "-f", str(EXAMPLES / "cycleservice.yaml"), "--profiles", str(profiles)]
    arguments += ["--hardware", str(hardware or EXAMPLES / "hardwareclass.yaml")]
    return CliRunner().invoke(app, [*arguments, *more], env={"COLUMNS": "160"})


def test_the_example_is_planned(profiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out/plan.json"
    result = invoke(profiles, "--json", str(out))
    assert result.exit_code == 0, result.output
    assert "Plan" in result.output
    assert "BelowAccuracyFloor" in result.output
    content = json.loads(out.read_text())
    assert content["feasible"] is True
    assert content["plan"]["variant"] == "fp32"
    assert content["plan"]["predicted"]["p99_ms"] < 80


def test_what_if(profiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    result = invoke(profiles, "--what-if", "rate=30x,p95=40ms", "--json", str(out))
    assert result.exit_code == 0, result.output
    assert "p95 of T within 40 ms; 600 requests/s" in result.output
    content = json.loads(out.read_text())
    assert content["plan"]["predicted"]["percentile"] == 95
    assert content["plan"]["replicas"] > 1


def test_infeasible_says_the_nearest_and_exits_with_1(profiles: Path) -> None:
    result = invoke(profiles, "--what-if", "p99=8ms")
    assert result.exit_code == 1
    assert "Nearest feasible" in result.output
    assert "LatencyFloor" in result.output


@pytest.mark.parametrize("suffix", [".html", ".png"])
def test_plot(profiles: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pareto{suffix}"
    assert invoke(profiles, "--plot", str(path)).exit_code == 0
    head = path.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<html" in head


@pytest.mark.parametrize(
    ("what_if", "word"),
    [
        ("speed=2x", "speed"),
        ("rate", "name=number"),
        ("rate=fast", "name=number"),
        ("rate=5ms", "rate"),
        ("p999=50ms", "percentile"),
        ("replicas=0", "replicas"),
        ("loss=2x", "loss"),
        ("zones=1", "zones"),
    ],
)
def test_what_if_that_is_not_understood_is_named(profiles: Path, what_if: str, word: str) -> None:
    result = invoke(profiles, "--what-if", what_if)
    assert result.exit_code == 2
    assert word in result.output


def test_bad_files_are_named(profiles: Path, tmp_path: Path) -> None:
    (profiles / "broken.yaml").write_text("kind: [")
    assert "broken.yaml" in invoke(profiles).output
    (profiles / "broken.yaml").unlink()
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    missing = invoke(profiles, hardware=empty)
    assert missing.exit_code == 2
    assert "cpu-small" in missing.output
    item = yaml.safe_load((profiles / "p-fp32.yaml").read_text())
    item["spec"]["threads"] = 0
    (profiles / "p-fp32.yaml").write_text(yaml.safe_dump(item))
    wrong = invoke(profiles)
    assert wrong.exit_code == 2
    assert "spec.threads" in wrong.output


def test_profiles_of_two_models_are_not_mixed(profiles: Path) -> None:
    item = yaml.safe_load((profiles / "p-fp32.yaml").read_text())
    item["spec"]["modelDigest"] = "sha256:" + "1" * 64
    (profiles / "other.yaml").write_text(yaml.safe_dump(item))
    result = invoke(profiles)
    assert result.exit_code == 2
    assert "2 models" in result.output


def test_headroom_costs_a_replica(profiles: Path, tmp_path: Path) -> None:
    replicas = []
    for what_if in ("rate=10x", "rate=10x,loss=1", "rate=10x,zones=2", "rate=10x,loss=0"):
        out = tmp_path / "plan.json"
        assert invoke(profiles, "--what-if", what_if, "--json", str(out)).exit_code == 0
        replicas.append(json.loads(out.read_text())["plan"]["replicas"])
    alone, loss, zones, none = replicas
    assert loss == alone + 1
    assert zones >= loss
    assert none == alone


def simulate(profiles: Path, plan: Path, trace: Path, *more: str) -> Result:
    arguments = ["simulate", "-f", str(EXAMPLES / "cycleservice.yaml"), "--profiles", str(profiles)]
    arguments += ["--hardware", str(EXAMPLES / "hardwareclass.yaml"), "--plan", str(plan), "--trace", str(trace)]
    return CliRunner().invoke(app, [*arguments, *more], env={"COLUMNS": "160"})


def test_a_trace_is_replayed_against_a_plan(profiles: Path, tmp_path: Path) -> None:
    """Rates of 20 and 500: the plan for 20 holds the first and not the second, which ten replicas do."""
    plan, trace, out, picture = (tmp_path / name for name in ("plan.json", "trace.csv", "out.json", "out.png"))
    assert invoke(profiles, "--json", str(plan)).exit_code == 0
    trace.write_text("seconds,requestsPerSecond\n0,20\n60,500\n120,20\n180,20\n")
    result = simulate(profiles, plan, trace, "--json", str(out), "--plot", str(picture))
    assert result.exit_code == 1, result.output
    assert "above the budget of 80 ms" in result.output
    windows = json.loads(out.read_text())["windows"]
    assert [w["requests_per_second"] for w in windows] == pytest.approx([20, 500, 20, 20], rel=0.15)
    assert windows[0]["within"] > 0.99
    assert windows[1]["within"] < 0.5
    assert windows[0]["utilization"] < 0.5 < windows[1]["utilization"] <= 1.001
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert simulate(profiles, plan, trace, "--replicas", "10").exit_code == 0


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("time\n1\n2\n", "header"),
        ("seconds\n1\nx\n", "trace.csv:3"),
        ("seconds,requestsPerSecond\n0,5\n0,5\n", "rise"),
        ("seconds,requestsPerSecond\n0,5\n1e9,5\n", "at most"),
        ("seconds\n1\n", "two lines"),
    ],
)
def test_a_trace_that_is_not_understood_is_named(profiles: Path, tmp_path: Path, text: str, word: str) -> None:
    plan, trace = tmp_path / "plan.json", tmp_path / "trace.csv"
    assert invoke(profiles, "--json", str(plan)).exit_code == 0
    trace.write_text(text)
    result = simulate(profiles, plan, trace)
    assert result.exit_code == 2
    assert word in result.output.replace("\n", "")


def test_a_plan_that_is_none_is_named(profiles: Path, tmp_path: Path) -> None:
    plan, trace = tmp_path / "plan.json", tmp_path / "trace.csv"
    trace.write_text("seconds\n1\n2\n")
    assert invoke(profiles, "--what-if", "p99=8ms", "--json", str(plan)).exit_code == 1
    result = simulate(profiles, plan, trace)
    assert result.exit_code == 2
    assert "plan --json" in result.output.replace("\n", " ")


def test_crds_are_written(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["crds", str(tmp_path)]).exit_code == 0
    assert len(list(tmp_path.glob("*.yaml"))) == 4
    assert CliRunner().invoke(app, ["crds", str(tmp_path), "--check"]).exit_code == 0


@pytest.fixture
def generating(tmp_path: Path) -> tuple[Path, Path]:
    """A service whose model generates, and its profiles."""
    folder = tmp_path / "generating"
    folder.mkdir()
    for name, seconds in (("fp32", 0.01), ("int8", 0.006)):
        item = {
            "apiVersion": "cycleops.dev/v1alpha1",
            "kind": "CycleProfile",
            "metadata": {"name": f"p-{name}", "namespace": "demo"},
            "spec": generation_profile(name, base_seconds=seconds).to_dict(),
        }
        (folder / f"p-{name}.yaml").write_text(yaml.safe_dump(item))
    service = yaml.safe_load((EXAMPLES / "cycleservice.yaml").read_text())
    service["spec"]["budget"] = {
        "latency": {"percentile": 95, "milliseconds": 5000},
        "generation": {"firstTokenMilliseconds": 400},
    }
    service["spec"]["traffic"] = {
        "requestsPerSecond": 2,
        "inputTokens": {"p50": 60, "p99": 300},
        "outputTokens": {"p50": 40, "p99": 120},
    }
    file = tmp_path / "service.yaml"
    file.write_text(yaml.safe_dump(service))
    return file, folder


def test_a_model_that_generates(generating: tuple[Path, Path], tmp_path: Path) -> None:
    service, folder = generating
    out = tmp_path / "plan.json"
    arguments = ["plan", "-f", str(service), "--profiles", str(folder), "--json", str(out)]
    arguments += ["--hardware", str(EXAMPLES / "hardwareclass.yaml")]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    for text in ("first token within 400 ms", "At once", "to first token at p95", "per token at p95"):
        assert text in result.output
    before = json.loads(out.read_text())["plan"]["predicted"]
    what_if = "ttft=200ms,tpot=30ms,output=2x,input=0.5x"
    result = CliRunner().invoke(app, [*arguments, "--what-if", what_if], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "answers of 80 (p50) to 240 (p99) tokens" in result.output
    assert "inputs of 30 (p50) to 150 (p99) tokens" in result.output
    after = json.loads(out.read_text())["plan"]["predicted"]
    assert after["generation"]["first_token"]["sized_at_ms"] <= 200
    assert after["generation"]["per_token"]["sized_at_ms"] <= 30
    assert after["p50_ms"] > before["p50_ms"]
    result = CliRunner().invoke(app, [*arguments, "--what-if", "tpot=2x"], env={"COLUMNS": "160"})
    assert result.exit_code == 2
    assert "budget.generation.perTokenMilliseconds" in result.output
