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


class Telling(Pair):
    """The same pair, whose legal actions are in `infos`."""

    def observation_space(self, agent):
        space = super().observation_space(agent)
        return space["observation"] if agent == "short" else space

    def apart(self, seen):
        masks = {agent: {} for agent in seen}
        if "short" in seen:
            masks["short"], seen["short"] = {"action_mask": seen["short"]["action_mask"]}, seen["short"]["observation"]
        return seen, masks

    def reset(self, seed=None, options=None):
        return self.apart(super().reset(seed, options)[0])

    def step(self, actions):
        seen, *ends, _ = super().step(actions)
        seen, masks = self.apart(seen)
        return seen, *ends, masks


class Strange(Pair):
    """Sees what is no vector."""

    def observation_space(self, agent):
        return Discrete(3)


class Painters(Pair):
    """Two agents that see pictures, of the time for one and of its complement for the other, and act in floats; each is
    paid what it does. With `breaks` every third step of a world raises."""

    def __init__(self, breaks=False):
        self.agents, self.steps, self.breaks = [], 0, breaks

    def observation_space(self, agent):
        return Box(0, 255, (2, 2, 1), np.uint8)

    def action_space(self, agent):
        return Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32))

    def _see(self):
        return {agent: np.full((2, 2, 1), abs(255 * (agent == "short") - self.t), np.uint8) for agent in self.agents}

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, ["long", "short"]
        return self._see(), {}

    def step(self, actions):
        self.t, self.steps = self.t + 1, self.steps + 1
        if self.breaks and self.steps % 3 == 0:
            raise ValueError("out of paint")
        rewards = {agent: float(action @ [1, 100]) for agent, action in actions.items()}
        end = dict.fromkeys(self.agents, self.t == 4)
        return self._see(), rewards, end, dict.fromkeys(self.agents, False), {agent: {} for agent in self.agents}
