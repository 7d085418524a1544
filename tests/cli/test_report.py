"""`rms-deploy report`: a saved run again, and two of them compared for a script's exit code."""

from __future__ import annotations

import json

import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy

TEXT = '<ir_version: 8, opset_import: ["" : 18]> g (float[batch,8] x) => (float[batch,8] y) { y = Exp(x) }'
QUICK = ("--launches", "3", "--rounds", "2", "--duration", "0.02", "--warmup", "0", "--no-library", "--operator-times")


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory):
    """A real run, saved."""
    folder = tmp_path_factory.mktemp("run")
    onnx.save(onnx.parser.parse_model(TEXT), folder / "a.onnx")
    result = CliRunner().invoke(rms_deploy, ["bench", str(folder / "a.onnx"), *QUICK, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    (folder / "run.json").write_text(result.stdout)
    return folder / "run.json"


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, ["report", *map(str, arguments)], catch_exceptions=False)


def slower(run, path, factor):
    data = json.loads(run.read_text())
    latency = data["points"][0]["candidates"][0]["latency"]
    for name in ("median", "low", "high"):
        latency[name] *= factor
    path.write_text(json.dumps(data))
    return path


def test_a_run_is_shown_as_it_was(run):
    result = invoke(run)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split()[:2] == ["candidate", "median"]
    assert json.loads(invoke(run, "--json").stdout) == json.loads(run.read_text())
    assert invoke(run, "--csv").stdout.startswith("candidate,model,")


def test_the_page_of_a_run(run, tmp_path):
    pytest.importorskip("matplotlib", reason='needs matplotlib, of the extra "report"')
    result = invoke(run, "--html", tmp_path / "out.html")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Where the time goes" in (tmp_path / "out.html").read_text()


def test_two_runs(run, tmp_path):
    same = invoke(run, run)
    assert same.exit_code == 0
    assert same.stdout.splitlines()[-1] == "no regression beyond 5 % and beyond the noise of both runs"
    late = slower(run, tmp_path / "late.json", 1000)
    result = invoke(run, late)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].endswith("+99900.0 %  regression")
    assert invoke(late, run).exit_code == 0
    assert invoke(run, late, "--max-regression", "100000%").exit_code == 0
    assert json.loads(invoke(run, late, "--json").stdout)["regressed"]


def test_what_is_not_compared_is_no_success(run, tmp_path):
    data = json.loads(run.read_text())
    latency = data["points"][0]["candidates"][0]["latency"]
    latency.update(low=None, high=None, round_medians=latency["round_medians"][:2])
    (tmp_path / "few.json").write_text(json.dumps(data))
    result = invoke(run, tmp_path / "few.json")
    assert result.exit_code == 3
    assert "too few launches" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("not all candidates were compared; no regression")
    data["points"][0]["candidates"].append(json.loads(run.read_text())["points"][0]["candidates"][0] | {"name": "b"})
    data["points"][0]["candidates"][0]["latency"] = json.loads(run.read_text())["points"][0]["candidates"][0]["latency"]
    (tmp_path / "more.json").write_text(json.dumps(data))
    assert invoke(run, tmp_path / "more.json").exit_code == 3
    assert json.loads(invoke(run, tmp_path / "more.json", "--json").stdout)["undecided"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument"),
        (("RUN", "RUN", "RUN"), "3 runs were given"),
        (("RUN", "--html", "RUN"), "--html would take the place of the run; give another name"),
        (("RUN", "RUN", "--csv"), "two are compared as a table or as --json"),
        (("RUN", "RUN", "--max-regression", "much"), "'much' is no percentage; write it as 5%"),
        (("RUN", "RUN", "--max-regression=-1%"), "is no percentage"),
    ],
)
def test_wrong_usage(run, arguments, message):
    result = invoke(*(run if argument == "RUN" else argument for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_that_is_none_is_one_line(tmp_path):
    result = invoke(tmp_path / "missing.json")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'missing.json'}: cannot be read: No such file or directory\n"
