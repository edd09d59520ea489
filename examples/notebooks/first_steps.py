"""First steps: train, look, evaluate, compare. `make notebooks` writes the notebook with its outputs."""

# %% [markdown]
# # First steps
#
# Train an agent, look at its curve and at what it does, measure it, and compare two algorithms. The whole notebook
# takes about half a minute on two cores. You need Thorndike itself, `pip install -e .` in a clone, and nothing else.

# %%
import thorndike as td

# %% [markdown]
# ## Train
#
# CartPole pays 1 for each step on which the pole stands, and an episode ends after 500. The name `"ppo"` takes settings
# that are known to work for this environment. `seeds=8` trains eight agents side by side in one program. They differ
# only in their random numbers.

# %%
run = td.train("ppo", "CartPole-v1", 60_000, seeds=8, evaluate_every=10_000, name="ppo")
print(run)

# %% [markdown]
# Everything is in the directory `runs/ppo`: settings, metrics, every episode, checkpoints. `td.open_run("runs/ppo")`
# opens it again, in another program or another week.
#
# ## Look at the curve
#
# The line is the mean over the eight agents of the returns of training episodes, in which they explore. The circles are
# evaluations while training, in which they do not.

# %%
run.plot()

# %% [markdown]
# ## Watch
#
# One episode of the first agent, cut after 120 frames. Here it acts greedily: it takes the most probable action.

# %%
run.watch(frames=120)

# %% [markdown]
# ## Evaluate
#
# Returns of training episodes are those of agents that explored, and changed meanwhile. To say how good the trained
# agents are, let them play new episodes greedily. Printed are the interquartile mean over the agents (the mean without
# the best and the worst quarter), its 95% interval, and each agent.

# %%
run.evaluate(episodes=50)

# %% [markdown]
# `doctor` looks through the metrics for the usual signs of trouble.

# %%
run.doctor()

# %% [markdown]
# ## Compare two algorithms
#
# A2C makes one gradient step on each rollout, where PPO makes many. Is it worse for it after 60,000 steps? Both get the
# same number of steps and of seeds, and each its own preset.

# %%
other = td.train("a2c", "CartPole-v1", 60_000, seeds=8, evaluate_every=10_000, name="a2c")
td.plot([run, other], y="eval/mean_reward", labels=("PPO", "A2C"))

# %%
td.compare(run, other, labels=("PPO", "A2C"))

# %% [markdown]
# The comparison is of the last evaluations of all sixteen agents. It says how large the difference is, how probable it
# is that an agent of one side beats one of the other, whether a test of this level calls it settled, and if not, about
# how many more seeds would. It holds for this environment, these settings and this number of steps.
#
# ## Use an agent
#
# It takes the position, velocity, angle and angular velocity, and gives 0, to the left, or 1, to the right.

# %%
run.agent(seed=0).save("cartpole.td")
agent = td.load("cartpole.td")
int(agent.act([0.0, 0.1, 0.02, -0.1]))

# %% [markdown]
# Next: an environment and an algorithm of your own, in `your_own.ipynb`, and what comes after training, in
# `to_a_file.ipynb`.
