"""Compute how much of the X-ray beam a drawn patient absorbs: tissue, air, bone, and opacities.

Pneumonia is drawn as a part of the lung without air.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wetread.demo import anatomy
from wetread.demo.anatomy import Anatomy
from wetread.demo.canvas import Field, Frame


def draw_beam(frame: Frame, body: Anatomy, random: np.random.Generator, kind: str) -> Field:
    """Add up the absorption along the beam. Returns float32 (height, width), 0 (nothing) to about 1.2."""
    limbs = [anatomy.mirror(anatomy.arm(body), side) for side in (-1, 1)]
    flesh = np.maximum(frame.fill([anatomy.torso(body)], soften=0.02), 0.7 * frame.fill(limbs, soften=0.012))
    lungs = frame.fill([anatomy.lung(body, side) for side in (-1, 1)], soften=0.004)
    core = frame.fill([anatomy.heart(body)], soften=0.008)
    air = lungs * (1 - 0.9 * core) * (1 - _draw_vessels(frame, body, random))
    air *= (1 - 0.12 * frame.clouds(random, 5)) * (1 - 0.12 * frame.clouds(random, 40))
    if kind != "none":
        air *= 1 - random.uniform(0.65, 1.0) * OPACITIES[kind](frame, body, random)
    thick = 0.58 + 0.16 * _belly(frame, body, lungs, random) + 0.12 * core + 0.06 * frame.clouds(random, 5)
    bones = _draw_bones(frame, body) * (0.4 + 0.6 * flesh)
    beam: Field = flesh * (thick - random.uniform(0.34, 0.44) * air) + bones
    return beam


def _belly(frame: Frame, body: Anatomy, lungs: Field, random: np.random.Generator) -> Field:
    """Draw the belly, with an air bubble in some stomachs. 0 to 1; the bubble is below 0."""
    f, w = body.floor, body.half_width + body.wall
    box = anatomy.smooth([(-w, f - 0.08), (w, f - 0.08), (w, 1.4), (-w, 1.4)])
    below = frame.fill([box], soften=0.03) * (1 - lungs)
    if body.bubble > 0:
        x, y, r = random.uniform(0.1, 0.17), f + 0.12, body.bubble
        outline = [(x - 1.6 * r, y), (x, y - r), (x + 1.6 * r, y), (x, y + 1.3 * r)]
        below -= 1.6 * frame.fill([anatomy.smooth(outline)], soften=0.008) * (1 - lungs)
    return below


def _draw_vessels(frame: Frame, body: Anatomy, random: np.random.Generator) -> Field:
    """Draw vessels from the roots of the lungs. 0 to the patient's `vessels`."""
    lines = [anatomy.mirror(anatomy.vessel(body, random), side) for side in (-1, 1) for _ in range(11)]
    roots = [line[: len(line) // 2] for line in lines]
    return np.float32(body.vessels) * frame.stroke([(lines, 0.006, 130), (roots, 0.014, 255)], soften=0.006)


def _draw_bones(frame: Frame, body: Anatomy) -> Field:
    """Draw ribs, spine, collar bones and upper arms. 0 to about 0.3."""
    sides, heights = (-1, 1), anatomy.rib_heights(body)
    front = [anatomy.mirror(anatomy.front_rib(body, y), side) for y in heights for side in sides]
    back = [anatomy.mirror(anatomy.back_rib(body, y), side) for y in heights for side in sides]
    collars = [anatomy.mirror(anatomy.clavicle(body), side) for side in sides]
    arms = [anatomy.mirror(anatomy.arm_bone(body), side) for side in sides]
    # Bone is denser at its edges: a thinner, darker line over each.
    ribs = frame.stroke(
        [(front, 0.026, 80), (front, 0.017, 55), (back, 0.026, 190), (back, 0.014, 110)], soften=0.003
    )
    long = frame.stroke(
        [(collars, 0.026, 200), (collars, 0.012, 140), (arms, 0.06, 170), (arms, 0.04, 110)], soften=0.004
    )
    spine = frame.fill(anatomy.vertebrae(body), soften=0.006)
    windpipe = frame.stroke([([anatomy.windpipe(body)], 0.04, 255)], soften=0.008)
    above = frame.fill([anatomy.above_diaphragm(body)], soften=0.05)
    bones: Field = 0.19 * ribs * above + 0.16 * long + 0.09 * spine - 0.06 * windpipe
    return bones


def _patchy(frame: Frame, body: Anatomy, random: np.random.Generator) -> Field:
    """Draw three to six ragged spots, anywhere in the lungs."""
    count = int(random.integers(3, 7))
    x = random.choice((-1, 1), count) * random.uniform(0.35, 0.8, count) * body.half_width
    y = random.uniform(body.apex + 0.12, body.floor - 0.02, count)
    spots = frame.spots(np.stack([x, y], axis=1), list(random.uniform(0.05, 0.1, count)))
    return np.clip(1.7 * spots * (0.35 + frame.clouds(random, 22)), 0, 1)


def _lobar(frame: Frame, body: Anatomy, random: np.random.Generator) -> Field:
    """Fill the upper or the lower part of one lung, with a fairly sharp, slanting edge."""
    side, share = int(random.choice((-1, 1))), random.uniform(0.35, 0.55)
    edge = body.apex + (body.floor - body.apex) * (share if random.random() < 0.4 else 1 - share)
    far = body.apex - 0.1 if edge < (body.apex + body.floor) / 2 else body.floor + 0.2
    slant, w = random.uniform(-0.07, 0.07), body.half_width + 0.05
    outline = np.array([(0.0, edge + slant), (w, edge - slant), (w, far), (0.0, far)])
    region = frame.fill([anatomy.mirror(outline, side)], soften=random.uniform(0.008, 0.03))
    return region * (0.7 + 0.3 * frame.clouds(random, 10))


def _diffuse(frame: Frame, body: Anatomy, random: np.random.Generator) -> Field:
    """Draw a mottled veil over both lungs, denser near their roots."""
    root = body.apex + 0.5 * (body.floor - body.apex)
    near = frame.spots(np.array([(-0.12, root), (0.12, root)]), [0.2, 0.2])
    mottle = np.clip(3 * frame.clouds(random, 34) - 1.1, 0, 1)
    veil: Field = np.clip((0.45 + 0.55 * near) * (0.5 + 0.5 * mottle), 0, 1)
    return veil


OPACITIES: dict[str, Callable[[Frame, Anatomy, np.random.Generator], Field]] = {
    "patchy": _patchy,
    "lobar": _lobar,
    "diffuse": _diffuse,
}
