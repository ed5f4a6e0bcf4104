"""Tiny ONNX models whose answer follows the mean colour of a picture, and an engine that paints what they look at."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from standin import FakeEngine, FakeRendered

from synthskin.draw import hash_uniform

SIDE = 32


def colour_model(path, weights, bias=0.0, side=SIDE, outputs=2, domain="", batch="n"):
    """Logits (0, weights . mean RGB + bias), or that last number alone; input (n, 3, side, side) in [0, 1]."""
    matrix = np.zeros((3, outputs), np.float32)
    matrix[:, -1] = weights
    offset = np.zeros(outputs, np.float32)
    offset[-1] = bias
    nodes = [helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
             helper.make_node("Flatten", ["pooled"], ["flat"]),
             helper.make_node("Gemm", ["flat", "w", "b"], ["logits"])]
    if domain:
        nodes[0] = helper.make_node("Mystery", ["image"], ["pooled"], domain=domain)
    graph = helper.make_graph(
        nodes, "colour", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(offset, "b")])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return path


def violet_model(path, **options):
    """Follows blue less green: the violet of ink; melanoma is painted a little blue."""
    return colour_model(path, (0.0, -60.0, 60.0), -2.0, **options)


def dark_model(path, **options):
    """Follows darkness: melanoma is painted darker, and so is skin with melanin."""
    return colour_model(path, (-30.0, -30.0, -30.0), 47.0, **options)


class PaintEngine(FakeEngine):
    """Flat skin as dark as its melanin, a lesion, a violet square of ink: the colours the models above look at."""

    device_name = "paint"

    def render(self, record):
        side = self.options.size_px
        plain = super().render(record)
        image = np.full((side, side, 3), (200.0, 150.0, 150.0))
        image *= 1.0 - record.skin.melanosome_fraction
        lesion = (110.0, 70.0, 70.0) if record.diagnosis == "NV" else (60.0, 20.0, 40.0)
        image[plain.mask > 0] = lesion
        if record.artefacts.ink:
            image[: side // 4, : side // 2] = (90.0, 40.0, 160.0)
        image += 6.0 * (hash_uniform(record.preset, record.seed, record.index, "shade") - 0.5)
        image *= 2.0 ** (0.3 * record.device.exposure_ev)
        # no artefact masks: the stand-in's contrast and angle follow the melanin alone
        return FakeRendered(np.clip(image, 0, 255).astype(np.uint8), plain.mask, plain.hair, plain.attributes, {}, {},
                            plain.ita_deg, plain.ita_image_deg, plain.contrast, plain.visible_delta_e)
