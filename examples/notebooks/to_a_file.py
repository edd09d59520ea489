"""From a trained agent to a file: explain, export, latency. `make notebooks` writes the notebook with its outputs."""

# %% [markdown]
# # From a trained agent to a file
#
# What does the agent go by? Is it good enough? How does another program use it, and how long does an action take? The
# notebook takes about half a minute on two cores, and needs ONNX: `pip install -e ".[export]"`.

# %%
import thorndike as td

run = td.train("ppo", "CartPole-v1", name="pole")
run.evaluate(episodes=50)

# %% [markdown]
# ## What it goes by
#
# Integrated gradients over one episode: how much each number of the observation counts in the choice, left or right.

# %%
names = ("position", "velocity", "angle", "spin")
run.explain(names=names)

# %% [markdown]
# Of one moment: how far each number pushes towards what the agent does (positive), or away from it.

# %%
agent = run.agent()
leaning = [0.0, 0.0, 0.05, 0.0]
moment = agent.explain(leaning, against=[0.0, 0.0, 0.0, 0.0], names=names)
print("action", agent.act(leaning), "with probabilities", agent.probabilities(leaning).round(3))
print(dict(zip(names, (round(float(x), 2) for x in moment.values[0]))))

# %% [markdown]
# The preference for an action over two numbers of the observation, the others being what they usually are:

# %%
run.picture(over=(2, 3))

# %% [markdown]
# ## Is it good enough?
#
# Against a rule of one line, with an exact bound on the rate of failures, and with every number of the environment
# lowered and raised by a fifth.


# %%
def upright(observation):
    """Push to the side to which pole and cart lean and move."""
    return int(3 * observation[2] + observation[3] + 0.1 * observation[0] + 0.3 * observation[1] > 0)


print(td.criteria(run, upright, episodes=20))

# %% [markdown]
# No agent can beat that rule on CartPole, which earns all there is. It is worth knowing before an agent is put to use.
#
# ## Files
#
# For Python with Thorndike: arrays and JSON, no code.

# %%
agent.save("pole.td")
int(td.load("pole.td").act(leaning))

# %% [markdown]
# For Python with NumPy alone, and for everything that has ONNX Runtime. Both files are compared with the agent on a
# thousand observations before they are kept.

# %%
print(agent.export("policy.py"))
print(agent.export("policy.onnx"))

# %% [markdown]
# The module's function takes batches. Nothing of Thorndike or JAX is imported by it.

# %%
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path.cwd()))
import policy

policy.act(np.array([leaning], np.float32))

# %% [markdown]
# ## How long an action takes
#
# Percentiles over single calls. For a control loop the 99th counts. The times are those of the machine that made this
# notebook.

# %%
from thorndike.serve.latency import of_agent

for name, times in of_agent(agent, 2000).items():
    print(f"{name:14}{times}")
