"""Gates: what a generated picture must pass before it enters a set. Used by `diffusion` and `gan` alike.

    from synthskin.gates import BlurGate, Candidate, ClassGate, CopyGate, Explainer, GatePanel, MaskGate, ToneGate

    panel = GatePanel([BlurGate(), MaskGate(load_segmenter()), ToneGate(), ClassGate(load_classifier(path)),
                       CopyGate.of(training_images, names, groups)])
    for decision in panel.judge([Candidate("000000-t0", image, mask, "MEL", ita_class=5)]):
        decision.kept, decision.refused_by, decision.scores()
    panel.settings()          # thresholds, for the card
    panel.tally.to_json()     # counts in all, by class and by tone; they add up or it raises

See docs/gates.md. Needs neither PyTorch nor a GPU: segmenter and classifier are handed in.
"""

from __future__ import annotations

from synthskin.gates.copies import CopyGate
from synthskin.gates.errors import GateError
from synthskin.gates.explain import Explainer, thumbnail
from synthskin.gates.label import ClassGate
from synthskin.gates.leak import SourceLeakGate, change_delta_e
from synthskin.gates.mask import MaskGate, iou
from synthskin.gates.panel import Candidate, Decision, Gate, GatePanel, Tally, Verdict
from synthskin.gates.quality import BlurGate
from synthskin.gates.tone import ToneGate, tone_error_deg

__all__ = ["BlurGate", "Candidate", "ClassGate", "CopyGate", "Decision", "Explainer", "Gate", "GateError", "GatePanel",
           "MaskGate", "SourceLeakGate", "Tally", "ToneGate", "Verdict", "change_delta_e", "iou", "thumbnail",
           "tone_error_deg"]
