"""A map of empowerment: how many places can be chosen between from each cell of the four rooms, in bits.

python docs/pages/empowerment.py empowerment.png
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np

import thorndike as td


def main(path: str, horizon: int = 4) -> None:
    """Draw E_n of the four rooms, without slipping."""
    from thorndike.figures import new_figure, save

    world = dataclasses.replace(td.make("FourRooms"), slip=0.0)
    layout = world.layout
    bits = td.empowerment(world, horizon)
    shown = np.where(layout.wall | layout.goal, np.nan, bits).reshape(layout.rows, layout.columns)
    figure = new_figure(6.0, 5.0)
    axes = figure.add_subplot()
    image = axes.imshow(shown, cmap="viridis")
    axes.set(xticks=[], yticks=[], title=f"empowerment over {horizon} steps, bits")
    figure.colorbar(image, ax=axes)
    save(figure, path)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "empowerment.png")
