"""A small canvas in world coordinates, for the frames of the built-in environments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Point = tuple[float, float]


class Canvas:
    """Draw in world units (y upwards) on a white picture; twice oversampled, so that edges are smooth."""

    def __init__(self, x: Point, y: Point, width: int = 480, background: str = "#ffffff"):
        from PIL import Image, ImageDraw

        self.x, self.y, self.scale = x, y, 2 * width / (x[1] - x[0])
        size = 4 * round(width / 2), 4 * round(self.scale * (y[1] - y[0]) / 4)  # even once halved, as video encoders ask
        self.image = Image.new("RGB", size, background)
        self.pen = ImageDraw.Draw(self.image)

    def _pixel(self, point: Point) -> Point:
        return (point[0] - self.x[0]) * self.scale, (self.y[1] - point[1]) * self.scale

    def line(self, a: Point, b: Point, colour: str, width: float) -> None:
        """A line from a to b; width in world units, ends rounded."""
        pixels = max(1, round(width * self.scale))
        self.pen.line([self._pixel(a), self._pixel(b)], colour, pixels)
        if pixels > 4:
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
        from PIL import Image

        width, height = self.image.size
        return np.asarray(self.image.resize((width // 2, height // 2), Image.Resampling.LANCZOS))
