"""The rows of each suite, with published numbers and their sources, and the algorithms that have no quick row.

Settings are the presets of the algorithms. Of numbers that were published for other steps or seeds `at` says for which;
"RL Zoo" is rl-baselines3-zoo's benchmark.md, one training run each. Where nobody published a number for an algorithm on
a small task, the threshold is the environment's own mark of success.
"""

from __future__ import annotations

from typing import Any

from thorndike.bench.row import Row

ZOO = "RL Zoo, benchmark.md"
CLEANRL = "CleanRL, docs/rl-algorithms"
SLM = "SLM-Lab, BENCHMARKS.md"
CONTRIB = "sb3-contrib, docs/modules/qrdqn.md"
LONG = "500,000 steps, 3 seeds"
SOLVED = "Gymnasium's registry: solved"
BOOK = "Sutton & Barto 2018"
CLIFF = f"{BOOK}, example 6.6"

CARTPOLE: dict[str, Any] = {"env": "CartPole-v1", "threshold": 475.0}
# two standard errors of a mean over 50 random starts are 25 to 30
PENDULUM: dict[str, Any] = {"env": "Pendulum-v1", "tolerance": 30.0}
BARELY: dict[str, Any] = {"env": "Pendulum-v1", "threshold": -250.0, "source": "RLlib's and tianshou's tests: -250"}
MAZE: dict[str, Any] = {"env": "DynaMaze", "measure": "length", "episodes": 4, "theirs": 14.0, "at": "the shortest way"}
LAKE: dict[str, Any] = {"env": "FrozenLake-v1", "episodes": 500, "theirs": 0.74, "threshold": 0.70, "source": SOLVED}
MINATAR: dict[str, Any] = {
    "steps": 1_000_000, "measure": "training", "env_kwargs": {"use_minimal_action_set": False},
    "at": "5,000,000 frames, 30 seeds, read off a figure", "source": "Young & Tian 2019",
}  # fmt: skip
LANDER: dict[str, Any] = {"env": "LunarLander-v3", "threshold": 200.0, "source": SOLVED}
ZOO_LANDER: dict[str, Any] = {"env": "LunarLander-v3", "tolerance": 20.0, "at": "LunarLander-v2, 1 seed", "source": ZOO}
INVERTED: dict[str, Any] = {"env": "InvertedPendulum-v5", "threshold": 950.0, "source": SOLVED}

QUICK = (
    # tables
    Row("q-learning", "CliffWalking-v1", theirs=-13.0, at="the optimum", source=CLIFF, episodes=4),
    Row("expected-sarsa", "CliffWalking-v1", theirs=-17.0, at="the safe way", source=CLIFF, episodes=4),
    Row("sarsa", "CliffWalking-v1", theirs=-17.0, at="the safe way", source=CLIFF, episodes=4),
    Row("dyna-q", **MAZE, steps=3_000, source=f"{BOOK}, example 8.1"),
    Row("dyna-q-plus", **MAZE, steps=3_000, source=f"{BOOK}, example 8.1"),
    Row("prioritised-sweeping", **MAZE, steps=3_000, source=f"{BOOK}, example 8.4"),
    Row("value-iteration", **LAKE, at="the optimum", seeds=2),
    Row("policy-iteration", **LAKE, at="the optimum", seeds=2),
    Row(
        "q-learning", "DeepSea", theirs=0.99, tolerance=0.1, at="the optimum; one dive of 1,024 finds it", episodes=4,
        source="Osband et al. 2020, bsuite",
    ),
    Row("feudal-q", **MAZE, source=f"{BOOK}, example 8.1"),
    # values of discrete actions
    Row("dqn", **CARTPOLE, theirs=500.0, at="50,000 steps, 5 seeds", source=CONTRIB),
    Row(
        "dqn", "BitFlip", steps=20_000, env_kwargs={"n": 10}, measure="success", episodes=100, theirs=0.9,
        at="a CI bar; 1,500 steps, always the same goal", source="Stable-Baselines3, tests/test_her.py",
    ),
    Row("double-dqn", **CARTPOLE, theirs=451.5, at="with prioritised replay; 200,000 steps, 4 seeds", source=SLM),
    Row(
        "dueling-dqn", "CartPole-v1", theirs=450.0, at="a CI bar, also double, prioritised, n-step; 200,000 steps",
        source="RLlib, tuned_examples/dqn/cartpole_dqn.py",
    ),
    Row("c51", "CartPole-v1", theirs=481.2, tolerance=20.5, at=LONG, source=f"{CLEANRL}/c51.md"),
    Row("qr-dqn", "CartPole-v1", theirs=386.0, at="± 64; 50,000 steps, 5 seeds", source=CONTRIB),
    Row("iqn", **CARTPOLE, theirs=195.0, at="a CI bar", source=f"tianshou, test/discrete; {SOLVED}"),
    Row("rainbow", **CARTPOLE, theirs=195.0, at="a CI bar", source=f"tianshou, test/discrete; {SOLVED}", seeds=2),
    Row("munchausen-dqn", **CARTPOLE, source=SOLVED),
    Row("pqn", "CartPole-v1", theirs=495.1, tolerance=6.9, at="500,000 steps, 3 seeds", source=f"{CLEANRL}/pqn.md"),
    Row(
        "drqn", "TMaze", theirs=3.4, tolerance=0.2, episodes=100, seeds=2, at="PPO with an RNN, read off a figure",
        source="pobax, T-Maze 10",
    ),
    Row(
        "r2d2", "TMaze", theirs=3.4, tolerance=0.2, episodes=100, seeds=2, at="PPO with an RNN, read off a figure",
        source="pobax, T-Maze 10",
    ),
    Row(
        "bootstrapped-dqn", "DeepSea", theirs=0.99, tolerance=0.1, at="the optimum; one dive of 1,024 finds it",
        episodes=4, source="Osband et al. 2020, bsuite",
    ),
    # policy gradients
    Row("reinforce", **CARTPOLE, theirs=483.3, at="200,000 steps, 4 seeds", source=SLM),
    Row("a2c", **CARTPOLE, theirs=496.7, at="200,000 steps, 4 seeds", source=SLM),
    Row("a3c", "gymnasium/CartPole-v1", steps=200_000, threshold=475.0, source=SOLVED),
    Row("ppo", **CARTPOLE, theirs=500.0, at="1 seed", source=ZOO),
    Row(
        "ppo", "CartPoleNoVel-v1", theirs=500.0, threshold=450.0, at="1 seed; bar 450",
        source=f"{ZOO}; sb3-contrib, tests/test_lstm.py",
    ),
    Row("ppo-kl", **CARTPOLE, source=SOLVED),
    Row("trpo", **CARTPOLE, theirs=500.0, at="1 seed", source=ZOO),
    Row("impala", **CARTPOLE, steps=200_000, fields={"lag": 4}, source=SOLVED),
    Row("discrete-sac", "CartPole-v1", theirs=406.1, at="200,000 steps, 4 seeds", source=SLM),
    # continuous actions
    Row("sac", **PENDULUM, steps=8_000, seeds=2, theirs=-157.0, at="20,000 steps, 1 seed", source=ZOO),
    Row("td3", **PENDULUM, steps=10_000, seeds=2, theirs=-151.9, at="20,000 steps, 1 seed", source=ZOO),
    Row("ddpg", **PENDULUM, steps=10_000, seeds=2, theirs=-152.1, at="20,000 steps, 1 seed", source=ZOO),
    Row("tqc", **PENDULUM, steps=8_000, seeds=2, theirs=-151.3, at="20,000 steps, 1 seed", source=ZOO),
    Row("crossq", **PENDULUM, steps=8_000, seeds=2, theirs=-145.7, at="300,000 steps, 4 seeds", source=SLM),
    Row("redq", **BARELY, steps=2_500, seeds=2),
    Row("droq", **BARELY, steps=2_500, seeds=2),
    # models, planning and hierarchies
    Row("mpc", **BARELY, steps=400, seeds=2),
    Row("pets", **BARELY, seeds=2),
    Row("mbpo", **BARELY, seeds=2),
    Row(
        "option-critic", "FourRooms", measure="length", episodes=200, theirs=15.0, tolerance=1.5,
        at="the optimum, by dynamic programming; ours is the mean of 200 random starts", source="Sutton et al. 1999",
    ),
    Row(
        "go-explore", "DeepSea", env_kwargs={"size": 20}, theirs=0.99, tolerance=0.1, episodes=4,
        at="the optimum; one dive of a million finds it", source="Osband et al. 2020, bsuite",
    ),
    Row("rl2", "DoorsTrials", episodes=200, seeds=2, theirs=3.5, tolerance=0.6, at="crossing doors out, five episodes",
        source="exact"),
)  # fmt: skip

WITHOUT = {  # algorithms that have no quick row, and why
    "drq": "learns from pictures, for which a minute on two cores is too short, and no suite has a row for it",
    "hiro": "needs minutes to leave the maze: nightly",
    "dreamer": "needs minutes on CartPole: nightly",
    "alphazero": "needs minutes of self-play: nightly",
    "muzero": "needs minutes on CartPole: nightly",
    "alphago": "needs recorded games and minutes of self-play, and no suite has a row for it",
    "maml": "needs more than a million steps: nightly",
    "bc": "learns from recorded episodes, which a row does not have",
    "distillation": "learns from teachers, which a row does not have",
}

NIGHTLY = (
    Row("dqn", "CartPole-v1", seeds=10, theirs=500.0, threshold=475.0, at="50,000 steps, 5 seeds", source=CONTRIB),
    Row("dqn", "Acrobot-v1", seeds=10, theirs=-74.0, tolerance=4.0, at="± 2; 5 seeds", source=CONTRIB),
    Row("ppo", "CartPole-v1", seeds=10, theirs=500.0, threshold=475.0, at="1 seed", source=ZOO),
    Row("ppo", "Acrobot-v1", seeds=10, theirs=-86.4, tolerance=2.6, at=LONG, source=f"{CLEANRL}/ppo.md"),
    Row("ppo", "Pendulum-v1", seeds=5, theirs=-174.9, tolerance=30.0, at="4 seeds", source=SLM),
    Row("ppo", "MountainCar-v0", seeds=5, theirs=-110.4, tolerance=5.0, at="1 seed", source=ZOO),
    Row("ppo", "RepeatPrevious", seeds=4, threshold=0.0, source="without memory at most -0.5"),
    Row("ppo", "LunarLander-v3", seeds=3, theirs=242.1, tolerance=20.0, at="LunarLander-v2, 1 seed", source=ZOO),
    Row("c51", "CartPole-v1", seeds=5, theirs=481.2, tolerance=20.5, at=LONG, source=f"{CLEANRL}/c51.md"),
    Row("rainbow", "CartPole-v1", seeds=5, threshold=475.0, source=SOLVED),
    Row("r2d2", "RepeatPrevious", seeds=4, threshold=0.5, source="without memory at most -0.5"),
    Row("sac", "Pendulum-v1", seeds=5, theirs=-157.0, tolerance=30.0, at="1 seed", source=ZOO),
    Row("td3", "Pendulum-v1", seeds=5, theirs=-151.9, tolerance=30.0, at="1 seed", source=ZOO),
    Row("ddpg", "Pendulum-v1", seeds=5, theirs=-152.1, tolerance=30.0, at="1 seed", source=ZOO),
    Row("tqc", "Pendulum-v1", seeds=5, theirs=-151.3, tolerance=30.0, at="1 seed", source=ZOO),
    Row("crossq", "Pendulum-v1", seeds=5, theirs=-145.7, tolerance=30.0, at="300,000 steps, 4 seeds", source=SLM),
    Row("redq", "Pendulum-v1", seeds=2, threshold=-250.0, source="RLlib's and tianshou's tests: -250"),
    Row("droq", "Pendulum-v1", seeds=2, threshold=-250.0, source="RLlib's and tianshou's tests: -250"),
    Row("sac", "MountainCarContinuous-v0", seeds=2, theirs=94.7, threshold=90.0, at="1 seed; solved at 90", source=ZOO),
    Row("dqn", "BitFlip", seeds=5, measure="success", episodes=100, theirs=0.9, at="15 bits, 150,000 steps, 3 seeds",
        source="DI-engine, dizoo/bitflip"),
    Row("hiro", "PointMaze", seeds=2, measure="length", threshold=99.0, source="the time limit is 100 steps"),
    Row("dreamer", "CartPole-v1", seeds=2, threshold=475.0, source=SOLVED),
    Row("muzero", "CartPole-v1", seeds=2, theirs=195.0, at="100,000 steps", source="LightZero, zoo",
        differs="episodes of 200 steps"),
    Row("alphazero", "pgx/tic_tac_toe", seeds=1, episodes=1_000, theirs=0.873, tolerance=0.023,
        at="minimax against random play wins 0.968 as first, 0.778 as second", source="exact"),
    Row("maml", "Navigation2D", seeds=3, measure="adapted", theirs=-11.7, tolerance=5.0, at="paper, appendix, 1 step",
        source="Finn et al. 2017"),
    Row("rl2", "BanditTrials", seeds=2, episodes=500, theirs=78.7, threshold=73.0, at="paper, k = 5, n = 100",
        source="Duan et al. 2016"),
)  # fmt: skip

FULL = (
    Row("ppo", "pgx/minatar-breakout", steps=10_000_000, seeds=5, theirs=23.0, at="read off a figure, 1 seed",
        source="gymnax-blines", differs="gymnax: no sticky actions, episodes of 1,000 steps"),
    Row("dqn", "pgx/minatar-breakout", **MINATAR, seeds=5, theirs=9.0, tolerance=2.0),
    Row("dqn", "pgx/minatar-asterix", **MINATAR, seeds=5, theirs=7.0, tolerance=2.0),
    Row("dqn", "pgx/minatar-freeway", **MINATAR, seeds=5, theirs=48.0, tolerance=5.0),
    Row("c51", "pgx/minatar-breakout", **MINATAR, seeds=2, theirs=9.0, tolerance=2.0, differs="it is DQN's"),
    Row("qr-dqn", "pgx/minatar-breakout", **MINATAR, seeds=2, theirs=9.0, tolerance=2.0, differs="it is DQN's"),
    Row("rainbow", "pgx/minatar-breakout", **MINATAR, seeds=2, theirs=9.0, tolerance=2.0, differs="it is DQN's"),
    Row("pqn", "pgx/minatar-breakout", seeds=2, measure="training", source="no figure at hand"),
    Row("dqn", **ZOO_LANDER, theirs=154.4),
    Row("double-dqn", **LANDER),
    Row("dueling-dqn", **LANDER),
    Row("qr-dqn", **ZOO_LANDER, theirs=70.2),
    Row("rainbow", **LANDER),
    Row("a2c", **ZOO_LANDER, theirs=155.8),
    Row("trpo", **ZOO_LANDER, theirs=133.2),
    Row("ppo-kl", **LANDER, seeds=2),
    Row("ppo", "LunarLanderContinuous-v3", seeds=2, theirs=270.9, threshold=200.0, at="v2, 1 seed",
        source=f"{ZOO}; {SOLVED}"),
    Row("sac", "LunarLanderContinuous-v3", seeds=2, theirs=260.4, threshold=200.0, at="v2, 1 seed",
        source=f"{ZOO}; {SOLVED}"),
    Row("td3", "LunarLanderContinuous-v3", seeds=2, theirs=207.5, threshold=200.0, at="v2, 1 seed",
        source=f"{ZOO}; {SOLVED}"),
    Row("dqn", "MountainCar-v0", seeds=3, theirs=-100.8, threshold=-110.0, at="1 seed", source=f"{ZOO}; {SOLVED}"),
    Row("sac", **INVERTED),
    Row("td3", **INVERTED),
    Row("ddpg", **INVERTED),
    Row("tqc", **INVERTED),
    Row("crossq", **INVERTED),
    Row("sac", "HalfCheetah-v5", seeds=5, theirs=9635.0, tolerance=1424.0, at="HalfCheetah-v4, 3 seeds",
        source=f"{CLEANRL}/sac.md"),
    Row("td3", "HalfCheetah-v5", seeds=5, theirs=9583.0, tolerance=126.0, at="HalfCheetah-v4, 3 seeds",
        source=f"{CLEANRL}/td3.md"),
    Row("ddpg", "HalfCheetah-v5", seeds=5, theirs=10374.0, tolerance=157.0, at="HalfCheetah-v4, 3 seeds",
        source=f"{CLEANRL}/ddpg.md"),
    Row("tqc", "HalfCheetah-v5", seeds=5, source="no figure at hand"),
    Row("crossq", "HalfCheetah-v5", seeds=5, source="no figure at hand"),
    Row("ppo", "InvertedPendulum-v5", seeds=5, theirs=963.0, tolerance=22.0, at="v4, 1,000,000 steps, 3 seeds",
        source=f"{CLEANRL}/ppo.md"),
    Row("redq", "Hopper-v5", seeds=3, source="no figure at hand"),
    Row("droq", "Hopper-v5", seeds=3, source="no figure at hand"),
)  # fmt: skip

ROWS = {"quick": QUICK, "nightly": NIGHTLY, "full": FULL}
