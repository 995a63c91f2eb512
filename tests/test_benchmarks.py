"""The runner that all benchmarks share, and that they import what the package has."""

import ast
import json
from pathlib import Path

import bench
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def defined(module):
    """Return the names that a module of the package defines or imports, without running it."""
    path = ROOT.joinpath(*module.split("."))
    names = {each.stem for each in path.glob("*")}
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom() | ast.Import():
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_of_the_package_is_there(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("crlsc_phy", "gr_blocks"):
            assert {alias.name for alias in node.names} <= defined(node.module), node.module


def make(tmp_path, *arguments):
    benchmark = bench.Benchmark("benchmarks/some.py", "Some text.", jobs=2)
    benchmark.add("--bursts", 1000, "bursts", quick=10)
    benchmark.parse(["--out", str(tmp_path / "new" / "some.json"), *arguments])
    return benchmark


def test_a_quick_run_is_small_and_keeps_off_the_published_results():
    benchmark = bench.Benchmark("benchmarks/some.py", "Some text.")
    benchmark.add("--bursts", 1000, "bursts", quick=10)
    whole, quick = benchmark.parse([]), benchmark.parse(["--quick"])
    assert (whole.bursts, whole.out) == (1000, Path("benchmarks/results/some.json"))
    assert (quick.bursts, quick.out) == (10, Path("out/results/some.json"))
    assert benchmark.few(range(10)) == [0, 9]
    assert benchmark.few("ab", 3) == ["a", "b"]


def test_an_argument_that_is_given_counts_in_a_quick_run(tmp_path):
    assert make(tmp_path, "--quick", "--bursts", "77").options.bursts == 77


def test_a_whole_run_takes_all_values(tmp_path):
    assert make(tmp_path).few(range(10)) == list(range(10))


@pytest.mark.parametrize("jobs", ["0", "1.5", "two"])
def test_a_number_of_processes_that_cannot_be_is_refused(jobs, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        make(tmp_path, "--jobs", jobs)
    assert stop.value.code == 2
    assert f"{jobs!r} is not a whole number from 1 on" in capsys.readouterr().err


def test_the_result_file_says_how_it_came_about(tmp_path):
    benchmark = make(tmp_path, "--seed", "7")
    assert benchmark.earlier() == {}
    benchmark.write({"rows": [1]})
    content = json.loads(benchmark.options.out.read_text())
    assert list(content) == ["command", "machine", "seed", "quick", "rows"]
    assert (content["seed"], content["quick"], content["rows"]) == (7, False, [1])
    assert content["machine"]["versions"]["numpy"] == np.__version__
    assert content["machine"].keys() >= {"processor", "cores", "python", "date"}
    assert benchmark.earlier() == {"rows": [1]}
    assert [path.name for path in benchmark.options.out.parent.iterdir()] == ["some.json"]


def test_workers_answer_in_the_order_of_their_jobs(tmp_path):
    assert make(tmp_path).run(abs, range(-5, 0), "jobs") == [5, 4, 3, 2, 1]


def test_a_command_that_serves_is_ended_with_the_block(tmp_path):
    script = tmp_path / "served_once.py"
    script.write_text("import json, os, time\nprint(json.dumps({'pid': os.getpid()}), flush=True)\ntime.sleep(600)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        with bench.served("served_once") as told:
            assert Path(f"/proc/{told['pid']}").exists()
    assert not Path(f"/proc/{told['pid']}").exists()


def test_error_bars_reach_from_the_values_to_their_intervals():
    assert bench.error_bars([0.5, 0.0], [(0.4, 0.7), (0.0, 0.2)], 0.1) == pytest.approx(
        np.array([[0.1, 0], [0.2, 0.1]])
    )
