"""Blackjack against Gymnasium: the same cards give the same game, and many games are distributed alike."""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.toy_text import blackjack as theirs
from scipy.stats import chi2_contingency, chisquare

import thorndike as td
from thorndike.envs.batched import Batched
from thorndike.envs.toy_text import blackjack
from thorndike.envs.toy_text.blackjack import DRAWS, HIT, STICK, BlackjackState, dealers_score, draw

RULES = {
    "Sutton and Barto": {},
    "naturals pay more": {"sab": False, "natural": True},
    "plain": {"sab": False, "natural": False},
}
DECK = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
HANDS = 20_000


def value(hand):
    """Of a hand of cards, an ace as 11 where that is no bust; by hand."""
    total = sum(hand)
    return total + 10 if 1 in hand and total + 10 <= 21 else total


def state_of(player, dealer):
    natural = len(player) == 2 and sorted(player) == [1, 10]
    return BlackjackState(sum(player), 1 in player, natural, np.array(dealer))


@pytest.mark.parametrize("rules", RULES)
def test_the_same_cards_give_the_same_game(rules, monkeypatch):
    """From 3,000 pairs of hands, both actions: Gymnasium is dealt the cards that we draw."""
    env = td.make("Blackjack-v1", **RULES[rules])
    host = gymnasium.make("Blackjack-v1", disable_env_checker=True, **RULES[rules]).unwrapped
    host.reset(seed=0)
    rng, hands = np.random.default_rng(0), []
    for i in range(3_000):
        player, dealer = (rng.choice(theirs.deck, 2).tolist() for _ in range(2))
        while rng.random() < 0.4 and value([*player, 10]) <= 21:
            player.append(int(rng.choice(theirs.deck)))
        if i % 5 == 0:
            player = [[1, 10], [10, 1]][i % 2]
        hands.append((player, [10, 1] if i % 7 == 0 else dealer))
    keys, actions = jax.random.split(jax.random.key(1), len(hands)), np.arange(len(hands)) % 3 % 2
    states = jax.tree.map(lambda *xs: jnp.asarray(np.stack(xs)), *[state_of(*hand) for hand in hands])
    cards = np.asarray(jax.vmap(lambda key: draw(key, DRAWS))(keys))
    ours = jax.tree.map(np.asarray, jax.jit(jax.vmap(env.step))(states, jnp.asarray(actions), keys))
    rewards = Counter()
    for i, (player, dealer) in enumerate(hands):
        dealt = iter(cards[i].tolist())
        monkeypatch.setattr(theirs, "draw_card", lambda _, dealt=dealt: next(dealt))
        host.player, host.dealer = list(player), list(dealer)
        obs, reward, terminated, _, _ = host.step(int(actions[i]))
        assert tuple(int(x[i]) for x in ours.obs) == tuple(map(int, obs))
        assert (ours.reward[i], ours.terminated[i]) == (reward, terminated), hands[i]
        rewards[reward] += 1
    assert {-1.0, 0.0, 1.0} <= set(rewards)
    assert (1.5 in rewards) == (rules == "naturals pay more")


def sticks(total, shown, ace):
    """A policy of hits and sticks that depends on all that is seen."""
    return total >= 19 if ace else total >= (17 if shown in (1, 7, 8, 9, 10) else 13)


@functools.cache
def their_hands(rules):
    """Return and length of many games of Gymnasium's."""
    host = gymnasium.make("Blackjack-v1", disable_env_checker=True, **RULES[rules]).unwrapped
    found = []
    host.reset(seed=0)
    for _ in range(HANDS):
        (obs, _), steps, over, total = host.reset(), 0, False, 0.0
        while not over:
            obs, reward, over, _, _ = host.step(STICK if sticks(*obs) else HIT)
            steps, total = steps + 1, total + reward
        found.append((total, min(steps, 5)))
    return Counter(found)


def our_hands(rules, seed=0):
    batch = Batched(td.make("Blackjack-v1", **RULES[rules]), HANDS)

    def step(carry, key):
        now, over, steps, total = carry
        total_seen, shown, ace = now.obs
        weak = (shown == 1) | (shown >= 7)
        stick = jnp.where(ace == 1, total_seen >= 19, total_seen >= jnp.where(weak, 17, 13))
        now = batch.step(now, jnp.where(stick, STICK, HIT), key)
        total, steps = total + jnp.where(over, 0.0, now.reward), steps + ~over
        return (now, over | now.terminated, steps, total), None

    first, key = jax.random.split(jax.random.key(seed))
    none = jnp.zeros(HANDS)
    start = (batch.reset(first), none > 0, none.astype(int), none)
    (_, over, steps, total), _ = jax.jit(lambda c, k: jax.lax.scan(step, c, k))(start, jax.random.split(key, 15))
    assert over.all()
    return Counter(zip(np.asarray(total).tolist(), np.minimum(np.asarray(steps), 5).tolist()))


def alike(rules):
    """The p-value of returns and lengths of both being of one distribution."""
    ours, host = our_hands(rules), their_hands(rules)
    kinds = sorted(set(ours) | set(host))
    table = np.array([[games[kind] for kind in kinds] for games in (ours, host)])
    return chi2_contingency(table[:, table.sum(0) >= 10]).pvalue


@pytest.mark.parametrize("rules", RULES)
def test_games_are_distributed_alike(rules):
    assert alike(rules) > 1e-3


def theirs_at_once(dealer):
    return blackjack.value(dealer.sum(), (dealer == 1).any())


def few_tens(key, n):
    return jax.random.randint(key, (n,), 1, 11)


MUTANTS = {
    "the dealer takes no cards": ("dealers_score", lambda dealer, cards: theirs_at_once(dealer)),
    "ten cards of equal probability": ("draw", few_tens),
    "aces count 1": ("value", lambda total, ace: total),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_other_games_are_told_apart(mutant, monkeypatch):
    monkeypatch.setattr(blackjack, *MUTANTS[mutant])
    assert alike("Sutton and Barto") < 1e-6


def dealers_ends(hand):
    """The exact distribution of the dealer's score (0: a bust) from a hand, by recursion over the next card."""
    if value(hand) >= 17:
        return {value(hand) if value(hand) <= 21 else 0: 1.0}
    found = defaultdict(float)
    for card, p in DECK.items():
        for score, q in dealers_ends((*hand, card)).items():
            found[score] += p * q
    return found


def most_cards(total, ace):
    """How many cards a dealer may still take."""
    if total + (10 if ace and total + 10 <= 21 else 0) >= 17:
        return 0
    return 1 + max(most_cards(total + card, ace or card == 1) for card in DECK)


@pytest.mark.parametrize("hand", [(10, 6), (1, 1), (2, 2), (1, 5), (9, 10), (1, 10)])
def test_the_dealers_scores_are_those_of_brute_force(hand):
    n = 40_000
    cards = jax.vmap(lambda key: draw(key, DRAWS))(jax.random.split(jax.random.key(2), n))
    scores = np.asarray(jax.jit(jax.vmap(lambda cards: dealers_score(jnp.array(hand), cards)))(cards))
    exact = dealers_ends(hand)
    assert set(scores.tolist()) == set(exact)
    if len(exact) > 1:
        kinds = sorted(exact)
        assert chisquare([(scores == kind).sum() for kind in kinds], [n * exact[kind] for kind in kinds]).pvalue > 1e-3


def test_enough_cards_are_drawn_for_any_dealer():
    assert max(most_cards(a + b, 1 in (a, b)) for a in DECK for b in DECK) == DRAWS


def test_first_hands_are_those_of_the_deck():
    env, n = td.make("Blackjack-v1"), 100_000
    total, shown, ace = map(np.asarray, jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), n)).obs)
    exact = defaultdict(float)
    for a, p in DECK.items():
        for b, q in DECK.items():
            for up, r in DECK.items():
                exact[value([a, b]), up, int(1 in (a, b))] += p * q * r
    kinds = sorted(exact)
    counts = Counter(zip(total.tolist(), shown.tolist(), ace.tolist()))
    assert set(counts) <= set(kinds)
    assert chisquare([counts[kind] for kind in kinds], [n * exact[kind] for kind in kinds]).pvalue > 1e-3


def test_spaces_and_drawing():
    env, host = td.make("Blackjack-v1"), gymnasium.make("Blackjack-v1")
    assert env.observation_space == host.observation_space
    assert env.action_space == host.action_space
    assert gymnasium.spec("Blackjack-v1").kwargs == {"sab": env.sab, "natural": env.natural}
    frames = [env.render(state_of(*hands)) for hands in (([1, 5], [10, 2]), ([10, 6], [10, 2]), ([10, 5], [10, 2]))]
    assert frames[0].dtype == np.uint8
    assert all((a != b).any() for a, b in itertools.pairwise(frames))
