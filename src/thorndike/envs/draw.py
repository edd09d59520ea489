"""A small canvas in world coordinates, for the frames of the built-in environments."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Point = tuple[float, float]

OVERSAMPLE = 4  # drawn this many times larger, so that edges are smooth


class Canvas:
    """Draw in world units (y upwards); both sides of the frame are even, as video encoders ask."""

    def __init__(self, x: Point, y: Point, width: int = 480, background: str = "#ffffff"):
        from PIL import Image, ImageDraw

        width = 2 * round(width / 2)
        height = max(2, 2 * round(width * (y[1] - y[0]) / (x[1] - x[0]) / 2))
        self.x, self.y, self.scale = x, y, OVERSAMPLE * width / (x[1] - x[0])
        size = OVERSAMPLE * width, OVERSAMPLE * height
        self.image = Image.new("RGB", size, background)
        self.pen = ImageDraw.Draw(self.image)

    def _pixel(self, point: Point) -> Point:
        return (point[0] - self.x[0]) * self.scale, (self.y[1] - point[1]) * self.scale

    def line(self, a: Point, b: Point, colour: str, width: float) -> None:
        """A line from a to b; width in world units, ends rounded."""
        length = math.hypot(b[0] - a[0], b[1] - a[1])
        if length > 0:
            across, up = -(b[1] - a[1]) / length * width / 2, (b[0] - a[0]) / length * width / 2
            corners = [(x + side * across, y + side * up) for (x, y), side in ((a, 1), (b, 1), (b, -1), (a, -1))]
            self.polygon(corners, colour)
        self.circle(a, width / 2, colour)
        self.circle(b, width / 2, colour)

    def polygon(self, points: Sequence[Point], colour: str) -> None:
        """A filled polygon."""
        self.pen.polygon([self._pixel(p) for p in points], colour)

    def circle(self, centre: Point, radius: float, colour: str) -> None:
        """A filled circle; radius in world units."""
        (x, y), r = self._pixel(centre), radius * self.scale
        self.pen.ellipse([x - r, y - r, x + r, y + r], colour)

    def text(self, at: Point, text: str, colour: str = "#222222", size: float = 0.2) -> None:
        """Text centred at a point; size in world units."""
        from PIL import ImageFont

        self.pen.text(self._pixel(at), text, colour, ImageFont.load_default(size * self.scale), anchor="mm")

    def frame(self) -> np.ndarray:
        """The picture, uint8 [height, width, 3]."""
        return np.array(self.image.reduce(OVERSAMPLE))
