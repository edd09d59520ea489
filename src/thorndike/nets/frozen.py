"""An agent that does not learn, beside one that does."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from thorndike.types import Look, PyTree, Timestep


class Frozen(eqx.Module):
    """A trained agent, as one of the things that an algorithm is given."""

    algorithm: Any
    actor: PyTree
    part: str = eqx.field(static=True, default="")  # of the observation that it sees; "": the whole

    def look(self, now: Timestep) -> Look:
        """What it thinks of timesteps [B, ...], as it acts when it does not explore."""
        obs = now.obs[self.part] if self.part else now.obs
        carry = self.algorithm.carry(self.actor, now.first.shape[0])
        return self.algorithm.look(self.actor, carry, now._replace(obs=obs), False)[0]
