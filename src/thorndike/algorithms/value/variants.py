"""The algorithms that `DQN` becomes by other defaults, under the names that they are known by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from thorndike.algorithms.value import known
from thorndike.algorithms.value.dqn import DQN
from thorndike.configuration import algorithm
from thorndike.domains import NonNegative, Positive, Static
from thorndike.memory.prioritised import Prioritised
from thorndike.memory.prioritised_sequences import PrioritisedSequences
from thorndike.memory.replay import Uniform
from thorndike.memory.sequences import Sequences
from thorndike.nets.recurrent import GRU, LSTM
from thorndike.nets.torso import Torso
from thorndike.nets.value import Categorical, Implicit, Mean, Quantiles
from thorndike.ops.augment import ColourJitter, Crop, Shift
from thorndike.ops.exploration import Epsilon, Softmax
from thorndike.ops.munchausen import Munchausen
from thorndike.ops.optimise import Adam, Optimiser
from thorndike.schedules import Linear


@algorithm(
    name="double-dqn",
    summary="DQN whose next action is chosen by one network and valued by the other",
    actions="Discrete",
    aliases=("ddqn",),
)
class DoubleDQN(DQN):
    """Double DQN (van Hasselt et al. 2016), which is what `DQN` is by default; `DQN(double=False)` is not.

    y = r + γ (1 - terminated) Q(s', argmax_a Q(s', a; θ); θ⁻)
    """

    double: bool = True

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """DQN's, with double targets."""
        return {env: {**settings, "double": True} for env, settings in super().presets().items()}


@algorithm(
    name="dueling-dqn",
    summary="DQN with V(s) and the advantages A(s, a) in layers of their own",
    actions="Discrete",
)
class DuelingDQN(DQN):
    """Dueling networks (Wang et al. 2016, eq. 9), with double targets as there.

    Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a')

    The paper scales the gradient of both streams by 1/√2 where they meet; Adam undoes that, so it is not here.
    """

    dueling: bool = True

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """DQN's, with double targets."""
        return {env: {**settings, "double": True} for env, settings in super().presets().items()}


@algorithm(
    name="c51",
    summary="the distribution of returns, on fixed atoms",
    actions="Discrete",
    aliases=("categorical-dqn",),
)
class C51(DQN):
    """Categorical DQN (Bellemare et al. 2017).

    L(θ) = KL( Φ(r + γ (1 - terminated) Z(s', a'; θ⁻)) ‖ Z(s, a; θ) ),   a' = argmax_a E Z(s', a; θ⁻)

    Set `head.low` and `head.high` to the least and the greatest return that the task can have.
    """

    head: Mean | Categorical | Quantiles | Implicit = Categorical()
    double: bool = False

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        cartpole = DQN.presets()["CartPole-v1"]
        head = Categorical(low=0.0, high=60.0)
        return {
            "CartPole-v1": {**cartpole, "learning_rate": Linear(2e-3), "double": True, "head": head},
            **known.minatar(optimiser=Adam(eps=0.01 / 32), head=Categorical(low=0.0, high=25.0)),
        }


@algorithm(
    name="qr-dqn",
    summary="the distribution of returns, by quantiles",
    actions="Discrete",
    aliases=("quantile-regression-dqn",),
)
class QRDQN(DQN):
    """Quantile regression DQN (Dabney et al. 2018a, eq. 9 and 10).

    L(θ) = Σ_i E_j |τ_i - 1{u_ij < 0}| L_κ(u_ij) / κ,   u_ij = r + γ (1 - terminated) θ⁻_j(s', a') - θ_i(s, a)
    """

    head: Mean | Categorical | Quantiles | Implicit = Quantiles()
    double: bool = False

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        cartpole = DQN.presets()["CartPole-v1"]
        # Values reach 50, and one step in 300 ends an episode: with κ = 1 its error pulls no harder than one of 1, and
        # the end of the track is not learned.
        wide = Quantiles(n=10, kappa=50.0)
        lander = known.lunar_lander(
            num_envs=8, rollout_length=32, learning_rate=Linear(1.5e-3), discount=0.995, target_period=256,
            exploration=Epsilon(end=0.18, fraction=0.24), head=Quantiles(n=170), max_grad_norm=1000.0,
            optimiser=Adam(eps=0.01 / 128), replay=Uniform(capacity=100_000, batch_size=128, warmup=10_000),
        )  # fmt: skip
        return {
            "CartPole-v1": {**cartpole, "learning_rate": Linear(2e-3), "head": wide},
            "LunarLander-v3": lander,
            **known.minatar(optimiser=Adam(eps=0.01 / 32)),
        }


@algorithm(
    name="iqn",
    summary="the distribution of returns, by quantiles at any fraction",
    actions="Discrete",
    aliases=("implicit-quantile-network",),
)
class IQN(DQN):
    """Implicit quantile networks (Dabney et al. 2018b, eq. 3 and 4).

    As `QRDQN`, at fractions τ, τ' ~ U(0, 1) that are drawn anew in each update. The paper draws others to choose
    actions by their mean: here an agent acts by fractions that are evenly spread, so that evaluation repeats, and a' is
    the best by the target's own τ'. Fractions are mixed into the torso's last features, with one layer above them.
    """

    head: Mean | Categorical | Quantiles | Implicit = Implicit()
    double: bool = False

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        head = Implicit(samples=8, acting=16, waves=32)
        return {"CartPole-v1": {**DQN.presets()["CartPole-v1"], "learning_rate": Linear(2e-3), "head": head}}


@algorithm(
    name="rainbow",
    summary="double, dueling, noisy and categorical DQN, with prioritised replay of returns over three steps",
    actions="Discrete",
)
class Rainbow(DQN):
    """Rainbow (Hessel et al. 2018): six additions to DQN at once. Priorities are the KL divergences; noise in the
    network takes the place of ε. For Atari the paper's step size is 6.25e-5.
    """

    learning_rate: NonNegative = Linear(1e-3)
    double: bool = True
    dueling: bool = True
    noisy: Positive | None = 0.5
    head: Mean | Categorical | Quantiles | Implicit = Categorical()
    exploration: Epsilon | Softmax = Epsilon(start=0.0, end=None)
    replay: Uniform | Prioritised | Sequences | PrioritisedSequences = Prioritised(
        capacity=50_000, batch_size=64, alpha=0.5, beta=Linear(0.4, 1.0), n_step=3, by="loss"
    )
    max_grad_norm: Positive = 10.0
    optimiser: Optimiser = Adam(eps=1.5e-4)

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        torso = Torso(widths=(64,), activation="relu", init="uniform")
        small_games = {  # Obando-Ceron & Castro 2021, but for the atoms; not measured
            "steps": 1_000_000, "num_envs": 4, "replay_ratio": 0.25, "learning_rate": 2.5e-4, "target_period": 1_000,
            "normalize_observation": False, "torso": Torso(widths=(128,), images="small"),
            "optimiser": Adam(eps=0.01 / 32), "head": Categorical(low=0.0, high=25.0),
            "replay": replace(cls().replay, capacity=100_000, batch_size=32),
        }  # fmt: skip
        return {
            "CartPole-v1": {
                "steps": 100_000, "discount": 0.98, "target_period": 50, "torso": torso,
                "head": Categorical(low=0.0, high=60.0),
            },
            "LunarLander-v3": {  # the zoo's for DQN, and Rainbow's own memory and exploration; not measured
                "steps": 100_000, "num_envs": 4, "replay_ratio": 1.0, "learning_rate": 6.3e-4, "target_period": 250,
                "normalize_observation": False, "torso": known.WIDE,
                "head": Categorical(atoms=101, low=-200.0, high=300.0),
            },
            **dict.fromkeys(known.MINATAR, small_games),
        }  # fmt: skip


@algorithm(
    name="munchausen-dqn",
    summary="DQN whose own log-probability of an action is added to the reward",
    actions="Discrete",
    aliases=("m-dqn", "mdqn"),
)
class MunchausenDQN(DQN):
    """Munchausen DQN (Vieillard et al. 2020, eq. 4), with π = softmax(Q(·; θ⁻) / τ).

    y = r + α [τ log π(a|s)] + γ (1 - terminated) Σ_a' π(a'|s') (Q(s', a'; θ⁻) - τ log π(a'|s')),   [·] in [l₀, 0]
    """

    munchausen: Munchausen | None = Munchausen()
    double: bool = False

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {"CartPole-v1": DQN.presets()["CartPole-v1"]}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds; the bonus reaches its end."""
        value, env = super().small()[""]
        return {"": (replace(value, munchausen=Munchausen(low=-0.01)), env)}


@algorithm(
    name="drq",
    summary="DQN whose pictures are shifted at random in updates",
    actions="Discrete (and pictures)",
    aliases=("data-regularised-q",),
)
class DrQ(DQN):
    """Data-regularised Q (Kostrikov et al. 2021), as for Atari with 100k steps: random shifts of the pictures at s and
    at s', each by a draw of its own (K = M = 1), double targets, dueling streams, and returns over ten steps. θ⁻ is a
    copy of θ after each update.
    """

    dueling: bool = True
    augment: Shift | Crop | ColourJitter | None = Shift()
    learning_rate: NonNegative = 1e-4
    target_period: int = 1
    replay_ratio: Static = 1.0
    exploration: Epsilon | Softmax = Epsilon(end=0.1, fraction=0.05)
    huber: Positive = 1.0
    max_grad_norm: Positive = 10.0
    replay: Uniform | Prioritised | Sequences | PrioritisedSequences = Uniform(
        capacity=100_000, batch_size=32, warmup=1_600, n_step=10
    )
    optimiser: Optimiser = Adam(eps=1.5e-4)

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment: none yet."""
        return {}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        value, _ = super().small()[""]
        value = replace(value, augment=Shift(pixels=1), learning_rate=1e-3, exploration=Epsilon())
        return {"": (value, "gymnax/Breakout-MinAtar")}


@algorithm(
    name="drqn",
    summary="deep recurrent Q-network: DQN that remembers",
    actions="Discrete",
    aliases=("recurrent-dqn",),
)
class DRQN(DQN):
    """Deep recurrent Q-network (Hausknecht & Stone 2015): a GRU or an LSTM behind the torso, learned from sequences,
    which begin with what acting remembered there.
    """

    learning_rate: NonNegative = 1e-3
    normalize_observation: bool = False
    core: GRU | LSTM | None = GRU()
    torso: Torso = Torso(widths=(64,), activation="relu", init="uniform")
    replay: Uniform | Prioritised | Sequences | PrioritisedSequences = Sequences(
        capacity=100_000, batch_size=32, warmup=2_000
    )
    num_envs: int = 16
    rollout_length: int = 16
    replay_ratio: Static = 1 / 32

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "TMaze": {"steps": 200_000, "rollout_length": 32},
            "RepeatPrevious": {"steps": 200_000},
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        sizes: dict[str, Any] = {"capacity": 240, "batch_size": 8, "burn_in": 2, "warmup": 48}
        replay = replace(cls().replay, **sizes)
        few: dict[str, Any] = {"torso": Torso(widths=(16,)), "core": GRU(width=8), "num_envs": 4, "rollout_length": 6}
        value = cls(**few, replay=replay, replay_ratio=1 / 24, target_period=3)
        return {"": (value, "CartPoleNoVel-v1")}


@algorithm(
    name="r2d2",
    summary="recurrent DQN with prioritised sequences, returns over five steps and rescaled values",
    actions="Discrete",
    aliases=("recurrent-replay-distributed-dqn",),
)
class R2D2(DRQN):
    """Recurrent experience replay (Kapturowski et al. 2019), in one process.

    y = h( Σ_{i<n} γⁱ r_i + γⁿ h⁻¹(Q(s_n, a'; θ⁻)) ),   h(x) = sign(x) (√(|x| + 1) - 1) + x / 1000

    Dueling and double, from stored carries with a burn-in, and by priorities that mix the largest and the mean error of
    a sequence. A sequence is an environment's part of a rollout, and follows the one before without an overlap; the
    paper's have 80 steps, half of them in the next one too, and its actors have an ε each.
    """

    dueling: bool = True
    head: Mean | Categorical | Quantiles | Implicit = Mean(rescaled=True)
    replay: Uniform | Prioritised | Sequences | PrioritisedSequences = PrioritisedSequences(
        capacity=100_000, batch_size=32, burn_in=8, warmup=2_000, n_step=5
    )
