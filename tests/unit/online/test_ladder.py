from headrace.online.ladder import Costs, PairCosts, Steps
from headrace.online.messages import Degraded


def test_a_whole_answer_says_nothing() -> None:
    assert Steps(asked=10, scored=10).said() is None
    assert Steps(asked=0, scored=0).said() is None


def test_the_lowest_rung_is_named_and_every_step_is_taken_down() -> None:
    steps = Steps(asked=10, scored=4, student="deadline")
    assert steps.taken() == [("without_student", "deadline"), ("fewer_items", "deadline")]
    assert steps.said() == Degraded("fewer_items", "deadline", 4)
    assert Steps(10, 10, state="store_unavailable").said() == Degraded("without_state", "store_unavailable", 10)


def test_no_scores_at_all_is_the_prior_order_and_nothing_else() -> None:
    steps = Steps(asked=10, scored=0, student="deadline", prior="deadline")
    assert steps.taken() == [("prior_order", "deadline")]
    assert steps.said() == Degraded("prior_order", "deadline", 0)


def test_less_time_is_fewer_items() -> None:
    costs = Costs(fixed_s=0.001, item_s=0.0001)
    assert costs.affordable(0.0061) == 50 or costs.affordable(0.0061) == 51
    assert costs.affordable(0.0005) == 0
    assert costs.affordable(-1.0) == 0


def test_costs_follow_what_was_measured() -> None:
    costs = Costs()
    for _ in range(200):
        costs.learn(1, 0.0005)
        costs.learn(1_000, 0.0105)
    assert 0.0004 < costs.fixed_s < 0.0006
    assert 0 < costs.item_s < 0.000_011


def test_fewer_pairs_is_a_milder_step_than_fewer_items() -> None:
    steps = Steps(asked=10, scored=10, pairs="deadline")
    assert steps.said() == Degraded("fewer_pairs", "deadline", 10)
    both = Steps(asked=10, scored=4, pairs="deadline", state="deadline")
    assert [rung for rung, _ in both.taken()] == ["fewer_pairs", "fewer_items", "without_state"]


def test_without_neighbours_is_the_mildest_step_and_follows_from_one_without_state() -> None:
    steps = Steps(asked=10, scored=10, neighbours="deadline")
    assert steps.said() == Degraded("without_neighbours", "deadline", 10)
    both = Steps(asked=10, scored=10, neighbours="deadline", pairs="deadline")
    assert [rung for rung, _ in both.taken()] == ["without_neighbours", "fewer_pairs"]
    away = Steps(asked=10, scored=10, neighbours="deadline", state="store_unavailable")
    assert away.taken() == [("without_state", "store_unavailable")]


def test_less_time_and_more_waiting_are_fewer_pairs() -> None:
    costs = PairCosts(token_s=0.001)
    pairs = [10] * 8
    assert costs.affordable(pairs, waiting=0, threads=1, left_s=1.0) == 8
    assert costs.affordable(pairs, waiting=0, threads=1, left_s=0.0351) == 3
    assert costs.affordable(pairs, waiting=20, threads=1, left_s=0.0351) == 1
    assert costs.affordable(pairs, waiting=20, threads=2, left_s=0.0351) == 5
    assert costs.affordable(pairs, waiting=0, threads=1, left_s=-1.0) == 0
    assert costs.affordable([], waiting=10, threads=1, left_s=-1.0) == 0


def test_costs_of_pairs_follow_what_was_measured_and_forget_a_pause() -> None:
    costs = PairCosts()
    for _ in range(200):
        costs.learn(500, 0.02)
    assert 0.000_038 < costs.token_s < 0.000_042
    costs.learn(500, 30.0)
    assert costs.token_s < 0.000_06
