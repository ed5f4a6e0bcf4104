"""200 random faults against the writer: python benchmarks/chaos.py [--faults 200] [--seed 0]

Prints what struck and what was found, and writes benchmarks/results/chaos.json. Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from chaos import Campaign  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker-share", type=float, default=0.1, help="share of kills that meet a run with 2 workers")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as base:
        result = Campaign(Path(base), options.seed, options.worker_share).run(options.faults)
    found = {
        "faults struck": result.struck.total(), "by kind": dict(sorted(result.struck.items())),
        "tried": result.faults.total(), "invalid rows": result.invalid_rows, "lost samples": result.lost_samples,
        "damage not named": result.unnamed_damage, "not repaired": result.not_repaired,
        "wrong exits": result.wrong_exits, "notes": result.notes, "seed": options.seed,
        "seconds": round(time.monotonic() - started), "machine": f"{platform.machine()}, Python "
                                                                 f"{platform.python_version()}",
    }
    text = json.dumps(found, indent=2)
    print(text)
    (ROOT / "benchmarks/results/chaos.json").write_text(text + "\n")
    sys.exit(0 if result.clean else 1)


if __name__ == "__main__":
    main()
