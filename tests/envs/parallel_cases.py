"""Two agents that are not alike, for tests of PettingZoo's adapter. Workers import this file."""

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class Pair:
    """`long` sees [t, 10 t, episode], `short` sees [-t] and which of its two actions is legal; `short` is out early.

    Each is paid what it did, `short` a hundred more. Even episodes end by the clock, after 4 steps; odd ones because
    `long` is done, after 3. `short` is out after 2.
    """

    metadata = {"name": "pair"}
    possible_agents = ["long", "short"]

    def __init__(self, fault=""):
        self.agents, self.episode, self.fault = [], -1, fault

    def observation_space(self, agent):
        if agent == "long":
            return Box(-1e3, 1e3, (3,), np.float64)
        return Dict({"observation": Box(-1e3, 1e3, (1,), np.float32), "action_mask": Box(0, 1, (2,), np.int8)})

    def action_space(self, agent):
        return Discrete(3) if agent == "long" else Discrete(2, start=5)

    def _see(self):
        mask = np.array([1, self.t % 2], np.int8)
        short = {"observation": np.array([-self.t], np.float32), "action_mask": mask}
        seen = {"long": np.array([self.t, 10 * self.t, self.episode], np.float64), "short": short}
        return {agent: seen[agent] for agent in self.agents}

    def reset(self, seed=None, options=None):
        self.t, self.episode, self.agents = 0, self.episode + 1, ["long", "short"]
        return self._see(), {}

    def step(self, actions):
        assert set(actions) == set(self.agents), actions
        self.t += 1
        rewards = {agent: float(action) for agent, action in actions.items()}
        if "short" in rewards:
            assert actions["short"] in (5, 6)
            rewards["short"] += 100.0
        if self.fault == "nan":
            rewards["long"] = float("nan")
        odd = self.episode % 2 == 1
        done = {"long": odd and self.t == 3, "short": self.t == 2}
        both = self.fault == "both" and done["long"]
        cut = {"long": both or (not odd and self.t == 4), "short": False}
        if self.fault == "cut early":
            cut["short"], done["short"] = done["short"], False
        seen = self._see()
        out = [agent for agent in self.agents if done[agent] or cut[agent]]
        playing, self.agents = self.agents, [agent for agent in self.agents if agent not in out]
        if self.fault == "stays" and not self.agents:  # contrary to PettingZoo's rule
            self.agents = playing
        return seen, rewards, {a: done[a] for a in playing}, {a: cut[a] for a in playing}, {a: {} for a in playing}

    def close(self):
        pass


class Strange(Pair):
    """Sees what is no vector."""

    def observation_space(self, agent):
        return Discrete(3)
