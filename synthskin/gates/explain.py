"""`--explain`: a folder that shows what was refused and why: a table, thumbnails, counts, and a page to read."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthskin.dataset.encode import png_bytes
from synthskin.files import json_bytes, write_whole
from synthskin.gates.errors import GateError
from synthskin.gates.panel import Decision, Tally

THUMBNAIL_PX: Final = 96
#: Thumbnails that are written; the table of what was refused goes on.
MAX_THUMBNAILS: Final = 2000
_OUTLINE_RGB: Final = (70, 240, 255)


class Explainer:
    """Writes into `folder`: refused.jsonl (a line a refused candidate), thumbs/<key>-<gate>.png, report.json and
    report.html. Raises GateError where the folder holds something else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines: list[dict[str, Any]] = []
        if folder.exists() and (not folder.is_dir()
                                or any(path.name not in ("refused.jsonl", "thumbs", "report.json", "report.html")
                                       for path in folder.iterdir())):
            raise GateError(f"{folder}: holds something else than a report of gates; choose another --explain")
        try:
            (folder / "thumbs").mkdir(parents=True, exist_ok=True)
            for old in (folder / "thumbs").glob("*.png"):
                old.unlink()
            (folder / "refused.jsonl").write_text("", encoding="utf-8")
        except OSError as error:
            raise GateError(f"{folder}: cannot be written: {error.strerror}; choose another --explain") from None

    def add(self, decision: Decision) -> None:
        """Note a decision; kept candidates leave no trace."""
        if decision.kept:
            return
        candidate = decision.candidate
        name = None
        if len(self._lines) < MAX_THUMBNAILS:
            name = f"thumbs/{candidate.key}-{decision.refused_by}.png"
            (self.folder / name).write_bytes(png_bytes(thumbnail(candidate.image, candidate.mask)))
        line = {"key": candidate.key, "refused_by": decision.refused_by, "diagnosis": candidate.diagnosis,
                "ita_class": candidate.ita_class, "thumbnail": name,
                "verdicts": [verdict.to_json() for verdict in decision.verdicts]}
        self._lines.append(line)
        with open(self.folder / "refused.jsonl", "a", encoding="utf-8") as handle:
            handle.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    def finish(self, tally: Tally, settings: dict[str, Any], head: str = "") -> Path:
        """Write report.json and report.html; gives the page. Raises GateError."""
        report = {"settings": settings, **tally.to_json()}
        write_whole(self.folder / "report.json", json_bytes(report), GateError)
        page = self.folder / "report.html"
        write_whole(page, _page(report, self._lines, head).encode(), GateError)
        return page


def thumbnail(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, side_px: int = THUMBNAIL_PX) -> NDArray[Any]:
    """(h, w, 3) uint8 with the outline of the mask asked for, the longer side at most `side_px`."""
    scale = min(1.0, side_px / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    tile = np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    if mask is not None and mask.any():
        inside = np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) > 0
        padded = np.pad(inside, 1)
        core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        tile[inside & ~core] = _OUTLINE_RGB
    return tile


def _page(report: dict[str, Any], lines: list[dict[str, Any]], head: str) -> str:
    esc = html.escape
    counts = "".join(f"<tr><td>{esc(gate)}<td>{count}" for gate, count in report["refused"].items())
    parts = [
        "<!doctype html><meta charset=utf-8><title>What the gates refused</title><style>",
        "body{font:14px sans-serif;margin:2em;max-width:75em}td,th{padding:2px 10px;text-align:left}",
        "figure{display:inline-block;width:150px;margin:6px;vertical-align:top;font-size:11px}img{display:block}",
        "</style><h1>What the gates refused</h1>", f"<p>{esc(head)}</p>" if head else "",
        f"<p>{report['judged']} pictures judged, {report['kept']} kept.</p>",
        f"<table><tr><th>refused by<th>pictures{counts}</table>",
    ]
    for title, key in (("By class asked", "by_class"), ("By tone class asked", "by_tone")):
        columns = ["judged", "kept", *(f"refused by {gate}" for gate in report["refused"])]
        parts.append(f"<h2>{title}</h2><table><tr><th>" + "".join(f"<th>{esc(column)}" for column in columns))
        for name, group in report[key].items():
            parts.append(f"<tr><td>{esc(name)}" + "".join(f"<td>{group.get(column, 0)}" for column in columns))
        parts.append("</table>")
    parts.append(f"<h2>Thresholds</h2><pre>{esc(json.dumps(report['settings'], indent=1))}</pre>")
    for gate in report["refused"]:
        parts.append(f"<h2>Refused by {esc(gate)}</h2>")
        for line in lines:
            if line["refused_by"] != gate:
                continue
            why = next(verdict["reason"] for verdict in line["verdicts"] if verdict["gate"] == gate)
            picture = f"<img src='{esc(line['thumbnail'], quote=True)}'>" if line["thumbnail"] else ""
            parts.append(f"<figure>{picture}{esc(line['key'])} {esc(str(line['diagnosis'] or ''))} "
                         f"tone {esc(str(line['ita_class'] or '-'))}<br>{esc(why)}</figure>")
    return "\n".join(parts) + "\n"
