import threading

import pytest

from headrace import Overloaded
from headrace.online.registry import Registry, Shelf


class Part:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_nothing_is_given_before_a_model_is_there() -> None:
    registry: Registry[str] = Registry()
    assert registry.current() is None
    with pytest.raises(Overloaded), registry.acquire():
        pass


def test_a_request_keeps_its_model_and_the_last_one_closes_it() -> None:
    registry: Registry[str] = Registry()
    closed: list[str] = []
    registry.exchange("one", lambda: closed.append("one"))
    with registry.acquire() as first:
        with registry.acquire() as second:
            registry.exchange("two", lambda: closed.append("two"))
            with registry.acquire() as third:
                assert (first, second, third) == ("one", "one", "two")
            assert registry.waiting() == 1
        assert closed == []
    assert closed == ["one"]
    assert registry.waiting() == 0
    registry.clear()
    assert closed == ["one", "two"]
    assert registry.closed == 2


def test_a_model_without_requests_closes_at_the_exchange() -> None:
    registry: Registry[str] = Registry()
    closed: list[str] = []
    for name in ("one", "two", "three"):
        registry.exchange(name, lambda name=name: closed.append(name))  # type: ignore[misc]
    assert closed == ["one", "two"]


def test_a_request_that_fails_lets_go_of_its_model() -> None:
    registry: Registry[str] = Registry()
    closed: list[str] = []
    registry.exchange("one", lambda: closed.append("one"))
    with pytest.raises(KeyError), registry.acquire():
        registry.exchange("two", lambda: closed.append("two"))
        raise KeyError
    assert closed == ["one"]


def test_a_shared_part_closes_with_its_last_holder() -> None:
    shelf: Shelf[Part] = Shelf()
    assert shelf.take("a") is None
    part = Part()
    shelf.put("a", part)
    assert shelf.take("a") is part
    shelf.give_back("a")
    assert part.closed == 0
    assert shelf.digests() == {"a"}
    shelf.give_back("a")
    assert part.closed == 1
    assert shelf.take("a") is None
    shelf.put("a", Part())
    with pytest.raises(ValueError, match="open already"):
        shelf.put("a", Part())


def test_every_model_closes_exactly_once_whatever_threads_do() -> None:
    registry: Registry[int] = Registry()
    closed: list[int] = []
    open_models: set[int] = {0}
    registry.exchange(0, lambda: closed.append(0))
    wrong: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            with registry.acquire() as model:
                if model not in open_models or model in closed:
                    wrong.append(model)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 500):
        open_models.add(number)
        registry.exchange(number, lambda number=number: closed.append(number))  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join()
    registry.clear()
    assert wrong == []
    assert sorted(closed) == list(range(500))
