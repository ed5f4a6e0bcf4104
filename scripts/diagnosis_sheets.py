"""Pictures of docs/diagnoses.md: each variant on light and on brown skin, each structure on six tones.

python scripts/diagnosis_sheets.py [diagnoses[:akiec,bkl]] [structures[:1]] [polarisation]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthskin.conventions import DIAGNOSES  # noqa: E402
from synthskin.draw import draw  # noqa: E402
from synthskin.physics.engine import Engine, RenderSettings  # noqa: E402
from synthskin.preset import load_preset  # noqa: E402

OUT = ROOT / "docs" / "img"
TONES = ("fst2", "fst5")
TILE = 176  # pixels of a structure's picture
#: Index of the sample of each variant that is shown: one with many of its structures, about 6 mm across.
INDEX = {
    "superficial_spreading": 11, "nodular": 30, "lentigo_maligna": 18, "hypomelanotic": 18, "acral_lentiginous": 36,
    "reticular": 16, "globular": 5, "growing": 36, "homogeneous": 29, "dermal": 22, "spitz_starburst": 20, "blue": 2,
    "acral": 33, "bcc_nodular": 25, "bcc_superficial": 13, "bcc_pigmented": 13, "actinic_keratosis": 35,
    "pigmented_actinic_keratosis": 17, "bowen": 35, "seborrhoeic_keratosis": 6, "pale_keratosis": 15,
    "solar_lentigo": 35, "lichenoid_keratosis": 31, "dermatofibroma": 22, "homogeneous_dermatofibroma": 6,
    "cherry_angioma": 21, "angiokeratoma": 2, "deep_haemangioma": 2,
}
SETS = ("hair.count=0", "hair.vellus_count=0", "camera.field_of_view_mm=10",
        "camera.dermoscopic_type=contact polarized", "lesion.centre_x_mm=0", "lesion.centre_y_mm=0")


def save(rows: list[list[np.ndarray]], path: Path, names: list[str]) -> None:
    """Tiles with a name over each column."""
    picture = Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
    pen = ImageDraw.Draw(picture)
    tile = rows[0][0].shape[0]
    for k, name in enumerate(names):
        pen.text((k * tile + 4, 2), name, fill=(20, 20, 20))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=88)
    print(path.relative_to(ROOT), f"{path.stat().st_size / 1e3:.0f} kB", flush=True)


def diagnoses(wanted: list[str]) -> None:
    engine = Engine(RenderSettings(size_px=192, spp=15))
    for diagnosis in wanted:
        preset = load_preset(diagnosis.lower())
        names = [variant.name for variant in preset.reachable]
        rows = []
        for tone in TONES:
            row = []
            for name in names:
                chosen = preset.with_sets(SETS).with_diagnosis(f"{diagnosis}/{name}=1").with_tones(f"{tone}=1")
                row.append(engine.render(draw(chosen, 0, INDEX.get(name, 0))).image)
            rows.append(row)
        save(rows, OUT / f"diagnosis_{diagnosis.lower()}.jpg", names)


def structures(part: int) -> None:
    """Half of the structures: a row each, a column a tone; rendered by benchmarks/structures.py, else here."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import structures as bench

    engine = None
    names = list(bench.CASES)
    names = names[:14] if part == 1 else names[14:]
    rows = []
    for name in names:
        path = bench.STRIPS / f"{name}.png"
        if path.exists():
            strip = Image.open(path)
        else:
            engine = engine or Engine(RenderSettings(size_px=bench.SIZE, spp=15))
            row = [engine.render(bench.record_of(name, f"fst{k}", bench.kind_of(name), 0)).image for k in range(1, 7)]
            strip = Image.fromarray(np.concatenate(row, axis=1))
            print(name, flush=True)
        rows.append(np.asarray(strip.resize((6 * TILE, TILE), Image.Resampling.LANCZOS)))
    head = np.full((16, 6 * TILE, 3), 255, np.uint8)
    picture = Image.fromarray(np.concatenate([head, *rows]))
    pen = ImageDraw.Draw(picture)
    for k in range(6):
        pen.text((k * TILE + 4, 2), f"fst{k + 1}", fill=(20, 20, 20))
    for k, name in enumerate(names):
        pen.text((4, 18 + k * TILE), name, fill=(20, 20, 20))
    path = OUT / f"structures_{part}.jpg"
    picture.save(path, quality=80)
    print(path.relative_to(ROOT), f"{path.stat().st_size / 1e3:.0f} kB", flush=True)


def polarisation() -> None:
    """Milia, pale plugs and shiny white streaks between crossed polarisers and without."""
    engine = Engine(RenderSettings(size_px=320))
    rows = []
    for kind in ("contact polarized", "contact non-polarized"):
        row = []
        milia, plugs = (f"structures.{name}_density_per_mm2" for name in ("milia_like_cyst", "comedo_like_opening"))
        for own, *numbers in (("BKL/seborrhoeic_keratosis", f"{milia}=0.6", f"{plugs}=0"),
                              ("BKL/seborrhoeic_keratosis", f"{milia}=0", f"{plugs}=1.2",
                               "structures.comedo_like_opening_oxidised=0.5"),
                              ("DF/dermatofibroma", "structures.shiny_white_streaks_density_per_mm2=3")):
            preset = load_preset("fst2").with_diagnosis(f"{own}=1").with_sets(
                ("hair.count=0", "camera.field_of_view_mm=9", f"camera.dermoscopic_type={kind}", *numbers))
            row.append(engine.render(draw(preset, 0, 0)).image)
        rows.append(row)
    names = ["milia-like cysts", "comedo-like openings, half of them dark", "shiny white streaks"]
    save(rows, OUT / "polarisation.jpg", names)


if __name__ == "__main__":
    for what in sys.argv[1:] or [*(f"diagnoses:{name}" for name in DIAGNOSES), "structures:1", "structures:2",
                                 "polarisation"]:
        kind, _, which = what.partition(":")
        if kind == "polarisation":
            polarisation()
        elif kind == "structures":
            for number in [int(which)] if which else [1, 2]:
                structures(number)
        else:
            diagnoses(which.upper().split(",") if which else list(DIAGNOSES))
