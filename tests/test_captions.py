"""Captions and questions say what masks and record bear out, whatever the words."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from standin import FakeEngine

from synthskin.captions import ARTEFACT_WORDS, LESIONS, STRUCTURES, TONE_WORDS, caption, questions
from synthskin.conventions import ARTEFACTS, DIAGNOSES
from synthskin.dataset.format import Sample
from synthskin.draw import draw
from synthskin.facts import Facts
from synthskin.preset import load_preset
from synthskin.rows import make_sample
from synthskin.run import EngineOptions

PRESET = load_preset("fst6").with_sets(["hair.count=0", "camera.field_of_view_mm=10"]).with_diagnosis("NV=1")
RECORD = draw(PRESET, 0, 0)
RENDERED = FakeEngine(EngineOptions(64)).render(RECORD)


def facts(rendered=RENDERED, record=RECORD, **row):
    sample = make_sample(record, rendered)
    return Facts.of(replace(sample, row=sample.row | row))


def plain(rendered=RENDERED, record=RECORD, **row):
    return caption(facts(rendered, record, **row), varied=False)


def answers(of):
    return {entry["question"]: entry["answer"] for entry in questions(of, varied=False)}


def test_caption_says_size_structures_tone_and_hair():
    text = plain(attributes=["globules", "pigment_network"])
    across = math.hypot(16, 32) / 64 * 10  # the longest diameter, corner to corner
    assert f"a melanocytic nevus about {across:.1f} mm across with globules and a pigment network on" in text
    assert text.endswith("skin, without hair.") and "healthy" not in text


def test_caption_of_edge_faint_and_invisible_lesions():
    edge = RENDERED.mask.copy()
    edge[0, 0] = 255
    assert "that reaches the edge of the picture" in plain(replace(RENDERED, mask=edge))
    assert "a barely visible melanocytic nevus" in plain(replace(RENDERED, visible_delta_e=0.1))
    assert "without a visible lesion" in plain(replace(RENDERED, mask=np.zeros_like(edge), attributes={}))
    assert "with much hair" in plain(replace(RENDERED, hair=np.full_like(edge, 255)))


@pytest.mark.parametrize(("ita", "tone"), [(60.0, "very light"), (-40.0, "dark")])
def test_tone_words(ita, tone):
    assert f"on {tone} skin" in plain(replace(RENDERED, ita_deg=ita))
    of = facts(replace(RENDERED, ita_deg=ita))
    assert answers(of)["Which tone has the skin around?"].startswith(tone)


def test_healthy_skin_has_no_lesion_words():
    record = draw(PRESET.with_diagnosis("healthy=1"), 0, 0)
    rendered = FakeEngine(EngineOptions(64)).render(record)
    assert "of healthy " in plain(rendered, record)
    given = answers(facts(rendered, record))
    assert given["Is there a lesion in the picture?"] == "no" and "What is the diagnosis?" not in given
    assert "How large is the lesion?" not in given


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_every_diagnosis_in_words(diagnosis):
    text = plain(diagnosis=diagnosis)
    noun = LESIONS[diagnosis][0]
    assert f" {'an' if noun[0] in 'aeiou' else 'a'} {noun} about" in text


def test_artefacts_and_ink_colour():
    text = plain(artefacts=["ink", "ruler"])
    assert text.endswith("with violet ink marks and a ruler.")
    given = answers(facts(artefacts=["ink", "ruler"]))
    assert given["Does the picture contain ink marks?"] == given["Does the picture contain a ruler?"] == "yes"
    assert set(ARTEFACT_WORDS) == set(ARTEFACTS)


def test_words_are_sampled_by_hash_and_facts_stay():
    texts = set()
    for index in range(40):
        of = replace(facts(attributes=["globules"]), key=f"fst6|0|{index}")
        text = caption(of)
        assert text == caption(of)
        assert "5.6 mm" in text and any(word in text for word in STRUCTURES["globules"])
        assert any(word in text for word in LESIONS["NV"]) and any(word in text for word in TONE_WORDS)
        texts.add(text)
    assert len(texts) > 20


def test_siblings_share_their_words():
    a = facts(record=RECORD)
    b = facts(replace(RENDERED, ita_deg=60.0), index=7, file_name="images/000007.png")
    assert caption(a).replace(TONE_WORDS[a.tone - 1], "@") == caption(b).replace(TONE_WORDS[b.tone - 1], "@")


def test_questions_are_answered_from_the_facts():
    of = facts(attributes=["globules", "pigment_network"])
    given = answers(of)
    assert given["Does the lesion show globules?"] == given["Does the lesion show a pigment network?"] == "yes"
    structure = {f"Does the lesion show {words[0]}?": name for name, words in STRUCTURES.items()}
    asked = {structure[q]: a for q, a in given.items() if q in structure}
    assert list(asked.values()).count("no") == 2
    assert given["Is the lesion larger than 6 mm?"] == "no" and given["How large is the lesion?"] == "5.6 mm"
    assert given["Is the lesion malignant?"] == "no"
    assert given["Is there hair in the picture?"] == "no"
    large = replace(of, across_mm=6.2)
    assert answers(large)["Is the lesion larger than 6 mm?"] == "yes"
    cut = answers(replace(of, cut=True))
    assert "Is the lesion larger than 6 mm?" not in cut
    assert cut["Does the lesion reach the edge of the picture?"] == "yes"


def test_what_is_not_known_is_not_said():
    """A photograph with a label and nothing else."""
    sample = make_sample(RECORD, RENDERED)
    row = sample.row | {"mask_status": "none", "bbox": [], "ita_class": None, "visible_delta_e": None, "params": "{}",
                        "attributes": [], "modality": None, "dermoscopic_type": None}
    of = Facts.of(Sample(row, sample.image))
    assert caption(of, varied=False) == "Picture of a melanocytic nevus."
    asked = [entry["question"] for entry in questions(of, varied=False)]
    assert asked == ["What is the diagnosis?", "Is the lesion malignant?"]
    unknown = Facts.of(Sample(row | {"diagnosis": None}, sample.image))
    assert caption(unknown, varied=False) == "Picture of a skin lesion."


def test_row_of_the_engine_carries_the_varied_caption():
    sample = make_sample(RECORD, RENDERED)
    assert sample.row["caption"] == caption(Facts.of(sample))
    assert json.loads(sample.row["params"])["index"] == RECORD.index


def test_only_what_can_be_seen_is_said():
    names = ["atypical_pigment_network", "pigment_network", "shiny_white_streaks"]
    text = plain(attributes=names, dermoscopic_type="contact polarized")
    assert text.count("network") == 1 and "an atypical pigment network and shiny white streaks" in text
    other = facts(attributes=names, dermoscopic_type="contact non-polarized")
    assert "streaks" not in caption(other, varied=False)
    assert not any("shiny white" in question for question in answers(other))
    assert "Does the lesion show a pigment network?" not in answers(other)


def test_of_many_lesions_none_is_called_the_lesion():
    asked = answers(replace(facts(attributes=["globules"]), lesions=7))
    assert asked["How many lesions does the picture show?"] == "7" and not any("globules" in own for own in asked)
    assert not any("the lesion " in question for question in asked)


def test_structures_that_hardly_show_are_neither_present_nor_absent():
    asked = answers(facts(attributes=["dots", "globules"], attributes_delta_e=[0.4, 3.0]))
    assert asked["Does the lesion show globules?"] == "yes" and "Does the lesion show dots?" not in asked
    every = [set(answers(replace(facts(attributes=["globules"], attributes_delta_e=[0.4]), key=str(k))))
             for k in range(60)]
    assert not any("globules" in question for own in every for question in own)
    assert any("Does the lesion show dots?" in own for own in every)


def test_a_region_is_too_coarse_for_structures():
    view = replace(RECORD, camera=replace(RECORD.camera, view="region"))
    sample = make_sample(view, RENDERED)
    of = Facts.of(replace(sample, row=sample.row | {"attributes": ["globules"], "attributes_delta_e": []}))
    assert of.lesions <= 1 and "globules" not in caption(of, varied=False)
    assert not any("show" in own and ("globules" in own or "network" in own) for own in answers(of))


def test_hair_is_spoken_of_where_it_is_seen():
    """Black strands on light skin are hair; strands of the skin's own colour have a mask and are not seen."""
    image = np.full((64, 64, 3), 190, np.uint8)
    hair = np.zeros((64, 64), np.uint8)
    hair[:, ::8] = 255
    hidden = replace(RENDERED, image=image, hair=hair)
    assert plain(hidden).endswith("no hair in view.")
    assert not any("hair" in question for question in answers(facts(hidden)))
    assert answers(facts(replace(hidden, hair=np.zeros_like(hair))))["Is there hair in the picture?"] == "no"
    dark = image.copy()
    dark[hair > 0] = 40
    seen = replace(hidden, image=dark)
    assert facts(seen).hair_share == pytest.approx(1 / 8, rel=0.01)
    assert "with much hair" in plain(seen)
    told = answers(facts(seen))
    assert told["Is there hair in the picture?"] == "yes"
    # ordinary hair may be as thick, or as thin, as the artefacts: neither is said to be absent where there is any
    known = {"Does the picture contain thick hairs?", "Does the picture contain thin hairs?"}
    assert not known & set(told)


def test_hair_that_the_skin_hides_by_its_own_colours_is_neither_there_nor_absent():
    """Strands of the skin's own colour over ink, over a network, beside a sticker; black ones there are hair."""
    flat = np.full((64, 64, 3), 190, np.uint8)
    hair = np.zeros((64, 64), np.uint8)
    hair[:, ::8] = 255
    inked, net = flat.copy(), flat.copy()
    inked[:30] = (90, 60, 150)
    net[20:44:4], net[:, 22:42:4] = 150, 150
    for image in (inked, net):
        own = replace(RENDERED, image=image, hair=hair)
        assert facts(own).hair_share is None and "hair" not in plain(own)
        assert not any("hair" in question for question in answers(facts(own)))
        dark = image.copy()
        dark[hair > 0] = 10
        assert "with much hair" in plain(replace(own, image=dark))
    sticker = np.zeros_like(hair)
    sticker[:, 34:] = 255
    stuck = flat.copy()
    stuck[sticker > 0] = (250, 220, 20)
    beside = replace(RENDERED, image=stuck, hair=hair, artefacts={"colour_patch": sticker})
    assert "no hair in view" in plain(beside)


@pytest.mark.parametrize("status", ["requested", "predicted"])
def test_a_diagnosis_that_is_a_wish_or_a_guess_is_not_spoken_of(status):
    """Neither by the caption nor by the questions; a lesion that is seen is a lesion all the same."""
    of = facts(diagnosis="MEL", benign_malignant="malignant", diagnosis_status=status)
    asked = answers(of)
    assert asked["Is there a lesion in the picture?"] == "yes" and "a skin lesion about" in caption(of, varied=False)
    assert not {"What is the diagnosis?", "Is the lesion malignant?"} & set(asked)
    unseen = {"mask_status": "none", "bbox": [], "lesions": [], "visible_delta_e": None, "attributes": []}
    healthy = facts(diagnosis="healthy", benign_malignant=None, diagnosis_status=status, **unseen)
    assert "healthy" not in caption(healthy, varied=False) and "lesion" not in caption(healthy, varied=False)
    told = facts(diagnosis="MEL", benign_malignant="malignant", diagnosis_status="histopathology")
    assert answers(told)["What is the diagnosis?"] == "melanoma"


def test_of_a_lesion_that_is_not_there_no_diagnosis_is_asked():
    asked = answers(facts(replace(RENDERED, mask=np.zeros_like(RENDERED.mask), attributes={})))
    assert asked["Is there a lesion in the picture?"] == "no"
    assert not {"What is the diagnosis?", "Is the lesion malignant?"} & set(asked)


def test_only_a_diagnosis_that_is_seen_is_among_the_lesions():
    """The first sibling of a follow-up of a region: the duckling has not grown yet."""
    record = replace(RECORD, diagnosis="BCC", camera=replace(RECORD.camera, view="region"))
    row = {"diagnosis": "BCC", "benign_malignant": "malignant"}
    of = facts(record=record, lesions=["NV"] * 8, **row)
    for varied in (False, True):
        assert "8 lesions on " in caption(of, varied) and "carcinoma" not in caption(of, varied)
    with_it = plain(record=record, lesions=["BCC"] + 7 * ["NV"], **row)
    assert "8 lesions, among them a basal cell carcinoma, on " in with_it
    alone = facts(record=record, lesions=["NV"], **row)
    assert "a melanocytic nevus" in caption(alone, varied=False) and answers(alone)["Is the lesion malignant?"] == "no"


def test_lesions_are_not_counted_where_some_may_not_show():
    """What does not show may be all of the small ones; a speck of a pixel shows nowhere."""
    record = replace(RECORD, camera=replace(RECORD.camera, view="region"))
    blank = np.zeros((256, 256), np.uint8)
    rendered = replace(RENDERED, image=np.dstack([blank] * 3), mask=np.pad(RENDERED.mask, (0, 192)), hair=blank,
                       attributes={})
    large, small, speck = [0, 0, 20, 20], [40, 40, 5, 4], [50, 10, 1, 1]

    def told(visible, *boxes):
        of = facts(rendered, record, boxes=list(boxes), lesions=["NV"] * len(boxes), visible_delta_e=visible)
        number = answers(of).get("How many lesions does the picture show?")
        text = caption(of, varied=False)
        assert f"of {'lesions' if number is None else f'{number} lesions'}, among them a melanocytic nevus," in text
        assert number in (None, str(len(boxes)))
        return number is not None

    assert told(0.98, large, small, small) and told(0.85, large, large, large)
    assert not told(0.9, large, small, small)  # 44 of 440 pixels do not show: both small ones, perhaps
    assert not told(0.4, large, large, large)
    assert not told(1.0, large, large, speck)
    assert told(None, large, small, small)  # the boxes are somebody's word
