import os
import sys
from pathlib import Path

# One thread, here and in the processes that tests start: sums, and so the bytes that are compared, depend on how many.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # `standin` must be importable, also by worker processes

settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")

OWN = """
name = "own"
description = "for tests"
[diagnosis]
NV = 3
healthy = 1
[fields."skin.melanosome_fraction"]
uniform = [0.30, 0.43]
source = "test"
[fields."skin.blood_fraction"]
log_uniform = [0.002, 0.05]
source = "test"
[fields."skin.oxygenation"]
normal = [0.75, 0.1, 0.5, 0.95]
source = "test"
[fields."hair.count"]
integer = [0, 12]
zero_probability = 0.2
source = "test"
[fields."camera.dermoscopic_type"]
choice = { "contact polarized" = 0.7, "contact non-polarized" = 0.3 }
source = "test"
"""


@pytest.fixture
def own_path(tmp_path):
    """A preset file outside the package, with every law in it."""
    path = tmp_path / "own.toml"
    path.write_text(OWN, encoding="utf-8")
    return path
