"""Each structure alone on its usual host: visible where its mask says? Renders with and without it, on one tone or six.

python benchmarks/structures.py [--only dots,scale] [--tones fst2] [--sheet docs/img/structures.png]

Median CIEDE2000 over the mask: against the same picture without the structure, and of the mask against a ring of
0.2 mm around it. Same noise in both pictures. For structures that depend on polarisation both types are measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab

from synthskin.dataset.encode import SOURCE_TYPES, png_bytes
from synthskin.draw import draw
from synthskin.physics import spectral
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import Preset, load_preset

RESULT = Path(__file__).with_name("results") / "structures.json"
SIZE = 256
NEVUS = ("lesion.diameter_mm=6", "lesion.heterogeneity=0.1", "lesion.globule_density_per_mm2=0",
         "lesion.network_strength=0.1", "lesion.junctional_melanin=0.25", "lesion.epidermal_melanin=0.04",
         "lesion.dermal_melanin=0", "lesion.regularity=0.8", "lesion.growth_time=1", "lesion.blood_factor=1.4")
FAINT = ("lesion.diameter_mm=6", "lesion.heterogeneity=0.1", "lesion.globule_density_per_mm2=0",
         "lesion.network_strength=0", "lesion.junctional_melanin=0.01", "lesion.epidermal_melanin=0.004",
         "lesion.dermal_melanin=0", "lesion.regularity=0.8", "lesion.growth_time=1", "lesion.blood_factor=1.6")
DARK = (*NEVUS[:4], "lesion.junctional_melanin=0.4", "lesion.epidermal_melanin=0.12", *NEVUS[6:])
KERATOSIS = (*NEVUS[:4], "lesion.junctional_melanin=0.03", "lesion.epidermal_melanin=0.12", *NEVUS[6:],
             "structures.acanthosis_thickness_um=35", "structures.acanthosis_keratin_um=15")
S = "structures."
GLABROUS = ("skin.dermatoglyph_spacing_mm=0.48", "skin.follicle_density_per_cm2=0")
#: attribute -> (diagnosis, host, numbers that make the structure, least CIEDE2000 asked for)
CASES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], float]] = {
    "pigment_network": ("NV", NEVUS, ("lesion.network_strength=0.95", "lesion.network_spacing_um=260"), 2.0),
    "atypical_pigment_network": ("MEL", NEVUS, ("lesion.network_strength=0.9", "lesion.network_spacing_um=280",
                                                S + "pigment_network_atypia=0.9"), 2.0),
    "negative_network": ("MEL", NEVUS, (S + "negative_network_strength=0.9",), 2.0),
    "globules": ("NV", NEVUS, ("lesion.globule_density_per_mm2=8", "lesion.globule_diameter_um=200"), 2.0),
    "dots": ("MEL", NEVUS, (S + "dots_density_per_mm2=4",), 1.0),
    "streaks": ("MEL", NEVUS, (S + "streaks_density_per_mm=1.6",), 2.0),
    "pseudopods": ("MEL", NEVUS, (S + "pseudopods_density_per_mm=1.2", S + "pseudopods_share=0.5"), 2.0),
    "blotch": ("MEL", NEVUS, (S + "blotch_strength=0.8",), 2.0),
    "blue_white_veil": ("MEL", NEVUS, (S + "blue_white_veil_strength=0.8",), 2.0),
    "regression": ("MEL", NEVUS, (S + "regression_strength=0.9",), 1.0),
    "peppering": ("MEL", FAINT, (S + "peppering_density_per_mm2=25",), 2.0),
    "parallel_ridge_pattern": ("MEL", (*NEVUS, *GLABROUS), (S + "parallel_ridge_strength=0.9",), 2.0),
    "parallel_furrow_pattern": ("NV", (*NEVUS, *GLABROUS), (S + "parallel_furrow_strength=0.9",), 2.0),
    "follicular_pigment": ("MEL", (*FAINT, "skin.follicle_density_per_cm2=180"),
                           (S + "follicular_pigment_strength=0.8",), 2.0),
    "milia_like_cyst": ("BKL", KERATOSIS, (S + "milia_like_cyst_density_per_mm2=0.6",), 1.0),
    "comedo_like_opening": ("BKL", KERATOSIS, (S + "comedo_like_opening_density_per_mm2=0.6",), 2.0),
    "fissures": ("BKL", KERATOSIS, (S + "fissures_strength=0.8",), 2.0),
    "scale": ("AKIEC", FAINT, (S + "scale_strength=0.8",), 1.0),
    "ulceration": ("BCC", FAINT, (S + "ulceration_strength=0.9",), 2.0),
    "central_white_patch": ("DF", NEVUS, (S + "central_white_patch_strength=0.9",), 1.0),
    "shiny_white_streaks": ("BCC", FAINT, (S + "shiny_white_streaks_density_per_mm2=2",), 2.0),
    "leaf_like_area": ("BCC", FAINT, (S + "leaf_like_area_count=5",), 2.0),
    "blue_grey_ovoid_nest": ("BCC", FAINT, (S + "blue_grey_ovoid_nest_count=6",), 2.0),
    "arborizing_vessels": ("BCC", FAINT, (S + "arborizing_vessels_density_per_mm=1.2",), 2.0),
    "dotted_vessels": ("AKIEC", FAINT, (S + "dotted_vessels_density_per_mm2=6",
                                        S + "dotted_vessels_diameter_um=80"), 1.0),
    "curved_vessels": ("NV", FAINT, (S + "curved_vessels_density_per_mm2=3", S + "curved_vessels_width_um=60"), 2.0),
    "red_lacunae": ("VASC", FAINT, (S + "red_lacunae_density_per_mm2=4",), 2.0),
    "red_pseudonetwork": ("AKIEC", (*FAINT, "skin.follicle_density_per_cm2=180"),
                          (S + "red_pseudonetwork_strength=0.8",), 2.0),
}
#: Seen with crossed polarisers alone, and hardly with them.
POLARISED, UNPOLARISED = ("shiny_white_streaks",), ("milia_like_cyst",)
CLEAN = ("hair.count=0", "hair.vellus_count=0", "camera.field_of_view_mm=11", "skin.plexus_vessel_density=0",
         "skin.melanin_mottle=0.03", "skin.blood_mottle=0.2", "lesion.centre_x_mm=0", "lesion.centre_y_mm=0")


def _preset(diagnosis: str, tone: str, sets: tuple[str, ...]) -> Preset:
    bare = load_preset("base").with_diagnosis("NV=1").with_tones(f"{tone}=1").with_sets((*CLEAN, *sets))
    return bare if diagnosis == "NV" else bare.with_diagnosis(f"{diagnosis}=1")


def _picture(engine: Engine, diagnosis: str, tone: str, sets: tuple[str, ...], index: int) -> Any:
    # every field of a variant that matters here is pinned by `sets`; the structures of the variant are switched off
    off = tuple(f"{key}=0" for key in OFF if not any(s.startswith(f"{key}=") for s in sets))
    return engine.render(draw(_preset(diagnosis, tone, (*off, *sets)), 0, index))


def _first_numbers() -> tuple[str, ...]:
    from synthskin.variants import STRUCTURES, structure_keys

    return tuple(k for name in STRUCTURES for k in structure_keys(name).values()
                 if k.startswith("structures.") and (k.endswith(("strength", "count")) or "_density_per_mm" in k
                                                     or k.endswith(("atypia", "rim", "keratin_um"))
                                                     or k == "structures.acanthosis_thickness_um"))


OFF = _first_numbers()


def picture_of(engine: Engine, name: str, tone: str, kind: str, index: int, there: bool = True) -> Any:
    """The host of structure `name` with it, or without."""
    diagnosis, host, numbers, _ = CASES[name]
    changed = {n.split("=")[0] for n in numbers}
    sets = (*(h for h in host if h.split("=")[0] not in changed), *numbers) if there else host
    return _picture(engine, diagnosis, tone, (f"camera.dermoscopic_type={kind}", *sets), index)


def measure(engine: Engine, name: str, tone: str, kind: str, index: int) -> dict[str, Any]:
    """Medians over the mask of `name`, with `kind` of dermoscopy."""
    there, gone = (picture_of(engine, name, tone, kind, index, with_it) for with_it in (True, False))
    mask = there.attributes.get(name)
    if mask is None or not mask.any():
        return {"pixels": 0, "picture": there.image}
    where = mask > 0
    lab_there, lab_gone = (rgb2lab(p.image) for p in (there, gone))
    against = spectral.ciede2000(lab_there[where], lab_gone[where])
    px = SIZE / 11.0
    near = ndimage.binary_dilation(where, iterations=max(1, round(0.2 * px))) & ~where
    ring = float("nan")
    if near.any():
        # each pixel of the mask against the mean of the ring around it
        weight = ndimage.gaussian_filter(near.astype(float), 0.2 * px)
        parts = (ndimage.gaussian_filter(np.where(near, lab_there[..., c], 0), 0.2 * px) for c in range(3))
        local = np.stack(list(parts), -1)
        local /= np.maximum(weight, 1e-9)[..., None]
        usable = where & (weight > 1e-3)
        if usable.any():
            ring = float(np.median(spectral.ciede2000(lab_there[usable], local[usable])))
    return {"pixels": int(where.sum()), "without": float(np.median(against)), "ring": ring, "picture": there.image,
            "shown": float(np.mean(against >= 2.0))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--tones", default="fst2")
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--spp", type=int, default=30)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    engine = Engine(RenderSettings(size_px=SIZE, spp=arguments.spp))
    rows: dict[str, Any] = {}
    sheet = []
    for name in arguments.only.split(","):
        kinds = ["contact polarized"]
        if name in UNPOLARISED:
            kinds = ["contact non-polarized", "contact polarized"]
        elif name in POLARISED:
            kinds = ["contact polarized", "contact non-polarized"]
        line, pictures = {}, []
        for tone in arguments.tones.split(","):
            for kind in kinds:
                found = measure(engine, name, tone, kind, arguments.index)
                if kind == kinds[0]:
                    pictures.append(found["picture"])
                line[f"{tone} {kind}"] = {k: round(v, 3) for k, v in found.items() if k != "picture"}
        asked = CASES[name][3]
        best = line[f"{arguments.tones.split(',')[0]} {kinds[0]}"].get("without", 0.0)
        rows[name] = {"asked": asked, **line}
        print(f"{name:26} asked {asked:3.1f} found {best:5.2f} {'' if best >= asked else 'BELOW'} {line}", flush=True)
        sheet.append(np.concatenate(pictures, axis=1))
    if arguments.sheet:
        arguments.sheet.write_bytes(png_bytes(np.concatenate([r[::2, ::2] for r in sheet]), SOURCE_TYPES["physics"]))
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    kept = {name: {**before.get(name, {}), **rows.get(name, {})} for name in CASES if name in before or name in rows}
    RESULT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
