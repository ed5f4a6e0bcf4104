"""Each structure alone on its usual host: visible where its mask says? Of what size? Does its label tell the truth?

python benchmarks/structures.py [--only dots,scale] [--tones fst1,fst2,fst3,fst4,fst5,fst6] [--index 0]
python benchmarks/structures.py --sizes       python benchmarks/structures.py --labels
python benchmarks/structures.py --only milia_like_cyst,shiny_white_streaks --paths 1200
python benchmarks/structures.py --table docs/diagnoses.md

Renders with and without it, same noise in both, on one tone or six. `without` is the median CIEDE2000 over the mask
against the same picture without the structure, `ring` that of the mask against a ring of 0.2 mm around it, `label` what
the row says (attributes_delta_e). For structures that depend on polarisation both types are measured. --sizes measures
footprints against what is cited; --paths renders with that many, without a denoiser, and tells CIEDE2000 of the mean
colour of each footprint (median over those of six pixels or more): noise neither hides nor makes a difference there.
--labels makes the labels of results on disk again, without renders; --table writes both tables into a page. Other
lesions than the first (--index) are printed and not kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab

from synthskin.draw import draw
from synthskin.physics import spectral
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.physics.lesion.structures import grow
from synthskin.preset import Preset, load_preset

RESULT = Path(__file__).with_name("results") / "structures.json"
SIZES = Path(__file__).with_name("results") / "structure_sizes.json"
SIZE, VIEW_MM = 160, 8.25
#: Where pictures of all six tones are left for scripts/diagnosis_sheets.py.
STRIPS = Path(__file__).resolve().parent.parent / "out" / "structures"
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
#: attribute[:kind of it] -> (diagnosis, host, numbers that make the structure, least CIEDE2000 asked for)
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
    "comedo_like_opening": ("BKL", KERATOSIS, (S + "comedo_like_opening_density_per_mm2=0.6",
                                               S + "comedo_like_opening_oxidised=0"), 2.0),
    "comedo_like_opening:oxidised": ("BKL", KERATOSIS, (S + "comedo_like_opening_density_per_mm2=0.6",
                                                        S + "comedo_like_opening_oxidised=1"), 2.0),
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
#: attribute -> (what is measured, least and most um, source). `spot`: diameter of the disc of a footprint's area;
#: `line`: twice the distance of its middle line to its edge.
LIMITS: dict[str, tuple[str, float, float, str]] = {
    "globules": ("spot", 100, 400, "Argenziano 2003: over 0.1 mm"),
    "dots": ("spot", 20, 100, "Argenziano 2003: under 0.1 mm"),
    "peppering": ("spot", 20, 100, "Argenziano 2003: as dots"),
    "milia_like_cyst": ("spot", 100, 1000, "Braun 2002: 0.1-1 mm"),
    "comedo_like_opening": ("spot", 100, 1000, "Braun 2002: up to 1 mm"),
    "red_lacunae": ("spot", 100, 1500, "Wolf 1998; Zaballos 2007"),
    "dotted_vessels": ("spot", 10, 150, "Argenziano 2004: 0.01-0.02 mm, glomerular 0.05-0.15 mm"),
    "arborizing_vessels": ("line", 10, 200, "Argenziano 2004: ends 0.01 mm, stems 0.2 mm"),
    "curved_vessels": ("line", 20, 80, "Argenziano 2004: 0.03-0.05 mm; hairpin loops wider"),
    "parallel_ridge_pattern": ("period", 400, 600, "Cummins 1943: ridges 0.4-0.6 mm apart"),
    "parallel_furrow_pattern": ("period", 400, 600, "Cummins 1943: ridges 0.4-0.6 mm apart"),
}
#: Seen with crossed polarisers alone, and hardly with them.
POLARISED, UNPOLARISED = ("shiny_white_streaks",), ("milia_like_cyst", "comedo_like_opening")
CLEAN = ("hair.count=0", "hair.vellus_count=0", f"camera.field_of_view_mm={VIEW_MM:g}", "skin.plexus_vessel_density=0",
         "skin.melanin_mottle=0.03", "skin.blood_mottle=0.2", "lesion.centre_x_mm=0", "lesion.centre_y_mm=0")


def _preset(diagnosis: str, tone: str, sets: tuple[str, ...]) -> Preset:
    bare = load_preset("base").with_diagnosis("NV=1").with_tones(f"{tone}=1").with_sets((*CLEAN, *sets))
    return bare if diagnosis == "NV" else bare.with_diagnosis(f"{diagnosis}=1")


def _record(diagnosis: str, tone: str, sets: tuple[str, ...], index: int) -> Any:
    # every field of a variant that matters here is pinned by `sets`; the structures of the variant are switched off
    off = tuple(f"{key}=0" for key in OFF if not any(s.startswith(f"{key}=") for s in sets))
    return draw(_preset(diagnosis, tone, (*off, *sets)), 0, index)


def _first_numbers() -> tuple[str, ...]:
    from synthskin.variants import STRUCTURES, structure_keys

    return tuple(k for name in STRUCTURES for k in structure_keys(name).values()
                 if k.startswith("structures.") and (k.endswith(("strength", "count")) or "_density_per_mm" in k
                                                     or k.endswith(("atypia", "rim", "keratin_um"))
                                                     or k == "structures.acanthosis_thickness_um"))


OFF = _first_numbers()


def record_of(name: str, tone: str, kind: str, index: int, there: bool = True) -> Any:
    """The host of structure `name` with it, or without."""
    diagnosis, host, numbers, _ = CASES[name]
    changed = {n.split("=")[0] for n in numbers}
    sets = (*(h for h in host if h.split("=")[0] not in changed), *numbers) if there else host
    return _record(diagnosis, tone, (f"camera.dermoscopic_type={kind}", *sets), index)


def attribute(name: str) -> str:
    """The mask of a case."""
    return name.split(":")[0]


def kind_of(name: str) -> str:
    """The dermoscopy in which a structure is looked for."""
    return "contact non-polarized" if name in UNPOLARISED else "contact polarized"


_held: dict[Any, Any] = {}


def _rendered(engine: Engine, record: Any) -> Any:
    """Hosts are shared by structures; the last of them are kept."""
    key = json.dumps(record.to_dict())
    if key not in _held:
        _held[key] = engine.render(record)
        while len(_held) > 40:
            _held.pop(next(iter(_held)))
    return _held[key]


def measure(engine: Engine, name: str, tone: str, kind: str, index: int) -> dict[str, Any]:
    """Medians over the mask of `name`, with `kind` of dermoscopy."""
    there, gone = (_rendered(engine, record_of(name, tone, kind, index, with_it)) for with_it in (True, False))
    mask = there.attributes.get(attribute(name))
    if mask is None or not mask.any():
        return {"pixels": 0, "without": 0.0, "ring": 0.0, "shown": 0.0, "label": 0.0, "picture": there.image}
    where = mask > 0
    lab_there, lab_gone = (rgb2lab(p.image) for p in (there, gone))
    against = spectral.ciede2000(lab_there[where], lab_gone[where])
    px = SIZE / VIEW_MM
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
    return {"pixels": int(where.sum()), "without": float(np.median(against)), "ring": ring,
            "shown": float(np.mean(against >= 2.0)), "label": there.attributes_delta_e[attribute(name)],
            "picture": there.image}


def measure_paths(name: str, tone: str, kind: str, index: int, spp: int) -> dict[str, Any]:
    """CIEDE2000 between the mean colours of each footprint of `name` with it and without, from paths alone."""
    from colour.models import cctf_decoding, cctf_encoding

    engine = Engine(RenderSettings(size_px=SIZE, spp=spp, denoise=False))
    pictures = [engine.render(record_of(name, tone, kind, index, there)) for there in (True, False)]
    parts, count = ndimage.label(pictures[0].attributes[attribute(name)] > 0)
    linear = [cctf_decoding(picture.image / 255, "sRGB") for picture in pictures]
    found = []
    for part in range(1, count + 1):
        where = parts == part
        if where.sum() >= 6:
            with_it, gone = (rgb2lab(cctf_encoding(own[where].mean(0), "sRGB")[None, None])[0] for own in linear)
            found.append(float(spectral.ciede2000(with_it, gone)[0]))
    return {"spp": spp, "footprints": len(found), "median": round(float(np.median(found)), 3),
            "p90": round(float(np.percentile(found, 90)), 3)}


def size_um(name: str, index: int = 0) -> tuple[int, float, float, float]:
    """Count, 10th percentile, median and 90th of what LIMITS measures, on 10 um columns."""
    from skimage.morphology import medial_axis

    count, column_mm = 700, 0.01
    axis = ((np.arange(count) - 0.5 * (count - 1)) * column_mm).astype(np.float32)
    mark = grow(record_of(name, "fst2", kind_of(name), index), axis, axis, column_mm).footprints[name]
    what = LIMITS[name][0]
    if what == "spot":
        spots, _ = ndimage.label(mark)
        values = 2 * np.sqrt(np.bincount(spots.ravel())[1:] / np.pi) * column_mm * 1e3
    elif what == "line":
        middle, distance = medial_axis(mark, return_distance=True)
        values = 2 * distance[middle] * column_mm * 1e3
    else:  # the strongest wavelength of the footprint's middle
        part = mark[150:-150, 150:-150].astype(float)
        power = np.abs(np.fft.fft2((part - part.mean()) * np.hanning(part.shape[0])[:, None]
                                   * np.hanning(part.shape[1]), s=(2048, 2048))) ** 2
        fy, fx = np.unravel_index(power[:, :1024].argmax(), (2048, 1024))
        frequency = np.hypot(min(fy, 2048 - fy), fx) / (2048 * column_mm)
        values = np.array([1e3 / frequency])
    return len(values), *(float(v) for v in np.percentile(values, (10, 50, 90)))


def measure_sizes() -> None:
    rows = {}
    for name, (what, low, high, source) in LIMITS.items():
        count, small, middle, large = size_um(name)
        rows[name] = {"what": what, "count": count, "p10_um": round(small), "median_um": round(middle),
                      "p90_um": round(large), "cited_um": [low, high], "source": source,
                      "inside": bool(low <= middle <= high)}
        print(f"{name:26} {what:6} {count:5d} found {small:5.0f} {middle:5.0f} {large:5.0f} um, cited {low} to {high} "
              f"{'' if low <= middle <= high else 'OUTSIDE'}", flush=True)
    SIZES.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure_labels() -> None:
    from synthskin.physics.engine import columns_for
    from synthskin.physics.visibility import structure_delta_e

    rows = json.loads(RESULT.read_text(encoding="utf-8"))
    count = columns_for(SIZE)
    for name, row in rows.items():
        kind = kind_of(name)
        for tone in (f"fst{k}" for k in range(1, 7)):
            own = structure_delta_e(record_of(name, tone, kind, 0), [attribute(name)], count, VIEW_MM / (count * 5 / 6))
            row.setdefault(f"{tone} {kind}", {})["label"] = round(own[attribute(name)], 3)
        _keep({name: row})


def write_table(page: Path) -> None:
    """Both tables between the page's marks, from the results on disk."""
    rows, sizes = (json.loads(path.read_text(encoding="utf-8")) for path in (RESULT, SIZES))
    tones = [f"fst{k}" for k in range(1, 7)]
    lines = ["| structure | asked | " + " | ".join(tones) + " | ring, fst2 | size, um (10 %, median, 90 %) | cited |",
             "|---|---|" + "---|" * 9]
    for name, row in rows.items():
        kind = kind_of(name)
        cells = []
        for tone in tones:
            found = row.get(f"{tone} {kind}", {})
            seen = f"{found['without']:.1f}" if "without" in found else "-"
            cells.append(f"{seen} ({found['label']:.1f})" if "label" in found else seen)
        ring = row.get(f"fst2 {kind}", {}).get("ring", float("nan"))
        size = sizes.get(name)
        cells += [f"{ring:.1f}", "" if size is None else f"{size['p10_um']}, {size['median_um']}, {size['p90_um']}",
                  "" if size is None else f"{size['cited_um'][0]}-{size['cited_um'][1]}: {size['source']}"]
        lines.append(f"| `{name}` | {row['asked']:g} | " + " | ".join(cells) + " |")
    start, end = "<!-- structures: begin -->", "<!-- structures: end -->"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(start)
    page.write_text(before + start + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1], encoding="utf-8")


def agreement() -> dict[str, float]:
    """How well labels tell what renders show, over all structures and tones on disk."""
    rows = json.loads(RESULT.read_text(encoding="utf-8"))
    own = [found for name, row in rows.items() for key, found in row.items() if key.endswith(kind_of(name))]
    pairs = np.array([(found["without"], found["label"]) for found in own if {"label", "without"} <= set(found)])
    from scipy.stats import spearmanr

    seen, told = pairs[:, 0] >= 2.0, pairs[:, 1] >= 2.0
    return {"pairs": len(pairs), "rank_correlation": round(float(spearmanr(*pairs.T)[0]), 3),
            "median_ratio": round(float(np.median(pairs[:, 1] / np.maximum(pairs[:, 0], 1e-3))), 3),
            "same_side_of_2": round(float(np.mean(seen == told)), 3),
            "told_but_unseen": int(np.sum(told & ~seen)), "seen_but_untold": int(np.sum(seen & ~told))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--tones", default="fst2")
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--spp", type=int, default=30)
    parser.add_argument("--paths", type=int, help="no denoiser, this many paths a pixel, colour of each footprint")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.sizes:
        measure_sizes()
        return
    if arguments.labels:
        measure_labels()
        return
    if arguments.table is not None:
        write_table(arguments.table)
        print(agreement())
        return
    if arguments.paths:
        for name in arguments.only.split(","):
            for tone in arguments.tones.split(","):
                for kind in ("contact polarized", "contact non-polarized"):
                    own = measure_paths(name, tone, kind, arguments.index, arguments.paths)
                    print(f"{name:26} {tone} {kind}: {own}", flush=True)
                    if not arguments.index:
                        _keep({name: {f"{tone} {kind} paths": own}})
        return
    engine = Engine(RenderSettings(size_px=SIZE, spp=arguments.spp))
    rows: dict[str, Any] = {}
    for name in arguments.only.split(","):
        kinds = ["contact polarized"]
        if name in UNPOLARISED:
            kinds = ["contact non-polarized", "contact polarized"]
        elif name in POLARISED:
            kinds = ["contact polarized", "contact non-polarized"]
        line, strip = {}, []
        for tone in arguments.tones.split(","):
            for kind in kinds:
                found = measure(engine, name, tone, kind, arguments.index)
                line[f"{tone} {kind}"] = {k: round(v, 3) for k, v in found.items() if k != "picture"}
                if kind == kind_of(name):
                    strip.append(found["picture"])
        asked, tones = CASES[name][3], arguments.tones.split(",")
        best = line[f"{'fst2' if 'fst2' in tones else tones[0]} {kinds[0]}"].get("without", 0.0)
        rows[name] = {"asked": asked, **line}
        print(f"{name:26} asked {asked:3.1f} found {best:5.2f} {'' if best >= asked else 'BELOW'} {line}", flush=True)
        if arguments.index:  # other lesions are printed; the tables are of the first
            continue
        _keep(rows)
        if len(strip) == 6:
            STRIPS.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.concatenate(strip, axis=1)).save(STRIPS / f"{name.replace(':', '_')}.png")


def _keep(rows: dict[str, Any]) -> None:
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    kept = {name: {**before.get(name, {}), **rows.get(name, {})} for name in CASES if name in before or name in rows}
    RESULT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
