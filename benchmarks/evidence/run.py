"""The evidence: every experiment, its figures, its plot, and the page that shows them.

    python benchmarks/evidence/run.py [--quick] [--seeds N] [--jobs 2] [--data data] [--out docs/evidence] [E1 E4 ...]

A job is one arm of an experiment with one seed. What it found is a file below ``runs/evidence``, and a job whose file
is there is not run again; delete it to have it run again. ``--quick`` takes a fraction of the budgets, and shows that
everything works rather than what it achieves. A finished run of the default recipe is that of seed 0, and may be copied
to ``runs/evidence/full/seed-0``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

sys.path.append(str(Path(__file__).resolve().parents[1]))
import bench
import joblib
import torch
from common import FULL, QUICK, Budget, Experiment, Lab, Results

from crlsc_phy.errors import CrlscError
from crlsc_phy.files import write_text

MODULES = {
    "E1": "e1_labels",
    "E2": "e2_transfer",
    "E3": "e3_cost",
    "E4": "e4_kb_bytes",
    "E5": "e5_network",
    "E6": "e6_pictures",
    "E7": "e7_knowledge",
}
INTRODUCTION = Path(__file__).with_name("introduction.md")


def experiments(names: Sequence[str] = ()) -> dict[str, Experiment]:
    """Return the experiments of these names, all if none is given, in the order of their numbers."""
    return {name: cast(Experiment, import_module(MODULES[name])) for name in sorted(names or MODULES)}


def known(name: str) -> str:
    """Parse the name of an experiment."""
    if name not in MODULES:
        raise argparse.ArgumentTypeError(f"there is no experiment {name}; choose among {', '.join(MODULES)}")
    return name


def result_path(lab: Lab, name: str, seed: int, arm: str) -> Path:
    """Return the path of the result of a job."""
    return lab.folder / name / f"{arm}-{seed}.json"


def do_job(lab: Lab, name: str, seed: int, arm: str) -> None:
    """Run a job, unless its result is there."""
    path = result_path(lab, name, seed, arm)
    if path.exists():
        return
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    started, cpu = time.perf_counter(), time.process_time()
    found = experiments([name])[name].measure(lab, seed, arm)
    found |= {"wall_s": round(time.perf_counter() - started), "cpu_s": round(time.process_time() - cpu)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(found))
    print(f"{name} {arm}, seed {seed}: {found['wall_s']} s", flush=True)


def seeds_of(budget: Budget, experiment: Experiment) -> tuple[int, ...]:
    """Return the seeds that an experiment runs with."""
    return budget.seeds if experiment.REPEATED else budget.seeds[:1]


def run_all(lab: Lab, chosen: dict[str, Experiment], jobs: int) -> None:
    """Make knowledge bases first, then encoders, then run the jobs."""
    needs = sorted({need for experiment in chosen.values() for need in experiment.NEEDS})
    seeds = lab.budget.seeds
    if needs:
        for seed in seeds:
            lab.make_base(seed, jobs)
    with joblib.parallel_config("loky", n_jobs=jobs):
        joblib.Parallel()(joblib.delayed(lab.make)(seed, need) for need in needs for seed in seeds)
        joblib.Parallel()(
            joblib.delayed(do_job)(lab, name, seed, arm)
            for name, experiment in chosen.items()
            for seed in seeds_of(lab.budget, experiment)
            for arm in experiment.arms(lab)
        )


def results_of(lab: Lab, name: str, experiment: Experiment) -> Results:
    """Read the results of an experiment: by arm, one per seed."""
    seeds = seeds_of(lab.budget, experiment)
    return {
        arm: [json.loads(result_path(lab, name, seed, arm).read_text(encoding="utf-8")) for seed in seeds]
        for arm in experiment.arms(lab)
    }


def write_results(lab: Lab, chosen: dict[str, Experiment], out: Path) -> None:
    """Write the raw figures and the plot of each experiment."""
    out.mkdir(parents=True, exist_ok=True)
    for name, experiment in chosen.items():
        content: dict[str, Any] = {"machine": bench.machine(), "budget": vars(lab.budget)}
        results = results_of(lab, name, experiment)
        write_text(out / f"{name.lower()}.json", json.dumps(content | {"arms": results}, indent=1) + "\n")
        experiment.plot(lab, results, out / f"{name.lower()}.png")


def write_page(out: Path) -> None:
    """Write ``README.md`` from the raw figures that are there."""
    parts = [INTRODUCTION.read_text(encoding="utf-8").rstrip()]
    for name, experiment in experiments().items():
        path = out / f"{name.lower()}.json"
        if not path.exists():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        report = experiment.report(content["arms"], Budget(**content["budget"]))
        said = (experiment.__doc__ or "").strip().partition("\n\n")[2]
        repeated = _repetition(len(next(iter(content["arms"].values()))), experiment)
        figure = f"![{experiment.TITLE}]({name.lower()}.png)"
        parts.append(f"## {name}: {experiment.TITLE}\n\n{said}\n\n{repeated}\n\n{report}\n\n{figure}")
    write_text(out / "README.md", "\n\n".join(parts) + "\n")


def _repetition(seeds: int, experiment: Experiment) -> str:
    if not experiment.REPEATED:
        return "Nothing in it is random."
    if seeds == 1:
        return "**One seed so far**: the intervals are of test pictures alone."
    return f"{seeds} seeds; the intervals are of seeds and test pictures."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 2 if the user's input is wrong, or 0."""
    benchmark = bench.Benchmark(__file__, __doc__, seed=None, jobs=2, out=Path("docs/evidence"))
    benchmark.add("names", [], "experiments; all if none is named", nargs="*", metavar="EXPERIMENT", type=known)
    benchmark.add("--seeds", len(FULL.seeds), "number of seeds", quick=len(QUICK.seeds), type=bench.count)
    benchmark.add("--data", Path("data"), "folder that `crlsc-train data` filled")
    benchmark.add("--runs", Path("runs/evidence"), "folder of trained networks and results")
    benchmark.add("--bundle", Path("models/default"), "the shipped bundle")
    options = benchmark.parse(arguments)
    budget = replace(QUICK if options.quick else FULL, seeds=tuple(range(options.seeds)))
    out = options.out
    lab = Lab(budget, options.data, options.runs / budget.name, options.bundle)
    lab.folder.mkdir(parents=True, exist_ok=True)
    chosen = experiments(options.names)
    try:
        run_all(lab, chosen, options.jobs)
    except CrlscError as error:
        print(f"evidence: {error}", file=sys.stderr)
        return 2
    write_results(lab, chosen, out)
    write_page(out)
    print(f"wrote {out}/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
