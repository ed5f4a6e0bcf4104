"""The study `ssynth` at small scale, renders on renders under two camera profiles: self-consistency, no claim of gain.

    python benchmarks/study_ssynth.py --out benchmarks/results/study_ssynth.json [--renders DIR]
    python benchmarks/study_ssynth.py --pool DIR --out benchmarks/results/study_ssynth.json

The first renders what studies/ssynth.toml asks for under [small] (300 pictures of 64 pixels), trains its five arms with
three seeds each and writes what came out, within 15 minutes on 2 cores. The second takes the two cameras from one set
that is already rendered with all device profiles (DIR): one profile stands for the photographs, another for the
synthetic pictures; with fewer of them, the arms are smaller too. Figures of either say nothing about photographs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

from synthskin.bias.study import run_study
from synthskin.bias.study_file import Arm, Data, StudySpec, Use, load_study
from synthskin.cli_study import _make_data
from synthskin.dataset.reader import read_rows

REAL, SYNTHETIC = "dslr_dermoscope", "colourimetric"  # profiles of --pool


def of_a_pool(spec: StudySpec, pool: Path) -> StudySpec:
    """The same study on the pictures of two profiles of one set."""
    key = "params:device.profile"
    there = [json.loads(row["params"])["device"]["profile"] for row in read_rows(pool)]
    most = there.count(SYNTHETIC)
    data = {"real": Data(folder=str(pool), where={key: [REAL]}),
            "synthetic": Data(folder=str(pool), where={key: [SYNTHETIC]})}

    def arm(x: float | None, says: str, *uses: Use) -> Arm:
        return Arm(use=list(uses), x=x, says=says)

    few = Use(data="real", n=15)
    arms = {
        "real_15": arm(0.0, "15 'real' pictures", few),
        "mixed_30": arm(1.0, "and 15 synthetic", few, Use(data="synthetic", n=15)),
        f"mixed_{15 + most}": arm(round(most / 15, 1), "and all synthetic", few, Use(data="synthetic", n=most)),
        f"synthetic_{most}": arm(None, "synthetic alone", Use(data="synthetic", n=most)),
    }
    primary = spec.primary.model_copy(update={"arms": [f"mixed_{15 + most}", "real_15"]})
    return spec.model_copy(update={"data": data, "arms": arms, "primary": primary})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--renders", type=Path)
    parser.add_argument("--work", type=Path, help="folder of the study; kept, so that a run can be continued")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    spec = load_study("ssynth", small=True, sets=() if args.steps is None else (f"training.steps={args.steps}",))
    if args.pool:
        spec = of_a_pool(spec, args.pool)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch) / "study"
        given = {name: "given" for name, data in spec.data.items() if data.folder}
        places = _make_data(spec, Path(), given, args.renders or work / "data", "auto", None)
        rendered = time.monotonic()
        result = run_study(spec, places, work)
    cpu = os.times()
    results = result.results
    main_rows = [e for e in results["tests"]["real"]["estimates"] if e["metric"] == "dice"]

    def row(e):
        return {k: (round(v, 4) if isinstance(v, float) else v) for k, v in e.items()
                if k in ("arm", "of", "group", "estimate", "low", "high", "p", "p_holm", "detectable", "note") and (
                    v is not None and v == v and v != "")}

    found = {
        "what": "self-consistency, no claim of gain: renders under one camera profile stand for the photographs",
        "heading": results["tests"]["real"]["heading"],
        "cameras": [REAL, SYNTHETIC] if args.pool else ["phone_dermoscope", "colourimetric"],
        "pictures": {name: data["pictures"] for name, data in results["data"].items()}, "split": results["split"],
        "steps": spec.training.steps, "seeds": spec.seeds, "size_px": spec.size_px,
        "primary": {"what": results["primary"]["what"], **row(results["primary"])},
        "dice": [row(e) for e in main_rows],
        "comparisons": [{"what": c["what"], **row(c)} for c in results["comparisons"]],
        "seconds": {"rendering": round(rendered - started, 1), "all": round(time.monotonic() - started, 1),
                    "processor": round(cpu.user + cpu.system + cpu.children_user + cpu.children_system, 1)},
        "cores": os.cpu_count(), "python": platform.python_version(), "trainings": result.made,
    }
    print(json.dumps(found["primary"], indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
