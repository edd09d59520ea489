"""Atari by EnvPool: by lives and clipped rewards to learn from, whole games for their own score to evaluate."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
from envpool_cases import check_endings, walk
from PIL import Image

import thorndike as td
from thorndike.drivers.evaluate import APART, evaluate
from thorndike.runs.results.record import record
from thorndike.runs.results.video import film


def test_atari_is_learned_by_lives_and_evaluated_by_games():
    env = td.make("envpool/Breakout-v5", max_episode_steps=10_000)
    assert env.observation_space.shape == (4, 84, 84)
    lives, _ = walk(env, steps=300, copies=2)
    games, _ = walk(env.evaluation, steps=300, copies=2)
    assert lives.terminated.sum() >= 3 * games.terminated.sum() >= 3  # five lives
    check_endings(lives, 10_000)
    invaders = td.make("envpool/SpaceInvaders-v5")  # worth 5 to 30 points each
    clipped, points = walk(invaders, steps=100, copies=2)[0], walk(invaders.evaluation, steps=100, copies=2)[0]
    assert set(np.unique(clipped.reward)) == {0.0, 1.0}
    assert points.reward.max() >= 5
    assert td.make("envpool/Breakout-v5", episodic_life=False).options == {"episodic_life": False, "reward_clip": True}


def test_a_new_game_begins_at_the_time_limit_even_where_a_life_is_lost_then():
    """Whoever never fires loses a life every `life` steps; the limit counts the game, of five lives."""
    never = {"copies": 1, "action": 0}
    lives, _ = walk(td.make("envpool/Breakout-v5"), steps=130, **never)
    (life,) = np.flatnonzero(lives.terminated[:, 0])[:1]
    assert np.flatnonzero(lives.first[:, 0]).tolist() == list(range(0, 131, life))
    for limit in (3 * life, 3 * life + 5):
        env = td.make("envpool/Breakout-v5", max_episode_steps=int(limit))
        times, _ = walk(env, steps=2 * limit, **never)
        cut = [] if limit == 3 * life else [limit, 2 * limit]
        lost = [t for game in (0, limit) for t in range(game + life, game + limit + 1, life)]
        assert np.flatnonzero(times.truncated[:, 0]).tolist() == cut
        assert np.flatnonzero(times.terminated[:, 0]).tolist() == lost
        games, _ = walk(env.evaluation, steps=2 * limit, **never)
        assert np.flatnonzero(games.truncated[:, 0]).tolist() == [limit, 2 * limit]
        assert not games.terminated.any()


@td.config
class Still:
    """An algorithm that does nothing."""

    def carry(self, actor, n):
        return ()

    def act(self, actor, carry, now, key, explore):
        return jnp.zeros(len(now.first), jnp.int32), carry, {}


def test_evaluation_records_and_films_play_whole_games(tmp_path):
    """Whoever never fires loses each ball all the same, as in learning, and the game after five; none is endless."""
    result = evaluate(Still(), {"x": jnp.zeros(1)}, td.make("envpool/Breakout-v5", max_episode_steps=2_000), 2)
    assert (result.returns == 0).all()
    lives, _ = walk(td.make("envpool/Breakout-v5"), steps=40, copies=1, action=0)
    (first,) = np.flatnonzero(lives.terminated[:, 0])[:1]
    assert (result.lengths == 5 * first).all()
    env = td.make("envpool/Breakout-v5")
    still = SimpleNamespace(algorithm=Still(), actor={}, spec=SimpleNamespace(action=env.action_space))
    (episode,) = record(still, env, 1)
    assert len(episode.rewards) == 5 * first
    film(still, env, tmp_path / "film.gif", most_frames=first)
    with Image.open(tmp_path / "film.gif") as picture:
        shown = [np.asarray(picture.convert("L")) for _ in (picture.seek(i) for i in range(picture.n_frames))]
    seen = walk(env.evaluation, steps=first - 1, copies=1, action=0, seed=APART)[0].obs[:, 0, -1]  # the newest of four
    changed = np.concatenate([[True], (seen[1:] != seen[:-1]).any((1, 2))])  # a film shows equal ones as one
    np.testing.assert_allclose(shown, seen[changed].repeat(4, 1).repeat(4, 2), atol=8)  # in fewer colours
