"""The card of a LoRA: what it was trained on and how, its licences, what was measured; and the README beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from synthskin import __version__
from synthskin.diffusion.base import Base
from synthskin.diffusion.data import TrainingSet
from synthskin.diffusion.options import TrainOptions


def lora_card(base: Base, data: TrainingSet, options: TrainOptions, size_px: int, steps: int, sha256: str,
              metrics: dict[str, float], losses: Sequence[float]) -> dict[str, Any]:
    """Everything of synthskin_lora.json. All licences of data and base bind the LoRA and its pictures."""
    licences = list(dict.fromkeys([*base.licences, *data.licences]))
    return {
        "format": 1, "synthskin_version": __version__, "base": base.name, "kind": base.kind,
        "fingerprint": base.fingerprint, "weights_sha256": sha256, "size_px": size_px, "steps": steps,
        "mask_input": options.mask_input, "prediction_type": base.scheduler.config.prediction_type,
        "options": asdict(options) | {"targets": list(options.targets)},
        "data_hash": data.hash(), "content": data.content(), "left_out": data.left_out,
        "pictures": len(data), "patients": data.has_patients,
        "sets": [{"set_hash": card.set_hash, "preset": card.preset, "generator": card.generator, "n": card.n}
                 for card in data.cards],
        "classes": dict(sorted(Counter(str(row["diagnosis"]) for row in data.rows).items())),
        "tones": dict(sorted(Counter(str(row["ita_class"]) for row in data.rows).items())),
        "prompts": len(set(data.prompts)), "licences": licences,
        "attribution": list(dict.fromkeys([*base.attribution, *data.attribution])),
        "metrics": metrics,
        "losses": {"first_50": _mean(losses[:50]), "last_50": _mean(losses[-50:])},
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None


def lora_readme(card: dict[str, Any]) -> str:
    """Model card in Hugging Face's form."""
    options, metrics = card["options"], card["metrics"]
    told = [f"- {name.replace('_', ' ')}: {value:g}" for name, value in metrics.items()] or ["- none"]
    patients = ("\nIt was trained on photographs of patients. Pictures made with it may resemble them: the "
                "near-duplicate gate of `synthskin diffusion generate` looks for copies, and no picture is anonymous.\n"
                if card["patients"] else "")
    lines = [
        "---", f"base_model: {json.dumps(card['base'])}", "library_name: diffusers", "license: other", "tags:",
        "- lora", "- dermatology", "- synthetic", "---", "# LoRA trained by synthskin", "",
        f"Rank {options['rank']}, {card['steps']} steps of batch {options['batch']} at {card['size_px']} pixels on "
        f"{card['pictures']} pictures, base `{card['base']}` ({card['kind']}).", patients,
        "Not for diagnosis.", "", "```python",
        "from diffusers import AutoPipelineForText2Image",
        f"pipe = AutoPipelineForText2Image.from_pretrained({card['base']!r})",
        "pipe.load_lora_weights(\"THIS FOLDER\")", "```", "",
        "With the mask as an input: `synthskin diffusion generate` (other software ignores mask_input.safetensors)."
        if card["mask_input"] else "", "## Data", f"- classes: {json.dumps(card['classes'])}",
        f"- tones (ITA class): {json.dumps(card['tones'])}",
        *(f"- set {one['set_hash']} ({one['generator']}, preset {one['preset']})" for one in card["sets"]), "",
        "## Licences (all of them bind)", *(f"- {name}" for name in card["licences"]), "", "## Attribution",
        *(f"- {name}" for name in card["attribution"]), "",
        "## Measured (fixed noise and times, training pictures)", *told,
        f"- mean loss of the first and last 50 steps: {card['losses']['first_50']}, {card['losses']['last_50']}", "",
        "## Settings", "```json", json.dumps(options, indent=1), "```", "",
    ]
    return "\n".join(lines)
